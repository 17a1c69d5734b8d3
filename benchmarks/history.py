"""How long it takes to check a finished history.

    python benchmarks/history.py                         100,000 transactions; some minutes, most of
                                                         them to make the store
    python benchmarks/history.py --transactions 2000     roughly

Owns: the measurement of two things, and nothing asserts here.
  Comparing: journals that were read already against what participants have recorded: effects,
  order, keys, and isolation over all transactions.
  Reading and checking: the same from a SQLite store, every entry's hash and fields checked.
Rules:
  1. The journals are the drivers' own: one that commits and one that goes back are recorded, and
     copied under other ids, resources and tokens, one after the other, as a serial run has them.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import aumai_transactions
from aumai_transactions import StepContext, TransactionManager
from aumai_transactions.core.codec import decode
from aumai_transactions.core.definition import idempotency_key
from aumai_transactions.core.entries import Entry
from aumai_transactions.core.journal import load
from aumai_transactions.core.lock_entries import LocksGranted
from aumai_transactions.core.outcome import Summary, summary_of
from aumai_transactions.store import Append, Query
from aumai_transactions.stores.memory import MemoryStore
from aumai_transactions.stores.sqlite import SqliteStore
from aumai_transactions.testing.history import Access, HistoryChecker, check, told_by

RESOURCES = 1_000
GOES_BACK_EVERY = 5
BATCH = 500
FIRST, SECOND = "account:first", "account:second"


class Template(NamedTuple):
    """One recorded journal, and what its participant recorded."""

    bodies: list[bytes]
    summary: Summary
    accesses: list[tuple[str, str, str, int]]


def templates() -> tuple[Template, Template]:
    """Run one transaction that commits and one that goes back."""
    store, accesses = MemoryStore(), []
    with TransactionManager(store=store) as manager:

        def record(context: StepContext, kind: str) -> None:
            (resource,) = context.resources
            accesses.append((resource, context.step_id, kind, context.attempt))

        @manager.action("write", compensating_action="undo", resources=["account:{on}"])
        def write(action: str, data: dict[str, Any], context: StepContext) -> dict[str, int]:
            record(context, "write")
            return {"was": 100}

        @manager.action("undo", idempotent=True)
        def undo(action: str, data: dict[str, Any], context: StepContext) -> None:
            record(context, "undo")

        @manager.action("note", effect="none")
        def note(action: str, data: dict[str, Any]) -> float:
            return 1 / data["by"]

        found = []
        for divisor in (1, 0):
            tx = manager.begin()
            manager.add_step(tx, "teller", "write", {"on": "first", "by": -1})
            manager.add_step(tx, "teller", "write", {"on": "second", "by": 1})
            manager.add_step(tx, "auditor", "note", {"by": divisor})
            manager.commit(tx)
            journal = store.read(tx.transaction_id)
            bodies = [stored.body for stored in journal.entries]
            found.append(Template(bodies, summary_of(load(journal)), accesses[:]))
            accesses.clear()
    return found[0], found[1]


def copies(count: int) -> Iterator[tuple[Append, list[Access]]]:
    """Yield transactions one after the other, and what each did."""
    commits, goes_back = templates()
    tokens: dict[str, int] = {}
    position = 0
    for number in range(count):
        template = goes_back if number % GOES_BACK_EVERY == 0 else commits
        name = f"t{number:07}"
        first = f"account:{number % RESOURCES}"
        places = {FIRST: first, SECOND: f"account:{(number + 1) % RESOURCES}"}
        for place in places.values():
            tokens[place] = tokens.get(place, 0) + 1
        entries = [entry_of(body, number, places, tokens) for body in template.bodies]
        accesses = []
        for resource, step_id, kind, attempt in template.accesses:
            position += 1
            place = places[resource]
            key = idempotency_key(name, step_id, "compensation" if kind == "undo" else "action")
            held = (kind, tokens[place], key, attempt)
            accesses.append(Access(position, place, name, step_id, *held))
        summary = template.summary._replace(transaction_id=name)
        claim = {"token": 1, "driver_id": "teller"}
        yield Append(name, 0, f"a{number}", entries, summary, **claim), accesses


def entry_of(body: bytes, number: int, places: dict[str, str], tokens: dict[str, int]) -> Entry:
    """Return a recorded entry about other resources."""
    for name, place in places.items():
        body = body.replace(name.encode(), place.encode())
    _entry_id, entry = decode(body, "template", number)
    if isinstance(entry, LocksGranted):
        grants = tuple(grant._replace(token=tokens[grant.name]) for grant in entry.grants)
        return entry._replace(grants=grants)
    return entry


def fill(store: SqliteStore, count: int) -> list[Access]:
    """Write the store; return what the participants have recorded."""
    driver_id = store.join()
    accesses: list[Access] = []
    made = copies(count)
    while batch := list(islice(made, BATCH)):
        store.append([append._replace(driver_id=driver_id) for append, _found in batch])
        for _append, found in batch:
            accesses += found
    return accesses


def measured(count: int, folder: str) -> list[dict[str, object]]:
    """Make a store and check it; return the figures."""
    store = SqliteStore(str(Path(folder) / "history.db"), create=True)
    try:
        accesses = fill(store, count)
        begun, cpu = time.perf_counter(), time.process_time()
        report = check(store, accesses, is_complete=False)
        whole = (time.perf_counter() - begun, time.process_time() - cpu)
        told = []
        query = Query(limit=BATCH)
        while found := store.find(query):
            told += [told_by(store.read(one.summary.transaction_id)) for one in found]
            query = query._replace(after=found[-1].position)
        begun, cpu = time.perf_counter(), time.process_time()
        checker = HistoryChecker(accesses)
        for one in told:
            checker.take(one)
        compared = checker.report()
        parsed = (time.perf_counter() - begun, time.process_time() - cpu)
    finally:
        store.close()
    rows = [("comparing journals already read", parsed, compared)]
    rows.append(("reading and checking a SQLite store", whole, report))
    return [
        {
            "what": what,
            "transactions": found.transactions,
            "entries": found.entries,
            "accesses": found.accesses,
            "seconds": round(seconds, 3),
            "cpu_seconds": round(cpu_seconds, 3),
            "problems": len(found.problems),
        }
        for what, (seconds, cpu_seconds), found in rows
    ]


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description="How long it takes to check a finished history.")
    parser.add_argument("--transactions", type=int, default=100_000)
    parser.add_argument("--folder", default=None, help="where to make the store")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        figures = measured(options.transactions, folder)
    machine = f"aumai-transactions {aumai_transactions.__version__}, {platform.platform()}"
    if options.json:
        print(json.dumps({"machine": machine, "figures": figures}, indent=2))
        return
    print(machine)
    for figure in figures:
        rate = figure["transactions"] / figure["cpu_seconds"]
        print(
            f"{figure['what']:<38} {figure['seconds']:>8.2f} s ({figure['cpu_seconds']:.2f} s of "
            f"processor) for {figure['transactions']:,} transactions, {figure['entries']:,} "
            f"entries, {figure['accesses']:,} accesses: {rate:,.0f}/s, "
            f"{figure['problems']} problems"
        )


if __name__ == "__main__":
    sys.exit(main())
