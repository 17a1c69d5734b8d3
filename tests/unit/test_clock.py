"""How long ago something is at most, by two clocks of which each may be wrong."""

import time
from types import SimpleNamespace

import pytest

from aumai_transactions import clock
from aumai_transactions.clock import LONG_AGO, Since


@pytest.fixture
def clocks(monkeypatch):
    """Both clocks, to be set."""
    moments = {"monotonic": 100.0, "time": 5_000.0}
    faked = {name: lambda name=name: moments[name] for name in moments}
    monkeypatch.setattr(clock, "time", SimpleNamespace(**faked))
    return moments


@pytest.mark.parametrize(
    "monotonic,wall,seconds",
    [(0, 0, 0), (7, 7, 7), (0, 3600, 3600), (7, -3600, 7), (7, 3600, 3600)],
    ids=["at once", "later", "it was suspended", "the wall clock was set back", "and forward"],
)
def test_a_moment_is_as_long_ago_as_the_clock_says_that_says_more(clocks, monotonic, wall, seconds):
    since = Since.now()
    clocks["monotonic"] += monotonic
    clocks["time"] += wall
    assert since.seconds_max == seconds


def test_long_ago_is_before_everything():
    assert Since.now() > LONG_AGO
    assert LONG_AGO.seconds_max > time.time()
