"""A travel agency whose handlers are right, and can be made wrong one at a time.

Owns: the handlers, the sagas and the worlds that the tests of `assert_atomic` use.
"""

import os
from pathlib import Path

from aumai_transactions import AsyncTransactionManager, RetryPolicy, TransactionManager

BOOKED: dict = {}
FOLDER = Path(os.environ.get("AGENCY_FOLDER", "agency"))


def book(action, data, context):
    BOOKED[context.idempotency_key] = data["what"]


def cancel(action, data, context):
    BOOKED.pop(context.forward_key, None)


def maker(changes=None, kind=TransactionManager, **options):
    """What makes the agency's manager, with some of its handlers replaced."""
    handlers = {"book": book, "cancel": cancel} | (changes or {})
    declared = {"compensating_action": "cancel", "idempotent": True} | options.pop("book", {})
    undone = {"idempotent": True} | options.pop("cancel", {})

    def make(**given):
        manager = kind(**options, **given)
        manager.action("book", **declared)(handlers["book"])
        manager.action("cancel", **undone)(handlers["cancel"])
        return manager

    return make


def planned(manager):
    tx = manager.begin()
    for what in ("flight", "hotel"):
        manager.add_step(tx, "agent", "book", {"what": what})
    manager.commit(tx)


def interactive(manager):
    with manager.transaction() as tx:
        for what in ("flight", "hotel"):
            tx.execute("agent", "book", {"what": what})


async def planned_async(manager):
    tx = await manager.begin()
    for what in ("flight", "hotel"):
        manager.add_step(tx, "agent", "book", {"what": what})
    await manager.commit(tx)


async def interactive_async(manager):
    async with manager.transaction() as tx:
        for what in ("flight", "hotel"):
            await tx.execute("agent", "book", {"what": what})


# ---------------------------------------------------------------- for processes that are killed


def book_file(action, data, context):
    (FOLDER / data["what"]).write_text(context.step_id)


def cancel_file(action, data, context):
    (FOLDER / data["what"]).unlink(missing_ok=True)


def cancel_nothing(action, data, context):
    """An undo that does not do its work."""


def file_manager(**given):
    return maker({"book": book_file, "cancel": cancel_file})(**given)


def careless_file_manager(**given):
    handlers = {"book": book_file, "cancel": cancel_nothing}
    return maker(handlers, book={"idempotent": False})(**given)


ONCE_MORE = RetryPolicy(attempts_max=3, first_delay_seconds=1)
ASYNC = AsyncTransactionManager
