"""Who is told of what happens, in SQL.

Owns: the tables `webhooks` and `deliveries`, but for what an append adds to them.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

from aumai_transactions.core.happenings import EVENT_NAMES
from aumai_transactions.outbox import Delivery, Settled, Webhook
from aumai_transactions.stores.postgres.arrays import texts
from aumai_transactions.stores.postgres.statements import statement

if TYPE_CHECKING:
    from collections.abc import Callable

    from aumai_transactions.stores.postgres.pool import Lent

    Result = TypeVar("Result")


class PostgresOutbox:
    """Be the outbox of a store that runs its queries so."""

    @abstractmethod
    def _run(self, work: Callable[[Lent], Result]) -> Result:
        """Run something on a connection."""

    def add_webhook(self, webhook: Webhook) -> bool:
        """Tell a webhook of every append from now on; False where there is one of this name."""
        values = webhook._asdict() | {"events": texts(webhook.events)}
        return bool(self._written("add_webhook", values))

    def remove_webhook(self, name: str) -> bool:
        """Tell a webhook nothing any more, and drop what it was not told; False where it is not."""
        return bool(self._written("remove_webhook", {"name": name}))

    def webhooks(self) -> list[Webhook]:
        """Return all webhooks, by name."""
        rows = self._run(lambda lent: lent.read(statement("webhooks")).fetchall())
        found = [Webhook(*row) for row in rows]
        return [
            one._replace(events=tuple(event for event in EVENT_NAMES if event in one.events))
            for one in found
        ]

    def lend_deliveries(self, sender: str, now: int, until: int, limit: int) -> list[Delivery]:
        """Lend what is due to one sender; see `Outbox.lend_deliveries`."""
        values = {"sender": sender, "now": now, "until": until, "limit": max(limit, 0)}
        # Why a look first: where nothing is due, nothing need be written.
        due = self._run(lambda lent: lent.read(statement("due_deliveries"), values).fetchone())
        return [Delivery(*row) for row in self._written("lend_deliveries", values)] if due else []

    def settle_delivery(self, sender: str, delivery_id: str, settled: Settled) -> bool:
        """Record what became of an attempt; False where it is not lent to this sender any more."""
        values: dict[str, Any] = {"sender": sender, "id": delivery_id}
        if settled.kind == "delivered":
            return bool(self._written("delivered", values))
        values |= {
            "due_at": settled.due_at,
            "error": settled.error,
            "is_dead": settled.kind == "dead",
            "stops": settled.kind == "stopped",
        }
        return bool(self._written("not_delivered", values))

    def deliveries(self, *, only_failed: bool, limit: int) -> list[Delivery]:
        """Return what is not delivered, the oldest first."""
        values = {"only_failed": only_failed, "limit": max(limit, 0)}
        rows = self._run(lambda lent: lent.read(statement("deliveries"), values).fetchall())
        return [Delivery(*row) for row in rows]

    def retry_delivery(self, delivery_id: str, now: int) -> bool:
        """Let a delivery be tried at once, and its webhook be at work again."""
        return bool(self._written("retry_delivery", {"id": delivery_id, "now": now}))

    def _written(self, name: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Run a statement that writes, and is a whole transaction; return its rows."""
        return self._run(lambda lent: lent.write(statement(name), values).fetchall())
