"""How a transaction comes to hold the resources that its steps use, and lets go of them.

Owns: what is recorded about locks, what those entries mean, and what the store has to keep of them.
Rules:
  1. A planned transaction claims all that it declares before its first step, at once; an
     interactive one what a step needs, when that step has its turn.
  2. Two phases: nothing is let go of before the end (SEMANTICS G1); what an outstanding step used
     stays held until a person has resolved it.
  3. Going back, and behind the commit decision, nothing new is claimed.
  4. The store's table of locks is a projection of the journal: `holdings_of`.
  5. What was read and not locked counts in the oldest version that a step has read which was not
     undone; what only undone steps had read does not count any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aumai_transactions.core.definition import ResourceUse
from aumai_transactions.core.entries import (
    CommitDecided,
    Entry,
    ErrorRecord,
    Grant,
    LocksAwaited,
    LocksGranted,
    ReadVersion,
    RollbackRequested,
    StepFailed,
    StepStarted,
    TransactionCommitted,
    VersionsRead,
)
from aumai_transactions.core.locking import (
    Holding,
    LockTable,
    in_the_way,
    place_in_queue,
    victim_of,
)
from aumai_transactions.core.saga import IllegalEntry
from aumai_transactions.core.states import (
    ACTIVE,
    FAILED,
    PENDING,
    ROLLED_BACK,
    STEP_COMPENSATED,
    STEP_PENDING,
    STEP_RESOLVED,
)
from aumai_transactions.core.transitions import require

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from aumai_transactions.core.observations import LocksSeen
    from aumai_transactions.core.saga import Saga, SagaStep
    from aumai_transactions.models import RollbackReason

LOOK_SECONDS_MAX = 0.2
LOOK_SECONDS_STEP = 0.01
"""How long one waits before looking again, for each place in the queue."""

PARKED_LOOK_SECONDS = 5.0
"""How long a planned transaction that nobody has in hand waits before somebody looks again, where
nobody lets go of what it waits for."""


class Queued(NamedTuple):
    """Hold what a step, or the whole plan, waits for."""

    at: int
    resources: tuple[ResourceUse, ...]
    behind: tuple[str, ...]


class Locks:
    """Hold what a transaction holds, waits for and has read; only one that uses resources has it.

    `queued` has the index of the step that waits, or -1 for the whole of a plan. `reads` has the
    version in which something was read, `readers` the steps that have begun since then and use it;
    whether it still counts is told by `reads_in_force`. `look`, `checked` and `pause_seconds` are
    known here alone: which resources have to be looked at, that what was read has been found
    unchanged in this turn, and when it is worth looking again.
    """

    __slots__ = ("checked", "held", "look", "pause_seconds", "queued", "readers", "reads")

    def __init__(self) -> None:
        self.held: dict[str, Grant] = {}
        self.queued: dict[int, Queued] = {}
        self.reads: dict[str, int] = {}
        self.readers: dict[str, list[int]] = {}
        self.look: dict[str, None] = {}
        self.checked = False
        self.pause_seconds = LOOK_SECONDS_STEP


class _Want(NamedTuple):
    """Hold what a step (by its index; -1 is the whole plan) needs and does not have yet."""

    place: int
    resources: tuple[ResourceUse, ...]


WHOLE = -1


def missing(saga: Saga, step: SagaStep) -> tuple[ResourceUse, ...]:
    """Return what a step uses that its transaction does not hold yet."""
    if not step.definition.resources or saga.locks is None:
        return ()
    return tuple(use for use in step.definition.resources if not _has(saga.locks, saga, use))


def _has(locks: Locks, saga: Saga, use: ResourceUse) -> bool:
    grant = locks.held.get(use.name)
    if grant is not None and (grant.mode == "exclusive" or use.mode == "shared"):
        return True
    return _is_read(saga, use) and _counts(saga, locks, use.name)


def _is_read(saga: Saga, use: ResourceUse) -> bool:
    """True where a resource is not locked, but has to be unchanged at the commit."""
    return saga.plan.isolation == "validated" and use.mode == "shared"


def _counts(saga: Saga, locks: Locks, name: str) -> bool:
    """Tell whether something was read, and is still built upon.

    What was recorded, and nobody has begun to read yet, counts as well: somebody is about to.
    """
    if name not in locks.reads:
        return False
    readers = locks.readers.get(name)
    return not readers or any(has_read(saga.steps[index]) for index in readers)


def has_read(step: SagaStep) -> bool:
    """True where a step that has begun counts as one that has read: until it is undone.

    Why one that has failed counts: what it raised has told its program something. Why one counts
    that stays, for nothing undoes it: what it did may rest on what it has read.
    """
    if step.state is STEP_COMPENSATED:
        return False
    return step.left_in_place or not (step.withdrawn or step.state is STEP_RESOLVED)


def reads_in_force(saga: Saga) -> dict[str, int]:
    """Return what was read in which version, and has to be unchanged at the commit."""
    locks = saga.locks
    if locks is None:
        return {}
    return {name: at for name, at in locks.reads.items() if _counts(saga, locks, name)}


def fencing_tokens(saga: Saga, step: SagaStep) -> dict[str, int]:
    """Return the token of each resource that a step uses and that its transaction holds."""
    if saga.locks is None:
        return {}
    held = saga.locks.held
    names = (use.name for use in step.definition.resources)
    return {name: held[name].token for name in names if name in held}


def awaits_locks(saga: Saga) -> bool:
    """True where a plan, or a held step, does not have all that it uses yet."""
    return saga.locks is not None and next(_wants(saga), None) is not None


def _wants(saga: Saga) -> Iterator[_Want]:
    if saga.locks is None or saga.state is not ACTIVE or saga.decided_at is not None:
        return
    if not saga.is_interactive:
        uses = _merged(use for step in saga.steps for use in step.definition.resources)
        left = tuple(use for use in uses if not _has(saga.locks, saga, use))
        if left:
            yield _Want(WHOLE, left)
        return
    for index in (*saga.ready, *_held_ones_to_claim_for(saga)):
        step = saga.steps[index]
        left = missing(saga, step)
        allowed = step.approved or not step.definition.requires_approval
        if left and step.state is STEP_PENDING and allowed:
            yield _Want(index, _merged(left))


def _held_ones_to_claim_for(saga: Saga) -> Sequence[int]:
    """Return the held steps whose turn to claim has come: right before the commit is decided.

    Why not when they are asked for: until then nobody would look whether it is their turn, and
    others would stand behind them.
    """
    is_pivot_next = saga.pivot is not None and saga.pivot in saga.ready
    return saga.deferred if saga.commit_requested or is_pivot_next else ()


def _merged(uses: Iterable[ResourceUse]) -> tuple[ResourceUse, ...]:
    """Return uses by name, in order, each resource once; exclusive goes before shared."""
    modes: dict[str, ResourceUse] = {}
    for use in uses:
        if use.mode == "exclusive" or use.name not in modes:
            modes[use.name] = use
    return tuple(modes[name] for name in sorted(modes))


def names_wanted(saga: Saga) -> tuple[str, ...]:
    """Return the resources that have to be looked at before it can go on."""
    return tuple(use.name for want in _wants(saga) for use in want.resources)


def is_its_turn(saga: Saga, table: LockTable) -> bool:
    """Tell whether nobody is in the way of what a plan, or a step, waits for."""
    name = saga.transaction_id
    return any(not in_the_way(table, name, want.resources) for want in _wants(saga))


def unchecked_reads(saga: Saga) -> tuple[str, ...]:
    """Return the resources of which it has to be known, before the commit, that none changed."""
    if saga.locks is None or saga.locks.checked:
        return ()
    return tuple(reads_in_force(saga))


def seen(saga: Saga, observation: LocksSeen, now: int) -> list[Entry]:
    """Return what to record about what the store showed."""
    table = observation.table
    locks = saga.locks
    if locks is None or saga.state is not ACTIVE or saga.rollback_requested is not None:
        return []
    changed = _changed(saga, table)
    if changed:
        what = f"{', '.join(changed)} may have changed since it was read"
        return [_gives_up(now, "conflict", ErrorRecord("ReadConflict", what))]
    entries: list[Entry] = []
    taken: dict[str, ResourceUse] = {}
    for want in _wants(saga):
        uses = tuple(use for use in want.resources if not _covers(taken.get(use.name), use))
        if any(use.name in taken for use in uses):
            continue  # One token for each resource in each look; the next one is for the stronger.
        behind = in_the_way(table, saga.transaction_id, uses)
        if behind:
            entries += _waits(saga, _Want(want.place, uses), table, behind, now)
            if entries and isinstance(entries[-1], RollbackRequested):
                return entries[-1:]
            continue
        entries += _granted(saga, want, uses, table, now)
        taken |= {use.name: use for use in uses}
    return entries


def _covers(taken: ResourceUse | None, use: ResourceUse) -> bool:
    return taken is not None and (taken.mode == "exclusive" or use.mode == "shared")


def _granted(
    saga: Saga, want: _Want, uses: Sequence[ResourceUse], table: LockTable, now: int
) -> list[Entry]:
    step_id = None if want.place == WHOLE else saga.steps[want.place].step_id
    grants = tuple(
        Grant(use.name, table.fence(use.name).token + 1, use.mode)
        for use in uses
        if not _is_read(saga, use)
    )
    versions = tuple(
        ReadVersion(use.name, table.fence(use.name).version) for use in uses if _is_read(saga, use)
    )
    entries: list[Entry] = []
    if grants or not versions:
        entries.append(LocksGranted(now, grants, step_id))
    if versions:
        entries.append(VersionsRead(now, versions))
    return entries


def _waits(
    saga: Saga, want: _Want, table: LockTable, behind: tuple[str, ...], now: int
) -> list[Entry]:
    """Return what to record where somebody is in the way."""
    if saga.locks is None:
        return []
    cost = cost_of(saga)
    if victim_of(table, saga.transaction_id, want.resources, cost) == saga.transaction_id:
        names = ", ".join(use.name for use in want.resources)
        what = f"it and {', '.join(behind)} wait for each other over {names}, and it gives way"
        return [_gives_up(now, "deadlock", ErrorRecord("Deadlock", what))]
    queued = saga.locks.queued.get(want.place)
    if queued is None or queued.resources != want.resources:
        step_id = None if want.place == WHOLE else saga.steps[want.place].step_id
        return [LocksAwaited(now, want.resources, behind, step_id)]
    if now < queued.at + round(saga.plan.lock_timeout_seconds * 1_000_000):
        return []
    names = ", ".join(use.name for use in want.resources)
    what = (
        f"it waited {saga.plan.lock_timeout_seconds:g} s for {names}, which "
        f"{', '.join(behind)} has or is first in line for"
    )
    error = ErrorRecord("LockTimeout", what)
    if want.place == WHOLE or saga.steps[want.place].definition.on_commit:
        return [_gives_up(now, "deadline", error)]
    return [StepFailed(now, saga.steps[want.place].step_id, 0, error)]


def _gives_up(now: int, reason: RollbackReason, error: ErrorRecord) -> RollbackRequested:
    return RollbackRequested(now, "", error.message, reason, error)


def _changed(saga: Saga, table: LockTable) -> list[str]:
    """Return what was read, has been looked at now, and may have changed."""
    return [
        name
        for name, version in reads_in_force(saga).items()
        if name in table.fences and table.fence(name).version != version
    ]


def cost_of(saga: Saga) -> int:
    """Return how much there is to undo: what it has done, and a little for what it had tried."""
    return 1_000 * len(saga.effects) + min(len(saga.steps), 999)


def look(saga: Saga, table: LockTable) -> None:
    """Remember, in this process alone, what was found out in this turn."""
    locks = saga.locks
    if locks is None:
        return
    locks.look.clear()
    reads = reads_in_force(saga)
    locks.checked = bool(reads) and all(name in table.fences for name in reads)
    wanted = [use for want in _wants(saga) for use in want.resources]
    place = place_in_queue(table, saga.transaction_id, wanted)
    locks.pause_seconds = min(LOOK_SECONDS_STEP * (place + 1), LOOK_SECONDS_MAX)


def waits_of(saga: Saga) -> list[tuple[int, Queued]]:
    """Return what stands in line now: steps by their index, -1 for the whole plan.

    What stood in line, and is not wanted any more, is not among it.
    """
    locks = saga.locks
    if locks is None or not locks.queued:
        return []
    if saga.rollback_requested is not None or saga.denied is not None:
        return []  # So that whoever appends the wish to go back takes it out of the line.
    places = (want.place for want in _wants(saga))
    return [(place, locks.queued[place]) for place in places if place in locks.queued]


def look_again_at(saga: Saga) -> int | None:
    """Return when somebody should look again, where nobody has it in hand; None for never."""
    if (saga.is_interactive and not saga.commit_requested) or not waits_of(saga):
        return None
    since = min(queued.at for _place, queued in waits_of(saga))
    until = since + round(saga.plan.lock_timeout_seconds * 1_000_000)
    return min(saga.updated_at + round(PARKED_LOOK_SECONDS * 1_000_000), until)


def locks_awaited(saga: Saga, entry: LocksAwaited) -> None:
    """Let a step, or the whole, stand in line."""
    locks, index = _in_turn(saga, entry.step_id)
    locks.queued[index] = Queued(entry.at, entry.resources, entry.behind)


def locks_granted(saga: Saga, entry: LocksGranted) -> None:
    """Let the transaction hold something from now on."""
    locks, index = _in_turn(saga, entry.step_id)
    for grant in entry.grants:
        known = locks.held.get(grant.name)
        require(known is None or known.token < grant.token, "a fencing token does not grow")
        locks.held[grant.name] = grant
        if grant.mode == "exclusive":
            # What it has read of it cannot change any more but by itself.
            locks.reads.pop(grant.name, None)
            locks.readers.pop(grant.name, None)
    locks.queued.pop(index, None)


def versions_read(saga: Saga, entry: VersionsRead) -> None:
    """Let it be known in which version something may have been read."""
    locks, _index = _in_turn(saga, None)
    for name, version in entry.versions:
        # Invariant: the oldest version that still counts is the one that is checked.
        if not _counts(saga, locks, name):
            locks.reads[name] = version
            locks.readers.pop(name, None)
    for index, queued in list(locks.queued.items()):
        if all(_has(locks, saga, use) for use in queued.resources):
            del locks.queued[index]


def begins_to_read(saga: Saga, step: SagaStep) -> None:
    """Let it be known that a step, which begins now, may read what its transaction has not locked.

    Args:
        saga: The transaction.
        step: The step.
    """
    locks = saga.locks
    if locks is None or not locks.reads:
        return
    for use in step.definition.resources:
        if use.name in locks.reads:
            readers = locks.readers.setdefault(use.name, [])
            if step.index not in readers[-1:]:
                readers.append(step.index)


def _in_turn(saga: Saga, step_id: str | None) -> tuple[Locks, int]:
    require(saga.state is ACTIVE, "a resource is claimed while the transaction is not active")
    if saga.locks is None:
        message = "a resource is claimed by a transaction that uses none"
        raise IllegalEntry(message)
    return saga.locks, WHOLE if step_id is None else saga.step(step_id).index


def holdings_of(saga: Saga) -> tuple[Holding, ...]:
    """Return what the store has to keep of a transaction that uses resources, and nothing else."""
    locks = saga.locks
    if locks is None or saga.state in (PENDING, FAILED):
        return ()
    found = [Holding(grant.name, grant.mode, grant.token) for grant in locks.held.values()]
    waits = waits_of(saga)
    if waits:
        cost = cost_of(saga)
        waited = _merged(use for _, queued in waits for use in queued.resources)
        found += [Holding(use.name, use.mode, None, cost) for use in waited]
    return tuple(found)


def let_go(saga: Saga, locks: Locks) -> None:
    """Let a transaction that has ended hold only what an outstanding step of it had used.

    What was let go of once is never held again, whatever an undo or a late answer says later.
    """
    kept: set[str] = set()
    if not saga.plan.release_outstanding_locks:
        kept = {
            use.name
            for step in saga.steps
            if step.outstanding is not None or (step.to_undo and saga.state is ROLLED_BACK)
            for use in step.definition.resources
        }
    locks.held = {name: grant for name, grant in locks.held.items() if name in kept}
    locks.queued.clear()


def reads_to_check(saga: Saga, entries: Iterable[Entry]) -> tuple[ReadVersion, ...]:
    """Return what must be unchanged for these entries to be appended: those that decide to commit.

    Where there is a pivot, its first call is the decision: behind it nobody can go back, and to
    call it again decides nothing. Where the decision was recorded before the end, the end is none.
    """
    reads = reads_in_force(saga)
    if not reads:
        return ()
    pivot = None if saga.pivot is None else saga.steps[saga.pivot].step_id
    decision = TransactionCommitted if saga.decided_at is None else CommitDecided
    for entry in entries:
        if isinstance(entry, StepStarted):
            is_decision = entry.step_id == pivot and entry.attempt == 1
        else:
            is_decision = isinstance(entry, decision) and pivot is None
        if is_decision:
            return tuple(ReadVersion(*item) for item in sorted(reads.items()))
    return ()
