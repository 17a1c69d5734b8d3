"""Restate, as an entrant: its server, a Python service, and requests over HTTP.

    python -m race.peers.with_restate --folder . --at-once 64

Owns: the server's settings, the service's process, and the requests. The server writes its log to
its folder before it answers, as it comes; its program is `restate-server` on the PATH, or what
RESTATE_SERVER names. The service runs in granian, the fastest server for it that was tried, or in
hypercorn. Everything listens on this machine only.
Not comparable: server, service and client are three processes that talk over HTTP, which is what it
is for; a step is journaled when it has returned, not before.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib.metadata import version
from pathlib import Path

from race.slices import by_tasks, serve_async

try:
    import aiohttp
    import restate  # noqa: F401 (the service imports it)
except ImportError as error:
    sys.exit(f"not installed: pip install restate-sdk granian aiohttp ({error})")

SECONDS_MAX = 60
SETTINGS = """
cluster-name = "race"
node-name = "race"
auto-provision = true
disable-telemetry = true
listen-mode = "tcp"
bind-address = "127.0.0.1:{node}"
advertised-address = "http://127.0.0.1:{node}"
default-num-partitions = 4
log-filter = "error"
[ingress]
bind-address = "127.0.0.1:{ingress}"
advertised-address = "http://127.0.0.1:{ingress}"
[admin]
bind-address = "127.0.0.1:{admin}"
advertised-address = "http://127.0.0.1:{admin}"
disable-web-ui = true
"""


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for(url: str) -> None:
    """Wait until something answers."""
    until = time.monotonic() + SECONDS_MAX
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except urllib.error.HTTPError:
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    sys.exit(f"nothing answers at {url}")


def wait_for_port(port: int) -> None:
    """Wait until somebody listens; it speaks HTTP/2 only."""
    until = time.monotonic() + SECONDS_MAX
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nobody listens on {port}")


def asgi_server(port: int) -> list[str]:
    """Return the module that serves the service, with its arguments."""
    if importlib.util.find_spec("granian") is None:
        return ["hypercorn", "--bind", f"127.0.0.1:{port}"]
    where = ["--host", "127.0.0.1", "--port", str(port)]
    return ["granian", "--interface", "asginl", "--http", "2", "--no-ws", *where]


def started(folder: Path) -> tuple[list[subprocess.Popen[bytes]], str]:
    """Start server and service; return them and where requests go."""
    program = os.environ.get("RESTATE_SERVER") or shutil.which("restate-server")
    if program is None:
        sys.exit("not installed: restate-server is not on the PATH; RESTATE_SERVER may name it")
    node, ingress, admin, service = free_ports(4)
    settings = folder / "restate.toml"
    settings.write_text(SETTINGS.format(node=node, ingress=ingress, admin=admin), "utf-8")
    commands = [
        [program, "--no-logo", "-c", str(settings), "--base-dir", str(folder / "restate")],
        [sys.executable, "-m", *asgi_server(service), "race.peers.restate_service:app"],
    ]
    environment = os.environ | {"DO_NOT_TRACK": "1"}
    processes = [
        subprocess.Popen(
            command,
            stdout=sys.stderr,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        for command in commands
    ]
    wait_for(f"http://127.0.0.1:{admin}/health")
    wait_for(f"http://127.0.0.1:{ingress}/restate/health")
    wait_for_port(service)
    body = json.dumps({"uri": f"http://127.0.0.1:{service}", "force": True}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{admin}/deployments", body, {"content-type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=SECONDS_MAX).close()
    return processes, f"http://127.0.0.1:{ingress}/Saga/run"


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it has started; granian does not always hear that it is to end."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def race(url: str, options: argparse.Namespace) -> None:
    """Be the entrant."""
    expected = "rolled_back" if options.fails else "committed"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:

        async def one() -> None:
            async with http.post(url, json={"fails": options.fails}) as answer:
                found = await answer.json()
            if found != expected:
                raise RuntimeError(f"it has ended {found}")

        about = f"restate-sdk {version('restate-sdk')}"
        await serve_async(lambda seconds: by_tasks(one, seconds, options.at_once), about)


def main() -> None:
    """Start a server and a service, and be the entrant."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", default=".")
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--fails", action="store_true")
    options = parser.parse_args()
    processes, url = started(Path(options.folder).resolve())
    try:
        asyncio.run(race(url, options))
    finally:
        for process in processes:
            end(process)


if __name__ == "__main__":
    main()
