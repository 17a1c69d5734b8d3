"""A program on this machine, run once: started, fed, watched and ended.

Owns: the line between "not started" and "started", and the end of everything that was.
Rules:
  1. The program runs in a session of its own, so a Ctrl-C at the terminal reaches the driver
     and not the program: what is being undone is not interrupted half-way. When the
     driver gives up on it, everything in its process group is killed.
  2. Its output is always read to the end, so that no full pipe stops it, and kept up to a limit.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from aumai_transactions.core.values import VALUE_BYTES_MAX

# Why one more than a value may have: what is larger is seen to be, and becomes a warning in
# the result instead of being cut off in silence.
OUTPUT_BYTES_MAX = VALUE_BYTES_MAX + 1
ERROR_BYTES_MAX = 65_536
CHUNK_BYTES = 65_536

# How long to wait for the end of the output once the program itself has ended: something
# that it left running in the background may hold the pipe open for ever.
LEFTOVER_SECONDS_MAX = 1.0
KILLED_SECONDS_MAX = 5.0


class Lost(Exception):
    """Say that a program was started, and that nobody knows what it did; it is dead."""


@dataclass(slots=True, frozen=True)
class Run:
    """Hold how a program ended, and what it wrote.

    Args:
        exit_code: Negative where a signal killed it.
        output: The beginning of its standard output.
        errors: The end of its standard error.
    """

    exit_code: int
    output: bytes
    errors: bytes


class _Reader(threading.Thread):
    """Read a pipe to its end and keep the first, or the last, bytes of it."""

    def __init__(self, pipe: IO[bytes], *, first_max: int = 0, last_max: int = 0) -> None:
        super().__init__(name="aumai-command-output", daemon=True)
        self._pipe = pipe
        self._first_max = first_max
        self._last_max = last_max
        self.kept = bytearray()

    def run(self) -> None:
        with self._pipe:
            while chunk := self._pipe.read(CHUNK_BYTES):
                if self._last_max:
                    self.kept = (self.kept + chunk)[-self._last_max :]
                else:
                    self.kept += chunk[: self._first_max - len(self.kept)]


def started(
    argv: Sequence[str], folder: str | None, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a program.

    Raises:
        OSError: It was not started.
        ValueError: The same.
    """
    return subprocess.Popen(
        argv,
        bufsize=0,
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def watched(process: subprocess.Popen[bytes], body: bytes, timeout_seconds: float) -> Run:
    """Feed a started program, wait for its end and return it.

    Raises:
        Lost: It was still running at the timeout, or watching it failed; it is dead.
    """
    deadline = time.monotonic() + timeout_seconds
    unwatched = [pipe for pipe in (process.stdout, process.stderr, process.stdin) if pipe]
    watching: list[threading.Thread] = []
    try:
        output = _Reader(unwatched[0], first_max=OUTPUT_BYTES_MAX)
        errors = _Reader(unwatched[1], last_max=ERROR_BYTES_MAX)
        writer = threading.Thread(
            target=_feed, args=(unwatched[2], body), name="aumai-command-input", daemon=True
        )
        for thread in (output, errors, writer):
            # Order matters: from here on the thread closes it, also where an interrupt comes
            # before the next line.
            pipe = unwatched.pop(0)
            try:
                thread.start()
            except RuntimeError:
                pipe.close()
                raise
            watching.append(thread)
        exit_code = process.wait(max(deadline - time.monotonic(), 0))
        _await_end((output, errors))
        return Run(exit_code, bytes(output.kept), bytes(errors.kept))
    except subprocess.TimeoutExpired:
        _kill(process, watching)
        message = f"it had not ended after {timeout_seconds:g} s, and was killed"
        raise Lost(message) from None
    except Exception as error:
        # Why: the program ran; a fault in watching it is no "not done".
        _kill(process, watching)
        message = f"it was started, and then lost: {error!r:.200}"
        raise Lost(message) from error
    except BaseException:
        _kill(process, watching)
        raise
    finally:
        for pipe in unwatched:
            pipe.close()


def _feed(pipe: IO[bytes], body: bytes) -> None:
    left = memoryview(body)
    try:
        with pipe:
            while left:
                left = left[pipe.write(left) :]
    except (BrokenPipeError, ConnectionResetError, OSError):
        return  # Why no error: a program need not read its input; its exit code says the rest.


def _await_end(threads: Sequence[threading.Thread]) -> None:
    until = time.monotonic() + LEFTOVER_SECONDS_MAX
    for thread in threads:
        thread.join(max(until - time.monotonic(), 0))


def _kill(process: subprocess.Popen[bytes], watching: Sequence[threading.Thread]) -> None:
    """Kill the whole group, and wait until its pipes are closed: nothing of it runs then."""
    # Why poll first: the number of a process that was waited for may belong to another by now.
    if process.poll() is not None:
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (AttributeError, ProcessLookupError, PermissionError):
        process.kill()
    try:
        process.wait(KILLED_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        return  # Why no error: it is stuck in the kernel; the outcome is unknown either way.
    _await_end(watching)
