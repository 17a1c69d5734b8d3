"""A trip: the three services it needs, and the plan that books it.

Owns: starting and stopping the services, and the text of the plan files.
Rules:
  1. Whatever is started here is stopped here: on success, on an error and on Ctrl-C.
  2. The services are children in sessions of their own, so a Ctrl-C in the terminal reaches only
     us, and we stop them in order. If we are killed, the system closes their standard input.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aumai_transactions
from aumai_transactions.demo.evidence import SERVICES
from aumai_transactions.errors import TransactionError

START_SECONDS_MAX = 20
STOP_SECONDS_MAX = 5
_EXCERPT_CHARACTERS_MAX = 2_000


class DemoFailed(TransactionError):
    """Say that the demonstration could not be given; says nothing about a transaction."""


def child_environment() -> dict[str, str]:
    """Return an environment in which a child finds this very package, whatever its folder is."""
    # Why without ours: the demo must not touch the store that somebody works with.
    environment = {name: value for name, value in os.environ.items() if name[:6] != "AUMAI_"}
    paths = [os.path.abspath(path) for path in _python_path(environment) if path]  # noqa: PTH100
    # `python -m` puts the current folder on the path; a child elsewhere would not have it.
    root = Path(aumai_transactions.__path__[0]).resolve().parent
    if root == Path.cwd().resolve():
        paths.insert(0, str(root))
    if paths:
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    # Why: whatever the terminal's encoding is, what children print to us is UTF-8.
    environment["PYTHONIOENCODING"] = "utf-8"
    return environment


def _python_path(environment: Mapping[str, str]) -> list[str]:
    return environment.get("PYTHONPATH", "").split(os.pathsep)


@dataclass(frozen=True)
class _Running:
    name: str
    process: subprocess.Popen[bytes]
    log: Path


class TripServices:
    """Run the three services on loopback while a `with` block lasts.

    Args:
        folder: Where the databases are, or will be.
        ports: The port of each service by name; a free one for those that are left out.

    Raises:
        DemoFailed: A service did not start; says what it wrote.
    """

    def __init__(self, folder: Path, ports: Mapping[str, int] | None = None) -> None:
        self._folder = folder
        self._ports = dict(ports or {})
        self._stack = ExitStack()
        self.urls: dict[str, str] = {}
        """Where each service listens, once they run."""

    @property
    def database_paths(self) -> dict[str, Path]:
        """The SQLite file of each service: the evidence."""
        return {name: self._folder / f"{name}.db" for name in SERVICES}

    def __enter__(self) -> Self:
        """Start the services together and wait until each of them answers."""
        with ExitStack() as stack:
            started = [stack.enter_context(self._process(name)) for name in SERVICES]
            self.urls = {
                running.name: f"http://127.0.0.1:{_port_of(running)}" for running in started
            }
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop them and wait until they are gone."""
        self._stack.close()

    @contextmanager
    def _process(self, name: str) -> Iterator[_Running]:
        log = self._folder / f"{name}.log"
        command = [sys.executable, "-m", "aumai_transactions.demo.services", name]
        command += ["--database", str(self.database_paths[name])]
        command += ["--port", str(self._ports.get(name, 0))]
        with log.open("wb") as written:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=written,
                env=child_environment(),
                start_new_session=True,
            )
        try:
            yield _Running(name, process, log)
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    try:
        if process.stdin:
            process.stdin.close()
        process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        if process.stdout:
            process.stdout.close()


def _port_of(running: _Running) -> int:
    """Return the port that a service announces; a service that says nothing is stopped."""
    process = running.process
    if process.stdout is None:
        raise DemoFailed(f"the service {running.name} has no standard output.")
    alarm = threading.Timer(START_SECONDS_MAX, process.kill)
    alarm.start()
    try:
        line = process.stdout.readline()
    finally:
        alarm.cancel()
    try:
        return int(json.loads(line)["port"])
    except (ValueError, TypeError, KeyError):
        process.kill()
        process.wait()
        said = running.log.read_text("utf-8", "replace").strip()[-_EXCERPT_CHARACTERS_MAX:]
        said = said or f"it said nothing within {START_SECONDS_MAX} seconds"
        raise DemoFailed(f"the service {running.name} did not start: {said}") from None


# ------------------------------------------------------------------------------------ the plan

CARD: Final = "4242"
DECLINED_CARD: Final = "0002"

_PLAN: Final = """\
name = {name}
timeout_seconds = 60

# What can be done, and what undoes it. `idempotent` is a promise of the service: it
# honours the Idempotency-Key, so the same call may be sent again and takes effect once.

[actions.reserve_flight]
kind = "http"
url = "{flights}/reservations"
idempotent = true

[actions.cancel_flight]
kind = "http"
url = "{flights}/reservations/cancel"
idempotent = true

[actions.book_hotel]
kind = "http"
url = "{hotels}/bookings"
idempotent = {is_hotel_idempotent}

[actions.cancel_hotel]
kind = "http"
url = "{hotels}/bookings/cancel"
idempotent = true

[actions.charge_card]
kind = "http"
url = "{payments}/charges"
idempotent = true

[actions.refund_card]
kind = "http"
url = "{payments}/charges/refund"
idempotent = true

[[steps]]
name = "flight"
agent = "flight_agent"
action = "reserve_flight"
compensating_action = "cancel_flight"
data = {{ flight_id = "F123", traveller = {traveller} }}

[[steps]]
name = "hotel"
agent = "hotel_agent"
action = "book_hotel"
compensating_action = "cancel_hotel"
data = {{ hotel_id = "H456", traveller = {traveller}{hotel_delay} }}

[[steps]]
name = "charge"
agent = "billing_agent"
action = "charge_card"
compensating_action = "refund_card"

# A value can be the output of an earlier step.
[steps.data]
amount = 850.00
card = {card}
flight = {{ "$output" = "flight", at = "/reservation_id" }}
"""


def plan_text(
    urls: Mapping[str, str],
    traveller: str,
    *,
    card: str = CARD,
    is_hotel_idempotent: bool = True,
    hotel_answers_after_seconds: int = 0,
) -> str:
    """Return the plan file of one trip, as TOML.

    Args:
        urls: Where each service listens.
        traveller: Who travels.
        card: Which card is charged; `DECLINED_CARD` is declined.
        is_hotel_idempotent: Whether the plan relies on the hotel's honouring of keys.
        hotel_answers_after_seconds: How long the hotel keeps its answer back after it has booked.
    """
    delay = hotel_answers_after_seconds
    return _PLAN.format(
        **{service: urls[service] for service in SERVICES},
        # A JSON text is a TOML basic string, but for the surrogate pairs of ensure_ascii.
        name=json.dumps(f"trip of {traveller}", ensure_ascii=False),
        traveller=json.dumps(traveller, ensure_ascii=False),
        card=json.dumps(card, ensure_ascii=False),
        is_hotel_idempotent=json.dumps(is_hotel_idempotent),
        hotel_delay=f", answer_delay_seconds = {delay}" if delay else "",
    )
