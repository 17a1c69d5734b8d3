"""An undo fails. The transaction stands still, names what is left, and a person deals with it.

python examples/halt_and_resolve.py
"""

import tempfile
from typing import Any

from aumai_transactions import StepRejected, TransactionManager, TransactionNotFinal

is_line_down = True
rooms: list[str] = []


def define_actions(manager: TransactionManager) -> None:
    @manager.action("book_room", compensating_action="cancel_room")
    def book_room(action: str, data: dict[str, Any]) -> None:
        rooms.append(data["hotel"])

    @manager.action("cancel_room")
    def cancel_room(action: str, data: dict[str, Any]) -> None:
        if is_line_down and data["hotel"] == "Astoria":
            raise ConnectionError("the Astoria does not answer")
        rooms.remove(data["hotel"])

    @manager.action("charge_card")
    def charge_card(action: str, data: dict[str, Any]) -> None:
        raise StepRejected("card declined")


def main() -> None:
    global is_line_down  # noqa: PLW0603 (the outside world changes)
    with (
        tempfile.TemporaryDirectory() as folder,
        TransactionManager(store=f"{folder}/trips.db") as manager,
    ):
        define_actions(manager)
        tx = manager.begin(on_compensation_failure="halt", name="two rooms")
        manager.add_step(tx, "hotel_agent", "book_room", {"hotel": "Bristol"})
        manager.add_step(tx, "hotel_agent", "book_room", {"hotel": "Astoria"})
        manager.add_step(tx, "billing_agent", "charge_card", {"amount": 240})

        result = manager.commit(tx)
        print(result)
        assert not result.is_final
        assert result.waiting is not None
        assert result.waiting.reason == "halted"
        # The Astoria was booked last, so the Bristol waits for it.
        assert rooms == ["Bristol", "Astoria"]
        try:
            result.raise_for_state()
        except TransactionNotFinal as error:
            print(f"\n{error}\n")

        # Once the line works again, somebody asks for another attempt, with the same key.
        is_line_down = False
        result = manager.retry(tx, "s2", by="ann", note="the line works again")
        print(result)
        assert result.state.value == "rolled_back"
        assert result.clean
        assert rooms == []

        # By default nothing halts: the rest is undone, and what is left waits in a list.
        is_line_down = True
        tx = manager.begin()
        manager.add_step(tx, "hotel_agent", "book_room", {"hotel": "Astoria"})
        manager.add_step(tx, "billing_agent", "charge_card", {"amount": 240})
        result = manager.commit(tx)
        print(f"\n{result}")
        assert result.is_final
        assert [item.step_id for item in result.outstanding] == ["s1"]

        # She rings them up and cancels by hand; the journal keeps who did what, and why.
        rooms.remove("Astoria")
        result = manager.resolve(tx, "s1", "undone", by="ann", note="cancelled by telephone")
        print(f"\n{result}")
        assert result.clean


if __name__ == "__main__":
    main()
