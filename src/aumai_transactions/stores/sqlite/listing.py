"""Which transactions a store lists.

Owns: the choice of the statement that stays fast for a query, however much is stored.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from aumai_transactions.core.outcome import Summary, damaged_summary, is_sound
from aumai_transactions.models import TransactionState
from aumai_transactions.store import Listed, Query
from aumai_transactions.stores.sqlite import statements

# Up to so many matches, reading and sorting all ids with a prefix is faster than walking
# through every transaction in order of arrival.
_NARROW_MAX = 2_000
_ORDINAL_MAX = 2**63 - 1
_LAST_CHARACTER = "\U0010ffff"


def find(connection: sqlite3.Connection, query: Query) -> list[Listed]:
    """Return one page of transactions in order of arrival."""
    values = _values(query)
    if query.attention:
        pair = statements.FIND_ATTENTION
    elif query.prefix and _is_narrow(connection, values):
        pair = statements.FIND_NARROW
    elif not values["any_state"]:
        pair = statements.FIND_STATES
    else:
        pair = statements.FIND_EVERY
    rows = connection.execute(pair[query.newest_first], values).fetchall()
    return [_listed(row) for row in rows]


def count(connection: sqlite3.Connection, query: Query) -> int:
    """Return how many transactions the query fits."""
    values = _values(query)
    if query.attention:
        statement = statements.COUNT_ATTENTION
    elif query.prefix and _is_narrow(connection, values):
        statement = statements.COUNT_NARROW
    elif not values["any_state"]:
        prefixed, plain = statements.COUNT_STATES_AND_PREFIX, statements.COUNT_STATES
        statement = prefixed if query.prefix else plain
    elif query.prefix or query.after is not None:
        statement = statements.COUNT_EVERY
    else:
        return int(connection.execute(statements.COUNT_ALL).fetchone()[0])
    return int(connection.execute(statement, values).fetchone()[0])


def _is_narrow(connection: sqlite3.Connection, values: dict[str, Any]) -> bool:
    row = connection.execute(statements.PREFIX_PROBE, values).fetchone()
    return bool(row[0] <= _NARROW_MAX)


def _values(query: Query) -> dict[str, Any]:
    states = list(dict.fromkeys(state.value for state in query.states))
    any_state = not states or len(states) == len(TransactionState)
    padded: list[str | None] = [*states, *[None] * (len(TransactionState) - len(states))]
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
    ) = row
    try:
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
