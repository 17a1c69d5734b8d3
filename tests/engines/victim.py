"""What is killed: a process in which DBOS carries out one cell of the fault matrix.

Its points are those of the drivers' own victims (`tests/faults/victim.py`); what a transaction
needs besides to get to its engine has no points here, and is killed in the contract's checks.
"""

import shutil
from pathlib import Path

from tests.engines.quick import QuickEngine
from tests.faults import victim
from tests.faults.cells import Cell
from tests.faults.network import Agent, Network
from tests.faults.participant import Hotel
from tests.faults.scene import DAY_SECONDS, NOON, begun, carried_out

from aumai_transactions import TransactionManager
from aumai_transactions.engines.dbos import DbosEngine
from aumai_transactions.stores.sqlite import SqliteStore
from aumai_transactions.testing.clock import ManualClock
from aumai_transactions.testing.kill_nursery import serve


class Points(victim.Points):
    """Count the points of the drivers' own victims only."""

    def passing(self, name):
        if not name.endswith("commit_requested"):
            super().passing(name)


def made(orders, store, network_of, name):
    path = Path(orders["folder"], f"dbos-{name}.db")
    shutil.copyfile(orders["template"], path)
    clock = ManualClock(NOON)
    engine = QuickEngine(DbosEngine(f"sqlite:///{path}"), clock)
    manager = TransactionManager(store=store, clock=clock, engine=engine)
    Agent(Cell.named(orders["cell"]), network_of, is_async=False).register(manager)
    return manager


def drive(reporter, orders, cell):
    points = Points(reporter, orders["kill_at"])
    network = Network(cell, Hotel(Path(orders["hotel"]), cell.kind), points.passing)
    store = victim.Boundaries(SqliteStore(Path(orders["folder"], "store.db")), points)
    manager = made(orders, store, lambda _: network, orders["kill_at"])
    tx = begun(manager, cell)
    reporter.say(f"tx {tx.transaction_id}")
    carried_out(manager, tx)
    # Order matters: the caller may know the outcome before its workflow has passed the last point.
    manager.close()
    for name in points.passed:
        reporter.say(f"passed {name}")


def recover(reporter, orders, cell):
    networks = {
        name: Network(cell, Hotel(Path(path), cell.kind)) for name, path in orders["hotels"].items()
    }
    store = f"{orders['folder']}/store.db"
    # As on another machine: nothing is known of what DBOS kept where the victims were.
    manager = made(orders, store, networks.__getitem__, "recovering")
    manager.recover()
    for name in orders["begun"]:
        result = manager.wait(name, timeout_seconds=DAY_SECONDS)
        assert result.is_final, result
        reporter.say(f"recovered {name}")
    manager.close()


def run(reporter, orders):
    role = {"drive": drive, "recover": recover}[orders["role"]]
    role(reporter, orders, Cell.named(orders["cell"]))


def main(descriptor):
    serve(int(descriptor), run)
