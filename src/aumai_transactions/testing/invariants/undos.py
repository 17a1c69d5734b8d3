"""What a journal may say about the undo of a step.

Owns: the rules of its order, its calls and its verification.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.testing.invariants.told import StepTold, Told

if TYPE_CHECKING:
    from aumai_transactions.core import entries as kinds


class UndoRules(Told):
    """Hold what is said of undos against the invariants."""

    def _on_compensation_started(self, entry: kinds.CompensationStarted) -> None:
        told, name = self._told(entry), entry.step_id
        goes_back = self.goes_back or name in self.going_back
        self._require(goes_back, "I3", f"{name} is undone, and nothing goes back")
        self._require(not self.is_decided, "I8", f"{name} is undone behind the commit point")
        self._require(not told.undo_running, "I5", f"{name} is undone while it is being undone")
        self._require(
            told.acted or told.acted_late, "I3", f"{name} is undone, and is known not to have acted"
        )
        self._require(not told.is_closed or told.undo_asked, "I5", f"{name} is undone twice")
        before = [other for other in self.behind(name) if self.steps[other].is_open]
        self._require(not before, "I3", f"{name} is undone before {before}")
        if told.state == "doubt" and told.definition.policy.has_probe and not told.undo_attempts:
            self._require(told.asked, "C4", f"{name} is undone before its probe was asked")
        in_doubt = told.state == "doubt"
        self._require(entry.in_doubt == in_doubt, "I13", f"{name}: in_doubt is {entry.in_doubt}")
        self._not_early(told, entry)
        told.undo_running = True
        told.undo_attempts += 1
        told.is_outstanding = False

    def _on_compensation_succeeded(self, entry: kinds.CompensationSucceeded) -> None:
        told = self._told(entry)
        runs = told.undo_running or entry.simulated
        self._require(runs, "I13", f"{entry.step_id} is undone, and its undo did not run")
        told.undo_running = False
        if told.definition.policy.has_verify and not self.was_pending and not entry.simulated:
            told.verifying = True
        else:
            self._close(told)

    def _close(self, told: StepTold) -> None:
        told.is_closed, told.verifying, told.undo_asked = True, False, False
        told.is_outstanding = bool(told.left) or told.acted_late

    def _on_compensation_failed(self, entry: kinds.CompensationFailed) -> None:
        told = self._told(entry)
        runs = told.undo_running or entry.attempt == 0
        self._require(runs, "I13", f"the undo of {entry.step_id} has failed, and did not run")
        told.undo_running = False
        if not entry.will_retry:
            told.undo_asked = False
            if self.was_pending:
                told.is_closed = True
            else:
                told.is_outstanding = True

    def _on_verification_started(self, entry: kinds.VerificationStarted) -> None:
        told = self._told(entry)
        self._require(told.verifying, "C13", f"{entry.step_id} is verified, and was not undone")
        self._not_early(told, entry)

    def _on_verification_answered(self, entry: kinds.VerificationAnswered) -> None:
        told = self._told(entry)
        if entry.answer == "residue":
            told.verifying, told.is_outstanding, told.undo_asked = False, True, False
        elif not entry.will_retry:
            told.unverified = entry.answer == "unknown"
            self._close(told)

    def _on_step_outstanding(self, entry: kinds.StepOutstanding) -> None:
        told = self._told(entry)
        told.is_outstanding, told.undo_asked = True, False
        told.undo_running = False  # It had no handler here.
