"""What may go wrong with a plan file that is well formed.

Owns: the risks that come from how its actions are defined; those of every transaction are in
`core/risks.py`. Each is certain from the plan alone; none is a matter of taste.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from aumai_transactions.core.masking import SECRET_NAME
from aumai_transactions.models import Risk
from aumai_transactions.participants.command import CommandDefinition
from aumai_transactions.participants.definition import ActionDefinition, Setting
from aumai_transactions.participants.http import HttpDefinition
from aumai_transactions.participants.request import WITHOUT_BODY
from aumai_transactions.participants.template import OUTPUT
from aumai_transactions.plans.actions import definitions_of
from aumai_transactions.plans.loader import Plan

_LIKE_A_REFERENCE = re.compile(r"\{(data|output)\b[^{}]*\}|\{(forward_)?key\}")
_LOOPBACK = re.compile(r"localhost\.?|127\.\d+\.\d+\.\d+|::1")


def risks(plan: Plan) -> list[Risk]:
    """Return what the author of a plan should know beyond what is true of every transaction.

    What any transaction risks is told by `TransactionManager.check`. Actions that the plan does not
    define itself are not judged.
    """
    actions = dict(definitions_of(plan.actions))
    undoing = {step.compensating_action for step in plan.steps if step.compensating_action}
    doing = {step.action for step in plan.steps}
    used = doing | undoing | {step.confirming_action for step in plan.steps}
    found: list[str] = []
    for name, action in actions.items():
        if name in doing:
            found += _asked_and_believed(name, action)
        if name in undoing:
            found += _undone_by_an_output(plan, actions, name)
        found += _data_not_sent(plan, name, action)
        found += _not_filled_in(name, action)
        found += _readable_by_others(name, action)
        if name not in used:
            found.append(f"action {name!r} is defined, and no step uses it.")
    return [Risk(code="plan", message=message) for message in found]


def _asked_and_believed(name: str, action: ActionDefinition) -> Iterator[str]:
    if not isinstance(action, HttpDefinition) or action.probe is None:
        return
    if action.probe.missing == "not_done":
        yield (
            f'action {name!r}: missing = "not_done" of its probe promises that a call whose key '
            "the service does not know yet can never take effect any more. If such a call may "
            'still be on its way, it is done and nobody undoes it; leave missing at "unknown" '
            "unless the service refuses the key from then on."
        )
    for key, reference in action.probe.referring():
        if reference.root == OUTPUT:
            yield (
                f"action {name!r}: probe.{key} refers to {reference.shown}, and a probe is asked "
                "while no output is known. Find the call by {forward_key} or by the step's data."
            )


def _undone_by_an_output(
    plan: Plan, actions: dict[str, ActionDefinition], name: str
) -> Iterator[str]:
    reference = next((r for _, r in actions[name].references() if r.root == OUTPUT), None)
    if reference is None:
        return
    for action_name in dict.fromkeys(
        step.action for step in plan.steps if step.compensating_action == name
    ):
        action = actions.get(action_name)
        if action is not None and action.probe is None:
            yield (
                f"action {name!r} refers to {reference.shown}: while nobody knows whether "
                f"{action_name!r} happened there is no output, and it cannot be undone. Give "
                f"{action_name!r} a probe, or find what is to be undone by {{forward_key}}."
            )


def _data_not_sent(plan: Plan, name: str, action: ActionDefinition) -> Iterator[str]:
    if not isinstance(action, HttpDefinition) or action.method not in WITHOUT_BODY:
        return
    if any(action.references()):
        return  # Why: its author has chosen what is sent.
    for step in plan.steps:
        if name in (step.action, step.compensating_action, step.confirming_action) and step.data:
            yield (
                f"step {step.step_id!r}: {action.method} of action {name!r} has no body, so the "
                "step's data is not sent. Refer to what the service needs in the url, as in "
                "{data.id}."
            )


def _not_filled_in(name: str, action: ActionDefinition) -> Iterator[str]:
    if not isinstance(action, CommandDefinition):
        return
    for place, table in action.tables():
        for argument in table.argv:
            if found := _LIKE_A_REFERENCE.search(argument):
                yield (
                    f"action {name!r}: {place}argv holds {found[0]!r:.80}, which the program gets "
                    "as it is written. Step data stands on its standard input only."
                )


def _readable_by_others(name: str, action: ActionDefinition) -> Iterator[str]:
    for target in dict.fromkeys(action.targets().values()):
        if not target.is_encrypted and not _LOOPBACK.fullmatch(target.host):
            yield f"action {name!r} sends data and headers to {target.host} unencrypted (http://)."
            break
    literals: dict[str, str] = {}
    for settings in _settings(action):
        literals |= {key: text for key, text in settings.items() if isinstance(text, str)}
    for key in literals:
        if SECRET_NAME.search(key):
            yield (
                f"action {name!r}: the value of {key} stands in the plan and in the journal. "
                'Use { env = "NAME" } to read it when it is needed.'
            )


def _settings(action: ActionDefinition) -> Iterator[dict[str, Setting]]:
    """Yield the headers and the variables that an action and its questions set."""
    if isinstance(action, HttpDefinition):
        yield from (table.headers for _, table in action.tables())
    elif isinstance(action, CommandDefinition):
        yield from (table.env for _, table in action.tables())
