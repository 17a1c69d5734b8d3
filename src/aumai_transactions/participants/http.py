"""The action kind `http`: another service does it.

Owns: what is sent, and what an answer means (SEMANTICS C3).
Rules:
  1. The URL stands in the plan; step data goes into the body and nowhere else.
  2. Every attempt carries the same `Idempotency-Key`.
  3. In a message the URL stands without its query, and a secret header's value as •••.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Literal, NoReturn
from urllib.parse import quote

from pydantic import AfterValidator, Field, WithJsonSchema

from aumai_transactions.actions import Handler, StepContext
from aumai_transactions.core.definition import idempotency_key
from aumai_transactions.core.values import canonical_json
from aumai_transactions.errors import OutcomeUnknown, RetryLater, StepRejected
from aumai_transactions.participants.definition import (
    ActionDefinition,
    EnvironmentValue,
    MissingVariable,
    Seconds,
    Setting,
    setting_text,
)
from aumai_transactions.participants.exchange import (
    Answer,
    AnswerLost,
    NotSent,
    Target,
    exchange,
    parsed_url,
)
from aumai_transactions.participants.messages import first_line, printable, without

RESPONSE_BYTES_DEFAULT = 1024 * 1024
RESPONSE_BYTES_LIMIT = 64 * 1024 * 1024
RETRY_AFTER_SECONDS_DEFAULT = 1.0
RETRY_AFTER_SECONDS_MAX = 3_600.0

# Why these three of all 4xx: a timeout, a conflict and "too early" may each be about an
# earlier delivery of the same request, which may yet succeed.
IN_DOUBT_STATUSES = frozenset({408, 409, 425})
NOTHING_TO_UNDO_STATUSES = frozenset({404, 410})

_WITHOUT_BODY = frozenset({"GET", "DELETE"})
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_RESERVED = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "idempotency-key",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_HEADER_SAFE = "!\"#$&'()*+,-./:;<=>?@[]^_`{|}~"


def _checked_url(url: str) -> str:
    parsed_url(url)
    return url


def _checked_headers(headers: dict[str, Setting]) -> dict[str, Setting]:
    seen: set[str] = set()
    for name, setting in headers.items():
        low = name.lower()
        if not _TOKEN.fullmatch(name):
            message = f"{printable(name, 80)!r} is not the name of a header"
            raise ValueError(message)
        if low in _RESERVED or low.startswith("aumai-"):
            message = f"header {name} is set by every call itself; remove it"
            raise ValueError(message)
        if low in seen:
            message = f"header {name} stands twice, in different spellings"
            raise ValueError(message)
        seen.add(low)
        # Why the prefix alone: the value itself is looked at when it is read.
        _check_header_value(
            name, setting if isinstance(setting, str) else setting.prefix.rstrip(" ")
        )
    return headers


def _check_header_value(name: str, value: str) -> None:
    if re.search(r"[^\x20-\x7e]", value):
        message = (
            f"the value of header {name} holds a line break, a control character or a letter "
            "outside ASCII"
        )
        raise ValueError(message)
    if value != value.strip():
        message = f"the value of header {name} begins or ends with a space"
        raise ValueError(message)


class HttpDefinition(ActionDefinition):
    """Hold an action that another service carries out."""

    kind: Literal["http"] = Field(description="The action is an HTTP request.")
    url: Annotated[
        str,
        AfterValidator(_checked_url),
        WithJsonSchema({"type": "string", "pattern": "^https?://[^@\\s\\\\#]+$"}),
    ] = Field(description="Where to: http:// or https://, without user name and fragment.")
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = Field(
        default="POST", description="The HTTP method; GET and DELETE send no body."
    )
    headers: Annotated[dict[str, Setting], AfterValidator(_checked_headers)] = Field(
        default_factory=dict,
        description='Headers to add: text, or { env = "NAME" } for a secret.',
    )
    timeout_seconds: Seconds = Field(
        default=30.0, description="How long connecting, sending and reading may take together."
    )
    missing: Literal["ok", "fail"] = Field(
        default="ok", description='What 404 and 410 mean in an undo: "ok" is nothing to undo.'
    )
    response_bytes_max: Annotated[int, Field(ge=1, le=RESPONSE_BYTES_LIMIT)] = Field(
        default=RESPONSE_BYTES_DEFAULT, description="How large the body of an answer may be."
    )

    def problems(self) -> list[str]:
        """Return the headers that cannot be made here."""
        found = []
        for name, setting in self.headers.items():
            try:
                _check_header_value(name, setting_text(setting))
            except (MissingVariable, ValueError) as error:
                found.append(f"header {name}: {error}")
        return found

    def handler(self) -> Handler:
        """Return the function that sends the request."""
        return HttpCall(self, parsed_url(self.url))


@dataclass(slots=True, frozen=True)
class HttpCall:
    """Carry an action out by one HTTP request."""

    definition: HttpDefinition
    target: Target

    def __call__(self, action: str, data: dict[str, Any], context: StepContext) -> Any:  # noqa: ARG002
        """Send the request and return the output.

        Raises:
            StepRejected: It is not done.
            RetryLater: It is not done; the service asks to come back later.
            OutcomeUnknown: Nobody knows.
        """
        definition = self.definition
        secrets = self._secrets()
        headers = {**self._own_headers(), **step_headers(context)}
        body = None
        if definition.method not in _WITHOUT_BODY:
            body = canonical_json(data)
            headers["Content-Type"] = "application/json"
        request = f"{definition.method} {self.target.shown}"
        try:
            answer = exchange(
                self.target,
                definition.method,
                {**headers, "Host": self.target.authority, "Connection": "close"},
                body,
                timeout_seconds=definition.timeout_seconds,
                body_bytes_max=definition.response_bytes_max,
            )
        except NotSent as error:
            message = without(f"{request} was not sent: {printable(str(error))}", secrets)
            raise StepRejected(message) from error
        except AnswerLost as error:
            message = f"{request} was sent, and its answer was lost: {printable(str(error))}"
            raise OutcomeUnknown(without(message, secrets)) from error
        try:
            return _output(definition, answer, context)
        except _Refusal as refusal:
            refusal.raise_as_outcome(without(f"{request} {refusal}", secrets))
        except Exception as error:
            # Why: the request arrived; a fault in reading the answer is no "not done".
            message = f"{request} answered {answer.status}, which could not be read: {error!r:.200}"
            raise OutcomeUnknown(without(message, secrets)) from error

    def _own_headers(self) -> dict[str, str]:
        usual = {"Accept": "application/json, text/plain;q=0.5", "User-Agent": "aumai-transactions"}
        own: dict[str, str] = {}
        for name, setting in self.definition.headers.items():
            try:
                own[name] = setting_text(setting)
                _check_header_value(name, own[name])
            except (MissingVariable, ValueError) as error:
                message = f"{self.definition.method} {self.target.shown} was not sent: {error}"
                raise StepRejected(message) from None
        replaced = {name.lower() for name in own}
        return own | {name: text for name, text in usual.items() if name.lower() not in replaced}

    def _secrets(self) -> list[str]:
        found = []
        for setting in self.definition.headers.values():
            if isinstance(setting, EnvironmentValue):
                try:
                    found.append(setting.read().removeprefix(setting.prefix))
                except MissingVariable:
                    continue
        return found


def step_headers(context: StepContext) -> dict[str, str]:
    """Return the headers that tell a participant which call this is.

    What is not visible ASCII in an id is percent-encoded, and `%` itself too.
    """
    headers = {
        "Idempotency-Key": context.idempotency_key,
        "Aumai-Transaction": context.transaction_id,
        "Aumai-Step": context.step_id,
        "Aumai-Operation": context.operation,
        "Aumai-Attempt": str(context.attempt),
        "Aumai-Token": str(context.token),
    }
    if context.operation == "compensation":
        headers["Aumai-Compensates"] = idempotency_key(
            context.transaction_id, context.step_id, "action"
        )
    return {name: quote(text, safe=_HEADER_SAFE) for name, text in headers.items()}


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


class _Refusal(Exception):
    """Say what an answer means if it is not "done"."""

    def __init__(
        self,
        meaning: Literal["not_done", "later", "in_doubt"],
        text: str,
        after_seconds: float = 0.0,
    ) -> None:
        self.meaning = meaning
        self.after_seconds = after_seconds
        super().__init__(text)

    def raise_as_outcome(self, message: str) -> NoReturn:
        if self.meaning == "later":
            raise RetryLater(self.after_seconds, message)
        if self.meaning == "in_doubt":
            raise OutcomeUnknown(message)
        raise StepRejected(message)


def _output(definition: HttpDefinition, answer: Answer, context: StepContext) -> Any:
    status = answer.status
    if 200 <= status < 300:
        return _value(answer)
    undoing = context.operation == "compensation"
    if undoing and definition.missing == "ok" and status in NOTHING_TO_UNDO_STATUSES:
        return None
    text = _told(answer)
    if status == 429:
        after_seconds = retry_after_seconds(answer.headers.get("retry-after"), time.time())
        raise _Refusal("later", f"{text} (try again in {after_seconds:g} s)", after_seconds)
    if status in IN_DOUBT_STATUSES or not 400 <= status < 500:
        raise _Refusal("in_doubt", text)
    raise _Refusal("not_done", text)


def _value(answer: Answer) -> Any:
    """Return what a 2xx answer holds.

    Why not everything is taken for an answer: login pages and proxies say 200 with HTML.
    """
    if answer.damage is not None:
        raise _Refusal("in_doubt", f"{_status(answer)}, but {answer.damage}")
    if not answer.body.strip():
        return None
    try:
        return json.loads(answer.body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        kind = _content_type(answer)
        if kind == "text/plain":
            return answer.body.decode("utf-8", "backslashreplace")
        what = f"a body of type {printable(kind, 80)}" if kind else "a body"
        text = f"{_status(answer)} with {what} that is not JSON: {printable(str(error), 100)}"
        raise _Refusal("in_doubt", text) from error


def _refuse_constant(name: str) -> NoReturn:
    message = f"{name} is not JSON"
    raise ValueError(message)


def _content_type(answer: Answer) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()


def _status(answer: Answer) -> str:
    return f"answered {answer.status} {printable(answer.reason, 80)}".rstrip()


def _told(answer: Answer) -> str:
    text = answer.body.decode("utf-8", "backslashreplace")
    kind = _content_type(answer)
    if kind == "application/json" or kind.endswith("+json"):
        text = _detail(text)
    told = first_line(text)
    return f"{_status(answer)}: {told}" if told else _status(answer)


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
