"""Whether a write is short enough for an event loop to wait for it.

Owns: that judgement, from how long the last such writes have waited.
"""

from __future__ import annotations

from time import monotonic, perf_counter, thread_time
from typing import TYPE_CHECKING, cast

from aumai_transactions.drivers.append_queue import written_at_once

if TYPE_CHECKING:
    from aumai_transactions.store import Append, AppendAnswer, Prompt, Store

PROMPT_SECONDS = 0.005
"""For how long at most, on average, a write may wait for the disk. To hand it to a thread costs as
much: one that comes back from the disk waits for so long until a busy loop lets it go on
(`sys.getswitchinterval`), and does so for each statement of a write."""
_WEIGHT = 0.125
_FIRST_PAUSE_SECONDS = 1.0
_LAST_PAUSE_SECONDS = 60.0


class Promptness:
    """Write in the loop where that is short, and know whether it is.

    Args:
        store: The store; one that does not say what waits for nobody is never written so.
    """

    def __init__(self, store: Store) -> None:
        self._store = cast("Prompt", store) if _is_prompt(type(store)) else None
        self._seconds = 0.0
        self._pause = _FIRST_PAUSE_SECONDS
        self._until = 0.0

    def is_given(self) -> bool:
        """Tell whether the next write may be waited for.

        It may also now and then where the last ones took long, for else that would never change.
        """
        if self._store is None:
            return False
        return self._seconds <= PROMPT_SECONDS or monotonic() >= self._until

    def written(self, appends: list[Append]) -> list[AppendAnswer | Exception] | None:
        """Append here; None where nothing was appended, and a thread has to do it."""
        if self._store is None or not self.is_given():
            return None
        begun, worked = perf_counter(), thread_time()
        outcomes = written_at_once(self._store, appends)
        if outcomes is not None:
            # Why not what it worked: that is done in this process in any case.
            self.note((perf_counter() - begun) - (thread_time() - worked))
        return outcomes

    def note(self, seconds: float) -> None:
        """Take note of how long a write has waited."""
        was_slow = self._seconds > PROMPT_SECONDS
        # Why so: what is rarely looked at counts by itself.
        self._seconds += (seconds - self._seconds) * (1 if was_slow else _WEIGHT)
        if self._seconds <= PROMPT_SECONDS:
            self._pause = _FIRST_PAUSE_SECONDS
            return
        if was_slow:
            self._pause = min(self._pause * 2, _LAST_PAUSE_SECONDS)
        self._until = monotonic() + self._pause


def _is_prompt(kind: type) -> bool:
    """Tell whether stores of a class have `append_at_once`, and nobody means `append` instead.

    Who wraps a store and passes on what it does not know, or overrides only `append`, means that.
    """
    for one in kind.__mro__:
        if "append_at_once" in vars(one):
            return True
        if "append" in vars(one):
            return False
    return False
