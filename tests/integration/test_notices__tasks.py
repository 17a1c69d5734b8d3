"""What a program of asyncio hears while others change what its transaction has read."""

# mypy: disable-error-code="union-attr, var-annotated"

import asyncio
import contextlib
import logging

import pytest

from aumai_transactions import (
    AsyncTransactionManager,
    InvalidTransactionState,
    Resource,
)

GUARD_SECONDS = 60
READS = {"isolation": "validated"}


@contextlib.asynccontextmanager
async def managers(place, count=2):
    async with contextlib.AsyncExitStack() as closing:
        made = []
        for _ in range(count):
            manager = AsyncTransactionManager(store=place)
            closing.push_async_callback(manager.close)

            @manager.action("read", effect="none", resources=[Resource.shared("{thing}")])
            async def read(action, data):
                return data["thing"]

            @manager.action("write", compensating_action="undo", resources=["{thing}"])
            async def write(action, data):
                return data["thing"]

            @manager.action("undo")
            async def undo(action, data):
                return None

            made.append(manager)
        yield made


async def write(manager, thing="r"):
    async with manager.transaction() as tx:
        await tx.execute("other", "write", {"thing": thing})


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_task_that_hears_of_a_change_reads_again_and_commits(place, kind):
    async def main():
        async with managers(place) as (manager, other):
            news = asyncio.Queue()
            async with manager.transaction(**READS) as tx:

                async def told(notice):
                    await asyncio.sleep(0)
                    news.put_nowait((notice, asyncio.get_running_loop()))

                def told_at_once(notice):
                    news.put_nowait((notice, asyncio.get_running_loop()))

                tx.on_conflict(told if kind == "async" else told_at_once)
                await tx.execute("agent", "read", {"thing": "r"})
                await write(other)
                notice, loop = await asyncio.wait_for(news.get(), GUARD_SECONDS)
                assert loop is asyncio.get_running_loop()
                assert (notice.steps, notice.version_now) == (["s1"], 1)
                assert tx.describe().changed_since_read == tx.conflicts() == [notice]
                await tx.undo("s1")
                await tx.execute("agent", "read", {"thing": "r"})
            assert tx.result.warnings == []
            return tx.result.state.value

    assert asyncio.run(main()) == "committed"


def test_a_callback_of_tasks_is_refused_by_name_what_it_must_leave_to_its_program(place):
    async def main():
        async with managers(place) as (manager, other):
            refused = asyncio.Queue()
            async with manager.transaction(**READS) as tx:

                @tx.on_conflict
                async def told(notice):
                    for act in (
                        lambda: tx.execute("agent", "read", {"thing": "r"}),
                        lambda: tx.undo("s1"),
                        tx.commit,
                        tx.rollback,
                        lambda: manager.rollback(tx.transaction_id),
                    ):
                        with pytest.raises(InvalidTransactionState, match="of on_conflict"):
                            await act()
                    refused.put_nowait(notice)

                await tx.execute("agent", "read", {"thing": "r"})
                await write(other)
                await asyncio.wait_for(refused.get(), GUARD_SECONDS)
                await tx.rollback()
            return tx.result.warnings

    assert asyncio.run(main()) == []


def test_what_a_callback_of_tasks_raises_is_a_warning(place, caplog):
    async def main():
        async with managers(place) as (manager, other):
            told = asyncio.Event()
            async with manager.transaction(**READS) as tx:

                @tx.on_conflict
                async def fails(notice):
                    told.set()
                    raise ValueError("no")

                await tx.execute("agent", "read", {"thing": "r"})
                await write(other)
                await asyncio.wait_for(told.wait(), GUARD_SECONDS)
                await tx.undo("s1")
            return tx.result

    with caplog.at_level(logging.CRITICAL):
        result = asyncio.run(main())
    assert result.state == "committed"
    assert result.warnings == ["the callback of on_conflict raised ValueError: no (about r)"]


@pytest.mark.parametrize("way", ["left", "raised", "cancelled"])
def test_a_callback_that_still_runs_is_cancelled_when_its_block_is_left(place, way):
    async def main():
        async with managers(place) as (manager, other):
            begun, became = asyncio.Event(), []

            async def agent():
                async with manager.transaction(**READS) as tx:

                    @tx.on_conflict
                    async def lingers(notice):
                        begun.set()
                        try:
                            await asyncio.get_running_loop().create_future()
                        except asyncio.CancelledError:
                            became.append("cancelled")
                            raise

                    await tx.execute("agent", "read", {"thing": "r"})
                    await write(other)
                    await asyncio.wait_for(begun.wait(), GUARD_SECONDS)
                    await tx.undo("s1")
                    if way == "raised":
                        raise KeyError(way)
                    if way == "cancelled":
                        asyncio.current_task().cancel()
                        await asyncio.sleep(0)

            before = asyncio.all_tasks()
            with contextlib.suppress(KeyError, asyncio.CancelledError):
                await asyncio.create_task(agent())
            assert became == ["cancelled"]
            assert asyncio.all_tasks() == before

    asyncio.run(main())


def test_many_tasks_are_told_and_take_no_thread_from_others(place):
    async def main():
        async with managers(place) as (manager, other):
            ready = asyncio.Barrier(21)

            async def agent():
                told = asyncio.Queue()
                async with manager.transaction(**READS) as tx:
                    tx.on_conflict(told.put_nowait)
                    await tx.execute("agent", "read", {"thing": "r"})
                    await ready.wait()
                    notice = await asyncio.wait_for(told.get(), GUARD_SECONDS)
                    # There is a thread left for whoever needs one, however many listen.
                    await asyncio.to_thread(lambda: None)
                    await tx.rollback()
                return notice.version_now

            agents = [asyncio.create_task(agent()) for _ in range(20)]
            await ready.wait()
            await write(other)
            return await asyncio.gather(*agents)

    assert asyncio.run(main()) == [1] * 20
