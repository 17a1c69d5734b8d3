"""One process of a run, which may be there to die.

    python -m aumai_transactions.testing.atomic.victim < order.json

Owns: that process. It is told on its standard input which store, which function and which faults.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path

from aumai_transactions.stores import open_store
from aumai_transactions.testing.atomic.lives import START, CannotRun, Life
from aumai_transactions.testing.atomic.planted import Saboteur
from aumai_transactions.testing.atomic.processes import Place
from aumai_transactions.testing.atomic.record import Record, fault_of
from aumai_transactions.testing.clock import ManualClock


def main() -> int:
    """Live, as it was told, and return the exit code where it was not killed."""
    order = json.load(sys.stdin)
    work, make_manager = Place(*order["work"]).find(), Place(*order["make_manager"]).find()
    record = Record(Path(order["lines"]))
    faults = [fault_of(fields) for fields in order["faults"]]
    # Why later each time: a process begins after the one that has died.
    clock = ManualClock(START + timedelta(seconds=order["number"]))
    store = open_store(order["store"], create=True, clock=clock)
    try:
        Life(make_manager, store, Saboteur(faults, record, "process"), record, clock).lead(work)
    except CannotRun as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
