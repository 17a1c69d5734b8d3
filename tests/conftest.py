"""What tests share: the four managers behind one face, a clock, and hypothesis profiles."""

import asyncio
import inspect
import os
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, settings

from aumai_transactions import (
    AsyncSagaOrchestrator,
    AsyncTransactionManager,
    SagaOrchestrator,
    TransactionManager,
)
from aumai_transactions.testing.clock import ManualClock

# Why derandomized: a change is judged by what it changed, not by the luck of the draw. New
# examples are searched for by HYPOTHESIS_PROFILE=nightly.
settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "nightly",
    deadline=None,
    max_examples=5_000,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

MANAGERS = ("sync memory", "sync sqlite", "async memory", "async sqlite")


class Face:
    """One way to use the four managers: each call returns what an awaited one would."""

    def __init__(self, wrapped, runner):
        self.wrapped = wrapped
        self._runner = runner

    def __getattr__(self, name):
        found = getattr(self.wrapped, name)
        if not callable(found):
            return found

        def called(*arguments, **options):
            return self._settled(found(*arguments, **options))

        return called

    def _settled(self, value):
        if inspect.isawaitable(value):
            return self._runner.run(_awaited(value))
        if hasattr(value, "__aiter__"):
            return self._runner.run(_collected(value))
        return value

    def saga(self):
        is_async = isinstance(self.wrapped, AsyncTransactionManager)
        kind = AsyncSagaOrchestrator if is_async else SagaOrchestrator
        return Face(kind(self.wrapped), self._runner)


async def _awaited(value):
    return await value


async def _collected(values):
    return [value async for value in values]


@pytest.fixture(params=MANAGERS)
def manager_kind(request):
    return request.param


@pytest.fixture
def make_manager(manager_kind, tmp_path):
    """Make a manager of the kind that is tested now; all of them share one store, if any."""
    with asyncio.Runner() as runner:
        made = []

        def make(*arguments, **options):
            if manager_kind.endswith("sqlite"):
                options.setdefault("store", f"sqlite:///{tmp_path}/trips.db")
            is_async = manager_kind.startswith("async")
            kind = AsyncTransactionManager if is_async else TransactionManager
            made.append(Face(kind(*arguments, **options), runner))
            return made[-1]

        yield make
        for manager in made:
            manager.close()


@pytest.fixture
def clock():
    return ManualClock(datetime(2026, 2, 27, 12, tzinfo=UTC))


@pytest.fixture
def make_sync(tmp_path):
    """Make sync managers, and close them."""
    made = []

    def make(*arguments, **options):
        made.append(TransactionManager(*arguments, **options))
        return made[-1]

    yield make
    for manager in made:
        manager.close()
