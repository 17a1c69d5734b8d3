"""What becomes of a call that was given up after its timeout and returns later.

Owns: the way of a late answer into the journal. It goes there as a fact, without a token,
whoever drives the transaction by then, and also where it is finished (SEMANTICS C5).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aumai_transactions.calls import attempt_of, late
from aumai_transactions.core.decider import decide
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.isolation import holdings_of
from aumai_transactions.core.observations import HandlerRaised, HandlerReturned
from aumai_transactions.core.outcome import summary_of
from aumai_transactions.drivers.desk import Desk, read_saga
from aumai_transactions.drivers.in_place import carry_out
from aumai_transactions.drivers.operations import DoAppend, DoSleep, Procedure
from aumai_transactions.drivers.run import Run
from aumai_transactions.errors import StoreUnavailable
from aumai_transactions.store import Append, AppendAnswer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aumai_transactions.core.observations import LateReturn, Observation
    from aumai_transactions.core.saga import Saga

log = logging.getLogger("aumai_transactions")

PAUSES_SECONDS = (0.02, 0.1, 0.5)
"""How long to wait before trying again while the store cannot be written."""


def hand_in(desk: Desk, transaction_id: str, seen: LateReturn) -> None:
    """Journal a late answer from whichever thread it comes in, which may wait for a disk.

    It raises nothing: there is nobody left to whom it could be raised.
    """
    carry_out(desk, handing_in(desk, transaction_id, seen), queues=False)


def handing_in(desk: Desk, transaction_id: str, seen: LateReturn) -> Procedure[None]:
    """Journal a late answer; it raises nothing."""
    pauses = list(PAUSES_SECONDS)
    while True:
        try:
            yield from _record(desk, transaction_id, seen)
        except Exception as error:  # noqa: BLE001 (there is nobody to raise it to)
            if isinstance(error, StoreUnavailable) and pauses:
                yield DoSleep(pauses.pop(0))
                continue
            # Why only a log line: nothing depends on it. Whoever undoes the step waits for the
            # answer only so long, and then says that the call may still act.
            log.warning(
                "transaction %s, step %s: a call that had been given up returned (%s), which could "
                "not be journaled: %s",
                transaction_id,
                seen.step_id,
                seen.outcome,
                error,
                extra={
                    "transaction_id": transaction_id,
                    "step_id": seen.step_id,
                    "attempt": seen.attempt,
                    "driver_id": desk.driver_id,
                },
            )
        return


def late_returns(saga: Saga, seen: Sequence[Observation]) -> Iterator[LateReturn]:
    """Yield what calls have answered that are not this driver's any more, as late answers.

    Args:
        saga: The transaction as this driver saw it, the calls' intents included.
        seen: What was seen, and could not be recorded.
    """
    for one in seen:
        if isinstance(one, (HandlerReturned, HandlerRaised)):
            step = saga.by_id.get(one.step_id)
            answer = None if step is None else late(one, attempt_of(step, one.operation))
            if answer is not None:
                yield answer


def _record(desk: Desk, transaction_id: str, seen: LateReturn) -> Procedure[None]:
    while True:
        saga = yield from read_saga(desk, transaction_id)
        run = Run(transaction_id, saga, desk.registry, sequence=saga.sequence)
        entries = decide(saga, seen, desk.clock.now())
        if not entries:
            return
        had = holdings_of(saga)
        for entry in entries:
            evolve(saga, entry)
        has = holdings_of(saga)
        append = Append(
            transaction_id,
            run.sequence,
            desk.append_id(),
            entries,
            summary_of(saga),
            # What stayed held because the call might still act is let go of with its answer.
            holdings=None if has == had else has,
        )
        answer = yield DoAppend(append, run)
        if answer is not AppendAnswer.moved:
            desk.announce(run, entries)
            here = desk.book.run_of(transaction_id)
            if here is not None and here.shared is not None:
                here.shared.hear()
            return
