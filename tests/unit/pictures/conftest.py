"""Transactions that really ran, to be drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aumai_transactions import RetryPolicy, TransactionManager
from aumai_transactions.models import Event, TransactionResult
from aumai_transactions.testing.clock import ManualClock
from aumai_transactions.timelines.timeline import Timeline

Drawn = tuple[Timeline, TransactionResult, list[Event]]


@pytest.fixture
def trip() -> Callable[..., Drawn]:
    """Run a trip whose third step fails twice, and whose last one sends it back."""

    def run(*, name: str = "trip", agent: str = "flight_agent", fails: bool = True) -> Drawn:
        clock = ManualClock(1_772_193_600_000_000)
        manager = TransactionManager(clock=clock)
        tries: list[int] = []

        def do(seconds: float) -> Callable[..., Any]:
            def act(_action: str, _data: dict[str, Any]) -> None:
                clock.advance(seconds)

            return act

        def flaky(_action: str, _data: dict[str, Any]) -> None:
            tries.append(1)
            clock.advance(0.01)
            if len(tries) < 3:
                raise ValueError("not yet")

        def fail(_action: str, _data: dict[str, Any]) -> None:
            clock.advance(0.05)
            raise ValueError("the hotel is <full> & closed")

        retry = RetryPolicy(attempts_max=5, first_delay_seconds=0.1, jitter=0)
        for action, handler in (
            ("reserve", do(0.1)), ("cancel", do(3_600)), ("book", fail), ("undo", fail)
        ):  # fmt: skip
            manager.action(action)(handler)
        manager.action("flaky", retry=retry)(flaky)
        block = manager.transaction(name=name)
        try:
            with block as tx:
                tx.execute(agent, "reserve", {}, "cancel")
                tx.execute("car_agent", "flaky", {}, "cancel")
                tx.execute("mail_agent", "reserve", {}, "undo")
                if fails:
                    tx.execute("hotel_agent", "book", {}, "cancel")
        except ValueError:
            pass
        events = manager.get_events(block.transaction_id)
        result = manager.get_result(block.transaction_id)
        timeline = Timeline.of(block.transaction_id, events)
        timeline.take(result)
        return timeline, result, list(events)

    return run
