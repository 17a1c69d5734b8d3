"""The driver with asyncio: what a cancellation does, and what it does not."""
# mypy: disable-error-code="arg-type, assignment, call-arg, dict-item, union-attr, var-annotated"

import asyncio
import threading

import pytest

from aumai_transactions import AsyncTransactionManager

STORES = pytest.mark.parametrize("store", ["memory", "sqlite"])


async def begun(manager, *actions, undo=True):
    tx = await manager.begin()
    for action in actions:
        manager.add_step(tx, "agent", action, {}, f"undo_{action}" if undo else None)
    return tx


async def kinds(manager, tx):
    return [event.kind for event in await manager.get_events(tx)]


# ------------------------------------------------------------------------------------ cancellation


@STORES
def test_a_cancelled_async_handler_is_in_doubt_undone_and_the_cancellation_raised(
    make_store, store
):
    async def story():
        calls = []
        running = asyncio.Event()

        async def act(action, data, context):
            calls.append((action, context.in_doubt))
            if action == "second":
                running.set()
                await asyncio.Event().wait()

        names = ("first", "second", "third", "undo_first", "undo_second")
        async with AsyncTransactionManager(
            dict.fromkeys(names, act), store=make_store(store)
        ) as manager:
            tx = await begun(manager, "first", "second", "third")
            committing = asyncio.create_task(manager.commit(tx))
            await running.wait()
            committing.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await committing
            assert committing.cancelled()
            assert calls == [
                ("first", False),
                ("second", False),
                ("undo_second", True),
                ("undo_first", False),
            ]
            result = await manager.get_result(tx)
            assert (result.state.value, result.reason) == ("rolled_back", "cancelled")
            assert tx.state.value == "rolled_back"
            assert "is rolled_back" in caught.value.__notes__[0]

    asyncio.run(story())


@STORES
def test_a_sync_handler_is_waited_for_when_its_caller_is_cancelled(make_store, store):
    async def story():
        running, go = threading.Event(), threading.Event()
        calls = []

        def act(action, data):
            calls.append(action)
            if action == "first":
                running.set()
                go.wait(30)
                calls.append("first has ended")

        names = ("first", "second", "undo_first")
        async with AsyncTransactionManager(
            dict.fromkeys(names, act), store=make_store(store)
        ) as manager:
            tx = await begun(manager, "first", "second")
            committing = asyncio.create_task(manager.commit(tx))
            await asyncio.to_thread(running.wait)
            committing.cancel()
            await asyncio.sleep(0)
            committing.cancel()
            await asyncio.sleep(0)
            assert not committing.done()
            go.set()
            with pytest.raises(asyncio.CancelledError):
                await committing
            assert calls == ["first", "first has ended", "undo_first"]
            result = await manager.get_result(tx)
            # It had succeeded, and that is known: the undo is not in doubt.
            assert result.completed_steps == ["s1"]
            assert (result.reason, result.clean) == ("cancelled", True)

    asyncio.run(story())


def test_an_undo_is_never_cancelled():
    async def story():
        undoing, go = asyncio.Event(), asyncio.Event()
        calls = []

        async def act(action, data):
            calls.append(action)
            if action == "second":
                raise ValueError("no")
            if action == "undo_first":
                undoing.set()
                await go.wait()
                calls.append("undone")

        names = ("first", "second", "undo_first")
        async with AsyncTransactionManager(dict.fromkeys(names, act)) as manager:
            tx = await begun(manager, "first", "second")
            committing = asyncio.create_task(manager.commit(tx))
            await undoing.wait()
            for _ in range(3):
                committing.cancel()
                await asyncio.sleep(0)
            go.set()
            with pytest.raises(asyncio.CancelledError):
                await committing
            assert calls == ["first", "second", "undo_first", "undone"]
            result = await manager.get_result(tx)
            assert (result.reason, result.error) == ("step_failed", "ValueError: no")

    asyncio.run(story())


@pytest.mark.parametrize("raises", [False, True])
def test_a_cancellation_at_the_very_moment_a_handler_ends_is_not_lost(raises):
    async def story():
        async def act(action, data):
            if action == "act":
                committing.cancel()
                if raises:
                    raise ValueError("declined")

        manager = AsyncTransactionManager({"act": act, "undo_act": act})
        tx = await begun(manager, "act")
        committing = asyncio.create_task(manager.commit(tx))
        with pytest.raises(asyncio.CancelledError):
            await committing
        result = await manager.get_result(tx)
        assert result.state.value == "rolled_back"
        # What the handler said is known: nothing is in doubt.
        assert "step_in_doubt" not in await kinds(manager, tx)
        assert result.compensated_steps == ([] if raises else ["s1"])
        await manager.close()

    asyncio.run(story())


def test_a_cancellation_that_a_handler_catches_is_raised_once_its_answer_is_undone():
    async def story():
        running = asyncio.Event()

        async def act(action, data):
            if action == "act":
                running.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    return {"booked": 7}
            return None

        manager = AsyncTransactionManager({"act": act, "next": act, "undo_act": act})
        tx = await begun(manager, "act", "next")
        committing = asyncio.create_task(manager.commit(tx))
        await running.wait()
        committing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await committing
        result = await manager.get_result(tx)
        assert (result.state.value, result.reason) == ("rolled_back", "cancelled")
        assert (result.completed_steps, result.compensated_steps) == (["s1"], ["s1"])
        await manager.close()

    asyncio.run(story())


@STORES
def test_a_cancelled_step_raises_the_very_cancellation_by_which_others_know_it(make_store, store):
    async def story():
        running = asyncio.Event()
        undone = []

        async def act(action, data):
            running.set()
            await asyncio.Event().wait()

        async def undo(action, data):
            undone.append(action)

        handlers = {"act": act, "undo": undo}
        async with AsyncTransactionManager(handlers, store=make_store(store)) as manager:
            async with manager.transaction() as tx:
                acting = asyncio.create_task(tx.execute("agent", "act", {}, "undo"))
                await running.wait()
                acting.cancel("Cancelled via cancel scope 7")
                with pytest.raises(asyncio.CancelledError) as caught:
                    await acting
                assert caught.value.args == ("Cancelled via cancel scope 7",)
            assert undone == ["undo"]

    asyncio.run(story())


def test_a_timeout_inside_a_handler_is_its_own_and_cancels_nothing_else():
    async def story():
        async def act(action, data):
            if action == "act":
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0):
                        await asyncio.Event().wait()

        manager = AsyncTransactionManager({"act": act, "next": act})
        tx = await begun(manager, "act", "next", undo=False)
        result = await manager.commit(tx)
        assert (result.state.value, result.completed_steps) == ("committed", ["s1", "s2"])
        assert asyncio.current_task().cancelling() == 0
        await manager.close()

    asyncio.run(story())


def test_an_undo_keeps_its_own_timeout_while_its_caller_is_cancelled():
    async def story():
        undoing, timed_out = asyncio.Event(), asyncio.Event()

        async def act(action, data):
            if action == "second":
                raise ValueError("no")
            if action == "undo_first":
                undoing.set()
                try:
                    async with asyncio.timeout(0):
                        await asyncio.Event().wait()
                except TimeoutError:
                    timed_out.set()

        names = ("first", "second", "undo_first")
        manager = AsyncTransactionManager(dict.fromkeys(names, act))
        tx = await begun(manager, "first", "second")
        committing = asyncio.create_task(manager.commit(tx))
        await undoing.wait()
        committing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await committing
        assert timed_out.is_set()
        assert (await manager.get_result(tx)).compensated_steps == ["s1"]
        await manager.close()

    asyncio.run(story())


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_cancellation_during_a_write_waits_for_it_and_goes_back(scripted_store, number):
    async def story():
        store = scripted_store(blocking=True)
        writing, go = threading.Event(), threading.Event()

        def pause():
            writing.set()
            go.wait(30)

        store.before[number] = pause
        calls = []
        names = ("first", "second", "undo_first", "undo_second")
        handlers = dict.fromkeys(names, lambda action, data: calls.append(action))
        manager = AsyncTransactionManager(handlers, store=store)
        tx = await begun(manager, "first", "second")
        committing = asyncio.create_task(manager.commit(tx))
        await asyncio.to_thread(writing.wait)
        committing.cancel()
        await asyncio.sleep(0)
        assert not committing.done()
        go.set()
        with pytest.raises(asyncio.CancelledError) as caught:
            await committing
        result = await manager.get_result(tx)
        assert result.is_final
        assert result.clean
        assert result.state.value in caught.value.__notes__[0]
        await manager.close()

    asyncio.run(story())


@pytest.mark.parametrize("number,undone", [(2, ["undo_first"]), (4, ["undo_second", "undo_first"])])
def test_a_cancellation_while_a_failed_write_waits_to_be_repeated_stops_no_undo(
    scripted_store, failing, number, undone
):
    async def story():
        store = scripted_store()
        fail = failing()

        def cancel_and_fail():
            asyncio.get_running_loop().call_soon(committing.cancel)
            fail()

        store.before[number] = cancel_and_fail
        calls = []

        async def act(action, data):
            calls.append(action)
            if action == "third":
                raise ValueError("no")

        names = ("first", "second", "third", "undo_first", "undo_second")
        async with AsyncTransactionManager(dict.fromkeys(names, act), store=store) as manager:
            tx = await begun(manager, "first", "second", "third")
            committing = asyncio.create_task(manager.commit(tx))
            with pytest.raises(asyncio.CancelledError) as caught:
                await committing
            assert tx.state.value == "rolled_back"
            assert [call for call in calls if call.startswith("undo_")][-len(undone) :] == undone
            assert (await manager.get_result(tx)).clean
            assert "is rolled_back" in caught.value.__notes__[0]

    asyncio.run(story())


def test_a_cancellation_while_foreign_news_is_read_is_noted(scripted_store):
    async def story():
        reading, go = threading.Event(), threading.Event()
        calls = []

        class Slow(scripted_store):  # type: ignore[misc, valid-type]  # a fixture
            def read(self, transaction_id):
                if calls == ["first"]:
                    reading.set()
                    go.wait(30)
                return super().read(transaction_id)

        slow = Slow(blocking=True)
        names = ("first", "second", "undo_first", "undo_second")
        handlers = dict.fromkeys(names, lambda action, data: calls.append(action))
        async with (
            AsyncTransactionManager(handlers, store=slow) as manager,
            AsyncTransactionManager(handlers, store=slow) as other,
        ):
            tx = await begun(manager, "first", "second")
            asked = []

            def ask():
                # From a thread: somebody else's wish comes between, and this append is too late.
                calls.append("asked")
                wish = other.rollback(theirs)
                asked.append(asyncio.run_coroutine_threadsafe(wish, loop))
                while slow._by_id[tx.transaction_id].entries[-1].__class__.__name__ != (
                    "RollbackRequested"
                ):
                    pass
                calls.remove("asked")

            loop = asyncio.get_running_loop()
            await manager.save(tx)
            theirs = await other.get_transaction(tx.transaction_id)
            slow.before[3] = ask
            committing = asyncio.create_task(manager.commit(tx))
            await asyncio.to_thread(reading.wait)
            committing.cancel()
            await asyncio.sleep(0)
            go.set()
            with pytest.raises(asyncio.CancelledError):
                await committing
            assert tx.state.value == "rolled_back"
            assert calls == ["first", "undo_first"]
            await asyncio.wrap_future(asked[0])

    asyncio.run(story())


def test_a_timeout_around_a_commit_is_a_timeout_and_leaves_nothing_standing():
    async def story():
        standing = set()

        async def act(action, data):
            if action == "undo_act":
                standing.discard("act")
                return
            standing.add("act")
            await asyncio.Event().wait()

        manager = AsyncTransactionManager({"act": act, "undo_act": act})
        tx = await begun(manager, "act")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await manager.commit(tx)
        assert standing == set()
        assert tx.state.value == "rolled_back"
        await manager.close()

    asyncio.run(story())
