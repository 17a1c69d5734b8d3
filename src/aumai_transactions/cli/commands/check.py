"""`check`: what would stand in the way of a commit, without running anything.

Owns: what is told about a plan file, and about a transaction of the store. What is a risk is
decided elsewhere: `core/risks.py` for every transaction, `plans/risks.py` for plan files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aumai_transactions.cli.commands.run import begun
from aumai_transactions.cli.exits import Code, tell_error
from aumai_transactions.cli.session import session
from aumai_transactions.cli.settings import (
    Settings,
    app_option,
    json_option,
    named,
    store_option,
)
from aumai_transactions.cli.tables import table
from aumai_transactions.core.definition import StepDefinition
from aumai_transactions.drivers.sync import TransactionManager
from aumai_transactions.errors import DefinitionError, UnknownAction
from aumai_transactions.models import Risk, Transaction, TransactionState
from aumai_transactions.timelines.sayings import declared_text
from aumai_transactions.wording.characters import shown, shown_lines
from aumai_transactions.wording.words import Cell, actions_of

_SUFFIXES = (".toml", ".json", ".yaml", ".yml")


# The kinds of which the rules of plan files say themselves that nobody can be asked.
_ASKED_KINDS = ("http", "command")


@click.command("check")
@click.argument("target", metavar="PLAN|TX", required=False)
@click.option("--tx-id", metavar="ID", help="The transaction, instead of TX.")
@click.option("--strict", is_flag=True, help="End with 1 where there is any risk.")
@store_option()
@app_option()
@json_option()
@click.pass_obj
def check_command(settings: Settings, target: str | None, tx_id: str | None, strict: bool) -> Code:
    r"""Check a plan file, or a transaction of the store; nothing is run.

    \b
    aumai-transactions check trip.toml --strict
    aumai-transactions check 0d1c90a8 --app trip:manager
    """
    (name,) = named([target] if target is not None else [], tx_id)
    is_file = tx_id is None and (name.lower().endswith(_SUFFIXES) or Path(name).is_file())
    try:
        facts = _check_plan(settings, name) if is_file else _check_transaction(settings, name)
    except DefinitionError as error:
        if settings.as_json:
            told = {"ok": False, "error": str(error), "warnings": [], "risks": []}
            settings.out.say_json(told)
        return tell_error(settings.err, error)
    _tell(settings, facts)
    return Code.error if strict and facts["warnings"] else Code.done


def _check_plan(settings: Settings, file: str) -> dict[str, Any]:
    from aumai_transactions.cli.apps import App, load_app
    from aumai_transactions.plans import actions_for, check_environment, load_plan, risks

    app = load_app(settings.app) if settings.app else App()
    plan = load_plan(file, known_actions=[action.name for action in app.actions])
    actions_for(plan.actions)
    check_environment(plan.actions)
    with TransactionManager(actions=app.actions, action_source=actions_for) as manager:
        transaction = begun(manager, plan)
        found = [*manager.check(transaction), *risks(plan)]
        return _facts(transaction, found, [_as_json(step) for step in plan.steps])


def _check_transaction(settings: Settings, name: str) -> dict[str, Any]:
    from aumai_transactions.plans import actions_for

    with session(settings) as held:
        manager = held.manager()
        transaction = manager.get_transaction(held.find_id(name))
        known = {
            action.name
            for action in (*manager.actions.everything(), *actions_for(transaction.actions))
        }
        found = manager.check(transaction)
    names = dict.fromkeys(actions_of(transaction))
    missing = [name for name in names if name not in known]
    if missing:
        raise UnknownAction(
            missing,
            transaction.transaction_id,
            "Name the manager that has it with --app module:attribute.",
        )
    declared = [step.model_dump(mode="json") for step in transaction.steps]
    facts = _facts(transaction, found, declared)
    if transaction.state is not TransactionState.pending:
        said = f"it is {transaction.state.value}, so it cannot be committed any more."
        facts["warnings"].insert(0, said)
    return facts


def _as_json(step: StepDefinition) -> dict[str, Any]:
    references = [reference._asdict() for reference in step.references]
    return step._asdict() | {"references": references}


def _facts(
    transaction: Transaction, risks: list[Risk], declared: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return what is told about a transaction.

    Args:
        transaction: The transaction.
        risks: Its risks.
        declared: Its steps as JSON, as complete as is known here.
    """
    return {
        "ok": True,
        "name": transaction.name,
        "timeout_seconds": transaction.timeout_seconds,
        "steps": [
            {
                "step_id": step["step_id"],
                "agent_id": step["agent_id"],
                "action": step["action"],
                "compensating_action": step["compensating_action"],
                "confirming_action": step["confirming_action"],
                "after": step["after"],
                "pivot": step["pivot"],
                "on_commit": step["on_commit"],
                "requires_approval": bool(step["requires_approval"]),
                "declared": declared_text(step),
            }
            for step in declared
        ],
        "warnings": [risk.message for risk in risks],
        "risks": [risk.model_dump(mode="json") for risk in risks],
    }


def _tell(settings: Settings, facts: dict[str, Any]) -> None:
    if settings.as_json:
        settings.out.say_json(facts)
        return
    out = settings.out
    rows = [
        (
            Cell(shown(step["step_id"]), "bold"),
            Cell(shown(step["agent_id"])),
            Cell(shown(step["action"])),
            Cell(shown(step["compensating_action"] or "-")),
            Cell(shown(step["declared"])),
        )
        for step in facts["steps"]
    ]
    count = f"{len(rows)} step{'' if len(rows) == 1 else 's'}"
    name = f"{shown(facts['name'])}: " if facts["name"] else ""
    out.say(f"{name}{out.styled('nothing stands in the way', 'good')}, {count}")
    if rows:
        out.say("", *table(out, ("STEP", "AGENT", "ACTION", "UNDO", "DECLARED"), rows, "  "))
    if facts["warnings"]:
        out.say("", out.styled("  worth knowing", "warn"))
        out.say(*(f"    - {shown_lines(warning)}" for warning in facts["warnings"]))
