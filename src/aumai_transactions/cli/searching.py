"""What transactions are searched by on the command line.

Owns: the options of a search, and the query that they make.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypedDict, TypeVar

import click

from aumai_transactions.cli.ages import Age
from aumai_transactions.cli.settings import parsed_metadata
from aumai_transactions.clock import SystemClock
from aumai_transactions.drivers.options import checked_query
from aumai_transactions.errors import DefinitionError
from aumai_transactions.store import Query

F = TypeVar("F", bound=Callable[..., object])


class Searched(TypedDict):
    """What `search_options` gives to a command."""

    agents: tuple[str, ...]
    actions: tuple[str, ...]
    metadata: Mapping[str, str]
    text: str
    older_than: int | None
    newer_than: int | None


def search_options(function: F) -> F:
    """Add the options of a search; `searched` makes a query of them."""
    options = (
        click.option(
            "--agent",
            "agents",
            multiple=True,
            metavar="NAME",
            help="Only those in which this agent takes part; of several, any.",
        ),
        click.option(
            "--action",
            "actions",
            multiple=True,
            metavar="NAME",
            help="Only those with a step that does this; of several, any.",
        ),
        click.option(
            "--metadata",
            multiple=True,
            metavar="NAME=TEXT",
            callback=parsed_metadata,
            help="Only those with this note; of several, all.",
        ),
        click.option(
            "--search",
            "text",
            default="",
            metavar="TEXT",
            help="Only those with this in their id, name, agents or actions; case does not matter.",
        ),
        click.option(
            "--older-than",
            type=Age(),
            metavar="AGE",
            help="Only those begun so long ago: 30d, 12h.",
        ),
        click.option(
            "--newer-than", type=Age(), metavar="AGE", help="Only those begun since then: 30d, 12h."
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def searched(query: Query, asked: Searched) -> Query:
    """Return a query that asks for this as well.

    Raises:
        UsageError: It cannot be asked.
    """
    now = SystemClock().now()
    older, newer = asked["older_than"], asked["newer_than"]
    wanted = query._replace(
        agents=asked["agents"],
        actions=asked["actions"],
        metadata=tuple(asked["metadata"].items()),
        text=asked["text"],
        created_before=None if older is None else now - older * 1_000_000,
        created_from=None if newer is None else now - newer * 1_000_000,
    )
    try:
        return checked_query(wanted)
    except DefinitionError as error:
        raise click.UsageError(str(error)) from error
