"""What may go wrong with a plan that is well formed.

Owns: warnings, for `check`. Each is certain from the plan alone; none is a matter of taste.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from aumai_transactions.participants.command import CommandDefinition
from aumai_transactions.participants.definition import ActionDefinition
from aumai_transactions.participants.exchange import parsed_url
from aumai_transactions.participants.http import HttpDefinition
from aumai_transactions.plans.actions import definitions_of
from aumai_transactions.plans.loader import Plan

_SECRET_NAME = re.compile(
    r"pass|secret|token|authorization|api[-_]?key|cookie|credential", re.IGNORECASE
)
_LOOPBACK = re.compile(r"localhost\.?|127\.\d+\.\d+\.\d+|::1")


def risks(plan: Plan) -> list[str]:
    """Return what the author of a plan should know, one sentence or two each.

    Actions that the plan does not define itself are not judged.
    """
    actions = dict(definitions_of(plan.actions))
    undoing = {step.compensating_action for step in plan.steps if step.compensating_action}
    doing = {step.action for step in plan.steps}
    found = list(_steps_that_stay(plan, actions))
    for name, action in actions.items():
        if name in doing:
            found += _unanswered(name, action)
        if name in undoing:
            found += _undone_twice(name, action)
        found += _data_not_sent(plan, name, action)
        found += _readable_by_others(name, action)
        if name not in doing | undoing:
            found.append(f"action {name!r} is defined, and no step uses it.")
    return found


def _steps_that_stay(plan: Plan, actions: dict[str, ActionDefinition]) -> Iterator[str]:
    for step in plan.steps:
        if step.action not in actions or step.effect == "none" or step.compensating_action:
            continue
        yield (
            f"step {step.step_id!r}: nothing undoes {step.action!r}, so its effect stays when the "
            'transaction is rolled back. Add compensating_action, or effect = "none" if it '
            "changes nothing."
        )


def _unanswered(name: str, action: ActionDefinition) -> Iterator[str]:
    if action.idempotent:
        return
    if isinstance(action, HttpDefinition):
        yield (
            f"action {name!r} is not declared idempotent: when its answer is lost, it is not asked "
            "again. If the service honours Idempotency-Key, add idempotent = true."
        )
    elif isinstance(action, CommandDefinition):
        yield (
            f"action {name!r} is not declared idempotent: when it is killed or times out, it is "
            "not run again. If it may run twice with the same key, add idempotent = true."
        )


def _undone_twice(name: str, action: ActionDefinition) -> Iterator[str]:
    if not action.idempotent:
        yield (
            f"action {name!r} undoes a step and is not declared idempotent: after a crash in the "
            "middle of it, it is called a second time with the same key."
        )


def _data_not_sent(plan: Plan, name: str, action: ActionDefinition) -> Iterator[str]:
    if not isinstance(action, HttpDefinition) or action.method not in ("GET", "DELETE"):
        return
    for step in plan.steps:
        if name in (step.action, step.compensating_action) and step.data:
            yield (
                f"step {step.step_id!r}: {action.method} of action {name!r} has no body, so the "
                "step's data is not sent; the service sees the headers only."
            )


def _readable_by_others(name: str, action: ActionDefinition) -> Iterator[str]:
    literals: dict[str, str] = {}
    if isinstance(action, HttpDefinition):
        target = parsed_url(action.url)
        if not target.is_encrypted and not _LOOPBACK.fullmatch(target.host):
            yield f"action {name!r} sends data and headers to {target.host} unencrypted (http://)."
        literals = {key: text for key, text in action.headers.items() if isinstance(text, str)}
    elif isinstance(action, CommandDefinition):
        literals = {key: text for key, text in action.env.items() if isinstance(text, str)}
    for key in literals:
        if _SECRET_NAME.search(key):
            yield (
                f"action {name!r}: the value of {key} stands in the plan and in the journal. "
                'Use { env = "NAME" } to read it when it is needed.'
            )
