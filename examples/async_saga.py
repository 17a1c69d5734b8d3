"""Many trips at once under asyncio; one hotel is full, and only that trip is undone.

python examples/async_saga.py
"""

import asyncio
import tempfile
import time
from typing import Any

from aumai_transactions import (
    AsyncSagaOrchestrator,
    AsyncTransactionManager,
    StepContext,
    StepRejected,
)

TRIPS = 20
FULL = "H7"

seats: set[str] = set()
rooms: set[str] = set()


def define_actions(manager: AsyncTransactionManager) -> None:
    @manager.action("reserve_seat", compensating_action="release_seat")
    async def reserve_seat(action: str, data: dict[str, Any], context: StepContext) -> str:
        await asyncio.sleep(0.01)  # stands for a request
        seats.add(context.transaction_id)
        return f"seat of {data['traveller']}"

    @manager.action("release_seat")
    async def release_seat(action: str, data: dict[str, Any], context: StepContext) -> None:
        await asyncio.sleep(0.01)
        seats.discard(context.transaction_id)

    @manager.action("book_room")
    def book_room(action: str, data: dict[str, Any], context: StepContext) -> None:
        time.sleep(0.01)  # a sync handler runs in a thread, and blocks nobody
        if data["hotel"] == FULL:
            raise StepRejected(f"{FULL} is full")
        rooms.add(context.transaction_id)


async def book(manager: AsyncTransactionManager, number: int) -> str:
    saga = AsyncSagaOrchestrator(manager)
    saga.register("flight_agent", "reserve_seat", {"traveller": f"T{number}"})
    saga.register("hotel_agent", "book_room", {"hotel": f"H{number}"})
    result = await saga.execute(timeout_seconds=60)
    return f"trip {number}: {result.state.value}" + (f" ({result.error})" if result.error else "")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncTransactionManager(store=f"{folder}/trips.db") as manager:
            define_actions(manager)
            for line in await asyncio.gather(*(book(manager, n) for n in range(TRIPS))):
                print(line)
            print((await manager.verify()).is_intact and "every journal is intact")
    assert len(seats) == len(rooms) == TRIPS - 1
    assert seats == rooms


if __name__ == "__main__":
    asyncio.run(main())
