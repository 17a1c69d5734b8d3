"""A service says: come back in an hour. The transaction is put away, and its process may end.

python examples/retry_later.py
"""

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aumai_transactions import RetryLater, RetryPolicy, StepContext, TransactionManager
from aumai_transactions.testing.clock import ManualClock

# Time stands still here until somebody moves it, so that nobody who tries this waits an hour.
clock = ManualClock(datetime(2026, 5, 1, 9, 0, tzinfo=UTC))


def open_manager(folder: str) -> TransactionManager:
    manager = TransactionManager(store=f"{folder}/orders.db", clock=clock)

    @manager.action("reserve", compensating_action="release", retry=RetryPolicy(attempts_max=3))
    def reserve(action: str, data: dict[str, Any], context: StepContext) -> str:
        print(f"  attempt {context.attempt} with key …{context.idempotency_key[-9:]}")
        if context.attempt == 1:
            raise RetryLater(3600, "the warehouse is closed until ten")
        return f"shelf 7 for {data['order']}"

    @manager.action("release", idempotent=True)
    def release(action: str, data: dict[str, Any]) -> None:
        print("  nothing was reserved, so nothing is released")

    return manager


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        print("A process begins:")
        with open_manager(folder) as manager:
            tx = manager.begin(name="order 17")
            manager.add_step(tx, "warehouse_agent", "reserve", {"order": 17})
            result = manager.commit(tx)
            assert not result.is_final
            assert result.waiting is not None
            assert result.waiting.reason == "retry"
            assert result.waiting.until == datetime(2026, 5, 1, 10, 0, tzinfo=UTC)
            print(f"  {result.state.value}, goes on at {result.waiting.until:%H:%M}")
        assert Path(folder, "orders.db").exists()

        print("Another one looks in after half an hour, and leaves it alone:")
        clock.advance(1800)
        with open_manager(folder) as manager:
            assert manager.recover() == []

        print("And another one an hour later:")
        clock.advance(3600)
        with open_manager(folder) as manager:
            (found,) = manager.recover()
            assert found.result is not None
            assert found.result.state.value == "committed"
            assert found.result.outputs == {"s1": "shelf 7 for 17"}
            print(f"  {found.result.state.value}: {found.result.outputs['s1']}")


if __name__ == "__main__":
    main()
