"""Each test begins with no room booked."""

from __future__ import annotations

import pytest
from tests.frameworks.mcp.hotels import CALLS, ROOMS


@pytest.fixture(autouse=True)
def empty_world():
    ROOMS.clear()
    CALLS.clear()
