"""How many transactions workers finish: one, two and four processes on one store.

    python benchmarks/fleet.py                        PostgreSQL from the wheel, and SQLite
    python benchmarks/fleet.py --quick                the same figures, roughly
    python benchmarks/fleet.py --store postgresql://… a PostgreSQL that runs

Owns: the measurement, and nothing asserts here. A figure is the number of three-step transactions
that were committed in a second, and its ratio to what one worker does.
Rules:
  1. Everything is durable (fsync on, synchronous=FULL), and everything is submitted before the
     clock begins. It ends with the last commit, by the journals.
  2. One, two and four workers take turns, in an order that is another one in each round; a ratio
     is taken within a round. So a machine that becomes slower meanwhile does so for all.
  3. The processes are there, connected and warm before the clock begins. Each carries out so many
     transactions at the same time as a worker does that nobody has told otherwise (8).
  4. With a hot lock every transaction needs the same resource, and there is nothing to share:
     the figure is what handing it on costs, and more workers cannot make it faster.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from race.machine import machine

from aumai_transactions import TransactionManager, TransactionState, Worker, open_store
from aumai_transactions.store import Query, Store

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "fleet"))

COUNTS = (1, 2, 4)
UNFINISHED = tuple(state for state in TransactionState if not state.is_final)
SECONDS_MAX = 120
SUBMITTERS = 16


class Case(NamedTuple):
    """Hold what is carried out.

    Args:
        name: For people.
        transactions: How many in one measurement.
        call_seconds: How long each call waits for its participant.
        is_hot: True where all need the same resource.
    """

    name: str
    transactions: int
    call_seconds: float = 0.0
    is_hot: bool = False


CASES = (
    Case("calls that return at once", 400),
    Case("calls of 50 ms", 160, call_seconds=0.05),
    Case("calls that return at once, one hot lock", 60, is_hot=True),
)


class Figure(NamedTuple):
    """Hold one line of the table: medians over the rounds, lowest and highest."""

    store: str
    case: str
    workers: int
    rate: float
    rate_low: float
    rate_high: float
    ratio: float
    ratio_low: float
    ratio_high: float


def manager_of(url: str) -> TransactionManager:
    """Return a manager with the actions that are measured."""
    manager = TransactionManager(store=url)

    @manager.action("act", compensating_action="undo", idempotent=True)
    def act(action: str, data: dict[str, Any]) -> None:
        if data["seconds"]:
            time.sleep(data["seconds"])

    @manager.action("undo", idempotent=True)
    def undo(action: str, data: dict[str, Any]) -> None:
        return None

    return manager


def work(url: str) -> None:
    """Be a worker between the lines `go` and `stop`."""
    with manager_of(url) as manager:
        manager.get_store_info()
        print("ready", flush=True)
        while sys.stdin.readline():
            with Worker(manager, poll_seconds=0.1):
                print("working", flush=True)
                sys.stdin.readline()
            print("stopped", flush=True)


class Hand:
    """A worker in a process of its own."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.hears("ready")

    def say(self, word: str) -> None:
        """Tell it what to do."""
        if self.process.stdin is None:
            raise LookupError("it has no standard input")
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def hears(self, word: str) -> None:
        """Wait until it says so."""
        line = "" if self.process.stdout is None else self.process.stdout.readline()
        if line.strip() != word:
            raise LookupError(f"a worker said {line!r}, not {word!r}")

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def hands_for(url: str) -> Iterator[list[Hand]]:
    """Start the workers of a store."""
    hands: list[Hand] = []
    try:
        hands += [Hand(url) for _ in range(max(COUNTS))]
        yield hands
    finally:
        for hand in hands:
            hand.end()


def submit(manager: TransactionManager, case: Case) -> None:
    """Let everything be there before the clock begins."""
    resources = ["the:one"] if case.is_hot else []

    def one(_: int) -> None:
        tx = manager.begin(timeout_seconds=3_600, lock_timeout_seconds=3_600)
        for _ in range(3):
            data = {"seconds": case.call_seconds}
            manager.add_step(tx, "agent", "act", data, resources=resources)
        manager.submit(tx)

    with ThreadPoolExecutor(SUBMITTERS) as threads:
        for _ in threads.map(one, range(case.transactions)):
            pass


def rate(manager: TransactionManager, store: Store, hands: Sequence[Hand], case: Case) -> float:
    """Return how many transactions were committed in a second."""
    submit(manager, case)
    began = time.time()
    for hand in hands:
        hand.say("go")
    unfinished = Query(states=UNFINISHED)
    while store.count(unfinished):
        if time.time() > began + SECONDS_MAX:
            raise LookupError("the workers do not finish")
        store.wait_for_news(0.05)
    page = store.find(Query(limit=case.transactions, newest_first=True))
    ended = max(listed.summary.updated_at for listed in page) / 1e6
    for hand in hands:
        hand.hears("working")
        hand.say("stop")
        hand.hears("stopped")
    if {listed.summary.state for listed in page} != {TransactionState.committed}:
        raise LookupError("not everything was committed")
    return case.transactions / (ended - began)


def measured(kind: str, url: str, cases: Sequence[Case], rounds: int) -> Iterator[Figure]:
    """Measure one store."""
    with (
        manager_of(url) as manager,
        closing(open_store(url, create=True)) as store,
        hands_for(url) as hands,
    ):
        for case in cases:
            rates: dict[int, list[float]] = {number: [] for number in COUNTS}
            rate(manager, store, hands, case._replace(transactions=20))
            for round_number in range(rounds):
                turn = round_number % len(COUNTS)
                for number in COUNTS[turn:] + COUNTS[:turn]:
                    rates[number].append(rate(manager, store, hands[:number], case))
            for number, found in rates.items():
                ratios = [ours / one for ours, one in zip(found, rates[1], strict=True)]
                yield Figure(kind, case.name, number, *middle(found), *middle(ratios))


def middle(found: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, the lowest and the highest."""
    return median(found), min(found), max(found)


def shown(figure: Figure) -> str:
    """Return one line of the table."""
    workers = f"{figure.workers} worker{'s' if figure.workers > 1 else ''}"
    rates = f"{figure.rate:7.1f}/s ({figure.rate_low:.1f} - {figure.rate_high:.1f})"
    ratios = f"x {figure.ratio:.2f} ({figure.ratio_low:.2f} - {figure.ratio_high:.2f})"
    return f"{figure.store:<12}{figure.case:<42}{workers:<12}{rates:<30}{ratios}"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and return 0 whatever was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and smaller rounds")
    parser.add_argument(
        "--rounds", type=int, default=5, help="how often everything is measured (5)"
    )
    parser.add_argument("--only", choices=("postgresql", "sqlite"), help="one of the two stores")
    parser.add_argument("--store", help="the URL of a PostgreSQL that runs")
    parser.add_argument("--folder", help="where to make the SQLite file")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--work", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work:
        work(options.work)
        return 0
    rounds, cases = options.rounds, CASES
    if options.quick:
        rounds = 1
        cases = tuple(case._replace(transactions=case.transactions // 10) for case in CASES)
    found: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="aumai-fleet-", dir=options.folder) as folder:
        about = machine(Path(folder))
        if not options.json:
            print(f"{about}\nmedian of {rounds} rounds (lowest - highest), and to one worker\n")
        for kind, url in stores(options, Path(folder)):
            for figure in measured(kind, url, cases, rounds):
                found.append(figure)
                if not options.json:
                    print(shown(figure), flush=True)
    if options.json:
        report = {"machine": about, "figures": [figure._asdict() for figure in found]}
        json.dump(report, sys.stdout, indent=2)
        print()
    return 0


def stores(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each kind of store with the URL of an empty one."""
    from server import running_server, schema_in

    if options.only != "sqlite":
        server = nullcontext(options.store) if options.store else running_server()
        with server as found, schema_in(found) as url:
            yield "postgresql", url
    if options.only != "postgresql":
        yield "sqlite", f"sqlite:///{folder}/fleet.db"


if __name__ == "__main__":
    sys.exit(main())
