"""What cannot be undone comes last: a pivot, a reservation that is confirmed, a mail that waits.

python examples/commit_point.py
"""

from typing import Any

from aumai_transactions import (
    CommitPointPassed,
    IrreversibleBeforeCompensatable,
    ReadConflict,
    RetryPolicy,
    StepContext,
    TransactionManager,
)

price = 100
mails = 0
manager = TransactionManager()


@manager.action("ask_price", effect="none")
def ask_price(action: str, data: dict[str, Any]) -> int:
    print(f"  the price is {price}")
    return price


@ask_price.reread
def price_holds(data: dict[str, Any], context: StepContext) -> bool:
    return bool(context.output == price)


# Try, confirm, cancel: the reservation is made, and behind the commit point it becomes a booking.
@manager.action("reserve", compensating_action="cancel", confirming_action="confirm")
def reserve(action: str, data: dict[str, Any]) -> None:
    print("  a room is reserved")


@manager.action("cancel", idempotent=True)
def cancel(action: str, data: dict[str, Any]) -> None:
    print("  the reservation is cancelled")


@manager.action("confirm", idempotent=True)
def confirm(action: str, data: dict[str, Any]) -> None:
    print("  the reservation is confirmed")


@manager.action("charge")
def charge(action: str, data: dict[str, Any]) -> None:
    if data["card"] == "empty":
        raise ValueError("the card is empty")
    print("  the card is charged, and nothing gives that back")


@manager.action(
    "send_mail",
    idempotent=True,
    effect="irreversible",
    retry=RetryPolicy(first_delay_seconds=0.01),
)
def send_mail(action: str, data: dict[str, Any], context: StepContext) -> None:
    global mails  # noqa: PLW0603 (the outside world changes)
    if context.attempt < 3:
        print("  the mail server is busy")
        raise ConnectionResetError("busy")
    mails += 1
    print(f"  a mail is sent to {data['to']}")


def book(card: str) -> str:
    tx = manager.begin()
    manager.add_step(tx, "scout", "ask_price", {})
    manager.add_step(tx, "hotel_agent", "reserve", {})
    # Held from wherever it stands until everything else has succeeded; then tried until done.
    manager.add_step(tx, "mail_agent", "send_mail", {"to": "ann"}, on_commit=True)
    # The point of no return: its success and the decision to commit are one entry of the journal.
    manager.add_step(tx, "billing_agent", "charge", {"card": card}, pivot=True)
    result = manager.commit(tx)
    print(f"  {result.state}")
    return result.state.value


def interactive() -> None:
    global price  # noqa: PLW0603
    try:
        with manager.transaction() as tx:
            tx.execute("scout", "ask_price")
            tx.execute("hotel_agent", "reserve")
            tx.execute("mail_agent", "send_mail", {"to": "bob"}, on_commit=True)
            price += 20  # somebody else was faster
    except ReadConflict as error:
        print(f"  {error.result.state} ({error.result.reason})")
    try:
        with manager.transaction() as tx:
            tx.execute("hotel_agent", "reserve")
            tx.execute("billing_agent", "charge", {"card": "good"}, pivot=True)
            raise KeyError("too late to change one's mind")
    except CommitPointPassed as error:
        print(f"  {type(error).__name__} for {error.__cause__!r}; the transaction is {error.state}")


def main() -> None:
    print("A card that is good:")
    assert book("good") == "committed"
    assert mails == 1
    print("A card that is empty: nothing that cannot be undone has happened.")
    assert book("empty") == "rolled_back"
    assert mails == 1
    print("Interactive, and what was read does not hold any more; then an error behind the pivot:")
    interactive()
    assert mails == 1
    print("An order that could strand an effect is refused before anything runs:")
    tx = manager.begin()
    manager.add_step(tx, "mail_agent", "send_mail", {"to": "ann"})
    manager.add_step(tx, "hotel_agent", "reserve", {})
    try:
        manager.commit(tx)
    except IrreversibleBeforeCompensatable as error:
        print(f"  {error.irreversible} cannot be undone, and stands before {error.compensatable}")


if __name__ == "__main__":
    main()
