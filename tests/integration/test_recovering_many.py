"""Recovery that carries on several transactions at the same time."""

import asyncio
import threading

import pytest

from aumai_transactions import AsyncTransactionManager, TransactionManager
from aumai_transactions.errors import DefinitionError

COUNT = 12


@pytest.fixture
def place(tmp_path):
    """A store in which twelve transactions wait for somebody who carries them out."""
    path = tmp_path / "store.db"
    with TransactionManager({"act": str}, store=path) as manager:
        for number in range(COUNT):
            tx = manager.begin(name=f"t{number}")
            manager.add_step(tx, "agent", "act", {"n": number})
            manager.submit(tx)
    return path


def test_by_itself_recovery_calls_handlers_in_its_own_thread_one_after_the_other(place):
    threads = []
    handlers = {"act": lambda action, data: threads.append(threading.get_ident())}
    with TransactionManager(handlers, store=place) as manager:
        report = manager.recover()
    assert [item.outcome for item in report] == ["finished"] * COUNT
    assert threads == [threading.get_ident()] * COUNT


def test_with_concurrency_several_are_carried_on_at_the_same_time_and_reported_in_order(place):
    together = threading.Barrier(4)
    inside, most = [], []

    def act(action, data):
        inside.append(data["n"])
        together.wait()
        most.append(len(inside))
        together.wait()
        inside.remove(data["n"])
        together.wait()

    with TransactionManager({"act": act}, store=place) as manager:
        report = manager.recover(concurrency=4)
        names = [tx.name for tx in manager.get_all_transactions()]
        by_id = {tx.transaction_id: tx.name for tx in manager.get_all_transactions()}
    assert most == [4] * COUNT
    assert {item.outcome for item in report} == {"finished"}
    assert [by_id[item.transaction_id] for item in report] == names


def test_tasks_carry_on_several_unless_they_are_told_not_to(place):
    async def story():
        together = asyncio.Barrier(6)

        async def act(action, data):
            await together.wait()

        async with AsyncTransactionManager({"act": act}, store=place) as manager:
            return await manager.recover()

    report = asyncio.run(story())
    assert [item.outcome for item in report] == ["finished"] * COUNT


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_cancelled_recovery_lets_go_of_what_it_had_and_begins_nothing_new(place, concurrency):
    called = []

    async def story():
        there, go = asyncio.Event(), asyncio.Event()

        async def act(action, data):
            called.append(data["n"])
            if len(called) == concurrency:
                there.set()
            await go.wait()

        async with AsyncTransactionManager({"act": act}, store=place) as manager:
            recovering = asyncio.create_task(manager.recover(concurrency=concurrency))
            await there.wait()
            recovering.cancel()
            await asyncio.sleep(0)
            go.set()
            with pytest.raises(asyncio.CancelledError):
                await recovering
            assert len(called) == concurrency

    asyncio.run(story())
    with TransactionManager({"act": lambda action, data: None}, store=place) as manager:
        manager.recover()
        assert {tx.state.is_final for tx in manager.get_all_transactions()} == {True}


@pytest.mark.parametrize("concurrency", [1, 3])
def test_an_interrupt_in_one_of_them_is_raised_and_no_other_is_begun(place, concurrency):
    called = []

    def act(action, data):
        called.append(data["n"])
        raise KeyboardInterrupt

    with TransactionManager({"act": act}, store=place) as manager:
        with pytest.raises(KeyboardInterrupt):
            manager.recover(concurrency=concurrency)
        assert 1 <= len(called) <= concurrency + 1
    with TransactionManager({"act": lambda action, data: None}, store=place) as manager:
        manager.recover()
        # What was called, nobody knows: it waits for a person.
        left = [tx for tx in manager.get_all_transactions() if not tx.state.is_final]
        assert len(left) == len(called)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "4", None, True])
def test_a_concurrency_that_is_none_is_refused(place, wrong):
    with (
        TransactionManager(store=place) as manager,
        pytest.raises(DefinitionError, match="concurrency"),
    ):
        manager.recover(concurrency=wrong)
