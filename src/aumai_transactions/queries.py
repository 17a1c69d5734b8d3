"""Which transactions are listed, and what a list shows.

Owns: the question (`Query`), what fits it, the answer (`Page`), and how a long search is made of
short ones.
Rules:
  1. What fits a query is said once, in `fits`. A store that asks a database finds the same, and the
     contract's checks compare the two.
  2. A search goes from piece to piece, and nothing is held in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import Event
from typing import NamedTuple

from aumai_transactions.core.labels import folded, labels_of
from aumai_transactions.core.outcome import Attention, Summary
from aumai_transactions.models import TransactionState

_PAUSE_SECONDS = 0.000_5
LOOKS_AT_ONCE = 10_000
"""How many lines a search looks at before it lets others in; a store need not wait for it."""


class Query(NamedTuple):
    """Say which transactions to list.

    Those that fit all of it are listed. What is behind `newest_first` is a *search*: no index
    leads to what fits, so lines are looked at one by one, in order. A search never holds a store
    up: it lets others in after every `LOOKS_AT_ONCE` lines. Whoever must not wait for it either
    says how many lines are enough (`looks_max`), and goes on from `Page.goes_on_after`.

    Args:
        states: Only these; empty means all.
        attention: True for only those that need a person; or for which of these reasons.
        prefix: Only ids that begin so.
        after: Continue behind this position (`Listed.position`, `Page.goes_on_after`).
        offset: Skip this many first.
        limit: How many at most.
        newest_first: By order of arrival, turned round.
        agents: Only those in which one of these takes part.
        actions: Only those with a step that does one of these.
        metadata: Only those whose metadata says all of this; key and value.
        tenant: Only those whose metadata says this under `tenant`.
        text: Only those with this in their id, their name, or the name of an agent or an action;
            letters without case, no character with a meaning of its own.
        created_from: Only those that were begun at this time or later, microseconds since 1970 UTC.
        created_before: Only those that were begun earlier.
        updated_before: Only those whose last entry is from earlier.
        looks_max: Of a search, how many lines to look at, at most; None for as many as it takes.
    """

    states: tuple[TransactionState, ...] = ()
    attention: bool | tuple[Attention, ...] = False
    prefix: str = ""
    after: int | None = None
    offset: int = 0
    limit: int = 100
    newest_first: bool = False
    agents: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    tenant: str | None = None
    text: str = ""
    created_from: int | None = None
    created_before: int | None = None
    updated_before: int | None = None
    looks_max: int | None = None

    @property
    def is_search(self) -> bool:
        """True where lines have to be looked at one by one."""
        return self[7:15] != _NO_SEARCH

    @property
    def reasons(self) -> tuple[Attention, ...]:
        """Why a person has to look at what is listed; empty where that does not matter."""
        return () if isinstance(self.attention, bool) else self.attention


_NO_SEARCH = Query()[7:15]


def fits(query: Query, summary: Summary) -> bool:
    """Tell whether a line is one of those that a query asks for, wherever it stands in the list."""
    attention = summary.attention
    if query.states and summary.state not in query.states:
        return False
    if query.attention and attention is None:
        return False
    if query.reasons and attention not in query.reasons:
        return False
    if not summary.transaction_id.startswith(query.prefix):
        return False
    return not query.is_search or _is_found(query, summary)


def _is_found(query: Query, summary: Summary) -> bool:
    created_at, metadata = summary.created_at, summary.metadata or {}
    return (
        (not query.agents or any(agent in summary.agents for agent in query.agents))
        and (not query.actions or any(action in summary.actions for action in query.actions))
        and all(metadata.get(key) == text for key, text in query.metadata)
        and (query.tenant is None or summary.tenant == query.tenant)
        and (query.created_from is None or created_at >= query.created_from)
        and (query.created_before is None or created_at < query.created_before)
        and (query.updated_before is None or summary.updated_at < query.updated_before)
        and (not query.text or folded(query.text) in _words(summary))
    )


def _words(summary: Summary) -> str:
    name, agents, actions = summary.name, summary.agents, summary.actions
    return labels_of(summary.transaction_id, name, agents, actions, None).words


class Listed(NamedTuple):
    """Hold one line of a list.

    Args:
        position: Its place in the order of arrival; for `Query.after`.
        summary: What the store keeps beside the journal.
        driver_id: Who holds it; None where nobody does.
    """

    position: int
    summary: Summary
    driver_id: str | None


class Page(list[Listed]):
    """Hold one page of a list, and where the next one begins.

    Args:
        lines: What is on it.
        goes_on_after: What to ask for with `Query.after` to go on; None where nothing is left that
            could fit.
    """

    def __init__(self, lines: Iterable[Listed] = (), goes_on_after: int | None = None) -> None:
        super().__init__(lines)
        self.goes_on_after = goes_on_after


class Tally(NamedTuple):
    """Say how many transactions there are.

    Args:
        states: How many of each state; those that there are none of are left out.
        attention: How many need a person, by the reason; the same.
    """

    states: dict[TransactionState, int]
    attention: dict[Attention, int]


def find_in_pieces(query: Query, look: Callable[[Query], Page]) -> Page:
    """Return one page of a search, looked for piece by piece.

    Args:
        query: The search.
        look: Returns what stands in the next `looks_max` lines, and where to go on.
    """
    skipped, left = max(query.offset, 0), query.looks_max
    wanted = skipped + max(query.limit, 0)
    found: list[Listed] = []
    if not wanted:
        return Page(found, query.after)
    query = query._replace(offset=0)
    while True:
        looks = LOOKS_AT_ONCE if left is None else max(min(LOOKS_AT_ONCE, left), 1)
        page = look(query._replace(limit=wanted - len(found), looks_max=looks))
        found += page
        left = None if left is None else left - looks
        is_over = len(found) >= wanted or (left is not None and left <= 0)
        if page.goes_on_after is None or is_over:
            return Page(found[skipped:], page.goes_on_after)
        query = query._replace(after=page.goes_on_after)
        _let_others_in()


def count_in_pieces(query: Query, look: Callable[[Query], tuple[int, int | None]]) -> int:
    """Return how many transactions a search fits, counted piece by piece.

    Args:
        query: The search.
        look: Returns how many of the next `looks_max` lines fit, and where to go on.
    """
    total, goes_on_after = look(query._replace(looks_max=LOOKS_AT_ONCE))
    while goes_on_after is not None:
        _let_others_in()
        more, goes_on_after = look(query._replace(looks_max=LOOKS_AT_ONCE, after=goes_on_after))
        total += more
    return total


def _let_others_in() -> None:
    # Why a pause: whoever lets go of a lock and takes it again is faster than one who waits for it.
    Event().wait(_PAUSE_SECONDS)


def page_of(lines: Iterable[Listed], query: Query) -> Page:
    """Return the page of a query that is no search: a full one may have another behind it."""
    page = Page(lines)
    if page and len(page) >= query.limit:
        page.goes_on_after = page[-1].position
    return page
