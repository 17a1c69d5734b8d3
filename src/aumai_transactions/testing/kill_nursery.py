"""How processes are started that are there to be killed.

Owns: `Nursery` and `Victim` in the process that kills, `serve` in the one that starts them.
Rules:
  1. A victim is a fork of a process that has imported everything, has opened nothing and has one
     thread: as fresh as a new interpreter, and 0.3 s faster.
  2. Every wait is for a pipe, a process, or both, and has a bound. Nothing is polled, no moment
     is waited for: a victim says by a line how far it is.
  3. Dead is what the kernel says: a victim counts as killed when it was reaped with SIGKILL.
"""

from __future__ import annotations

import faulthandler
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

SECONDS_MAX = 60.0
_MESSAGE_BYTES_MAX = 65_536


class VictimFailed(Exception):
    """Say that a victim ended, or said nothing for too long, where it should not have."""


class Victim:
    """Hold one process that may be killed.

    Args:
        nursery: Who started it.
        pid: Its process id.
        reports: The pipe on which it reports.
        leash: The pipe whose end it waits for before it goes home.
    """

    def __init__(self, nursery: Nursery, pid: int, reports: int, leash: int) -> None:
        self.pid = pid
        self.status: int | None = None
        self._nursery = nursery
        self._reports = reports
        self._leash: int | None = leash
        self._lines: deque[str] = deque()
        self._rest = b""

    def next_line(self, seconds: float = SECONDS_MAX) -> str | None:
        """Return the next report; None where the victim has ended."""
        while not self._lines:
            if not select.select([self._reports], [], [], seconds)[0]:
                # It then writes the stacks of all its threads to stderr, for whoever looks into it.
                self.send(signal.SIGUSR1)
                select.select([self._reports], [], [], 1)
                raise VictimFailed(f"process {self.pid} said nothing for {seconds:g} s")
            content = os.read(self._reports, 1 << 16)
            if not content:
                return None
            *whole, self._rest = (self._rest + content).split(b"\n")
            self._lines.extend(line.decode() for line in whole)
        return self._lines.popleft()

    def says(self, wanted: str, seconds: float = SECONDS_MAX) -> bool:
        """Wait for this report; false where the victim has ended without it."""
        while (line := self.next_line(seconds)) is not None:
            if line == wanted:
                return True
        return False

    def wait_for(self, wanted: str, seconds: float = SECONDS_MAX) -> list[str]:
        """Wait for this report; return those before it."""
        before: list[str] = []
        while (line := self.next_line(seconds)) != wanted:
            if line is None:
                raise VictimFailed(f"process {self.pid} ended before it said {wanted!r}: {before}")
            before.append(line)
        return before

    def release(self) -> None:
        """Let the victim go on to its natural end."""
        leash, self._leash = self._leash, None
        if leash is not None:
            os.close(leash)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL, and wait until the kernel says that this is what it died of.

        Raises:
            VictimFailed: It had ended by itself.
        """
        self.send(signal.SIGKILL)
        if self.reap() != -signal.SIGKILL:
            raise VictimFailed(f"process {self.pid} had ended by itself: {self.status}")

    def finish(self, seconds: float = SECONDS_MAX) -> list[str]:
        """Let it go on, wait until it has ended well, and return what it reported until then."""
        self.release()
        reported = []
        while (line := self.next_line(seconds)) is not None:
            reported.append(line)
        if self.reap() != 0:
            raise VictimFailed(f"process {self.pid} ended with {self.status}: {reported[-5:]}")
        return reported

    def reap(self) -> int:
        """Wait until it is dead; return its exit status, negative for a signal."""
        if self.status is None:
            self.status = self._nursery.reap(self.pid)
            self.release()
            os.close(self._reports)
        return self.status


class Nursery:
    """Start victims.

    Args:
        program: What runs `serve` on the socket whose descriptor is its last argument.
    """

    def __init__(self, program: Sequence[str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._alive: dict[int, Victim] = {}
        with theirs:
            argv = [sys.executable, *program, str(theirs.fileno())]
            self._process = subprocess.Popen(argv, pass_fds=(theirs.fileno(),))
        self._socket.settimeout(SECONDS_MAX)

    def start(self, **orders: Any) -> Victim:
        """Start a victim with these orders."""
        reports, their_reports = os.pipe()
        their_leash, leash = os.pipe()
        message = json.dumps({"start": orders}).encode()
        try:
            socket.send_fds(self._socket, [message], [their_reports, their_leash])
            pid = self._answer()
        finally:
            os.close(their_reports)
            os.close(their_leash)
        self._alive[pid] = Victim(self, pid, reports, leash)
        return self._alive[pid]

    def reap(self, pid: int) -> int:
        """Wait until a victim is dead; return its exit status, negative for a signal."""
        self._socket.send(json.dumps({"reap": pid}).encode())
        status = self._answer()
        del self._alive[pid]
        return status

    def close(self) -> None:
        """Kill every victim that is left, by its own id, and end the process that forks."""
        for victim in list(self._alive.values()):
            victim.send(signal.SIGKILL)
            victim.reap()
        self._socket.close()
        self._process.wait(SECONDS_MAX)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _answer(self) -> int:
        content = self._socket.recv(_MESSAGE_BYTES_MAX)
        if not content:
            raise VictimFailed("the process that starts victims has ended")
        return int(json.loads(content))


class Reporter:
    """Let a victim say how far it is, and wait to be released."""

    def __init__(self, reports: int, leash: int) -> None:
        self._reports = reports
        self._leash = leash

    def say(self, line: str) -> None:
        """Report, with one system call."""
        os.write(self._reports, line.encode() + b"\n")

    def is_released(self) -> bool:
        """Tell whether the victim may go home."""
        return bool(select.select([self._leash], [], [], 0)[0])

    def wait(self) -> None:
        """Stand still until released; most are killed here."""
        select.select([self._leash], [], [])


def serve(descriptor: int, run: Callable[[Reporter, Mapping[str, Any]], None]) -> None:
    """Fork victims as ordered, until nobody orders any more.

    Args:
        descriptor: The socket on which orders come.
        run: What a victim does.
    """
    with socket.socket(fileno=descriptor) as orders:
        while True:
            content, passed, _, _ = socket.recv_fds(orders, _MESSAGE_BYTES_MAX, 2)
            if not content:
                return
            order = json.loads(content)
            if "reap" in order:
                _, status = os.waitpid(order["reap"], 0)
                answer = os.waitstatus_to_exitcode(status)
            else:
                answer = os.fork()
                if answer == 0:
                    orders.close()
                    _live(run, Reporter(*passed), order["start"])
            for number in passed:
                os.close(number)
            orders.send(json.dumps(answer).encode())


def _live(
    run: Callable[[Reporter, Mapping[str, Any]], None],
    reporter: Reporter,
    orders: Mapping[str, Any],
) -> None:
    """Be the victim; never return."""
    code = 1
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    try:
        run(reporter, orders)
        code = 0
    except BaseException:  # noqa: BLE001 (a fork must never go on as its parent; it is printed)
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)
