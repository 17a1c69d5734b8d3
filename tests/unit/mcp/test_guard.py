"""Tests of waiting for the servers of a gateway that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aumai_transactions.mcp import guard
from aumai_transactions.mcp.guard import Guards

GATEWAY = """
import os, subprocess, sys
from pathlib import Path
from aumai_transactions.mcp.guard import Guards
guards = Guards(Path(sys.argv[1]))
words = [sys.executable, "-m", "aumai_transactions.mcp.guard", str(guards.file), *sys.argv[2:]]
server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          start_new_session=True)
server.stdout.readline()
print(server.pid, flush=True)
sys.stdin.read()
"""


def dead_gateway(folder: Path, program: str) -> int:
    """Start a gateway with one server, kill the gateway, and return the server's process id."""
    words = [sys.executable, "-c", GATEWAY, str(folder), sys.executable, "-c", program]
    gateway = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert gateway.stdout is not None
    assert gateway.stdin is not None
    pid = int(gateway.stdout.readline())
    gateway.send_signal(signal.SIGKILL)
    gateway.wait()
    gateway.stdout.close()
    gateway.stdin.close()
    return pid


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Its new parent may not have taken note of its end yet.
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


@pytest.mark.crash
def test_a_server_that_ends_by_itself_is_waited_for(tmp_path: Path) -> None:
    program = "import sys; print('up', flush=True); sys.stdin.read()"
    pid = dead_gateway(tmp_path, program)
    guards = Guards(tmp_path)
    assert guards.settle() == []
    assert not is_alive(pid)
    guards.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.crash
def test_a_server_that_will_not_end_is_ended_and_its_children_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "GRACE_SECONDS", 0.3)
    child = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(3600)"
    program = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {child!r}], close_fds=False)\n"
        "print('up', flush=True)\ntime.sleep(3600)"
    )
    pid = dead_gateway(tmp_path, program)
    guards = Guards(tmp_path)
    notes = guards.settle()
    assert "SIGTERM" in notes[0]
    assert not is_alive(pid)
    assert guards.settle() == []
    guards.close()


def test_the_servers_of_a_gateway_that_lives_are_let_be(tmp_path: Path) -> None:
    living = Guards(tmp_path)
    words = [sys.executable, "-m", "aumai_transactions.mcp.guard", str(living.file), "cat"]
    server = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(b"up\n")
    server.stdin.flush()
    assert server.stdout.readline() == b"up\n"
    another = Guards(tmp_path)
    assert another.settle() == []
    assert server.poll() is None
    server.stdin.close()
    server.wait()
    server.stdout.close()
    for one in (living, another):
        one.close()
