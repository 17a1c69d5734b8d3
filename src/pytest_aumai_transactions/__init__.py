"""The pytest plugin: a store, a manager and a clock for each test, and nothing left unfinished.

Owns: the fixtures. What they hand out is the public test kit; nothing is decided here.
Rules:
  1. A test suite that does not ask for a fixture pays for nothing: whatever they need is imported
     when one is asked for, `aumai_transactions` itself included. That is why this is a package of
     its own.
  2. No fixture is used by itself, and no hook of pytest is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from aumai_transactions import AsyncTransactionManager, TransactionManager
    from aumai_transactions.store import Store
    from aumai_transactions.testing.clock import ManualClock

STORES = ("memory", "sqlite")
"""What the setting `aumai_store` may say."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a project say in which store its tests keep their transactions."""
    text = f"the store of the fixture aumai_store: {' or '.join(STORES)}"
    parser.addini("aumai_store", text, default="memory")


@pytest.fixture
def aumai_clock() -> ManualClock:
    """Return a clock that stands still: `advance(seconds)` moves it, and so does waiting."""
    from datetime import UTC, datetime

    from aumai_transactions.testing.clock import ManualClock

    return ManualClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def aumai_store(request: pytest.FixtureRequest, aumai_clock: ManualClock) -> Iterator[Store]:
    """Return a new and empty store: in memory, or what the setting `aumai_store` says."""
    from aumai_transactions import open_store

    name = request.config.getini("aumai_store")
    if name not in STORES:
        message = f"aumai_store is {name!r} in the settings of pytest; it must be one of {STORES}."
        raise pytest.UsageError(message)
    place: str | Path = "memory:"
    if name == "sqlite":
        place = request.getfixturevalue("tmp_path") / "aumai.db"
    store = open_store(place, create=True, clock=aumai_clock)
    yield store
    store.close()


@pytest.fixture
def aumai_manager(aumai_store: Store, aumai_clock: ManualClock) -> Iterator[TransactionManager]:
    """Return a manager on the test's own store, by the test's own clock."""
    from aumai_transactions import TransactionManager

    with TransactionManager(store=aumai_store, clock=aumai_clock) as manager:
        yield manager


@pytest.fixture
def aumai_async_manager(
    aumai_store: Store, aumai_clock: ManualClock
) -> Iterator[AsyncTransactionManager]:
    """Return an asynchronous manager on the test's own store, by the test's own clock."""
    import asyncio

    from aumai_transactions import AsyncTransactionManager

    manager = AsyncTransactionManager(store=aumai_store, clock=aumai_clock)
    yield manager
    asyncio.run(manager.close())


@pytest.fixture
def aumai_nothing_unfinished(aumai_store: Store) -> Iterator[Callable[[Any], Any]]:
    """Fail the test where it leaves a transaction unfinished, or a compensation outstanding.

    Looks at the test's own store, and at every store or manager that the test hands to what this
    returns. Let a whole folder be looked at with an autouse fixture of yours that asks for it.
    """
    stores: list[Any] = [aumai_store]

    def watch(store_or_manager: Any) -> Any:
        stores.append(store_or_manager)
        return store_or_manager

    yield watch
    left = [line for store in stores for line in _unfinished(store)]
    if left:
        pytest.fail("this test leaves transactions behind:\n  " + "\n  ".join(left), pytrace=False)


def _unfinished(store_or_manager: Any) -> Iterator[str]:
    """Yield a line for each transaction of a store that is not over."""
    from aumai_transactions.store import Query

    query = Query(limit=500)
    while page := store_or_manager.find(query):
        for listed in page:
            summary = listed.summary
            if summary.state.is_final and summary.attention is None:
                continue
            told = summary.name or "without a name"
            needs = f", needs a person ({summary.attention})" if summary.attention else ""
            yield f"{summary.transaction_id} ({told}): {summary.state.value}{needs}"
        query = query._replace(after=page[-1].position)
