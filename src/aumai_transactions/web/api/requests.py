"""How a request is read: its body, its query, and the headers that mean something.

Owns: what makes a request one that can be looked at at all. What it may say is in `bodies.py`.
Rules:
  1. JSON is read strictly: no name twice, no number that is none, no deep nesting.
  2. Whoever is refused is told the place, as a JSON pointer, and what is allowed there.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from aumai_transactions.drivers.terms import Request as Named
from aumai_transactions.drivers.terms import Terms, request_of
from aumai_transactions.web.problems import Problem
from aumai_transactions.web.routing import principal_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request

    from aumai_transactions.web.api.bodies import Body, QueryModel

B = TypeVar("B", bound="Body")
Q = TypeVar("Q", bound="QueryModel")

DEPTH_MAX = 64
WAIT_SECONDS_MAX = 30
KEY_CHARACTERS_MAX = 255
# Why in a thread: a body of megabytes takes as long to read as a hundred requests.
LARGE_BYTES = 64 * 1024
PROBLEMS_MAX = 20

_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")
_TAG = re.compile(r'"(\d{1,18})"')
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?", re.IGNORECASE)


class Wanted(NamedTuple):
    """Hold what a request for a change says beside its body.

    Args:
        key: Its Idempotency-Key; None where it has none.
        if_sequence: The sequence that If-Match names; None for any.
        wait_seconds: How long its caller would wait; None where it does not say.
    """

    key: str | None
    if_sequence: int | None
    wait_seconds: int | None

    def named(self, caller: str, asked: Any) -> Named:
        """Return the request under its key; under one of its own where it has none."""
        return request_of(caller, self.key or f"\0{secrets.token_hex(16)}", asked)

    def terms(self, caller: str, asked: Any) -> Terms:
        """Return the terms of a wish."""
        request = None if self.key is None else self.named(caller, asked)
        return Terms(request, self.if_sequence)


def wanted_by(request: Request) -> Wanted:
    """Return what the headers of a request for a change say.

    Raises:
        Problem: One of them cannot be.
    """
    headers = request.headers
    for name in ("idempotency-key", "if-match"):
        if len(headers.getlist(name)) > 1:
            raise Problem(400, "bad-request", f"{name} is given twice.")
    key = headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        most = KEY_CHARACTERS_MAX
        detail = f"Idempotency-Key has 1 to {most} visible ASCII characters."
        raise Problem(400, "bad-request", detail)
    wait = _WAIT.search(headers.get("prefer", ""))
    seconds = None if wait is None else min(int(wait.group(1)), WAIT_SECONDS_MAX)
    return Wanted(key, _if_match(headers.get("if-match")), seconds)


def _if_match(text: str | None) -> int | None:
    if text is None or text.strip() == "*":
        return None
    found = _TAG.fullmatch(text.strip())
    if found is None:
        detail = 'If-Match is one ETag of a transaction, such as "7", or *.'
        raise Problem(400, "bad-request", detail)
    return int(found.group(1))


def caller_of(request: Request) -> str:
    """Return whose keys the keys of a request are."""
    return f"api/{principal_of(request).name}"


async def body_of(request: Request, model: type[B]) -> tuple[B, dict[str, Any]]:
    """Return what a request says, checked, and as it was sent; nothing where there is no body.

    Raises:
        Problem: It cannot be.
    """
    raw = await request.body()
    if not raw:
        sent: Any = {}
    else:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            detail = "Send JSON, with Content-Type: application/json."
            raise Problem(415, "unsupported-media-type", detail)
        is_large = len(raw) > LARGE_BYTES
        sent = await asyncio.to_thread(parsed, raw) if is_large else parsed(raw)
    if not isinstance(sent, dict):
        raise _invalid([{"pointer": "", "detail": "The body is to be a JSON object."}])
    try:
        return model.model_validate(sent), sent
    except ValidationError as error:
        raise _invalid(_places(error, model)) from None


def query_of(request: Request, model: type[Q], free: str | None = None) -> Q:
    """Return what stands behind the question mark, checked.

    Args:
        request: The request.
        model: What may stand there.
        free: What names begin with that are not looked at here.

    Raises:
        Problem: It cannot be.
    """
    given: dict[str, Any] = {}
    for name, text in request.query_params.multi_items():
        if free is not None and name.startswith(free):
            continue
        field = model.model_fields.get(name)
        if field is not None and field.is_required() is False and field.default_factory is list:
            given.setdefault(name, []).append(text)
        elif name in given:
            raise Problem(400, "bad-request", f"{ascii(name)[:80]} is given twice.")
        else:
            given[name] = text
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _invalid(_places(error, model)) from None


def parsed(raw: bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        Problem: It is none, or one that two readers may read differently.
    """
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise Problem(400, "bad-json", "The body is not UTF-8.") from None
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as error:
        detail = f"The body is no JSON: {error.msg}, line {error.lineno}, column {error.colno}."
        raise Problem(400, "bad-json", detail) from None
    except ValueError as error:
        raise Problem(400, "bad-json", f"The body cannot be read: {error}") from None
    _check(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Problem(400, "bad-json", f"The name {ascii(twice)[:80]} stands there twice.")
    return made


def _refuse_constant(name: str) -> Any:
    raise Problem(400, "bad-json", f"{name} is no JSON number.")


def _check(value: Any) -> None:
    """Refuse what is nested too deep, or holds half of a character or an endless number."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEPTH_MAX + 1:
            raise _too_deep()
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += [*item, *item.values()]
            elif isinstance(item, list):
                below += item
            elif isinstance(item, str):
                if not item.isascii() and any("\ud800" <= letter <= "\udfff" for letter in item):
                    raise Problem(400, "bad-json", "A text holds half of a surrogate pair.")
            elif isinstance(item, float) and item in (float("inf"), float("-inf")):
                raise Problem(400, "bad-json", "A number is too large.")
        level = below


def _too_deep() -> Problem:
    return Problem(400, "bad-json", f"The body is nested deeper than {DEPTH_MAX} levels.")


def _places(error: ValidationError, model: type[BaseModel]) -> list[dict[str, str]]:
    found = []
    for one in error.errors(include_url=False, include_context=False, include_input=False):
        pointer = "".join(f"/{_escaped(part)}" for part in one["loc"])
        detail = one["msg"]
        if one["type"] == "extra_forbidden":
            place = _fields_at(model, one["loc"][:-1])
            detail = "It is not known here."
            if place:
                detail += f" Known are: {', '.join(place)}."
        found.append({"pointer": pointer, "detail": detail})
        if len(found) == PROBLEMS_MAX:
            break
    return found


def _fields_at(model: type[BaseModel], where: Iterable[int | str]) -> list[str]:
    return [] if list(where) else sorted(model.model_fields)


def _escaped(part: int | str) -> str:
    return ascii(str(part).replace("~", "~0").replace("/", "~1"))[1:-1][:200]


def _invalid(places: list[dict[str, str]]) -> Problem:
    first = places[0]
    where = first["pointer"] or "the whole"
    detail = f"{where}: {first['detail']}"
    return Problem(422, "invalid-request", detail, more={"errors": places})
