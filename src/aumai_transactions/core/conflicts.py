"""What others have changed since a transaction has read it, found out before its commit.

Owns: which changes a program is told of, and what it can do about each.
Rules:
  1. A change is told once it can no longer be taken back: when nobody holds the resource any more
     under the token of the change.
  2. Each resource and version is told once.
  3. Nothing here decides anything. What may be committed is decided by the versions alone, in the
     append that commits: `isolation.reads_to_check`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aumai_transactions.core.isolation import has_read, reads_in_force
from aumai_transactions.core.planning import may_have_decided
from aumai_transactions.core.scopes import is_in_force
from aumai_transactions.core.states import ACTIVE, STEP_SUCCEEDED
from aumai_transactions.models import ConflictNotice

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aumai_transactions.core.locking import LockTable
    from aumai_transactions.core.saga import Saga, SagaStep


class Changed(NamedTuple):
    """Say that a resource is not as it was read any more.

    Args:
        resource: Its canonical name.
        version_read: The version in which it was read.
        version_now: The version it has now.
        holder: The transaction that held it exclusively under that version; None where it was not
            seen while it did.
    """

    resource: str
    version_read: int
    version_now: int
    holder: str | None


def may_be_told(saga: Saga) -> bool:
    """True while a program can still do something about what has changed."""
    goes_on = saga.state is ACTIVE and saga.rollback_requested is None and saga.denied is None
    return goes_on and saga.decided_at is None and not may_have_decided(saga)


class Lookout:
    """Remember, for one transaction, what was seen of others, and what was told."""

    def __init__(self) -> None:
        self._told: set[tuple[str, int]] = set()
        self._held: dict[str, tuple[int, str]] = {}

    def compare(self, saga: Saga, table: LockTable) -> list[Changed]:
        """Return what is to be told now, and take it for told.

        Args:
            saga: The transaction.
            table: What the store has shown of what it has read; it may be older than the saga.
        """
        found = []
        reads = reads_in_force(saga) if may_be_told(saga) else {}
        for name, version in reads.items():
            if name in table.fences:
                changed = self._compare(name, version, table)
                if changed is not None and (name, changed.version_now) not in self._told:
                    self._told.add((name, changed.version_now))
                    found.append(changed)
        return found

    def _compare(self, name: str, version: int, table: LockTable) -> Changed | None:
        last = table.fence(name).version
        # Why only those that were seen: of an earlier one that nobody saw it is not known whether
        # it was exclusive.
        before = self._held.pop(name, None)
        holder = next(
            (
                lock.transaction_id
                for lock in table.locks
                if lock.resource == name and lock.token == last and lock.mode == "exclusive"
            ),
            None,
        )
        if holder is not None:
            self._held[name] = last, holder
        elif last > version:
            seen = before[1] if before is not None and before[0] == last else None
            return Changed(name, version, last, seen)
        if before is not None and version < before[0] < last:
            # Why now: where the holders of something follow each other closely, it may never be
            # seen free, and all but the last of them have ended.
            return Changed(name, version, before[0], before[1])
        return None


def notice_of(saga: Saga, changed: Changed, now: int, *, is_certain: bool) -> ConflictNotice | None:
    """Return what a program is told.

    None where that does not hinder the commit any more: what had read it was undone meanwhile.

    Args:
        saga: The transaction.
        changed: What has changed.
        now: Microseconds since 1970 UTC.
        is_certain: True where it is known that the holder has committed.
    """
    if reads_in_force(saga).get(changed.resource) != changed.version_read or not may_be_told(saga):
        return None
    readers = [saga.steps[index] for index in _readers(saga, changed.resource)]
    return ConflictNotice(
        transaction_id=saga.transaction_id,
        resource=changed.resource,
        version_read=changed.version_read,
        version_now=changed.version_now,
        is_certain=is_certain,
        changed_by=changed.holder if is_certain else None,
        steps=[step.step_id for step in readers],
        can_read_again=bool(readers) and all(_can_be_undone(step, now) for step in readers),
        can_be_rolled_back=True,
    )


def _readers(saga: Saga, name: str) -> Iterable[int]:
    indexes = () if saga.locks is None else saga.locks.readers.get(name, ())
    # Why each once: a step that was called again stands there again.
    return dict.fromkeys(index for index in indexes if has_read(saga.steps[index]))


def _can_be_undone(step: SagaStep, now: int) -> bool:
    if step.undo_until is not None and step.undo_until < now:
        return False
    if step.state is not STEP_SUCCEEDED or not is_in_force(step):
        return False
    return step.definition.compensating_action is not None or step.definition.effect == "none"


def in_force(saga: Saga, notices: Sequence[ConflictNotice]) -> list[ConflictNotice]:
    """Return the notices of what would still hinder the commit, the last of each resource."""
    reads = reads_in_force(saga) if may_be_told(saga) else {}
    last = {notice.resource: notice for notice in notices}
    return [notice for name, notice in last.items() if reads.get(name) == notice.version_read]
