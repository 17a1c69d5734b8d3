"""Prefect, as an entrant: transactions inside of one flow, with a server of its own.

    python -m race.peers.with_prefect --folder .

Owns: what a user of Prefect would write for the least cost: one long flow run, `transaction()`
blocks in it, three tasks in each with rollback hooks and results that are kept. One at a time only:
its server on SQLite refuses to serve 64 at once.
Not comparable: what became of a task is told to the server in the background, and nobody waits for
it; rollback hooks live in memory, so that nothing undoes a transaction of a process that has died.
It is an orchestrator with a server, states and events, which we are not.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib.metadata import version
from pathlib import Path
from typing import Any

from race.slices import StepFailed, alone, serve

SECONDS_MAX = 120
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
}


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def server(port: int) -> subprocess.Popen[bytes]:
    """Start a server, and wait until it answers."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "prefect", "server", "start"),
            *("--host", "127.0.0.1", "--port", str(port), "--no-ui"),
        ],
        stdout=sys.stderr,
        stdin=subprocess.DEVNULL,
    )
    until = time.monotonic() + SECONDS_MAX
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=1).close()
            return process
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    process.kill()
    sys.exit("prefect's server did not start")


def race(options: argparse.Namespace) -> None:
    """Be the entrant, inside of one flow."""
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE
    from prefect.transactions import transaction

    def step(name: str, *, fails: bool = False) -> Any:
        @task(name=name, persist_result=True, cache_policy=NO_CACHE)
        def act(data: dict[str, Any]) -> dict[str, Any]:
            if fails:
                raise StepFailed
            return data

        act.on_rollback(lambda around: None)
        return act

    first, second, third = step("1"), step("2"), step("3", fails=options.fails)

    def one() -> None:
        try:
            with transaction():
                third(second(first({"n": 1})))
        except StepFailed:
            if not options.fails:
                raise

    @flow
    def all_of_it() -> None:
        serve(lambda seconds: alone(one, seconds), f"prefect {version('prefect')}")

    all_of_it()


def main() -> None:
    """Start a server and be the entrant."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", default=".")
    parser.add_argument("--fails", action="store_true")
    options = parser.parse_args()
    port = free_port()
    home = Path(options.folder).resolve() / "prefect"
    os.environ.update(QUIET, PREFECT_HOME=str(home))
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    try:
        version("prefect")
    except ImportError as error:
        sys.exit(f"not installed: pip install prefect ({error})")
    process = server(port)
    try:
        race(options)
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
