"""`run`, `commit`, `rollback` and `wait`: carrying transactions out.

Owns: how a plan becomes a transaction, and what it means to run one again under its key.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from aumai_transactions.cli.driving import Work, drive, stored
from aumai_transactions.cli.exits import Code, Refused, needs_person
from aumai_transactions.cli.session import MEMORY_NAMES, Session, session
from aumai_transactions.cli.settings import (
    Settings,
    app_option,
    begin_options,
    begun_options,
    json_option,
    key_option,
    named,
    quiet_option,
    store_option,
    transaction_argument,
    wait_option,
)
from aumai_transactions.clock import SystemClock
from aumai_transactions.core.values import canonical_json
from aumai_transactions.drivers.options import BeginOptions
from aumai_transactions.drivers.sync import TransactionManager
from aumai_transactions.errors import IdempotencyKeyReused, UnknownAction
from aumai_transactions.models import (
    SECONDS_MAX,
    OutputReference,
    Transaction,
    TransactionResult,
    TransactionState,
    TransactionStep,
)
from aumai_transactions.wording.words import until_text

if TYPE_CHECKING:
    from aumai_transactions.plans import Plan


@click.command("run")
@click.argument("plan", metavar="PLAN")
@begin_options()
@key_option()
@wait_option()
@store_option()
@app_option()
@json_option()
@quiet_option()
@click.pass_obj
def run_command(
    settings: Settings,
    plan: str,
    metadata: dict[str, str],
    crashes_max: int | None,
    key: str | None,
    wait_max: float,
) -> Code:
    r"""Carry out the transaction in a plan file (TOML or JSON).

    \b
    aumai-transactions run trip.toml
    aumai-transactions run trip.toml --idempotency-key order-4711 --wait-max 3600
    """
    from aumai_transactions.cli.apps import App, load_app
    from aumai_transactions.plans import actions_for, check_environment, load_plan

    if key is not None and settings.store in MEMORY_NAMES:
        raise Refused(
            "a store in memory forgets --idempotency-key with this command; name a file.",
            Code.usage,
        )
    app = load_app(settings.app) if settings.app else App()
    loaded = load_plan(plan, known_actions=[action.name for action in app.actions])
    # Why before the store is opened: what cannot run must leave nothing behind.
    check_environment(loaded.actions)
    actions_for(loaded.actions)
    options = begun_options(metadata, crashes_max)
    with session(settings, create=True, memory=True) as held:
        return run_plan(held, loaded, key, wait_max, options)


def run_plan(
    held: Session,
    plan: Plan,
    key: str | None,
    wait_max: float,
    options: BeginOptions | None = None,
) -> Code:
    """Carry out a plan, as a new transaction or as the one that has this key."""

    def start(manager: TransactionManager) -> Transaction:
        transaction = begun(manager, plan, key, options)
        return transaction if key is None else under_key(held, transaction, plan)

    return drive(held, start, _committing(wait_max), patience=wait_max)


def begun(
    manager: TransactionManager,
    plan: Plan,
    key: str | None = None,
    options: BeginOptions | None = None,
) -> Transaction:
    """Return a new transaction that is what a plan says; or the one that has its key, as it is."""
    said = options or BeginOptions()
    transaction = manager.begin(
        plan.timeout_seconds,
        name=plan.name,
        timeout_scope=plan.timeout_scope,
        on_crash=plan.on_crash,
        on_compensation_failure=plan.on_compensation_failure,
        parallel_compensation=plan.parallel_compensation,
        allow_irreversible_first=plan.allow_irreversible_first,
        on_undo_window=plan.on_undo_window,
        isolation=plan.isolation,
        lock_timeout_seconds=plan.lock_timeout_seconds,
        release_outstanding_locks=plan.release_outstanding_locks,
        metadata={**plan.metadata, **said.get("metadata", {})},
        crashes_max=said.get("crashes_max", plan.crashes_max),
        idempotency_key=key,
    )
    if key is None:
        transaction.actions = plan.actions
        transaction.steps = steps_of(plan)
    return transaction


def under_key(held: Session, found: Transaction, plan: Plan) -> Transaction:
    """Return the pending transaction that a plan is, with the id that its key has.

    Why pending, whatever was found: a commit compares it whole with what is recorded. What is
    the same is waited for, or its outcome is returned; what is not is refused.

    Raises:
        IdempotencyKeyReused: Something else was put together under that key.
    """
    steps = steps_of(plan)
    is_pending = found.state is TransactionState.pending
    if is_pending and found.steps and _told(found.steps) != _told(steps):
        raise IdempotencyKeyReused(
            found.idempotency_key or "",
            found.transaction_id,
            "other steps were put together in it, and nothing has run",
        )
    if not is_pending:
        state = found.state.value
        held.say(f"the key belongs to transaction {found.transaction_id}, which is {state}")
    return Transaction(
        transaction_id=found.transaction_id,
        steps=steps,
        timeout_seconds=found.timeout_seconds,
        timeout_scope=found.timeout_scope,
        on_crash=found.on_crash,
        on_compensation_failure=found.on_compensation_failure,
        parallel_compensation=found.parallel_compensation,
        allow_irreversible_first=found.allow_irreversible_first,
        on_undo_window=found.on_undo_window,
        isolation=found.isolation,
        lock_timeout_seconds=found.lock_timeout_seconds,
        release_outstanding_locks=found.release_outstanding_locks,
        name=found.name,
        metadata=found.metadata,
        crashes_max=found.crashes_max,
        idempotency_key=found.idempotency_key,
        actions=plan.actions,
    )


def _told(steps: list[TransactionStep]) -> bytes:
    # Why as JSON: to Python, 1 == True == 1.0.
    return canonical_json([step.model_dump(mode="json", exclude={"state"}) for step in steps])


def steps_of(plan: Plan) -> list[TransactionStep]:
    """Return a plan's steps as a transaction has them."""
    found = []
    for step in plan.steps:
        options = plan.options_of(step.step_id)
        found.append(
            TransactionStep(
                step_id=step.step_id,
                agent_id=step.agent_id,
                action=step.action,
                data=step.data,
                compensating_action=step.compensating_action,
                after=None if step.after is None else list(step.after),
                references=[
                    OutputReference(
                        into=list(item.into), step_id=item.step_id, at=item.at, type=item.type
                    )
                    for item in step.references
                ],
                retry=options.retry,
                timeout_seconds=options.timeout_seconds,
                pivot=step.pivot,
                on_commit=step.on_commit,
                confirming_action=options.confirming_action,
                requires_approval=options.requires_approval,
                approval_timeout_seconds=options.approval_timeout_seconds,
                undo_within_seconds=options.undo_within_seconds,
                resources=None if options.resources is None else list(options.resources),
            )
        )
    return found


def _committing(wait_max: float) -> Work:
    def work(manager: TransactionManager, transaction: Transaction) -> TransactionResult:
        return manager.commit(transaction, wait_max_seconds=wait_max)

    return work


@click.command("commit")
@transaction_argument()
@wait_option()
@store_option()
@app_option()
@json_option()
@quiet_option()
@click.pass_obj
def commit_command(
    settings: Settings, words: tuple[str, ...], tx_id: str | None, wait_max: float
) -> Code:
    """Carry out a pending transaction; undo what was done if a step fails."""
    (name,) = named(words, tx_id)
    with session(settings) as held:
        found = held.find_id(name)
        return drive(held, stored(found), _committing(wait_max), patience=wait_max)


@click.command("wait")
@transaction_argument()
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, max=SECONDS_MAX),
    metavar="SECONDS",
    help="How long at most; default as long as it takes.",
)
@store_option()
@app_option()
@json_option()
@quiet_option()
@click.pass_obj
def wait_command(
    settings: Settings, words: tuple[str, ...], tx_id: str | None, timeout: float | None
) -> Code:
    r"""Wait until it is finished or needs a person; go on with what is due.

    \b
    aumai-transactions wait 0d1c90a8 --timeout 3600
    """
    (name,) = named(words, tx_id)
    with session(settings) as held:
        found = held.find_id(name)

        def work(manager: TransactionManager, transaction: Transaction) -> TransactionResult:
            waiting = manager.get_result(found).waiting
            if transaction.state is TransactionState.pending and waiting is None:
                held.say(f"it is pending; begin it with: {settings.command('commit', found)}")
            if waiting is not None and waiting.until is not None:
                held.say(f"it {until_text(waiting.until, SystemClock().now())}")
            elif waiting is not None and waiting.reason == "running":
                is_taken = transaction.state is not TransactionState.pending
                taken = "somebody has it, or has died with it"
                held.say(f"waiting: {taken if is_taken else 'it is submitted, and goes on here'}")
            return manager.wait(found, timeout_seconds=timeout)

        return drive(held, stored(found), work, goes_back=False, patience=timeout)


@click.command("rollback")
@transaction_argument()
@wait_option()
@store_option()
@app_option()
@json_option()
@quiet_option()
@click.pass_obj
def rollback_command(
    settings: Settings, words: tuple[str, ...], tx_id: str | None, wait_max: float
) -> Code:
    """Undo a pending or active transaction in reverse order."""
    (name,) = named(words, tx_id)
    with session(settings) as held:
        found = held.find_id(name)

        def work(manager: TransactionManager, transaction: Transaction) -> TransactionResult:
            if transaction.state is TransactionState.pending:
                _refuse_unknown(
                    manager, transaction, (step.compensating_action for step in transaction.steps)
                )
            elif transaction.state in (TransactionState.active, TransactionState.compensating):
                held.say("asked it to go back; if a living process has it, that one undoes it …")
            return manager.rollback(transaction, wait_max_seconds=wait_max)

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
