"""Who waits for what others append.

Owns: the one connection of a handle that listens, and how the threads that wait share it.
Rules:
  1. News are hints. What was missed while nobody listened is found by whoever looks again.
  2. There is no thread of its own: one of those who wait reads the socket for all of them.
"""

from __future__ import annotations

from threading import Condition, Event, Lock
from time import monotonic
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql

from aumai_transactions.errors import StoreError
from aumai_transactions.stores.postgres.connections import Connection, connect
from aumai_transactions.stores.postgres.pool import forget_socket

if TYPE_CHECKING:
    from aumai_transactions.stores.postgres.address import Address

RETRY_SECONDS: Final = 1.0
# How long one thread reads before another may take its place, or sees that the handle is closed.
TURN_SECONDS_MAX: Final = 1.0


class News:
    """Wait for notifications.

    Args:
        address: The store.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        # Why beside it: Python enters a lock in one go, and a condition not; see `pool.py`.
        self._guard = Lock()
        self._changed = Condition(self._guard)
        self._connection: Connection | None = None
        self._count = 0
        self._was_missed = False
        self._is_led = False
        self._is_closed = False

    def wait(self, seconds: float) -> bool:
        """Wait until something was appended, or the time is over; tell which it was."""
        until = monotonic() + seconds
        has_looked = False
        with self._guard:
            if self._was_missed:
                self._was_missed = False
                return True
            seen = self._count
        while True:
            with self._guard:
                while self._is_led and self._count == seen and not self._is_closed:
                    left = until - monotonic()
                    if left <= 0 or not self._changed.wait(left):
                        return self._count != seen
                left = until - monotonic()
                if self._count != seen:
                    return True
                if self._is_closed or (left <= 0 and has_looked):
                    return False
                self._is_led = has_looked = True
            self._lead(min(max(left, 0), TURN_SECONDS_MAX))

    def _lead(self, seconds: float) -> None:
        """Read the socket for everybody who waits."""
        has_news = False
        try:
            has_news = self._read(seconds)
        finally:
            with self._guard:
                self._is_led = False
                self._count += has_news
                if self._is_closed:
                    self._hang_up()
                self._changed.notify_all()

    def _read(self, seconds: float) -> bool:
        try:
            if self._connection is None:
                self._connection = self._listening()
                # What came before anybody listened was not heard: let them look.
                return True
            return bool(list(self._connection.notifies(timeout=seconds, stop_after=1)))
        except (psycopg.Error, StoreError, OSError):
            # Why no error: whoever waits looks again anyway, and is told by the look.
            self._hang_up()
            Event().wait(min(seconds, RETRY_SECONDS))
            return False

    def _listening(self) -> Connection:
        connection, _, _ = connect(self._address)
        try:
            listening = sql.SQL("LISTEN {}").format(sql.Identifier(self._address.channel))
            connection.execute(listening)
        except BaseException:
            connection.close()
            raise
        return connection

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def drain(self) -> None:
        """Read what has come where nobody waits: an unread socket holds up the server."""
        with self._guard:
            if self._is_led or self._connection is None:
                return
            self._is_led = True
            before = self._count
        self._lead(0)
        with self._guard:
            # Whoever waits next is told of what came while nobody did.
            self._was_missed = self._was_missed or self._count != before

    def close(self) -> None:
        """Let everybody who waits go."""
        with self._guard:
            self._is_closed = True
            if not self._is_led:
                self._hang_up()
            self._changed.notify_all()

    def forget(self) -> None:
        """Close the socket of a child of fork, without a word on it."""
        if self._connection is not None:
            forget_socket(self._connection)
