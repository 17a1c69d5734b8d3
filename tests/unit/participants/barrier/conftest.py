"""A participant that sells seats, behind each kind of connection that the barrier knows.

Owns: the participant. What is true in its database is read by a connection of its own.
"""

import sqlite3
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from aumai_transactions.actions import StepContext
from aumai_transactions.participants.barrier import barrier, create_barrier_table
from aumai_transactions.testing.clock import ManualClock

KINDS = (
    "sqlite3",
    "psycopg",
    "Connection over sqlite",
    "Connection over postgresql",
    "Session over sqlite",
    "Session over postgresql",
)
ACTION = StepContext(
    transaction_id="tx-1",
    step_id="flight",
    agent_id="flight_agent",
    action="reserve",
    operation="action",
    attempt=1,
    idempotency_key="tx-1/flight/action",
    forward_key="tx-1/flight/action",
    token=3,
)
UNDO = replace(
    ACTION,
    action="cancel",
    operation="compensation",
    idempotency_key="tx-1/flight/compensation",
)


class Shop:
    """A participant: one number of seats, and how often an effect was made and undone."""

    def __init__(self, kind: str, place: str, stack: ExitStack):
        self.kind = kind
        self.place = place
        self._stack = stack
        self._engine = None
        if " over " in kind:
            url = "sqlite://" if self.is_sqlite else "postgresql+psycopg://"
            self._engine = create_engine(url, creator=self.connect_driver, poolclass=NullPool)
            stack.callback(self._engine.dispose)
        with closing(self.connect_driver()) as driver:
            driver.execute("CREATE TABLE seats (free integer NOT NULL)")
            driver.execute("INSERT INTO seats VALUES (10)")
            driver.commit()
            create_barrier_table(driver)

    @property
    def is_sqlite(self) -> bool:
        return self.kind.endswith(("sqlite", "sqlite3"))

    def connect_driver(self):
        """A plain connection of the driver, in the mode that people get without asking."""
        if self.is_sqlite:
            return sqlite3.connect(self.place, timeout=0.1, check_same_thread=False)
        return psycopg.connect(self.place)

    def connect(self):
        """A connection of the shop's kind, closed after the test."""
        if self._engine is None:
            connection = self.connect_driver()
        elif self.kind.startswith("Session"):
            connection = Session(self._engine)
        else:
            connection = self._engine.connect()
        self._stack.callback(connection.close)
        return connection

    def run(self, connection, statement):
        """Run the participant's own SQL."""
        return connection.execute(text(statement) if self._engine else statement)

    def take(self, connection):
        self.run(connection, "UPDATE seats SET free = free - 1")

    def give_back(self, connection):
        self.run(connection, "UPDATE seats SET free = free + 1")

    # ------------------------------------------------------------------ the participant's handlers

    def reserve(self, context=ACTION, answer="seat 1", **options):
        connection = self.connect()
        with barrier(connection, context, **options) as call:
            if call.is_due:
                self.take(connection)
                call.answer = answer
        return call

    def cancel(self, context=UNDO, answer="given back", **options):
        connection = self.connect()
        with barrier(connection, context, **options) as call:
            if call.is_due:
                self.give_back(connection)
            call.answer = answer
        return call

    # ------------------------------------------------------------------------------- the evidence

    def _read(self, statement):
        with closing(self.connect_driver()) as driver:
            return driver.execute(statement).fetchall()

    @property
    def free(self) -> int:
        return self._read("SELECT free FROM seats")[0][0]

    @property
    def rows(self) -> dict:
        """The barrier's rows: operation, state and arrivals by key."""
        found = self._read("SELECT key, operation, state, arrivals FROM aumai_barrier")
        return {key: tuple(rest) for key, *rest in found}

    def column(self, name) -> dict:
        return dict(self._read(f"SELECT key, {name} FROM aumai_barrier"))  # noqa: S608


@pytest.fixture
def action():
    return ACTION


@pytest.fixture
def undo():
    return UNDO


@pytest.fixture
def open_shop(tmp_path, request):
    """Open a shop of a kind; `open_shop(kind)`."""
    with ExitStack() as stack:

        def open_one(kind: str) -> Shop:
            if kind.endswith(("sqlite", "sqlite3")):
                return Shop(kind, str(tmp_path / "shop.db"), stack)
            return Shop(kind, request.getfixturevalue("postgres16").place(), stack)

        yield open_one


@pytest.fixture(params=KINDS)
def shop(request, open_shop):
    return open_shop(request.param)


@pytest.fixture(params=["sqlite3", "psycopg"])
def plain_shop(request, open_shop):
    """For rules that have nothing to do with the kind of connection."""
    return open_shop(request.param)


@pytest.fixture
def clock():
    return ManualClock(datetime(2026, 2, 27, 12, tzinfo=UTC))
