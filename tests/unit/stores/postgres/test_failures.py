"""What PostgreSQL's errors mean to whoever called the store."""

import psycopg
import pytest

from aumai_transactions.errors import StoreError, StoreFormatError, StoreUnavailable
from aumai_transactions.stores.postgres.address import address_of
from aumai_transactions.stores.postgres.failures import CommitInDoubt, is_lost, store_error

ADDRESS = address_of("postgresql://me:hush%2F1@db.example:5433/trips?schema=s")


def error_of(code):
    return psycopg.errors.lookup(code)(f"said about hush/1 and hush%2F1: {code}")


@pytest.mark.parametrize(
    "code,kind",
    [
        ("40001", StoreUnavailable),
        ("40P01", StoreUnavailable),
        ("55P03", StoreUnavailable),
        ("57014", StoreUnavailable),
        ("25006", StoreUnavailable),
        ("53100", StoreUnavailable),
        ("53200", StoreUnavailable),
        ("53300", StoreUnavailable),
        ("58030", StoreUnavailable),
        ("42501", StoreError),
        ("22021", StoreError),
        ("54000", StoreError),
        ("42P01", StoreFormatError),
        ("42703", StoreFormatError),
        ("23505", StoreFormatError),
        ("XX001", StoreFormatError),
        ("XX002", StoreFormatError),
    ],
)
def test_what_the_server_refused_was_not_written_and_says_what_to_do(code, kind):
    found = store_error(error_of(code), ADDRESS, is_writing=True)
    assert type(found) is kind
    assert not getattr(found, "outcome_unknown", False)
    assert "hush" not in str(found)
    assert "db.example:5433, database trips, schema s" in str(found)


@pytest.mark.parametrize("code", ["08006", "08003", "57P01", "57P02", "57P03"])
def test_a_session_that_ended_while_it_wrote_leaves_it_unknown(code):
    error = error_of(code)
    assert is_lost(error)
    writing = store_error(error, ADDRESS, is_writing=True)
    reading = store_error(error, ADDRESS, is_writing=False)
    assert isinstance(writing, StoreUnavailable)
    assert isinstance(reading, StoreUnavailable)
    assert (writing.outcome_unknown, reading.outcome_unknown) == (True, False)
    assert "hush" not in f"{writing} {reading}"


@pytest.mark.parametrize("kind", [psycopg.OperationalError, CommitInDoubt])
def test_an_error_without_a_code_of_the_server_is_a_lost_answer(kind):
    found = store_error(kind("gone"), ADDRESS, is_writing=True)
    assert isinstance(found, StoreUnavailable)
    assert found.outcome_unknown


def test_an_error_of_the_client_is_not_a_lost_answer():
    found = store_error(psycopg.InterfaceError("closed"), ADDRESS, is_writing=False)
    assert type(found) is StoreError
