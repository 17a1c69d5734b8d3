"""Which transactions a store lists.

Owns: the choice of the statement that stays fast for a query, however much is stored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from aumai_transactions.core.labels import folded, term, told_by
from aumai_transactions.core.outcome import (
    ATTENTIONS,
    Attention,
    Summary,
    damaged_summary,
    is_sound,
)
from aumai_transactions.models import TransactionState
from aumai_transactions.queries import (
    Listed,
    Page,
    Query,
    Tally,
    count_in_pieces,
    find_in_pieces,
    page_of,
)
from aumai_transactions.stores.postgres.statements import directed, statement

if TYPE_CHECKING:
    from decimal import Decimal

    from aumai_transactions.stores.postgres.pool import Lent

# Up to so many matches, reading and sorting all ids with a prefix is faster than walking
# through every transaction in order of arrival.
NARROW_MAX = 2_000
_NUMBER_MAX = 2**63 - 1
_LAST_CHARACTER = "\U0010ffff"
# Behind every id: none is longer, and none holds a later character.
_BEHIND_ALL = _LAST_CHARACTER * 1_001
_MEANINGFUL = re.compile(r"[\\%_]")

_STATES = {state.value: state for state in TransactionState}
Result = TypeVar("Result")


class Read(Protocol):
    """Run a query, and return what it returns."""

    def __call__(self, work: Callable[[Lent], Result], /) -> Result:
        """Run it."""


def find(read: Read, query: Query) -> Page:
    """Return one page of transactions in order of arrival.

    Args:
        read: Runs a query on a connection of its own.
        query: Which.
    """
    if query.is_search:
        return find_in_pieces(query, lambda piece: read(partial(_look, query=piece)))
    return read(partial(_find, query=query))


def count(read: Read, query: Query) -> int:
    """Return how many transactions the query fits."""
    if query.is_search:
        return count_in_pieces(query, lambda piece: read(partial(_look_and_count, query=piece)))
    return read(partial(_count, query=query))


def tally(lent: Lent) -> Tally:
    """Return how many transactions there are of each state, and how many need a person."""
    # Why what no release writes counts so: that is how such a line is listed.
    states: dict[TransactionState, int] = {}
    for state, number in lent.read(statement("tally")).fetchall():
        known = _STATES.get(state, TransactionState.active)
        states[known] = states.get(known, 0) + number
    reasons: dict[Attention, int] = {}
    for reason, number in lent.read(statement("tally_of_reasons")).fetchall():
        why: Attention = reason if reason in ATTENTIONS else "damaged"
        reasons[why] = reasons.get(why, 0) + number
    return Tally(states, reasons)


def _find(lent: Lent, query: Query) -> Page:
    values = _values(query)
    name = f"find_{_kind(lent, query, values)}"
    rows = lent.read(directed(name, downwards=query.newest_first), values).fetchall()
    return page_of([_listed(row) for row in rows], query)


def _kind(lent: Lent, query: Query, values: dict[str, Any]) -> str:
    """Return what leads to the lines that fit."""
    if query.attention:
        return "attention"
    if query.prefix and _is_narrow(lent, values):
        return "narrow"
    return "every" if values["any_state"] else "states"


def _look(lent: Lent, query: Query) -> Page:
    """Return what a search finds in the next lines."""
    kind, values, goes_on_after = _piece(lent, query)
    looking = directed(f"find_{kind}", downwards=query.newest_first, is_search=True)
    rows = lent.read(looking, values).fetchall()
    page = Page([_listed(row) for row in rows], goes_on_after)
    if len(page) >= query.limit:
        page.goes_on_after = page[-1].position
    return page


def _look_and_count(lent: Lent, query: Query) -> tuple[int, int | None]:
    kind, values, goes_on_after = _piece(lent, query)
    name = "count_states_and_prefix" if kind == "states" else f"count_{kind}"
    row = lent.read(statement(name, is_search=True), values).fetchone()
    return (int(row[0]) if row else 0), goes_on_after


def _piece(lent: Lent, query: Query) -> tuple[str, dict[str, Any], int | None]:
    """Return how to look at the next lines of a search, and where it goes on behind them."""
    values = _values(query) | _searched(query)
    kind = _kind(lent, query, values)
    if kind == "narrow":
        return kind, values, None
    if kind == "every":
        bound = statement("bound_downwards" if query.newest_first else "bound_upwards")
    else:
        bound = directed(f"bound_{kind}", downwards=query.newest_first)
    row = lent.read(bound, values).fetchone()
    if row is None or row[0] is None:
        return kind, values, None
    # Why one off: that line is the first one of the next piece.
    if query.newest_first:
        return kind, values | {"above": row[0]}, row[0] + 1
    return kind, values | {"below": row[0]}, row[0] - 1


def _searched(query: Query) -> dict[str, Any]:
    return {
        "any_agents": [_pattern(term("agent", name)) for name in query.agents],
        "any_actions": [_pattern(term("action", name)) for name in query.actions],
        "all_metadata": [_pattern(term("metadata", *pair)) for pair in query.metadata],
        "tenant": query.tenant,
        "created_from": query.created_from,
        "created_before": query.created_before,
        "updated_before": query.updated_before,
        "words": folded(query.text) or None,
    }


def _pattern(text: str) -> str:
    """Return the pattern of all texts that hold this one."""
    return "%" + _MEANINGFUL.sub(r"\\\g<0>", text) + "%"


def _count(lent: Lent, query: Query) -> int:
    values = _values(query)
    kind = _kind(lent, query, values)
    name = f"count_{kind}"
    if kind == "states" and query.prefix:
        name = "count_states_and_prefix"
    elif kind == "every" and not query.prefix and query.after is None:
        name = "count_all"
    return _number(lent, name, values)


def _is_narrow(lent: Lent, values: dict[str, Any]) -> bool:
    return _number(lent, "probe_prefix", values) <= NARROW_MAX


def _number(lent: Lent, name: str, values: dict[str, Any]) -> int:
    row = lent.read(statement(name), values).fetchone()
    return int(row[0]) if row else 0


def _values(query: Query) -> dict[str, Any]:
    states = list(dict.fromkeys(state.value for state in query.states))
    after = query.after
    above, below = (0, after) if query.newest_first else (after, None)
    return {
        "any_state": not states or len(states) == len(TransactionState),
        "states": states,
        "prefix": query.prefix,
        "low": query.prefix,
        "high": _behind(query.prefix),
        "above": above or 0,
        "below": _NUMBER_MAX if below is None else below,
        "limit": min(max(query.limit, 0), _NUMBER_MAX),
        "offset": min(max(query.offset, 0), _NUMBER_MAX),
        "enough": NARROW_MAX + 1,
        "any_reason": not query.reasons,
        "reasons": list(query.reasons),
        "looks": min(query.looks_max or 0, _NUMBER_MAX),
    }


def _behind(prefix: str) -> str:
    """Return a text behind all ids that begin with a prefix, and before all others behind them."""
    prefix = prefix.rstrip(_LAST_CHARACTER)
    if not prefix:
        return _BEHIND_ALL
    following = ord(prefix[-1]) + 1
    # Why this jump: surrogates are no characters, and no text holds one.
    return prefix[:-1] + chr(0xE000 if following == 0xD800 else following)


def _listed(row: tuple[Any, ...]) -> Listed:
    ordinal, driver_id, name, state, *rest = row
    created_at, updated_at, timeout, steps, completed, agents, *others = rest
    attention, runnable, title, due_at, tenant, next_agent, terms = others
    try:
        actions, metadata = told_by(terms or "")
        summary = Summary(
            name,
            TransactionState(state),
            created_at,
            updated_at,
            _seconds(timeout),
            steps,
            completed,
            tuple(json.loads(agents)),
            attention,
            runnable,
            title,
            due_at,
            tenant or None,
            next_agent,
            actions,
            metadata,
        )
    except (ValueError, TypeError, AttributeError, RecursionError):
        summary = damaged_summary(name)
    if not is_sound(summary):
        # `verify` names it; its journal may be sound.
        summary = damaged_summary(name)
    return Listed(ordinal, summary, driver_id)


def _seconds(value: Decimal) -> int | float:
    """Return a number of seconds as what it was: 60 whole, 60.0 not."""
    return int(value) if value.as_tuple().exponent == 0 else float(value)
