"""What the author of a transaction should know before it runs.

Owns: every rule of the lint that needs nothing but the plan, and which handlers are here.
Rules:
  1. A risk is no error: the transaction can run, and these sentences say what may then happen.
  2. What the author has declared on purpose is not named again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from aumai_transactions.models import Risk, RiskCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aumai_transactions.core.definition import Definition, StepDefinition

SECRET_NAME = re.compile(
    r"pass(word|wd|phrase)|secret|token|authorization|api[-_]?key|private[-_]?key|cookie|credential",
    re.IGNORECASE,
)
# Source: the prefixes that these services document for their keys: OpenAI and Stripe (sk-, sk_),
# GitHub (ghp_, github_pat_), AWS (AKIA), Slack (xox?-); a JSON web token; a PEM private key.
_SECRET_VALUE = re.compile(
    r"^(Bearer\s+\S{8,}|sk[-_]\S{16,}|gh[a-z]_\w{20,}|github_pat_\w{20,}|AKIA[0-9A-Z]{16}"
    r"|xox[a-z]-\S{10,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)$|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)


def risks_of(definition: Definition, handlers: Mapping[str, bool]) -> list[Risk]:
    """Return the risks of a transaction, in the order of its steps.

    Args:
        definition: The plan as it would be journaled.
        handlers: The actions that have a handler here; true where it is a plain one of
            `action_handlers`, all of whose exceptions mean "not done".
    """
    found = []
    if not definition.steps:
        found.append(Risk(code="no_steps", message="it has no steps; a commit would do nothing."))
    for step in definition.steps:
        found += _unknown(step, handlers)
        found += _staying(step)
        found += _in_doubt(step, handlers)
        found += _repeated(step, handlers)
        found += _too_long(step, definition)
        found += _secrets(step)
    return found


def _risk(code: RiskCode, step: StepDefinition, message: str) -> Risk:
    return Risk(code=code, step_id=step.step_id, message=f"step {step.step_id!r}: {message}")


def _unknown(step: StepDefinition, handlers: Mapping[str, bool]) -> Iterator[Risk]:
    for name in (step.action, step.compensating_action):
        if name is not None and name not in handlers:
            what = (
                "it would only be simulated, or refused where the manager is strict"
                if name == step.action
                else "what the step did would be left to a person"
            )
            yield _risk("unknown_action", step, f"{name!r} has no handler here; {what}.")


def _staying(step: StepDefinition) -> Iterator[Risk]:
    if step.effect == "none":
        return
    if step.compensating_action is None:
        yield _risk(
            "not_undone",
            step,
            f"nothing undoes {step.action!r}, so its effect stays when the transaction is rolled "
            'back. Add compensating_action, or effect = "none" if it changes nothing.',
        )
        if step.policy.has_verify:
            yield _risk(
                "verify_without_undo",
                step,
                f"{step.action!r} has a verification, which runs after its undo; it has none.",
            )


def _in_doubt(step: StepDefinition, handlers: Mapping[str, bool]) -> Iterator[Risk]:
    if step.effect == "none" or step.idempotent or step.policy.has_probe:
        return
    if handlers.get(step.action):
        yield _risk(
            "plain_handler",
            step,
            f"whatever {step.action!r} raises counts as not done, a timeout or a lost connection "
            "too, so that its effect may stay unnoticed. Register it with @manager.action.",
        )
    elif step.action in handlers and step.on_unknown is None:
        then = (
            "it is undone without anybody knowing whether it happened"
            if step.compensating_action
            else "a person must find out"
        )
        yield _risk(
            "no_probe",
            step,
            f"when the answer of {step.action!r} is lost, or the process dies meanwhile, {then}. "
            "Add a probe, or declare it idempotent if it may be called again with the same key.",
        )


def _repeated(step: StepDefinition, handlers: Mapping[str, bool]) -> Iterator[Risk]:
    policy = step.policy
    attempts = policy.retry.attempts_max if policy.retry is not None else 1
    if attempts > 1 and not step.idempotent and step.effect != "none":
        yield _risk(
            "retry_not_idempotent",
            step,
            f"{step.action!r} is tried up to {attempts} times and is not declared idempotent: "
            "what it had done before it raised is done again. Make it idempotent, by its key, and "
            "declare it so.",
        )
    undo = step.compensating_action
    if undo is not None and not policy.undo_idempotent and handlers.get(undo) is False:
        times = policy.undo_retry.attempts_max if policy.undo_retry is not None else 1
        when = (
            f"it is tried up to {times} times" if times > 1 else "after a crash it is called again"
        )
        yield _risk(
            "undo_not_idempotent",
            step,
            f"{undo!r} is not declared idempotent, and {when}, with the same key. Make it "
            "idempotent and declare it so.",
        )


def _too_long(step: StepDefinition, definition: Definition) -> Iterator[Risk]:
    seconds = step.policy.timeout_seconds
    if seconds is None or seconds <= definition.timeout_seconds:
        return
    scope = (
        "no later step would start then"
        if definition.timeout_scope == "transaction"
        else 'only the start is held to that; with timeout_scope="transaction" every step is'
    )
    yield _risk(
        "timeout_beyond_deadline",
        step,
        f"a call of it may take {seconds:g} s, longer than the transaction's timeout of "
        f"{definition.timeout_seconds:g} s; {scope}.",
    )


def _secrets(step: StepDefinition) -> Iterator[Risk]:
    filled_in = {reference.into for reference in step.references}
    for place, key, value in _texts(step.data):
        named = SECRET_NAME.search(key) is not None and place not in filled_in
        if value and (named or _SECRET_VALUE.search(value)):
            where = ".".join(str(part) for part in place)
            yield _risk(
                "secret_in_data",
                step,
                f"data.{where} looks like a secret, and would stand in the journal for everybody "
                "who can read it. Read it from the environment in the handler instead.",
            )


def _texts(data: dict[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """Yield place, nearest key and text of every text in some data."""
    waiting: list[tuple[tuple[str | int, ...], str, Any]] = [((), "", data)]
    while waiting:
        place, key, value = waiting.pop()
        if isinstance(value, str):
            yield place, key, value
        elif isinstance(value, dict):
            waiting += [((*place, name), name, item) for name, item in reversed(value.items())]
        elif isinstance(value, list):
            numbered = reversed(list(enumerate(value)))
            waiting += [((*place, index), key, item) for index, item in numbered]
