"""What an HTTP request of ours is made of, and how it is sent.

Owns: the keys that describe a request, and everything that may be put into one.
Rules:
  1. Step data and outputs become part of a request only where its author refers to them, each
     place with its own encoding (`address`, `template`); without `json` the body is the
     step's data.
  2. Every attempt carries the same `Idempotency-Key`.
  3. In a message the URL stands without its query, and a secret header's value as •••.
  4. A value that cannot be sent is `StepRejected` at the first attempt: trying again is
     pointless. Everything else that goes wrong before anything left is `NotDelivered`: an
     earlier attempt, of another process with another environment, may well have arrived.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from aumai_transactions.actions import StepContext
from aumai_transactions.core.values import checked_copy
from aumai_transactions.errors import InvalidData, NotDelivered, OutcomeUnknown
from aumai_transactions.participants.address import URL_PATTERN, Address, parsed_address
from aumai_transactions.participants.definition import (
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
    exchange,
)
from aumai_transactions.participants.identity import HEADER_PREFIX, step_headers, trace_headers
from aumai_transactions.participants.messages import printable, without
from aumai_transactions.participants.template import (
    Node,
    Placeholder,
    Text,
    UnfitValue,
    Values,
    encoded_json,
    json_body,
    parsed_json,
    parsed_text,
    placeholders_in,
    rejection,
    values_of,
)

RESPONSE_BYTES_DEFAULT = 1024 * 1024
RESPONSE_BYTES_LIMIT = 64 * 1024 * 1024
HEADER_CHARACTERS_MAX = 8_000

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
WITHOUT_BODY = frozenset({"GET", "DELETE"})

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
_USUAL_HEADERS = {
    "Accept": "application/json, text/plain;q=0.5",
    "User-Agent": "aumai-transactions",
}


def _checked_url(url: str) -> str:
    parsed_address(url)
    return url


def _checked_headers(headers: dict[str, Setting]) -> dict[str, Setting]:
    seen: set[str] = set()
    for name, setting in headers.items():
        low = name.lower()
        if not _TOKEN.fullmatch(name):
            message = f"{printable(name, 80)!r} is not the name of a header"
            raise ValueError(message)
        if low in _RESERVED or low.startswith(HEADER_PREFIX):
            message = f"header {name} is set by every call itself; remove it"
            raise ValueError(message)
        if low in seen:
            message = f"header {name} stands twice, in different spellings"
            raise ValueError(message)
        seen.add(low)
        # Why the prefix alone: the value itself is looked at when it is read.
        literal = (
            _header_text(name, setting).literal
            if isinstance(setting, str)
            else setting.prefix.rstrip(" ")
        )
        check_header_value(f"the value of header {name}", literal)
    return headers


def _header_text(name: str, setting: str) -> Text:
    try:
        text = parsed_text(setting)
    except ValueError as error:
        message = f"header {name} {error}"
        raise ValueError(message) from None
    if Placeholder("data") in text.placeholders:
        message = (
            f"header {name} holds {{data}}, which is an object; name one of its fields, as "
            "{data.id}"
        )
        raise ValueError(message)
    return text


def check_header_value(what: str, value: str) -> None:
    """Refuse what would change a header, or the one after it.

    Raises:
        ValueError: It is no printable ASCII, or a space stands at one of its ends.
    """
    if re.search(r"[^\x20-\x7e]", value):
        message = f"{what} holds a line break, a control character or a letter outside ASCII"
        raise ValueError(message)
    if value != value.strip():
        message = f"{what} begins or ends with a space"
        raise ValueError(message)


def _checked_json(value: Any) -> Any:
    try:
        copy = checked_copy(value)
    except InvalidData as error:
        place = error.path.removeprefix("$").lstrip(".")
        message = f"{place}: {error.problem}" if place else error.problem
        raise ValueError(message.rstrip(".")) from None
    parsed_json(copy)
    return copy


class RequestTable(BaseModel):
    """Hold what a request is made of."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, serialize_by_alias=True)

    url: Annotated[
        str,
        AfterValidator(_checked_url),
        WithJsonSchema({"type": "string", "pattern": URL_PATTERN}),
    ] = Field(
        description="Where to: http:// or https://, without user name and fragment; path and "
        "query may hold references such as {data.flight_id}."
    )
    method: Method = Field(
        default="POST", description="The HTTP method; GET and DELETE send no body."
    )
    headers: Annotated[dict[str, Setting], AfterValidator(_checked_headers)] = Field(
        default_factory=dict,
        description='Headers to add: text, maybe with references, or { env = "NAME" } for a '
        "secret.",
    )
    body: Annotated[Any, AfterValidator(_checked_json)] = Field(
        default=None,
        alias="json",
        description="The body, any JSON, maybe with references; by default the step's data.",
    )
    timeout_seconds: Seconds = Field(
        default=30.0, description="How long connecting, sending and reading may take together."
    )
    response_bytes_max: Annotated[int, Field(ge=1, le=RESPONSE_BYTES_LIMIT)] = Field(
        default=RESPONSE_BYTES_DEFAULT, description="How large the body of an answer may be."
    )

    @model_validator(mode="after")
    def _no_body_that_is_not_sent(self) -> Self:
        if self.body is not None and self.method in WITHOUT_BODY:
            message = (
                f"has json, and {self.method} sends no body. Put the values into the url, or use "
                "another method."
            )
            raise ValueError(message)
        return self

    def unfit_headers(self) -> list[str]:
        """Return the headers that cannot be made in this environment."""
        found = []
        for name, setting in self.headers.items():
            if isinstance(setting, EnvironmentValue):
                try:
                    check_header_value(f"the value of header {name}", setting_text(setting))
                except (MissingVariable, ValueError) as error:
                    found.append(f"header {name}: {error}")
        return found

    def referring(self) -> Iterator[tuple[str, Placeholder]]:
        """Yield each reference, with the key that holds it."""
        for placeholder in parsed_address(self.url).placeholders:
            yield "url", placeholder
        for name, setting in self.headers.items():
            if isinstance(setting, str):
                for placeholder in parsed_text(setting).placeholders:
                    yield f"headers.{name}", placeholder
        for placeholder in placeholders_in(parsed_json(self.body)):
            yield "json", placeholder


@dataclass(slots=True, frozen=True)
class Delivered:
    """Hold an answer, and what a message about it needs.

    Args:
        answer: The answer.
        request: What was asked, for people.
        secrets: What must not stand in a message.
    """

    answer: Answer
    request: str
    secrets: tuple[str, ...]

    def told(self, text: object) -> str:
        """Return a sentence about this request, without secrets."""
        return without(f"{self.request} {text}", self.secrets)


@dataclass(slots=True, frozen=True)
class RequestTemplate:
    """Hold a request whose texts are parsed, ready to be sent for any call."""

    table: RequestTable
    address: Address
    headers: tuple[tuple[str, Text], ...]
    body: Node

    @classmethod
    def of(cls, table: RequestTable) -> RequestTemplate:
        """Parse what a table says, once."""
        headers = tuple(
            (name, parsed_text(setting))
            for name, setting in table.headers.items()
            if isinstance(setting, str)
        )
        return cls(table, parsed_address(table.url), headers, parsed_json(table.body))

    def delivered(self, data: Mapping[str, Any], context: StepContext) -> Delivered:
        """Send the request of one call and return its answer.

        Raises:
            StepRejected: A value cannot be sent; nothing was.
            NotDelivered: Nothing was sent.
            OutcomeUnknown: Something may have arrived, and there is no answer.
        """
        table = self.table
        values = values_of(data, context)
        request = f"{table.method} {printable(self.address.shown)}"
        try:
            target = self.address.target(values)
            request = f"{table.method} {printable(target.shown)}"
            headers = {name: _rendered_header(text, values) for name, text in self.headers}
            body = self._body(data, values)
            identity = _identity(context)
        except UnfitValue as error:
            message = f"{request} was not sent: {error}"
            raise rejection(context, message) from None
        secret, secrets = self._secret_headers(request)
        if body is not None:
            headers["Content-Type"] = "application/json"
        replaced = {name.lower() for name in (*headers, *secret)}
        usual = {k: text for k, text in _USUAL_HEADERS.items() if k.lower() not in replaced}
        traced = {k: text for k, text in trace_headers(context).items() if k not in replaced}
        ours = {**traced, **identity, "Host": target.authority, "Connection": "close"}
        try:
            answer = exchange(
                target,
                table.method,
                {**usual, **headers, **secret, **ours},
                body,
                timeout_seconds=table.timeout_seconds,
                body_bytes_max=table.response_bytes_max,
            )
        except NotSent as error:
            message = f"{request} was not sent: {printable(str(error))}"
            raise NotDelivered(without(message, secrets)) from error
        except AnswerLost as error:
            message = f"{request} was sent, and its answer was lost: {printable(str(error))}"
            raise OutcomeUnknown(without(message, secrets)) from error
        return Delivered(answer, request, secrets)

    def _body(self, data: Mapping[str, Any], values: Values) -> bytes | None:
        if self.table.method in WITHOUT_BODY:
            return None
        return encoded_json(data) if self.body is None else json_body(self.body, values)

    def _secret_headers(self, request: str) -> tuple[dict[str, str], tuple[str, ...]]:
        made: dict[str, str] = {}
        secrets = []
        for name, setting in self.table.headers.items():
            if isinstance(setting, EnvironmentValue):
                try:
                    made[name] = setting.read()
                    check_header_value(f"the value of header {name}", made[name])
                except (MissingVariable, ValueError) as error:
                    message = f"{request} was not sent: {error}"
                    raise NotDelivered(message) from None
                secrets.append(made[name].removeprefix(setting.prefix))
        return made, tuple(secrets)


def _identity(context: StepContext) -> dict[str, str]:
    headers = step_headers(context)
    for name, text in headers.items():
        if len(text) > HEADER_CHARACTERS_MAX:
            message = f"the header {name} would be longer than {HEADER_CHARACTERS_MAX:,} characters"
            raise UnfitValue(message)
    return headers


def _rendered_header(text: Text, values: Values) -> str:
    rendered = text.rendered(values, _header_piece)
    if len(rendered) > HEADER_CHARACTERS_MAX:
        names = ", ".join(placeholder.shown for placeholder in text.placeholders)
        message = f"{names} makes a header longer than {HEADER_CHARACTERS_MAX:,} characters"
        raise UnfitValue(message)
    return rendered


def _header_piece(placeholder: Placeholder, text: str) -> str:
    try:
        check_header_value(placeholder.shown, text)
    except ValueError as error:
        raise UnfitValue(str(error)) from None
    if not text:
        message = f"{placeholder.shown} is empty"
        raise UnfitValue(message)
    return text
