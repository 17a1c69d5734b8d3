"""What every command can be told: which store, which app, how to answer.

Owns: the options that several commands share. Each may stand before or after the subcommand;
the later one counts.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from aumai_transactions.cli.exits import Code, Refused
from aumai_transactions.cli.screen import Screen, standard_streams
from aumai_transactions.drivers.asking import WAIT_SECONDS_MAX
from aumai_transactions.drivers.options import BeginOptions
from aumai_transactions.errors import StoreError
from aumai_transactions.models import CRASHES_MAX, SECONDS_MAX
from aumai_transactions.stores import STORE_VARIABLE, default_path, shown_url

PROGRAM = "aumai-transactions"

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Settings:
    """Hold what a command was told.

    Args:
        out: Standard output: results.
        err: Standard error: everything else.
        store: The store's name, if one was named.
        names_store: True where it was named on the command line.
        app: `module:attribute`, if one was named.
        as_json: True for JSON.
        is_quiet: True for no progress.
    """

    out: Screen = field(default_factory=lambda: standard_streams()[0])
    err: Screen = field(default_factory=lambda: standard_streams()[1])
    store: str | None = None
    names_store: bool = False
    app: str | None = None
    as_json: bool = False
    is_quiet: bool = False

    def command(self, *words: str, app: bool = False) -> str:
        """Return a command line that continues with the same store, to be copied.

        A password in the store's name is shown as •••.

        Args:
            *words: The subcommand and its arguments.
            app: True where it needs the handlers too.
        """
        line = [PROGRAM, *(shlex.quote(word) for word in words)]
        if self.names_store and self.store is not None:
            line += ["--store", shlex.quote(shown_url(self.store))]
        if app:
            line += ["--app", shlex.quote(self.app) if self.app else "module:attribute"]
        return " ".join(line)


def default_store() -> Path:
    """Return where the store is when nobody names one."""
    try:
        return default_path()
    except StoreError:
        raise Refused(
            f"there is no home folder here for a store. Name one with --store or {STORE_VARIABLE}.",
            Code.usage,
        ) from None


def _remember_store(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is None:
        return
    settings = context.ensure_object(Settings)
    settings.store = value
    source = context.get_parameter_source(parameter.name or "")
    settings.names_store = source is ParameterSource.COMMANDLINE


def _remember_app(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Settings).app = value


def _remember_json(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Settings).as_json = True


def _remember_quiet(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Settings).is_quiet = True


def store_option(*, envvar: str | None = None) -> Callable[[F], F]:
    """Add `--store`."""
    return click.option(
        "--store",
        metavar="URL|PATH",
        envvar=envvar,
        expose_value=False,
        callback=_remember_store,
        help=f"The store; default ${STORE_VARIABLE}, else ~/.aumai/transactions/transactions.db.",
    )


def json_option() -> Callable[[F], F]:
    """Add `--json`."""
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        expose_value=False,
        callback=_remember_json,
        help="Print JSON.",
    )


def app_option() -> Callable[[F], F]:
    """Add `--app`."""
    return click.option(
        "--app",
        metavar="MODULE:ATTRIBUTE",
        expose_value=False,
        callback=_remember_app,
        help="Handlers in Python: a TransactionManager, or a mapping of names to functions.",
    )


def quiet_option() -> Callable[[F], F]:
    """Add `--quiet`."""
    return click.option(
        "--quiet",
        "-q",
        "is_quiet",
        is_flag=True,
        expose_value=False,
        callback=_remember_quiet,
        help="Show no progress.",
    )


def wait_option() -> Callable[[F], F]:
    """Add `--wait-max`."""
    return click.option(
        "--wait-max",
        "wait_max",
        type=click.FloatRange(min=0, max=SECONDS_MAX),
        default=WAIT_SECONDS_MAX,
        show_default=f"{WAIT_SECONDS_MAX:g}",
        metavar="SECONDS",
        help="How long to wait for a next attempt, or for an approval; then end with 5.",
    )


def key_option() -> Callable[[F], F]:
    """Add `--idempotency-key`."""
    return click.option(
        "--idempotency-key",
        "key",
        metavar="KEY",
        callback=_checked_key,
        help="Do it once: the same command with the same key again does not do it twice.",
    )


def begin_options() -> Callable[[F], F]:
    """Add `--metadata` and `--crashes-max`, which `begun_options` makes sense of."""

    def add(function: F) -> F:
        by_metadata = click.option(
            "--metadata",
            multiple=True,
            metavar="NAME=TEXT",
            callback=parsed_metadata,
            help="A note about it; may be given several times. Workers take turns between those "
            "whose tenant=… differs.",
        )
        by_crashes = click.option(
            "--crashes-max",
            type=click.IntRange(min=1, max=1_000_000),
            metavar="N",
            help="How many processes in a row may die in a call of it before a person has to look; "
            f"default {CRASHES_MAX}.",
        )
        return by_metadata(by_crashes(function))

    return add


def parsed_metadata(
    _context: click.Context, _: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """Return what NAME=TEXT says, given any number of times."""
    found: dict[str, str] = {}
    for value in values:
        name, is_there, text = value.partition("=")
        if not is_there or not name.strip():
            raise click.UsageError(f"--metadata {value!r}: write it as NAME=TEXT.")
        if name in found:
            raise click.UsageError(f"--metadata {name!r} is given twice.")
        found[name] = text
    return found


def begun_options(metadata: Mapping[str, str], crashes_max: int | None) -> BeginOptions:
    """Return what was said of a transaction as options of `begin`."""
    found = BeginOptions()
    if metadata:
        found["metadata"] = dict(metadata)
    if crashes_max is not None:
        found["crashes_max"] = crashes_max
    return found


def _checked_key(_context: click.Context, _: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.strip():
        message = "--idempotency-key is empty."
        raise click.UsageError(message)
    return value


def exit_status_option() -> Callable[[F], F]:
    """Add `--exit-status`."""
    return click.option(
        "--exit-status",
        is_flag=True,
        help="Let the exit code say how it stands: 0, 3, 4 or 5, as for commit.",
    )


def transaction_argument(*more: str) -> Callable[[F], F]:
    """Add `TX`, which may be given as `--tx-id` as well, and positions behind it.

    The command gets `words` and `tx_id`; `named` makes sense of them.
    """

    def add(function: F) -> F:
        metavar = " ".join(["TX", *more])
        by_option = click.option(
            "--tx-id", metavar="ID", help="The transaction, instead of TX: an id or its beginning."
        )
        by_position = click.argument("words", metavar=metavar, nargs=-1, required=False)
        return by_option(by_position(function))

    return add


def named(words: Sequence[str], tx_id: str | None, *more: str) -> tuple[str, ...]:
    """Return the transaction's name and the words behind it; refuse any other number of them."""
    given = [*([tx_id] if tx_id is not None else []), *words]
    wanted = ["TX", *more]
    if len(given) < len(wanted):
        missing = wanted[len(given)]
        what = {
            "TX": "name a transaction by its id, or by the beginning of its id",
            "STEP": "name a step of the transaction",
        }
        raise click.UsageError(f"{missing} is missing: {what[missing]}.")
    if len(given) > len(wanted):
        extra = " ".join(repr(word) for word in given[len(wanted) :])
        raise click.UsageError(f"unexpected: {extra}. This command takes {' '.join(wanted)}.")
    for word, name in zip(given, wanted, strict=True):
        if not word.strip():
            raise click.UsageError(f"{name} is empty.")
    return tuple(given)


def is_default_store(path: os.PathLike[str]) -> bool:
    """Tell whether a store is the one that is used when nobody names one."""
    try:
        default = default_store()
    except Refused:
        return False
    return os.path.realpath(path) == os.path.realpath(default)
