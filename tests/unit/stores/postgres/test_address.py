"""What stands in the name of a PostgreSQL store."""

import pytest

from aumai_transactions.stores.postgres.address import address_of


def test_what_is_ours_is_taken_out_and_the_rest_is_for_libpq():
    found = address_of(
        "postgres://me:a%40b@db.example:5433/trips"
        "?schema=s&pool_size=3&lease_seconds=2.5&sslmode=require&options=-c%20work_mem%3D1MB"
    )
    assert (found.schema, found.pool_size, found.lease_seconds) == ("s", 3, 2.5)
    said = {name: found.parameters[name] for name in ("host", "port", "dbname", "user", "password")}
    assert said == {
        "host": "db.example",
        "port": "5433",
        "dbname": "trips",
        "user": "me",
        "password": "a@b",
    }
    assert found.parameters["sslmode"] == "require"
    assert found.parameters["options"] == "-c work_mem=1MB"


def test_what_keeps_a_lost_host_from_being_waited_for_is_set_unless_it_is_said():
    found = address_of("postgresql://h/d?connect_timeout=3&target_session_attrs=any").parameters
    assert (found["connect_timeout"], found["target_session_attrs"]) == ("3", "any")
    found = address_of("postgresql://h/d").parameters
    assert (found["connect_timeout"], found["target_session_attrs"]) == ("10", "read-write")
    assert found["keepalives"] == "1"


@pytest.mark.parametrize(
    "url,shown",
    [
        ("postgresql://me:hush@h/d", "postgresql://me@h/d"),
        ("postgresql://me@h/d?password=hush&schema=s", "postgresql://me@h/d?schema=s"),
        ("postgresql:///d?host=/run/x&sslpassword=hush", "postgresql:///d?host=/run/x"),
        ("postgresql://a:1,b:2/d", "postgresql://a:1,b:2/d"),
    ],
)
def test_a_url_without_its_password_opens_the_same(url, shown):
    assert address_of(url).url == shown
    again = address_of(shown)
    assert again.schema == address_of(url).schema


@pytest.mark.parametrize(
    "url,place",
    [
        ("postgresql://h/d", "PostgreSQL at h, database d, schema aumai_transactions"),
        ("postgresql://h:1/d", "PostgreSQL at h:1, database d, schema aumai_transactions"),
        ("postgresql:///d?host=/run/x&port=1", "PostgreSQL at /run/x, database d"),
        ("postgresql://", "PostgreSQL at the default host, database the default one"),
    ],
)
def test_a_place_is_told(url, place):
    assert address_of(url).place.startswith(place)
