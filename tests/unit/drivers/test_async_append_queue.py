"""Group commit of tasks: who writes, who waits, and what a lock is held over."""
# mypy: disable-error-code="arg-type, attr-defined"

import asyncio
import threading

import pytest

from aumai_transactions import AsyncTransactionManager, StoreUnavailable
from aumai_transactions.drivers import promptness
from aumai_transactions.drivers.async_append_queue import ROUND_MAX, AsyncAppendQueue
from aumai_transactions.drivers.operations import DoTurn
from aumai_transactions.store import Query
from aumai_transactions.stores.sqlite import SqliteStore


async def nothing(action, data):
    """Do nothing, well."""


class Watched(SqliteStore):
    """A store that takes note of who writes how much, and can be told to fail."""

    def __init__(self, path):
        self.writes = []
        self.failures = []
        self.is_slow = False
        super().__init__(path)

    def append(self, appends):
        self.writes.append((threading.get_ident(), len(appends)))
        return super().append(appends)

    def append_at_once(self, appends):
        if self.is_slow:
            return None
        if self.failures:
            error = self.failures.pop(0)
            if error is not None:
                raise error
        answers = super().append_at_once(appends)
        if answers is not None:
            self.writes.append((threading.get_ident(), len(appends)))
        return answers

    @property
    def sizes(self):
        return [size for _thread, size in self.writes]


@pytest.fixture(autouse=True)
def any_disk_is_quick(monkeypatch):
    monkeypatch.setattr(promptness, "PROMPT_SECONDS", 60)


@pytest.fixture
def store(tmp_path):
    with Watched(tmp_path / "s.db") as store:
        yield store


def managed(store, story):
    async def run():
        handlers = {"act": nothing, "undo": nothing}
        async with AsyncTransactionManager(handlers, store=store) as manager:
            # The first write of a handle sees to the names of its files, in a thread.
            await planned(manager)
            store.writes.clear()
            return await story(manager)

    return asyncio.run(run())


async def planned(manager, steps=2):
    tx = await manager.begin()
    for number in range(steps):
        manager.add_step(tx, "agent", "act", {"n": number}, "undo")
    return await manager.commit(tx)


async def interactive(manager, steps=2):
    async with manager.transaction() as tx:
        for number in range(steps):
            await tx.execute("agent", "act", {"n": number}, "undo")
    return tx.result


@pytest.mark.parametrize("kind", [planned, interactive])
def test_the_loop_writes_for_all_who_came_in_one_turn_of_it(store, kind):
    async def story(manager):
        return await asyncio.gather(*(kind(manager) for _ in range(20)))

    results = managed(store, story)
    assert {result.state.value for result in results} == {"committed"}
    assert {thread for thread, _size in store.writes} == {threading.get_ident()}
    assert max(store.sizes) == 20
    # As many writes as one transaction has.
    assert len(store.writes) <= 6


def test_planned_and_interactive_ones_share_a_write(store):
    async def story(manager):
        return await asyncio.gather(*(k(manager) for k in [planned, interactive] * 5))

    managed(store, story)
    assert max(store.sizes) > 5


@pytest.mark.parametrize("kind", [planned, interactive])
def test_no_more_than_a_round_is_written_before_the_loop_goes_on(store, kind):
    turns = []

    async def count_turns(until):
        while not until.is_set():
            turns.append(len(store.writes))
            await asyncio.sleep(0)

    async def story(manager):
        over = asyncio.Event()
        counting = asyncio.create_task(count_turns(over))
        await asyncio.gather(*(kind(manager, 1) for _ in range(ROUND_MAX + 10)))
        over.set()
        await counting

    managed(store, story)
    assert max(store.sizes) == ROUND_MAX
    assert turns.count(0) >= 1
    # After each write, whatever else runs in the loop has its turn.
    assert set(turns) >= set(range(1, len(store.writes)))


@pytest.mark.parametrize("kind", [planned, interactive])
def test_while_somebody_else_writes_a_thread_waits_and_the_loop_does_not(store, kind, tmp_path):
    with SqliteStore(tmp_path / "s.db") as other:

        async def story(manager):
            other._database.writer.acquire()
            waiting = [asyncio.create_task(kind(manager)) for _ in range(5)]
            for _ in range(50):
                await asyncio.sleep(0)  # It comes back, again and again.
            # Who has come to write is one thread; how many were with it depends on when it began.
            assert len(store.writes) <= 1
            assert not any(task.done() for task in waiting)
            other._database.writer.release()
            return await asyncio.gather(*waiting)

        results = managed(store, story)
    assert {result.state.value for result in results} == {"committed"}
    assert threading.get_ident() != store.writes[0][0]


@pytest.mark.parametrize("kind", [planned, interactive])
def test_a_thread_writes_for_all_as_well(store, kind):
    store.is_slow = True

    async def story(manager):
        return await asyncio.gather(*(kind(manager) for _ in range(20)))

    results = managed(store, story)
    assert {result.state.value for result in results} == {"committed"}
    assert threading.get_ident() not in {thread for thread, _size in store.writes}
    assert max(store.sizes) >= 10


@pytest.mark.parametrize("kind", [planned, interactive])
def test_a_write_of_which_nobody_knows_is_asked_for_again_by_each(store, kind):
    async def story(manager):
        store.failures = [None, StoreUnavailable("the answer was lost", outcome_unknown=True)]
        return await asyncio.gather(*(kind(manager) for _ in range(5)))

    results = managed(store, story)
    assert {result.state.value for result in results} == {"committed"}


@pytest.mark.parametrize("kind", [planned, interactive])
def test_an_interrupt_in_a_write_of_the_loop_loses_nobodys_write(store, kind):
    async def story(manager):
        store.failures = [None, KeyboardInterrupt()]
        return await kind(manager)

    with pytest.raises(KeyboardInterrupt):
        managed(store, story)
    states = [one.summary.state.value for one in store.find(Query())]
    assert states == ["committed", "rolled_back"]


class Waiter:
    transaction_id = "t"
    interrupt = None
    is_callers = True


class Breaking:
    """A store whose every write is broken off by something that no store raises."""

    is_blocking = True

    def __init__(self, is_prompt):
        self.is_prompt = is_prompt

    def append(self, appends):
        raise SystemExit("in a thread")

    def append_at_once(self, appends):
        if self.is_prompt:
            raise KeyboardInterrupt


def quiet_turn():
    """A turn that has nothing to write."""
    return "its value"
    yield


def test_an_interrupt_of_a_write_leaves_no_turn_waiting_that_had_ended_before():
    loop = asyncio.new_event_loop()

    async def begin():
        queue = AsyncAppendQueue(Breaking(is_prompt=True))
        turn = DoTurn(None, threading.Lock(), quiet_turn, Waiter())
        return [
            loop.create_task(queue.append("an append", Waiter())),
            loop.create_task(queue.turn(turn)),
        ]

    async def outcomes(tasks):
        return await asyncio.gather(*tasks, return_exceptions=True)

    try:
        tasks = loop.run_until_complete(begin())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(outcomes(tasks))
        error, value = loop.run_until_complete(asyncio.wait_for(outcomes(tasks), 10))
    finally:
        loop.close()
    assert (type(error), error.outcome_unknown) == (StoreUnavailable, True)
    assert value == "its value"


def test_a_write_of_a_thread_that_is_broken_off_is_unknown_to_whoever_waits():
    async def story():
        queue = AsyncAppendQueue(Breaking(is_prompt=False))
        try:
            await asyncio.wait_for(queue.append("an append", Waiter()), 10)
        finally:
            queue.close()

    with pytest.raises(StoreUnavailable, match="broken off") as caught:
        asyncio.run(story())
    assert caught.value.outcome_unknown


def test_many_tasks_and_threads_of_one_block_end(store):
    """Whoever waits for a turn in a thread does not keep the one who has it from writing."""
    store.is_slow = True

    async def story(manager):
        async with manager.transaction() as tx:
            for _ in range(3):
                await asyncio.gather(
                    *(tx.execute("agent", "act", {"n": n}, "undo", again=True) for n in range(80))
                )
        return tx.result

    result = managed(store, story)
    assert (result.state.value, len(result.completed_steps)) == ("committed", 240)


def test_a_cancelled_task_leaves_a_turn_whole(store):
    store.is_slow = True

    async def story(manager):
        there = asyncio.Event()

        async def one():
            async with manager.transaction() as tx:
                await tx.execute("agent", "act", {"n": 1}, "undo")
                there.set()
                await tx.execute("agent", "act", {"n": 2}, "undo")

        task = asyncio.create_task(one())
        await there.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return [tx async for tx in manager.get_all_transactions()]

    found = managed(store, story)
    assert [tx.state.value for tx in found] == ["committed", "rolled_back"]
