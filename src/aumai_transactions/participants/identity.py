"""Which call this is, in the words that the other side is told it.

Owns: the names under which a call's ids travel: as HTTP headers, and as environment variables.
Rules:
  1. Both spellings say the same.
  2. No action may set one of these itself.
"""

from __future__ import annotations

from urllib.parse import quote

from aumai_transactions.actions import StepContext
from aumai_transactions.core.definition import idempotency_key
from aumai_transactions.core.values import canonical_json

HEADER_PREFIX = "aumai-"
KEY_HEADER = "Idempotency-Key"
STEP_VARIABLES = (
    "AUMAI_TRANSACTION",
    "AUMAI_STEP",
    "AUMAI_OPERATION",
    "AUMAI_ATTEMPT",
    "AUMAI_TOKEN",
    "AUMAI_IDEMPOTENCY_KEY",
    "AUMAI_COMPENSATES",
    "AUMAI_FORWARD_KEY",
    "AUMAI_FORWARD_ATTEMPT",
    "AUMAI_RESOURCES",
)

_HEADER_SAFE = "!\"#$&'()*+,-./:;<=>?@[]^_`{|}~"


def forward_key_of(context: StepContext) -> str:
    """Return the idempotency key of the step's action, whichever operation this is."""
    made = idempotency_key(context.transaction_id, context.step_id, "action")
    return context.forward_key or made


def step_headers(context: StepContext) -> dict[str, str]:
    """Return the headers that tell a service which call this is.

    What is not visible ASCII in an id is percent-encoded, and `%` itself too.
    """
    headers = {
        KEY_HEADER: context.idempotency_key,
        "Aumai-Transaction": context.transaction_id,
        "Aumai-Step": context.step_id,
        "Aumai-Operation": context.operation,
        "Aumai-Attempt": str(context.attempt),
        "Aumai-Token": str(context.token),
    }
    if context.operation == "compensation":
        headers["Aumai-Compensates"] = forward_key_of(context)
    elif context.operation != "action":
        headers["Aumai-Forward-Key"] = forward_key_of(context)
        headers["Aumai-Forward-Attempt"] = str(context.forward_attempt)
    if context.resources:
        headers["Aumai-Resources"] = _tokens_of(context)
    return {name: quote(text, safe=_HEADER_SAFE) for name, text in headers.items()}


def trace_headers(context: StepContext) -> dict[str, str]:
    """Return the headers that say below which span the call stands (W3C Trace Context)."""
    if context.traceparent is None:
        return {}
    headers = {"traceparent": context.traceparent}
    if context.tracestate is not None:
        headers["tracestate"] = context.tracestate
    return headers


def trace_variables(context: StepContext) -> dict[str, str]:
    """Return the same for a program: `TRACEPARENT`, and always `TRACESTATE`, which may be empty.

    Why also empty: what this process has inherited belongs to another span.
    """
    if context.traceparent is None:
        return {}
    return {"TRACEPARENT": context.traceparent, "TRACESTATE": context.tracestate or ""}


def _tokens_of(context: StepContext) -> str:
    """Return the fencing tokens of what a step uses, by resource, as a JSON object."""
    return canonical_json(dict(context.resources)).decode()


def step_variables(context: StepContext) -> dict[str, str]:
    """Return the environment variables that tell a program which call this is."""
    variables = {
        "AUMAI_TRANSACTION": context.transaction_id,
        "AUMAI_STEP": context.step_id,
        "AUMAI_OPERATION": context.operation,
        "AUMAI_ATTEMPT": str(context.attempt),
        "AUMAI_TOKEN": str(context.token),
        "AUMAI_IDEMPOTENCY_KEY": context.idempotency_key,
    }
    if context.operation == "compensation":
        variables["AUMAI_COMPENSATES"] = forward_key_of(context)
    elif context.operation != "action":
        variables["AUMAI_FORWARD_KEY"] = forward_key_of(context)
        variables["AUMAI_FORWARD_ATTEMPT"] = str(context.forward_attempt)
    if context.resources:
        variables["AUMAI_RESOURCES"] = _tokens_of(context)
    return variables
