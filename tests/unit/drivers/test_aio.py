"""The driver with asyncio."""
# mypy: disable-error-code="arg-type, assignment, call-arg, dict-item, union-attr, var-annotated"

import asyncio
import functools
import threading

import pytest

from aumai_transactions import (
    AsyncSagaOrchestrator,
    AsyncTransactionManager,
    InvalidTransactionState,
    StoreError,
    StoreUnavailable,
)

STORES = pytest.mark.parametrize("store", ["memory", "sqlite"])


async def begun(manager, *actions, undo=True):
    tx = await manager.begin()
    for action in actions:
        manager.add_step(tx, "agent", action, {}, f"undo_{action}" if undo else None)
    return tx


async def kinds(manager, tx):
    return [event.kind for event in await manager.get_events(tx)]


# ---------------------------------------------------------------------------------- never blocking


@STORES
def test_a_sync_handler_does_not_block_the_loop(make_store, store):
    async def story():
        asked, answered = threading.Event(), threading.Event()

        def act(action, data):
            asked.set()
            # Only the loop can answer, while this handler waits for it.
            assert answered.wait(30)

        async def loop_lives():
            await asyncio.to_thread(asked.wait)
            answered.set()

        async with AsyncTransactionManager({"act": act}, store=make_store(store)) as manager:
            tx = await begun(manager, "act")
            async with asyncio.TaskGroup() as group:
                committing = group.create_task(manager.commit(tx))
                group.create_task(loop_lives())
            assert committing.result().state.value == "committed"

    asyncio.run(story())


def test_a_blocking_store_does_not_block_the_loop(scripted_store):
    async def story():
        asked, answered = threading.Event(), threading.Event()
        store = scripted_store(blocking=True)

        def wait():
            asked.set()
            assert answered.wait(30)

        store.before[1] = wait

        async def loop_lives():
            await asyncio.to_thread(asked.wait)
            answered.set()

        manager = AsyncTransactionManager(store=store)
        tx = await begun(manager, "act")
        async with asyncio.TaskGroup() as group:
            group.create_task(manager.commit(tx))
            group.create_task(loop_lives())
        assert tx.state.value == "committed"
        await manager.close()

    asyncio.run(story())


def test_many_sync_handlers_wait_at_the_same_time():
    count = 20

    async def story():
        together = threading.Barrier(count)

        def act(action, data):
            together.wait(30)

        async with AsyncTransactionManager({"act": act}) as manager:
            txs = [await begun(manager, "act") for _ in range(count)]
            results = await asyncio.gather(*(manager.commit(tx) for tx in txs))
            assert {result.state.value for result in results} == {"committed"}

    asyncio.run(story())


# ---------------------------------------------------------------------------------------- handlers


def test_async_handlers_run_in_the_loop_of_their_caller():
    async def story():
        loops = []

        async def act(action, data):
            loops.append(asyncio.get_running_loop())

        class Callable:
            async def __call__(self, action, data):
                loops.append(asyncio.get_running_loop())

        handlers = {"act": act, "object": Callable(), "wrapped": functools.partial(act)}
        async with AsyncTransactionManager(handlers) as manager:
            await manager.commit(await begun(manager, *handlers))
        assert loops == [asyncio.get_running_loop()] * 3

    asyncio.run(story())


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration, ValueError, RecursionError])
def test_an_exception_of_a_sync_handler_fails_its_step(in_thread, error):
    async def story():
        def act(action, data):
            raise error("unusual")

        async with AsyncTransactionManager({"act": act}) as manager:
            return await manager.commit(await begun(manager, "act"))

    result = in_thread(asyncio.run, story()).result()
    assert result.state.value == "rolled_back"
    assert "unusual" in result.error


def test_a_handler_that_raises_a_cancellation_of_its_own_is_in_doubt():
    async def story():
        async def act(action, data):
            if action == "act":
                raise asyncio.CancelledError

        manager = AsyncTransactionManager({"act": act, "undo_act": act})
        tx = await begun(manager, "act")
        with pytest.raises(asyncio.CancelledError):
            await manager.commit(tx)
        assert (await manager.get_result(tx)).compensated_steps == ["s1"]
        assert "step_in_doubt" in await kinds(manager, tx)

    asyncio.run(story())


@pytest.mark.parametrize("is_async", [True, False])
def test_a_rollback_inside_a_handler_is_refused(is_async):
    async def story():
        refused = []

        async def roll_back():
            with pytest.raises(InvalidTransactionState, match="exception"):
                await manager.rollback(tx)
            refused.append(True)

        async def act(action, data):
            await roll_back()

        def in_a_loop_of_its_own(action, data):
            with asyncio.Runner() as runner:
                runner.run(roll_back())

        handler = act if is_async else in_a_loop_of_its_own
        async with AsyncTransactionManager({"act": handler}) as manager:
            tx = await begun(manager, "act")
            result = await manager.commit(tx)
        assert (result.state.value, refused) == ("committed", [True])

    asyncio.run(story())


@STORES
def test_a_rollback_by_another_task_waits_for_the_running_step(make_store, store):
    async def story():
        running, go = asyncio.Event(), asyncio.Event()
        calls = []

        async def act(action, data):
            calls.append(action)
            if action == "first":
                running.set()
                await go.wait()

        names = ("first", "second", "undo_first", "undo_second")
        async with AsyncTransactionManager(
            dict.fromkeys(names, act), store=make_store(store)
        ) as manager:
            tx = await begun(manager, "first", "second")
            committing = asyncio.create_task(manager.commit(tx))
            await running.wait()
            rolling = asyncio.create_task(manager.rollback(tx))
            while "rollback_requested" not in await kinds(manager, tx):  # noqa: ASYNC110
                await asyncio.sleep(0)
            go.set()
            one, other = await asyncio.gather(committing, rolling)
            assert one == other
            assert (one.reason, calls) == ("requested", ["first", "undo_first"])

    asyncio.run(story())


# --------------------------------------------------------------------------------- the whole store


def test_transactions_that_run_at_once_share_durable_writes(scripted_store):
    count = 20

    async def story():
        store = scripted_store(blocking=True)
        writing, go = threading.Event(), threading.Event()

        def hold():
            writing.set()
            go.wait(30)

        store.before[1] = hold
        async with AsyncTransactionManager(store=store) as manager:
            txs = [await begun(manager, undo=False) for _ in range(count)]
            tasks = [asyncio.create_task(manager.commit(tx)) for tx in txs]
            await asyncio.to_thread(writing.wait)
            # The first write is under way; everybody else gathers behind it.
            for _ in range(10):
                await asyncio.sleep(0)
            go.set()
            results = await asyncio.gather(*tasks)
        assert {result.state.value for result in results} == {"committed"}
        assert sum(store.calls) == count
        assert len(store.calls) <= 3

    asyncio.run(story())


def test_one_cancelled_task_does_not_take_the_write_of_the_others_with_it(scripted_store):
    async def story():
        store = scripted_store(blocking=True)
        writing, go = threading.Event(), threading.Event()

        def hold():
            writing.set()
            go.wait(30)

        store.before[1] = hold
        async with AsyncTransactionManager(store=store) as manager:
            txs = [await begun(manager, "act", undo=False) for _ in range(3)]
            tasks = [asyncio.create_task(manager.commit(tx)) for tx in txs]
            await asyncio.to_thread(writing.wait)
            tasks[0].cancel()
            await asyncio.sleep(0)
            go.set()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(results[0], asyncio.CancelledError)
            assert [result.state.value for result in results[1:]] == ["committed"] * 2
            assert txs[0].state.is_final

    asyncio.run(story())


def test_a_store_that_cannot_be_written_is_said_and_recovered_from(scripted_store, failing):
    async def story():
        store = scripted_store()
        for number in range(2, 10):
            store.before[number] = failing()
        calls = []
        names = ("first", "second", "undo_first", "undo_second")
        handlers = dict.fromkeys(names, lambda action, data: calls.append(action))
        async with AsyncTransactionManager(handlers, store=store) as manager:
            tx = await begun(manager, "first", "second")
            with pytest.raises(StoreUnavailable, match=r"disk is full.*recover\(\)"):
                await manager.commit(tx)
            assert calls == ["first"]
            store.before.clear()
            (report,) = await manager.recover()
            assert (report.outcome, report.result.clean) == ("finished", True)
            assert calls == ["first", "undo_first"]

    asyncio.run(story())


def test_a_list_of_transactions_is_iterated_and_counted():
    async def story():
        async with AsyncTransactionManager() as manager:
            txs = [await begun(manager, undo=False) for _ in range(3)]
            await manager.commit(txs[0])
            everything = manager.get_all_transactions()
            assert await everything.count() == 3
            found = [tx async for tx in everything]
            assert all(one is other for one, other in zip(found, txs, strict=True))

    asyncio.run(story())


def test_a_closed_manager_refuses_every_call():
    async def story():
        manager = AsyncTransactionManager()
        tx = await manager.begin()
        await manager.close()
        await manager.close()
        for call in (manager.begin, manager.recover, manager.verify):
            with pytest.raises(StoreError, match="closed"):
                await call()
        for call in (manager.commit, manager.rollback, manager.save):
            with pytest.raises(StoreError, match="closed"):
                await call(tx)

    asyncio.run(story())


def test_a_saga_registers_without_waiting_and_executes():
    async def story():
        async def act(action, data):
            return data["x"]

        async with AsyncTransactionManager({"act": act}) as manager:
            saga = AsyncSagaOrchestrator(manager)
            saga.register("agent", "act", {"x": 1})
            first, second = await asyncio.gather(saga.execute(), saga.execute())
            assert first.outputs == second.outputs == {"s1": 1}
            assert first.transaction_id != second.transaction_id

    asyncio.run(story())
