"""Connections as people configure them, and what their databases' errors mean for a call."""

# What is tested is a block, and what becomes of it when it raises.
# ruff: noqa: PT012

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from aumai_transactions.errors import (
    DefinitionError,
    NotDelivered,
    OutcomeUnknown,
    RetryLater,
    StepRejected,
)
from aumai_transactions.participants.barrier import (
    barrier,
    barrier_probe,
    create_barrier_table,
    purge_barrier_table,
)

KEY = "tx-1/flight/action"
HIGHER_LEVELS = [psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE]


def of(context, key):
    return replace(context, idempotency_key=key, forward_key=key)


def act(shop, connection, context):
    with barrier(connection, context) as call:
        shop.take(connection)
        call.answer = {"seat": "ä"}


# --------------------------------------------------------------------------------- configurations


@pytest.mark.parametrize("isolation_level", [None, "", "DEFERRED", "IMMEDIATE", "EXCLUSIVE"])
def test_sqlite_in_every_isolation_level(open_shop, action, isolation_level):
    shop = open_shop("sqlite3")
    with closing(sqlite3.connect(shop.place, isolation_level=isolation_level)) as connection:
        with barrier(connection, action):
            with closing(shop.connect_driver()) as other:  # noqa: SIM117
                with pytest.raises(sqlite3.OperationalError, match="locked"):
                    other.execute("BEGIN IMMEDIATE")  # Others wait from the first moment on.
            shop.take(connection)
        assert not connection.in_transaction
    assert (shop.free, shop.rows) == (9, {KEY: ("action", "done", 1)})


def test_sqlite_with_factories_of_the_owners(open_shop, action):
    shop = open_shop("sqlite3")
    connection = shop.connect()
    connection.row_factory = lambda cursor, row: {"surprise": row}
    connection.text_factory = bytes
    act(shop, connection, action)
    with barrier(connection, action) as call:
        assert (call.is_due, call.answer) == (False, {"seat": "ä"})


def test_sqlite_that_is_always_in_a_transaction_is_refused_by_name(open_shop, action):
    # What Python 3.12 calls autocommit=False; older versions of Python cannot open it.
    class Modern(sqlite3.Connection):
        autocommit = False

    with closing(sqlite3.connect(open_shop("sqlite3").place, factory=Modern)) as connection:
        connection.execute("BEGIN")
        with pytest.raises(DefinitionError, match="autocommit=True"), barrier(connection, action):
            pytest.fail("it was let in")


@pytest.mark.parametrize("autocommit", [False, True])
def test_psycopg_with_settings_of_the_owners(open_shop, action, autocommit):
    shop = open_shop("psycopg")
    with psycopg.connect(
        shop.place,
        autocommit=autocommit,
        row_factory=dict_row,
        cursor_factory=psycopg.RawCursor,
    ) as connection:
        act(shop, connection, action)
        assert shop.free == 9
        with barrier(connection, action) as call:
            assert (call.is_due, call.answer) == (False, {"seat": "ä"})


@pytest.mark.parametrize("level", HIGHER_LEVELS)
def test_higher_isolation_levels_work_while_nobody_is_in_the_way(open_shop, action, undo, level):
    shop = open_shop("psycopg")
    with psycopg.connect(shop.place) as connection:
        connection.isolation_level = level
        act(shop, connection, action)
        with barrier(connection, undo) as call:
            assert call.is_due
            shop.give_back(connection)
    assert shop.free == 10


def test_sqlalchemy_with_autocommit_is_refused_before_anything_is_written(open_shop, action):
    shop = open_shop("psycopg")
    engine = create_engine("postgresql+psycopg://", creator=shop.connect_driver, poolclass=NullPool)
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        with pytest.raises(NotDelivered, match="AUTOCOMMIT"), barrier(connection, action):
            pytest.fail("it was let in")
    assert shop.rows == {}


def test_an_orm_session_is_flushed_before_its_effect_counts(open_shop, action):
    class Base(DeclarativeBase):
        pass

    class Booking(Base):
        __tablename__ = "bookings"
        number: Mapped[int] = mapped_column(primary_key=True)
        traveller: Mapped[str] = mapped_column(unique=True)

    shop = open_shop("Session over postgresql")
    session = shop.connect()
    Base.metadata.create_all(session.connection())
    session.commit()
    with barrier(session, action) as call:
        session.add(Booking(number=1, traveller="Alice"))
    assert call.is_due
    with pytest.raises(StepRejected), barrier(session, of(action, "b")):
        session.add(Booking(number=2, traveller="Bob"))
        raise StepRejected("no")
    with pytest.raises(Exception, match="unique"), barrier(session, of(action, "c")):
        session.add(Booking(number=3, traveller="Alice"))
    with barrier(shop.connect(), of(action, "c")) as call:
        assert call.is_due
    assert shop._read("SELECT number, traveller FROM bookings") == [(1, "Alice")]


def test_a_scoped_session_is_its_session(open_shop, action):
    shop = open_shop("Session over sqlite")
    registry = scoped_session(sessionmaker(shop._engine))
    with barrier(registry, action):
        registry.execute(text("UPDATE seats SET free = free - 1"))
    registry.remove()
    assert shop.free == 9


@pytest.mark.parametrize("strange", [None, "shop.db", object(), sqlite3.connect, psycopg])
def test_what_is_no_connection_is_refused_by_name(action, strange):
    for use in (
        lambda: barrier(strange, action).__enter__(),
        lambda: barrier_probe(strange, action),
        lambda: create_barrier_table(strange),
        lambda: purge_barrier_table(strange, older_than_seconds=1),
    ):
        with pytest.raises(DefinitionError, match="connection"):
            use()


def test_an_asynchronous_connection_is_refused_with_what_to_do(open_shop, action):
    async def try_it(place):
        async with await psycopg.AsyncConnection.connect(place) as connection:
            with pytest.raises(DefinitionError, match=r"asynchronous.*in a thread"):
                barrier(connection, action).__enter__()

    asyncio.run(try_it(open_shop("psycopg").place))


def test_another_database_is_refused_by_name(action):
    engine = create_engine("sqlite://", poolclass=NullPool)
    engine.dialect.name = "mysql"
    with engine.connect() as connection, pytest.raises(DefinitionError, match="not mysql"):
        create_barrier_table(connection)


def test_no_driver_is_loaded_before_it_is_used():
    program = (
        "import sys\n"
        "from aumai_transactions.participants.barrier import barrier\n"
        "print(*sorted({'asyncio', 'psycopg', 'sqlalchemy'} & set(sys.modules)))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True, timeout=60
    )
    assert ran.stdout.strip() == ""


# ----------------------------------------------------------------------------- what errors mean


@pytest.mark.parametrize("kind", ["sqlite3", "Connection over sqlite", "Session over sqlite"])
def test_a_busy_database_is_not_done_and_worth_another_try(open_shop, kind):
    shop = open_shop(kind)
    with closing(shop.connect_driver()) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RetryLater, match="locked") as caught:
            shop.reserve()
        assert caught.value.after_seconds > 0
    assert shop.reserve().is_due


def test_a_commit_that_finds_the_database_busy_is_rolled_back_whole(open_shop, action):
    shop = open_shop("sqlite3")
    connection = shop.connect()
    with closing(shop.connect_driver()) as reader:  # noqa: SIM117
        with pytest.raises(RetryLater, match="locked"), barrier(connection, action):
            shop.take(connection)
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM seats").fetchall()
    assert not connection.in_transaction
    assert (shop.free, shop.rows) == (10, {})


def at_level(shop, level):
    connection = shop.connect()
    connection.isolation_level = level
    return connection


@pytest.mark.parametrize("level", HIGHER_LEVELS)
def test_a_serialization_failure_in_the_block_is_not_done_and_worth_another_try(
    open_shop, action, level
):
    shop = open_shop("psycopg")
    connection = at_level(shop, level)
    with pytest.raises(RetryLater, match="could not serialize"), barrier(connection, action):
        connection.execute("SELECT free FROM seats")
        with closing(shop.connect_driver()) as other:
            shop.take(other)
            other.commit()
        shop.take(connection)
    assert (shop.free, shop.rows) == (9, {})
    act(shop, connection, action)
    assert shop.free == 8


def test_a_serialization_failure_at_the_commit_is_not_done_and_worth_another_try(
    open_shop, action, undo
):
    # Two calls that each read what the other one writes: one of them cannot have come first.
    shop = open_shop("psycopg")
    with closing(shop.connect_driver()) as driver:
        driver.execute("CREATE TABLE notes (text text)")
        driver.commit()
    level = psycopg.IsolationLevel.SERIALIZABLE
    one, two = at_level(shop, level), at_level(shop, level)
    with pytest.raises(RetryLater, match="nothing was done"), barrier(one, of(action, "one")):
        one.execute("SELECT count(*) FROM notes")
        with barrier(two, of(action, "two")):
            two.execute("SELECT free FROM seats")
            shop.take(one)
            two.execute("INSERT INTO notes VALUES ('two')")
    assert list(shop.rows) == ["two"]
    assert shop.free == 10


def test_a_rival_that_takes_too_long_is_worth_another_try(open_shop, action):
    shop = open_shop("psycopg")
    with closing(shop.connect_driver()) as other:
        other.execute("SET lock_timeout = 100")
        other.commit()
        with barrier(shop.connect(), action):  # noqa: SIM117
            with pytest.raises(RetryLater, match="lock timeout"), barrier(other, action):
                pytest.fail("it was let in beside its rival")


def test_errors_inside_the_callers_transaction_stay_the_drivers(open_shop, action):
    shop = open_shop("psycopg")
    connection = at_level(shop, HIGHER_LEVELS[0])
    connection.execute("SELECT free FROM seats")
    with closing(shop.connect_driver()) as other:
        shop.take(other)
        other.commit()
    with pytest.raises(psycopg.errors.SerializationFailure), barrier(connection, action):
        shop.take(connection)
    connection.rollback()
    assert shop.rows == {}


@pytest.mark.parametrize("kind", ["psycopg", "Connection over postgresql"])
def test_a_commit_whose_answer_is_lost_is_in_doubt(open_shop, action, kind):
    shop = open_shop(kind)
    with closing(shop.connect_driver()) as driver:
        # Fires in the middle of the COMMIT.
        driver.execute(
            "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$"
        )
        driver.execute(
            "CREATE CONSTRAINT TRIGGER dies AFTER UPDATE ON seats DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION die()"
        )
        driver.commit()
    with pytest.raises(OutcomeUnknown, match="COMMIT"):
        act(shop, shop.connect(), action)
    assert (shop.free, shop.rows) == (10, {})


@pytest.mark.parametrize("kind", ["sqlite3", "psycopg", "Connection over postgresql"])
def test_a_rule_that_fails_at_the_commit_is_the_drivers_own_error_and_nothing_is_done(
    open_shop, action, kind
):
    shop = open_shop(kind)
    with closing(shop.connect_driver()) as driver:
        driver.execute("CREATE TABLE flights (name text PRIMARY KEY)")
        driver.execute(
            "CREATE TABLE legs (flight text REFERENCES flights DEFERRABLE INITIALLY DEFERRED)"
        )
        driver.commit()
    connection = shop.connect()
    if kind == "sqlite3":
        connection.execute("PRAGMA foreign_keys = ON")
    with pytest.raises(Exception, match=r"(?i)foreign key") as caught:  # noqa: SIM117
        with barrier(connection, action):
            shop.run(connection, "INSERT INTO legs VALUES ('nowhere')")
    assert "IntegrityError" in {kind.__name__ for kind in type(caught.value).__mro__}
    assert shop.rows == {}
    connection.rollback()
    act(shop, connection, action)


@pytest.mark.parametrize("kind", ["psycopg", "Connection over postgresql"])
def test_a_connection_that_is_lost_in_the_block_leaves_nothing_and_hides_no_error(
    open_shop, action, kind
):
    shop = open_shop(kind)
    connection = shop.connect()
    with pytest.raises(Exception, match="terminating connection"), barrier(connection, action):
        shop.take(connection)
        shop.run(connection, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert (shop.free, shop.rows) == (10, {})


@pytest.mark.parametrize("kind", ["sqlite3", "psycopg"])
def test_a_connection_that_is_closed_is_no_answer_of_the_participant(open_shop, action, kind):
    shop = open_shop(kind)
    connection = shop.connect()
    connection.close()
    # Not a plain error: the saga would take that for "not done" about earlier attempts too.
    with pytest.raises(NotDelivered, match="closed"):
        act(shop, connection, action)
    assert "closed" in str(barrier_probe(connection, action))


def test_a_refusal_that_could_not_be_recorded_is_not_done_and_may_come_again(open_shop, action):
    shop = open_shop("sqlite3")
    connection = shop.connect()
    with closing(shop.connect_driver()) as reader:  # noqa: SIM117
        with pytest.raises(RetryLater, match="locked"), barrier(connection, action):
            shop.take(connection)
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM seats").fetchall()
            raise StepRejected("no")
    assert not connection.in_transaction
    assert (shop.free, shop.rows) == (10, {})


def test_a_row_that_comes_and_goes_is_not_done_and_no_endless_loop(open_shop):
    # As if somebody purged the row between our two statements, each time.
    shop = open_shop("sqlite3")
    shop.reserve()
    with closing(shop.connect_driver()) as driver:
        driver.execute(
            "CREATE TRIGGER hide BEFORE UPDATE ON aumai_barrier BEGIN SELECT RAISE(IGNORE); END"
        )
    with pytest.raises(NotDelivered, match="comes and goes"):
        shop.reserve()
    assert shop.free == 9
