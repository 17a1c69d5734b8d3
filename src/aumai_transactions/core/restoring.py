"""Transactions that came out of a backup.

Owns: that nobody acts on one of them until a person says so, and what that person says.
Rules:
  1. A backup is behind the world: what was carried out after it was made stands in no journal.
     So nothing is planned for what was not finished in it, and no driver takes it (invariant I13).
  2. A person lets it go on, or go back; that stands in the journal, with who and why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core.entries import Entry, TrustGiven
from aumai_transactions.core.times import instant
from aumai_transactions.core.transitions import require
from aumai_transactions.core.values import checked_note
from aumai_transactions.errors import InvalidTransactionState

if TYPE_CHECKING:
    from aumai_transactions.core.entries import RestoredFromBackup
    from aumai_transactions.core.observations import TrustAnswered
    from aumai_transactions.core.saga import Saga


def restored_from_backup(saga: Saga, entry: RestoredFromBackup) -> None:
    """Hold a transaction back from everybody."""
    require(saga.sequence > 0, "a restored journal is empty")
    saga.restored = "held"
    by = f" by {entry.by}" if entry.by else ""
    note = f" ({entry.note})" if entry.note else ""
    made = instant(entry.made_at).isoformat(timespec="seconds").replace("+00:00", "Z")
    saga.warnings.append(f"restored{by} from a backup of {made}{note}")


def trust_given(saga: Saga, entry: TrustGiven) -> None:
    """Let it go on from where its journal stands."""
    require(saga.restored == "held", "it does not wait for that")
    saga.restored = "trusted"
    note = f" ({entry.note})" if entry.note else ""
    saga.warnings.append(f"{entry.by} let it go on after it was restored{note}")


def wanted_back(saga: Saga) -> None:
    """Let it go back, as somebody wants."""
    if saga.restored == "held":
        saga.restored = "trusted"


def trusted(saga: Saga, seen: TrustAnswered, now: int) -> list[Entry]:
    """Return that a person lets a transaction go on.

    Raises:
        InvalidTransactionState: It does not wait for that.
    """
    if saga.restored != "held":
        hint = "Only what came out of a backup, and that nobody has let go on yet, waits for it."
        raise InvalidTransactionState(saga.transaction_id, saga.state.value, "trust", hint)
    return [TrustGiven(now, checked_note(seen.by, "by"), checked_note(seen.note, "note"))]


def refuse_held(saga: Saga, call: str) -> None:
    """Refuse what would act on a transaction that nobody has let go on yet.

    Raises:
        InvalidTransactionState: It came out of a backup.
    """
    if saga.restored == "held":
        raise InvalidTransactionState(
            saga.transaction_id,
            "restored from a backup",
            call,
            "What ran after the backup stands in no journal. Find out what has happened, then: "
            f"aumai-transactions recover --trust {saga.transaction_id} --note '…'",
        )
