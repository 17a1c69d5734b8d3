"""Sending what is in an outbox.

Owns: when a delivery is tried, what an answer means for it, and when it is given up.
Rules:
  1. At least once: what was sent and is not recorded as delivered is sent again, under its name.
  2. What is lent to a sender that is killed is lent to another one when its time is over.
  3. Nothing is sent to this machine or a private network unless the webhook says that it may be.
"""

from __future__ import annotations

import logging
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal, NamedTuple, Self
from uuid import uuid4

from aumai_transactions.clock import Clock, SystemClock
from aumai_transactions.credentials import SecretMissing
from aumai_transactions.errors import DefinitionError, JournalCorrupt, JournalTooNew, StoreError
from aumai_transactions.outbox import Delivery, Outbox, Settled, Webhook
from aumai_transactions.participants.exchange import (
    AnswerLost,
    NotSent,
    exchange,
    parsed_url,
)
from aumai_transactions.participants.messages import printable
from aumai_transactions.webhooks.bodies import body_of
from aumai_transactions.webhooks.signing import key_of, signed_headers

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from aumai_transactions.store import Store

log = logging.getLogger("aumai_transactions")

TIMEOUT_SECONDS = 15.0
POLL_SECONDS = 1.0
CONCURRENCY = 4
ANSWER_BYTES_MAX = 4_096
ERROR_CHARACTERS_MAX = 300
DELAYS_SECONDS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 64_800, 79_200)
"""How long after each failed attempt the next one follows: about three days, all together."""
JITTER = 0.2
"""Which part of a delay is drawn, so that those who failed together do not come back together."""
_GONE = 410
_MICROSECONDS = 1_000_000


class Sent(NamedTuple):
    """Say what became of one attempt.

    Args:
        delivery: What was sent, as it was before.
        became: `delivered`; `again`, `dead` or `stopped`; `lost` where another sender has it now.
        error: What went wrong.
    """

    delivery: Delivery
    became: Literal["delivered", "again", "dead", "stopped", "lost"]
    error: str | None


class WebhookSender:
    """Send what a store's webhooks are to be told.

    Use it as `sender.send_due()`, which sends what is due now; as `sender.run()`, which goes on
    until `stop()` is called, or `await sender.run_async()`; or as a context manager, which works
    in a thread of its own until the block ends. Any number of senders, in any process, share the
    work of one store.

    Args:
        store: A store with an outbox.
        clock: What tells the time.
        timeout_seconds: How long one attempt may take.
        poll_seconds: How often to look for what is due.
        concurrency: How many attempts are made at the same time.
        on_report: Told what became of each attempt, from the sender's threads.

    Raises:
        DefinitionError: The store has no outbox.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        poll_seconds: float = POLL_SECONDS,
        concurrency: int = CONCURRENCY,
        on_report: Callable[[Sent], object] | None = None,
    ) -> None:
        if not isinstance(store, Outbox):
            message = f"a store of the kind {type(store).__name__} has no outbox for webhooks."
            raise DefinitionError(message)
        self._store = store
        self._outbox: Outbox = store
        self._clock = clock or SystemClock()
        self._timeout = timeout_seconds
        self._poll = poll_seconds
        self._concurrency = concurrency
        self._on_report = on_report
        self._name = f"{os.getpid()}-{uuid4().hex}"
        self._dice = random.Random()  # noqa: S311 (so that senders do not come back in step)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def send_due(self) -> list[Sent]:
        """Send what is due, until nothing is; return what became of each attempt.

        Raises:
            StoreError: The store cannot be read or written for now.
        """
        sent: list[Sent] = []
        while not self._stopping.is_set():
            now = self._clock.now()
            # Why twice the time and more: who is alive has settled it by then.
            until = now + int((2 * self._timeout + 30) * _MICROSECONDS)
            lent = self._outbox.lend_deliveries(self._name, now, until, self._concurrency)
            if not lent:
                break
            webhooks = {webhook.name: webhook for webhook in self._outbox.webhooks()}
            with ThreadPoolExecutor(len(lent)) as pool:
                to = [webhooks.get(one.webhook) for one in lent]
                sent += pool.map(self._send, lent, to)
        return sent

    def _send(self, delivery: Delivery, webhook: Webhook | None) -> Sent:
        settled = self._attempt(delivery, webhook)
        is_ours = self._outbox.settle_delivery(self._name, delivery.delivery_id, settled)
        sent = Sent(delivery, settled.kind if is_ours else "lost", settled.error)
        if self._on_report is not None:
            self._on_report(sent)
        return sent

    def _attempt(self, delivery: Delivery, webhook: Webhook | None) -> Settled:
        """Make one attempt, and say what is to be recorded of it."""
        if webhook is None:
            return Settled("dead", error="its webhook was removed")
        journal = self._store.read(delivery.transaction_id)
        if journal is None:
            return Settled("dead", error="its journal is gone")
        try:
            body = body_of(journal, delivery, include_data=webhook.include_data)
            key = key_of(webhook.secret)
            status = self._posted(webhook, delivery, body, key)
        except (JournalCorrupt, JournalTooNew) as error:
            return self._failed(delivery, f"its journal cannot be read: {error}")
        except (SecretMissing, NotSent, AnswerLost, ValueError) as error:
            return self._failed(delivery, str(error))
        if 200 <= status < 300:
            return Settled("delivered")
        if status == _GONE:
            again = self._failed(delivery, "answered 410 Gone: it wants to be told nothing more")
            return again._replace(kind="stopped")
        return self._failed(delivery, f"answered {status}")

    def _posted(self, webhook: Webhook, delivery: Delivery, body: bytes, key: bytes) -> int:
        """Send it, and return the status of the answer."""
        seconds = self._clock.now() // _MICROSECONDS
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "aumai-transactions",
            **signed_headers(delivery.delivery_id, seconds, body, key),
        }
        answer = exchange(
            parsed_url(webhook.url),
            "POST",
            headers,
            body,
            timeout_seconds=self._timeout,
            body_bytes_max=ANSWER_BYTES_MAX,
            public_only=not webhook.allow_private,
        )
        return answer.status

    def _failed(self, delivery: Delivery, problem: str) -> Settled:
        error = printable(problem, ERROR_CHARACTERS_MAX)
        if delivery.attempts >= len(DELAYS_SECONDS):
            return Settled("dead", delivery.due_at, error)
        seconds = DELAYS_SECONDS[delivery.attempts] * (1 - JITTER * self._dice.random())
        return Settled("again", self._clock.now() + int(seconds * _MICROSECONDS), error)

    def run(self) -> None:
        """Send what is due, as it comes, until `stop` is called.

        A store that cannot be reached for now is tried again.
        """
        is_blind = False
        while not self._stopping.is_set():
            try:
                self.send_due()
                is_blind = False
            except StoreError as error:
                if not is_blind:
                    log.warning("webhooks wait for the store: %s", error)
                is_blind = True
            self._stopping.wait(self._poll)

    async def run_async(self) -> None:
        """Do what `run` does, in a thread, until this is cancelled or `stop` is called."""
        import asyncio

        running = asyncio.create_task(asyncio.to_thread(self.run))
        try:
            await asyncio.shield(running)
        finally:
            self.stop()
            await running

    def stop(self) -> None:
        """Let it end once the attempts that are being made have ended."""
        self._stopping.set()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.run, name="aumai-webhooks", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join()
