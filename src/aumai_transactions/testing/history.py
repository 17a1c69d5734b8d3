"""Whether what happened could have happened one transaction after the other.

Owns: the proof of isolation, from the journals of a store and from what the participants' own
databases have recorded. It needs no test runner.
Rules:
  1. Nothing is taken on trust: not the drivers' word that something was locked, nor a handler's
     that it did something. Journals and participants have to agree.
  2. What is found is told in sentences, each of which names the transactions and the resource.

Source of the idea: conflict serializability by precedence graphs, as in Bernstein, Hadzilacos and
Goodman, Concurrency Control and Recovery in Database Systems (1987), chapter 2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from aumai_transactions.core.entries import TransactionCommitted, TransactionRolledBack
from aumai_transactions.core.journal import Journal, entries
from aumai_transactions.core.lock_entries import Grant, LocksGranted
from aumai_transactions.store import Query, Store

Kind = Literal["read", "write", "undo"]


class Access(NamedTuple):
    """Say that a participant has let a transaction at a resource, as its own database has it.

    Args:
        position: Its place in the order in which the participant committed; over all resources.
        resource: The resource's canonical name.
        transaction_id: On behalf of which transaction.
        step_id: Of which of its steps.
        kind: `read`, `write`, or `undo` of what the step has written.
        token: The fencing token that came with the call; None where none did.
    """

    position: int
    resource: str
    transaction_id: str
    step_id: str
    kind: Kind
    token: int | None


class _Told(NamedTuple):
    """Hold what the journals say that matters here."""

    states: Mapping[str, str]
    grants: Mapping[str, Sequence[Grant]]


def problems_of(store: Store, accesses: Iterable[Access], *, page: int = 500) -> list[str]:
    """Return what speaks against the claim that the committed transactions were isolated.

    Args:
        store: The journals; read to the end.
        accesses: What the participants have recorded, in any order.
        page: How many journals are looked for at once.

    Returns:
        Sentences; none where the history is one that a serial execution could have had, where no
        transaction came in between another one's first and last access of what it held, where every
        access had a token that its transaction was granted, and where what was undone was done.

    Raises:
        JournalCorrupt: A journal is damaged.
    """
    ordered = sorted(accesses)
    told = _read(store, page)
    return [
        *_of_tokens(told, ordered),
        *_of_grants(told),
        *_in_between(ordered),
        *_half_done(told, ordered),
        *_circles(told, ordered),
    ]


def _read(store: Store, page: int) -> _Told:
    states: dict[str, str] = {}
    grants: dict[str, list[Grant]] = {}
    query = Query(limit=page)
    while True:
        found = store.find(query)
        for listed in found:
            name = listed.summary.transaction_id
            journal = store.read(name)
            if journal is not None:
                states[name], grants[name] = _said(journal)
        if len(found) < page:
            return _Told(states, grants)
        query = query._replace(after=found[-1].position)


def _said(journal: Journal) -> tuple[str, list[Grant]]:
    state = "open"
    grants: list[Grant] = []
    for _entry_id, entry in entries(journal):
        if isinstance(entry, LocksGranted):
            grants += entry.grants
        elif isinstance(entry, TransactionCommitted):
            state = "committed"
        elif isinstance(entry, TransactionRolledBack):
            state = "rolled_back"
    return state, grants


def _of_tokens(told: _Told, accesses: Sequence[Access]) -> Iterator[str]:
    """Yield accesses with a token that was not theirs, or that is older than one seen before."""
    highest: dict[str, Access] = {}
    for access in accesses:
        grants = told.grants.get(access.transaction_id, ())
        fitting = [
            grant
            for grant in grants
            if grant.name == access.resource
            and grant.token == access.token
            and (access.kind == "read" or grant.mode == "exclusive")
        ]
        if not fitting:
            yield f"{_shown(access)} with token {access.token}, which it was never granted for that"
        before = highest.get(access.resource)
        stale = (
            before is not None
            and access.token is not None
            and before.token is not None
            and access.token < before.token
            and "write" in (before.kind, access.kind)
        )
        if stale and before is not None:
            late = f"{_shown(access)} with token {access.token}"
            yield f"{late} after {_shown(before)} with a newer one"
        if before is None or (access.token or 0) > (before.token or 0):
            highest[access.resource] = access


def _of_grants(told: _Told) -> Iterator[str]:
    """Yield tokens of one resource that were granted twice."""
    count = Counter(
        (grant.name, grant.token) for grants in told.grants.values() for grant in grants
    )
    for (name, token), times in count.items():
        if times > 1:
            yield f"token {token} of {name} was granted {times} times"


def _in_between(accesses: Sequence[Access]) -> Iterator[str]:
    """Yield accesses that came in between another transaction's, one of them having written."""
    by_resource: dict[str, list[Access]] = {}
    for access in accesses:
        by_resource.setdefault(access.resource, []).append(access)
    for of_resource in by_resource.values():
        last = {access.transaction_id: access.position for access in of_resource}
        wrote = {a.transaction_id for a in of_resource if a.kind != "read"}
        open_now: dict[str, Access] = {}
        for access in of_resource:
            for name, first in list(open_now.items()):
                if last[name] < access.position:
                    del open_now[name]
                elif name != access.transaction_id and wrote & {name, access.transaction_id}:
                    yield f"{_shown(access)} in between what {_shown(first)} began and ended"
            open_now.setdefault(access.transaction_id, access)


def _half_done(told: _Told, accesses: Sequence[Access]) -> Iterator[str]:
    """Yield steps that were done twice, or undone twice, or are left half done."""
    count = Counter((a.transaction_id, a.step_id, a.resource, a.kind) for a in accesses)
    for (name, step_id, resource, kind), times in count.items():
        if times > 1 and kind != "read":
            yield f"{name} step {step_id} was to {kind} {resource} once, and did {times} times"
    for name, step_id, resource, kind in list(count):
        state = told.states.get(name, "unknown")
        is_undone = count[name, step_id, resource, "undo"] > 0
        if kind == "write" and state == "committed" and is_undone:
            continue  # A part of it was undone, which the journal says.
        if kind == "write" and state == "rolled_back" and not is_undone:
            yield f"{name} is rolled back, and its step {step_id} still stands at {resource}"
        if kind == "undo" and not count[name, step_id, resource, "write"]:
            yield f"{name} step {step_id} was undone at {resource}, and never done"
        if state not in ("committed", "rolled_back"):
            yield f"{name} is {state}, and has had {resource}"


def _circles(told: _Told, accesses: Sequence[Access]) -> Iterator[str]:
    """Yield committed transactions of which each came before the other."""
    after: dict[str, set[str]] = {}
    writers: dict[str, str] = {}
    readers: dict[str, set[str]] = {}
    for access in accesses:
        name, resource = access.transaction_id, access.resource
        if told.states.get(name) != "committed":
            continue
        writer = writers.get(resource)
        if writer is not None and writer != name:
            after.setdefault(writer, set()).add(name)
        if access.kind == "read":
            readers.setdefault(resource, set()).add(name)
            continue
        for reader in readers.pop(resource, set()) - {name}:
            after.setdefault(reader, set()).add(name)
        writers[resource] = name
    circle = _circle_in(after)
    if circle:
        yield f"no order of these explains what they saw: {' before '.join(circle)}"


def _circle_in(after: Mapping[str, set[str]]) -> list[str]:
    """Return a way through a graph that ends where it began; empty where there is none."""
    done: set[str] = set()
    for start in after:
        path: list[str] = []
        on_path: set[str] = set()
        todo: list[tuple[str, bool]] = [(start, False)]
        while todo:
            name, is_left = todo.pop()
            if is_left:
                path.pop()
                on_path.discard(name)
                done.add(name)
            elif name in on_path:
                return [*path[path.index(name) :], name]
            elif name not in done:
                path.append(name)
                on_path.add(name)
                todo.append((name, True))
                todo += [(other, False) for other in after.get(name, ())]
    return []


def _shown(access: Access) -> str:
    kinds = {"read": "read", "write": "wrote", "undo": "undid"}
    return f"{access.transaction_id} step {access.step_id} {kinds[access.kind]} {access.resource}"
