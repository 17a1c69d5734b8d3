"""What really happens outside, in a simulation.

Owns: the effects of simulated transactions, and how a participant answers. The barrier's rules
(docs/barrier.md) are those of `participants/barrier/block.py`, on a dict instead of a table.
Rules:
  1. A `keyed` participant keeps the contract of docs/guarantees.md: one outcome for each key, no
     effect behind an undo or a probe that said "not done", no call of a driver that was replaced.
  2. A `dumb` one does what it is told each time, and remembers nothing but the effects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from aumai_transactions.answers import (
    Clean,
    Continue,
    Done,
    NotDone,
    NothingToUndo,
    Residue,
    Unknown,
)
from aumai_transactions.errors import OutcomeUnknown, RetryLater, StepRejected

if TYPE_CHECKING:
    from collections.abc import Callable

    from aumai_transactions.actions import StepContext
    from aumai_transactions.testing.simulator.actions import Request
    from aumai_transactions.testing.simulator.faults import Faults


class Effect:
    """Hold what a step has done outside.

    Attributes:
        applied: How often its action took effect.
        standing: How many of these are in force.
        undone: How often its undo took something back.
        confirmed: How often it was made final.
        in_flight: How many calls of its action are under way.
        astray: A call of it came at a participant that keeps no contract when its driver had been
            replaced, or had given it up already. No library can close that gap (SEMANTICS B1).
        touched: The participant has said "not done" and may not have been asked for the last time.
        lied: An undo said that it worked, and left the effect.
    """

    __slots__ = ("applied", "astray", "confirmed", "in_flight", "lied", "standing", "undone")

    def __init__(self) -> None:
        self.applied = 0
        self.standing = 0
        self.undone = 0
        self.confirmed = 0
        self.in_flight = 0
        self.astray = False
        self.lied = False


class _Row:
    """Hold what is known of a key; see `participants/barrier/table.py`."""

    __slots__ = ("answer", "reason", "state", "until_attempt")

    def __init__(self, state: str, answer: Any = None, until_attempt: int | None = None) -> None:
        self.state = state
        self.answer = answer
        self.reason = ""
        self.until_attempt = until_attempt


class Reply(NamedTuple):
    """Hold what a participant answers: a value, or an exception."""

    value: Any = None
    error: Exception | None = None


class Participants:
    """Be everybody whom simulated transactions call.

    Args:
        faults: What goes wrong.
        on_effect: Told each effect, right after it: the call, `action` or `compensation`.
        is_current: Tells whether the call of an action is still waited for, as the journal has it.
        whose: Returns what the faults of a transaction are drawn for.
        count: Takes the names of rare things that have happened.
    """

    def __init__(
        self,
        faults: Faults,
        on_effect: Callable[[Request], None],
        is_current: Callable[[StepContext], bool],
        whose: Callable[[str], object],
        count: Callable[[str], None],
    ) -> None:
        self.effects: dict[tuple[str, str], Effect] = {}
        self._faults = faults
        self._on_effect = on_effect
        self._is_current = is_current
        self._whose = whose
        self._count = count
        self._rows: dict[str, _Row] = {}
        self._tokens: dict[str, int] = {}

    def close(self) -> None:
        """Let go of what they keep outside of this process's own objects."""

    def _hit(self, name: str, request: Request) -> bool:
        return self._faults.hit(name, self._whose(request.context.transaction_id))

    def effect(self, transaction_id: str, step_id: str) -> Effect:
        """Return what a step has done."""
        key = transaction_id, step_id
        found = self.effects.get(key)
        if found is None:
            found = self.effects[key] = Effect()
        return found

    def ask(self, request: Request) -> Reply:
        """Let a request arrive; return what is answered."""
        context = request.context
        method = getattr(self, f"_{request.kind}_{context.operation}")
        try:
            return Reply(method(request, self.effect(context.transaction_id, context.step_id)))
        except Exception as error:  # noqa: BLE001 (it travels back as the answer)
            return Reply(error=error)

    def settle_by_hand(self, transaction_id: str, step_id: str, forward_key: str) -> None:
        """Let a person undo what a step has done, and see to it that it cannot come back."""
        effect = self.effect(transaction_id, step_id)
        effect.standing = 0
        row = self._rows.setdefault(forward_key, _Row("tombstone"))
        row.state = "undone" if row.state == "done" else row.state
        row.until_attempt = None

    def seal(self, forward_key: str) -> None:
        """Let a person see to it that a call which has not arrived never acts."""
        self._rows.setdefault(forward_key, _Row("tombstone")).until_attempt = None

    # ------------------------------------------------------------------------ keeps the contract

    def _fenced(self, context: StepContext) -> None:
        name = context.transaction_id
        highest = self._tokens.get(name, 0)
        if highest > context.token:
            self._count("stale_driver_refused")
            raise StepRejected(f"token {context.token} is stale, {highest} was seen")
        self._tokens[name] = context.token

    def _keyed_action(self, request: Request, effect: Effect) -> Any:
        context = request.context
        row = self._rows.get(context.idempotency_key)
        if row is not None and not (
            row.state == "tombstone"
            and row.until_attempt is not None
            and row.until_attempt < context.attempt
        ):
            return self._again(row)
        self._fenced(context)
        try:
            self._before_effect(request)
        except OutcomeUnknown:
            raise
        except Exception:
            # Why: "not done" must stay true, also where the network brings the same call again.
            self._rows[context.idempotency_key] = _Row("tombstone", None, context.attempt)
            raise
        row = self._rows[context.idempotency_key] = _Row("done", self._output(request))
        if self._hit("rejects", request):
            row.state, row.reason = "refused", "the participant says no"
            raise StepRejected(row.reason)
        self._apply(request, effect)
        return row.answer

    def _again(self, row: _Row) -> Any:
        if row.state == "refused":
            raise StepRejected(row.reason)
        if row.state in ("undone", "tombstone"):
            self._count("hanging_refused" if row.state == "tombstone" else "repeat_after_undo")
            raise StepRejected("it comes behind its undo")
        self._count("duplicate_answered")
        return row.answer

    def _apply(self, request: Request, effect: Effect) -> None:
        effect.applied += 1
        effect.standing += 1
        self._on_effect(request)
        if self._hit("unknown_done", request):
            raise OutcomeUnknown("the participant does not know, and it is done")

    def _before_effect(self, request: Request) -> None:
        """Let a participant fail before it does anything; the answer is true for this attempt."""
        if self._hit("asks_for_later", request):
            raise RetryLater(self._faults.details("asks_for_later").choice((0.5, 3.0, 30.0)))
        if self._hit("fails", request):
            raise ValueError("the participant cannot do that now")
        if self._hit("unknown", request):
            after = self._faults.details("unknown").choice((None, 1.0, 10.0))
            raise OutcomeUnknown("the participant does not know", after)

    def _output(self, request: Request) -> dict[str, Any]:
        return {"id": request.context.forward_key, "n": request.data.get("n")}

    def _keyed_compensation(self, request: Request, effect: Effect) -> Any:
        context = request.context
        known = self._rows.get(context.idempotency_key)
        if known is not None and (known.until_attempt or context.attempt) >= context.attempt:
            self._count("duplicate_answered")
            return known.answer
        row = self._rows.get(context.forward_key)
        stands = effect.standing and row is not None and row.state == "done"
        if stands and context.can_continue and self._hit("continues", request):
            goes_on = Continue(self._output(request))
            self._rows[context.idempotency_key] = _Row("done", goes_on, context.attempt)
            return goes_on
        self._fenced(context)
        if self._hit("undo_fails", request):
            raise OSError("the undo is not possible now")
        answer: Any = None
        if row is None:
            self._count("null_compensation")
            self._rows[context.forward_key] = _Row("tombstone")
            answer = NothingToUndo("it never arrived")
        elif row.state == "done":
            if request.context.action == "release" and self._lies(request):
                effect.lied = True
            else:
                row.state = "undone"
                effect.standing -= 1
                effect.undone += 1
                self._on_effect(request)
        else:
            row.until_attempt = None
        self._rows[context.idempotency_key] = _Row("done", answer)
        return answer

    def _lies(self, request: Request) -> bool:
        # Why only there: where nobody looks whether an undo has worked, nobody can find it out.
        return request.data.get("action") == "reserve_verified" and self._hit("undo_lies", request)

    def _keyed_probe(self, request: Request, _effect: Effect) -> Any:
        context = request.context
        if self._hit("cannot_tell", request):
            return Unknown("the participant cannot tell now")
        if self._tokens.get(context.transaction_id, 0) > context.token:
            return Unknown("somebody has taken over")
        until = context.forward_attempt or None
        row = self._rows.get(context.forward_key)
        if row is None:
            self._rows[context.forward_key] = _Row("tombstone", None, until)
            return NotDone("it never arrived; from now on it is refused")
        if row.until_attempt is not None:
            row.until_attempt = None if until is None else max(until, row.until_attempt)
        if row.state == "done":
            return Done(row.answer)
        return NotDone(row.state)

    def _keyed_verification(self, request: Request, effect: Effect) -> Any:
        if self._hit("cannot_tell", request):
            return Unknown("the participant cannot tell now")
        return Residue(effect.standing) if effect.standing else Clean()

    def _keyed_confirmation(self, request: Request, effect: Effect) -> Any:
        key = request.context.idempotency_key
        if key not in self._rows:
            if self._hit("fails", request):
                raise ValueError("the participant cannot confirm that now")
            self._rows[key] = _Row("done")
            effect.confirmed += 1
        return None

    def _keyed_reread(self, request: Request, _effect: Effect) -> bool:
        return not self._hit("reread_differs", request)

    # ------------------------------------------------------------------------- keeps no contract

    def _dumb_action(self, request: Request, effect: Effect) -> Any:
        self._before_effect(request)
        if self._hit("rejects", request):
            raise StepRejected("the participant says no")
        if not self._is_current(request.context):
            effect.astray = True
            self._count("astray_call")
        self._apply(request, effect)
        return self._output(request)

    def _dumb_compensation(self, request: Request, effect: Effect) -> Any:
        if self._hit("undo_fails", request):
            raise OSError("the undo is not possible now")
        effect.undone += effect.standing
        effect.standing = 0
        self._on_effect(request)
        return None

    def _dumb_probe(self, request: Request, effect: Effect) -> Any:
        if self._hit("cannot_tell", request) or effect.in_flight:
            return Unknown("it may be on its way")
        return Done(self._output(request)) if effect.standing else NotDone("there is nothing")
