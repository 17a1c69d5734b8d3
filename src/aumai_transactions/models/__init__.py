"""What users hold: a transaction, its steps, and its result.

Owns: the shapes that cross the public boundary, all pydantic v2 models with an equal JSON
round trip.
Rules:
  1. No model decides anything. The journal decides; a model shows.
  2. The caller's own `Transaction` object is kept current after each durable append, and
     never before it.
  3. Times are aware UTC datetimes; durations are seconds.
"""

from __future__ import annotations

from aumai_transactions.models.descriptions import (
    ConflictNotice,
    DescribedStep,
    Description,
)
from aumai_transactions.models.reports import (
    BackupReport,
    Event,
    Recovered,
    ResourceLock,
    Risk,
    RiskCode,
    Verification,
    WitnessReport,
)
from aumai_transactions.models.results import (
    OutstandingCompensation,
    TransactionResult,
    Waiting,
)
from aumai_transactions.models.states import (
    RollbackReason,
    StepState,
    TransactionState,
)
from aumai_transactions.models.transactions import (
    Transaction,
    TransactionStep,
)
from aumai_transactions.models.values import (
    CRASHES_MAX,
    DEFAULT_TIMEOUT_SECONDS,
    LOCK_TIMEOUT_SECONDS,
    SECONDS_MAX,
    JsonType,
    Model,
    Output,
    OutputReference,
    Resource,
    RetryPolicy,
    SecretRef,
)

__all__ = [
    "CRASHES_MAX",
    "DEFAULT_TIMEOUT_SECONDS",
    "LOCK_TIMEOUT_SECONDS",
    "SECONDS_MAX",
    "BackupReport",
    "ConflictNotice",
    "DescribedStep",
    "Description",
    "Event",
    "JsonType",
    "Model",
    "Output",
    "OutputReference",
    "OutstandingCompensation",
    "Recovered",
    "Resource",
    "ResourceLock",
    "RetryPolicy",
    "Risk",
    "RiskCode",
    "RollbackReason",
    "SecretRef",
    "StepState",
    "Transaction",
    "TransactionResult",
    "TransactionState",
    "TransactionStep",
    "Verification",
    "Waiting",
    "WitnessReport",
]
