"""What each kind of entry is called where it is stored.

Owns: those names. A name is never changed, and never given to another kind.
"""

from __future__ import annotations

from aumai_transactions.core import entries
from aumai_transactions.core.entries import Entry

KINDS: dict[str, type[Entry]] = {
    "plan_recorded": entries.PlanRecorded,
    "transaction_imported": entries.TransactionImported,
    "restored_from_backup": entries.RestoredFromBackup,
    "trust_given": entries.TrustGiven,
    "commit_requested": entries.CommitRequested,
    "rollback_requested": entries.RollbackRequested,
    "retry_requested": entries.RetryRequested,
    "resolution_given": entries.ResolutionGiven,
    "approval_given": entries.ApprovalGiven,
    "approval_denied": entries.ApprovalDenied,
    "claimed": entries.Claimed,
    "transaction_activated": entries.TransactionActivated,
    "transaction_expired": entries.TransactionExpired,
    "locks_awaited": entries.LocksAwaited,
    "locks_granted": entries.LocksGranted,
    "versions_read": entries.VersionsRead,
    "scope_opened": entries.ScopeOpened,
    "scope_released": entries.ScopeReleased,
    "step_added": entries.StepAdded,
    "step_requested": entries.StepRequested,
    "step_refused": entries.StepRefused,
    "approval_requested": entries.ApprovalRequested,
    "step_started": entries.StepStarted,
    "step_succeeded": entries.StepSucceeded,
    "step_failed": entries.StepFailed,
    "step_in_doubt": entries.StepInDoubt,
    "retry_scheduled": entries.RetryScheduled,
    "probe_started": entries.ProbeStarted,
    "probe_answered": entries.ProbeAnswered,
    "call_returned_late": entries.CallReturnedLate,
    "partial_rollback_started": entries.PartialRollbackStarted,
    "undo_request_refused": entries.UndoRequestRefused,
    "undo_window_closing": entries.UndoWindowClosing,
    "reread_answered": entries.RereadAnswered,
    "commit_decided": entries.CommitDecided,
    "confirmation_started": entries.ConfirmationStarted,
    "confirmation_succeeded": entries.ConfirmationSucceeded,
    "confirmation_failed": entries.ConfirmationFailed,
    "rollback_started": entries.RollbackStarted,
    "rollback_revoked": entries.RollbackRevoked,
    "compensation_started": entries.CompensationStarted,
    "compensation_succeeded": entries.CompensationSucceeded,
    "compensation_failed": entries.CompensationFailed,
    "verification_started": entries.VerificationStarted,
    "verification_answered": entries.VerificationAnswered,
    "step_outstanding": entries.StepOutstanding,
    "transaction_committed": entries.TransactionCommitted,
    "transaction_rolled_back": entries.TransactionRolledBack,
}
