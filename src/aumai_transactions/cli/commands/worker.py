"""`worker`: finishing what others submit, as it comes.

Owns: how a worker is started and stopped at a terminal and by a supervisor, and what it says.
Rules:
  1. The first SIGTERM or Ctrl-C drains: nothing new is taken, and what is in hand is handed back
     once the call that runs has ended.
  2. The second one ends the process at once, as kill -9 would; other workers go on from there.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from types import FrameType

import click

from aumai_transactions.cli.exits import Code, Refused
from aumai_transactions.cli.logs import Log, LogFormat, log_options
from aumai_transactions.cli.session import Session, session
from aumai_transactions.cli.settings import (
    Settings,
    app_option,
    json_option,
    quiet_option,
    store_option,
)
from aumai_transactions.drivers.sync import TransactionManager
from aumai_transactions.drivers.worker import (
    CONCURRENCY,
    DRAIN_SECONDS,
    POLL_SECONDS,
    Worker,
    checked_agents,
)
from aumai_transactions.engine import Engine
from aumai_transactions.engines import engine_of
from aumai_transactions.models import SECONDS_MAX, Recovered
from aumai_transactions.store import Store
from aumai_transactions.telemetry.logs import wanted_log_event
from aumai_transactions.wording.characters import shown

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@click.command("worker")
@click.option(
    "--concurrency",
    type=click.IntRange(min=1, max=1_000),
    default=CONCURRENCY,
    show_default=True,
    metavar="N",
    help="How many transactions at the same time.",
)
@click.option(
    "--agents",
    metavar="NAME,NAME",
    help="Only make calls on behalf of these agents; hand back what is another one's.",
)
@click.option(
    "--poll",
    type=click.FloatRange(min=0.01, max=SECONDS_MAX),
    default=POLL_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How often to look for work while there is none.",
)
@click.option(
    "--drain",
    type=click.FloatRange(min=0.01, max=SECONDS_MAX),
    default=DRAIN_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait, when stopped, for the calls that run.",
)
@click.option(
    "--engine",
    metavar="NAME",
    help="Let this engine carry them out: dbos. Default: the one of the app's manager, if any.",
)
@click.option(
    "--engine-url",
    envvar="AUMAI_TRANSACTIONS_ENGINE_URL",
    metavar="URL",
    help="Where that engine keeps what it knows, such as postgresql://… or sqlite:///trips-dbos.db.",
)
@click.option("--until-idle", is_flag=True, help="End once nothing is left that it can do.")
@log_options()
@store_option()
@app_option()
@json_option()
@quiet_option()
@click.pass_obj
def worker_command(
    settings: Settings,
    concurrency: int,
    agents: str | None,
    poll: float,
    drain: float,
    engine: str | None,
    engine_url: str | None,
    until_idle: bool,
    log_format: LogFormat,
    log_level: str | None,
) -> Code:
    r"""Carry out what is submitted, parked or left behind, until it is stopped.

    \b
    aumai-transactions worker --app trip:manager --concurrency 16
    aumai-transactions worker --app trip:manager --agents flight_agent,hotel_agent
    aumai-transactions worker --app trip:manager --engine dbos --engine-url sqlite:///dbos.db
    """
    served = None if agents is None else [name.strip() for name in agents.split(",")]
    checked_agents(served)
    with Log(settings, log_format, log_level, "worker") as log, session(settings) as held:
        chosen = _engine(held, engine, engine_url)
        manager = held.manager(wanted_log_event(), engine=chosen)
        worker = Worker(
            manager,
            concurrency=concurrency,
            agents=served,
            poll_seconds=poll,
            drain_seconds=drain,
            on_report=lambda report: _tell(settings, log, report),
        )
        # Why the redirection: what a handler prints must not stand between the reports.
        with (
            _sending(log, held.store),
            _stopped_by_signals(log, worker, drain),
            redirect_stdout(sys.stderr),
        ):
            # Order matters: who has read that it is there may stop it in order from then on.
            if not settings.is_quiet:
                _introduce(held, log, manager, worker, served, concurrency)
            left = worker.run(until_idle=until_idle)
        held.changed()
        if left:
            _end_at_once(log, left)
        log.say("stopped; everything is handed back")
    return Code.done


def _engine(held: Session, name: str | None, url: str | None) -> Engine | None:
    """Return the engine that is meant; None where the worker carries everything out itself.

    Raises:
        Refused: It is not said where it is.
    """
    own = held.app.engine
    if url is None and own is not None and name in (None, own.name):
        return own
    if name is None:
        return None
    if url is None:
        raise Refused(
            f"--engine {name}: say where it keeps what it knows with --engine-url, such as "
            "sqlite:///trips-dbos.db, or give the app's manager an engine.",
            Code.usage,
        )
    return engine_of(name, url)


@contextmanager
def _sending(log: Log, store: Store) -> Iterator[None]:
    """Send what the store's webhooks are to be told, in a thread, while the block lasts."""
    from aumai_transactions.outbox import Outbox

    if not isinstance(store, Outbox):
        yield
        return
    from aumai_transactions.webhooks.sender import Sent, WebhookSender

    def tell(sent: Sent) -> None:
        one, error = sent.delivery, f": {shown(sent.error)}" if sent.error else ""
        told = {"transaction_id": one.transaction_id, "webhook": one.webhook, "event": one.event}
        log.say(f"{one.transaction_id}  {one.event} to {one.webhook}: {sent.became}{error}", **told)

    with WebhookSender(store, on_report=tell):
        yield


def _introduce(
    held: Session,
    log: Log,
    manager: TransactionManager,
    worker: Worker,
    served: list[str] | None,
    concurrency: int,
) -> None:
    """Say what is served here, and what is waited for in vain."""
    names = sorted(action.name for action in manager.actions.everything())
    actions = ", ".join(shown(name) for name in names) or "none of an app"
    whom = "all agents" if served is None else ", ".join(shown(name) for name in served)
    log.say(f"worker on {shown(held.place)}: {whom}, {concurrency} at a time")
    log.say(f"actions: {actions}; and those that plan files define")
    if manager.engine is not None:
        log.say(f"engine: {shown(manager.engine.name)} carries them out")
    for name, count in worker.lacks().items():
        what = f"{count} transaction{'' if count == 1 else 's'}"
        log.say(f"no handler for {shown(name)}, which {what} may need: left to others", action=name)


def _tell(settings: Settings, log: Log, report: Recovered) -> None:
    if settings.as_json:
        settings.out.say(json.dumps(report.model_dump(mode="json")))
    detail = f": {shown(report.detail)}" if report.detail else ""
    told = {"transaction_id": report.transaction_id, "outcome": report.outcome}
    log.say(f"{report.transaction_id}  {report.outcome}{detail}", **told)


@contextmanager
def _stopped_by_signals(log: Log, worker: Worker, drain: float) -> Iterator[None]:
    """Let the first signal drain, and the second one end the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen: list[int] = []

    def arrived(number: int, _frame: FrameType | None) -> None:
        if seen:
            log.say_at_once("stopped at once; other workers, or `recover`, go on from here")
            os._exit(128 + number)
        seen.append(number)
        worker.stop()
        # Why at once: the interrupted code may be writing a line of its own.
        log.say_at_once(
            f"stopping: waiting for the calls that run, at most {drain:g} s; again: at once"
        )

    before = {number: signal.signal(number, arrived) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_at_once(log: Log, left: list[str]) -> None:
    """Say what is not handed back, and end.

    Why at once: the calls that run would be in the way of an orderly end. Their transactions are
    this process's until it is gone, and then anybody's.
    """
    names = ", ".join(shown(name) for name in left)
    log.insist(f"not handed back, for a call still runs: {names}")
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(Code.unfinished)
