"""Whether what happened could have happened one transaction after the other.

Owns: the proof of isolation (I10), over all transactions and all participants.

Source of the idea: conflict serializability by precedence graphs, as in Bernstein, Hadzilacos and
Goodman, Concurrency Control and Recovery in Database Systems (1987), chapter 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.testing.history.effects import shown
from aumai_transactions.testing.history.records import Access, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


def stale_accesses(accesses: Iterable[Access]) -> Iterator[Problem]:
    """Yield accesses with a token that is older than one that was seen there before."""
    highest: dict[str, Access] = {}
    for access in accesses:
        if access.resource is None:
            continue
        before = highest.get(access.resource)
        if before is None:
            highest[access.resource] = access
            continue
        old, new = before.token, access.token
        if (
            old is not None
            and new is not None
            and new < old
            and not before.kind == access.kind == "read"
        ):
            late = f"{shown(access)} with token {new} after {shown(before)} with a newer one"
            yield Problem("I10", (access.transaction_id, before.transaction_id), late)
        if (new or 0) > (old or 0):
            highest[access.resource] = access


def in_between(accesses: Iterable[Access]) -> Iterator[Problem]:
    """Yield accesses that came in between another transaction's, one of them having written."""
    by_resource: dict[str, list[Access]] = {}
    for access in accesses:
        if access.resource is not None:
            by_resource.setdefault(access.resource, []).append(access)
    for of_resource in by_resource.values():
        last = {access.transaction_id: access.position for access in of_resource}
        wrote = {access.transaction_id for access in of_resource if access.kind != "read"}
        open_now: dict[str, Access] = {}
        for access in of_resource:
            for name, first in list(open_now.items()):
                if last[name] < access.position:
                    del open_now[name]
                elif name != access.transaction_id and wrote & {name, access.transaction_id}:
                    text = f"{shown(access)} in between what {shown(first)} began and ended"
                    yield Problem("I10", (access.transaction_id, name), text)
            open_now.setdefault(access.transaction_id, access)


def circles(states: Mapping[str, str], accesses: Sequence[Access]) -> Iterator[Problem]:
    """Yield committed transactions of which each came before the other."""
    after: dict[str, set[str]] = {}
    writers: dict[str, str] = {}
    readers: dict[str, set[str]] = {}
    for access in accesses:
        name, resource = access.transaction_id, access.resource
        if resource is None or states.get(name) != "committed":
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
        text = f"no order of these explains what they saw: {' before '.join(circle)}"
        yield Problem("I10", tuple(dict.fromkeys(circle)), text)


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
