"""Resources among asyncio tasks: what waits does not hold the loop up, and leaves no line."""

# mypy: disable-error-code="var-annotated"

import asyncio
import contextlib

import pytest

from aumai_transactions import AsyncTransactionManager, Deadlock, StepRejected

AGENTS = 80
CAPACITY = 32


@pytest.fixture
def calls():
    return []


@contextlib.asynccontextmanager
async def managers(place, calls, count=1):
    async with contextlib.AsyncExitStack() as closing:
        made = []
        for _ in range(count):
            manager = AsyncTransactionManager(store=place)
            closing.push_async_callback(manager.close)

            @manager.action("work", compensating_action="undo", resources=["{thing}"])
            async def work(action, data, context):
                calls.append((data["thing"], context.resources[data["thing"]]))

            @manager.action("undo")
            async def undo(action, data):
                calls.append("undo")

            made.append(manager)
        yield made


async def until_waiting(manager, count=1):
    for _ in range(6_000):
        lines = [lock for lock in await manager.locks() if lock.token is None]
        if len(lines) >= count:
            return lines
        await asyncio.sleep(0)
    raise AssertionError("nobody waits")


def test_of_eighty_tasks_at_one_capacity_exactly_as_many_commit_as_it_has_places(place, calls):
    left = [CAPACITY]

    async def main():
        async with managers(place, calls) as (manager,):

            @manager.action("book", compensating_action="undo", resources=["flight:F123"])
            async def book(action, data):
                before = left[0]
                if before == 0:
                    raise StepRejected("sold out")
                await asyncio.sleep(0)
                left[0] = before - 1

            async def agent():
                with contextlib.suppress(StepRejected):
                    async with manager.transaction(120, lock_timeout_seconds=60) as tx:
                        await tx.execute("agent", "book", {})
                return tx.result.state.value

            states = await asyncio.gather(*(agent() for _ in range(AGENTS)))
            return states, await manager.locks()

    states, locks = asyncio.run(main())
    assert states.count("committed") == CAPACITY
    assert (left, locks) == ([0], [])


@pytest.mark.parametrize("size", [2, 3, 5])
def test_of_a_circle_of_tasks_one_gives_way_and_the_others_commit(place, calls, size):
    async def main():
        async with managers(place, calls, size) as made:
            ready = asyncio.Barrier(size)

            async def agent(number):
                with contextlib.suppress(Deadlock):
                    async with made[number].transaction() as tx:
                        await tx.execute("agent", "work", {"thing": f"r{number}"})
                        await ready.wait()
                        await tx.execute("agent", "work", {"thing": f"r{(number + 1) % size}"})
                return tx.result.reason or tx.result.state.value

            found = await asyncio.gather(*(agent(number) for number in range(size)))
            return found, await made[0].locks()

    found, locks = asyncio.run(main())
    assert sorted(found) == ["committed"] * (size - 1) + ["deadlock"]
    assert locks == []
    assert calls.count("undo") == 1


def test_a_run_of_tasks_that_gave_way_is_run_again_and_succeeds(place, calls):
    async def main():
        async with managers(place, calls, 2) as made:
            ready, runs = asyncio.Barrier(2), []

            async def agent(number):
                async def work(tx):
                    runs.append(number)
                    await tx.execute("agent", "work", {"thing": f"r{number}"})
                    if runs.count(number) == 1:
                        await ready.wait()
                    async with asyncio.TaskGroup() as group:
                        thing = {"thing": f"r{1 - number}"}
                        group.create_task(tx.execute("agent", "work", thing))
                    return number

                return await made[number].run(work, retries=1)

            return await asyncio.gather(agent(0), agent(1)), runs

    found, runs = asyncio.run(main())
    assert found == [0, 1]
    assert len(runs) == 3


@pytest.mark.parametrize("shape", ["planned", "interactive"])
def test_a_task_that_is_cancelled_while_it_waits_leaves_no_line(place, calls, shape):
    async def main():
        async with managers(place, calls, 2) as (holder, manager):

            async def planned():
                plan = await manager.begin()
                manager.add_step(plan, "agent", "work", {"thing": "r"})
                await manager.commit(plan)

            async def interactive():
                async with manager.transaction() as tx:
                    await tx.execute("agent", "work", {"thing": "s"})
                    await tx.execute("agent", "work", {"thing": "r"})

            async with holder.transaction() as tx:
                await tx.execute("agent", "work", {"thing": "r"})
                waiting = asyncio.create_task(planned() if shape == "planned" else interactive())
                await until_waiting(holder)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                return tx.transaction_id, await holder.locks()

    name, locks = asyncio.run(main())
    assert [(lock.resource, lock.transaction_id) for lock in locks] == [("r", name)]
    assert calls == [("r", 1)] + ([("s", 1), "undo"] if shape == "interactive" else [])


def test_a_task_that_waits_does_not_hold_up_the_others(place, calls):
    async def main():
        async with managers(place, calls, 2) as (holder, manager):

            async def waiting():
                async with manager.transaction() as other:
                    await other.execute("agent", "work", {"thing": "r"})

            async with holder.transaction() as tx:
                await tx.execute("agent", "work", {"thing": "r"})
                task = asyncio.create_task(waiting())
                await until_waiting(holder)
                await tx.execute("agent", "work", {"thing": "s"})
                assert not task.done()
            await task

    asyncio.run(main())
    assert calls == [("r", 1), ("s", 1), ("r", 2)]
