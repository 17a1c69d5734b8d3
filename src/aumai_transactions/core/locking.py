"""Who may hold which resource, and whose turn it is.

Owns: the rules of isolation between transactions, as functions of what the store showed.
Rules:
  1. Two transactions never hold a resource at once, unless both share it. The store checks this
     itself, in the append; what it showed before may be old.
  2. First come, first served; but nobody waits behind a transaction that waits for them.
  3. Who waits in a circle is told by the table alone, so that everybody names the same one to give
     way: the one that is cheapest to undo, and of those the one that came last.

Source of the idea: wait-for graphs as in Gray and Reuter, Transaction Processing (1992), chapter 7;
fencing tokens as in Martin Kleppmann, How to do distributed locking (2016).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from aumai_transactions.core.definition import LockMode, ResourceUse

LATEST = 2**62
"""Stands for the place in the queue of whoever has none yet: behind everybody."""


class Holding(NamedTuple):
    """Say what one transaction holds, or waits for, of one resource.

    Args:
        resource: Its canonical name.
        mode: `exclusive` or `shared`.
        token: The fencing token of the grant; None while it waits.
        cost: How much there is to undo of the transaction, as of when it began to wait.
    """

    resource: str
    mode: LockMode
    token: int | None
    cost: int = 0


class Lock(NamedTuple):
    """Hold one line of the store's table of locks.

    Args:
        resource: The resource's canonical name.
        mode: `exclusive` or `shared`.
        transaction_id: Who holds it, or waits for it.
        token: The fencing token of the grant; None while it waits.
        ticket: The place in the queue: lower ones came first.
        cost: How much there is to undo of the transaction.
    """

    resource: str
    mode: LockMode
    transaction_id: str
    token: int | None
    ticket: int
    cost: int = 0

    @property
    def is_new(self) -> bool:
        """True where no store has given it its ticket yet."""
        return self.ticket >= LATEST


class Fence(NamedTuple):
    """Hold what is remembered about a resource, whoever holds it.

    Args:
        token: The last fencing token that was granted for it; 0 for none.
        version: The last one that was granted exclusively: what was read under an earlier one may
            have changed.
    """

    token: int = 0
    version: int = 0


class LockTable(NamedTuple):
    """Hold what the store showed: locks, and what is remembered about their resources."""

    locks: Sequence[Lock] = ()
    fences: Mapping[str, Fence] = {}

    def fence(self, resource: str) -> Fence:
        """Return what is remembered about a resource."""
        return self.fences.get(resource, _NOTHING)


_NOTHING = Fence()


def conflict(one: LockMode, other: LockMode) -> bool:
    """Tell whether two may not hold a resource at once."""
    return one == "exclusive" or other == "exclusive"


def holders_in_the_way(
    locks: Iterable[Lock], transaction_id: str, resource: str, mode: LockMode
) -> list[str]:
    """Return the other transactions whose hold on a resource forbids this one."""
    return [
        lock.transaction_id
        for lock in locks
        if lock.resource == resource
        and lock.token is not None
        and lock.transaction_id != transaction_id
        and conflict(lock.mode, mode)
    ]


def is_refused(
    table: LockTable,
    transaction_id: str,
    holdings: Iterable[Holding],
    reads: Iterable[tuple[str, int]],
) -> bool:
    """Tell whether a store must not let a transaction hold this, or commit after having read that.

    Args:
        table: The locks and fences of all these resources, as they are now.
        transaction_id: The transaction.
        holdings: What it is to hold and to wait for, all of it.
        reads: Resources and the versions in which it has read them.
    """
    mine = {lock.resource: lock for lock in table.locks if _holds(lock, transaction_id)}
    for holding in holdings:
        known = mine.get(holding.resource)
        if holding.token is None or (known is not None and known.token == holding.token):
            continue
        if holding.token != table.fence(holding.resource).token + 1:
            return True
        if holders_in_the_way(table.locks, transaction_id, holding.resource, holding.mode):
            return True
    for resource, version in reads:
        last = table.fence(resource).version
        known = mine.get(resource)
        if last != version and (known is None or known.token != last):
            return True
    return False


def whose_turn(locks: Iterable[Lock], changes: Mapping[str, Sequence[Change]]) -> list[str]:
    """Return the transactions that should look now whether they can have what they wait for.

    Of what was let go of, those that are first in line: where they wait for something else as well,
    they look in vain, once. Who stands in line from now on, or stays there, only where nothing at
    all is in their way: it may have become free after they had looked.

    Args:
        locks: All locks on these resources, with the changes.
        changes: What has changed, by transaction.
    """
    queues = _Queues(locks)
    found: dict[str, None] = {}
    for resource in sorted({name for one in changes.values() for c in one for name in c.freed}):
        held = queues.holders.get(resource, ())
        for place, lock in enumerate(queues.waiters.get(resource, ())):
            is_alone = lock.mode == "exclusive"
            if holders_in_the_way(held, lock.transaction_id, resource, lock.mode):
                break
            if is_alone and place:
                break
            found[lock.transaction_id] = None
            if is_alone:
                break
    for name, of_one in changes.items():
        if of_one[-1].waits and not queues.in_the_way(name, of_one[-1].waits):
            found[name] = None
    return list(found)


class Change(NamedTuple):
    """Say what becomes of one transaction's lines in the table of locks.

    Args:
        gone: The lines that are no more.
        granted: What it holds from now on.
        queued: What it waits for from now on.
        waits: All that it waits for, new or not.
    """

    gone: list[Lock]
    granted: list[Holding]
    queued: list[Holding]
    waits: tuple[ResourceUse, ...] = ()

    @property
    def freed(self) -> set[str]:
        """The resources whose queues may move on by this."""
        return {lock.resource for lock in self.gone}


def change_of(table: LockTable, transaction_id: str, holdings: Iterable[Holding]) -> Change:
    """Return what has to change so that the table says of a transaction what its journal says."""
    wanted = {(holding.resource, holding.token is None): holding for holding in holdings}
    waits = tuple(ResourceUse(h.resource, h.mode) for h in wanted.values() if h.token is None)
    gone = []
    for lock in table.locks:
        if lock.transaction_id != transaction_id:
            continue
        place = (lock.resource, lock.token is None)
        holding = wanted.get(place)
        if holding is None or (holding.token, holding.mode) != (lock.token, lock.mode):
            gone.append(lock)
        else:
            del wanted[place]
    granted = [holding for holding in wanted.values() if holding.token is not None]
    queued = [holding for holding in wanted.values() if holding.token is None]
    return Change(gone, granted, queued, waits)


def _holds(lock: Lock, transaction_id: str) -> bool:
    return lock.transaction_id == transaction_id and lock.token is not None


def in_the_way(
    table: LockTable, transaction_id: str, wanted: Sequence[ResourceUse]
) -> tuple[str, ...]:
    """Return the transactions that one has to wait for before it may hold what it wants.

    Of a long queue, those are left out that stand behind somebody who is named.

    Args:
        table: What the store showed.
        transaction_id: Who wants it.
        wanted: What, all at once.
    """
    return _Queues(table.locks).in_the_way(transaction_id, wanted)


class _Queues:
    """Hold a table of locks by resource: who holds it, and who waits, first come first."""

    def __init__(self, locks: Iterable[Lock]) -> None:
        self.holders: dict[str, list[Lock]] = {}
        self.waiters: dict[str, list[Lock]] = {}
        self.waits: dict[str, list[Lock]] = {}
        self.holds: dict[str, list[Lock]] = {}
        self._waiting_for: dict[str, set[str]] = {}
        for lock in locks:
            if lock.token is not None:
                self.holders.setdefault(lock.resource, []).append(lock)
                self.holds.setdefault(lock.transaction_id, []).append(lock)
                continue
            self.waiters.setdefault(lock.resource, []).append(lock)
            self.waits.setdefault(lock.transaction_id, []).append(lock)
        for queue in self.waiters.values():
            queue.sort(key=lambda lock: lock.ticket)

    def in_the_way(self, transaction_id: str, wanted: Iterable[ResourceUse]) -> tuple[str, ...]:
        """Return whom a transaction has to wait for before it may hold what it wants."""
        found: dict[str, None] = {}
        for name, mode in wanted:
            held = self.holders.get(name, ())
            found |= dict.fromkeys(holders_in_the_way(held, transaction_id, name, mode))
            for lock in reversed(self._before(transaction_id, name)):
                if not conflict(lock.mode, mode):
                    continue
                if lock.transaction_id not in found and self._waits_for(lock, transaction_id):
                    continue
                found[lock.transaction_id] = None
                if lock.mode == "exclusive":
                    break  # It waits itself for all that stand before it.
        return tuple(found)

    def _before(self, transaction_id: str, name: str) -> list[Lock]:
        """Return those who stand in line for a resource before a transaction."""
        queue = self.waiters.get(name, [])
        for index, lock in enumerate(queue):
            if lock.transaction_id == transaction_id:
                return queue[:index]
        return queue

    def _waits_for(self, lock: Lock, transaction_id: str) -> bool:
        """Tell whether who stands in line cannot go on before a transaction does."""
        if transaction_id not in self.holds and len(self.waits.get(transaction_id, ())) < 2:
            return False  # Whoever stands behind it in its one line does not stand before it.
        known = self._waiting_for.get(transaction_id)
        if known is None:
            known = self._waiting_for[transaction_id] = self._behind(transaction_id)
        return lock.transaction_id in known

    def _behind(self, transaction_id: str) -> set[str]:
        """Return those that wait for what a transaction holds or stand in line behind it.

        Directly or not. Why the lines as well: who stands behind one that waits cannot go on before
        that one does, so that to wait for them would be to wait for oneself.
        """
        found: set[str] = set()
        known: dict[str, int] = {}
        waiting = [transaction_id]
        while waiting:
            name = waiting.pop()
            for lock in (*self.holds.get(name, ()), *self.waits.get(name, ())):
                since = lock.ticket if lock.token is None else -1
                if known.get(lock.resource, since + 1) <= since:
                    continue  # All these have been found; so a long line is gone through once.
                if lock.mode == "exclusive":
                    known[lock.resource] = since
                for other in self.waiters.get(lock.resource, ()):
                    is_behind = other.ticket > since and conflict(other.mode, lock.mode)
                    if is_behind and other.transaction_id not in found:
                        found.add(other.transaction_id)
                        waiting.append(other.transaction_id)
        return found

    def holders_waited_for(self, transaction_id: str) -> set[str]:
        """Return those that hold what a transaction waits for, and are in its way."""
        return {
            other
            for lock in self.waits.get(transaction_id, ())
            for other in holders_in_the_way(
                self.holders.get(lock.resource, ()), transaction_id, lock.resource, lock.mode
            )
        }


def reached(ways: Callable[[str], set[str]], start: str) -> set[str]:
    """Return all that can be reached from a place, by one step at least."""
    found: set[str] = set()
    waiting = list(ways(start))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += ways(name)
    return found


def victim_of(
    table: LockTable, transaction_id: str, wanted: Sequence[ResourceUse], cost: int
) -> str | None:
    """Return who has to give way where a transaction waits in a circle; None where it does not.

    Args:
        table: What the store showed.
        transaction_id: Who wants something.
        wanted: What.
        cost: How much there is to undo of it, where the table does not say so yet.
    """
    queued = {lock.resource for lock in table.locks if _waits(lock, transaction_id)}
    new = [
        Lock(use.name, use.mode, transaction_id, None, LATEST, cost)
        for use in wanted
        if use.name not in queued
    ]
    queues = _Queues([*table.locks, *new])
    # Why no lines: nobody waits behind one who waits for them, so that no line is in a circle.
    ways = queues.holders_waited_for
    around = reached(ways, transaction_id)
    if transaction_id not in around:
        return None
    circle = {name for name in around if transaction_id in reached(ways, name)}

    def price(name: str) -> tuple[int, int, str]:
        mine = queues.waits[name]
        return min(lock.cost for lock in mine), -max(lock.ticket for lock in mine), name

    return min(circle, key=price)


def _waits(lock: Lock, transaction_id: str) -> bool:
    return lock.transaction_id == transaction_id and lock.token is None


def is_out_of_line(
    transaction_id: str, holdings: Iterable[Holding] | None, table: LockTable
) -> bool:
    """Tell whether somebody else has taken a transaction out of a line that it stood in.

    Args:
        transaction_id: The transaction.
        holdings: What the store was told last of what it holds and waits for; None where that is
            not known.
        table: What the store showed since.
    """
    lines = {lock.resource for lock in table.locks if _waits(lock, transaction_id)}
    waits = (holding.resource for holding in holdings or () if holding.token is None)
    return any(resource not in lines for resource in waits)


def place_in_queue(table: LockTable, transaction_id: str, wanted: Sequence[ResourceUse]) -> int:
    """Return how many stand before a transaction in the longest queue that it stands in."""
    names = {use.name for use in wanted}
    mine: dict[str, int] = {}
    for lock in table.locks:
        if _waits(lock, transaction_id):
            mine[lock.resource] = lock.ticket
    before = dict.fromkeys(names, 0)
    for lock in table.locks:
        is_before = lock.token is None and lock.ticket < mine.get(lock.resource, LATEST)
        if lock.resource in names and is_before:
            before[lock.resource] += 1
    return max(before.values(), default=0)
