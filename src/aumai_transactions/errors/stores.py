"""Journals that could not do what was asked of them.

Owns: those errors.
"""

from __future__ import annotations

from aumai_transactions.errors.root import TransactionError


class StoreError(TransactionError):
    """Say that the journal could not do what was asked of it."""


class StoreUnavailable(StoreError):
    """Say that the store could not be reached or written for now; trying again is safe.

    Args:
        message: What happened and what to do next.
        outcome_unknown: True where the write may or may not have become durable.
    """

    def __init__(self, message: str, *, outcome_unknown: bool = False) -> None:
        self.outcome_unknown = outcome_unknown
        super().__init__(message)


class JournalConflict(StoreError):
    """Say that somebody else drives or has changed this transaction; whoever gets this stops.

    Args:
        transaction_id: The transaction.
        detail: What somebody else did, as far as it is known.
    """

    def __init__(self, transaction_id: str, detail: str) -> None:
        self.transaction_id = transaction_id
        super().__init__(
            f"transaction {transaction_id}: {detail}. Nothing more was done here; read it again "
            f"with get_transaction(), or: aumai-transactions show {transaction_id}"
        )


class TransactionNotFound(StoreError, KeyError):
    """Say that no transaction has this id here."""

    def __init__(self, transaction_id: str, place: str, hint: str = "") -> None:
        self.transaction_id = transaction_id
        self.place = place
        # Why a limit: no id is as long, and whoever reads this wants to see the end of it.
        message = f"no transaction {transaction_id!r:.1100} in {place}."
        self.message = f"{message} {hint}".rstrip()
        super().__init__(self.message)

    def __str__(self) -> str:
        """Return the sentence itself; `KeyError` would put it in quotes."""
        return self.message


class StoreNotFound(StoreError):
    """Say that there is no store at a place where one was expected."""


class StoreFormatError(StoreError):
    """Say that what stands at this place is not a store of ours, or is damaged."""


class SchemaVersionError(StoreError):
    """Say that a newer release wrote this store.

    Args:
        place: The store.
        found: Its schema version.
        known: The newest schema version that this release reads.
    """

    def __init__(self, place: str, found: int, known: int) -> None:
        self.place = place
        self.found = found
        self.known = known
        super().__init__(
            f"{place} has schema version {found}; this release knows versions up to {known}. "
            "Install a newer aumai-transactions. Nothing was changed."
        )


class EngineError(TransactionError):
    """Say that the engine that carries transactions out could not do what was asked of it."""


class BackupError(StoreError):
    """Say that a backup, or a head witness, cannot be written, or is not what it has to be."""


class JournalCorrupt(StoreError):
    """Say that the journal of one transaction is not what was written.

    Args:
        transaction_id: The transaction; it is not executed any further, others are.
        sequence: The first entry that does not fit; 0 where no single one can be named.
        problem: What does not fit.
    """

    def __init__(self, transaction_id: str, sequence: int, problem: str) -> None:
        self.transaction_id = transaction_id
        self.sequence = sequence
        self.problem = problem
        super().__init__(
            f"the journal of transaction {transaction_id} is damaged at entry {sequence}: "
            f"{problem}. It is left as it is; compare it with a backup, and see: "
            f"aumai-transactions verify {transaction_id}"
        )


class JournalTooNew(StoreError):
    """Say that an entry was written by a newer release and cannot be read by this one.

    Args:
        transaction_id: The transaction; it is not executed any further, others are.
        sequence: The entry.
        found: What it is: a format version or an entry kind.
    """

    def __init__(self, transaction_id: str, sequence: int, found: str) -> None:
        self.transaction_id = transaction_id
        self.sequence = sequence
        self.found = found
        super().__init__(
            f"entry {sequence} of transaction {transaction_id} was written by a newer release "
            f"({found}). Install that release to go on with it; nothing was changed."
        )
