"""What SIGTERM means while a transaction is open.

Owns: that it ends the program by way of its blocks, so that what they did is undone; by itself it
would end the process at once, and leave that to recovery.
Rules:
  1. Whoever has a handler of their own keeps it: nothing is changed then.
  2. It lasts until the last open block has ended, in whichever order they end.
  3. An event loop is told between two callbacks: an exception that hits it anywhere may make it
     forget whom it was about to wake.
  4. Python drops what is raised while an object is being let go of. A signal that comes then comes
     again a moment later.
  5. A loop hears of a signal later than Python. What Python has heard of while a block was open
     ends the program, even if the block is over when the loop comes to it.
"""

from __future__ import annotations

import _thread
import _weakrefset
import os
import signal
import threading
import weakref
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import asyncio
    from types import FrameType

EXIT_CODE = 128 + signal.SIGTERM

_AGAIN_SECONDS = 0.001
_LETS_GO = {weakref.__file__, _weakrefset.__file__}

_open: dict[Terminable, asyncio.AbstractEventLoop | None] = {}
"""The blocks that are open in the main thread, with the loop that is told for them, if one is."""

_heard: list[int] = []
"""The signals that Python has heard of, and the loop has not been told of yet."""


class Terminable:
    """Let SIGTERM raise `SystemExit` in the main thread, until it is over.

    Args:
        loop: The event loop that runs in this thread, where the block is one of its tasks'.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        if _open:
            _open[self] = next(iter(_open.values()))
        elif signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            _open[self] = loop if loop is not None and _is_told(loop) else None
            if _open[self] is None:
                signal.signal(signal.SIGTERM, _end_at_once)

    def over(self) -> None:
        """Let SIGTERM mean what it meant before, unless another block is open."""
        if self not in _open:
            return
        loop = _open.pop(self)
        if _open or threading.current_thread() is not threading.main_thread():
            return
        if loop is None:
            if signal.getsignal(signal.SIGTERM) is _end_at_once:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
        elif not loop.is_closed():
            # Python calls its handler of whatever has come, before it changes it.
            loop.remove_signal_handler(signal.SIGTERM)
            if _heard:
                loop.call_soon(_end)


def _is_told(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        loop.add_signal_handler(signal.SIGTERM, _end)
    except (NotImplementedError, RuntimeError):
        return False  # Not every loop can be told, on every system.
    _heard.clear()  # What an earlier loop was not told of any more is none of this one's.
    # The loop's own handler does nothing; what wakes the loop is no handler, and stays.
    signal.signal(signal.SIGTERM, _hear)
    return True


def _hear(number: int, _frame: Any) -> None:
    _heard.append(number)


def _end_at_once(_signal: int, frame: FrameType | None) -> None:
    if _is_dropped(frame):
        # Why not a Thread: what the signal has hit may be in the midst of that very module.
        _thread.start_new_thread(_come_again, ())
        return
    _end()


def _is_dropped(frame: FrameType | None) -> bool:
    """Tell whether Python may drop what is raised here."""
    while frame is not None:
        if frame.f_code.co_name == "__del__" or frame.f_code.co_filename in _LETS_GO:
            return True
        frame = frame.f_back
    return False


def _come_again() -> None:
    threading.Event().wait(_AGAIN_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def _end() -> NoReturn:
    _heard.clear()
    raise SystemExit(EXIT_CODE)
