"""Which transactions a store lists.

Owns: the choice of the statement that stays fast for a query, however much is stored.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aumai_transactions.core.outcome import Summary, damaged_summary, is_sound
from aumai_transactions.models import TransactionState
from aumai_transactions.store import Listed, Query
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


def find(lent: Lent, query: Query) -> list[Listed]:
    """Return one page of transactions in order of arrival."""
    values = _values(query)
    if query.attention:
        name = "find_attention"
    elif query.prefix and _is_narrow(lent, values):
        name = "find_narrow"
    else:
        name = "find_every" if values["any_state"] else "find_states"
    rows = lent.read(directed(name, downwards=query.newest_first), values).fetchall()
    return [_listed(row) for row in rows]


def count(lent: Lent, query: Query) -> int:
    """Return how many transactions the query fits."""
    values = _values(query)
    if query.attention:
        name = "count_attention"
    elif query.prefix and _is_narrow(lent, values):
        name = "count_narrow"
    elif not values["any_state"]:
        name = "count_states_and_prefix" if query.prefix else "count_states"
    elif query.prefix or query.after is not None:
        name = "count_every"
    else:
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
    attention, runnable, title, due_at, tenant, next_agent = others
    try:
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
