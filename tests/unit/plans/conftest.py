"""Plan files in an empty folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

TRIP = """\
name = "trip"

[actions.reserve]
kind = "http"
url = "https://flights.example/reservations"
compensating_action = "cancel"
idempotent = true

[actions.cancel]
kind = "http"
url = "https://flights.example/cancellations"
idempotent = true

[actions.charge]
kind = "command"
argv = ["charge-card"]
compensating_action = "refund"

[actions.refund]
kind = "python"
call = "billing:refund"

[[steps]]
name = "flight"
agent = "flight_agent"
action = "reserve"
data = { flight_id = "F123" }

[[steps]]
name = "card"
agent = "billing_agent"
action = "charge"
data = { amount = 850.5, flight = { "$output" = "flight", at = "/id" } }
"""


@pytest.fixture
def trip() -> str:
    return TRIP


@pytest.fixture
def plan_file(tmp_path) -> Callable[..., Path]:
    """Write a plan file: `plan_file(text, name="plan.toml")`."""

    def write(text: str | bytes, name: str = "plan.toml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write
