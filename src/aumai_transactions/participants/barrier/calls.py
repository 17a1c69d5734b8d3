"""Which call stands before the barrier, and what it can be told.

Owns: a call's identity, how it is read from a `StepContext` or from the headers of a request, and
the exceptions by which the barrier sends a call away.
Rules:
  1. Headers are hostile: doubled, endless, unprintable. A call is read whole or refused by name.
  2. Whatever the barrier raises says truly what became of the call: `StepRejected` where nothing
     of it stands or ever will, `RetryLater` and `NotDelivered` where nothing of this attempt
     stands, `OutcomeUnknown` where that cannot be said.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast, get_args
from urllib.parse import unquote_to_bytes

from aumai_transactions.actions import StepContext
from aumai_transactions.core.definition import Operation, idempotency_key
from aumai_transactions.core.values import canonical_json, checked_copy
from aumai_transactions.errors import OutcomeUnknown, StepRejected, TransactionError

HEADER_CHARACTERS_MAX = 4_096
RESOURCES_CHARACTERS_MAX = 8_000
# Two names of a thousand characters, two strokes and the longest operation.
KEY_CHARACTERS_MAX = 2_020
NAME_CHARACTERS_MAX = 1_000
_DIGITS_MAX = 18
_OPERATIONS: Final = get_args(Operation)
_KEY: Final = "Idempotency-Key"
_COMPENSATES: Final = "Aumai-Compensates"
_FORWARD_KEY: Final = "Aumai-Forward-Key"
_RESOURCES: Final = "Aumai-Resources"
_NAMES: Final = {
    name.lower(): name
    for name in (
        *(_KEY, _COMPENSATES, _FORWARD_KEY, "Aumai-Transaction", "Aumai-Step"),
        *("Aumai-Operation", "Aumai-Attempt", "Aumai-Token", "Aumai-Forward-Attempt"),
        _RESOURCES,
    )
}

Headers = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]
"""Headers as a mapping, or as pairs; pairs show a header that stands twice."""


class InvalidCall(TransactionError, ValueError):
    """Say that a call cannot be told apart from others: a header or a field is unusable.

    Args:
        name: The header or the field.
        problem: What is wrong with it.
    """

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self.problem = problem
        super().__init__(f"{name} {problem}")


class CallRefused(StepRejected):
    """Say again what the first arrival of this call was told: a definite no.

    Args:
        reason: The recorded sentence.
        answer: What stood in `Admission.answer` when the block refused.
    """

    def __init__(self, reason: str, answer: Any = None) -> None:
        self.reason = reason
        self.answer = answer
        super().__init__(reason)


class CallUndone(StepRejected):
    """Say that a forward call came after its undo, so that it must not act (hanging).

    Args:
        key: The call.
        was_carried_out: True where it had been carried out once, before its undo.
    """

    def __init__(self, key: str, *, was_carried_out: bool) -> None:
        self.key = key
        self.was_carried_out = was_carried_out
        before = "it was carried out, and undone" if was_carried_out else "it was undone, or asked"
        tail = " later" if was_carried_out else " about, before it arrived"
        super().__init__(f"call {key} is refused after its undo: {before}{tail}")


class StaleDriver(StepRejected):
    """Say that a call comes from a driver whose transaction somebody else has taken over.

    Args:
        transaction_id: The transaction.
        token: The fencing token that the call came with.
        highest: The highest one that was seen here for this transaction.
    """

    def __init__(self, transaction_id: str, token: int, highest: int) -> None:
        self.transaction_id = transaction_id
        self.token = token
        self.highest = highest
        super().__init__(
            f"transaction {transaction_id} was taken over: this call has fencing token {token}, "
            f"and {highest} was seen here already. Nothing was done"
        )


class KeyReused(OutcomeUnknown):
    """Say that a key was used before for something else; nothing was done now.

    Why it is no `StepRejected`: where a step sends another request in a second attempt, its first
    one stands, and "not done" would leave that without an undo.

    Args:
        key: The key.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(
            f"key {key} was used for another request. Send the same request with the same key, "
            "or take a new key; nothing was done now"
        )


@dataclass(slots=True, frozen=True)
class BarrierCall:
    """Hold what the barrier has to know about a call.

    Args:
        key: The idempotency key, the same for every attempt.
        operation: `action` for a forward call, `compensation` for an undo.
        forward_key: The key of the forward call that this is about; in a forward call its own.
        transaction_id: Whose call it is; an empty text where nobody says, and then there is no
            fencing.
        step_id: Which step's.
        token: The fencing token of the driver; 0 where there is none, and then there is no fencing.
        attempt: Counted by the caller, from 1.
        forward_attempt: In a probe: how many attempts of the forward call there have been. What a
            probe makes impossible is these, not a later one. 0 where nobody says; then it is all.
        resources: The fencing token of each resource that the step uses and that is locked; for
            `fence()`.

    Raises:
        InvalidCall: A field is empty, too long, or cannot be stored.
    """

    key: str
    operation: Operation = "action"
    forward_key: str = ""
    transaction_id: str = ""
    step_id: str = ""
    token: int = 0
    attempt: int = 1
    forward_attempt: int = 0
    resources: Mapping[str, int] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.operation not in _OPERATIONS:
            raise InvalidCall("operation", f"must be one of {', '.join(_OPERATIONS)}")
        if self.operation == "action":
            object.__setattr__(self, "forward_key", self.forward_key or self.key)
            if self.forward_key != self.key:
                raise InvalidCall("forward_key", "of a forward call can only be its own key")
        _check_text("key", self.key, KEY_CHARACTERS_MAX)
        _check_text("forward_key", self.forward_key, KEY_CHARACTERS_MAX)
        for name in ("transaction_id", "step_id"):
            _check_text(name, getattr(self, name), NAME_CHARACTERS_MAX, may_be_empty=True)
        for name, least in (("token", 0), ("attempt", 1), ("forward_attempt", 0)):
            number = getattr(self, name)
            if type(number) is not int or not least <= number < 10**_DIGITS_MAX:
                raise InvalidCall(name, f"must be a whole number from {least}")

    @classmethod
    def of(cls, context: StepContext | BarrierCall) -> BarrierCall:
        """Return the call that a handler's context describes."""
        if isinstance(context, BarrierCall):
            return context
        made = idempotency_key(context.transaction_id, context.step_id, "action")
        return cls(
            key=context.idempotency_key,
            operation=context.operation,
            forward_key="" if context.operation == "action" else context.forward_key or made,
            transaction_id=context.transaction_id,
            step_id=context.step_id,
            token=context.token,
            attempt=context.attempt,
            forward_attempt=context.forward_attempt,
            resources=context.resources,
        )

    @classmethod
    def from_headers(cls, headers: Headers) -> BarrierCall:
        """Return the call that the headers of a request describe.

        `Idempotency-Key` is needed, and `Aumai-Compensates` in a compensation; where
        `Aumai-Operation` is missing, `Aumai-Compensates` tells the two apart. Values are
        percent-decoded. All other headers are ignored.

        Args:
            headers: A mapping, or pairs of names and values, text or bytes.

        Raises:
            InvalidCall: A header is missing, doubled, too long or malformed; `name` says which.
        """
        found = _decoded(headers)
        operation = found.get("Aumai-Operation") or (
            "compensation" if _COMPENSATES in found else "action"
        )
        if operation not in _OPERATIONS:
            raise InvalidCall("Aumai-Operation", f"must be one of {', '.join(_OPERATIONS)}")
        forward_key = ""
        if operation == "compensation":
            forward_key = _needed(found, _COMPENSATES)
        elif operation != "action":
            forward_key = _needed(found, _FORWARD_KEY)
        return cls(
            key=_needed(found, _KEY),
            operation=cast("Operation", operation),
            forward_key=forward_key,
            transaction_id=found.get("Aumai-Transaction", ""),
            step_id=found.get("Aumai-Step", ""),
            token=_number(found, "Aumai-Token", 0),
            attempt=_number(found, "Aumai-Attempt", 1),
            forward_attempt=_number(found, "Aumai-Forward-Attempt", 0),
            resources=_tokens(found),
        )


def request_digest(request: object) -> str | None:
    """Return what tells two requests under one key apart; None for a request of None.

    Args:
        request: Bytes, or a JSON value.
    """
    if request is None:
        return None
    content = request if isinstance(request, bytes) else canonical_json(checked_copy(request))
    return hashlib.sha256(content).hexdigest()


def _decoded(headers: Headers) -> dict[str, str]:
    pairs = headers.items() if isinstance(headers, Mapping) else _pairs_of(headers)
    found: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name = _NAMES.get(_latin(raw_name).lower())
        if name is None:
            continue
        if name in found:
            raise InvalidCall(name, "stands there more than once")
        found[name] = _decoded_value(name, _latin(raw_value).strip())
    return found


def _pairs_of(headers: Any) -> Iterable[tuple[str | bytes, str | bytes]]:
    # Why not Mapping alone: the headers of http.server and others only look like one.
    items = getattr(headers, "items", None)
    pairs: Iterable[tuple[str | bytes, str | bytes]] = items() if callable(items) else headers
    return pairs


def _decoded_value(name: str, value: str) -> str:
    longest = RESOURCES_CHARACTERS_MAX if name == _RESOURCES else HEADER_CHARACTERS_MAX
    if len(value) > longest:
        raise InvalidCall(name, f"is longer than {longest:,} characters")
    if not (value.isascii() and value.isprintable()):
        raise InvalidCall(name, "holds characters that are not visible ASCII; percent-encode them")
    try:
        text = unquote_to_bytes(value).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidCall(name, "is percent-encoded, but not from UTF-8") from None
    # Why here too: a message must say which header it was, not which field.
    if "\0" in text:
        raise InvalidCall(name, "holds a NUL character")
    return text


def _latin(text: str | bytes) -> str:
    return text.decode("latin-1") if isinstance(text, bytes) else str(text)


def _needed(found: Mapping[str, str], name: str) -> str:
    text = found.get(name, "")
    if not text.strip():
        raise InvalidCall(name, "is missing")
    if len(text) > KEY_CHARACTERS_MAX:
        raise InvalidCall(name, f"is longer than {KEY_CHARACTERS_MAX:,} characters")
    return text


def _number(found: Mapping[str, str], name: str, default: int) -> int:
    text = found.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
        raise InvalidCall(name, "is not a whole number")
    return int(text)


def _tokens(found: Mapping[str, str]) -> dict[str, int]:
    text = found.get(_RESOURCES)
    if text is None:
        return {}
    try:
        tokens = json.loads(text)
    except (ValueError, RecursionError):
        tokens = None
    whole = isinstance(tokens, dict) and all(
        type(token) is int and 0 < token < 10**_DIGITS_MAX for token in tokens.values()
    )
    if not whole:
        raise InvalidCall(_RESOURCES, "is no JSON object of positive whole numbers")
    return dict(tokens)


def _check_text(
    name: str, text: object, characters_max: int, *, may_be_empty: bool = False
) -> None:
    if not isinstance(text, str) or not (may_be_empty or text.strip()):
        raise InvalidCall(name, "must be a text that is not empty")
    if len(text) > characters_max:
        raise InvalidCall(name, f"is longer than {characters_max:,} characters")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidCall(name, "holds a NUL character or a lone surrogate")
