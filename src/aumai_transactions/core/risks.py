"""What the author of a transaction should know before it runs.

Owns: every rule of the lint that needs nothing but the plan, and which handlers are here.
Rules:
  1. A risk is no error: the transaction can run, and these sentences say what may then happen.
  2. What the author has declared on purpose is not named again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aumai_transactions.core.graph import ancestors, dependencies
from aumai_transactions.core.masking import MARK, SECRET_NAME, SECRET_VALUE
from aumai_transactions.core.references import pointer_to
from aumai_transactions.models import Risk, RiskCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aumai_transactions.core.definition import Definition, StepDefinition


def risks_of(definition: Definition, handlers: Mapping[str, bool]) -> list[Risk]:
    """Return the risks of a transaction, in the order of its steps.

    Args:
        definition: The plan as it would be journaled.
        handlers: The actions that have a handler here; true where it is a plain one of
            `action_handlers`, all of whose exceptions mean "not done".
    """
    found = []
    if not definition.steps and definition.shape == "planned":
        found.append(Risk(code="no_steps", message="it has no steps; a commit would do nothing."))
    for step in definition.steps:
        found += _unknown(step, handlers)
        found += _staying(step)
        found += _in_doubt(step, handlers)
        found += _repeated(step, handlers)
        found += _too_long(step, definition)
        found += _approved_too_late(step, definition)
        found += _secrets(step)
    return [*found, *_approved_under_lock(definition), *_undone_too_late(definition)]


def _risk(code: RiskCode, step: StepDefinition, message: str) -> Risk:
    return Risk(code=code, step_id=step.step_id, message=f"step {step.step_id!r}: {message}")


def _unknown(step: StepDefinition, handlers: Mapping[str, bool]) -> Iterator[Risk]:
    for name, what in (
        (step.action, "it would only be simulated, or refused where the manager is strict"),
        (step.compensating_action, "what the step did would be left to a person"),
        (step.confirming_action, "its confirmation would be left to a person"),
    ):
        if name is not None and name not in handlers:
            yield _risk("unknown_action", step, f"{name!r} has no handler here; {what}.")


def _staying(step: StepDefinition) -> Iterator[Risk]:
    is_late = step.pivot or step.on_commit
    if is_late and step.compensating_action is not None:
        where = "is the commit point" if step.pivot else "runs behind the commit point"
        yield _risk(
            "undo_never_runs",
            step,
            f"it {where}, from which nothing goes back, so {step.compensating_action!r} never "
            "undoes it. Remove compensating_action.",
        )
    # Why not those: that their effects stay is what their author has said.
    if is_late or step.effect is not None:
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
            if step.compensating_action and not step.pivot
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
    if undo is None or step.pivot or step.on_commit:
        return
    if not policy.undo_idempotent and handlers.get(undo) is False:
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


def _approved_too_late(step: StepDefinition, definition: Definition) -> Iterator[Risk]:
    if not step.requires_approval or definition.timeout_scope != "transaction":
        return
    seconds = step.approval_timeout_seconds
    if seconds is None or seconds > definition.timeout_seconds:
        may_take = "as long as it likes" if seconds is None else f"{seconds:g} s"
        yield _risk(
            "approval_beyond_deadline",
            step,
            f"its approval may take {may_take}, and no step starts once the transaction's timeout "
            f"of {definition.timeout_seconds:g} s is over: one that comes later rolls it back. Set "
            "a longer timeout_seconds, or a shorter approval_timeout_seconds.",
        )


def _approved_under_lock(definition: Definition) -> Iterator[Risk]:
    """Name the steps that a person may leave waiting for ever while others need what they hold."""
    if definition.isolation == "none":
        return
    everything = [use for step in definition.steps for use in step.resources]
    for step in definition.steps:
        if not step.requires_approval or step.approval_timeout_seconds is not None:
            continue
        # Why all steps' where it is planned: such a one holds everything from its beginning.
        uses = everything if definition.shape == "planned" else step.resources
        name = next((use.name for use in uses if use.mode == "exclusive"), None)
        if name is not None:
            yield _risk(
                "approval_under_lock",
                step,
                f"its approval may take as long as it likes, and nobody else can use {name!r} "
                "until then. Set approval_timeout_seconds.",
            )


def _undone_too_late(definition: Definition) -> Iterator[Risk]:
    """Name the steps that can no longer be undone by the time at which they may have to be."""
    if definition.on_undo_window != "warn" or definition.shape != "planned":
        return
    edges: list[tuple[int, ...]] | None = None
    for index, step in enumerate(definition.steps):
        within = step.undo_within_seconds
        if within is None or step.compensating_action is None or step.pivot or step.on_commit:
            continue
        edges = dependencies(definition.steps) if edges is None else edges
        before = {index, *ancestors(edges, [index])}
        longer = [
            other.step_id
            for position, other in enumerate(definition.steps)
            if position not in before and not other.on_commit and _may_take(other) > within
        ]
        if longer:
            yield _risk(
                "undo_window",
                step,
                f"it can be undone for {within:g} s only, and {longer[0]!r}, which does not come "
                "before it, may take longer: if that fails or is denied then, its effect stays. "
                'Limit how long that may take, or set on_undo_window="roll_back".',
            )


def _may_take(step: StepDefinition) -> float:
    """Return how long a step may take by what it declares; 0 for a call without a limit."""
    seconds = step.policy.timeout_seconds or 0.0
    if step.requires_approval:
        limit = step.approval_timeout_seconds
        seconds += float("inf") if limit is None else limit
    return seconds


def _secrets(step: StepDefinition) -> Iterator[Risk]:
    filled_in = {reference.into for reference in step.references}
    for place, key, value in _texts(step.data):
        if key == MARK and pointer_to(place[:-1]) in step.secrets:
            continue  # It is named, and read when a call is made.
        named = SECRET_NAME.search(key) is not None and place not in filled_in
        if value and (named or SECRET_VALUE.search(value)):
            where = ".".join(str(part) for part in place)
            yield _risk(
                "secret_in_data",
                step,
                f"data.{where} looks like a secret, and would stand in the journal for everybody "
                'who can read it. Give its name instead: SecretRef("env:NAME").',
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
