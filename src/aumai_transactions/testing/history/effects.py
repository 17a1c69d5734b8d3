"""Whether what one transaction has done to the world is what its journal says.

Owns: the rules that need the journal and the accesses of one transaction, and nothing else.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from aumai_transactions.core.definition import idempotency_key
from aumai_transactions.testing.history.records import Access, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aumai_transactions.core.definition import Operation
    from aumai_transactions.testing.history.telling import JournalTold, StepTold

_DONE = {"read": "read", "write": "wrote", "undo": "undid"}


def shown(access: Access) -> str:
    """Tell an access in words."""
    place = "" if access.resource is None else f" {access.resource}"
    return f"{access.transaction_id} step {access.step_id} {_DONE[access.kind]}{place}"


def problems_in(
    told: JournalTold, accesses: Sequence[Access], *, is_complete: bool
) -> Iterator[Problem]:
    """Yield what does not agree.

    Args:
        told: What the journal says.
        accesses: Those of this transaction, in order.
        is_complete: True where these are all that any participant has recorded of it.
    """
    yield from told.problems
    if accesses:
        for access in accesses:
            yield from _of_access(told, access)
        yield from _half_done(told, accesses)
        yield from _order(told, accesses)
    if is_complete and told.state == "committed":
        wrote = {access.step_id for access in accesses if access.kind == "write"}
        yield from _never_done(told, wrote)


def _problem(told: JournalTold, invariant: str, text: str) -> Problem:
    return Problem(invariant, (told.transaction_id,), text)


def _of_access(told: JournalTold, access: Access) -> Iterator[Problem]:
    """Yield an access without its intent (I1), its key (I9) or its grant (I10)."""
    operation: Operation = "compensation" if access.kind == "undo" else "action"
    step = told.steps.get(access.step_id)
    known = (
        set() if step is None else step.undo_attempts if access.kind == "undo" else step.attempts
    )
    if not known or (access.attempt is not None and access.attempt not in known):
        which = "" if access.attempt is None else f" in attempt {access.attempt}"
        yield _problem(told, "I1", f"{shown(access)}{which} without a durable intent")
    if access.key is not None:
        wanted = idempotency_key(access.transaction_id, access.step_id, operation)
        if access.key != wanted:
            yield _problem(told, "I9", f"{shown(access)} with key {access.key}, not {wanted}")
    if access.resource is not None and not _is_granted(told, access):
        text = f"{shown(access)} with token {access.token}, which it was never granted for that"
        yield _problem(told, "I10", text)


def _is_granted(told: JournalTold, access: Access) -> bool:
    return any(
        grant.name == access.resource
        and grant.token == access.token
        and (access.kind == "read" or grant.mode == "exclusive")
        for grant in told.grants
    )


def _half_done(told: JournalTold, accesses: Sequence[Access]) -> Iterator[Problem]:
    """Yield what was done twice (I5), is left half done (I2), or by one that has not ended."""
    name = told.transaction_id
    count = Counter((a.step_id, a.resource, a.kind) for a in accesses)
    for (step_id, resource, kind), times in count.items():
        at = "" if resource is None else f" {resource}"
        if times > 1 and kind != "read":
            text = f"{name} step {step_id} was to {kind}{at} once, and did {times} times"
            yield _problem(told, "I5", text)
        if kind == "undo" and not count[step_id, resource, "write"]:
            yield _problem(told, "I2", f"{name} step {step_id} was undone{at}, and never done")
        if kind != "write" or count[step_id, resource, "undo"]:
            continue
        step = told.steps.get(step_id)
        if told.state == "rolled_back" and not (step and step.is_admitted):
            text = f"{name} is rolled back, and its step {step_id} still stands{at and ' at' + at}"
            yield _problem(told, "I2", text)
        elif told.state == "committed" and step and step.is_undone and not step.is_admitted:
            text = f"{name} says that step {step_id} was undone, and it still stands{at}"
            yield _problem(told, "I2", text)
    if not told.is_final:
        had = sorted({a.resource or a.step_id for a in accesses})
        yield _problem(told, "L1", f"{name} is {told.state}, and has had {', '.join(had)}")


def _order(told: JournalTold, accesses: Sequence[Access]) -> Iterator[Problem]:
    """Yield what is out of order, there or back (I3), and effects after an undo (I4)."""
    first: dict[str, int] = {}
    first_undo: dict[str, int] = {}
    for access in accesses:
        if access.kind != "read":
            seen = first_undo if access.kind == "undo" else first
            seen.setdefault(access.step_id, access.position)
    name = told.transaction_id
    for access in accesses if first_undo and _goes_back_whole(told) else ():
        if access.kind == "write" and access.position > min(first_undo.values()):
            yield _problem(told, "I4", f"{shown(access)} after an undo of its transaction")
    for later, earlier in _pairs(told, first):
        if first[later] < first[earlier]:
            text = f"{name} step {later} took effect before {earlier}, on which it depends"
            yield _problem(told, "I3", text)
    for later, earlier in _pairs(told, first_undo):
        if first_undo[later] > first_undo[earlier]:
            text = f"{name} step {earlier} was undone before {later}, which depends on it"
            yield _problem(told, "I3", text)


def _goes_back_whole(told: JournalTold) -> bool:
    return told.state in ("rolled_back", "compensating") and not told.in_parts


def _pairs(told: JournalTold, among: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Yield the pairs of these steps of which the first depends on the second."""
    if len(among) < 2:
        return
    places = {name: place for place, name in enumerate(told.steps) if name in among}
    for later in places:
        before = told.steps[later].before
        for earlier, place in places.items():
            if before >> place & 1:
                yield later, earlier


def _never_done(told: JournalTold, wrote: set[str]) -> Iterator[Problem]:
    """Yield steps in force that no participant knows of (I2)."""
    for name, step in told.steps.items():
        if _is_expected(step) and name not in wrote:
            text = f"{told.transaction_id} is committed, and its step {name} never took effect"
            yield _problem(told, "I2", text)


def _is_expected(step: StepTold) -> bool:
    return step.is_done and not step.is_simulated and step.definition.effect != "none"
