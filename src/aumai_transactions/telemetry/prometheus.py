"""What a store holds, for Prometheus.

Owns: the text that a scrape is answered with (text exposition format 0.0.4), and what its numbers
mean. It reads the store when it is asked, keeps nothing, and needs no client library.
Rules:
  1. No label holds what an agent or a caller has named: only words of this package.
  2. What cannot be counted to its end says so: a number that stands at `LOOKED_AT_MAX` is at least
     that.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, get_args

from aumai_transactions.clock import Clock, SystemClock
from aumai_transactions.core.outcome import Attention
from aumai_transactions.models import TransactionState
from aumai_transactions.store import Query

if TYPE_CHECKING:
    from aumai_transactions.store import Store

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

LOOKED_AT_MAX = 10_000
"""How many transactions that need a person, or are due, one scrape looks at."""

_PAGE = 1_000
_NOBODY = ""
# Behind every time that anything can wait for.
_FAR = 2**62
_ALIVE = re.compile(r"(\d+) alive")


class _Family(NamedTuple):
    name: str
    text: str
    samples: Iterable[tuple[Mapping[str, str], float]]


def prometheus_text(store: Store, *, clock: Clock | None = None) -> str:
    """Return what a store holds now, as the answer to a scrape (`CONTENT_TYPE`).

    Args:
        store: The store, open.
        clock: What time it is; for tests.

    Raises:
        StoreError: It cannot be read.
    """
    now = (clock or SystemClock()).now()
    return "".join(line + "\n" for family in _families(store, now) for line in _lines(family))


def _families(store: Store, now: int) -> Iterator[_Family]:
    tally = store.tally()
    yield _Family(
        "aumai_transactions",
        "Transactions in the store, by state.",
        [({"state": state.value}, tally.states.get(state, 0)) for state in TransactionState],
    )
    yield _Family(
        "aumai_transactions_attention",
        "Transactions that need a person, by reason.",
        [({"reason": reason}, tally.attention.get(reason, 0)) for reason in get_args(Attention)],
    )
    yield _Family(
        "aumai_transactions_attention_oldest_seconds",
        "For how long nothing has happened to the transaction that needs a person longest.",
        [({}, _age(_oldest(store), now))],
    )
    yield from _due(store, now)
    table = store.locks(None)
    held = sum(lock.token is not None for lock in table.locks)
    yield _Family(
        "aumai_transactions_locks",
        "Locks on resources: held, and waited for.",
        [({"kind": "held"}, held), ({"kind": "waited"}, len(table.locks) - held)],
    )
    info = store.info()
    alive = _ALIVE.match(info.checks.get("drivers", ""))
    if alive is not None:
        yield _Family(
            "aumai_transactions_drivers_alive",
            "Processes that drive transactions of the store, or could.",
            [({}, int(alive[1]))],
        )
    yield _Family(
        "aumai_transactions_store_info",
        "The store.",
        [(_about_store(info.url, info.schema_version), 1)],
    )
    yield _Family(
        "aumai_transactions_build_info", "The package that answers.", [(_about_build(), 1)]
    )


def _oldest(store: Store) -> int | None:
    """Return when something has happened last to what has needed a person longest."""
    oldest: int | None = None
    after: int | None = None
    for _ in range(LOOKED_AT_MAX // _PAGE):
        page = store.find(Query(attention=True, after=after, limit=_PAGE))
        # Why not 0: a line that cannot be read does not say when.
        times = [listed.summary.updated_at for listed in page if listed.summary.updated_at]
        oldest = min(times if oldest is None else [oldest, *times], default=None)
        after = page.goes_on_after
        if after is None or not page:
            break
    return oldest


def _due(store: Store, now: int) -> Iterator[_Family]:
    """Yield what anybody could go on with, and what nobody goes on with before a time to come."""
    due = store.due(_NOBODY, LOOKED_AT_MAX, now)
    later = len(store.due(_NOBODY, LOOKED_AT_MAX, _FAR)) - len(due)
    since = None
    if due:
        summary = next(
            (
                found.summary
                for found in store.find(Query(prefix=due[0]))
                if found.summary.transaction_id == due[0]
            ),
            None,
        )
        since = summary and (summary.due_at or summary.updated_at)
    yield _Family(
        "aumai_transactions_due",
        "Transactions that something is to be done for now, and that no living process has.",
        [({}, len(due))],
    )
    yield _Family(
        "aumai_transactions_due_oldest_seconds",
        "For how long the first of them has been due.",
        [({}, _age(since, now))],
    )
    yield _Family(
        "aumai_transactions_scheduled",
        "Transactions that go on by themselves at a time to come.",
        [({}, max(later, 0))],
    )


def _age(since: int | None, now: int) -> float:
    return 0.0 if since is None else max(0.0, (now - since) / 1_000_000)


def _about_store(url: str, schema_version: int) -> dict[str, str]:
    return {"kind": url.partition(":")[0], "schema_version": str(schema_version)}


def _about_build() -> dict[str, str]:
    from aumai_transactions import __version__

    return {"version": __version__, "python_version": platform.python_version()}


def _lines(family: _Family) -> Iterator[str]:
    yield f"# HELP {family.name} {_escaped(family.text)}"
    yield f"# TYPE {family.name} gauge"
    for labels, value in family.samples:
        told = ",".join(f'{name}="{_escaped(text, label=True)}"' for name, text in labels.items())
        yield f"{family.name}{{{told}}} {value:.17g}" if told else f"{family.name} {value:.17g}"


def _escaped(text: str, *, label: bool = False) -> str:
    """Return a text as the format has it: line ends and backslashes, and in a label also quotes."""
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if label else text
