"""What must be recorded about what a program asks of its interactive transaction.

Owns: the part of `decide` that is about steps that are added, groups, and partial rollbacks.
Rules:
  1. What cannot be is refused here, by name, before anything is recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core.entries import (
    ApprovalDenied,
    ApprovalGiven,
    Entry,
    ErrorRecord,
    PartialRollbackStarted,
    RollbackRequested,
    ScopeOpened,
    ScopeReleased,
    StepAdded,
    StepRefused,
    StepRequested,
    TransactionActivated,
    UndoRequestRefused,
)
from aumai_transactions.core.observations import StepAsked
from aumai_transactions.core.scopes import is_in_force, live_dependants, names_of, undo_of
from aumai_transactions.core.states import (
    ACTIVE,
    COMMITTED,
    COMMITTING,
    PENDING,
    STEP_IN_DOUBT,
    STEP_RUNNING,
    STEP_SUCCEEDED,
)
from aumai_transactions.core.values import checked_note
from aumai_transactions.errors import (
    CommitPointPassed,
    DefinitionError,
    DuplicateStep,
    InvalidTransactionState,
    IrreversibleBeforeCompensatable,
    TransactionError,
    TransactionNotActive,
    UndoRefused,
    UnknownStep,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aumai_transactions.core.definition import ScopeDefinition, StepDefinition
    from aumai_transactions.core.observations import (
        ApprovalAnswered,
        RollbackCalled,
        ScopeEnded,
        StepWanted,
        UndoAsked,
    )
    from aumai_transactions.core.saga import Saga, Scope


def asked(saga: Saga, seen: StepAsked, now: int) -> list[Entry]:
    """Return what to record about a step that a program asks for."""
    _require_open(saga, "execute a step in")
    _require_no_pivot(saga, "execute a step in")
    entries: list[Entry] = []
    if saga.state is PENDING:
        entries.append(TransactionActivated(now))
    entries += _opened(saga, seen.scopes, now)
    step = seen.step
    after = tuple([_succeeded(saga, name, "after") for name in step.after or ()])
    references = tuple(
        [
            item._replace(step_id=_succeeded(saga, item.step_id, "a reference"))
            for item in step.references
        ]
    )
    pivot = None if saga.pivot is None else saga.steps[saga.pivot]
    if step.pivot and any(scope.kind == "child" for scope in seen.scopes):
        message = (
            f"a pivot cannot stand in a nested transaction: its success would commit the whole of "
            f"{saga.transaction_id}. Execute it outside."
        )
        raise DefinitionError(message)
    if step.pivot and pivot is not None and is_in_force(pivot):
        message = (
            f"transaction {saga.transaction_id} has the pivot {pivot.step_id!r} already; there can "
            "be only one point of no return."
        )
        raise DefinitionError(message)
    name = step.step_id
    step = step._replace(step_id=_free_id(saga, name), after=after, references=references)
    again = name if name and name != step.step_id else None
    _require_order(saga, step)
    entries.append(StepAdded(now, step, seen.fork, None, again))
    return entries


def wanted(saga: Saga, seen: StepWanted, now: int) -> list[Entry]:
    """Return what to record about a step that somebody wants who is not the program."""
    _require_open(saga, "ask for a step in")
    by = checked_note(seen.by, "by")
    return [StepRequested(now, seen.request_id, seen.step, seen.scopes, by)]


def answer_of(saga: Saga, request: StepRequested, now: int) -> list[Entry]:
    """Return what to record about such a wish: the step, or why it cannot be."""
    try:
        entries = asked(saga, StepAsked(request.step, request.scopes), now)
    except TransactionError as error:
        why = ErrorRecord(type(error).__name__, str(error))
        return [StepRefused(now, request.request_id, why)]
    *before, added = entries
    if not isinstance(added, StepAdded):
        return entries
    return [*before, added._replace(request_id=request.request_id)]


def _require_order(saga: Saga, step: StepDefinition) -> None:
    if step.compensating_action is None or step.on_commit or saga.plan.allow_irreversible_first:
        return
    for index in saga.irreversible:
        other = saga.steps[index]
        if is_in_force(other):
            raise IrreversibleBeforeCompensatable(saga.transaction_id, other.step_id, step.step_id)


def _require_open(saga: Saga, call: str) -> None:
    if not saga.is_interactive:
        raise InvalidTransactionState(
            saga.transaction_id,
            saga.state.value,
            call,
            "It was planned; add_step() adds to it before commit(). Use transaction() instead.",
        )
    if saga.state is COMMITTING or (saga.state is COMMITTED and saga.decided_at is not None):
        raise CommitPointPassed(saga.transaction_id, saga.state.value, call)
    if saga.state not in (PENDING, ACTIVE) or saga.commit_requested or saga.rollback_requested:
        why = ""
        if saga.state is ACTIVE:
            going = "committed" if saga.commit_requested else "rolled back"
            why = f"It is being {going}. "
        raise TransactionNotActive(
            saga.transaction_id,
            saga.state.value,
            call,
            f"{why}Nothing was done; begin a new transaction.",
        )


def _require_no_pivot(saga: Saga, call: str) -> None:
    pivot = None if saga.pivot is None else saga.steps[saga.pivot]
    if pivot is not None and pivot.state in (STEP_RUNNING, STEP_IN_DOUBT):
        raise InvalidTransactionState(
            saga.transaction_id,
            saga.state.value,
            call,
            f"Its pivot {pivot.step_id!r} is {pivot.state.value.replace('_', ' ')}, behind which "
            "nothing can be added.",
        )


def _opened(saga: Saga, scopes: Iterable[ScopeDefinition], now: int) -> list[Entry]:
    entries: list[Entry] = []
    for definition in scopes:
        known = saga.scopes.get(definition.scope_id)
        if known is None:
            entries.append(ScopeOpened(now, definition))
        elif known.state != "open":
            raise TransactionNotActive(
                f"{saga.transaction_id}.{definition.scope_id}",
                "in parent" if known.state == "released" else "rolled_back",
                "execute a step in",
                "Nothing was done; begin another one inside its parent.",
            )
    return entries


def _succeeded(saga: Saga, name: str, named_by: str) -> str:
    """Return the id of the step that goes by this name now; it must have succeeded."""
    found = current_id(saga, name)
    if found is None:
        raise UnknownStep(name, named_by, saga.transaction_id)
    step = saga.by_id[found]
    if step.state is not STEP_SUCCEEDED or not is_in_force(step):
        message = (
            f"{named_by} names step {name!r} of transaction {saga.transaction_id}, which is "
            f"{step.state.value.replace('_', ' ')}; it must have succeeded and be in force."
        )
        raise DefinitionError(message)
    return found


def current_id(saga: Saga, name: str) -> str | None:
    """Return the id of the last step that was given this name; None where there is none."""
    if name not in saga.by_id:
        return None
    return saga.named.get(name, name)


def _free_id(saga: Saga, name: str) -> str:
    """Return an id for a step; a name may be used again once its step is over."""
    if not name:
        number = len(saga.steps) + 1
        while f"s{number}" in saga.by_id:
            number += 1
        return f"s{number}"
    last = current_id(saga, name)
    if last is None:
        return name
    if is_in_force(saga.by_id[last]):
        raise DuplicateStep(name, saga.transaction_id)
    number = 2
    while f"{name}.{number}" in saga.by_id:
        number += 1
    return f"{name}.{number}"


def undo_asked(saga: Saga, seen: UndoAsked, now: int) -> list[Entry]:
    """Return what to record about a part that a program wants undone."""
    _require_open(saga, "undo a part of")
    _require_no_pivot(saga, "undo a part of")
    note = checked_note(seen.note, "note")
    error = ErrorRecord("Undone", note) if note else None
    if seen.scope_id is not None:
        return _undo_scope(saga, seen, now, error)
    step_id = current_id(saga, seen.step_id or "")
    if step_id is None:
        raise UnknownStep(seen.step_id or "", "the undo", saga.transaction_id)
    step = saga.by_id[step_id]
    if not is_in_force(step):
        raise InvalidTransactionState(
            saga.transaction_id,
            saga.state.value,
            f"undo step {step_id} of",
            f"The step is {step.state.value.replace('_', ' ')}; only one in force can be undone.",
        )
    others = live_dependants(saga, [step.index])
    if others and not seen.with_dependents:
        raise UndoRefused(saga.transaction_id, f"step {step_id}", names_of(saga, others))
    names = names_of(saga, [step.index, *others])
    return [PartialRollbackStarted(now, names, seen.reason, None, step_id, error)]


def _undo_scope(saga: Saga, seen: UndoAsked, now: int, error: ErrorRecord | None) -> list[Entry]:
    scope = saga.scopes.get(seen.scope_id or "")
    if scope is None:
        return []  # Nothing was executed in it.
    if scope.state == "rolled_back":
        raise TransactionNotActive(
            f"{saga.transaction_id}.{seen.scope_id}", "rolled_back", "roll back", "It is undone."
        )
    found = undo_of(saga, scope, now, seen.reason, error)
    if isinstance(found, UndoRequestRefused):
        what = scope.definition.name or scope.definition.scope_id
        raise UndoRefused(saga.transaction_id, f"{scope.definition.kind} {what}", found.step_ids)
    if not found.step_ids and scope.definition.kind == "savepoint":
        return []
    return [found]


def scope_rollback_called(saga: Saga, seen: RollbackCalled, now: int) -> list[Entry]:
    """Return what to record about the wish to undo a nested transaction, whoever has it."""
    scope_id = seen.scope_id or ""
    _require_open(saga, f"roll back {scope_id} of")
    _require_no_pivot(saga, f"roll back {scope_id} of")
    scope = saga.scopes.get(scope_id)
    if scope is None or scope.definition.kind != "child" or scope.state == "rolled_back":
        state = "unknown" if scope is None else scope.state.replace("_", " ")
        raise TransactionNotActive(
            f"{saga.transaction_id}.{scope_id}", state, "roll back", "Nothing was changed."
        )
    found = undo_of(saga, scope, now, seen.reason, None)
    if isinstance(found, UndoRequestRefused):
        raise UndoRefused(saga.transaction_id, f"child {scope_id}", found.step_ids)
    if scope_id in saga.undo_requests:
        return []
    by, note = checked_note(seen.by, "by"), checked_note(seen.note, "note")
    return [RollbackRequested(now, by, note, seen.reason, None, scope_id)]


def scope_ended(saga: Saga, seen: ScopeEnded, now: int) -> list[Entry]:
    """Return what to record about a nested transaction that commits into its parent."""
    _require_open(saga, "commit a nested transaction of")
    entries: list[Entry] = []
    if saga.state is PENDING:
        entries.append(TransactionActivated(now))
    entries += _opened(saga, seen.scopes, now)
    entries.append(ScopeReleased(now, seen.scopes[-1].scope_id))
    return entries


def unsettled_in(saga: Saga, scope: Scope) -> list[str]:
    """Return the steps of a group that run, wait, are in doubt or are being undone."""
    return [
        saga.steps[index].step_id
        for index in scope.all_steps()
        if saga.steps[index].to_undo
        or (
            is_in_force(saga.steps[index])
            and saga.steps[index].state is not STEP_SUCCEEDED
            and not saga.steps[index].definition.on_commit
        )
    ]


def approval_answered(saga: Saga, seen: ApprovalAnswered, now: int) -> list[Entry]:
    """Return what to record about a person's answer to a step that waits for it."""
    if saga.state in (COMMITTING, COMMITTED) and saga.decided_at is not None:
        call = "approve a step of" if seen.is_given else "deny a step of"
        raise CommitPointPassed(saga.transaction_id, saga.state.value, call)
    step_id = current_id(saga, seen.step_id)
    if step_id is None:
        raise UnknownStep(seen.step_id, "the approval", saga.transaction_id)
    step = saga.by_id[step_id]
    asked_for = step.approval
    verb = "approve" if seen.is_given else "deny"
    is_asked = step.index in saga.approvals and saga.denied is None and saga.state is ACTIVE
    if not is_asked or asked_for is None:
        raise InvalidTransactionState(
            saga.transaction_id,
            saga.state.value,
            f"{verb} step {step_id} of",
            f"The step is {step.state.value.replace('_', ' ')} and waits for no approval.",
        )
    if seen.digest is not None and seen.digest != asked_for.digest:
        raise InvalidTransactionState(
            saga.transaction_id,
            saga.state.value,
            f"{verb} step {step_id} of",
            f"What was shown has the digest {seen.digest}; what waits now has {asked_for.digest}. "
            "Look at it again with show.",
        )
    by, note = checked_note(seen.by, "by"), checked_note(seen.note, "note")
    if seen.is_given:
        return [ApprovalGiven(now, step_id, asked_for.digest, by, note)]
    return [ApprovalDenied(now, step_id, by, note)]
