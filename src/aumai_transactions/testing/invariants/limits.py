"""What a journal may not do because its plan, a person or a death forbids it.

Owns: `LimitRules`: deadlines, tries and their pauses, wishes to go back, approvals, what was read
again, and deaths. Whether each step is where it says that it is, is the business of `JournalRules`.
Rules:
  1. Times are compared as they are recorded: who decided had only its own clock to go by.
  2. A pivot that may be the commit point already keeps the transaction from going back, and so
     from everything that would send it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aumai_transactions.core import entries as kinds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aumai_transactions.core.definition import Retry, StepDefinition
    from aumai_transactions.core.entries import Entry
    from aumai_transactions.testing.invariants.journals import JournalRules

_SECOND = 1_000_000

_DEFAULT_ATTEMPTS_MAX = 5
"""How often something is tried that is tried again, and declares nothing (SEMANTICS C6)."""

_ABANDON_AFTER_SECONDS = 60.0
"""How long an undo waits for a call that was given up, where its action does not say (C5)."""

_MAY_HAVE_DECIDED = frozenset({"running", "doubt", "succeeded"})

_INTENTS: dict[type, str] = {
    kinds.StepStarted: "action",
    kinds.CompensationStarted: "compensation",
    kinds.ProbeStarted: "probe",
    kinds.VerificationStarted: "verification",
    kinds.ConfirmationStarted: "confirmation",
}

_BEGIN_AGAIN = frozenset(
    {
        kinds.StepSucceeded,
        kinds.StepFailed,
        kinds.CompensationSucceeded,
        kinds.CompensationFailed,
        kinds.ConfirmationSucceeded,
        kinds.ConfirmationFailed,
        kinds.ProbeAnswered,
        kinds.VerificationAnswered,
        kinds.RetryRequested,
        kinds.ResolutionGiven,
        kinds.RollbackRequested,
    }
)
"""Behind these, the count of those who died in a call begins again (E16)."""


class LimitRules:
    """Hold one journal against what it may do no longer, or no more often.

    Args:
        journal: What the journal has said before each entry.

    Attributes:
        accounted: The steps whose only call a probe or a person has said to be done, so that its
            own answer, late as it may be, is no news.
    """

    def __init__(self, journal: JournalRules) -> None:
        self._journal = journal
        self.accounted: set[str] = set()
        self._deaths = 0
        self._under_way: dict[str, str] = {}
        self._must_go_back: dict[str, str] = {}
        self._first_at: dict[tuple[str, str], int] = {}
        self._last: dict[str, Entry] = {}
        self._approvals: dict[str, int | None] = {}
        self._reread: set[str] = set()
        self._closing: set[str] = set()
        self._doubt_at: dict[str, int] = {}
        self._abandoned: set[str] = set()
        self._undos: set[str] = set()
        self._revoking: set[str] = set()

    def before(self, entry: Entry) -> Iterator[tuple[str, str]]:
        """Yield the rules that an entry breaks, and how; the journal does not know of it yet."""
        kind = type(entry)
        method = _METHODS.get(kind)
        if method is not None:
            yield from method(self, entry)
        if kind in _INTENTS:
            yield from self._began(entry)
        elif kind is not kinds.RetryScheduled:
            step_id = getattr(entry, "step_id", None)
            if step_id is not None:
                self._last[step_id] = entry
        if kind in _BEGIN_AGAIN or (
            isinstance(entry, kinds.StepInDoubt) and entry.cause != "crash"
        ):
            self._deaths = 0
            self._under_way.pop(getattr(entry, "step_id", None) or "", None)

    def at_the_end(self, now: int) -> Iterator[tuple[str, str]]:
        """Yield what should have happened by now, and has not.

        Args:
            now: Microseconds since 1970 UTC, late enough for every clock.
        """
        if self._journal.is_final:
            return
        late = [
            name for name, until in self._approvals.items() if until is not None and until < now
        ]
        if late:
            yield "D18", f"{late} wait for an approval, and their time is over"
        if "D18" in self._must_go_back and not self._journal.goes_back and not self._has_decided():
            yield "D18", f"it does not go back, and {self._must_go_back['D18']}"

    # --------------------------------------------------------------------------- what is known

    def _pivot(self) -> Any:
        for told in self._journal.steps.values():
            if told.definition.pivot and told.definition.step_id not in self._journal.going_back:
                return told
        return None

    def _has_decided(self) -> bool:
        pivot = self._pivot()
        return self._journal.is_decided or (pivot is not None and pivot.state in _MAY_HAVE_DECIDED)

    def _declared(self, step_id: str) -> StepDefinition | None:
        told = self._journal.steps.get(step_id)
        return None if told is None else told.definition

    def _is_late(self, at: int) -> bool:
        plan = self._journal.definition
        return plan is not None and at > plan.deadline

    @property
    def _is_interactive(self) -> bool:
        plan = self._journal.definition
        return plan is not None and plan.shape == "interactive"

    def _may_not_go_on(self, what: str) -> Iterator[tuple[str, str]]:
        """Yield why what goes forward must not."""
        if self._has_decided():
            return
        for rule, why in self._must_go_back.items():
            yield rule, f"{what}, and {why}"
        plan = self._journal.definition
        if plan is not None and plan.on_undo_window == "roll_back":
            for name in self._closing:
                told = self._journal.steps[name]
                if told.state == "succeeded" and name not in self._journal.going_back:
                    yield "D19", f"{what}, and {name} can soon not be undone any more"

    def _stands(self, name: str) -> bool:
        told = self._journal.steps[name]
        dealt_with = told.is_closed or told.is_outstanding or told.left_in_place or told.simulated
        has_undo = told.definition.compensating_action is not None
        return has_undo and told.state == "succeeded" and not dealt_with

    # --------------------------------------------------------------------------- times

    def _activated(self, entry: kinds.TransactionActivated) -> Iterator[tuple[str, str]]:
        if not self._is_interactive and self._is_late(entry.at):
            yield "D1", "it begins behind its deadline"

    def _started(self, entry: kinds.StepStarted) -> Iterator[tuple[str, str]]:
        name, plan = entry.step_id, self._journal.definition
        definition = self._declared(name)
        if plan is None or definition is None or definition.on_commit:
            return
        yield from self._may_not_go_on(f"{name} starts")
        is_scoped = plan.timeout_scope == "transaction" or self._is_interactive
        if is_scoped and not self._has_decided() and self._is_late(entry.at):
            yield "D1", f"{name} starts behind the deadline"
        if definition.pivot:
            yield from self._read_again(f"{name}, the pivot, starts")

    def _decided(self, entry: Entry) -> Iterator[tuple[str, str]]:
        if self._journal.is_decided:
            return
        yield from self._may_not_go_on("it commits")
        if self._has_decided():
            return
        if self._is_interactive and self._is_late(entry.at):
            yield "D1", "it commits behind its deadline"
        left = [name for name in self._journal.going_back if self._stands(name)]
        if left:
            yield "I2", f"it commits, and {left} were to be undone, and stand"
        yield from self._read_again("it commits")

    def _read_again(self, what: str) -> Iterator[tuple[str, str]]:
        for name, told in self._journal.steps.items():
            has_read = told.definition.policy.has_reread and told.state == "succeeded"
            gone = told.is_closed or told.simulated or name in self._journal.going_back
            if has_read and not gone and name not in self._reread:
                yield "D16", f"{what}, and what {name} had read was not looked at again"

    def _reread_answered(self, entry: kinds.RereadAnswered) -> Iterator[tuple[str, str]]:
        self._reread.add(entry.step_id)
        if not entry.holds:
            self._must_go_back["D16"] = f"what {entry.step_id} had read has changed"
        yield from ()

    def _window(self, entry: kinds.UndoWindowClosing) -> Iterator[tuple[str, str]]:
        self._closing.add(entry.step_id)
        yield from ()

    # --------------------------------------------------------------------------- persons

    def _rollback_requested(self, entry: kinds.RollbackRequested) -> Iterator[tuple[str, str]]:
        if entry.scope_id is None:
            self._must_go_back["D5"] = "somebody has asked for its rollback"
        yield from ()

    def _approval_requested(self, entry: kinds.ApprovalRequested) -> Iterator[tuple[str, str]]:
        self._approvals[entry.step_id] = entry.until
        yield from ()

    def _approval_given(self, entry: kinds.ApprovalGiven) -> Iterator[tuple[str, str]]:
        self._approvals.pop(entry.step_id, None)
        yield from ()

    def _approval_denied(self, entry: kinds.ApprovalDenied) -> Iterator[tuple[str, str]]:
        self._approvals.pop(entry.step_id, None)
        self._must_go_back["D18"] = f"{entry.step_id} was denied"
        yield from ()

    # --------------------------------------------------------------------------- going back

    def _rollback_started(self, entry: kinds.RollbackStarted) -> Iterator[tuple[str, str]]:
        self._approvals.clear()
        self._undos.clear()
        pivot = self._pivot()
        if pivot is not None and pivot.state == "doubt":
            yield "D14", "it goes back, and nobody knows whether its pivot was the commit point"
        told = self._journal.steps.get(entry.step_id or "")
        if told is None:
            return
        name = told.definition.step_id
        if entry.reason == "in_doubt" and _asks(told.definition):
            yield "C4", f"it goes back over {name} in doubt, of which a person is to be asked"
        may_go_on = told.state == "failed" and not (
            told.definition.on_commit or told.is_outstanding or told.acted_late
        )
        if self._is_interactive and entry.reason == "step_failed" and may_go_on:
            yield "D2", f"it goes back because {name} has failed, and its program may go on"

    def _part(self, entry: kinds.PartialRollbackStarted) -> Iterator[tuple[str, str]]:
        for name in entry.step_ids:
            self._approvals.pop(name, None)
        definition = self._declared(entry.step_id or "")
        if entry.reason == "in_doubt" and definition is not None and _asks(definition):
            yield "C4", f"{entry.step_id} is undone in doubt, and a person is to be asked"

    def _revoked(self, entry: kinds.RollbackRevoked) -> Iterator[tuple[str, str]]:
        others = sorted(self._undos - {entry.step_id})
        if others:
            yield "C12", f"the undo of {entry.step_id} revokes a rollback, and {others} were undone"
        if entry.step_id in self._revoking:
            yield "C12", f"the undo of {entry.step_id} revokes a rollback once more"
        self._revoking.add(entry.step_id)

    def _undo_started(self, entry: kinds.CompensationStarted) -> Iterator[tuple[str, str]]:
        self._undos.add(entry.step_id)
        journal, name = self._journal, entry.step_id
        told, plan = journal.steps.get(name), journal.definition
        if told is None or plan is None:
            return
        if entry.attempt == 1 and told.left and name not in self._abandoned:
            seconds = told.definition.policy.abandon_after_seconds
            seconds = _ABANDON_AFTER_SECONDS if seconds is None else seconds
            if entry.at < self._doubt_at.get(name, 0) + round(seconds * _SECOND):
                yield "C5", f"{name} is undone, and a call of it that was given up may act yet"
        if plan.on_compensation_failure == "halt" and journal.goes_back and not journal.was_pending:
            halted = [n for n in journal.behind(name) if journal.steps[n].is_outstanding]
            if halted:
                yield "D7", f"{name} is undone, which {halted} depend on, and it halts"

    def _in_doubt(self, entry: kinds.StepInDoubt) -> Iterator[tuple[str, str]]:
        self._doubt_at[entry.step_id] = entry.at
        yield from ()

    def _retry_requested(self, entry: kinds.RetryRequested) -> Iterator[tuple[str, str]]:
        self._abandoned.add(entry.step_id)
        yield from ()

    # --------------------------------------------------------------------------- trying again

    def _scheduled(self, entry: kinds.RetryScheduled) -> Iterator[tuple[str, str]]:
        definition = self._declared(entry.step_id)
        if definition is None or entry.operation in ("probe", "verification"):
            return  # How often those are asked is counted anew for each question.
        last = self._last.get(entry.step_id)
        if isinstance(last, kinds.ProbeAnswered) and last.answer == "not_done":
            return  # It is as if it were called for the first time.
        error = getattr(last, "error", None)
        asks_for_more = error is not None and error.type in ("RetryLater", "OutcomeUnknown")
        retry = _retry_of(definition, entry.operation)
        tries = _tries_max(definition, entry.operation, retry, asks_for_more=asks_for_more)
        name = f"{entry.operation} {entry.attempt} of {entry.step_id}"
        if entry.attempt > tries:
            yield "C8", f"{name} is scheduled, and {tries} are allowed"
        if retry is None:
            return
        first = self._first_at.get((entry.step_id, entry.operation), entry.at)
        budget = retry.budget_seconds
        if budget is not None and entry.due_at > first + budget * _SECOND:
            yield "C8", f"{name} is scheduled behind the budget of {budget:g} s"
        shortest = _shortest(retry, entry.attempt - 1, entry.draw)
        if entry.due_at - entry.at < shortest * _SECOND - 1:
            yield "C8", f"{name} is due too soon: {shortest:g} s are the shortest pause"

    def _told_done(
        self, entry: kinds.ProbeAnswered | kinds.ResolutionGiven
    ) -> Iterator[tuple[str, str]]:
        told = self._journal.steps.get(entry.step_id)
        if entry.answer in ("done", "happened") and told is not None and told.attempts == 1:
            self.accounted.add(entry.step_id)
        yield from ()

    # --------------------------------------------------------------------------- deaths

    def _claimed(self, entry: kinds.Claimed) -> Iterator[tuple[str, str]]:
        journal, plan = self._journal, self._journal.definition
        if entry.takeover and journal.driver_id != entry.driver_id and self._dies_of_a_call():
            self._deaths += 1
        self._under_way.clear()
        self._must_go_back.pop("E1", None)
        if plan is None or not entry.takeover or journal.was_pending or journal.ended is not None:
            return
        is_left = not (entry.resumes or journal.commit_wanted)
        if self._is_interactive:
            if is_left and plan.on_crash in (None, "roll_back"):
                self._must_go_back["E1"] = "its program has died"
        elif plan.on_crash == "roll_back":
            self._must_go_back["E1"] = "it goes back after a crash"
        elif plan.on_crash is None and self._is_late(entry.at):
            self._must_go_back["E1"] = "it was taken over behind its deadline"
        yield from ()

    def _began(self, entry: Any) -> Iterator[tuple[str, str]]:
        operation = _INTENTS[type(entry)]
        if entry.attempt == 1:
            self._first_at[entry.step_id, operation] = entry.at
        plan = self._journal.definition
        if plan is not None and self._deaths >= plan.crashes_max:
            deaths = self._deaths
            yield "E16", f"{operation} of {entry.step_id} begins, and {deaths} have died of it"
        self._under_way[entry.step_id] = operation

    def _dies_of_a_call(self) -> bool:
        """Tell whether a call is under way; a question that the call itself has answered is not."""
        return any(
            operation != "probe" or self._journal.steps[name].state == "doubt"
            for name, operation in self._under_way.items()
        )


def _asks(definition: StepDefinition) -> bool:
    if definition.pivot or definition.on_commit or definition.on_unknown == "ask":
        return True
    has_undo = definition.compensating_action is not None
    return definition.on_unknown is None and not has_undo and definition.effect != "none"


def _retry_of(definition: StepDefinition, operation: str) -> Retry | None:
    policy = definition.policy
    if operation == "compensation":
        return policy.undo_retry
    return policy.confirm_retry if operation == "confirmation" else policy.retry


def _tries_max(
    definition: StepDefinition, operation: str, retry: Retry | None, *, asks_for_more: bool
) -> int:
    if retry is not None:
        return retry.attempts_max
    is_once = operation == "compensation" and not definition.policy.undo_idempotent
    return 1 if is_once and not asks_for_more else _DEFAULT_ATTEMPTS_MAX


def _shortest(retry: Retry, attempts: int, draw: float | None) -> float:
    """Return for how long one waits at least after so many attempts."""
    if draw is None or attempts < 1:
        return 0.0
    longest = min(
        retry.first_delay_seconds * retry.delay_factor ** min(attempts - 1, 64),
        retry.delay_seconds_max,
    )
    return longest * (1 - retry.jitter + retry.jitter * draw)


_METHODS: dict[type, Callable[[LimitRules, Any], Iterator[tuple[str, str]]]] = {
    kinds.TransactionActivated: LimitRules._activated,  # noqa: SLF001 (a part of it)
    kinds.StepStarted: LimitRules._started,  # noqa: SLF001
    kinds.CommitDecided: LimitRules._decided,  # noqa: SLF001
    kinds.TransactionCommitted: LimitRules._decided,  # noqa: SLF001
    kinds.RereadAnswered: LimitRules._reread_answered,  # noqa: SLF001
    kinds.UndoWindowClosing: LimitRules._window,  # noqa: SLF001
    kinds.RollbackRequested: LimitRules._rollback_requested,  # noqa: SLF001
    kinds.ApprovalRequested: LimitRules._approval_requested,  # noqa: SLF001
    kinds.ApprovalGiven: LimitRules._approval_given,  # noqa: SLF001
    kinds.ApprovalDenied: LimitRules._approval_denied,  # noqa: SLF001
    kinds.RollbackStarted: LimitRules._rollback_started,  # noqa: SLF001
    kinds.PartialRollbackStarted: LimitRules._part,  # noqa: SLF001
    kinds.RollbackRevoked: LimitRules._revoked,  # noqa: SLF001
    kinds.CompensationStarted: LimitRules._undo_started,  # noqa: SLF001
    kinds.StepInDoubt: LimitRules._in_doubt,  # noqa: SLF001
    kinds.RetryRequested: LimitRules._retry_requested,  # noqa: SLF001
    kinds.RetryScheduled: LimitRules._scheduled,  # noqa: SLF001
    kinds.ProbeAnswered: LimitRules._told_done,  # noqa: SLF001
    kinds.ResolutionGiven: LimitRules._told_done,  # noqa: SLF001
    kinds.Claimed: LimitRules._claimed,  # noqa: SLF001
}
