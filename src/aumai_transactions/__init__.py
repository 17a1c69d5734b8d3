"""ACID-like transactions for multi-agent operations.

A multi-agent operation either happens whole or is undone: each step declares its compensating
action, every intent is journaled before it is acted upon, and whatever happens the operation
ends committed or rolled back, with the journal as proof.
"""

from typing import TYPE_CHECKING

from aumai_transactions.actions import Action, ActionHandler, StepContext
from aumai_transactions.answers import (
    Clean,
    Continue,
    Done,
    NotDone,
    NothingToUndo,
    Residue,
    Unknown,
)
from aumai_transactions.drivers.default import transaction
from aumai_transactions.drivers.sagas import AsyncSagaOrchestrator, SagaOrchestrator
from aumai_transactions.drivers.steps import require_transaction, step
from aumai_transactions.drivers.sync import TransactionManager
from aumai_transactions.drivers.sync_block import Savepoint, TransactionBlock
from aumai_transactions.drivers.tools import transactional
from aumai_transactions.errors import (
    ApprovalPending,
    BackupError,
    CommitPointPassed,
    Deadlock,
    DefinitionError,
    DependencyCycle,
    DuplicateStep,
    EngineError,
    IdempotencyKeyReused,
    InternalError,
    InvalidData,
    InvalidTransactionState,
    IrreversibleBeforeCompensatable,
    JournalConflict,
    JournalCorrupt,
    JournalTooNew,
    LockTimeout,
    NoActiveTransaction,
    NotDelivered,
    OutcomeUnknown,
    PlanFileError,
    ReadConflict,
    RetryLater,
    SchemaVersionError,
    StepFailed,
    StepInDoubt,
    StepRejected,
    StepUndone,
    StoreError,
    StoreFormatError,
    StoreNotFound,
    StoreUnavailable,
    TransactionError,
    TransactionExpired,
    TransactionNotActive,
    TransactionNotFinal,
    TransactionNotFound,
    TransactionRolledBack,
    UndoRefused,
    UnknownAction,
    UnknownStep,
)
from aumai_transactions.models import (
    BackupReport,
    ConflictNotice,
    DescribedStep,
    Description,
    Event,
    Output,
    OutputReference,
    OutstandingCompensation,
    Recovered,
    Resource,
    ResourceLock,
    RetryPolicy,
    Risk,
    SecretRef,
    StepState,
    Transaction,
    TransactionResult,
    TransactionState,
    TransactionStep,
    Verification,
    Waiting,
    WitnessReport,
)
from aumai_transactions.stores import open_store

if TYPE_CHECKING:
    from aumai_transactions.drivers.aio import AsyncTransactionManager
    from aumai_transactions.drivers.async_block import AsyncSavepoint, AsyncTransactionBlock
    from aumai_transactions.drivers.backups import restore
    from aumai_transactions.drivers.worker import Worker

__version__ = "0.1.0"

__all__ = [
    "Action",
    "ActionHandler",
    "ApprovalPending",
    "AsyncSagaOrchestrator",
    "AsyncSavepoint",
    "AsyncTransactionBlock",
    "AsyncTransactionManager",
    "BackupError",
    "BackupReport",
    "Clean",
    "CommitPointPassed",
    "ConflictNotice",
    "Continue",
    "Deadlock",
    "DefinitionError",
    "DependencyCycle",
    "DescribedStep",
    "Description",
    "Done",
    "DuplicateStep",
    "EngineError",
    "Event",
    "IdempotencyKeyReused",
    "InternalError",
    "InvalidData",
    "InvalidTransactionState",
    "IrreversibleBeforeCompensatable",
    "JournalConflict",
    "JournalCorrupt",
    "JournalTooNew",
    "LockTimeout",
    "NoActiveTransaction",
    "NotDelivered",
    "NotDone",
    "NothingToUndo",
    "OutcomeUnknown",
    "Output",
    "OutputReference",
    "OutstandingCompensation",
    "PlanFileError",
    "ReadConflict",
    "Recovered",
    "Residue",
    "Resource",
    "ResourceLock",
    "RetryLater",
    "RetryPolicy",
    "Risk",
    "SagaOrchestrator",
    "Savepoint",
    "SchemaVersionError",
    "SecretRef",
    "StepContext",
    "StepFailed",
    "StepInDoubt",
    "StepRejected",
    "StepState",
    "StepUndone",
    "StoreError",
    "StoreFormatError",
    "StoreNotFound",
    "StoreUnavailable",
    "Transaction",
    "TransactionBlock",
    "TransactionError",
    "TransactionExpired",
    "TransactionManager",
    "TransactionNotActive",
    "TransactionNotFinal",
    "TransactionNotFound",
    "TransactionResult",
    "TransactionRolledBack",
    "TransactionState",
    "TransactionStep",
    "UndoRefused",
    "Unknown",
    "UnknownAction",
    "UnknownStep",
    "Verification",
    "Waiting",
    "WitnessReport",
    "Worker",
    "open_store",
    "require_transaction",
    "restore",
    "step",
    "transaction",
    "transactional",
]


def __getattr__(name: str) -> object:
    """Import what few need when it is first asked for: asyncio alone costs 40 ms."""
    if name == "AsyncTransactionManager":
        from aumai_transactions.drivers.aio import AsyncTransactionManager

        return AsyncTransactionManager
    if name in {"AsyncSavepoint", "AsyncTransactionBlock"}:
        from aumai_transactions.drivers import async_block

        return getattr(async_block, name)
    if name == "restore":
        from aumai_transactions.drivers.backups import restore

        return restore
    if name == "Worker":
        from aumai_transactions.drivers.worker import Worker

        return Worker
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
