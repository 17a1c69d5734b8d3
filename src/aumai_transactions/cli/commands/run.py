"""`run`, `commit` and `rollback`: carrying transactions out.

Owns: how a plan becomes a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from aumai_transactions.cli.driving import drive, stored
from aumai_transactions.cli.exits import Code, needs_person
from aumai_transactions.cli.session import Session, session
from aumai_transactions.cli.settings import (
    Settings,
    app_option,
    json_option,
    named,
    quiet_option,
    store_option,
    transaction_argument,
)
from aumai_transactions.drivers.sync import TransactionManager
from aumai_transactions.errors import UnknownAction
from aumai_transactions.models import (
    OutputReference,
    Transaction,
    TransactionResult,
    TransactionState,
    TransactionStep,
)

if TYPE_CHECKING:
    from aumai_transactions.plans import Plan


@click.command("run")
@click.argument("plan", metavar="PLAN")
@store_option()
@app_option()
@json_option()
@quiet_option()
@click.pass_obj
def run_command(settings: Settings, plan: str) -> Code:
    """Carry out the transaction in a plan file (TOML or JSON)."""
    from aumai_transactions.cli.apps import App, load_app
    from aumai_transactions.plans import actions_for, check_environment, load_plan

    app = load_app(settings.app) if settings.app else App()
    loaded = load_plan(plan, known_actions=[action.name for action in app.actions])
    # Why before the store is opened: what cannot run must leave nothing behind.
    check_environment(loaded.actions)
    actions_for(loaded.actions)
    with session(settings, create=True, memory=True) as held:
        return run_plan(held, loaded)


def run_plan(held: Session, plan: Plan) -> Code:
    """Carry out a plan as a new transaction."""
    return drive(held, lambda manager: begun(manager, plan), TransactionManager.commit)


def begun(manager: TransactionManager, plan: Plan) -> Transaction:
    """Return a new transaction that is what a plan says."""
    transaction = manager.begin(
        plan.timeout_seconds,
        name=plan.name,
        timeout_scope=plan.timeout_scope,
        on_crash=plan.on_crash,
        on_compensation_failure=plan.on_compensation_failure,
    )
    transaction.actions = plan.actions
    transaction.steps = [
        TransactionStep(
            step_id=step.step_id,
            agent_id=step.agent_id,
            action=step.action,
            data=step.data,
            compensating_action=step.compensating_action,
            after=None if step.after is None else list(step.after),
            references=[
                OutputReference(into=list(item.into), step_id=item.step_id, at=item.at)
                for item in step.references
            ],
        )
        for step in plan.steps
    ]
    return transaction


@click.command("commit")
@transaction_argument()
@store_option()
@app_option()
@json_option()
@quiet_option()
@click.pass_obj
def commit_command(settings: Settings, words: tuple[str, ...], tx_id: str | None) -> Code:
    """Carry out a pending transaction; undo what was done if a step fails."""
    (name,) = named(words, tx_id)
    with session(settings) as held:
        found = held.find_id(name)
        return drive(held, stored(found), TransactionManager.commit)


@click.command("rollback")
@transaction_argument()
@store_option()
@app_option()
@json_option()
@quiet_option()
@click.pass_obj
def rollback_command(settings: Settings, words: tuple[str, ...], tx_id: str | None) -> Code:
    """Undo a pending or active transaction in reverse order."""
    (name,) = named(words, tx_id)
    with session(settings) as held:
        found = held.find_id(name)

        def work(manager: TransactionManager, transaction: Transaction) -> TransactionResult:
            if transaction.state is TransactionState.pending:
                _refuse_unknown(
                    manager, transaction, (step.compensating_action for step in transaction.steps)
                )
            elif not transaction.state.is_final:
                held.say("asked it to go back; if a living process has it, that one undoes it …")
            return manager.rollback(transaction)

        return drive(held, stored(found), work, code_of_rollback)


def code_of_rollback(result: TransactionResult) -> Code:
    """Return the exit code of a command that wanted a rollback."""
    if needs_person(result) or (result.is_final and not result.clean):
        return Code.attention
    return Code.done if result.is_final else Code.unfinished


def _refuse_unknown(
    manager: TransactionManager, transaction: Transaction, names: Iterable[str | None]
) -> None:
    missing = manager.actions.missing(
        name for name in names if name is not None and name not in transaction.actions
    )
    if missing:
        raise UnknownAction(
            missing,
            transaction.transaction_id,
            "Name the manager that has it with --app module:attribute. Nothing was run.",
        )
