"""Calls that are repeated, lost and overtaken, and a participant that stays right.

python examples/barrier.py
"""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from aumai_transactions import StepContext, TransactionManager
from aumai_transactions.participants.barrier import (
    BarrierCall,
    CallUndone,
    barrier,
    create_barrier_table,
)

FOLDER = tempfile.TemporaryDirectory()
DATABASE = Path(FOLDER.name) / "flights.db"


def seats_left() -> int:
    with closing(sqlite3.connect(DATABASE)) as db:
        return int(db.execute("SELECT free FROM seats").fetchone()[0])


def reserve(action: str, data: dict[str, Any], context: StepContext | BarrierCall) -> Any:
    with closing(sqlite3.connect(DATABASE)) as db, barrier(db, context, request=data) as call:
        if call.is_due:
            db.execute("UPDATE seats SET free = free - 1")
            call.answer = {"seat": "17A"}
    return call.answer


def cancel(action: str, data: dict[str, Any], context: StepContext | BarrierCall) -> None:
    with closing(sqlite3.connect(DATABASE)) as db, barrier(db, context) as call:
        if call.is_due:
            print(f"  giving back {call.forward_answer['seat']}")
            db.execute("UPDATE seats SET free = free + 1")


def fail(action: str, data: dict[str, Any]) -> None:
    raise ValueError("no room left in Rome")


def main() -> None:
    with closing(sqlite3.connect(DATABASE)) as db:
        create_barrier_table(db)
        db.execute("CREATE TABLE seats (free INTEGER NOT NULL)")
        db.execute("INSERT INTO seats VALUES (10)")
        db.commit()

    print("A step, and its undo, through the barrier:")
    manager = TransactionManager({"reserve": reserve, "cancel": cancel, "book_hotel": fail})
    tx = manager.begin()
    step = manager.add_step(tx, "flight_agent", "reserve", {"who": "Alice"}, "cancel")
    manager.add_step(tx, "hotel_agent", "book_hotel", {"city": "Rome"})
    print(manager.commit(tx))
    assert seats_left() == 10

    print("The same calls again, late, as a network may deliver them:")
    forward = BarrierCall(f"{tx.transaction_id}/{step.step_id}/action")
    undo = BarrierCall(
        f"{tx.transaction_id}/{step.step_id}/compensation", "compensation", forward.key
    )
    cancel("cancel", {}, undo)
    try:
        reserve("reserve", {"who": "Alice"}, forward)
    except CallUndone as refused:
        print(f"  {refused}")
    assert seats_left() == 10

    print("An undo that overtakes its call:")
    cancel("cancel", {}, BarrierCall("u", "compensation", forward_key="k"))
    try:
        reserve("reserve", {"who": "Bob"}, BarrierCall("k"))
    except CallUndone as refused:
        print(f"  {refused}")
    assert seats_left() == 10

    print("The same call twice:")
    answers = [reserve("reserve", {"who": "Carol"}, BarrierCall("c")) for _ in range(2)]
    print(f"  {answers[0]} and {answers[1]}; {seats_left()} seats left")
    assert seats_left() == 9


if __name__ == "__main__":
    with FOLDER:
        main()
