"""What an HTTP answer holds, and what it means (SEMANTICS C3).

Owns: the table from answers to outcomes, and how an answer is quoted.
Rules:
  1. Only a well formed 2xx is "done"; only a clear refusal is "not done".
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NoReturn

from aumai_transactions.errors import NotDelivered, OutcomeUnknown, RetryLater, StepRejected
from aumai_transactions.participants.exchange import Answer
from aumai_transactions.participants.messages import first_line, printable

RETRY_AFTER_SECONDS_DEFAULT = 1.0
RETRY_AFTER_SECONDS_MAX = 3_600.0

# Why these three of all 4xx: a timeout, a conflict and "too early" may each be about an
# earlier delivery of the same request, which may yet succeed.
IN_DOUBT_STATUSES = frozenset({408, 409, 425})
# What may be said before the service has looked at the key: who asks, where to, and how much.
GATEWAY_STATUSES = frozenset({401, 403, 404, 405, 407, 411, 413, 414, 421, 431})
NOT_THERE_STATUSES = frozenset({404, 410})


class Refusal(Exception):
    """Say what an answer means if it is not "done"."""

    def __init__(
        self,
        meaning: Literal["not_done", "later", "in_doubt"],
        text: str,
        after_seconds: float | None = None,
        *,
        is_about_call: bool = True,
    ) -> None:
        self.meaning = meaning
        self.after_seconds = after_seconds
        self.is_about_call = is_about_call
        super().__init__(text)

    def raise_as_outcome(self, message: str, attempt: int = 1) -> NoReturn:
        """Raise what a handler raises to say this.

        Args:
            message: What is told.
            attempt: Which attempt was answered. What a gateway says of a later one, for the token
                has expired or the address has moved, says nothing about an earlier one.
        """
        if self.meaning == "later":
            raise RetryLater(self.after_seconds or 0.0, message)
        if self.meaning == "in_doubt":
            raise OutcomeUnknown(message, self.after_seconds)
        if attempt > 1 and not self.is_about_call:
            raise NotDelivered(message)
        raise StepRejected(message)


def is_success(answer: Answer) -> bool:
    """Tell whether the status is a 2xx."""
    return 200 <= answer.status < 300


def is_not_there(answer: Answer) -> bool:
    """Tell whether the answer says that there is no such thing."""
    return answer.status in NOT_THERE_STATUSES


def output_of(answer: Answer) -> Any:
    """Return what an answer holds that says "done".

    Raises:
        Refusal: It says anything else.
    """
    if is_success(answer):
        return _value(answer)
    text = told_by(answer)
    asked = answer.headers.get("retry-after")
    after_seconds = retry_after_seconds(asked, time.time())
    if answer.status == 429:
        raise Refusal("later", f"{text} (try again in {after_seconds:g} s)", after_seconds)
    if answer.status in IN_DOUBT_STATUSES or not 400 <= answer.status < 500:
        # Why no more than the time: who says "later" may have begun.
        raise Refusal("in_doubt", text, None if asked is None else after_seconds)
    is_about_call = answer.status not in GATEWAY_STATUSES
    raise Refusal("not_done", text, is_about_call=is_about_call)


def status_of(answer: Answer) -> str:
    """Return what a message calls an answer: `answered 404 Not Found`."""
    return f"answered {answer.status} {printable(answer.reason, 80)}".rstrip()


def told_by(answer: Answer) -> str:
    """Return the status and the first line of what a service said beside it."""
    text = answer.body.decode("utf-8", "backslashreplace")
    kind = _content_type(answer)
    if kind == "application/json" or kind.endswith("+json"):
        text = _detail(text)
    told = first_line(text)
    return f"{status_of(answer)}: {told}" if told else status_of(answer)


def retry_after_seconds(value: str | None, now: float) -> float:
    """Return how long a `Retry-After` header asks to wait, within our bounds.

    Args:
        value: Seconds or an HTTP date; None and nonsense mean the default.
        now: Seconds since 1970 UTC.
    """
    text = (value or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        seconds = float(text)
    else:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, TypeError, OverflowError, IndexError):
            seconds = RETRY_AFTER_SECONDS_DEFAULT
    return min(max(seconds, 0.0), RETRY_AFTER_SECONDS_MAX)


def _value(answer: Answer) -> Any:
    """Return what a 2xx answer holds.

    Why not everything is taken for an answer: login pages and proxies say 200 with HTML.
    """
    if answer.damage is not None:
        raise Refusal("in_doubt", f"{status_of(answer)}, but {answer.damage}")
    if not answer.body.strip():
        return None
    try:
        return json.loads(answer.body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        kind = _content_type(answer)
        if kind == "text/plain":
            return answer.body.decode("utf-8", "backslashreplace")
        what = f"a body of type {printable(kind, 80)}" if kind else "a body"
        text = f"{status_of(answer)} with {what} that is not JSON: {printable(str(error), 100)}"
        raise Refusal("in_doubt", text) from error


def _refuse_constant(name: str) -> NoReturn:
    message = f"{name} is not JSON"
    raise ValueError(message)


def _content_type(answer: Answer) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()


def _detail(text: str) -> str:
    """Return what a JSON error says in words, where it stands at one of the usual places."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(found, Mapping):
        for key in ("detail", "message", "error", "title"):
            if isinstance(found.get(key), str) and found[key].strip():
                return str(found[key])
    return json.dumps(found, ensure_ascii=False)
