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
    from aumai_transactions.store import Append, AppendAnswer, Prompt, Store

BATCH_MAX = 512


@dataclass(slots=True, eq=False)
class _Waiting:
    append: Append
    outcome: AppendAnswer | Exception | None = None


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
            while mine.outcome is None:
                self._write_batch()
        if isinstance(mine.outcome, Exception):
            raise mine.outcome
        return mine.outcome

    def _write_batch(self) -> None:
        batch: list[_Waiting] = []
        try:
            with self._guard:
                batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
            outcomes = written(self._store, [item.append for item in batch])
            for item, outcome in zip(batch, outcomes, strict=True):
                item.outcome = outcome
        finally:
            # Invariant: nobody whose append was taken out of the queue is left without an
            # outcome, whatever interrupts the one who writes for all.
            for item in batch:
                if item.outcome is None:
                    item.outcome = StoreUnavailable(
                        "the write was interrupted.", outcome_unknown=True
                    )


def written(store: Store, appends: list[Append]) -> list[AppendAnswer | Exception]:
    """Append, and return for each append its own answer, or its own exception.

    An append that cannot be written for a reason of its own does not take the others along.
    """
    try:
        return _one_for_each(store.append(appends), appends)
    except StoreUnavailable as error:
        return _for_everybody(error, appends)
    except Exception as error:  # noqa: BLE001 (raised again by whoever waits for it)
        if len(appends) == 1:
            return [error]
        return [written(store, [append])[0] for append in appends]


def written_at_once(store: Prompt, appends: list[Append]) -> list[AppendAnswer | Exception] | None:
    """Do the same while waiting for nobody but the disk; None where nothing was written so."""
    try:
        answers = store.append_at_once(appends)
    except StoreUnavailable as error:
        return _for_everybody(error, appends)
    except Exception as error:  # noqa: BLE001 (raised again by whoever waits for it)
        return [error] if len(appends) == 1 else None
    return None if answers is None else _one_for_each(answers, appends)


def _one_for_each(
    answers: list[AppendAnswer], appends: list[Append]
) -> list[AppendAnswer | Exception]:
    if len(answers) != len(appends):
        message = f"a store gave {len(answers)} answers to {len(appends)} appends."
        return [InternalError(message) for _append in appends]
    return list(answers)


def _for_everybody(
    error: StoreUnavailable, appends: list[Append]
) -> list[AppendAnswer | Exception]:
    """Return the same for each: it is one durable write, so what is unknown of it is so to all."""
    return [_own_copy(error) for _append in appends]


def _own_copy(error: StoreUnavailable) -> StoreUnavailable:
    """Return an exception of its own for each waiter, so that tracebacks do not mix."""
    copy = StoreUnavailable(str(error), outcome_unknown=error.outcome_unknown)
    copy.__cause__ = error
    return copy
