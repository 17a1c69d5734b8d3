"""Everything this package raises on purpose, split by who can act on it.

    TransactionError                    everything raised on purpose
      InvalidTransactionState           the call does not fit the state; names both
        TransactionNotActive            it has ended or is ending; nothing was done
        CommitPointPassed               it can only go forward; nothing was changed
      NoActiveTransaction               a step that needs a transaction was called outside one
      StepInDoubt                       nobody knows whether a step happened; see .undone
      StepFailed                        a step's action raised, elsewhere or earlier
      StepUndone                        a step was undone while its caller waited for it
      LockTimeout                       others have held what a step uses for too long
      ApprovalPending                   a person has not allowed a step yet; ask again later
      UndoRefused                       something in force depends on what was to be undone
      DefinitionError                   the plan is wrong; raised before anything of it runs
        UnknownAction                   no handler has this name, and a dry run is not allowed here
        DuplicateStep                   two steps share one step id
        UnknownStep                     a step names another step that does not exist
        DependencyCycle                 steps wait for each other in a circle
        IrreversibleBeforeCompensatable what cannot be undone stands before what may be
        PlanFileError                   a plan file cannot be used; names file, table and key
        IdempotencyKeyReused            a key was used again for another plan
      InvalidData                       a value cannot be written to the journal; names the key
      TransactionRolledBack             wanted a commit, got a rollback: see .result
        TransactionExpired              the deadline had passed before anything ran (state `failed`)
        ReadConflict                    what was read has changed before the commit point
        Deadlock                        transactions waited for each other; this one gave way
      TransactionNotFinal               wanted an outcome, something is still waiting: .result
      StoreError                        the journal could not do what was asked
        StoreUnavailable                transient: trying again is safe
        JournalConflict                 someone else drives this transaction: stop, do nothing more
        TransactionNotFound             the store does not hold this transaction
        StoreNotFound                   there is no store at this place
        StoreFormatError                what is at this place is not a store of ours
        SchemaVersionError              the store was written by a newer release
        BackupError                     a backup, or a witness, is not what it has to be
        JournalCorrupt                  an entry was edited, removed or reordered
        JournalTooNew                   an entry was written by a newer release
      EngineError                       the engine that hosts transactions could not do its part
      InternalError                     our bug; asks for a report, carries the journal's tail

Raised *by* a handler to steer the core: `StepRejected`, `NotDelivered`, `RetryLater`,
`OutcomeUnknown`.

Rules:
  1. Attributes first, message second: whoever catches an error need not parse its text.
  2. A message says what happened, to which transaction, and what to do next.
  3. Nothing third-party crosses our boundary bare; it is the `__cause__`.
"""

from aumai_transactions.errors.definitions import (
    DefinitionError,
    DependencyCycle,
    DuplicateStep,
    IdempotencyKeyReused,
    InvalidData,
    IrreversibleBeforeCompensatable,
    PlanFileError,
    UnknownAction,
    UnknownStep,
)
from aumai_transactions.errors.outcomes import (
    Deadlock,
    ReadConflict,
    TransactionExpired,
    TransactionNotFinal,
    TransactionRolledBack,
    rolled_back,
)
from aumai_transactions.errors.root import (
    InternalError,
    TransactionError,
)
from aumai_transactions.errors.states import (
    ApprovalPending,
    CommitPointPassed,
    InvalidTransactionState,
    LockTimeout,
    NoActiveTransaction,
    StepFailed,
    StepInDoubt,
    StepUndone,
    TransactionNotActive,
    UndoRefused,
)
from aumai_transactions.errors.stores import (
    BackupError,
    EngineError,
    JournalConflict,
    JournalCorrupt,
    JournalTooNew,
    SchemaVersionError,
    StoreError,
    StoreFormatError,
    StoreNotFound,
    StoreUnavailable,
    TransactionNotFound,
)
from aumai_transactions.errors.verdicts import (
    NotDelivered,
    OutcomeUnknown,
    RetryLater,
    StepRejected,
)

__all__ = [
    "ApprovalPending",
    "BackupError",
    "CommitPointPassed",
    "Deadlock",
    "DefinitionError",
    "DependencyCycle",
    "DuplicateStep",
    "EngineError",
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
    "OutcomeUnknown",
    "PlanFileError",
    "ReadConflict",
    "RetryLater",
    "SchemaVersionError",
    "StepFailed",
    "StepInDoubt",
    "StepRejected",
    "StepUndone",
    "StoreError",
    "StoreFormatError",
    "StoreNotFound",
    "StoreUnavailable",
    "TransactionError",
    "TransactionExpired",
    "TransactionNotActive",
    "TransactionNotFinal",
    "TransactionNotFound",
    "TransactionRolledBack",
    "UndoRefused",
    "UnknownAction",
    "UnknownStep",
    "rolled_back",
]
