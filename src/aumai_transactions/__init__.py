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
from aumai_transactions.drivers.sync import SagaOrchestrator, TransactionManager
from aumai_transactions.errors import (
    DefinitionError,
    DependencyCycle,
    DuplicateStep,
    IdempotencyKeyReused,
    InternalError,
    InvalidData,
    InvalidTransactionState,
    JournalConflict,
    JournalCorrupt,
    JournalTooNew,
    NotDelivered,
    OutcomeUnknown,
    PlanFileError,
    RetryLater,
    SchemaVersionError,
    StepRejected,
    StoreError,
    StoreFormatError,
    StoreNotFound,
    StoreUnavailable,
    TransactionError,
    TransactionExpired,
    TransactionNotFinal,
    TransactionNotFound,
    TransactionRolledBack,
    UnknownAction,
    UnknownStep,
)
from aumai_transactions.models import (
    Event,
    OutputReference,
    OutstandingCompensation,
    Recovered,
    RetryPolicy,
    Risk,
    StepState,
    Transaction,
    TransactionResult,
    TransactionState,
    TransactionStep,
    Verification,
    Waiting,
)
from aumai_transactions.stores import open_store

if TYPE_CHECKING:
    from aumai_transactions.drivers.aio import AsyncSagaOrchestrator, AsyncTransactionManager

__version__ = "0.1.0"

__all__ = [
    "Action",
    "ActionHandler",
    "AsyncSagaOrchestrator",
    "AsyncTransactionManager",
    "Clean",
    "Continue",
    "DefinitionError",
    "DependencyCycle",
    "Done",
    "DuplicateStep",
    "Event",
    "IdempotencyKeyReused",
    "InternalError",
    "InvalidData",
    "InvalidTransactionState",
    "JournalConflict",
    "JournalCorrupt",
    "JournalTooNew",
    "NotDelivered",
    "NotDone",
    "NothingToUndo",
    "OutcomeUnknown",
    "OutputReference",
    "OutstandingCompensation",
    "PlanFileError",
    "Recovered",
    "Residue",
    "RetryLater",
    "RetryPolicy",
    "Risk",
    "SagaOrchestrator",
    "SchemaVersionError",
    "StepContext",
    "StepRejected",
    "StepState",
    "StoreError",
    "StoreFormatError",
    "StoreNotFound",
    "StoreUnavailable",
    "Transaction",
    "TransactionError",
    "TransactionExpired",
    "TransactionManager",
    "TransactionNotFinal",
    "TransactionNotFound",
    "TransactionResult",
    "TransactionRolledBack",
    "TransactionState",
    "TransactionStep",
    "Unknown",
    "UnknownAction",
    "UnknownStep",
    "Verification",
    "Waiting",
    "open_store",
]


def __getattr__(name: str) -> object:
    """Import what needs asyncio when it is first asked for: asyncio costs 40 ms."""
    if name in {"AsyncSagaOrchestrator", "AsyncTransactionManager"}:
        from aumai_transactions.drivers import aio

        return getattr(aio, name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
