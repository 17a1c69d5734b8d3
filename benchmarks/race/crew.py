"""Several processes on one store, as one entrant.

    python -m race.crew workers --count 4 --store postgresql://…
    python -m race.crew programs --count 4 --store postgresql://…

Owns: two ways of using several processes.
  workers    A program submits, and so many `Worker` processes carry out, each as many at once as
             one does that nobody has told otherwise. Submitting is not timed, but counted.
  programs   So many programs of one event loop each, which share 64 transactions at once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from statistics import median

from fleet import Case, Hand, manager_of, rate
from race.slices import Report, serve

from aumai_transactions import open_store

AT_ONCE = 64
FIRST_GUESS = 100.0


class Workers:
    """Let workers finish what is there.

    Args:
        go: Submits so many and returns how many were finished in a second.
    """

    def __init__(self, go: Callable[[Case], float]) -> None:
        self._go = go
        self._rate = FIRST_GUESS

    def run(self, seconds: float) -> Report:
        """Finish about as many as can be in this time."""
        transactions = max(8, round(self._rate * seconds))
        cpu = time.process_time()
        self._rate = self._go(Case("", transactions))
        took = transactions / self._rate
        used = time.process_time() - cpu
        return {"transactions": transactions, "seconds": took, "cpu_seconds": used}


def run_workers(options: argparse.Namespace) -> None:
    """Be workers on one store."""
    with ExitStack() as stack:
        manager = stack.enter_context(manager_of(options.store))
        store = stack.enter_context(closing(open_store(options.store, create=True)))
        hands = []
        for _ in range(options.count):
            hands.append(Hand(options.store))
            stack.callback(hands[-1].end)
        serve(Workers(partial(rate, manager, store, hands)).run)


@contextmanager
def program(store: str, at_once: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start one program."""
    arguments = ["--store", store, "--by", "tasks", "--at-once", str(at_once)]
    with subprocess.Popen(
        [sys.executable, "-m", "race.ours", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            heard(process)
            yield process
        finally:
            if process.stdin is not None:
                process.stdin.close()
            process.wait()


def heard(process: subprocess.Popen[bytes]) -> Report:
    """Return the next thing that a program says."""
    line = process.stdout.readline() if process.stdout is not None else b""
    if not line:
        raise RuntimeError("a program has ended")
    said: Report = json.loads(line)
    return said


def together(programs: list[subprocess.Popen[bytes]], seconds: float) -> Report:
    """Let programs carry out transactions at the same time."""
    cpu = time.process_time()
    for process in programs:
        if process.stdin is not None:
            process.stdin.write(f"{seconds}\n".encode())
            process.stdin.flush()
    found = [heard(process) for process in programs]
    return {
        "transactions": sum(one["transactions"] for one in found),
        "seconds": max(one["seconds"] for one in found),
        "cpu_seconds": time.process_time() - cpu,
        "p50_us": median(one["p50_us"] for one in found),
        "p99_us": max(one["p99_us"] for one in found),
        "rss_mib": sum(one["rss_mib"] for one in found),
    }


def run_programs(options: argparse.Namespace) -> None:
    """Be programs on one store."""
    with ExitStack() as stack:
        programs = [
            stack.enter_context(program(options.store, AT_ONCE // options.count))
            for _ in range(options.count)
        ]
        serve(partial(together, programs))


def main() -> None:
    """Be one entrant."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kind", choices=("workers", "programs"))
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--store", required=True)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    if options.kind == "workers":
        run_workers(options)
    else:
        run_programs(options)


if __name__ == "__main__":
    main()
