"""What the code around a call knows without being told: in threads, in tasks, and afterwards."""
# mypy: disable-error-code="union-attr"

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aumai_transactions import (
    AsyncTransactionManager,
    InvalidTransactionState,
    NoActiveTransaction,
    TransactionNotActive,
    require_transaction,
    step,
)
from aumai_transactions.drivers.ambient import AGENT, AMBIENT, CALLING, RETURNED, SCOPES


class GaveUp(Exception):
    pass


@step(name="ambient.act", required=True)
def act(n: int) -> int:
    return n


@step(name="ambient.act_later", required=True)
async def act_later(n: int) -> int:
    await asyncio.sleep(0)
    return n


@pytest.fixture
def async_manager():
    """Return what makes async managers; each closes with its block."""
    return AsyncTransactionManager


def variables():
    return [one.get() for one in (AMBIENT, SCOPES, AGENT, CALLING, RETURNED)]


def test_a_block_leaves_its_context_as_it_was(make_sync):
    before = variables()
    manager = make_sync()
    with manager.transaction() as tx:
        with tx.agent("one"), tx.savepoint(), manager.transaction(name="inner"):
            act(1)
        with pytest.raises(GaveUp), tx.transaction("failing"):
            raise GaveUp
        assert AMBIENT.get() is tx
    assert [value or None for value in variables()] == [value or None for value in before]


# ---------------------------------------------------------------------------------------- threads


def test_a_worker_thread_of_asyncio_stands_in_the_transaction(async_manager):
    async def story():
        async with async_manager() as manager, manager.transaction() as tx:
            with tx.agent("one"):
                values = await asyncio.gather(
                    *(asyncio.to_thread(act, n) for n in range(8)), *(act_later(8),)
                )
            return values, tx.steps

    values, steps = asyncio.run(story())
    assert values == list(range(9))
    assert sorted(one.data["n"] for one in steps) == list(range(9))
    assert {one.agent_id for one in steps} == {"one"}


def test_a_thread_of_ones_own_does_not_and_says_so(make_sync, in_thread):
    with make_sync().transaction() as tx:
        with pytest.raises(NoActiveTransaction, match=r"tx\.bind\(function\)"):
            in_thread(act, 1).result()
        with pytest.raises(NoActiveTransaction):
            in_thread(require_transaction).result()
        assert in_thread(tx.bind(act), 2).result() == 2
    assert [one.data for one in tx.steps] == [{"n": 2}]


def test_what_is_bound_stands_where_it_was_bound_whoever_calls_it(make_sync):
    manager = make_sync()
    with manager.transaction() as tx, ThreadPoolExecutor(2) as pool:
        with tx.agent("one"), tx.transaction("inner"):
            bound = tx.bind(act)
            list(pool.map(bound, range(4)))
            assert AMBIENT.get() is not tx
        with tx.agent("two"):
            assert list(pool.map(tx.bind(require_transaction), [])) == []
            assert pool.submit(tx.bind(act), 4).result() == 4
        assert pool.submit(AMBIENT.get).result() is None
    told = [(one.data["n"], one.agent_id, one.scope_id) for one in tx.steps]
    inner = tx.steps[0].scope_id
    assert inner is not None
    assert sorted(told, key=lambda one: one[0])[:4] == [(n, "one", inner) for n in range(4)]
    assert told[4] == (4, "two", None)


def test_a_thread_of_its_own_transaction_is_not_disturbed(make_sync, in_thread):
    mine, other = make_sync(), make_sync()
    with mine.transaction() as outer:
        bound = outer.bind(act)

        def story():
            with other.transaction() as inner:
                bound(1)
                act(2)
                assert require_transaction() is inner
            return inner

        inner = in_thread(story).result()
    assert [one.data for one in outer.steps] == [{"n": 1}]
    assert [one.data for one in inner.steps] == [{"n": 2}]


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_many_threads_execute_steps_of_one_transaction(make_sync, make_store, store):
    manager = make_sync(store=make_store(store))
    with manager.transaction() as tx, ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(tx.bind(act), range(40))) == list(range(40))
    assert tx.result.state.value == "committed"
    assert sorted(tx.result.outputs.values()) == list(range(40))


# ------------------------------------------------------------------------------------------ tasks


def test_each_task_has_its_own_transaction(async_manager):
    async def one(manager, n):
        async with manager.transaction() as tx:
            await act_later(n)
            await asyncio.sleep(0)
            act(n)
            assert require_transaction() is tx
        return [one.data["n"] for one in tx.steps]

    async def story():
        async with async_manager() as manager:
            return await asyncio.gather(*(one(manager, n) for n in range(5)))

    assert asyncio.run(story()) == [[n, n] for n in range(5)]


def test_agents_that_share_a_transaction_keep_apart(async_manager):
    async def agent(tx, name, ready):
        with tx.agent(name):
            async with tx.savepoint(name):
                await act_later(1)
                ready.set()
                await asyncio.sleep(0)
                act(2)

    async def story():
        async with async_manager() as manager, manager.transaction() as tx:
            ready = asyncio.Event()
            await asyncio.gather(agent(tx, "one", ready), agent(tx, "two", ready))
            await act_later(3)
            return tx.steps

    steps = asyncio.run(story())
    scopes = {
        one.agent_id: {other.scope_id for other in steps if other.agent_id == one.agent_id}
        for one in steps
    }
    assert {name: len(ids) for name, ids in scopes.items()} == {"one": 1, "two": 1, "default": 1}
    assert scopes["default"] == {None}


@pytest.mark.parametrize("is_async", [True, False])
def test_a_task_that_outlives_its_block_is_refused(async_manager, is_async):
    called = []

    @step
    def late(n):
        called.append(n)

    @step
    async def late_too(n):
        called.append(n)

    async def straggler(left):
        await left.wait()
        return await late_too(1) if is_async else late(1)

    async def story():
        left = asyncio.Event()
        async with async_manager() as manager:
            async with manager.transaction():
                await act_later(1)
                task = asyncio.create_task(straggler(left))
                # Why: the task takes the context that there is when it is made.
                await asyncio.sleep(0)
            left.set()
            with pytest.raises(TransactionNotActive, match="Nothing was done"):
                await task

    asyncio.run(story())
    assert called == []


def test_what_is_bound_is_refused_once_the_block_has_been_left(make_sync):
    manager = make_sync()
    with manager.transaction() as tx:
        bound = tx.bind(act)
    with pytest.raises(TransactionNotActive):
        bound(1)
    with pytest.raises(GaveUp), manager.transaction() as other:  # noqa: PT012
        act(1)
        bound = other.bind(act)
        raise GaveUp
    with pytest.raises(TransactionNotActive):
        bound(1)


# ----------------------------------------------------------------------------------------- agents


def test_an_agent_is_given_or_ambient_or_called_default(make_sync):
    given = step(agent_id="given")(lambda: None)
    plain = step(lambda: None)
    with make_sync().transaction() as tx:
        plain()
        given()
        with tx.agent("ambient"):
            plain()
            given()
            with tx.agent("inner"):
                plain()
            plain()
            tx.execute(None, "ambient.act", {"n": 1})
            tx.execute("named", "ambient.act", {"n": 2})
        plain()
    assert [one.agent_id for one in tx.steps] == [
        *("default", "given", "ambient", "given", "inner"),
        *("ambient", "ambient", "named", "default"),
    ]


def test_an_agent_without_a_name_is_refused(make_sync):
    with make_sync().transaction() as tx, pytest.raises(Exception, match="agent_id"), tx.agent(""):
        pass


# --------------------------------------------------------------------------------- inside a handler


def test_a_handler_may_not_end_the_transaction_that_it_serves(make_sync):
    refused: list[Any] = []

    @step
    def meddle():
        tx: Any = require_transaction()
        for call in (tx.commit, tx.rollback):
            with pytest.raises(InvalidTransactionState, match="carrying out this very step") as it:
                call()
            refused.append(it)
        assert tx.transaction_id in CALLING.get()

    with make_sync().transaction():
        meddle()
    assert len(refused) == 2
    assert CALLING.get() == ()


def test_a_sync_handler_under_tasks_stands_in_the_transaction_too(async_manager):
    threads = []

    @step
    def outer(n):
        threads.append(threading.current_thread())
        return act(n)

    async def story():
        async with async_manager() as manager, manager.transaction() as tx:
            assert await asyncio.to_thread(outer, 1) == 1
            assert await tx.execute("agent", "ambient.act", {"n": 2}) == 2
            return [one.action.rpartition(".")[2] for one in tx.steps]

    assert asyncio.run(story()) == ["outer", "act", "act"]
    assert threads[0] is not threading.main_thread()


def test_a_nested_loop_in_a_step_stands_in_the_transaction(make_sync):
    @step
    def outer(n):
        return asyncio.run(act_later(n)) + act(n)

    with make_sync().transaction() as tx:
        assert outer(2) == 4
    assert len(tx.steps) == 3
