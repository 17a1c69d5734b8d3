"""What a transaction costs that an engine carries out, beside our own driver, on one disk.

Run it as `python benchmarks/engine_cost.py`, for DBOS on SQLite, or with the URL of a database.
"""

import statistics
import sys
import tempfile
import time

from aumai_transactions import TransactionManager
from aumai_transactions.engines.dbos import DbosEngine

TRANSACTIONS = 40
STEPS = 3


def nothing(action: str, data: object) -> None:
    """Do nothing."""


def milliseconds(manager: TransactionManager) -> float:
    """Return how long one transaction takes, the median of many, one after the other."""
    manager.action("act", compensating_action="act")(nothing)
    took = []
    for _ in range(TRANSACTIONS):
        tx = manager.begin()
        for _ in range(STEPS):
            manager.add_step(tx, "agent", "act", {})
        began = time.perf_counter()
        manager.commit(tx).raise_for_state()
        took.append(1_000 * (time.perf_counter() - began))
    return statistics.median(took)


def main() -> None:
    """Measure both, and print it."""
    with tempfile.TemporaryDirectory() as folder:
        url = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{folder}/dbos.db"
        with TransactionManager(store=f"sqlite:///{folder}/own.db") as own:
            ours = milliseconds(own)
        with TransactionManager(store=f"sqlite:///{folder}/s.db", engine=DbosEngine(url)) as hosted:
            theirs = milliseconds(hosted)
    print(
        f"{STEPS} steps: our driver {ours:.1f} ms, on DBOS {theirs:.1f} ms: {theirs / ours:.0f} x"
    )


if __name__ == "__main__":
    main()
