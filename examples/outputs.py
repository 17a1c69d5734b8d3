"""A step that needs what an earlier step returned: the charge names the booking.

python examples/outputs.py
"""

from typing import Any

from aumai_transactions import StepContext, TransactionManager

manager = TransactionManager()
ledger: list[str] = []


@manager.action("book_room", compensating_action="cancel_room")
def book_room(action: str, data: dict[str, Any]) -> dict[str, Any]:
    ledger.append(f"room in {data['city']}")
    return {"booking": {"id": f"B-{len(ledger)}", "price": 120}}


@manager.action("cancel_room")
def cancel_room(action: str, data: dict[str, Any], context: StepContext) -> None:
    ledger.append(f"cancelled {context.output['booking']['id']}")


@manager.action("charge_card", compensating_action="refund_card")
def charge_card(action: str, data: dict[str, Any]) -> None:
    if data["amount"] > data["amount_max"]:
        raise ValueError(f"{data['amount']} is more than {data['amount_max']}")
    ledger.append(f"charged {data['amount']} for {data['booking']}")


def book(amount_max: int) -> None:
    tx = manager.begin()
    room = manager.add_step(tx, "hotel_agent", "book_room", {"city": "Rome"})
    # Filled in when the step starts, and journaled so. The charge waits for the room.
    data = {
        "booking": room.output("/booking/id", "string"),
        "amount": room.output("/booking/price", "integer"),
        "amount_max": amount_max,
    }
    manager.add_step(tx, "billing_agent", "charge_card", data)
    print(manager.commit(tx))


def main() -> None:
    book(amount_max=500)
    book(amount_max=100)
    print("\n".join(ledger))
    assert ledger == ["room in Rome", "charged 120 for B-1", "room in Rome", "cancelled B-3"]


if __name__ == "__main__":
    main()
