"""Whole transactions, append by append, as their drivers would write them.

Owns: `Life`: the appends of one transaction of two steps that holds one resource.
Rules:
  1. The entries are what the core accepts, and the summaries and holdings what it makes of them:
     recovery goes on with such a transaction, and `verify` finds nothing wrong.
  2. A life is told by the transaction's id and its driver's, so that another process can make the
     very same appends again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aumai_transactions.core.definition import Definition, ResourceUse, StepDefinition
from aumai_transactions.core.entries import (
    Claimed,
    CommitRequested,
    Grant,
    LocksGranted,
    PlanRecorded,
    StepStarted,
    StepSucceeded,
    TransactionActivated,
    TransactionCommitted,
)
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.isolation import holdings_of
from aumai_transactions.core.outcome import summary_of
from aumai_transactions.core.saga import Saga
from aumai_transactions.store import Append

if TYPE_CHECKING:
    from aumai_transactions.core.entries import Entry

STAGES = ("begin", "claim", "go_on", "finish")
"""The appends of a life, in order."""
BEGUN_AT = 1_700_000_000_000_000
"""When every life begins, microseconds since 1970 UTC."""
PADDED = 20_000
"""How many bytes longer the plan of a transaction is whose id ends in `big`."""


class Life:
    """Hold the appends of one transaction by the names of `STAGES`.

    Args:
        transaction_id: Its id; one that ends in `big` has data of several pages.
        driver_id: Who claims it.
    """

    def __init__(self, transaction_id: str, driver_id: str) -> None:
        self.transaction_id = transaction_id
        self._saga = Saga(transaction_id)
        grants = (Grant(f"account:{transaction_id}", 1),)
        moments: dict[str, list[Entry]] = {
            "begin": [PlanRecorded(BEGUN_AT, _plan(transaction_id)), CommitRequested(BEGUN_AT)],
            "claim": [
                Claimed(BEGUN_AT + 1, 1, driver_id),
                TransactionActivated(BEGUN_AT + 1),
                LocksGranted(BEGUN_AT + 1, grants),
                StepStarted(BEGUN_AT + 1, "s1", 1),
            ],
            "go_on": [
                StepSucceeded(BEGUN_AT + 2, "s1", 1, {"by": "s1"}),
                StepStarted(BEGUN_AT + 2, "s2", 1),
            ],
            "finish": [
                StepSucceeded(BEGUN_AT + 3, "s2", 1),
                TransactionCommitted(BEGUN_AT + 3),
            ],
        }
        self.appends = {stage: self._append(stage, moments[stage], driver_id) for stage in STAGES}

    def _append(self, stage: str, entries: list[Entry], driver_id: str) -> Append:
        saga = self._saga
        before, held = saga.sequence, holdings_of(saga)
        for entry in entries:
            evolve(saga, entry)
        holdings = holdings_of(saga)
        return Append(
            self.transaction_id,
            before,
            f"{self.transaction_id}/{stage}",
            entries,
            summary_of(saga),
            token=None if stage == "begin" else 1,
            driver_id=driver_id if stage == "claim" else None,
            release=stage == "finish",
            holdings=None if holdings == held else holdings,
        )


def _plan(transaction_id: str) -> Definition:
    data: dict[str, Any] = {"of": transaction_id}
    if transaction_id.endswith("big"):
        data["padding"] = "p" * PADDED
    use = (ResourceUse(f"account:{transaction_id}"),)
    steps = (
        StepDefinition("s1", "agent", "act", data, "undo", idempotent=True, resources=use),
        StepDefinition("s2", "agent", "act", {"of": transaction_id}, "undo", idempotent=True),
    )
    # Why so long a time: whoever recovers does so by the machine's clock, years later.
    return Definition(BEGUN_AT, 10**9, steps)
