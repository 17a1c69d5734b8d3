"""The list of transactions: what is asked for, and what is shown of each.

Owns: the query behind the address, its chips and its rows.
Rules:
  1. The address is the query: it can be kept, sent, and gone back to.
  2. No page looks at more than `LOOKS_MAX` lines of the store, however many there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from aumai_transactions.core.outcome import Attention, Summary
from aumai_transactions.core.times import instant
from aumai_transactions.errors import DefinitionError
from aumai_transactions.models import TransactionState
from aumai_transactions.store import Query
from aumai_transactions.web.pages.changes import stream
from aumai_transactions.web.pages.rendering import live_part, page, path_of
from aumai_transactions.web.problems import Problem
from aumai_transactions.web.routing import principal_of, service_of
from aumai_transactions.wording.words import ATTENTION, Cell, state_cell, waits_for_cell

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from starlette.requests import Request
    from starlette.responses import Response

    from aumai_transactions.store import Listed, Tally

PAGE = 50
LOOKS_MAX = 20_000
DAY = 86_400
AGES: dict[str, tuple[str, int, bool]] = {
    "1h": ("in the last hour", 3_600, True),
    "1d": ("in the last day", DAY, True),
    "7d": ("in the last week", 7 * DAY, True),
    "over-1h": ("more than an hour ago", 3_600, False),
    "over-1d": ("more than a day ago", DAY, False),
    "over-7d": ("more than a week ago", 7 * DAY, False),
}
FILTERS = ("state", "reason", "agent", "action", "q", "age", "meta")


class Chip(NamedTuple):
    """Hold a link to a part of the list.

    Args:
        text: What it says.
        href: Where it leads.
        number: How many there are; None where nobody counts them.
        tone: How it is painted.
        is_on: True where that part is what is shown.
    """

    text: str
    href: str
    number: int | None
    tone: str
    is_on: bool


class Row(NamedTuple):
    """Hold one line of the list, ready to be shown."""

    position: int
    summary: Summary
    path: str
    state: Cell
    waits_for: Cell
    due: datetime | None
    is_overdue: bool


async def show(request: Request) -> Response:
    """Show the list."""
    return page(request, "list.html", await values_of(request))


async def follow(request: Request) -> Response:
    """Show the list as it changes."""

    async def render() -> str:
        return live_part(request, "list.html", await values_of(request))

    return await stream(request, render)


async def values_of(request: Request) -> dict[str, Any]:
    """Return what the list shows."""
    asked = {name: request.query_params.get(name, "") for name in FILTERS}
    service, who = service_of(request), principal_of(request)
    query = query_of(asked, request.query_params.get("after", ""), service.clock.now())
    try:
        found = await service.transactions.find(who, query)
    except DefinitionError as error:
        raise Problem(400, "bad-request", str(error)) from error
    tally = await service.transactions.tally(who)
    goes_on = getattr(found, "goes_on_after", None)
    return {
        "asked": asked,
        "is_filtered": any(asked.values()),
        "ages": {key: text for key, (text, _, _) in AGES.items()},
        "chips": chips_of(asked, tally),
        "rows": await rows_of(request, found),
        "is_first": not request.query_params.get("after"),
        "first_href": _href(asked),
        "next_href": _href(asked, after=str(goes_on)) if goes_on is not None else "",
        "looked_at_part": goes_on is not None and len(found) < PAGE,
        "live": _live(asked, request.query_params.get("after", "")),
        "looks_max": LOOKS_MAX,
    }


def query_of(asked: dict[str, str], after: str, now: int) -> Query:
    """Return the query that an address asks for.

    Raises:
        Problem: It makes no sense.
    """
    states = tuple(TransactionState(text) for text in asked["state"].split() if text in _STATES)
    reason = asked["reason"]
    attention: bool | tuple[Attention, ...] = reason == "any"
    found: list[Attention] = [name for name in ATTENTION if name == reason]
    if found:
        attention = tuple(found)
    if after and not after.isdecimal():
        raise Problem(400, "bad-request", "The address of this page is damaged. Begin at /")
    _, seconds, is_since = AGES.get(asked["age"], ("", 0, True))
    limit = now - seconds * 1_000_000 if seconds else None
    return Query(
        states=states,
        attention=attention,
        after=int(after[:19]) if after else None,
        limit=PAGE,
        newest_first=True,
        agents=_several(asked["agent"]),
        actions=_several(asked["action"]),
        metadata=_pairs(asked["meta"]),
        text=asked["q"].strip(),
        looks_max=LOOKS_MAX,
        created_from=limit if is_since else None,
        created_before=None if is_since else limit,
    )


_STATES = {state.value for state in TransactionState}


def _several(text: str) -> tuple[str, ...]:
    return tuple(part for part in (piece.strip() for piece in text.split(",")) if part)


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    pairs = []
    for part in _several(text):
        key, separator, value = part.partition("=")
        if not separator:
            raise Problem(
                400, "bad-request", "Metadata is asked for like this: region=eu, tier=gold"
            )
        pairs.append((key.strip(), value.strip()))
    return tuple(pairs)


def chips_of(asked: dict[str, str], tally: Tally | None) -> list[Chip]:
    """Return a link for all, for what needs a person, and for each state."""
    rest = {**asked, "state": "", "reason": ""}
    states = {} if tally is None else tally.states
    attention = 0 if tally is None else sum(tally.attention.values())

    def count(number: int) -> int | None:
        return None if tally is None else number

    is_all = not asked["state"] and not asked["reason"]
    chips = [Chip("all", _href(rest), count(sum(states.values())), "plain", is_all)]
    href = _href({**rest, "reason": "any"})
    chips.append(Chip("needs a person", href, count(attention), "bad", bool(asked["reason"])))
    for state in TransactionState:
        is_on = state.value in asked["state"].split()
        href = _href({**rest, "state": state.value})
        number = count(states.get(state, 0))
        chips.append(Chip(state.value, href, number, state_cell(state).tone, is_on))
    return chips


async def rows_of(request: Request, found: Sequence[Listed]) -> list[Row]:
    """Return the lines of a list, ready to be shown."""
    under_way = any(one.summary.runnable and not one.summary.state.is_final for one in found)
    unattended = await service_of(request).transactions.unattended() if under_way else frozenset()
    rows, now = [], service_of(request).clock.now()
    for one in found:
        summary = one.summary
        is_under_way = summary.runnable and not summary.state.is_final
        alive = summary.transaction_id not in unattended if is_under_way else None
        rows.append(
            Row(
                one.position,
                summary,
                path_of(summary.transaction_id),
                state_cell(summary.state),
                waits_for_cell(summary, alive=alive),
                instant(summary.due_at) if summary.due_at and not summary.attention else None,
                (summary.due_at or now) < now,
            )
        )
    return rows


def _href(asked: dict[str, str], **more: str) -> str:
    said = {key: text for key, text in {**asked, **more}.items() if text}
    return f"/?{urlencode(said)}" if said else "/"


def _live(asked: dict[str, str], after: str) -> str:
    said = {key: text for key, text in {**asked, "after": after}.items() if text}
    return f"/live?{urlencode(said)}" if said else "/live"
