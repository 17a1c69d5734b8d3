"""What is checked in a simulation, at each append, each call, each effect, and at the end.

Owns: the comparison of journals, participants, locks and answers. What a journal alone may say is
in `testing/invariants`.
Rules:
  1. A sentence names the invariant that does not hold, the transaction and the step.
  2. What the product says of itself is one side of a comparison, never both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aumai_transactions.core import entries as kinds
from aumai_transactions.core.journal import load
from aumai_transactions.core.lock_entries import LocksGranted
from aumai_transactions.core.outcome import summary_of
from aumai_transactions.store import AppendAnswer
from aumai_transactions.testing.invariants import JournalRules, LockRules, StepTold
from aumai_transactions.testing.simulator import chains
from aumai_transactions.testing.simulator.agenda import SECOND

if TYPE_CHECKING:
    from aumai_transactions.actions import StepContext
    from aumai_transactions.core.journal import Journal
    from aumai_transactions.models import TransactionResult
    from aumai_transactions.store import Append
    from aumai_transactions.testing.simulator.actions import Request
    from aumai_transactions.testing.simulator.participants import Effect
    from aumai_transactions.testing.simulator.plans import Plan
    from aumai_transactions.testing.simulator.processes import Process
    from aumai_transactions.testing.simulator.world import World

LATE = 600 * SECOND
"""By how much, at the end, a time must be over for every clock that anybody may have."""


class Watch:
    """Watch one simulated world.

    Args:
        world: The world.
    """

    def __init__(self, world: World) -> None:
        self.problems: list[str] = []
        self.rules: dict[str, JournalRules] = {}
        self.plans: dict[str, Plan] = {}
        self.retried: set[tuple[str, str]] = set()
        self._world = world
        self._locks = LockRules()
        self._told: dict[str, str] = {}
        self._written: dict[str, list[tuple[int, str, int]]] = {}
        self._intents: dict[tuple[str, str, str], tuple[int, int]] = {}
        self._keys: dict[str, tuple[str, str, str]] = {}
        self._holders: dict[str, str | None] = {}
        self._tampered = False
        self._acted: dict[str, int] = {}

    def began(self, transaction_id: str, plan: Plan) -> None:
        """Take note of which plan a transaction carries out."""
        self.plans[transaction_id] = plan

    def wrong(self, text: str) -> None:
        """Take note of something that must not be."""
        self.problems.append(text)
        self._world.trace("WRONG", text)

    # --------------------------------------------------------------------- the store

    def appended(self, append: Append) -> None:
        """Check what has just been appended."""
        name = append.transaction_id
        rules = self.rules.get(name)
        if rules is None:
            rules = self.rules[name] = JournalRules(name)
        if append.expected_sequence != rules.sequence:
            self.wrong(
                f"I6: {name}: appended at {append.expected_sequence}, {rules.sequence} there"
            )
        self._taken(append)
        problems = rules.append(append.entries, append.token)
        problems += self._locks.append(rules, append.entries)
        self._world.traced_append(append)
        for entry in append.entries:
            self._note(name, rules, entry)
        for problem in problems:
            self.wrong(problem)
        entries = len(append.entries)
        place = append.expected_sequence, append.append_id, entries
        self._written.setdefault(name, []).append(place)
        kept = self._world.store.length_of(name)
        if kept < rules.sequence:
            self.wrong(f"D1: {name}: {rules.sequence} entries are acknowledged, {kept} stand there")

    def _taken(self, append: Append) -> None:
        """Check that nobody is taken for dead who lives."""
        name = append.transaction_id
        holder = self._holders.get(name)
        if append.driver_id is not None:
            if holder not in (None, append.driver_id) and self._world.store.is_leased(holder):
                self.wrong(f"I6: {name} is taken from {holder}, which lives")
            self._holders[name] = append.driver_id
        if append.release or append.summary.state.is_final:
            self._holders[name] = None

    def _note(self, name: str, rules: JournalRules, entry: Any) -> None:
        count = self._world.count
        kind = type(entry)
        operation = _OPERATIONS.get(kind)
        if operation is not None:
            self._intents[name, entry.step_id, operation] = entry.attempt, rules.token
            if entry.attempt > 1:
                count(f"again_{operation}")
        if kind is kinds.Claimed:
            self._claimed(rules, entry)
        elif kind is kinds.StepOutstanding or kind is kinds.CompensationFailed:
            if rules.steps[entry.step_id].is_outstanding:
                count("outstanding")
        elif kind is kinds.RollbackStarted:
            count(f"rollback_{entry.reason}")
        elif kind is kinds.CompensationStarted and entry.in_doubt:
            count("undo_in_doubt")
        elif kind is kinds.ProbeAnswered:
            count(f"probe_{entry.answer}")
        elif kind is kinds.VerificationAnswered:
            count(f"verification_{entry.answer}")
        elif kind is kinds.RetryRequested and rules.steps[entry.step_id].state == "doubt":
            self.retried.add((name, entry.step_id))  # Whoever asks for it takes the risk.
        elif kind is kinds.CallReturnedLate:
            count(f"late_{entry.outcome}")
            if rules.is_final:
                count("late_behind_the_end")
        elif kind in _COUNTED:
            count(_COUNTED[kind])

    def _claimed(self, rules: JournalRules, entry: kinds.Claimed) -> None:
        if not entry.takeover:
            return
        count = self._world.count
        count("takeover")
        if any(step.undo_running for step in rules.steps.values()):
            count("takeover_in_undo")
        if rules.is_decided:
            count("takeover_behind_commit_point")
        if any(step.state == "running" for step in rules.steps.values()):
            count("takeover_in_action")

    def answered(self, append: Append, answer: AppendAnswer) -> None:
        """Take note of what the store answered."""
        if answer is AppendAnswer.appended:
            return
        self._world.count(f"answer_{answer.value}")
        self._world.trace("answer", append.transaction_id, append.append_id, answer.value)
        if answer is AppendAnswer.already_ours:
            written = self._written.get(append.transaction_id, ())
            place = append.expected_sequence, append.append_id, len(append.entries)
            if place not in written:
                self.wrong(f"D4: {append.transaction_id}: {append.append_id} was never written")

    # --------------------------------------------------------------------- calls and effects

    def called(self, process: Process, context: StepContext) -> None:
        """Check a call at the moment when it is sent."""
        name, step_id, operation = context.transaction_id, context.step_id, context.operation
        what = f"{name}/{step_id}: {operation}, attempt {context.attempt}"
        self._world.trace("calls", process.name, what, context.token)
        rules = self.rules.get(name)
        if rules is None:
            self.wrong(f"I1: {what} is called, and nothing of it is durable")
            return
        key = name, step_id, operation
        expected = f"{name}/{step_id}/{operation}"
        known = self._keys.setdefault(context.idempotency_key, key)
        if known != key or context.idempotency_key != expected:
            self.wrong(f"I9: {what} carries the key {context.idempotency_key}")
        if operation == "reread":
            return
        attempt, token = self._intents.get(key, (0, 0))
        if attempt < context.attempt:
            self.wrong(f"I1: {what} is called, and its intent is not durable")
        elif attempt > context.attempt or token != context.token:
            # Its driver was replaced between its intent and its call.
            self._world.count("call_by_stale_driver")
            if rules.token == context.token:
                self.wrong(f"I6: {what} is called under token {context.token}, not {token}")
        elif rules.token == context.token:
            self._called_now(rules, context, what)
        else:
            self._world.count("call_by_stale_driver")
        owner = self._world.owners.get(rules.driver_id or "")
        if owner is process and rules.token != context.token:
            self.wrong(f"I6: {what} is told token {context.token}, in force is {rules.token}")
        if owner is not process:
            self._world.count("call_by_another_than_the_last_claimer")
            if rules.token == context.token:
                self.wrong(f"I14: {what} is called by a process that did not claim it")

    def _called_now(self, rules: JournalRules, context: StepContext, what: str) -> None:
        told = rules.steps[context.step_id]
        for use in told.definition.resources:
            token = self._locks.token(rules.transaction_id, use.name)
            if use.name in rules.held and context.resources.get(use.name) != token:
                self.wrong(f"G10: {what} is not told token {token} of {use.name}, which it uses")
        if context.operation == "action" and told.state != "running":
            self.wrong(f"I4: {what} is called, and the step is {told.state}")
        if context.operation == "compensation":
            if not told.undo_running:
                self.wrong(f"I1: {what} is called, and no undo is under way")
            if context.in_doubt != (told.state == "doubt"):
                self.wrong(f"I13: {what}: in_doubt is {context.in_doubt}")

    def is_current(self, context: StepContext) -> bool:
        """Tell whether the call of an action is still waited for, as the journal has it."""
        rules = self.rules[context.transaction_id]
        told = rules.steps[context.step_id]
        return (
            rules.token == context.token
            and told.state == "running"
            and told.attempts == context.attempt
        )

    def took_effect(self, request: Request) -> None:
        """Check an effect at the moment when it stands."""
        context = request.context
        name = context.transaction_id
        rules = self.rules[name]
        self._world.trace("effect", context.idempotency_key, context.attempt)
        if request.kind != "keyed":
            return
        highest = self._acted.get(name, 0)
        if context.token < highest:
            operation, token = context.operation, context.token
            self.wrong(
                f"B1: {name}/{context.step_id}: {operation} under token {token} took effect behind "
                f"one under {highest}"
            )
        self._acted[name] = max(highest, context.token)
        if context.operation != "action":
            return
        told = rules.steps[context.step_id]
        # Why not what changes nothing: it may be read for as long as the network likes.
        for resource in context.resources if told.definition.effect != "none" else ():
            others = self._locks.holders(resource)
            if name not in others and not _was_let_go_of(rules, told):
                self.wrong(f"I10: {name}/{context.step_id} acts on {resource}, not holding it")
        for number in request.data:
            if number.startswith("from_"):
                self._check_reference(rules, told, request.data[number])

    def _check_reference(self, rules: JournalRules, told: StepTold, value: object) -> None:
        keys = [
            f"{rules.transaction_id}/{item.step_id}/action" for item in told.definition.references
        ]
        if value not in keys:
            self.wrong(f"F5: {rules.transaction_id}: {told.definition.step_id} was given {value}")

    # --------------------------------------------------------------------- what callers were told

    def acknowledged(self, result: TransactionResult) -> None:
        """Take note of an outcome that a caller was told of."""
        if not result.is_final:
            return
        name, state = result.transaction_id, result.state.value
        rules = self.rules.get(name)
        if rules is None or rules.ended != state:
            ended = None if rules is None else rules.ended
            self.wrong(f"I7: {name} was told to be {state}, and the journal says {ended}")
        before = self._told.setdefault(name, state)
        if before != state:
            self.wrong(f"I7: {name} was told to be {before}, and then {state}")

    # --------------------------------------------------------------------- the end

    def at_the_end(self) -> None:
        """Check everything once more, when nothing moves any more."""
        store = self._world.store
        for listed in store.listed():
            name = listed.summary.transaction_id
            journal = store.read(name)
            rules = self.rules[name]
            if journal is None:
                self.wrong(f"D3: {name} is gone")
                continue
            saga = load(journal)
            if saga.sequence != rules.sequence:
                self.wrong(f"D3: {name} has {saga.sequence} entries, {rules.sequence} were made")
            told = summary_of(saga)._replace(due_at=None)
            if told != listed.summary._replace(due_at=None):
                self.wrong(f"A6: the summary of {name} does not fit its journal")
            result = self._world.result_of(saga)
            for rule, text in rules.limits.at_the_end(self._world.agenda.now - LATE):
                self.wrong(f"{rule}: {name}: {text}")
            self._check_chain(journal)
            self._check_liveness(rules, listed.summary, result)
            self._check_listed(rules, listed.summary, result)
            self._check_effects(rules, result)
        for problem in self._locks.at_the_end(self.rules, store.locks(None).locks):
            self.wrong(problem)

    def _check_liveness(self, rules: JournalRules, summary: Any, result: TransactionResult) -> None:
        name = rules.transaction_id
        if rules.is_final:
            if summary.attention is not None:
                self._world.count(f"left_to_a_person_{summary.attention}")
            if summary.runnable:
                self.wrong(f"L1: {name} has ended, and something is to be done yet")
            return
        is_begun = rules.commit_wanted or rules.rollback_wanted or not rules.was_pending
        if not is_begun and not rules.token:
            self._world.count("never_begun")
            return
        if summary.attention is None:
            waits = result.waiting and result.waiting.reason
            self.wrong(f"L1: {name} is {summary.state.value} for ever, waiting for {waits}")
        else:
            self._world.count(f"left_to_a_person_{summary.attention}")

    def _check_chain(self, journal: Journal) -> None:
        # Why one of them: to read a journal takes a while, and one shows what all would.
        tampers = not self._tampered and len(journal.entries) >= chains.TAMPERED_ENTRIES_MIN
        self._tampered = self._tampered or tampers
        for problem in chains.problems(journal, tampers=tampers):
            self.wrong(f"I11: {journal.transaction_id}: {problem}")

    def _check_listed(self, rules: JournalRules, summary: Any, result: TransactionResult) -> None:
        """Check that what a person has to look at is where a person looks."""
        name = rules.transaction_id
        listed = {item.step_id for item in result.outstanding}
        expected = [
            step_id
            for step_id in rules.outstanding()
            if not (rules.steps[step_id].acted_late and step_id in rules.limits.accounted)
        ]
        silent = [step_id for step_id in expected if step_id not in listed]
        if silent:
            self.wrong(f"I12: {name}: {silent} are outstanding, and the result does not name them")
        if rules.ended == "rolled_back" and expected and summary.attention is None:
            self.wrong(f"I12: {name} has outstanding steps, and nobody is to look at it")

    def _check_effects(self, rules: JournalRules, result: TransactionResult) -> None:
        name = rules.transaction_id
        listed = {item.step_id for item in result.outstanding}
        named = {*listed, *result.uncompensated, *result.unverified}
        for step_id, told in rules.steps.items():
            effect = self._world.participants.effects.get((name, step_id))
            if effect is None:
                if rules.ended == "committed" and told.state == "succeeded" and not told.simulated:
                    self._never_acted(rules, told)
                continue
            if effect.astray:
                self._world.count("astray_step")
                continue
            self._check_one(rules, told, effect, is_named=step_id in named)

    def _never_acted(self, rules: JournalRules, told: StepTold) -> None:
        if not told.by_person and not told.is_closed:
            where = f"{rules.transaction_id}/{told.definition.step_id}"
            self.wrong(f"I2: {where} is committed, and never acted")

    def _check_one(
        self, rules: JournalRules, told: StepTold, effect: Effect, *, is_named: bool
    ) -> None:
        where = f"{rules.transaction_id}/{told.definition.step_id}"
        was_retried = (rules.transaction_id, told.definition.step_id) in self.retried
        if effect.applied > 1 and not was_retried:
            self.wrong(f"I5: {where} took effect {effect.applied} times")
        if rules.ended == "committed":
            stands = told.state == "succeeded" and not told.is_closed
            if stands and effect.standing != 1 and not was_retried:
                self.wrong(f"I2: {where} is committed, and stands {effect.standing} times")
            if not stands and effect.standing and not (is_named or told.definition.effect):
                self.wrong(f"I2: {where} is no part of what is committed, and stands")
            confirms = told.definition.confirming_action is not None
            if stands and confirms and effect.confirmed != 1 and not told.by_person:
                self.wrong(f"D15: {where} is committed, and was confirmed {effect.confirmed} times")
        elif rules.ended == "failed":
            if effect.applied:
                self.wrong(f"I2: {where} has failed at the start, and acted")
        elif rules.ended == "rolled_back":
            is_left = is_named or told.left_in_place or told.definition.effect == "none"
            if effect.standing and not is_left:
                self.wrong(f"I2: {where} is rolled back, and stands without a word")
            if effect.confirmed:
                self.wrong(f"I8: {where} is rolled back, and was confirmed")


def _was_let_go_of(rules: JournalRules, told: StepTold) -> bool:
    """Tell whether the end has let go of what an outstanding step uses, as its plan says (G3)."""
    plan = rules.definition
    return (
        plan is not None
        and plan.release_outstanding_locks
        and rules.is_final
        and (told.is_outstanding or told.left_in_place)
    )


_OPERATIONS: dict[type, str] = {
    kinds.StepStarted: "action",
    kinds.CompensationStarted: "compensation",
    kinds.ProbeStarted: "probe",
    kinds.VerificationStarted: "verification",
    kinds.ConfirmationStarted: "confirmation",
}
"""What each intent announces."""

_COUNTED: dict[type, str] = {
    kinds.TransactionCommitted: "committed",
    kinds.TransactionRolledBack: "rolled_back",
    kinds.TransactionExpired: "expired",
    kinds.RollbackRevoked: "rollback_revoked",
    kinds.PartialRollbackStarted: "partial_rollback",
    kinds.CommitDecided: "commit_decided",
    kinds.LocksAwaited: "locks_awaited",
    LocksGranted: "locks_granted",
    kinds.UndoWindowClosing: "undo_window_closing",
    kinds.RetryScheduled: "retry_scheduled",
    kinds.ApprovalRequested: "approval_requested",
    kinds.ApprovalGiven: "approval_given",
    kinds.ApprovalDenied: "approval_denied",
    kinds.ScopeOpened: "scope_opened",
    kinds.ScopeReleased: "scope_released",
    kinds.UndoRequestRefused: "undo_request_refused",
    kinds.RereadAnswered: "reread",
    kinds.StepInDoubt: "in_doubt",
}
