"""What a journal may say about a whole transaction.

Owns: the rules of its beginning, its decision and its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.testing.invariants.told import StepTold, Told, needs_of

if TYPE_CHECKING:
    from aumai_transactions.core import entries as kinds


class WholeRules(Told):
    """Hold what is said of the whole against the invariants."""

    def _on_plan_recorded(self, entry: kinds.PlanRecorded) -> None:
        self._require(self.was_pending, "D6", "the plan is replaced behind its beginning")
        self._require(not self.commit_wanted, "D21", "what was submitted is replaced")
        definition = self.definition = entry.definition
        self.steps = {
            step.step_id: StepTold(step, needs)
            for step, needs in zip(definition.steps, needs_of(definition), strict=True)
        }

    def _on_step_added(self, entry: kinds.StepAdded) -> None:
        self._require(not self.goes_back, "I4", f"{entry.step.step_id} is added while going back")
        references = [item.step_id for item in entry.step.references]
        needs = tuple(dict.fromkeys((*(entry.step.after or ()), *references)))
        self.steps[entry.step.step_id] = StepTold(entry.step, needs)

    def _on_claimed(self, entry: kinds.Claimed) -> None:
        self._require(entry.token == self.token + 1, "I6", f"token {entry.token} by {self.token}")
        dead, self.driver_id = self.driver_id, entry.driver_id
        self.token = entry.token
        if entry.takeover:
            # What the dead driver had begun to undo is called again, with the same key (C6), and
            # nobody waits for its calls (C5).
            for told in self.steps.values():
                told.undo_running = False
                if dead != entry.driver_id:
                    told.left = {n: who for n, who in told.left.items() if who != dead}

    def _on_transaction_activated(self, _entry: kinds.TransactionActivated) -> None:
        self._require(not self.goes_back, "I4", "it begins while going back")
        self.was_pending = False

    def _on_commit_requested(self, _entry: kinds.CommitRequested) -> None:
        self.commit_wanted = True

    def _on_rollback_requested(self, _entry: kinds.RollbackRequested) -> None:
        self.rollback_wanted = True

    def _on_rollback_started(self, _entry: kinds.RollbackStarted) -> None:
        self._require(not self.is_decided, "I8", "it goes back behind the commit point")
        running = [name for name, told in self.steps.items() if told.state == "running"]
        self._require(not running, "D5", f"it goes back while {running} run")
        self.goes_back = True
        for told in self.steps.values():
            self._take_late(told)
        if self.was_pending:
            # Nothing of it ever ran, and every undo is called all the same (D4).
            for told in self.steps.values():
                told.acted = True

    def _on_rollback_revoked(self, entry: kinds.RollbackRevoked) -> None:
        self._require(self.goes_back, "C12", "a rollback is revoked that has not begun")
        self._require(not self.rollback_wanted, "C12", "a rollback is revoked that was asked for")
        told = self._told(entry)
        self.goes_back = False
        told.undo_running = False
        told.revoked_undos = told.undo_attempts
        told.state, told.acted = "succeeded", True

    def _on_partial_rollback_started(self, entry: kinds.PartialRollbackStarted) -> None:
        self._require(not self.is_decided, "I8", "a part goes back behind the commit point")
        self.going_back.update(entry.step_ids)
        for name in entry.step_ids:
            self._take_late(self.steps[name])

    def _on_commit_decided(self, _entry: kinds.CommitDecided) -> None:
        self._require(not self.goes_back, "I2", "it is decided to commit while going back")
        unsure = [
            name
            for name, told in self.steps.items()
            if not told.definition.on_commit and not self._is_well(told)
        ]
        self._require(not unsure, "I2", f"it is decided to commit over {unsure}")
        self.is_decided = True

    def _on_transaction_committed(self, _entry: kinds.TransactionCommitted) -> None:
        self._require(not self.goes_back, "I2", "it commits while going back")
        unsure = [name for name, told in self.steps.items() if not self._is_well(told)]
        self._require(not unsure, "I2", f"it commits over {unsure}")
        unconfirmed = [
            name
            for name, told in self.steps.items()
            if told.definition.confirming_action is not None
            and told.state == "succeeded"
            and not (told.confirmed or told.is_closed)
        ]
        self._require(not unconfirmed, "D15", f"it commits, and {unconfirmed} are not confirmed")
        self.ended = "committed"

    def _is_well(self, told: StepTold) -> bool:
        """Tell whether the commit may go over a step (D2)."""
        if told.is_outstanding and not told.acted_late:
            return False
        if told.state == "succeeded" or told.is_closed or told.left_in_place:
            return not told.undo_running
        if told.definition.on_commit and told.by_person and told.confirmed:
            return True  # A person says that it happened.
        if told.definition.compensating_action is None and (
            told.definition.step_id in self.going_back
        ):
            return told.state != "running"  # It was given up, and nothing undoes it (D2).
        plan = self.definition
        is_planned = plan is not None and plan.shape == "planned"
        return not is_planned and told.state in ("new", "failed") and not told.acted

    def _on_transaction_rolled_back(self, _entry: kinds.TransactionRolledBack) -> None:
        self._require(self.goes_back, "I2", "it has ended as rolled back, and never went back")
        standing = [name for name, told in self.steps.items() if told.is_open or told.undo_running]
        self._require(not standing, "I2", f"it has ended as rolled back, and {standing} stand")
        silent = [
            name
            for name, told in self.steps.items()
            if told.state == "doubt"
            and not (told.is_closed or told.is_outstanding or told.left_in_place)
            and told.definition.effect != "none"
        ]
        self._require(not silent, "I13", f"it has ended, and nobody knows what {silent} did")
        halts = self.definition is not None and (
            self.definition.on_compensation_failure == "halt" and not self.was_pending
        )
        left = [name for name, told in self.steps.items() if told.is_outstanding]
        undoable = [n for n in left if self.steps[n].definition.compensating_action is not None]
        self._require(not (halts and undoable), "D7", f"it has ended over {undoable}, and halts")
        self.ended = "rolled_back"

    def _on_transaction_expired(self, _entry: kinds.TransactionExpired) -> None:
        started = [name for name, told in self.steps.items() if told.attempts]
        self._require(not started, "D1", f"it has failed at the start, and {started} ran")
        self.ended = "failed"
