"""An agent's process dies, and the next one goes on: what was done is not done again.

python examples/resume.py

The agent asks in other words the second time, as a model does. What it asks for is told by the
arguments that `identity=` names; positions never matter.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from aumai_transactions import StepContext, TransactionManager

PROGRAM = Path(__file__).resolve()


def open_manager() -> TransactionManager:
    manager = TransactionManager(store="trip.db")

    @manager.action("book", compensating_action="cancel", identity=("what",))
    def book(action: str, data: dict[str, Any], context: StepContext) -> str:
        tell(f"booking {data['what']}")
        if data.get("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        return f"{data['what']}, booked as {context.step_id}"

    @manager.action("cancel", idempotent=True)
    def cancel(action: str, data: dict[str, Any], context: StepContext) -> None:
        tell(f"cancelling {data['what']}, in doubt: {context.in_doubt}")

    return manager


def tell(line: str) -> None:
    print(f"  {line}", flush=True)
    with Path("world.txt").open("a", encoding="utf-8") as world:
        world.write(line + "\n")


def first_run() -> None:
    with (
        open_manager() as manager,
        manager.transaction(name="trip", on_crash="wait", resume_within_seconds=3_600) as tx,
    ):
        tx.execute("agent", "book", {"what": "a flight", "words": "Please book the flight."})
        tx.execute("agent", "book", {"what": "a room", "words": "Now the room."})
        tx.execute("agent", "book", {"what": "a car", "die": True})


def second_run() -> None:
    with open_manager() as manager:
        name = next(tx.transaction_id for tx in manager.get_all_transactions() if tx.name == "trip")
        with manager.resume(name) as tx:
            print("  " + str(tx.describe()).replace(name, "…").replace("\n", "\n  "))
            # The same intent in other words: the recorded output, and no call.
            flight = tx.execute("agent", "book", {"what": "a flight", "words": "Flight, please!"})
            print(f"  {flight}")
            # The car's outcome was unknown, so it was undone; asked for again it is a new step.
            tx.execute("agent", "book", {"what": "a car", "words": "And the car again."})
            # This one the first run has never asked for. It stands in the place of the room, and
            # the journal says so; whoever does not want the room any more undoes it.
            tx.execute("agent", "book", {"what": "a tent"})
            room = next(step for step in tx.steps if step.data["what"] == "a room")
            tx.undo(room)
        forks = [e.fields["fork"] for e in manager.get_events(name) if "fork" in e.fields]
        print(f"  {tx.state}; new steps came in the place of {', '.join(forks)}")
        assert tx.state == "committed"
        assert forks == ["s2", "s2"]


def main() -> None:
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        print("The first run:")
        died = subprocess.run([sys.executable, str(PROGRAM), "first"], check=False)
        assert died.returncode == -signal.SIGKILL
        print("It was killed. The second run:")
        second_run()
        assert Path("world.txt").read_text("utf-8").splitlines() == [
            "booking a flight",
            "booking a room",
            "booking a car",
            "cancelling a car, in doubt: True",
            "booking a car",
            "booking a tent",
            "cancelling a room, in doubt: False",
        ]
        os.chdir(home)


if __name__ == "__main__":
    if sys.argv[1:] == ["first"]:
        first_run()
    else:
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        main()
