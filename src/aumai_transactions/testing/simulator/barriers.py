"""A participant that keeps its contract by the barrier that we ship.

Owns: the way from a simulated call to `participants/barrier`, on a real table in memory.
Rules:
  1. What it answers is the barrier's; what it does is the simulation's, and stands only once the
     barrier has committed.
"""

from __future__ import annotations

import sqlite3
from itertools import count
from typing import TYPE_CHECKING, Any

from aumai_transactions.answers import Continue, NothingToUndo, Unknown
from aumai_transactions.errors import RetryLater, StepRejected
from aumai_transactions.participants.barrier.block import barrier, barrier_probe
from aumai_transactions.participants.barrier.calls import (
    BarrierCall,
    CallUndone,
    StaleDriver,
)
from aumai_transactions.participants.barrier.table import create_barrier_table
from aumai_transactions.testing.simulator.participants import Participants, _Row

if TYPE_CHECKING:
    from aumai_transactions.clock import Clock
    from aumai_transactions.testing.simulator.actions import Request
    from aumai_transactions.testing.simulator.participants import Effect

_NOTHING = "nothing to undo"


class _Continues(Exception):
    """Say that an undo answers otherwise, and records nothing."""


class BarrierParticipants(Participants):
    """Be participants behind the barrier.

    Args:
        clock: What time it is.
        given: What participants are given.
    """

    def __init__(self, clock: Clock, *given: Any) -> None:
        super().__init__(*given)
        self._clock = clock
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        self._numbers = count(1)
        create_barrier_table(self._connection)

    def close(self) -> None:
        """Let go of the table."""
        self._connection.close()

    def settle_by_hand(self, transaction_id: str, step_id: str, forward_key: str) -> None:
        """Let a person undo what a step has done, and see to it that it cannot come back."""
        self.effect(transaction_id, step_id).standing = 0
        by_hand = BarrierCall(
            f"{forward_key}/by-hand/{next(self._numbers)}", "compensation", forward_key
        )
        with barrier(self._connection, by_hand, clock=self._clock):
            pass

    def seal(self, forward_key: str) -> None:
        """Let a person see to it that a call which has not arrived never acts."""
        asked = BarrierCall(f"{forward_key}/asked/{next(self._numbers)}", "probe", forward_key)
        barrier_probe(self._connection, asked, clock=self._clock)

    def _keyed_action(self, request: Request, effect: Effect) -> Any:
        try:
            with barrier(self._connection, request.context, clock=self._clock) as admission:
                if admission.is_due:
                    self._before_effect(request)
                    admission.answer = self._output(request)
                    if self._hit("rejects", request):
                        raise StepRejected("the participant says no")
        except CallUndone as refused:
            was_there = refused.was_carried_out
            self._count("repeat_after_undo" if was_there else "hanging_refused")
            raise
        except StaleDriver:
            self._count("stale_driver_refused")
            raise
        except (RetryLater, ValueError):
            self._let_it_stay_undone(request)
            raise
        if admission.is_due:
            self._apply(request, effect)
        else:
            self._count("duplicate_answered")
        return admission.answer

    def _let_it_stay_undone(self, request: Request) -> None:
        """See to it that "not done" stays true where the network brings the same attempt again."""
        context = request.context
        asked = BarrierCall(
            f"{context.forward_key}/asked/{next(self._numbers)}",
            "probe",
            context.forward_key,
            context.transaction_id,
            context.step_id,
            context.token,
            forward_attempt=context.attempt,
        )
        barrier_probe(self._connection, asked, clock=self._clock)

    def _keyed_compensation(self, request: Request, effect: Effect) -> Any:
        context = request.context
        known = self._rows.get(context.idempotency_key)
        if known is not None and (known.until_attempt or context.attempt) >= context.attempt:
            self._count("duplicate_answered")
            return known.answer
        takes_back = False
        try:
            with barrier(self._connection, context, clock=self._clock) as admission:
                if not admission.is_duplicate:
                    self._may_answer_otherwise(request, stands=admission.is_due and effect.standing)
                    if not admission.is_due:
                        admission.answer = _NOTHING
                    elif context.action == "release" and self._lies(request):
                        effect.lied = True
                    else:
                        takes_back = True
        except _Continues:
            answer = Continue(self._output(request))
            self._rows[context.idempotency_key] = _Row("done", answer, context.attempt)
            return answer
        except StaleDriver:
            self._count("stale_driver_refused")
            raise
        if takes_back:
            effect.standing -= 1
            effect.undone += 1
            self._on_effect(request)
        elif admission.is_duplicate:
            self._count("duplicate_answered")
        elif not admission.is_due:
            self._count("null_compensation")
        return NothingToUndo("it never took effect") if admission.answer == _NOTHING else None

    def _may_answer_otherwise(self, request: Request, *, stands: int) -> None:
        if stands and request.context.can_continue and self._hit("continues", request):
            raise _Continues
        if self._hit("undo_fails", request):
            raise OSError("the undo is not possible now")

    def _keyed_probe(self, request: Request, effect: Effect) -> Any:  # noqa: ARG002 (the barrier knows)
        if self._hit("cannot_tell", request):
            return Unknown("the participant cannot tell now")
        return barrier_probe(self._connection, request.context, clock=self._clock)
