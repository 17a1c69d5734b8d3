"""`webhooks`: who is told over HTTP of what happens.

Owns: how webhooks are added, listed and removed, and what was not delivered is seen to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from aumai_transactions.cli.exits import Code, Refused
from aumai_transactions.cli.session import Session, session
from aumai_transactions.cli.settings import Settings, json_option, quiet_option, store_option
from aumai_transactions.cli.tables import table
from aumai_transactions.clock import SystemClock
from aumai_transactions.core.happenings import EVENT_NAMES, USUAL_EVENTS, EventName
from aumai_transactions.core.times import instant
from aumai_transactions.credentials import checked_secret_name
from aumai_transactions.errors import DefinitionError
from aumai_transactions.outbox import Delivery, Outbox, Webhook
from aumai_transactions.participants.exchange import parsed_url
from aumai_transactions.webhooks.sender import Sent, WebhookSender
from aumai_transactions.wording.characters import shown
from aumai_transactions.wording.words import Cell, when

LIST_MAX = 1_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@click.group("webhooks")
def webhooks_command() -> None:
    r"""Tell others over HTTP of what happens to transactions.

    \b
    aumai-transactions webhooks add https://example.com/hook --secret env:HOOK_SECRET
    aumai-transactions webhooks deliveries --failed
    aumai-transactions webhooks send --until-idle
    """


@contextmanager
def _outbox(settings: Settings) -> Iterator[tuple[Session, Outbox]]:
    with session(settings) as held:
        store: Any = held.store
        if not isinstance(store, Outbox):
            raise Refused(f"{held.place} is a store without webhooks.", Code.error)
        yield held, store


def _events(_context: click.Context, _: click.Parameter, value: str) -> tuple[EventName, ...]:
    wanted = {name.strip() for name in value.split(",")}
    known = {*EVENT_NAMES, "all"}
    if not wanted <= known:
        unknown = min(wanted - known)
        raise click.UsageError(
            f"--events: there is no event {unknown!r}. Write all, or some of "
            f"{', '.join(EVENT_NAMES)}, with commas."
        )
    if "all" in wanted:
        wanted |= set(USUAL_EVENTS)
    return tuple(name for name in EVENT_NAMES if name in wanted)


@webhooks_command.command("add")
@click.argument("url")
@click.option(
    "--secret",
    required=True,
    metavar="env:NAME",
    help="Where the secret to sign with is found, which is never stored: env:NAME or file:/path.",
)
@click.option(
    "--events",
    default="all",
    show_default=True,
    callback=_events,
    metavar="NAME,NAME",
    help="finished, attention, approval, outstanding; all of these; entries is every entry.",
)
@click.option("--name", metavar="NAME", help="What it is called; default: its host.")
@click.option("--include-data", is_flag=True, help="Send what agents have sent and got, too.")
@click.option(
    "--allow-private", is_flag=True, help="It may be on this machine or in a private network."
)
@store_option()
@json_option()
@click.pass_obj
def add_command(
    settings: Settings,
    url: str,
    secret: str,
    events: tuple[EventName, ...],
    name: str | None,
    include_data: bool,
    allow_private: bool,
) -> Code:
    """Tell this URL of what happens from now on."""
    try:
        checked_secret_name(secret)
    except DefinitionError as error:
        # Why not what was given: it may be the secret itself.
        problem = "--secret names where the secret is found: env:NAME, or file:/absolute/path."
        raise click.UsageError(problem) from error
    try:
        target = parsed_url(url)
    except ValueError as error:
        raise click.UsageError(f"the URL {error}.") from error
    called = name or target.host.strip("[]").replace(":", ".")
    if not _NAME.fullmatch(called):
        raise click.UsageError("--name: letters, digits, dots, - and _, at most 64 of them.")
    now = SystemClock().now()
    webhook = Webhook(called, url, secret, events, include_data, allow_private, now)
    with _outbox(settings) as (_held, outbox):
        if not outbox.add_webhook(webhook):
            raise Refused(
                f"there is a webhook {called} already. Remove it first, or give --name.",
                Code.conflict,
            )
    if settings.as_json:
        settings.out.say_json(webhook_json(webhook))
    else:
        settings.out.say(called)
    return Code.done


@webhooks_command.command("list")
@store_option()
@json_option()
@click.pass_obj
def list_command(settings: Settings) -> Code:
    """List the webhooks."""
    with _outbox(settings) as (_held, outbox):
        found = outbox.webhooks()
    if settings.as_json:
        settings.out.say_json({"items": [webhook_json(one) for one in found]})
    elif found:
        rows = [
            (
                Cell(one.name),
                Cell(parsed_url(one.url).shown),
                Cell(", ".join(one.events)),
                Cell(one.secret),
                Cell(shown(one.stopped) if one.stopped else "", "bad"),
            )
            for one in found
        ]
        settings.out.say(*table(settings.out, ("NAME", "URL", "EVENTS", "SECRET", "STOPPED"), rows))
    else:
        settings.err.say("no webhooks")
    return Code.done


def webhook_json(webhook: Webhook) -> dict[str, Any]:
    """Return a webhook as JSON; its URL without the query, which may hold a secret."""
    return {
        "name": webhook.name,
        "url": parsed_url(webhook.url).shown,
        "secret": webhook.secret,
        "events": list(webhook.events),
        "include_data": webhook.include_data,
        "allow_private": webhook.allow_private,
        "created_at": instant(webhook.created_at).isoformat(),
        "stopped": webhook.stopped,
    }


@webhooks_command.command("remove")
@click.argument("name")
@store_option()
@click.pass_obj
def remove_command(settings: Settings, name: str) -> Code:
    """Tell a webhook nothing any more, and drop what it was not told."""
    with _outbox(settings) as (_held, outbox):
        if not outbox.remove_webhook(name):
            raise Refused(f"there is no webhook {shown(name)}.", Code.not_found)
    return Code.done


@webhooks_command.command("deliveries")
@click.option("--failed", is_flag=True, help="Only what was tried without success, or given up.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=LIST_MAX, show_default=True, metavar="N"
)
@store_option()
@json_option()
@click.pass_obj
def deliveries_command(settings: Settings, failed: bool, limit: int) -> Code:
    """List what is not delivered, the oldest first."""
    with _outbox(settings) as (_held, outbox):
        found = outbox.deliveries(only_failed=failed, limit=limit)
    if settings.as_json:
        settings.out.say_json({"items": [delivery_json(one) for one in found]})
    elif found:
        head = ("DELIVERY", "WEBHOOK", "EVENT", "TRANSACTION", "TRIED", "NEXT", "ERROR")
        settings.out.say(*table(settings.out, head, [_row(one) for one in found]))
    else:
        settings.err.say("everything is delivered" if not failed else "nothing has failed")
    return Code.done


def _row(one: Delivery) -> tuple[Cell, ...]:
    following = "given up" if one.is_dead else (when(instant(one.due_at)) if one.due_at else "now")
    return (
        Cell(one.delivery_id),
        Cell(one.webhook),
        Cell(one.event),
        Cell(one.transaction_id),
        Cell(str(one.attempts)),
        Cell(following, "bad" if one.is_dead else "dim"),
        Cell(shown(one.error or "")),
    )


def delivery_json(one: Delivery) -> dict[str, Any]:
    """Return a delivery as JSON."""
    return {
        "delivery_id": one.delivery_id,
        "webhook": one.webhook,
        "event": one.event,
        "transaction_id": one.transaction_id,
        "sequence": one.last,
        "attempts": one.attempts,
        "due_at": instant(one.due_at).isoformat() if one.due_at and not one.is_dead else None,
        "is_dead": one.is_dead,
        "error": one.error,
    }


@webhooks_command.command("retry")
@click.argument("delivery_id")
@store_option()
@click.pass_obj
def retry_command(settings: Settings, delivery_id: str) -> Code:
    """Try a delivery at once and from the beginning; a webhook that was stopped goes on."""
    with _outbox(settings) as (_held, outbox):
        if not outbox.retry_delivery(delivery_id, SystemClock().now()):
            raise Refused(
                f"there is no delivery {shown(delivery_id)} that is not delivered.", Code.not_found
            )
    return Code.done


@webhooks_command.command("send")
@click.option("--until-idle", is_flag=True, help="End once nothing is due.")
@store_option()
@json_option()
@quiet_option()
@click.pass_obj
def send_command(settings: Settings, until_idle: bool) -> Code:
    """Send what is due, as it comes, until it is interrupted.

    With --until-idle it ends with 1 where something of it was not delivered.
    """
    with _outbox(settings) as (held, _):
        sender = WebhookSender(held.store, on_report=lambda sent: tell_sent(settings, sent))
        if until_idle:
            sent = sender.send_due()
            return Code.error if any(one.became != "delivered" for one in sent) else Code.done
        sender.run()
    return Code.done


def tell_sent(settings: Settings, sent: Sent) -> None:
    """Say what became of one attempt."""
    one = sent.delivery
    if settings.is_quiet:
        return
    if settings.as_json:
        settings.out.say_json(
            {
                "delivery_id": one.delivery_id,
                "webhook": one.webhook,
                "event": one.event,
                "transaction_id": one.transaction_id,
                "became": sent.became,
                "error": sent.error,
            }
        )
        return
    error = f": {shown(sent.error)}" if sent.error else ""
    settings.err.say(f"{one.webhook}  {one.event}  {one.transaction_id}  {sent.became}{error}")
