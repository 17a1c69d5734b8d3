"""Who is told of what happens, in SQL.

Owns: the tables `webhooks` and `deliveries`.
Rules:
  1. Whoever calls is in a write transaction, but for what only looks.
"""

from __future__ import annotations

import json
import sqlite3
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from aumai_transactions.core.happenings import EVENT_NAMES
from aumai_transactions.outbox import Delivery, Settled, Webhook
from aumai_transactions.stores.sqlite import statements

if TYPE_CHECKING:
    from collections.abc import Callable

    from aumai_transactions.core.happenings import Happening

Result = TypeVar("Result")
Listeners = tuple[tuple[str, frozenset[str]], ...]
"""The name of each webhook that is at work, and what it is told of."""


def listeners(connection: sqlite3.Connection) -> Listeners:
    """Return who is told of an append that is made now."""
    rows = connection.execute(statements.LISTENERS).fetchall()
    return tuple((name, frozenset(json.loads(events))) for name, events in rows)


def rows_for(
    told: Listeners, transaction_id: str, found: Iterable[Happening]
) -> list[tuple[str, str, str, str, int, int]]:
    """Return the rows of what an append has brought about, in the order of the statement."""
    return [
        (f"msg_{uuid4().hex}", name, transaction_id, *one)
        for one in found
        for name, events in told
        if one.event in events
    ]


class SqliteOutbox:
    """Be the outbox of a store whose handle reads and writes so."""

    @abstractmethod
    def _read(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run a query."""

    @abstractmethod
    def _write_alone(self, work: Callable[[sqlite3.Connection], tuple[Result, bool]]) -> Result:
        """Run a write transaction, and return what it returns first."""

    def add_webhook(self, webhook: Webhook) -> bool:
        """Tell a webhook of every append from now on; False where there is one of this name."""
        return self._write_alone(partial(_add, webhook=webhook))

    def remove_webhook(self, name: str) -> bool:
        """Tell a webhook nothing any more, and drop what it was not told; False where it is not."""
        return self._write_alone(partial(_remove, name=name))

    def webhooks(self) -> list[Webhook]:
        """Return all webhooks, by name."""
        return self._read(_webhooks)

    def lend_deliveries(self, sender: str, now: int, until: int, limit: int) -> list[Delivery]:
        """Lend what is due to one sender; see `Outbox.lend_deliveries`."""
        values = {"sender": sender, "now": now, "until": until, "limit": max(limit, 0)}
        # Why a look first: where nothing is due, nobody need be kept from writing.
        if not self._read(partial(_due, values=values)):
            return []
        return self._write_alone(partial(_lend, values=values))

    def settle_delivery(self, sender: str, delivery_id: str, settled: Settled) -> bool:
        """Record what became of an attempt; False where it is not lent to this sender any more."""
        return self._write_alone(partial(_settle, key=(delivery_id, sender), settled=settled))

    def deliveries(self, *, only_failed: bool, limit: int) -> list[Delivery]:
        """Return what is not delivered, the oldest first."""
        values = {"only_failed": only_failed, "limit": max(limit, 0)}
        return self._read(
            lambda connection: _deliveries(
                connection.execute(statements.DELIVERIES, values).fetchall()
            )
        )

    def retry_delivery(self, delivery_id: str, now: int) -> bool:
        """Let a delivery be tried at once, and its webhook be at work again."""
        return self._write_alone(partial(_retry, delivery_id=delivery_id, now=now))


def _add(connection: sqlite3.Connection, webhook: Webhook) -> tuple[bool, bool]:
    row = webhook._replace(events=json.dumps(webhook.events))  # type: ignore[arg-type]
    added = connection.execute(statements.ADD_WEBHOOK, row).rowcount == 1
    return added, added


def _remove(connection: sqlite3.Connection, name: str) -> tuple[bool, bool]:
    removed = connection.execute(statements.REMOVE_WEBHOOK, (name,)).rowcount == 1
    connection.execute(statements.DROP_DELIVERIES, (name,))
    return removed, True


def _webhooks(connection: sqlite3.Connection) -> list[Webhook]:
    found = []
    for row in connection.execute(statements.WEBHOOKS).fetchall():
        name, url, secret, events, include_data, allow_private, created_at, stopped = row
        told = tuple(event for event in EVENT_NAMES if event in json.loads(events))
        rest = (bool(include_data), bool(allow_private), created_at, stopped)
        found.append(Webhook(name, url, secret, told, *rest))
    return found


def _due(connection: sqlite3.Connection, values: dict[str, Any]) -> list[Delivery]:
    return _deliveries(connection.execute(statements.DUE_DELIVERIES, values).fetchall())


def _lend(connection: sqlite3.Connection, values: dict[str, Any]) -> tuple[list[Delivery], bool]:
    found = _due(connection, values)
    rows = [(values["sender"], values["until"], one.delivery_id) for one in found]
    connection.executemany(statements.LEND_DELIVERY, rows)
    return found, bool(found)


def _settle(
    connection: sqlite3.Connection, key: tuple[str, str], settled: Settled
) -> tuple[bool, bool]:
    row = connection.execute(statements.LENT_DELIVERY, key).fetchone()
    if row is None:
        return False, False
    if settled.kind == "delivered":
        connection.execute(statements.DELIVERED, (key[0],))
        return True, True
    if settled.kind == "stopped":
        connection.execute(statements.STOP_WEBHOOK, (settled.error, row[0]))
    values = (settled.due_at, settled.kind == "dead", settled.error, key[0])
    connection.execute(statements.NOT_DELIVERED, values)
    return True, True


def _retry(connection: sqlite3.Connection, delivery_id: str, now: int) -> tuple[bool, bool]:
    row = connection.execute(statements.RETRY_DELIVERY, (now, delivery_id)).fetchone()
    if row is None:
        return False, False
    connection.execute(statements.STOP_WEBHOOK, (None, row[0]))
    return True, True


def _deliveries(rows: Sequence[tuple[Any, ...]]) -> list[Delivery]:
    found = (Delivery(*row) for row in rows)
    return [one._replace(is_dead=bool(one.is_dead)) for one in found]
