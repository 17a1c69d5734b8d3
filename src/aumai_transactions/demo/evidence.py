"""What is true in the world, read from the services' own databases.

Owns: the evidence, and the judgement whether a trip is whole.
Rules:
  1. Nothing here asks a service or a journal: the databases are opened as files, for reading.
  2. The judgement is a pure function of what was found and of what the journal claims.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SERVICES: Final = ("flights", "hotels", "payments")

# What each state says about the world; a state that is missing here is not final.
_CLAIMS: Final = {"committed": 1, "rolled_back": 0, "failed": 0}


@dataclass(frozen=True, slots=True)
class Holding:
    """Hold one thing that stands in a service's books now: a seat, a room, a charge.

    Args:
        service: Whose books.
        number: Its number there.
        transaction_id: The transaction that took it.
        step_id: The step that took it.
        what: A few words for a person.
        arrivals: How often the call that took it arrived.
    """

    service: str
    number: int
    transaction_id: str
    step_id: str
    what: str
    arrivals: int = 1


def holdings(database_paths: Mapping[str, Path]) -> dict[str, list[Holding]]:
    """Return what stands in each service's books, oldest first.

    Args:
        database_paths: The SQLite file of each service, by the service's name.
    """
    return {service: list(_read(service, path)) for service, path in database_paths.items()}


def _reading(path: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True))


def _read(service: str, path: Path) -> Iterator[Holding]:
    with _reading(path) as database:
        rows = database.execute(
            "SELECT number, holdings.transaction_id, holdings.step_id, what, coalesce(arrivals, 1)"
            " FROM holdings LEFT JOIN aumai_barrier USING (key) ORDER BY number"
        )
        for number, transaction_id, step_id, what, arrivals in rows.fetchall():
            yield Holding(service, number, transaction_id, step_id, what, arrivals)


@dataclass(frozen=True, slots=True)
class Event:
    """Hold one line of what a service wrote down.

    Args:
        service: Whose books.
        at: When, microseconds since 1970 UTC, by the clock of the machine.
        transaction_id: On whose behalf.
        event: `done`, `refused`, `undone`, `nothing to undo` or `asked again`.
        what: A few words for a person.
    """

    service: str
    at: int
    transaction_id: str
    event: str
    what: str


def events(database_paths: Mapping[str, Path]) -> list[Event]:
    """Return what all services wrote down, in the order of time."""
    found = []
    for service, path in database_paths.items():
        with _reading(path) as database:
            rows = database.execute(
                "SELECT at, transaction_id, event, what FROM events ORDER BY number"
            )
            found += [Event(service, *row) for row in rows]
    # Why it is stable: two lines of one service at the same moment stay in their order.
    return sorted(found, key=lambda event: event.at)


def counts(found: Mapping[str, Iterable[Holding]]) -> dict[str, Counter[str]]:
    """Return how much each transaction holds in each service: transaction, then service."""
    counted: dict[str, Counter[str]] = {}
    for service, rows in found.items():
        for row in rows:
            counted.setdefault(row.transaction_id, Counter())[service] += 1
    return counted


def partial_trips(
    states: Mapping[str, str],
    found: Mapping[str, Iterable[Holding]],
    services: Iterable[str] = SERVICES,
) -> list[str]:
    """Return what is wrong with the trips, a sentence each; nothing where each trip is whole.

    A trip is whole where its transaction is final, and each service holds exactly one thing for
    it if it is committed, and nothing if it is not.

    Args:
        states: The state that the journal claims, by transaction id.
        found: What each service holds.
        services: The services that a trip needs.
    """
    wrong = []
    counted = counts(found)
    for transaction_id, state in states.items():
        claimed = _CLAIMS.get(state)
        if claimed is None:
            wrong.append(f"{transaction_id} is {state}, which is not final")
            continue
        held = counted.get(transaction_id, Counter())
        wrong += [
            f"{transaction_id} is {state}, but {service} holds {held[service]} for it"
            for service in services
            if held[service] != claimed
        ]
    wrong += [
        f"{transaction_id or 'nobody'} holds {', '.join(sorted(held))}, and no trip is known for it"
        for transaction_id, held in counted.items()
        if transaction_id not in states
    ]
    return wrong
