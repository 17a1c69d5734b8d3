"""Whether the product needs more instructions than it did: a guard against slow decay.

    python benchmarks/check.py              compares with benchmarks/recorded.json; some minutes
    python benchmarks/check.py --record     writes that file anew, as it is now
    python benchmarks/check.py replay       only the paths whose names hold this

Owns: five paths, how their instructions are counted, and the comparison. It ends with 1 where a
path needs more than was recorded by more than the tolerance, and with 2 where it cannot tell. It is
run before a release, as `make bench-check`, and by no test, for a test must not depend on the
machine.
Rules:
  1. Instructions are counted by `valgrind --tool=callgrind`, which counts alike on a busy machine.
     Each path runs n and 2n transactions, each in a process that is forked when everything is
     imported: the difference is of n transactions, and of nothing that happens once.
  2. Without valgrind a path takes turns with a loop by hand, in processor time, and that ratio is
     compared. It is rough, so its tolerance is larger.
  3. Another release of Python, pydantic or SQLite needs another number of instructions. Where one
     differs from what was recorded, nothing is judged.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, NoReturn

from race.floors import act, by_hand
from race.ours import Plan, manager_of

from aumai_transactions import TransactionManager
from aumai_transactions.core.journal import load

RECORDED = Path(__file__).with_name("recorded.json")
TOLERANCES = {"instructions": 0.02, "ratios": 0.25}
COLLECTED = re.compile(r"==(\d+)== Collected : (\d+)")
WARM, ROUNDS = 10, 15
LOOPS_BY_HAND = 1_000
Work = Callable[[], object]


class Guarded(NamedTuple):
    """Say what one path is.

    Args:
        work: Makes it, for a manager.
        is_on_disk: True on SQLite, False in memory.
        transactions: How many are counted.
    """

    work: Callable[[TransactionManager], Work]
    is_on_disk: bool = False
    transactions: int = 150


def planned(manager: TransactionManager) -> Work:
    """Return three planned steps that commit."""
    return partial(Plan(3, fails=False, locks=False).planned, manager)


def going_back(manager: TransactionManager) -> Work:
    """Return three planned steps, the last of which fails."""
    return partial(Plan(3, fails=True, locks=False).planned, manager)


def interactive(manager: TransactionManager) -> Work:
    """Return three steps that are chosen one by one."""
    return partial(Plan(3, fails=False, locks=False).interactive, manager)


def replay(manager: TransactionManager) -> Work:
    """Return a journal of three steps that is read again, every entry checked."""
    tx = manager.begin()
    for _ in range(3):
        manager.add_step(tx, "agent", "act", {"n": 1})
    manager.commit(tx)
    journal = manager._desk().store.read(tx.transaction_id)
    if journal is None:
        raise LookupError(tx.transaction_id)
    return partial(load, journal)


PATHS = {
    "in memory, planned": Guarded(planned),
    "in memory, going back": Guarded(going_back),
    "SQLite, planned": Guarded(planned, is_on_disk=True),
    "SQLite, interactive": Guarded(interactive, is_on_disk=True),
    "replay of a journal": Guarded(replay, transactions=300),
}


def versions() -> dict[str, str]:
    """Return what the number of instructions depends on besides our own code."""
    from pydantic import VERSION

    return {
        "python": platform.python_version(),
        "pydantic": VERSION,
        "sqlite": sqlite3.sqlite_version,
        "machine": platform.machine(),
    }


# -------------------------------------------------------------------------------- instructions


def run(name: str, transactions: int) -> None:
    """Carry out so many; this is what is counted."""
    path = PATHS[name]
    with tempfile.TemporaryDirectory(prefix="aumai-check-") as folder:
        store = f"{folder}/check.db" if path.is_on_disk else "memory:"
        with manager_of(store) as manager:
            work = path.work(manager)
            for _ in range(WARM + transactions):
                work()


def run_all(names: list[str], scale: float) -> None:
    """Be the process that is counted: one child for n and one for 2n transactions of each path.

    Why children: what it takes to import everything is the most of it, and is needed once. A child
    begins with what its parent has counted.
    """
    children: dict[int, list[Any]] = {}
    free = os.cpu_count() or 1
    gc.collect()
    gc.freeze()
    for name in names:
        for times in (1, 2):
            if len(children) >= free:
                wait_for_one()
            number = transactions_of(name, scale) * times
            child = os.fork()
            if child == 0:
                be_child(name, number)
            children[child] = [name, times]
    with suppress(ChildProcessError):
        while True:
            wait_for_one()
    print(json.dumps(children))


def be_child(name: str, transactions: int) -> NoReturn:
    """Carry out so many, and end this process whatever happens."""
    try:
        run(name, transactions)
        os._exit(0)
    except BaseException:  # noqa: BLE001 (nothing may go on in a child what its parent has begun)
        traceback.print_exc()
        os._exit(1)


def wait_for_one() -> None:
    """Wait for a child to end."""
    _, status = os.wait()
    if status:
        sys.exit("a path could not be carried out")


def transactions_of(name: str, scale: float) -> int:
    return max(1, round(PATHS[name].transactions * scale))


def instructions(names: list[str], scale: float) -> dict[str, float]:
    """Return the instructions of one transaction, for each path."""
    ran = subprocess.run(
        [
            *("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"),
            *(sys.executable, __file__, "--run-all", "--scale", str(scale), *names),
        ],
        env=os.environ | {"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    counts = {int(process): int(count) for process, count in COLLECTED.findall(ran.stderr)}
    try:
        children = json.loads(ran.stdout)
        found = {tuple(what): counts[int(process)] for process, what in children.items()}
        return {
            name: (found[name, 2] - found[name, 1]) / transactions_of(name, scale) for name in names
        }
    except (ValueError, KeyError):
        raise SystemExit(f"valgrind could not count:\n{ran.stderr[-2_000:]}") from None


# ------------------------------------------------------------------------------------ the ratio


def ratio(name: str, scale: float) -> float:
    """Return how often a loop by hand fits into the processor time of one transaction."""
    path = PATHS[name]
    many = max(1, round(path.transactions * scale / 4))
    with tempfile.TemporaryDirectory(prefix="aumai-check-") as folder:
        found = []
        for number in range(ROUNDS):
            store = f"{folder}/{number}.db" if path.is_on_disk else "memory:"
            with manager_of(store) as manager:
                work = path.work(manager)
                seconds(work, WARM)
                ours = seconds(work, many)
            bare = seconds(partial(by_hand, [act] * 3), LOOPS_BY_HAND)
            found.append((ours / many) / (bare / LOOPS_BY_HAND))
    return median(found)


def seconds(work: Work, times: int) -> float:
    """Return the processor time of so many."""
    began = time.process_time()
    for _ in range(times):
        work()
    return time.process_time() - began


# ------------------------------------------------------------------------------- the comparison


def judged(found: dict[str, float], known: dict[str, float], tolerance: float) -> list[str]:
    """Print how each path compares; return the names of those that need more."""
    slower = []
    for name, value in found.items():
        if name not in known:
            print(f"{name:<26}{value:>14,.0f}   was never recorded")
            continue
        change = value / known[name] - 1
        verdict = "as recorded"
        if change > tolerance:
            verdict = "SLOWER"
            slower.append(name)
        elif change < -tolerance:
            verdict = "faster: record it, so that it stays so"
        print(f"{name:<26}{value:>14,.0f}{known[name]:>14,.0f}{change:>+9.1%}   {verdict}")
    return slower


def compare(kind: str, found: dict[str, float], recorded: dict[str, Any]) -> int:
    """Compare with what was recorded; return how the program ends."""
    here, there = versions(), recorded.get("versions", {})
    tolerance = TOLERANCES[kind]
    if not recorded.get(kind):
        print(f"Nothing of the kind was recorded: {found}. Run it with --record.")
        return 2
    print(f"\n{'path':<26}{'now':>14}{'recorded':>14}{'change':>9}   tolerance {tolerance:.0%}")
    slower = judged(found, recorded.get(kind, {}), tolerance)
    strange = [f"{name} {there.get(name)}, here {here[name]}" for name in here]
    strange = [
        one for one, name in zip(strange, here, strict=True) if here[name] != there.get(name)
    ]
    if strange:
        print(
            f"\nNot judged: recorded with {'; '.join(strange)}. Check out the commit that was "
            "recorded, run --record there with these releases, and compare again."
        )
        return 2
    if slower:
        print(
            f"\nSlower: {', '.join(slower)}. Where the time goes: python -m cProfile -s tottime "
            f"benchmarks/check.py --run {slower[0]!r}\n"
            "If it is worth it, say why in the commit that runs --record."
        )
        return 1
    return 0


def record(kind: str, found: dict[str, float], recorded: dict[str, Any], file: Path) -> None:
    """Write what was found; keep what else stands there, if it is of the same releases."""
    if recorded.get("versions") != versions():
        recorded = {"versions": versions()}
    recorded[kind] = recorded.get(kind, {}) | {
        name: round(value, 1) for name, value in found.items()
    }
    file.write_text(json.dumps(recorded, indent=2) + "\n", "utf-8")
    print(f"written to {file}")


def main(arguments: list[str] | None = None) -> int:
    """Count and compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("paths", nargs="*", help="only those whose names hold one of these")
    parser.add_argument("--record", action="store_true", help="write benchmarks/recorded.json anew")
    parser.add_argument(
        "--ratio", action="store_true", help="compare processor time, as without valgrind"
    )
    parser.add_argument("--file", default=str(RECORDED), help="where it was recorded")
    parser.add_argument("--scale", type=float, default=1.0, help="so many times the transactions")
    parser.add_argument("--list", action="store_true", help="show the paths, and end")
    parser.add_argument("--run", metavar="PATH", help="only carry out one path")
    parser.add_argument("--run-all", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--transactions", type=int, default=400, help="how many --run carries out")
    options = parser.parse_args(arguments)
    if options.run:
        run(options.run, options.transactions)
        return 0
    if options.list:
        print("\n".join(PATHS))
        return 0
    names = [n for n in PATHS if not options.paths or any(part in n for part in options.paths)]
    if options.run_all:
        run_all(names, options.scale)
        return 0
    is_counted = shutil.which("valgrind") is not None and not options.ratio
    if is_counted:
        kind, found = "instructions", instructions(names, options.scale)
    else:
        kind, found = "ratios", {name: ratio(name, options.scale) for name in names}
    file = Path(options.file)
    recorded = json.loads(file.read_text("utf-8")) if file.exists() else {}
    if options.record:
        record(kind, found, recorded, file)
        return 0
    return compare(kind, found, recorded)


if __name__ == "__main__":
    sys.exit(main())
