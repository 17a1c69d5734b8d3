"""A table of locks that is kept in memory.

Owns: how appends change it, one after the other: for the store in memory, and for a store that
settles a batch of appends before it writes them down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core.locking import (
    LATEST,
    Change,
    Fence,
    Holding,
    Lock,
    LockTable,
    change_of,
    is_refused,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence


class LockBook:
    """Hold who holds which resource, and who waits for it.

    Args:
        locks: The locks to begin with.
        fences: What is remembered about their resources.
        last_ticket: Tickets are given out from the next one on.
    """

    def __init__(
        self,
        locks: Iterable[Lock] = (),
        fences: Mapping[str, Fence] | None = None,
        last_ticket: int = 0,
    ) -> None:
        self._by_resource: dict[str, list[Lock]] = {}
        self._by_transaction: dict[str, list[Lock]] = {}
        self._waited_for: dict[str, int] = {}
        self._fences = dict(fences or {})
        self._last_ticket = last_ticket
        for lock in locks:
            self._add(lock)

    @classmethod
    def of_batch(cls, locks: Iterable[Lock], fences: Mapping[str, Fence]) -> LockBook:
        """Return a book for a batch: tickets in it stand behind all that were given out."""
        return cls(locks, fences, LATEST)

    def take(
        self,
        transaction_id: str,
        holdings: Sequence[Holding] | None,
        reads: Iterable[tuple[str, int]],
    ) -> Change | None:
        """Let a transaction hold what its append says.

        Args:
            transaction_id: The transaction.
            holdings: What it holds and waits for from then on; None where that does not change.
            reads: Resources and the versions in which it has read them.

        Returns:
            What has changed; None where it must not be, and nothing has.
        """
        reads = tuple(reads)
        mine = self._by_transaction.get(transaction_id, [])
        named = {lock.resource for lock in mine}
        named |= {holding.resource for holding in holdings or ()}
        table = self.table(named | {name for name, _version in reads}, circles=False)
        if is_refused(table, transaction_id, holdings or (), reads):
            return None
        if holdings is None:
            return Change([], [], [])
        change = change_of(table, transaction_id, holdings)
        for lock in change.gone:
            self._remove(lock)
        for resource, mode, token, cost in (*change.granted, *change.queued):
            self._last_ticket += 1
            self._add(Lock(resource, mode, transaction_id, token, self._last_ticket, cost))
            if token is not None:
                version = token if mode == "exclusive" else self._fence(resource).version
                self._fences[resource] = Fence(token, version)
        return change

    def table(self, resources: Collection[str] | None, *, circles: bool = True) -> LockTable:
        """Return who holds and who waits for what.

        Args:
            resources: Of these; None for all that are locked.
            circles: True to add all resources that anybody waits for.
        """
        asked = set(self._by_resource if resources is None else resources)
        names = asked | self._waited_for.keys() if circles else asked
        locks = [lock for name in sorted(names) for lock in self._by_resource.get(name, ())]
        return LockTable(locks, {name: self._fence(name) for name in asked})

    def _fence(self, resource: str) -> Fence:
        return self._fences.get(resource) or Fence()

    def _add(self, lock: Lock) -> None:
        self._by_resource.setdefault(lock.resource, []).append(lock)
        self._by_transaction.setdefault(lock.transaction_id, []).append(lock)
        if lock.token is None:
            self._waited_for[lock.resource] = self._waited_for.get(lock.resource, 0) + 1

    def _remove(self, lock: Lock) -> None:
        for index, key in (
            (self._by_resource, lock.resource),
            (self._by_transaction, lock.transaction_id),
        ):
            index[key].remove(lock)
            if not index[key]:
                del index[key]
        if lock.token is None:
            self._waited_for[lock.resource] -= 1
            if not self._waited_for[lock.resource]:
                del self._waited_for[lock.resource]
