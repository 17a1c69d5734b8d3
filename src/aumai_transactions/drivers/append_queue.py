"""How concurrent transactions share one durable write (group commit), with threads.

Owns: the queue in front of a store's `append`. Each append in a batch has its own answer.
Source: group commit with a leader, as in most databases since the 1980s (DeWitt et al.,
"Implementation Techniques for Main Memory Database Systems", 1984). There is no thread of its
own: whoever comes first writes for everybody who came meanwhile.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aumai_transactions.errors import InternalError, StoreUnavailable

if TYPE_CHECKING:
    from aumai_transactions.store import Append, AppendAnswer, Store

BATCH_MAX = 512


@dataclass(slots=True, eq=False)
class _Waiting:
    append: Append
    answer: AppendAnswer | None = None
    error: BaseException | None = None


class AppendQueue:
    """Let threads share durable writes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._writing = threading.Lock()
        self._guard = threading.Lock()
        self._waiting: list[_Waiting] = []

    def append(self, append: Append) -> AppendAnswer:
        """Make one append durable, together with those that wait at the same time."""
        mine = _Waiting(append)
        with self._guard:
            self._waiting.append(mine)
        with self._writing:
            # Whoever gets here writes what has gathered; it may have been written meanwhile.
            while mine.answer is None and mine.error is None:
                self._write_batch()
        if mine.error is not None:
            raise own_copy(mine.error)
        if mine.answer is None:
            message = "an append was neither answered nor refused."
            raise InternalError(message)
        return mine.answer

    def _write_batch(self) -> None:
        with self._guard:
            batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
        try:
            answers = self._store.append([item.append for item in batch])
        except BaseException as error:
            # Why everybody: the batch is one durable write, so what is unknown of it is unknown
            # to each member.
            for item in batch:
                item.error = error
            if not isinstance(error, Exception):
                raise
        else:
            for item, answer in zip(batch, answers, strict=True):
                item.answer = answer


def own_copy(error: BaseException) -> BaseException:
    """Return an exception of its own for each waiter, so that tracebacks do not mix."""
    if isinstance(error, StoreUnavailable):
        copy: BaseException = StoreUnavailable(str(error), outcome_unknown=error.outcome_unknown)
    elif isinstance(error, Exception):
        return error
    else:
        copy = StoreUnavailable(
            f"the write was interrupted by {type(error).__name__}.", outcome_unknown=True
        )
    copy.__cause__ = error
    return copy
