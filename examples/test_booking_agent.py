"""The tests of a booking agent: a bug that `assert_atomic` finds, and its repair.

    pytest examples/test_booking_agent.py        or        python examples/test_booking_agent.py

The agent books a room and takes a payment. Its first version undoes a booking by adding one to the
number of free rooms. That works whenever somebody tries it, and leaves a room too many when the
request for the booking was lost: then nobody knows whether the room was taken, so the booking is
undone to be safe, and an undo of nothing has to do nothing.
"""

from collections.abc import Callable
from typing import Any

from aumai_transactions import StepContext, TransactionManager
from aumai_transactions.testing import NotAtomic, assert_atomic

HOTEL: dict[str, Any] = {"free": 3, "rooms": {}}
BANK: dict[str, int] = {}
WORLD = {"hotel": HOTEL, "bank": BANK}


def take_room(action: str, data: dict, context: StepContext) -> None:
    """The first version: a number that goes down, whoever asks and however often."""
    HOTEL["free"] -= 1


def give_room(action: str, data: dict, context: StepContext) -> None:
    HOTEL["free"] += 1


def book_room(action: str, data: dict, context: StepContext) -> None:
    """The repair: a booking has a name, the call's key, so that it can be found again."""
    if context.idempotency_key not in HOTEL["rooms"]:
        HOTEL["rooms"][context.idempotency_key] = data["guest"]
        HOTEL["free"] -= 1


def cancel_room(action: str, data: dict, context: StepContext) -> None:
    if HOTEL["rooms"].pop(context.forward_key, None):
        HOTEL["free"] += 1


def pay(action: str, data: dict, context: StepContext) -> None:
    BANK.setdefault(context.idempotency_key, data["amount"])


def pay_back(action: str, data: dict, context: StepContext) -> None:
    BANK.pop(context.forward_key, None)


def application(book: Callable, cancel: Callable) -> Callable[..., TransactionManager]:
    """What the application does at its start, also after a crash: a manager with all handlers."""

    def manager(**given: Any) -> TransactionManager:
        made = TransactionManager(**given)
        made.action("book_room", compensating_action="cancel_room")(book)
        made.action("cancel_room", idempotent=True)(cancel)
        made.action("pay", compensating_action="pay_back", idempotent=True)(pay)
        made.action("pay_back", idempotent=True)(pay_back)
        return made

    return manager


def agent(manager: TransactionManager) -> None:
    """The agent: a program that chooses its steps as it goes."""
    with manager.transaction(name="a room for Ada") as tx:
        tx.execute("hotel_agent", "book_room", {"guest": "Ada"})
        tx.execute("billing_agent", "pay", {"amount": 120})


def test_the_first_version_leaves_a_room_too_many() -> None:
    story = None
    try:
        assert_atomic(agent, world=WORLD, manager=application(take_room, give_room))
    except NotAtomic as found:
        story = found
    assert story is not None, "the bug was not found"
    print(story)
    assert story.left == ("world['hotel']['free'] is 4; it should be 3",)
    assert "Undoing nothing must do nothing" in story.advice[0]


def test_the_repaired_version_leaves_nothing_behind() -> None:
    report = assert_atomic(agent, world=WORLD, manager=application(book_room, cancel_room))
    print(report)
    assert report.crashes > 50


if __name__ == "__main__":
    test_the_first_version_leaves_a_room_too_many()
    print()
    test_the_repaired_version_leaves_nothing_behind()
