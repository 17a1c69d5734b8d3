"""The other side of an order, and the handlers that the workers call.

The shop keeps a table of effects: one row for each thing that it has done or undone, in the commit
in which it was done, under the idempotency key of the call. Nothing in that table forbids a second
row for a key; that there is none is what `fleet.py` looks at in the end.

    aumai-transactions worker --app shop:manager
"""

import os
import sys
import threading
import time
from typing import Any

import psycopg

from aumai_transactions import StepContext, StepRejected, TransactionManager
from aumai_transactions.participants.barrier import barrier, create_barrier_table, fence

TABLES = """
CREATE TABLE balances (name text PRIMARY KEY, amount bigint NOT NULL);
CREATE TABLE effects (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text NOT NULL,
    transaction_id text NOT NULL, step_id text NOT NULL, kind text NOT NULL, resource text,
    token bigint
);
CREATE TABLE repeats (key text NOT NULL);
"""
UNITS = 1_000_000
ITEMS = tuple(f"item:{number}" for number in range(1, 41))
CUSTOMERS = tuple(f"customer:{number}" for number in range(1, 61))
ANSWER_SECONDS = 0.004

manager = TransactionManager(store=os.environ.get("AUMAI_TRANSACTIONS_STORE"))
place = os.environ.get("FLEET_SHOP", "")
of_thread = threading.local()


def connection() -> "psycopg.Connection[Any]":
    """Return this thread's connection to the shop's own tables."""
    if not hasattr(of_thread, "connection"):
        of_thread.connection = psycopg.connect(place)
    return of_thread.connection


def open_shop(where: str) -> None:
    with psycopg.connect(where) as db:
        db.execute(TABLES)
        create_barrier_table(db)
        for name in (*ITEMS, *CUSTOMERS):
            db.execute("INSERT INTO balances VALUES (%s, %s)", (name, UNITS))


def change(context: StepContext, kind: str, resource: str | None, by: int) -> None:
    """Do or undo something, once for each key, and no more once somebody else has taken over."""
    db = connection()
    with barrier(db, context) as call:
        token = None if resource is None else context.resources[resource]
        if resource is not None and token is not None:
            fence(db, resource, token)
        if call.is_duplicate:
            db.execute("INSERT INTO repeats VALUES (%s)", (context.idempotency_key,))
        if call.is_due:
            if resource is not None:
                db.execute(
                    "UPDATE balances SET amount = amount + %s WHERE name = %s", (by, resource)
                )
            db.execute(
                "INSERT INTO effects (key, transaction_id, step_id, kind, resource, token) "
                "VALUES (%s, %s, %s, %s, %s, %s)",
                (
                    context.idempotency_key,
                    context.transaction_id,
                    context.step_id,
                    kind,
                    resource,
                    token,
                ),
            )
    # The answer is on its way. Who is killed now has done something and does not know it.
    time.sleep(ANSWER_SECONDS)


@manager.action("take", compensating_action="put_back", idempotent=True, resources=["{item}"])
def take(action: str, data: dict[str, Any], context: StepContext) -> None:
    change(context, "write", data["item"], -1)


@manager.action("put_back", idempotent=True)
def put_back(action: str, data: dict[str, Any], context: StepContext) -> None:
    change(context, "undo", data["item"], 1)


@manager.action("charge", compensating_action="refund", idempotent=True, resources=["{customer}"])
def charge(action: str, data: dict[str, Any], context: StepContext) -> None:
    change(context, "write", data["customer"], -1)


@manager.action("refund", idempotent=True)
def refund(action: str, data: dict[str, Any], context: StepContext) -> None:
    change(context, "undo", data["customer"], 1)


@manager.action("ship", compensating_action="recall", idempotent=True)
def ship(action: str, data: dict[str, Any], context: StepContext) -> None:
    if data["refused"]:
        raise StepRejected("nobody delivers there")
    change(context, "write", None, 0)


@manager.action("recall", idempotent=True)
def recall(action: str, data: dict[str, Any], context: StepContext) -> None:
    change(context, "undo", None, 0)


def end_with_parent() -> None:
    """Die when the program that started this one is gone, even by SIGKILL: its pipe is closed."""
    sys.stdin.read()
    os._exit(1)


if place:
    threading.Thread(target=end_with_parent, daemon=True).start()
