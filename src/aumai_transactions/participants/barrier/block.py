"""The barrier itself: which call acts, and what every other one is told.

Owns: the decision about a call, and the transaction around the block that acts.
Rules:
  1. The row of a call and its effect are committed together, or neither is (P6).
  2. A call that is known is told what was recorded, whoever asks, and never acts (P1).
  3. An undo of nothing succeeds and leaves a tombstone (P2); a forward call that finds itself
     undone, or a tombstone, is refused (P3); what was done is undone once (P4).
  4. A refusal of a forward call is an answer, and is recorded without the effect. A refusal of an
     undo is not: it has to be possible to try an undo again.
  5. Before a call acts, and before a probe leaves a tombstone, its fencing token is compared with
     the highest that was seen for its transaction. Two calls at the same moment may not see each
     other; each of them then counts as the earlier one.

Sources: the sub-transaction barrier of dtm, the fence of Seata. Unlike dtm's, it returns what was
recorded, and calls a late call refused, not done.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aumai_transactions.actions import StepContext
from aumai_transactions.answers import Done, NotDone, Unknown
from aumai_transactions.clock import Clock, SystemClock
from aumai_transactions.core.values import canonical_json, checked_copy
from aumai_transactions.errors import (
    DefinitionError,
    NotDelivered,
    OutcomeUnknown,
    RetryLater,
    StepRejected,
)
from aumai_transactions.participants.barrier import table
from aumai_transactions.participants.barrier.calls import (
    BarrierCall,
    CallRefused,
    CallUndone,
    InvalidCall,
    KeyReused,
    StaleDriver,
    request_digest,
)
from aumai_transactions.participants.barrier.databases import (
    Database,
    asking,
    committing,
    database_of,
    is_passing,
    passing,
)

REASON_CHARACTERS_MAX = 2_000
_TRIES_MAX = 3


class Admission:
    """Tell a block whether to act, and take its answer.

    Attributes:
        is_due: True where the block has to make, or undo, the effect. False for a call that was
            answered before, and for an undo of what never took effect.
        is_duplicate: True where this call was answered before; `answer` is what was recorded.
        forward_answer: In an undo that is due: what the forward call recorded.
    """

    __slots__ = ("_answer", "forward_answer", "is_due", "is_duplicate")

    def __init__(
        self,
        *,
        is_due: bool,
        is_duplicate: bool = False,
        answer: Any = None,
        forward_answer: Any = None,
    ) -> None:
        self.is_due = is_due
        self.is_duplicate = is_duplicate
        self.forward_answer = forward_answer
        self._answer = answer

    @property
    def answer(self) -> Any:
        """What this call answers; JSON.

        The block of a first arrival sets it, and it is recorded with the effect; for a duplicate
        it is what was recorded then. What a block sets before it raises `StepRejected` is
        recorded with the refusal.

        Raises:
            InvalidData: It was set to what is not JSON; nothing was committed yet.
        """
        return self._answer

    @answer.setter
    def answer(self, value: object) -> None:
        if not self.is_duplicate:
            self._answer = checked_copy(value, "answer")


@contextmanager
def barrier(
    connection: Any,
    context: StepContext | BarrierCall,
    *,
    request: object = None,
    clock: Clock | None = None,
) -> Iterator[Admission]:
    """Let a call act once, and never after its undo; commit its effect and its answer together.

    Where the connection is in no transaction, the barrier opens one and commits it when the block
    ends; an exception rolls everything back. Where it is in one, the barrier sets a savepoint in
    it, and the call counts when the caller has committed.

    Args:
        connection: Of sqlite3 or psycopg, or a Connection or Session of SQLAlchemy.
        context: What the handler was given, or `BarrierCall.from_headers`.
        request: What is asked for, as bytes or JSON; with it, a key that comes with another
            request is found out.
        clock: What time it is; for tests.

    Yields:
        What to do: see `Admission`.

    Raises:
        CallRefused: This call was refused before; with the recorded sentence.
        CallUndone: Its undo came first.
        StaleDriver: Somebody has taken over the transaction that it belongs to.
        KeyReused: Its key was used for something else.
        RetryLater: The database rolled back; nothing of this attempt was committed.
        NotDelivered: The database could not be asked; nothing of this attempt was committed.
        OutcomeUnknown: Nobody knows whether the COMMIT happened.
        InvalidCall: It is neither an action nor a compensation.
        DefinitionError: The connection is of no kind that is known here.
    """
    call = BarrierCall.of(context)
    if call.operation not in ("action", "compensation"):
        raise InvalidCall("operation", f"{call.operation} does not act; ask barrier_probe()")
    passage = _Passage(database_of(connection), call, request_digest(request), clock)
    admission = passage.enter()
    try:
        yield admission
    except StepRejected as refusal:
        if admission.is_due and call.operation == "action":
            passage.refuse(admission, refusal)
        else:
            passage.abandon(refusal)
        raise
    except BaseException as error:
        passage.abandon(error)
        if isinstance(error, Exception) and is_passing(error) and not passage.is_joined:
            raise passing(error) from error
        raise
    passage.leave(admission)


def barrier_probe(
    connection: Any, context: StepContext | BarrierCall, *, clock: Clock | None = None
) -> Done | NotDone | Unknown:
    """Tell what became of the forward call of a step, and see to it that the answer stays true.

    Where the call has not arrived, a tombstone takes its place in the same transaction, so that it
    is refused if it arrives later: only so may a probe answer "not done" (SEMANTICS B2). That holds
    for the attempts that were made so far; when the step is run again, its next attempt acts.

    Args:
        connection: Of sqlite3, psycopg or SQLAlchemy; in no transaction, for the answer is true
            only once it is committed.
        context: What the probe was given, or a call whose `forward_key` is what it asks about.
        clock: What time it is; for tests.

    Returns:
        `Done` with the recorded answer; `NotDone`; `Unknown` where the database cannot tell now,
        or where somebody has taken over the transaction.

    Raises:
        DefinitionError: The connection is in a transaction, or of no kind that is known here.
    """
    call = BarrierCall.of(context)
    passage = _Passage(database_of(connection), call, None, clock)
    try:
        return passage.probe()
    except (StaleDriver, RetryLater, NotDelivered, OutcomeUnknown) as error:
        return Unknown(str(error))


class _Passage:
    """One call on its way through one transaction."""

    def __init__(
        self, database: Database, call: BarrierCall, digest: str | None, clock: Clock | None
    ) -> None:
        self._database = database
        self._call = call
        self._digest = digest
        self._now = (clock or SystemClock()).now()

    @property
    def is_joined(self) -> bool:
        return self._database.is_joined

    # ------------------------------------------------------------------------------- coming in

    def enter(self) -> Admission:
        database = self._database
        with asking():
            database.begin()
            try:
                admission = self._admitted()
                if admission.is_due:
                    database.begin_effect()
            except (CallRefused, CallUndone):
                database.commit()  # Why: that it came, and its token, are to be remembered.
                raise
            except BaseException as error:
                self.abandon(error)
                raise
            return admission

    def _admitted(self) -> Admission:
        for _ in range(_TRIES_MAX):
            if self._insert(self._call.key, self._call.operation, "running", arrivals=1):
                if self._call.operation == "action":
                    return Admission(is_due=True)
                return self._admitted_undo()
            known = self._database.execute(
                table.ARRIVED_AGAIN,
                {
                    "key": table.indexed(self._call.key),
                    "now": self._now,
                    "token": self._call.token,
                },
            )
            if known and self._takes_place(known[0]):
                return Admission(is_due=True)
            if known:
                return self._admitted_again(*known[0])
        raise _removed(self._call.key)

    def _takes_place(self, known: tuple[Any, ...]) -> bool:
        """Take the place of a tombstone that a probe left for earlier attempts only."""
        call = self._call
        if call.operation != "action" or known[:2] != ("action", "tombstone"):
            return False
        rows = self._database.execute(
            table.TAKE_PLACE,
            {
                "key": table.indexed(call.key),
                "attempt": call.attempt,
                "request": self._digest,
                "transaction_id": table.indexed(call.transaction_id),
            },
        )
        if rows:
            self._check_token(rows)
        return bool(rows)

    def _insert(
        self,
        key: str,
        operation: str,
        state: str,
        *,
        arrivals: int,
        until_attempt: int | None = None,
    ) -> bool:
        """Put a new row in; return whether there was none."""
        call = self._call
        rows = self._database.execute(
            table.INSERT,
            {
                "key": table.indexed(key),
                "operation": operation,
                "state": state,
                "until_attempt": until_attempt,
                "request": self._digest if key == call.key else None,
                "transaction_id": table.indexed(call.transaction_id),
                "step_id": call.step_id,
                "token": call.token,
                "arrivals": arrivals,
                "now": self._now,
            },
        )
        if rows:
            self._check_token(rows)
        return bool(rows)

    def _check_token(self, rows: list[tuple[Any, ...]]) -> None:
        call = self._call
        if call.transaction_id and call.token:
            highest = table.highest_token(rows)
            if highest > call.token:
                raise StaleDriver(call.transaction_id, call.token, highest)

    def _admitted_again(
        self,
        operation: str,
        state: str,
        answer: str | None,
        reason: str | None,
        request: str | None,
    ) -> Admission:
        key = self._call.key
        is_other = self._digest is not None and request not in (None, self._digest)
        if operation != self._call.operation or is_other:
            raise KeyReused(key)
        if state == "refused":
            raise CallRefused(reason or "", _value(answer))
        if state in ("undone", "tombstone"):
            raise CallUndone(key, was_carried_out=state == "undone")
        if state == "running":
            raise _broken(key)
        return Admission(is_due=False, is_duplicate=True, answer=_value(answer))

    def _admitted_undo(self) -> Admission:
        key = self._call.forward_key
        if self._insert(key, "action", "tombstone", arrivals=0):
            return Admission(is_due=False)
        row = {"key": table.indexed(key), "now": self._now}
        undone = self._database.execute(table.TAKE_BACK, row)
        if undone:
            return Admission(is_due=True, forward_answer=_value(undone[0][0]))
        found = table.look(self._database, key)
        if found is None:
            raise _removed(key)
        if found[0] != "action":
            raise KeyReused(key)
        if found[1] == "running":
            raise _broken(key)
        self._database.change(table.SEAL, row)
        return Admission(is_due=False)

    # ------------------------------------------------------------------------------- going out

    def leave(self, admission: Admission) -> None:
        """Record the answer, and commit."""
        try:
            with asking():
                if admission.is_due:
                    self._database.keep_effect()
                if not admission.is_duplicate:
                    self._finish("done", admission.answer)
            with committing():
                self._database.commit()
        except BaseException as error:
            self.abandon(error)
            raise

    def refuse(self, admission: Admission, refusal: StepRejected) -> None:
        """Undo the effect, record the refusal, and commit that."""
        try:
            # Why asking() for the COMMIT too: recorded or not, nothing was done.
            with asking():
                self._database.drop_effect()
                self._finish("refused", admission.answer, _fit(str(refusal)))
                self._database.commit()
        except BaseException as error:
            self.abandon(error)
            raise

    def abandon(self, error: BaseException) -> None:
        """Roll everything back, without hiding why."""
        try:
            self._database.roll_back()
        except Exception as second:  # noqa: BLE001 (the first error is the one to tell)
            error.add_note(f"rolling back raised too: {second!r:.300}")

    def _finish(self, state: str, answer: object, reason: str | None = None) -> None:
        self._database.execute(
            table.FINISH,
            {
                "key": table.indexed(self._call.key),
                "state": state,
                "answer": None if answer is None else canonical_json(answer).decode(),
                "reason": reason,
            },
        )

    # --------------------------------------------------------------------------------- looking

    def probe(self) -> Done | NotDone | Unknown:
        database, key = self._database, self._call.forward_key
        with asking():
            database.begin()
        if database.is_joined:
            database.roll_back()
            raise DefinitionError(
                "the connection of a probe is in a transaction already, and what it answers is "
                "true only once that is committed. Commit first."
            )
        try:
            with asking():
                until = self._call.forward_attempt or None
                is_new = self._insert(key, "action", "tombstone", arrivals=0, until_attempt=until)
                row = {"key": table.indexed(key), "now": self._now}
                if until is None:
                    database.change(table.SEAL, row)
                else:
                    database.change(table.EXTEND, row | {"until_attempt": until})
                found = table.look(database, key)
            with committing():
                database.commit()
        except BaseException as error:
            self.abandon(error)
            raise
        return NotDone("it never arrived; from now on it is refused") if is_new else _meaning(found)


def _meaning(found: tuple[Any, ...] | None) -> Done | NotDone | Unknown:
    match found:
        case ("action", "done", answer, _):
            return Done(_value(answer))
        case ("action", "refused", _, reason):
            return NotDone(f"it was refused: {reason}")
        case ("action", "undone", _, _):
            return NotDone("it was carried out, and undone")
        case ("action", "tombstone", _, _):
            return NotDone("it never arrived, and is refused by now")
        case _:
            return Unknown("its row says nothing about a forward call that ended")


def _removed(key: str) -> NotDelivered:
    # Why this can be: between two statements somebody else purged the row.
    return NotDelivered(f"the row of key {key} comes and goes; nothing was done")


def _broken(key: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"the call {key} ended its own transaction in the middle, so nobody knows what of it was "
        "committed; a person has to look"
    )


def _value(answer: str | None) -> Any:
    return None if answer is None else json.loads(answer)


def _fit(text: str) -> str:
    """Return a text that every database can hold."""
    printable = text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\0")
    return printable[:REASON_CHARACTERS_MAX]
