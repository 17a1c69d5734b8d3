"""The agency stands empty before each test: one world is not looked at, and is left as it is."""

import pytest
from tests.unit.testing.atomic.agency import BOOKED


@pytest.fixture(autouse=True)
def nothing_is_booked():
    BOOKED.clear()
