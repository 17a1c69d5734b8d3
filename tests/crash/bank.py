"""The participant of the bank tests: accounts that keep their own record of who did what.

Rules:
  1. A write, its undo, and the record of them are one commit, in the order of the account's row.
  2. It refuses a token older than one that it has seen for the account, a second call under one
     key, and a write whose undo has come before; as the shipped barrier does.
"""

import contextlib

import psycopg

from aumai_transactions import OutcomeUnknown, StepContext, StepRejected
from aumai_transactions.errors import StoreUnavailable
from aumai_transactions.testing.history import Access

BARELY = (StoreUnavailable, psycopg.OperationalError)
"""What passes: a server that is restarted, a session that was ended."""

TABLES = """
CREATE TABLE accounts (name text PRIMARY KEY, balance bigint NOT NULL, token bigint NOT NULL);
CREATE TABLE calls (
    transaction_id text, step_id text, kind text, PRIMARY KEY (transaction_id, step_id, kind)
);
CREATE TABLE accesses (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, resource text, transaction_id text,
    step_id text, kind text, token bigint
);
"""


class Bank:
    """Accounts in a schema of a PostgreSQL.

    Args:
        place: The connection string.
        fences: False to take every token, as a participant that does not look.
        remembers: False to forget which undos have come.
    """

    def __init__(self, place, *, fences=True, remembers=True):
        self.place = place
        self.fences = fences
        self.remembers = remembers

    def open(self, accounts, balance):
        with self._connection() as connection:
            connection.execute(TABLES)
            for name in accounts:
                connection.execute("INSERT INTO accounts VALUES (%s, %s, 0)", (name, balance))

    @contextlib.contextmanager
    def _connection(self):
        with psycopg.connect(self.place) as connection:
            yield connection

    def call(self, context: StepContext, account, kind, by):
        try:
            with self._connection() as connection:
                return self._call(connection, context, account, kind, by)
        except psycopg.OperationalError as error:
            raise OutcomeUnknown(str(error)) from error

    def _call(self, connection, context, account, kind, by):
        row = connection.execute(
            "SELECT balance, token FROM accounts WHERE name = %s FOR UPDATE", (account,)
        ).fetchone()
        assert row is not None
        balance, seen = row
        resource = f"account:{account}"
        token = context.resources.get(resource)
        if self.fences and token is not None and token < seen:
            raise StepRejected(f"token {token} of {account} is stale, {seen} was seen")
        names = (context.transaction_id, context.step_id)
        done = {
            found
            for (found,) in connection.execute(
                "SELECT kind FROM calls WHERE transaction_id = %s AND step_id = %s", names
            ).fetchall()
        }
        if kind in done:
            return balance
        if kind != "undo" and "undo" in done and self.remembers:
            raise StepRejected(f"{account}: its undo has come before")
        if kind == "write" and balance + by < 0:
            raise ValueError(f"{account} has only {balance}")
        connection.execute("INSERT INTO calls VALUES (%s, %s, %s)", (*names, kind))
        if kind == "undo" and "write" not in done:
            return balance
        connection.execute(
            "UPDATE accounts SET balance = balance + %s, token = greatest(token, %s) "
            "WHERE name = %s",
            (by, token or 0, account),
        )
        connection.execute(
            "INSERT INTO accesses (resource, transaction_id, step_id, kind, token) "
            "VALUES (%s, %s, %s, %s, %s)",
            (resource, *names, kind, token),
        )
        return balance + by

    def balances(self):
        with self._connection() as connection:
            rows = connection.execute("SELECT name, balance FROM accounts").fetchall()
            return dict(rows)

    def accesses(self):
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT position, resource, transaction_id, step_id, kind, token FROM accesses"
            ).fetchall()
            return [Access(*row) for row in rows]


def handlers_of(manager, bank, *, locks=True):
    """Register what the bank can do.

    Args:
        manager: With it.
        bank: The bank.
        locks: False to leave out what has to be locked.
    """
    uses = ["account:{account}"] if locks else None
    reads = None
    if locks:
        from aumai_transactions import Resource

        reads = [Resource.shared("account:{account}")]

    @manager.action("move", compensating_action="move_back", idempotent=True, resources=uses)
    def move(action, data, context: StepContext):
        if data.get("fails"):
            raise ValueError("this one fails")
        return bank.call(context, data["account"], "write", data["by"])

    @manager.action("move_back", idempotent=True)
    def move_back(action, data, context: StepContext):
        bank.call(context, data["account"], "undo", -data["by"])

    @manager.action("look", effect="none", idempotent=True, resources=reads)
    def look(action, data, context: StepContext):
        return bank.call(context, data["account"], "read", 0)
