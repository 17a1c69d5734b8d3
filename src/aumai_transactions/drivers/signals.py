"""What SIGTERM means while a transaction is open.

Owns: that it ends the program by way of its blocks, so that what they did is undone; by itself it
would end the process at once, and leave that to recovery.
Rules:
  1. Whoever has a handler of their own keeps it: nothing is changed then.
"""

from __future__ import annotations

import signal
import threading
from typing import Any, NoReturn

EXIT_CODE = 128 + signal.SIGTERM


class Terminable:
    """Let SIGTERM raise `SystemExit` in the main thread, until it is over."""

    def __init__(self) -> None:
        self._is_set = False
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _end)
            self._is_set = True

    def over(self) -> None:
        """Let SIGTERM mean what it meant before."""
        if self._is_set and signal.getsignal(signal.SIGTERM) is _end:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end(_signal: int, _frame: Any) -> NoReturn:
    raise SystemExit(EXIT_CODE)
