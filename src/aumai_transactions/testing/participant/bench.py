"""How a participant is called and looked at while it is checked.

Owns: one call of it, in exactly the form in which the action kind `http` makes it; what its answer
means; and how many effects stand.
Rules:
  1. The headers, the wire and the meaning of answers are those of the product's own HTTP actions.
  2. Each trial has a transaction of its own, so that no check sees what another one did.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple
from uuid import uuid4

from aumai_transactions.actions import StepContext
from aumai_transactions.core.definition import Operation, idempotency_key
from aumai_transactions.participants.exchange import (
    Answer,
    AnswerLost,
    NotSent,
    exchange,
    parsed_url,
)
from aumai_transactions.participants.identity import step_headers
from aumai_transactions.participants.messages import printable
from aumai_transactions.participants.response import Refusal, is_not_there, output_of, status_of

BODY_BYTES_MAX = 1_000_000
LATER_TRIES_MAX = 20
LATER_SECONDS_MAX = 1.0
COMMAND_SECONDS_MAX = 60


class CannotCheck(Exception):
    """Say why a participant cannot be checked at all; the message says what to do."""


class Said(NamedTuple):
    """Hold what a participant answered.

    Args:
        meaning: `done`, `not_done`, `later`, `in_doubt`, or `nothing` where there was nothing to
            undo.
        status: The status; None where no answer came.
        value: What it answered beside it.
        text: The same in words.
        after_seconds: When to come back, where it said so.
    """

    meaning: str
    status: int | None
    value: Any
    text: str
    after_seconds: float = 0.0

    @property
    def is_done(self) -> bool:
        """True where it says that it is done, or undone."""
        return self.meaning in ("done", "nothing")


@dataclass(slots=True)
class Participant:
    """Say which participant is checked, and with what.

    Args:
        url: Where the action is posted.
        undo_url: Where its undo is posted; default the same place.
        data: The body of an action that is possible, several times over.
        rejected: A body that is refused for good; None where there is none.
        other: Another body that is possible; default `data` with one field more.
        headers: Headers to add, such as one that says who calls.
        state_url: Where a GET tells what stands; None where there is no such thing.
        count: What of that to count: keys and indexes, with dots between them. A number is taken
            as it is, of a list or an object its length.
        count_command: A program that prints the number instead, as arguments; never a shell's.
        counts: A function that returns the number instead.
        rivals: How many calls are made at once.
        timeout_seconds: How long a call may take.
    """

    url: str
    undo_url: str | None = None
    data: Any = field(default_factory=dict)
    rejected: Any = None
    other: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    state_url: str | None = None
    count: str = ""
    count_command: Sequence[str] = ()
    counts: Callable[[], float] | None = None
    rivals: int = 8
    timeout_seconds: float = 10.0


class Bench:
    """Call one participant, and count what stands.

    Args:
        participant: Which one.
    """

    def __init__(self, participant: Participant) -> None:
        self.participant = participant
        self._run = uuid4().hex[:12]
        self._numbers = count(1)
        self._targets = {
            "action": self._target(participant.url),
            "compensation": self._target(participant.undo_url or participant.url),
        }
        self.unit: float | None = None

    @staticmethod
    def _target(url: str) -> Any:
        try:
            return parsed_url(url)
        except ValueError as error:
            raise CannotCheck(f"{url!r}: the URL {error}.") from None

    @property
    def can_count(self) -> bool:
        """True where somebody tells how many effects stand."""
        given = self.participant
        return bool(given.counts or given.count_command or given.state_url)

    def trial(self) -> Trial:
        """Return a new transaction."""
        return Trial(self, f"check-{self._run}-{next(self._numbers)}")

    def counted(self) -> float:
        """Return what the participant's own side counts now.

        Raises:
            CannotCheck: It does not tell a number.
        """
        given = self.participant
        if given.counts is not None:
            return float(given.counts())
        if given.count_command:
            return self._printed(given.count_command)
        found = self._state(given.state_url or "")
        for part in given.count.split(".") if given.count else ():
            try:
                found = found[int(part)] if isinstance(found, list) else found[part]
            except (LookupError, TypeError, ValueError):
                raise CannotCheck(
                    f"{given.state_url} has nothing at {given.count!r}: {part!r} is not there. It "
                    f"answered {printable(json.dumps(found), 200)}"
                ) from None
        if isinstance(found, (list, dict)):
            return float(len(found))
        if isinstance(found, (int, float)) and not isinstance(found, bool):
            return float(found)
        raise CannotCheck(
            f"what {given.state_url} has at {given.count!r} is no number, list or object."
        )

    def _state(self, url: str) -> Any:
        target = self._target(url)
        seconds = self.participant.timeout_seconds
        headers = {"Accept": "application/json", **self.participant.headers}
        try:
            answer = exchange(
                target, "GET", headers, None, timeout_seconds=seconds, body_bytes_max=BODY_BYTES_MAX
            )
            return output_of(answer)
        except (NotSent, AnswerLost, Refusal) as error:
            raise CannotCheck(f"{url} does not tell its state: {error}") from None

    @staticmethod
    def _printed(command: Sequence[str]) -> float:
        try:
            ran = subprocess.run(
                list(command),
                capture_output=True,
                check=True,
                text=True,
                timeout=COMMAND_SECONDS_MAX,
            )
            return float(ran.stdout.strip())
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise CannotCheck(f"{command[0]} prints no number: {error}") from None

    def call(self, context: StepContext, body: Any) -> Said:
        """Make one call, and return what its answer means."""
        content = json.dumps(body).encode()
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            **self.participant.headers,
            **step_headers(context),
        }
        target = self._targets[context.operation]
        try:
            answer = exchange(
                target,
                "POST",
                headers,
                content,
                timeout_seconds=self.participant.timeout_seconds,
                body_bytes_max=BODY_BYTES_MAX,
            )
        except NotSent as error:
            raise CannotCheck(f"{target.shown} cannot be reached: {error}") from None
        except AnswerLost as error:
            return Said("in_doubt", None, None, f"no answer: {error}")
        return _said(answer, is_undo=context.operation == "compensation")


def _said(answer: Answer, *, is_undo: bool) -> Said:
    text = status_of(answer)
    if is_undo and is_not_there(answer):
        return Said("nothing", answer.status, None, text)
    try:
        return Said("done", answer.status, output_of(answer), text)
    except Refusal as refusal:
        said = printable(str(refusal), 160)
        return Said(refusal.meaning, answer.status, None, said, refusal.after_seconds or 0.0)


class Trial:
    """Be one transaction with one step, towards one participant.

    Args:
        bench: How it is called.
        transaction_id: What the transaction is called.
    """

    def __init__(self, bench: Bench, transaction_id: str) -> None:
        self._bench = bench
        self.transaction_id = transaction_id
        self._first = bench.counted() if bench.can_count else None

    def act(
        self, attempt: int = 1, *, body: Any = None, token: int = 1, step_id: str = "s1"
    ) -> Said:
        """Call the action."""
        data = self._bench.participant.data if body is None else body
        return self._call("action", attempt, data, token, step_id)

    def undo(self, attempt: int = 1, *, token: int = 1, step_id: str = "s1") -> Said:
        """Call the undo."""
        return self._call("compensation", attempt, self._bench.participant.data, token, step_id)

    def settled(self, call: Callable[[int], Said], said: Said | None = None) -> Said:
        """Call again, as a driver does, until the answer is not "later" or a maybe."""
        answer = said or call(1)
        for attempt in range(2, LATER_TRIES_MAX + 2):
            if answer.meaning not in ("later", "in_doubt"):
                break
            threading.Event().wait(min(answer.after_seconds, LATER_SECONDS_MAX))
            answer = call(attempt)
        return answer

    def _call(
        self, operation: Operation, attempt: int, body: Any, token: int, step_id: str
    ) -> Said:
        context = StepContext(
            transaction_id=self.transaction_id,
            step_id=step_id,
            agent_id="check",
            action="check",
            operation=operation,
            attempt=attempt,
            idempotency_key=idempotency_key(self.transaction_id, step_id, operation),
            forward_key=idempotency_key(self.transaction_id, step_id, "action"),
            forward_attempt=1,
            token=token,
        )
        return self._bench.call(context, body)

    def moved(self) -> float | None:
        """Return by how much the count has changed since the trial began; None: nobody counts."""
        return None if self._first is None else self._bench.counted() - self._first

    def stands(self) -> float | None:
        """Return how many effects of this trial stand; None where nobody counts."""
        moved = self.moved()
        if moved is None or not self._bench.unit:
            return None
        return moved / self._bench.unit
