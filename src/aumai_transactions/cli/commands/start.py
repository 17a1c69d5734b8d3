"""`create` and `add-step`: a transaction, piece by piece.

Owns: what these print, which for `create` is the seed's.
"""

from __future__ import annotations

import json
from typing import Any, Literal

import click
from pydantic import ValidationError

from aumai_transactions.cli.exits import Code
from aumai_transactions.cli.session import session
from aumai_transactions.cli.settings import (
    Settings,
    app_option,
    begin_options,
    begun_options,
    json_option,
    key_option,
    named,
    store_option,
    transaction_argument,
)
from aumai_transactions.core.nesting import is_nested_deeper
from aumai_transactions.core.values import checked_name
from aumai_transactions.drivers.options import StepOptions
from aumai_transactions.models import (
    DEFAULT_TIMEOUT_SECONDS,
    LOCK_TIMEOUT_SECONDS,
    Output,
    Resource,
    RetryPolicy,
    Transaction,
)
from aumai_transactions.plans import data_with_references
from aumai_transactions.plans.document import HUGE_NUMBER, holds_huge_number
from aumai_transactions.timelines.sayings import declared_text
from aumai_transactions.wording.characters import shown

WHOLE_MAX = 2**53


def seconds(value: float) -> int | float:
    """Return a number of seconds, whole where it is whole."""
    whole = float(value).is_integer() and abs(value) <= WHOLE_MAX
    return int(value) if whole else value


def described(transaction: Transaction) -> dict[str, Any]:
    """Return what `create` prints about a transaction."""
    return {
        "transaction_id": transaction.transaction_id,
        "state": transaction.state.value,
        "created_at": transaction.created_at.isoformat(),
        "timeout_seconds": seconds(transaction.timeout_seconds),
    }


@click.command("create")
@click.option(
    "--timeout",
    type=float,
    default=DEFAULT_TIMEOUT_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long from now a commit may still begin.",
)
@click.option(
    "--parallel-compensation",
    is_flag=True,
    help="Undo steps that do not depend on each other at the same time.",
)
@click.option(
    "--allow-irreversible-first",
    is_flag=True,
    help="Insist on what nothing can undo before what can be undone.",
)
@click.option(
    "--on-undo-window",
    type=click.Choice(["warn", "roll_back"]),
    default="warn",
    show_default=True,
    help="What happens shortly before a step can no longer be undone.",
)
@click.option(
    "--isolation",
    type=click.Choice(["exclusive", "validated", "none"]),
    default="exclusive",
    show_default=True,
    help="What happens to the resources that its steps name.",
)
@click.option(
    "--lock-timeout",
    type=float,
    default=LOCK_TIMEOUT_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long it waits for a resource.",
)
@click.option(
    "--release-outstanding-locks",
    is_flag=True,
    help="Let go of what a step used that could not be undone.",
)
@begin_options()
@key_option()
@store_option()
@json_option()
@click.pass_obj
def create_command(
    settings: Settings,
    timeout: float,
    parallel_compensation: bool,
    allow_irreversible_first: bool,
    on_undo_window: Literal["warn", "roll_back"],
    isolation: Literal["exclusive", "validated", "none"],
    lock_timeout: float,
    release_outstanding_locks: bool,
    metadata: dict[str, str],
    crashes_max: int | None,
    key: str | None,
) -> Code:
    """Create a pending transaction and print it as JSON."""
    with session(settings, create=True) as held:
        manager = held.manager()
        options = begun_options(metadata, crashes_max)
        options["parallel_compensation"] = parallel_compensation
        options["allow_irreversible_first"] = allow_irreversible_first
        options["on_undo_window"] = on_undo_window
        options["isolation"] = isolation
        options["lock_timeout_seconds"] = lock_timeout
        options["release_outstanding_locks"] = release_outstanding_locks
        options["idempotency_key"] = key
        transaction = manager.begin(seconds(timeout), **options)
        if key is None:
            manager.save(transaction)
        held.changed()
        settings.out.say_json(described(transaction))
    return Code.done


@click.command("add-step")
@transaction_argument()
@click.option("--agent", required=True, metavar="NAME", help="On whose behalf the step acts.")
@click.option("--action", required=True, metavar="NAME", help="What it does.")
@click.option("--name", "step_id", metavar="STEP", help="What to call it; default s1, s2, ….")
@click.option(
    "--data",
    default="{}",
    metavar="JSON",
    help='A JSON object; {"$output": "STEP", "at": "/…"} in it is filled in. Default {}.',
)
@click.option("--compensating-action", metavar="NAME", help="What undoes it.")
@click.option(
    "--after",
    multiple=True,
    metavar="STEP",
    help="Which step it waits for; may be given several times; '' for none. Default: all.",
)
@click.option("--timeout", type=float, metavar="SECONDS", help="How long a call of it may take.")
@click.option(
    "--attempts-max", type=int, metavar="N", help="How often it is called at most if not done."
)
@click.option("--pivot", is_flag=True, help="The point of no return: its success is the commit.")
@click.option("--on-commit", is_flag=True, help="Hold it until the commit is decided.")
@click.option(
    "--confirming-action", metavar="NAME", help="What makes it final after the commit point."
)
@click.option("--requires-approval", is_flag=True, help="Let it wait until a person allows it.")
@click.option(
    "--approval-timeout",
    type=float,
    metavar="SECONDS",
    help="How long that is waited for; then it counts as denied.",
)
@click.option(
    "--undo-within", type=float, metavar="SECONDS", help="How long it can be undone once done."
)
@click.option(
    "--resource",
    "resources",
    multiple=True,
    metavar="NAME",
    help="What it uses that others must not use meanwhile, as account:42; may be given often.",
)
@click.option(
    "--shared-resource",
    "shared_resources",
    multiple=True,
    metavar="NAME",
    help="What it only reads, as others may meanwhile; may be given often.",
)
@store_option()
@app_option()
@json_option()
@click.pass_obj
def add_step_command(
    settings: Settings,
    /,
    words: tuple[str, ...],
    tx_id: str | None,
    agent: str,
    action: str,
    step_id: str | None,
    data: str,
    compensating_action: str | None,
    **said: Any,
) -> Code:
    r"""Add a step to a pending transaction.

    \b
    aumai-transactions add-step 0d1c90a8 --agent flight_agent --action reserve \
        --name flight --compensating-action cancel --data '{"id": "F123"}'
    aumai-transactions add-step 0d1c90a8 --agent mail_agent --action mail --on-commit \
        --data '{"seat": {"$output": "flight", "at": "/seat"}}'
    """
    (name,) = named(words, tx_id)
    value, options = step_data(data), step_options(**said)
    with session(settings) as held:
        manager = held.manager()
        transaction = manager.get_transaction(held.find_id(name))
        step = manager.add_step(transaction, agent, action, value, compensating_action, **options)
        if step_id is not None:
            # Order matters: what it waits for was looked up under the names of the others.
            step.step_id = checked_name(step_id, "--name")
        manager.save(transaction)
        held.changed()
    if settings.as_json:
        found = {"transaction_id": transaction.transaction_id} | step.model_dump(mode="json")
        settings.out.say_json(found)
        return Code.done
    undo = f", undone by {shown(step.compensating_action)}" if step.compensating_action else ""
    declared = shown(declared_text(step.model_dump(mode="json")))
    settings.out.say(
        f"{transaction.transaction_id}: step {shown(step.step_id)}, "
        f"{shown(step.agent_id)} does {shown(step.action)}{undo}"
        + (f" ({declared})" if declared else "")
    )
    return Code.done


def step_options(
    *,
    after: tuple[str, ...],
    timeout: float | None,
    attempts_max: int | None,
    pivot: bool,
    on_commit: bool,
    confirming_action: str | None,
    requires_approval: bool,
    approval_timeout: float | None,
    undo_within: float | None,
    resources: tuple[str, ...],
    shared_resources: tuple[str, ...],
) -> StepOptions:
    """Return what `add_step` is told besides agent, action, data and undo.

    Raises:
        click.UsageError: It cannot be called so often.
    """
    options = StepOptions(
        pivot=pivot,
        on_commit=on_commit,
        confirming_action=confirming_action,
        timeout_seconds=timeout,
        approval_timeout_seconds=approval_timeout,
        undo_within_seconds=undo_within,
    )
    if after:
        options["after"] = [step_id for step_id in after if step_id]
    if requires_approval:
        options["requires_approval"] = True
    if resources or shared_resources:
        options["resources"] = [*resources, *map(Resource.shared, shared_resources)]
    if attempts_max is not None:
        try:
            options["retry"] = RetryPolicy(attempts_max=attempts_max)
        except ValidationError:
            message = f"--attempts-max must be a whole number from 1 to 10000, not {attempts_max}."
            raise click.UsageError(message) from None
    return options


def step_data(text: str) -> dict[str, Any]:
    """Return a step's data, with an `Output` wherever the text has a reference.

    Raises:
        click.UsageError: It is no JSON object; says what it is.
        PlanFileError: A reference in it cannot be; names the place.
    """
    value, references = data_with_references("--data", json_object(text), ("data",))
    for reference in references:
        place: Any = value
        for key in reference.into[:-1]:
            place = place[key]
        place[reference.into[-1]] = Output(reference.step_id, reference.at, reference.type)
    return value


def json_object(text: str) -> dict[str, Any]:
    """Return the JSON object that a text is.

    Raises:
        click.UsageError: It is something else; says what.
    """
    if is_nested_deeper(text):
        raise click.UsageError("--data is nested too deep.")
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        hint = " Quote it for the shell, as in --data '{\"amount\": 5}'."
        message = f"--data is not JSON: {error.msg} at column {error.colno}.{hint}"
        raise click.UsageError(message) from None
    except ValueError as error:
        why = f"it holds {HUGE_NUMBER}" if holds_huge_number(error) else f"{error}."
        raise click.UsageError(f"--data cannot be used: {why}") from None
    if not isinstance(value, dict):
        raise click.UsageError('--data must be a JSON object, as in {"amount": 5}.')
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [key for key, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        message = f"the key {twice!r} stands twice"
        raise ValueError(message)
    return found
