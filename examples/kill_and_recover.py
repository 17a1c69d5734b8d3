"""Kill a process in the middle of a transaction, recover, and look at what is left.

    python examples/kill_and_recover.py          a kill at every fourth point
    python examples/kill_and_recover.py --all    a kill at every point

The points are: after each entry of the journal, and before and after each effect.
"""

import os
import signal
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

from aumai_transactions import Event, StepRejected, TransactionManager

PARTS = ("flight", "hotel", "charge")

points = count(1)
deadly_point = 0


def point(_event: Event | None = None) -> None:
    if next(points) == deadly_point:
        os.kill(os.getpid(), signal.SIGKILL)


def open_manager() -> TransactionManager:
    manager = TransactionManager(store="trips.db", on_event=point)

    @manager.action("book", compensating_action="cancel")
    def book(action: str, data: dict[str, Any]) -> None:
        point()
        # Not idempotent, and it would show: a second call raises.
        Path(data["part"]).touch(exist_ok=False)
        point()

    @manager.action("cancel")
    def cancel(action: str, data: dict[str, Any]) -> None:
        point()
        # Whether it is called twice, or for something that never happened: no harm.
        Path(data["part"]).unlink(missing_ok=True)
        point()

    @manager.action("charge")
    def charge(action: str, data: dict[str, Any]) -> None:
        if data["card"] == "declined":
            raise StepRejected("card declined")

    return manager


def book_trip(card: str) -> None:
    with open_manager() as manager:
        tx = manager.begin()
        for part in PARTS:
            manager.add_step(tx, f"{part}_agent", "book", {"part": part})
        manager.add_step(tx, "billing_agent", "charge", {"card": card}, "cancel_charge")
        manager.commit(tx)


def kill_and_recover(card: str, number: int) -> bool:
    """Let a child die at one point, and recover; return whether it came that far."""
    child = [sys.executable, str(Path(__file__).resolve()), card, str(number)]
    killed = subprocess.run(child, check=False).returncode == -signal.SIGKILL
    with open_manager() as manager:
        manager.action("cancel_charge")(lambda action, data: None)
        left = [part for part in PARTS if Path(part).exists()]
        manager.recover()
        (tx,) = manager.get_all_transactions()
        is_intact = manager.verify().is_intact
    now = [part for part in PARTS if Path(part).exists()]
    print(
        f"  {'killed' if killed else 'lived'} at point {number:2},"
        f" left {', '.join(left) or 'nothing'};"
        f" then {tx.state.value}, left {', '.join(now) or 'nothing'}"
    )
    assert is_intact
    assert now == (list(PARTS) if tx.state.value == "committed" else [])
    return killed


def main(stride: int) -> None:
    home = Path.cwd()
    for card in ("good", "declined"):
        print(f"a trip with a {card} card:")
        for number in count(1, stride):
            with tempfile.TemporaryDirectory() as folder:
                os.chdir(folder)
                killed = kill_and_recover(card, number)
                os.chdir(home)
            if not killed:
                break


if __name__ == "__main__":
    if len(sys.argv) == 3:
        deadly_point = int(sys.argv[2])
        book_trip(sys.argv[1])
    else:
        main(1 if sys.argv[1:] == ["--all"] else 4)
