"""`submit`: leaving a transaction to workers.

Owns: what is submitted, a plan file or what was put together before, and what is said about it.
Rules:
  1. Nothing of it is carried out here, also not while this command waits for the outcome.
"""

from __future__ import annotations

import click

from aumai_transactions.cli.commands.run import begun, under_key
from aumai_transactions.cli.commands.start import described
from aumai_transactions.cli.commands.watch import follow, timeout_option
from aumai_transactions.cli.driving import tell
from aumai_transactions.cli.exits import Code, code_of
from aumai_transactions.cli.session import Session, session
from aumai_transactions.cli.settings import (
    Settings,
    app_option,
    begin_options,
    begun_options,
    json_option,
    key_option,
    quiet_option,
    store_option,
)
from aumai_transactions.drivers.options import BeginOptions
from aumai_transactions.drivers.sync import TransactionManager
from aumai_transactions.models import Transaction


@click.command("submit")
@click.argument("plan", metavar="[PLAN]", required=False)
@click.option(
    "--tx-id", metavar="ID", help="A pending transaction instead of PLAN: an id or its beginning."
)
@begin_options()
@key_option()
@click.option("--wait", "waits", is_flag=True, help="Wait for the outcome, and end with its code.")
@timeout_option()
@store_option()
@app_option()
@json_option()
@quiet_option()
@click.pass_obj
def submit_command(
    settings: Settings,
    plan: str | None,
    tx_id: str | None,
    metadata: dict[str, str],
    crashes_max: int | None,
    key: str | None,
    waits: bool,
    timeout: float | None,
) -> Code:
    r"""Leave a plan file, or what was put together before, to workers; print its id at once.

    \b
    aumai-transactions submit trip.toml --metadata tenant=acme
    aumai-transactions submit --tx-id 0d1c90a8 --wait --timeout 60
    """
    if (plan is None) == (tx_id is None):
        raise click.UsageError("name a plan file, or a pending transaction with --tx-id.")
    if timeout is not None and not waits:
        raise click.UsageError("--timeout says how long to --wait.")
    options = begun_options(metadata, crashes_max)
    if plan is None and (options or key is not None):
        message = "--metadata, --crashes-max and --idempotency-key belong to its `create`."
        raise click.UsageError(message)
    if plan is not None:
        return _submit_plan(settings, plan, key, options, waits=waits, timeout=timeout)
    with session(settings) as held:
        manager = held.manager()
        transaction = manager.get_transaction(held.find_id(tx_id or ""))
        return _submit(held, manager, transaction, waits=waits, timeout=timeout)


def _submit_plan(
    settings: Settings,
    plan: str,
    key: str | None,
    options: BeginOptions,
    *,
    waits: bool,
    timeout: float | None,
) -> Code:
    from aumai_transactions.cli.apps import App, load_app
    from aumai_transactions.plans import load_plan

    app = load_app(settings.app) if settings.app else App()
    loaded = load_plan(plan, known_actions=[action.name for action in app.actions])
    with session(settings, create=True) as held:
        manager = held.manager()
        transaction = begun(manager, loaded, key, options)
        if key is not None:
            transaction = under_key(held, transaction, loaded)
        return _submit(held, manager, transaction, waits=waits, timeout=timeout)


def _submit(
    held: Session,
    manager: TransactionManager,
    transaction: Transaction,
    *,
    waits: bool,
    timeout: float | None,
) -> Code:
    settings, name = held.settings, transaction.transaction_id
    result = manager.submit(transaction)
    held.changed()
    if not settings.as_json:
        settings.out.say(name)
    elif not waits:
        settings.out.say_json(described(manager.get_transaction(name)))
    if not waits:
        return Code.done
    if settings.as_json:
        settings.err.say(f"transaction {name}")
    result = follow(held, manager, name, timeout=timeout, through_approvals=True)
    held.changed()
    tell(held, manager, result, None)
    return code_of(result)
