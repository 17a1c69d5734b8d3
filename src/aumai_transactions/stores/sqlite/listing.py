"""Which transactions a store lists.

Owns: the choice of the statement that stays fast for a query, however much is stored.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar

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
from aumai_transactions.stores.sqlite import statements

_STATES = {state.value: state for state in TransactionState}
Result = TypeVar("Result")

# Up to so many matches, reading and sorting all ids with a prefix is faster than walking
# through every transaction in order of arrival.
_NARROW_MAX = 2_000
_ORDINAL_MAX = 2**63 - 1
_LAST_CHARACTER = "\U0010ffff"
_FINDS = {
    "attention": statements.FIND_ATTENTION,
    "narrow": statements.FIND_NARROW,
    "states": statements.FIND_STATES,
    "every": statements.FIND_EVERY,
}
_COUNTS = {
    "attention": statements.COUNT_ATTENTION,
    "narrow": statements.COUNT_NARROW,
    "every": statements.COUNT_EVERY,
}


class Read(Protocol):
    """Run a query, and return what it returns."""

    def __call__(self, work: Callable[[sqlite3.Connection], Result], /) -> Result:
        """Run it."""


def find(read: Read, query: Query) -> Page:
    """Return one page of transactions in order of arrival.

    Args:
        read: Runs a query.
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


def tally(connection: sqlite3.Connection) -> Tally:
    """Return how many transactions there are of each state, and how many need a person."""
    # Why what no release writes counts so: that is how such a line is listed.
    states: dict[TransactionState, int] = {}
    for state, number in connection.execute(statements.TALLY).fetchall():
        known = _STATES.get(state, TransactionState.active)
        states[known] = states.get(known, 0) + number
    reasons: dict[Attention, int] = {}
    for reason, number in connection.execute(statements.TALLY_OF_REASONS).fetchall():
        why: Attention = reason if reason in ATTENTIONS else "damaged"
        reasons[why] = reasons.get(why, 0) + number
    return Tally(states, reasons)


def _find(connection: sqlite3.Connection, query: Query) -> Page:
    values = _values(query)
    kind = _kind(connection, query, values)
    rows = connection.execute(_FINDS[kind][query.newest_first], values).fetchall()
    return page_of([_listed(row) for row in rows], query)


def _kind(connection: sqlite3.Connection, query: Query, values: dict[str, Any]) -> str:
    """Return what leads to the lines that fit."""
    if query.attention:
        return "attention"
    if query.prefix and _is_narrow(connection, values):
        return "narrow"
    return "every" if values["any_state"] else "states"


def _look(connection: sqlite3.Connection, query: Query) -> Page:
    """Return what a search finds in the next lines."""
    kind, looked_at, values, goes_on_after = _piece(connection, query)
    statement = statements.search(kind, looked_at, downwards=query.newest_first)
    rows = connection.execute(statement, values).fetchall()
    page = Page([_listed(row) for row in rows], goes_on_after)
    if len(page) >= query.limit:
        page.goes_on_after = page[-1].position
    return page


def _look_and_count(connection: sqlite3.Connection, query: Query) -> tuple[int, int | None]:
    kind, looked_at, values, goes_on_after = _piece(connection, query)
    statement = statements.search(kind, looked_at, downwards=None)
    return int(connection.execute(statement, values).fetchone()[0]), goes_on_after


def _piece(
    connection: sqlite3.Connection, query: Query
) -> tuple[str, str, dict[str, Any], int | None]:
    """Return how to look at the next lines of a search, and where it goes on behind them."""
    values = _values(query)
    kind = _kind(connection, query, values)
    looked_at = _searched(query, values)
    if kind == "narrow":
        return kind, looked_at, values, None
    bound = statements.bound(kind, downwards=query.newest_first)
    row = connection.execute(bound, values).fetchone()
    if row is None or row[0] is None:
        return kind, looked_at, values, None
    # Why one off: that line is the first one of the next piece.
    if query.newest_first:
        return kind, looked_at, values | {"low_ordinal": row[0]}, row[0] + 1
    return kind, looked_at, values | {"high_ordinal": row[0]}, row[0] - 1


def _searched(query: Query, values: dict[str, Any]) -> str:
    """Return the conditions of a search, and add to the values what they name."""
    asked = {
        "tenant": query.tenant,
        "created_from": query.created_from,
        "created_before": query.created_before,
        "updated_before": query.updated_before,
        "words": folded(query.text) or None,
    }
    fields = {name: value for name, value in asked.items() if value is not None}
    values |= fields
    values |= {f"agent{n}": term("agent", name) for n, name in enumerate(query.agents)}
    values |= {f"action{n}": term("action", name) for n, name in enumerate(query.actions)}
    values |= {f"metadata{n}": term("metadata", *pair) for n, pair in enumerate(query.metadata)}
    numbers = (len(query.agents), len(query.actions), len(query.metadata))
    return statements.looked_at(tuple(fields), *numbers)


def _count(connection: sqlite3.Connection, query: Query) -> int:
    values = _values(query)
    kind = _kind(connection, query, values)
    if kind == "states":
        prefixed, plain = statements.COUNT_STATES_AND_PREFIX, statements.COUNT_STATES
        statement = prefixed if query.prefix else plain
    elif kind == "every" and not query.prefix and query.after is None:
        return int(connection.execute(statements.COUNT_ALL).fetchone()[0])
    else:
        statement = _COUNTS[kind]
    return int(connection.execute(statement, values).fetchone()[0])


def _is_narrow(connection: sqlite3.Connection, values: dict[str, Any]) -> bool:
    row = connection.execute(statements.PREFIX_PROBE, values).fetchone()
    return bool(row[0] <= _NARROW_MAX)


def _values(query: Query) -> dict[str, Any]:
    states = list(dict.fromkeys(state.value for state in query.states))
    any_state = not states or len(states) == len(TransactionState)
    padded: list[str | None] = [*states, *[None] * (len(TransactionState) - len(states))]
    missing = [None] * (len(ATTENTIONS) - len(set(query.reasons)))
    reasons: list[str | None] = [*dict.fromkeys(query.reasons), *missing]
    after = query.after
    low, high = (0, after) if query.newest_first else (after, _ORDINAL_MAX)
    return {
        "any_state": any_state,
        **{f"state{number}": state for number, state in enumerate(padded, 1)},
        "low": query.prefix,
        "high": _behind(query.prefix),
        "low_ordinal": low or 0,
        "high_ordinal": _ORDINAL_MAX if high is None else high,
        "limit": min(max(query.limit, 0), _ORDINAL_MAX),
        "offset": min(max(query.offset, 0), _ORDINAL_MAX),
        "enough": _NARROW_MAX + 1,
        "any_reason": not query.reasons,
        **{f"reason{n}": reason for n, reason in enumerate(reasons, 1)},
        "looks": min(query.looks_max or 0, _ORDINAL_MAX),
    }


def _behind(prefix: str) -> str | bytes:
    """Return the first value behind all texts that begin with a prefix."""
    prefix = prefix.rstrip(_LAST_CHARACTER)
    if not prefix:
        # To SQLite, every blob stands behind every text.
        return b""
    following = ord(prefix[-1]) + 1
    # Why this jump: surrogates are no characters, and SQLite cannot hold one.
    return prefix[:-1] + chr(0xE000 if following == 0xD800 else following)


def _listed(row: tuple[Any, ...]) -> Listed:
    (
        ordinal,
        driver_id,
        transaction_id,
        state,
        created_at,
        updated_at,
        timeout_seconds,
        steps,
        completed,
        agents,
        attention,
        runnable,
        name,
        due_at,
        tenant,
        next_agent,
        terms,
    ) = row
    try:
        actions, metadata = told_by(terms or "")
        for number in (created_at, updated_at, steps, completed, due_at or 0):
            _check_number(number)
        summary = Summary(
            transaction_id,
            TransactionState(state),
            created_at,
            updated_at,
            timeout_seconds,
            steps,
            completed,
            tuple(json.loads(agents)),
            attention,
            bool(runnable),
            name,
            due_at,
            tenant or None,
            next_agent,
            actions,
            metadata,
        )
    except (ValueError, TypeError, AttributeError, RecursionError):
        summary = damaged_summary(transaction_id)
    if not is_sound(summary):
        # `verify` names it; its journal may be sound.
        summary = damaged_summary(transaction_id)
    return Listed(ordinal, summary, driver_id)


def _check_number(value: object) -> None:
    """Refuse what a column of numbers holds only where a page is damaged."""
    if not isinstance(value, int):
        message = f"{type(value).__name__} for a number"
        raise TypeError(message)
