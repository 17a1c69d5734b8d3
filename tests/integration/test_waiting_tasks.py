"""Waits of the driver with asyncio: what is slept in hand, what is parked, and who goes on."""
# mypy: disable-error-code="union-attr, var-annotated"

import asyncio
import contextlib

import pytest

from aumai_transactions import AsyncTransactionManager, Continue, RetryPolicy
from aumai_transactions.core.entries import RetryScheduled
from aumai_transactions.drivers.pauses import HOLD_SECONDS_MAX
from aumai_transactions.store import Query
from aumai_transactions.stores.sqlite import SqliteStore


def every(seconds, attempts_max=5):
    """A policy whose waits are all exactly this long."""
    return RetryPolicy(
        attempts_max=attempts_max,
        first_delay_seconds=seconds,
        delay_factor=1,
        delay_seconds_max=seconds,
        jitter=0,
    )


@contextlib.asynccontextmanager
async def joined(trip, place, clock):
    async with AsyncTransactionManager(store=place, clock=clock) as manager:
        trip.register(manager)
        yield manager


async def begun(manager, *actions):
    tx = await manager.begin()
    for action in actions or ("ok", "act"):
        manager.add_step(tx, "agent", action, {})
    return tx


async def listed(manager):
    (found,) = await manager.find(Query())
    return found


def held_back(clock):
    """Let the next sleep by this clock last until `go`; `there` tells that it has begun."""
    there, go = asyncio.Event(), asyncio.Event()

    async def hold():
        there.set()
        await go.wait()

    clock.at[len(clock.sleeps) + 1] = hold
    return there, go


def test_a_short_wait_is_slept_once_with_the_transaction_in_hand(world, place, clock):
    async def story():
        trip = world(retry=every(HOLD_SECONDS_MAX))
        async with joined(trip, place, clock) as manager:
            there, go = held_back(clock)
            committing = asyncio.create_task(manager.commit(await begun(manager)))
            await there.wait()
            assert (await listed(manager)).driver_id is not None
            go.set()
            assert (await committing).state.value == "committed"
        assert clock.sleeps == [HOLD_SECONDS_MAX]

    asyncio.run(story())


def test_a_longer_wait_is_parked_so_that_nobody_holds_it(world, place, clock):
    async def story():
        trip = world(retry=every(HOLD_SECONDS_MAX + 0.001))
        async with joined(trip, place, clock) as manager:
            there, go = held_back(clock)
            began = clock.now()
            committing = asyncio.create_task(manager.commit(await begun(manager)))
            await there.wait()
            found = await listed(manager)
            assert (found.driver_id, found.summary.due_at) == (None, began + 2_001_000)
            go.set()
            assert (await committing).state.value == "committed"
        assert trip.calls == ["ok", "act 1", "act 2"]

    asyncio.run(story())


@pytest.mark.parametrize("seconds", [0, 4, 5])
def test_commit_waits_as_long_as_it_is_told(world, place, clock, seconds):
    async def story():
        trip = world(retry=every(5))
        async with joined(trip, place, clock) as manager:
            result = await manager.commit(await begun(manager), wait_max_seconds=seconds)
            assert result.is_final is (seconds == 5)
            if not result.is_final:
                assert (result.waiting.reason, result.waiting.step_ids) == ("retry", ["s2"])
                assert (await manager.wait(result.transaction_id)).state.value == "committed"
        assert trip.calls == ["ok", "act 1", "act 2"]

    asyncio.run(story())


def test_a_thousand_parked_transactions_block_nobody(world, place, make_clock):
    count = 1_000

    async def story():
        clock = make_clock()
        trip = world(failures=count, retry=every(20))
        parked, go = [], asyncio.Event()

        async def hold():
            parked.append(None)
            await go.wait()

        class Everybody(dict):
            def get(self, number, default=None):
                return hold

        clock.at = Everybody()
        async with joined(trip, place, clock) as manager:
            txs = [await begun(manager, "act") for _ in range(count)]
            committing = [asyncio.create_task(manager.commit(tx)) for tx in txs]
            while len(parked) < count:  # noqa: ASYNC110 (only the loop can tell)
                await asyncio.sleep(0)
            # All of them wait, and nobody holds any of them; another one goes through.
            listed = await manager.find(Query(limit=count))
            assert {found.driver_id for found in listed} == {None}
            assert (await manager.commit(await begun(manager, "ok"))).state.value == "committed"
            go.set()
            results = await asyncio.gather(*committing)
            assert {result.state.value for result in results} == {"committed"}
        assert trip.calls.count("act 1") == trip.calls.count("act 2") == count

    asyncio.run(story())


@pytest.mark.parametrize("is_same", [True, False])
def test_a_rollback_of_a_parked_one_goes_back_at_once_and_commit_returns_the_same(
    world, place, make_clock, is_same
):
    async def story():
        trip = world(retry=every(25))
        mine, theirs = make_clock(), make_clock()
        async with joined(trip, place, mine) as manager, joined(trip, place, theirs) as other:
            there, go = held_back(mine)
            tx = await begun(manager)
            committing = asyncio.create_task(manager.commit(tx))
            await there.wait()
            asked = manager if is_same else other
            result = await asked.rollback(await asked.get_transaction(tx.transaction_id))
            assert (result.state.value, result.reason) == ("rolled_back", "requested")
            assert theirs.sleeps == []
            go.set()
            assert await committing == result
            assert trip.calls == ["ok", "act 1", "undo"]
            assert tx.state.value == "rolled_back"

    asyncio.run(story())


def test_an_operators_wish_is_heard_when_a_wait_in_hand_is_over(world, place, make_clock):
    async def story():
        trip = world(retry=every(HOLD_SECONDS_MAX))
        mine, theirs = make_clock(), make_clock()
        async with joined(trip, place, mine) as manager, joined(trip, place, theirs) as other:
            there, go = held_back(mine)
            tx = await begun(manager)
            committing = asyncio.create_task(manager.commit(tx))
            await there.wait()
            asked, heard = held_back(theirs)
            rolling = asyncio.create_task(
                other.rollback(await other.get_transaction(tx.transaction_id))
            )
            await asked.wait()
            go.set()
            assert (await committing).reason == "requested"
            heard.set()
            assert (await rolling).state.value == "rolled_back"
            assert trip.calls == ["ok", "act 1", "undo"]

    asyncio.run(story())


def test_of_tasks_and_managers_that_race_for_a_due_one_one_makes_the_attempt(
    world, place, make_clock
):
    async def story():
        trip = world(retry=every(100))
        mine, theirs = make_clock(), make_clock()
        async with joined(trip, place, mine) as manager, joined(trip, place, theirs) as other:
            tx = await begun(manager)
            await manager.commit(tx)
            for clock in (mine, theirs):
                clock.advance(100)
            name = tx.transaction_id
            await asyncio.gather(
                manager.recover(), other.recover(), manager.wait(name), other.wait(name)
            )
            assert trip.calls == ["ok", "act 1", "act 2"]
            assert (await manager.get_result(tx)).state.value == "committed"

    asyncio.run(story())


# -------------------------------------------------------------------------------- cancellation


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("seconds", [1, 10])
def test_a_cancellation_of_a_wait_rolls_back_and_is_raised(world, place, clock, seconds, times):
    async def story():
        trip = world(retry=every(seconds))
        async with joined(trip, place, clock) as manager:
            there, _go = held_back(clock)
            tx = await begun(manager)
            committing = asyncio.create_task(manager.commit(tx))
            await there.wait()
            for _ in range(times):
                committing.cancel()
                await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError):
                await committing
            assert committing.cancelled()
            result = await manager.get_result(tx)
            assert (result.state.value, result.reason) == ("rolled_back", "cancelled")
            assert trip.calls == ["ok", "act 1", "undo"]
            assert tx.state.value == "rolled_back"

    asyncio.run(story())


def test_a_timeout_around_a_commit_that_waits_is_a_timeout(world, place, clock):
    async def story():
        trip = world(retry=every(1))
        async with joined(trip, place, clock) as manager:
            held_back(clock)
            tx = await begun(manager)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await manager.commit(tx)
            assert (await manager.get_result(tx)).clean

    asyncio.run(story())


class CancelsWhileItWrites(SqliteStore):
    """A store in whose write of a wait the task that waits is cancelled."""

    loop: asyncio.AbstractEventLoop
    task: "asyncio.Task[object] | None" = None

    def append(self, appends):
        kinds = {type(entry) for append in appends for entry in append.entries}
        if self.task is not None and RetryScheduled in kinds:
            asyncio.run_coroutine_threadsafe(self._cancel(self.task), self.loop).result()
            self.task = None
        return super().append(appends)

    @staticmethod
    async def _cancel(task):
        task.cancel()


def test_a_cancellation_while_a_wait_is_recorded_does_not_wait_for_it(world, clock, tmp_path):
    async def story():
        trip = world(retry=every(1))
        store = CancelsWhileItWrites(tmp_path / "cancels.db", clock=clock)
        store.loop = asyncio.get_running_loop()
        async with joined(trip, store, clock) as manager:
            held_back(clock)
            tx = await begun(manager)
            store.task = asyncio.create_task(manager.commit(tx))
            committing = store.task
            with pytest.raises(asyncio.CancelledError):
                await committing
            assert (await manager.get_result(tx)).reason == "cancelled"
        store.close()

    asyncio.run(story())


def test_a_cancelled_wait_in_hand_leaves_nothing_that_others_cannot_take(world, place, clock):
    async def story():
        trip = world(failures=4, retry=every(1))
        async with joined(trip, place, clock) as manager:
            tx = await begun(manager)
            await manager.commit(tx, wait_max_seconds=0)
            clock.advance(1)
            there, _go = held_back(clock)
            waiting = asyncio.create_task(manager.wait(tx))
            await there.wait()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert (await listed(manager)).driver_id is None

    asyncio.run(story())


def test_a_cancelled_wait_outside_leaves_it_to_whoever_comes_by(world, place, clock):
    async def story():
        trip = world(retry=every(100))
        async with joined(trip, place, clock) as manager:
            tx = await begun(manager)
            await manager.commit(tx)
            there, _go = held_back(clock)
            waiting = asyncio.create_task(manager.wait(tx))
            await there.wait()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert (await manager.get_result(tx)).waiting.reason == "retry"
            clock.advance(100)
            (report,) = await manager.recover()
            assert report.detail == "committed"

    asyncio.run(story())


def test_a_cancellation_between_two_undos_does_not_stop_the_undo(world, place, clock):
    async def story():
        trip = world()
        async with joined(trip, place, clock) as manager:

            @manager.action("undo", retry=every(1, attempts_max=3))
            async def undo(action, data, context):
                trip.calls.append(f"undo {context.attempt}")
                if context.attempt < 3:
                    raise ConnectionError("down")

            there, _go = held_back(clock)
            tx = await begun(manager)
            committing = asyncio.create_task(manager.commit(tx))
            await there.wait()
            committing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await committing
            assert trip.calls == ["ok", "act 1", "undo 1", "undo 2", "undo 3"]
            assert (await manager.get_result(tx)).clean

    asyncio.run(story())


def test_a_cancellation_while_an_undo_runs_is_heard_although_the_undo_goes_on(place, clock):
    async def story():
        entered, go = asyncio.Event(), asyncio.Event()
        calls = []

        async def fail(action, data):
            calls.append(action)
            if calls.count(action) == 1:
                raise ValueError("no")

        async def undo(action, data, context):
            calls.append(f"undo {context.attempt}")
            if context.attempt > 1:
                return None
            entered.set()
            await go.wait()
            return Continue("from the cache")

        async with AsyncTransactionManager(store=place, clock=clock) as manager:
            manager.action("ok", compensating_action="undo")(lambda action, data: None)
            manager.action("fail", compensating_action="undo")(fail)
            manager.action("undo")(undo)
            tx = await begun(manager, "ok", "fail")
            committing = asyncio.create_task(manager.commit(tx))
            await entered.wait()
            committing.cancel()
            go.set()
            with pytest.raises(asyncio.CancelledError):
                await committing
            result = await manager.get_result(tx)
            assert (result.state.value, result.reason) == ("rolled_back", "cancelled")
            assert calls == ["fail", "undo 1", "undo 2"]
            assert result.clean

    asyncio.run(story())
