"""A call takes too long and is given up. Then it answers after all: before its undo, or after it.

python examples/late_answer.py
"""

import threading
from typing import Any

from aumai_transactions import Event, StepContext, TransactionManager

the_hotel_answers = threading.Event()
came_late = threading.Event()
rooms: list[str] = []


def listen(event: Event) -> None:
    if event.kind == "call_returned_late":
        came_late.set()


manager = TransactionManager(on_event=listen)


def book(action: str, data: dict[str, Any]) -> dict[str, Any]:
    the_hotel_answers.wait(30)  # a function cannot be cancelled: it is left behind in its thread
    rooms.append(data["hotel"])
    return {"booking": f"B-{len(rooms)}"}


# One waits for its call for a minute before it undoes it, the other hardly at all.
patient = manager.action(
    "book", compensating_action="cancel", timeout_seconds=0.05, abandon_after_seconds=60
)(book)
hasty = manager.action(
    "book_hastily", compensating_action="cancel", timeout_seconds=0.05, abandon_after_seconds=0.1
)(book)


@manager.action("cancel", idempotent=True)
def cancel(action: str, data: dict[str, Any], context: StepContext) -> None:
    print(f"  cancel, in doubt: {context.in_doubt}, output: {context.output}")
    if context.output is not None:
        rooms.remove(data["hotel"])


def main() -> None:
    print("The answer comes while the undo still waits for it:")
    tx = manager.begin()
    manager.add_step(tx, "hotel_agent", "book", {"hotel": "Bristol"})
    result = manager.commit(tx, wait_max_seconds=0)
    assert result.state.value == "compensating"
    assert result.waiting is not None
    assert result.waiting.reason == "left_behind"
    the_hotel_answers.set()
    assert came_late.wait(30)
    result = manager.wait(tx)
    print(result)
    # The late answer never counts as a success, but it told what there was to undo.
    assert result.clean
    assert rooms == []

    print("\nThe undo could not wait so long:")
    the_hotel_answers.clear()
    came_late.clear()
    tx = manager.begin()
    manager.add_step(tx, "hotel_agent", "book_hastily", {"hotel": "Astoria"})
    result = manager.commit(tx)
    print(result)
    assert [item.reason for item in result.outstanding] == ["may_still_act"]

    print("\nAnd then it does act:")
    the_hotel_answers.set()
    assert came_late.wait(30)
    result = manager.get_result(tx)
    print(result)
    assert result.state.value == "rolled_back"
    assert [item.reason for item in result.outstanding] == ["acted_late"]
    assert rooms == ["Astoria"]

    print("\nNothing is undone twice by itself. Somebody looks, and cancels by telephone:")
    rooms.remove("Astoria")
    result = manager.resolve(tx, "s1", "undone", by="ann", note="cancelled by telephone")
    print(result)
    assert result.clean
    assert rooms == []


if __name__ == "__main__":
    main()
