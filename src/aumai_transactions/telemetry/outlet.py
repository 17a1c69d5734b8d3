"""The thread that hands on what was seen.

Owns: that whoever drives a transaction never waits for an exporter: it leaves a note, and goes on.
Rules:
  1. What cannot be kept any more is dropped, counted and logged; nobody waits for room.
  2. The thread is a daemon. At the end of the program it is waited for, but only so long.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading
import weakref
from collections.abc import Callable

from aumai_transactions.forking import watch

WAITING_MAX = 20_000
EXIT_SECONDS_MAX = 5.0

log = logging.getLogger("aumai_transactions.telemetry")

Note = Callable[[], object]


class Outlet:
    """Carry notes out in a thread of its own, in order."""

    def __init__(self, waiting_max: int = WAITING_MAX) -> None:
        self.dropped = 0
        self._waiting_max = waiting_max
        self._fresh()
        watch(self)

    def _fresh(self) -> None:
        self._notes: queue.Queue[Note] = queue.Queue(self._waiting_max)
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._has_raised = False

    def after_fork_in_child(self) -> None:
        """Begin anew: the thread, and what it had to hand on, is the parent's."""
        self._fresh()

    def put(self, note: Note) -> None:
        """Leave a note; return at once."""
        try:
            self._notes.put_nowait(note)
        except queue.Full:
            self.dropped += 1
            if self.dropped == 1:
                log.warning("telemetry is dropped: an exporter is too slow, or hangs")
            return
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._guard:
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._work, name="aumai-telemetry", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return  # No thread can be started now; the next note tries again.
            self._thread = thread
            # Why now, and not when this was made: what is registered last is called first, and the
            # provider that takes the notes has been made by now.
            atexit.register(_end, weakref.ref(self), os.getpid())

    def _work(self) -> None:
        notes = self._notes
        while True:
            note = notes.get()
            try:
                note()
            except Exception:
                if not self._has_raised:
                    self._has_raised = True
                    log.exception("telemetry could not be handed on; no outcome depends on it")
            finally:
                notes.task_done()

    def flush(self, seconds: float) -> bool:
        """Wait until every note so far is carried out, but only so long; tell whether it was."""
        if self._thread is None or threading.current_thread() is self._thread:
            return self._notes.empty()
        done = threading.Event()
        try:
            self._notes.put(done.set, timeout=seconds)
        except queue.Full:
            return False
        return done.wait(seconds)


def _end(outlet: weakref.ref[Outlet], pid: int) -> None:
    found = outlet()
    if found is not None and os.getpid() == pid and not found.flush(EXIT_SECONDS_MAX):
        log.warning("telemetry was not all handed on before the program ended")
