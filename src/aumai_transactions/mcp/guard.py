"""What is left of a gateway that was killed: servers that may still be writing.

    python -I guard.py FILE PROGRAM ARGUMENT…

Owns: a lock that each server keeps for as long as it, or what it has started, lives; and waiting
for those of dead gateways. Only when nobody writes any more may what was in doubt be undone: an
undo that comes before the late effect of a call would be overtaken by it.
Source: a lock by flock(2) belongs to the open file, which children inherit, and ends with the last
of them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import signal
import sys
import time
from pathlib import Path

GRACE_SECONDS = 5.0
POLL_SECONDS = 0.02


class Guards:
    """Hold the lock of this gateway, under which its servers stand.

    Args:
        folder: Where the locks of all gateways are.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self.file = folder / f"{os.getpid()}-{secrets.token_hex(8)}.servers"
        self._own = os.open(self._gateway_of(self.file), os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._own, fcntl.LOCK_EX)
        self.file.touch(mode=0o600)

    def settle(self) -> list[str]:
        """Wait until no server of a dead gateway lives any more; end those that will not.

        Returns:
            What had to be done, one sentence each.
        """
        notes = []
        for file in sorted(self._folder.glob("*.servers")):
            if file == self.file or not _is_dead(self._gateway_of(file)):
                continue
            notes += _ended(file)
            for left in (file, self._gateway_of(file)):
                left.unlink(missing_ok=True)
        return notes

    def close(self) -> None:
        """Let go of the lock, once the servers have been stopped."""
        os.close(self._own)
        for left in (self.file, self._gateway_of(self.file)):
            left.unlink(missing_ok=True)

    @staticmethod
    def _gateway_of(file: Path) -> Path:
        return file.with_suffix(".gateway")


def _is_dead(file: Path) -> bool:
    """True where the gateway that holds a lock is gone."""
    try:
        descriptor = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _ended(file: Path) -> list[str]:
    """Wait until the servers under a lock have ended; end those that have not by then."""
    notes: list[str] = []
    descriptor = os.open(file, os.O_RDWR)
    try:
        for patience, number in ((GRACE_SECONDS, signal.SIGTERM), (GRACE_SECONDS, signal.SIGKILL)):
            if _is_free(descriptor, patience):
                return notes
            # Each line is the group of a server that took the lock, which is held: the group lives.
            for line in file.read_text("utf-8").split():
                with contextlib.suppress(ProcessLookupError, PermissionError, ValueError):
                    os.killpg(int(line), number)
            notes.append(f"servers that a dead gateway had left were sent {number.name}")
        if not _is_free(descriptor, GRACE_SECONDS):
            notes.append("a server that a dead gateway had left cannot be ended; it may still act")
        return notes
    finally:
        os.close(descriptor)


def _is_free(descriptor: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(POLL_SECONDS)
        else:
            return True


def main() -> None:
    """Take the lock, and become the program."""
    file, program, *arguments = sys.argv[1:]
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    os.write(descriptor, f"{os.getpgrp()}\n".encode())
    os.set_inheritable(descriptor, True)  # noqa: FBT003 (it takes no name)
    try:
        os.execvp(program, [program, *arguments])  # noqa: S606 (no shell: the operator's own words)
    except OSError as error:
        sys.exit(f"{program} cannot be started: {error.strerror}")


if __name__ == "__main__":
    main()
