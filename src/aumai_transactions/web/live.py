"""What changes in a store, told to whoever listens.

Owns: one watcher for all who listen in this process, and how they are told.
Rules:
  1. The store is asked only while somebody listens, four times a second at most, and not at all
     where its change counter stands still.
  2. Nobody waits for a slow listener: whoever does not keep up is dropped, and comes back.
  3. What was told is numbered by the store's change counter, so whoever comes back says what they
     have heard last; where that is too long ago, they are told to look at everything again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from aumai_transactions.errors import StoreError
from aumai_transactions.models import TransactionState
from aumai_transactions.store import Query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aumai_transactions.core.outcome import Attention, Summary
    from aumai_transactions.store import Listed, Store

log = logging.getLogger("aumai_transactions.web")

LOOK_SECONDS = 0.25
LISTENERS_MAX = 64
QUEUE_MAX = 1_000
REMEMBERED_MAX = 5_000
PLACES_MAX = 2**53
LINES_MAX = 5_000
"""How many new lines, and how many unfinished ones, one look takes in; of more, only that there was
something is told."""

_UNFINISHED = tuple(state for state in TransactionState if not state.is_final)


class Number(NamedTuple):
    """Number what is told: by the store's change counter, and within one look of it.

    Args:
        changes: The counter.
        place: Which of what was seen at that.
    """

    changes: int
    place: int

    def __str__(self) -> str:
        """Tell it as an event id."""
        return f"{self.changes}.{self.place}"


def number_of(text: str) -> Number | None:
    """Return the number that an event id names; None where it names none."""
    changes, _, place = text.partition(".")
    is_number = changes.isdecimal() and changes.isascii() and len(changes) < 20
    if not is_number or not (place.isdecimal() and place.isascii() and len(place) < 20):
        return None
    return Number(int(changes), int(place))


class Change(NamedTuple):
    """Tell of one transaction that has changed.

    Args:
        number: Behind what was told before it.
        summary: What lists tell of it now; None where everything is to be looked at again.
        sequence: The place of its last entry; None where there was too much to look at.
    """

    number: Number
    summary: Summary | None
    sequence: int | None


class Listener:
    """Be one who listens; made by `Live.listen`."""

    def __init__(self) -> None:
        self._heard: asyncio.Queue[Change | None] = asyncio.Queue(QUEUE_MAX)
        self.is_dropped = False

    def tell(self, change: Change) -> None:
        """Tell of a change; drop who does not keep up."""
        try:
            self._heard.put_nowait(change)
        except asyncio.QueueFull:
            self.drop()

    def drop(self) -> None:
        """Let nothing more be heard."""
        self.is_dropped = True
        while not self._heard.empty():
            self._heard.get_nowait()
        self._heard.put_nowait(None)

    def forget(self) -> None:
        """Forget what is heard already: whoever looks at everything again has seen it."""
        while not self.is_dropped and not self._heard.empty():
            self._heard.get_nowait()

    async def next(self, seconds: float) -> Change | None:
        """Return the next change; None where there was none for so long, or none comes any more."""
        if self.is_dropped and self._heard.empty():
            return None
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._heard.get(), seconds)
        return None


class Live:
    """Watch a store for all who listen.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._listeners: set[Listener] = set()
        self._told: deque[Change] = deque(maxlen=REMEMBERED_MAX)
        self._known: dict[str, Summary] = {}
        self._position = -1
        self._changes = -1
        self._again = False
        self._since: Number | None = None
        self._last = Number(0, 0)
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        self._turn = Lock()

    @property
    def streams(self) -> int:
        """How many listen."""
        return len(self._listeners)

    @property
    def is_full(self) -> bool:
        """True where no more can listen."""
        return self._is_closed or len(self._listeners) >= LISTENERS_MAX

    @contextlib.contextmanager
    def listen(self, last: Number | None = None) -> Iterator[Listener]:
        """Listen until the block is left.

        Args:
            last: The last change that was heard before; None for what comes from now on.
        """
        listener = Listener()
        if last is not None:
            for change in self._missed(last):
                listener.tell(change)
        self._listeners.add(listener)
        if self._task is None:
            self._task = asyncio.create_task(self._watch())
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            if not self._listeners and self._task is not None:
                self._task.cancel()
                self._task = None

    def close(self) -> None:
        """Let nobody listen any more."""
        self._is_closed = True
        for listener in self._listeners:
            listener.drop()

    def _missed(self, last: Number) -> list[Change]:
        if self._since is None or last < self._since:
            # Why not from the beginning: this process does not know what was told by another one.
            return [Change(last, None, None)]
        return [change for change in self._told if change.number > last]

    async def _watch(self) -> None:
        while True:
            try:
                seen = await asyncio.to_thread(self._look)
            except StoreError as error:
                log.warning("what changes cannot be seen now: %s", error)
                seen = []
            for change in seen:
                if len(self._told) == REMEMBERED_MAX:
                    self._since = self._told[0].number
                self._told.append(change)
                for listener in self._listeners:
                    listener.tell(change)
            await asyncio.sleep(LOOK_SECONDS)

    def _look(self) -> list[Change]:
        """Return what has changed since the last look."""
        # Why the lock: a look whose watcher has gone may go on beside the next one's.
        with self._turn:
            return self._looked()

    def _looked(self) -> list[Change]:
        changes = self._store.changes()
        if changes == self._changes and not self._again:
            return []
        # Why once more: a counter may move before what it counts can be seen.
        self._again = changes != self._changes
        is_first = self._changes < 0
        # Order matters: the counter is read first, so that what comes meanwhile is seen next time.
        lines, is_whole = self._lines(is_first=is_first)
        self._changes = changes
        if is_first:
            # Why behind all of this counter: another process may have told of some of it.
            self._since = Number(changes, PLACES_MAX)
            self._known = {one.summary.transaction_id: one.summary for one in lines}
            return []
        if not is_whole:
            known = (one.summary for one in lines)
            self._known = {one.transaction_id: one for one in known if _stays(one)}
            return [Change(self._next(changes), None, None)]
        return [
            Change(self._next(changes), summary, self._sequence_of(summary.transaction_id))
            for summary in self._changed(lines)
        ]

    def _next(self, changes: int) -> Number:
        last = self._last
        self._last = Number(changes, last.place + 1 if last.changes == changes else 1)
        return self._last

    def _lines(self, *, is_first: bool) -> tuple[list[Listed], bool]:
        """Return what may have changed, and whether that is all of it."""
        newest = self._store.find(Query(newest_first=True, limit=1))
        last = newest[0].position if newest else 0
        new: list[Listed] = []
        if not is_first:
            new = self._store.find(Query(after=self._position, limit=LINES_MAX))
        unfinished = Query(states=_UNFINISHED, newest_first=True, limit=LINES_MAX)
        attention = Query(attention=True, newest_first=True, limit=LINES_MAX)
        lines = [*new, *self._store.find(unfinished), *self._store.find(attention)]
        self._position = max(last, new[-1].position if new else 0)
        return lines, len(new) < LINES_MAX

    def _changed(self, lines: list[Listed]) -> list[Summary]:
        now = {one.summary.transaction_id: one.summary for one in lines}
        for name in self._known.keys() - now.keys():
            # It has ended, and is on none of these lists any more.
            for one in self._store.find(Query(prefix=name, limit=1)):
                if one.summary.transaction_id == name:
                    now[name] = one.summary
        changed = [summary for name, summary in now.items() if self._known.get(name) != summary]
        self._known = {name: one for name, one in now.items() if _stays(one)}
        return sorted(changed, key=lambda summary: summary.updated_at)

    def _sequence_of(self, transaction_id: str) -> int | None:
        journal = self._store.read(transaction_id)
        return None if journal is None else journal.head_sequence


def _stays(summary: Summary) -> bool:
    """Tell whether a transaction may change yet, as far as anybody knows."""
    attention: Attention | None = summary.attention
    return not summary.state.is_final or attention is not None
