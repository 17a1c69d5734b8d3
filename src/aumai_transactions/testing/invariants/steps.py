"""What a journal may say about a step that goes forward.

Owns: the rules of its calls, its doubts and its confirmation, of what it holds, and of what people
say of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.testing.invariants.told import StepTold, Told

if TYPE_CHECKING:
    from aumai_transactions.core import entries as kinds
    from aumai_transactions.core.lock_entries import LocksGranted


class StepRules(Told):
    """Hold what is said of steps against the invariants."""

    def _on_step_started(self, entry: kinds.StepStarted) -> None:
        told, name = self._told(entry), entry.step_id
        self.was_pending = False
        self._require(not self.goes_back, "I4", f"{name} starts while going back")
        self._require(name not in self.going_back, "I4", f"{name} starts, and is being undone")
        self._require(told.state != "running", "I5", f"{name} starts while it runs")
        self._require(told.state != "succeeded", "I5", f"{name} starts, and has succeeded")
        self._require(
            entry.attempt == told.attempts + 1, "I5", f"{name}: attempt {entry.attempt} is next to "
            f"{told.attempts}",
        )  # fmt: skip
        if told.acted:
            safe = told.definition.idempotent or told.wanted
            self._require(safe, "I5", f"{name} starts again, and may have had its effect")
            asked = told.asked or not told.definition.policy.has_probe
            self._require(asked, "C4", f"{name} starts again before its probe was asked")
        unmet = [other for other in told.needs if self.steps[other].state != "succeeded"]
        unmet = [other for other in unmet if not self.steps[other].left_in_place]
        self._require(not unmet, "I3", f"{name} starts before {unmet}")
        self._require(
            told.due_at is None or entry.at >= told.due_at, "C8", f"{name} starts too early"
        )
        self._require(
            told.definition.on_commit == self.is_decided, "D15",
            f"{name} starts on the wrong side of the commit point",
        )  # fmt: skip
        self._allowed(told, name)
        told.attempts += 1
        told.state = "running"
        told.due_at = None
        told.wanted = False

    def _allowed(self, told: StepTold, name: str) -> None:
        definition = told.definition
        if definition.requires_approval:
            self._require(told.approved, "D18", f"{name} starts, and nobody has allowed it")
        plan = self.definition
        if plan is not None and plan.isolation != "none":
            for use in definition.resources:
                needs = use.mode == "exclusive" or plan.isolation == "exclusive"
                has = self.held.get(use.name)
                holds = has in {"exclusive", use.mode}
                self._require(holds or not needs, "I10", f"{name} starts without {use.name}")
        if definition.pivot:
            busy = [
                other
                for other, one in self.steps.items()
                if one is not told and one.state in ("running", "doubt")
            ]
            self._require(not busy, "D14", f"the pivot {name} starts while {busy} are not settled")

    def _on_step_succeeded(self, entry: kinds.StepSucceeded) -> None:
        told, name = self._told(entry), entry.step_id
        runs = told.state == "running" or (entry.simulated and told.state == "new")
        self._require(runs, "I13", f"{name} has succeeded, and did not run")
        self._require(not self.goes_back, "I4", f"{name} has succeeded while going back")
        told.simulated = entry.simulated
        self._known_done(told)

    def _on_step_failed(self, entry: kinds.StepFailed) -> None:
        told, name = self._told(entry), entry.step_id
        runs = told.state == "running" or entry.attempt == 0
        self._require(runs, "I13", f"{name} has failed, and did not run")
        if told.acted:
            self._require(
                told.definition.idempotent, "I13", f"{name} has failed, and was in doubt before"
            )
        told.state, told.acted, told.asked = "failed", False, False
        if entry.attempt:
            told.refused.add(entry.attempt)

    def _on_step_in_doubt(self, entry: kinds.StepInDoubt) -> None:
        told = self._told(entry)
        self._require(told.state == "running", "I13", f"{entry.step_id} is in doubt, and idle")
        told.state, told.acted, told.asked = "doubt", True, False
        # Why the condition: its late answer may have been journaled before the doubt was.
        if entry.left_behind and entry.attempt not in told.returned_late:
            told.left[entry.attempt] = self.driver_id

    def _on_retry_scheduled(self, entry: kinds.RetryScheduled) -> None:
        self._told(entry).due_at = entry.due_at

    def _on_probe_started(self, entry: kinds.ProbeStarted) -> None:
        told = self._told(entry)
        self._require(told.state == "doubt", "C4", f"{entry.step_id} is asked about, and is sure")
        self._not_early(told, entry)

    def _on_probe_answered(self, entry: kinds.ProbeAnswered) -> None:
        told = self._told(entry)
        if entry.answer == "done":
            self._said_done(told)
        elif entry.answer == "not_done":
            told.state, told.acted = "failed", False
        else:
            told.asked = not entry.will_retry

    def _on_call_returned_late(self, entry: kinds.CallReturnedLate) -> None:
        told = self._told(entry)
        if entry.operation != "action":
            return
        told.left.pop(entry.attempt, None)
        told.returned_late.add(entry.attempt)
        if entry.attempt in told.accounted:
            return
        if entry.outcome == "succeeded":
            self._late_success(entry.step_id, told)
        elif entry.outcome == "not_done":
            told.refused.add(entry.attempt)
            if len(told.refused) < told.attempts:
                return  # It answers for itself alone (the table of C5).
            if told.state == "doubt" and not told.undo_attempts and self.ended is None:
                told.state, told.acted = "failed", False
            elif told.is_closed and not told.acted_late:
                told.is_outstanding = False

    def _late_success(self, name: str, told: StepTold) -> None:
        """Take in that a call which had been given up has acted after all (the table of C5)."""
        goes_back = self.goes_back or name in self.going_back
        is_undone = told.undo_attempts > told.revoked_undos
        if is_undone or told.is_closed or told.state == "failed":
            told.acted_late = told.acted = True
            # Why not yet while it is being undone: what becomes of that is told when it ends.
            is_over = told.is_closed or told.is_outstanding or not is_undone
            told.is_outstanding = is_over and (told.is_closed or goes_back or self.is_final)
        elif told.state == "doubt" and goes_back:
            told.state, told.due_at = "succeeded", None
        elif told.state in ("doubt", "running"):
            told.late_success = True

    def _on_retry_requested(self, entry: kinds.RetryRequested) -> None:
        told = self._told(entry)
        if told.due_at is not None:
            told.due_at = entry.at
            return
        if told.state == "doubt":
            told.wanted, told.asked = True, False
        if told.definition.compensating_action is None:
            return  # Only a person can say what becomes of it (D10).
        if told.is_outstanding:
            # It is undone once more; what had acted late is not held against it a second time.
            told.acted_late = told.is_outstanding = False
            told.undo_asked = True
            if self.goes_back:
                told.is_closed = False
                told.acted = True

    def _on_resolution_given(self, entry: kinds.ResolutionGiven) -> None:
        told = self._told(entry)
        told.by_person, told.due_at = True, None
        told.is_outstanding = False
        if entry.answer == "happened":
            if told.state == "doubt":
                self._said_done(told)
            told.confirmed = True
        elif entry.answer == "did_not_happen":
            told.state, told.acted = "failed", False
        else:
            told.is_closed, told.undo_asked = True, False
            told.left_in_place = entry.answer == "left_in_place"

    def _on_approval_given(self, entry: kinds.ApprovalGiven) -> None:
        self._told(entry).approved = True

    def _on_confirmation_started(self, entry: kinds.ConfirmationStarted) -> None:
        told = self._told(entry)
        self._require(self.is_decided, "D15", f"{entry.step_id} is confirmed before the decision")
        done = told.state == "succeeded"
        self._require(done, "D15", f"{entry.step_id} is confirmed, and did not succeed")
        self._not_early(told, entry)

    def _on_confirmation_succeeded(self, entry: kinds.ConfirmationSucceeded) -> None:
        self._told(entry).confirmed = True

    def _on_locks_granted(self, entry: LocksGranted) -> None:
        late = self.goes_back or self.is_decided
        self._require(not late, "G2", "it claims resources behind its decision")
        for grant in entry.grants:
            if self.held.get(grant.name) != "exclusive":
                self.held[grant.name] = grant.mode
