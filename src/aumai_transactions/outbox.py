"""What a store must promise that tells others of what has happened.

Owns: the contract between a store with an outbox and who sends what is in it.
`aumai_transactions.testing.store_outbox` is the same contract as a suite of checks.
Rules:
  1. What is to be sent is written in the very append that it tells of: whoever is killed loses
     both or none.
  2. A webhook is told of every append behind the one that added it, whichever process makes it.
  3. Of one webhook and one transaction, nothing is lent before what stands in front of it is
     delivered or given up.
  4. No secret is in here: a webhook names where its secret is found.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from aumai_transactions.core.happenings import EventName, Happening


class Webhook(NamedTuple):
    """Hold who is told of what.

    Args:
        name: What people call it.
        url: Where to.
        secret: Where its secret is found: `env:NAME` or `file:/absolute/path`.
        events: What it is told of.
        include_data: True to send the data of entries as well.
        allow_private: True where it may stand in a private network, or on this machine.
        created_at: Microseconds since 1970 UTC.
        stopped: Why nothing is sent to it any more; None where it is at work.
    """

    name: str
    url: str
    secret: str
    events: tuple[EventName, ...]
    include_data: bool = False
    allow_private: bool = False
    created_at: int = 0
    stopped: str | None = None


class Delivery(NamedTuple):
    """Hold what is to be told to one webhook.

    Args:
        delivery_id: Its name, the same for every attempt.
        webhook: The webhook's name.
        transaction_id: Whose.
        event: What.
        first: The sequence of the first entry that it is about.
        last: The sequence of the last one.
        attempts: How often it was tried without success.
        due_at: When it may be tried next, microseconds since 1970 UTC.
        is_dead: True where it was given up.
        error: What went wrong the last time.
    """

    delivery_id: str
    webhook: str
    transaction_id: str
    event: EventName
    first: int
    last: int
    attempts: int = 0
    due_at: int = 0
    is_dead: bool = False
    error: str | None = None


class Settled(NamedTuple):
    """Say what became of an attempt.

    Args:
        kind: `delivered`; `again` at `due_at`; `dead`; or `stopped`, with its whole webhook.
        due_at: When to try again, microseconds since 1970 UTC.
        error: What went wrong.
    """

    kind: Literal["delivered", "again", "dead", "stopped"]
    due_at: int = 0
    error: str | None = None


@runtime_checkable
class Outbox(Protocol):
    """Be a store that keeps what others are to be told."""

    def add_webhook(self, webhook: Webhook) -> bool:
        """Tell a webhook of every append from now on; False where there is one of this name."""

    def remove_webhook(self, name: str) -> bool:
        """Tell a webhook nothing any more, and drop what it was not told; False where it is not."""

    def webhooks(self) -> list[Webhook]:
        """Return all webhooks, by name."""

    def lend_deliveries(self, sender: str, now: int, until: int, limit: int) -> list[Delivery]:
        """Lend what is due to one sender; nobody else is lent the same before `until`.

        The oldest come first. Those of a webhook that is stopped are not lent.

        Args:
            sender: Who asks.
            now: Microseconds since 1970 UTC.
            until: When it counts as dead, if it has settled nothing by then.
            limit: How many at most.
        """

    def settle_delivery(self, sender: str, delivery_id: str, settled: Settled) -> bool:
        """Record what became of an attempt; False where it is not lent to this sender any more.

        What was delivered is gone from the store.
        """

    def deliveries(self, *, only_failed: bool, limit: int) -> list[Delivery]:
        """Return what is not delivered, the oldest first.

        Args:
            only_failed: True for only what was tried without success, or given up.
            limit: How many at most.
        """

    def retry_delivery(self, delivery_id: str, now: int) -> bool:
        """Let a delivery be tried at once and from the beginning, and its webhook be at work again.

        Returns:
            False where there is none.
        """


def tried(delivery: Delivery, settled: Settled) -> Delivery:
    """Return what a delivery is after an attempt without success."""
    return delivery._replace(
        attempts=delivery.attempts + 1,
        due_at=settled.due_at,
        is_dead=settled.kind == "dead",
        error=settled.error,
    )


class OutboxBook:
    """Keep an outbox in memory, for a store that holds its lock while it calls.

    Args:
        new_name: Returns a name for a delivery that was never used before.
    """

    def __init__(self, new_name: Callable[[], str]) -> None:
        self.webhooks: dict[str, Webhook] = {}
        self._new_name = new_name
        self._kept: dict[str, Delivery] = {}
        self._lent: dict[str, tuple[str, int]] = {}

    def tell(self, transaction_id: str, found: Iterable[Happening]) -> None:
        """Add what an append has brought about, for each webhook that is told of it."""
        for one in found:
            for webhook in self.webhooks.values():
                if webhook.stopped is None and one.event in webhook.events:
                    name = self._new_name()
                    self._kept[name] = Delivery(name, webhook.name, transaction_id, *one)

    def remove(self, name: str) -> bool:
        """Forget a webhook, and what it was not told."""
        gone = [key for key, one in self._kept.items() if one.webhook == name]
        for key in gone:
            self._forget(key)
        return self.webhooks.pop(name, None) is not None

    def lend(self, sender: str, now: int, until: int, limit: int) -> list[Delivery]:
        """Lend what is due; see `Outbox.lend_deliveries`."""
        found, seen = [], set()
        for name, one in self._kept.items():
            webhook = self.webhooks[one.webhook]
            line = (one.webhook, one.transaction_id)
            is_first = line not in seen
            if not one.is_dead:
                seen.add(line)
            if one.is_dead or not is_first or webhook.stopped is not None or one.due_at > now:
                continue
            if self._lent.get(name, ("", 0))[1] <= now:
                found.append(one)
        found.sort(key=lambda one: one.due_at)
        for one in found[: max(limit, 0)]:
            self._lent[one.delivery_id] = (sender, until)
        return found[: max(limit, 0)]

    def settle(self, sender: str, delivery_id: str, settled: Settled) -> bool:
        """Record what became of an attempt; see `Outbox.settle_delivery`."""
        if self._lent.get(delivery_id, ("", 0))[0] != sender:
            return False
        one = self._kept[delivery_id]
        if settled.kind == "delivered":
            self._forget(delivery_id)
            return True
        if settled.kind == "stopped":
            webhook = self.webhooks[one.webhook]
            self.webhooks[one.webhook] = webhook._replace(stopped=settled.error)
        del self._lent[delivery_id]
        self._kept[delivery_id] = tried(one, settled)
        return True

    def waiting(self, *, only_failed: bool, limit: int) -> list[Delivery]:
        """Return what is not delivered; see `Outbox.deliveries`."""
        found = [one for one in self._kept.values() if not only_failed or one.attempts]
        return found[: max(limit, 0)]

    def retry(self, delivery_id: str, now: int) -> bool:
        """Let a delivery be tried at once; see `Outbox.retry_delivery`."""
        one = self._kept.get(delivery_id)
        if one is None:
            return False
        self._lent.pop(delivery_id, None)
        self._kept[delivery_id] = one._replace(attempts=0, due_at=now, is_dead=False)
        webhook = self.webhooks[one.webhook]
        self.webhooks[one.webhook] = webhook._replace(stopped=None)
        return True

    def is_untold(self, transaction_id: str) -> bool:
        """Tell whether something of a transaction is still to be delivered."""
        return any(
            one.transaction_id == transaction_id and not one.is_dead for one in self._kept.values()
        )

    def forget(self, transaction_id: str) -> None:
        """Forget what there was of a transaction that is deleted."""
        for name in [n for n, one in self._kept.items() if one.transaction_id == transaction_id]:
            self._forget(name)

    def _forget(self, name: str) -> None:
        del self._kept[name]
        self._lent.pop(name, None)


class OutboxInMemory:
    """Be the outbox of a store that keeps it in a book, under its lock."""

    _lock: Lock
    _outbox: OutboxBook

    @abstractmethod
    def _check_open(self) -> None:
        """Refuse a store that is closed."""

    def add_webhook(self, webhook: Webhook) -> bool:
        """Tell a webhook of every append from now on; False where there is one of this name."""
        with self._lock:
            self._check_open()
            return self._outbox.webhooks.setdefault(webhook.name, webhook) is webhook

    def remove_webhook(self, name: str) -> bool:
        """Tell a webhook nothing any more, and drop what it was not told; False where it is not."""
        with self._lock:
            return self._outbox.remove(name)

    def webhooks(self) -> list[Webhook]:
        """Return all webhooks, by name."""
        with self._lock:
            return sorted(self._outbox.webhooks.values())

    def lend_deliveries(self, sender: str, now: int, until: int, limit: int) -> list[Delivery]:
        """Lend what is due to one sender; see `Outbox.lend_deliveries`."""
        with self._lock:
            return self._outbox.lend(sender, now, until, limit)

    def settle_delivery(self, sender: str, delivery_id: str, settled: Settled) -> bool:
        """Record what became of an attempt; False where it is not lent to this sender any more."""
        with self._lock:
            return self._outbox.settle(sender, delivery_id, settled)

    def deliveries(self, *, only_failed: bool, limit: int) -> list[Delivery]:
        """Return what is not delivered, the oldest first."""
        with self._lock:
            return self._outbox.waiting(only_failed=only_failed, limit=limit)

    def retry_delivery(self, delivery_id: str, now: int) -> bool:
        """Let a delivery be tried at once, and its webhook be at work again."""
        with self._lock:
            return self._outbox.retry(delivery_id, now)
