"""System calls of a living process: listened to, made to fail, or made its last ones.

Owns: `listen`, which attaches strace to a process, and what a line of its log says.
Rules:
  1. The process stands still when strace is attached, so that counting begins at what it does next.
  2. A fault names a call by its number among the calls of its name. Which call it hit is read from
     the log afterwards, and never assumed.
  3. Needs no privilege: a process may be traced by its own user (`may_be_traced` says so to kernels
     that let only parents trace).

Source of the idea: "fail at N = 1, 2, 3 … until the run succeeds", as SQLite tests itself
(How SQLite Is Tested, 3.2), by strace's tampering instead of a special build.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SECONDS_MAX = 60
CHANGING = (
    *("creat", "open", "openat", "write", "writev", "pwrite64", "pwritev", "copy_file_range"),
    *("sendfile", "fallocate", "ftruncate", "truncate", "fsync", "fdatasync", "sync_file_range"),
    *("link", "linkat", "rename", "renameat", "renameat2", "unlink", "unlinkat"),
    *("mkdir", "mkdirat", "rmdir", "symlink", "symlinkat"),
)
"""Calls that change files, their names, or what of both is durable."""
LOCKING = ("fcntl", "flock")
READING = ("pread64", "read", "readv", "preadv")
DATA_BYTES_MAX = 1 << 22
_OPENING = {"open", "openat", "creat"}
_LINE = re.compile(r"(?P<pid>\d+) +(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>.*)", re.DOTALL)
_DESCRIPTOR = re.compile(r"(-?\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>(\(deleted\))?")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_PR_SET_PTRACER = 0x59616D61
_ANYBODY = (1 << 64) - 1


class TracingFailed(Exception):
    """Say that strace could not do what a check needs of it."""


class Fault(NamedTuple):
    """Say what happens at which call.

    Args:
        name: The system call.
        number: Which one of that name, from 1.
        effect: `KILL` for SIGKILL before the call does anything, `STOP` for SIGSTOP there, else
            the name of the error that the call returns without having done anything.
        lasting: True where every later call of the name fails too.
    """

    name: str
    number: int
    effect: str
    lasting: bool = False

    def __str__(self) -> str:
        more = "+" if self.lasting else ""
        return f"{self.effect} at {self.name} {self.number}{more}"

    @property
    def injection(self) -> str:
        """What strace calls it."""
        kind = "signal" if self.effect in ("KILL", "STOP") else "error"
        more = "+" if self.lasting else ""
        return f"inject={self.name}:{kind}={self.effect}:when={self.number}{more}"


class Call(NamedTuple):
    """Hold one system call.

    Args:
        name: Its name.
        number: Which one of that name it was, from 1.
        path: The file that it was about; for a link or a renaming, the old name.
        to: The new name, for a link or a renaming.
        descriptor: The descriptor that it was about, or that it returned; None for a name.
        data: What it would write or, of names, nothing.
        offset: Where, for one that writes or cuts; None where the call does not say.
        arguments: All of them as strace shows them.
        result: What it returned; None where the process did not live to see it.
        tampered: True where the result is strace's doing.
    """

    name: str
    number: int
    path: str
    to: str
    descriptor: int | None
    data: bytes
    offset: int | None
    arguments: str
    result: int | None
    tampered: bool

    @property
    def changes(self) -> bool:
        """True where it could change what is stored."""
        if self.name in _OPENING:
            return any(flag in self.arguments for flag in ("O_WRONLY", "O_RDWR", "O_CREAT"))
        return self.name in CHANGING

    @property
    def creates(self) -> bool:
        """True where it makes the file unless it is there."""
        return self.name in _OPENING and "O_CREAT" in self.arguments


class Listening:
    """Hold what strace has written down; complete when the block of `listen` has ended."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.calls: list[Call] = []
        self._process = process
        self._log = log

    def let_go(self) -> None:
        """Detach: no call fails any more, and none is written down."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(SECONDS_MAX)

    def hit(self, fault: Fault) -> Call | None:
        """Return the call that a fault has hit; None where it has hit none."""
        for call in self.calls:
            if (call.name, call.number) == (fault.name, fault.number):
                return call
        return None


def may_be_traced() -> None:
    """Let other processes of this user trace this one, where the kernel asks for that (Yama)."""
    import ctypes

    # Why no look at the answer: a kernel without Yama knows no such option, and needs none.
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(_ANYBODY), 0, 0, 0)


@lru_cache(maxsize=1)
def why_not() -> str | None:
    """Return why processes cannot be listened to here; None where they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    code = (
        "import sys; from aumai_transactions.testing.storage_calls import may_be_traced\n"
        "may_be_traced(); print(flush=True); sys.stdin.read()"
    )
    source = str(Path(__file__).resolve().parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": source},
        text=True,
    ) as child:
        try:
            if child.stdout is not None:
                child.stdout.readline()
            with listen(child.pid):
                child.communicate(timeout=SECONDS_MAX)
        except TracingFailed as error:
            return str(error)
        finally:
            child.kill()
    return None


@contextmanager
def listen(
    pid: int, fault: Fault | None = None, *, names: Sequence[str] = CHANGING
) -> Iterator[Listening]:
    """Attach to a process that stands still; wait at the end of the block until it has ended.

    Args:
        pid: The process.
        fault: What is to happen to it.
        names: The calls that are written down.

    Raises:
        TracingFailed: strace cannot be attached.
    """
    with tempfile.TemporaryDirectory(prefix="aumai-calls-") as folder:
        log = Path(folder, "log")
        # Why the question marks: not every machine has every one of these calls.
        wanted = ",".join(f"?{name}" for name in dict.fromkeys([*names, *_names_of(fault)]))
        argv = ["strace", "-f", "-y", "-xx", "-s", str(DATA_BYTES_MAX), "-e", f"trace={wanted}"]
        argv += ["-e", "signal=none"]
        if fault is not None:
            argv += ["-e", fault.injection]
        argv += ["-o", str(log), "-p", str(pid)]
        with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
            try:
                _wait_until_attached(process)
                listening = Listening(process, log)
                yield listening
                process.wait(SECONDS_MAX)
            finally:
                process.kill()
        listening.calls = list(_calls(log.read_text("ascii", "replace")))


def _names_of(fault: Fault | None) -> list[str]:
    return [] if fault is None else [fault.name]


def _wait_until_attached(process: subprocess.Popen[str]) -> None:
    stream = process.stderr
    said = ""
    while stream is not None and select.select([stream], [], [], SECONDS_MAX)[0]:
        line = stream.readline()
        if "attached" in line:
            return
        said += line
        if not line:
            break
    raise TracingFailed(f"strace cannot be attached: {said.strip() or 'it says nothing'}")


def _calls(log: str) -> Iterator[Call]:
    counts: dict[str, int] = {}
    for line in log.splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            continue
        name = found["name"]
        counts[name] = counts.get(name, 0) + 1
        yield _call(name, counts[name], found["arguments"], found["result"])


def _call(name: str, number: int, arguments: str, result: str) -> Call:
    strings = [_plain(text) for text, _ in _STRING.findall(arguments)]
    if any(cut for _, cut in _STRING.findall(arguments)) and name not in READING:
        raise TracingFailed(f"{name} carries more than {DATA_BYTES_MAX:,} bytes")
    about = _DESCRIPTOR.match(arguments)
    returned = _DESCRIPTOR.match(result)
    value = re.match(r"-?\d+", result)
    number_of = None if value is None else int(value[0])
    descriptor = None
    path = to = ""
    data = b""
    offset = None
    if name in _OPENING or about is None or about[1] == "AT_FDCWD":
        texts = [text.decode("utf-8", "surrogateescape") for text in strings]
        path, to = (*texts, "", "")[:2]
        if name in _OPENING and returned is not None:
            descriptor = int(returned[1])
    else:
        descriptor = int(about[1])
        path = _plain(about[2]).decode("utf-8", "surrogateescape")
        data = b"".join(strings) if name in CHANGING else b""
        last = arguments.rpartition(", ")[2]
        if name in ("pwrite64", "ftruncate", "pread64") and last.isdigit():
            offset = int(last)
    tampered = "(INJECTED)" in result
    return Call(name, number, path, to, descriptor, data, offset, arguments, number_of, tampered)


def _plain(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
