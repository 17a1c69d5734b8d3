"""ACID-like transactions for multi-agent operations.

A multi-agent operation either happens whole or is undone: each step declares its compensating
action, every intent is journaled before it is acted upon, and whatever happens the operation
ends committed or rolled back, with the journal as proof.
"""

from typing import TYPE_CHECKING

from aumai_transactions.actions import Action, ActionHandler, StepContext
from aumai_transactions.drivers.sync import SagaOrchestrator, TransactionManager
from aumai_transactions.errors import (
    DefinitionError,
    DependencyCycle,
    DuplicateStep,
    InternalError,
    InvalidData,
    InvalidTransactionState,
    JournalConflict,
    JournalCorrupt,
    JournalTooNew,
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
    "DefinitionError",
    "DependencyCycle",
    "DuplicateStep",
    "Event",
    "InternalError",
    "InvalidData",
    "InvalidTransactionState",
    "JournalConflict",
    "JournalCorrupt",
    "JournalTooNew",
    "OutcomeUnknown",
    "OutputReference",
    "OutstandingCompensation",
    "PlanFileError",
    "Recovered",
    "RetryLater",
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
