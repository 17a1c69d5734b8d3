"""What becomes of open blocks when their manager is closed."""
# ruff: noqa: PT012 (an exception leaves a whole block)
# mypy: disable-error-code="union-attr, var-annotated"

import asyncio
import logging

import pytest

from aumai_transactions import (
    AsyncTransactionManager,
    StoreError,
    TransactionManager,
    TransactionNotActive,
    step,
)


class Shop:
    """Actions of which the world sees the calls."""

    def __init__(self):
        self.calls = []
        self.running = None
        self.go = None

    def register(self, manager):
        manager.action("put", compensating_action="take")(self.act)
        manager.action("slow", compensating_action="take")(self.slow)
        manager.action("take", idempotent=True)(self.act)
        return manager

    def act(self, action, data, context):
        self.calls.append(f"{action} {context.step_id}" + " in doubt" * context.in_doubt)

    def slow(self, action, data):
        self.calls.append("slow")
        self.running.set()
        self.go.wait()


@step(name="tests.closing.noted")
def noted() -> None:
    raise AssertionError


@pytest.fixture
def shop():
    return Shop()


def test_after_it_every_call_on_a_block_raises_by_name_and_does_nothing(gated, shop, caplog):
    manager = shop.register(TransactionManager(store=gated))
    with pytest.raises(TransactionNotActive), manager.transaction() as tx:
        tx.execute("agent", "put")
        child = tx.transaction("child")
        child.__enter__()
        child.execute("agent", "put")
        place = child.savepoint()
        late = tx.transaction("late")
        with caplog.at_level(logging.WARNING):
            manager.close()
        calls = [
            lambda: tx.execute("agent", "put"),
            lambda: child.execute("agent", "put"),
            noted,
            lambda: tx.undo("s1"),
            lambda: child.rollback_to(place),
            place.rollback,
            tx.savepoint,
            tx.transaction,
            tx.commit,
            tx.rollback,
            child.commit,
            child.rollback,
            late.__enter__,
        ]
        for call in calls:
            with pytest.raises(TransactionNotActive, match="manager is closed"):
                call()
        for call in (manager.transaction().__enter__, lambda: manager.join(tx.transaction_id)):
            with pytest.raises(StoreError, match="closed"):
                call()
        with pytest.raises(TransactionNotActive, match="manager is closed"):
            child.__exit__(None, None, None)
        assert child.result.state == "active"
    assert shop.calls == ["put s1", "put s2"]
    assert (tx.result.state.value, len(tx.describe().done)) == ("active", 2)
    assert tx.transaction_id in caplog.text
    with shop.register(TransactionManager(store=gated)) as other:
        (report,) = other.recover()
        assert report.result.compensated_steps == ["s2", "s1"]
    assert shop.calls == ["put s1", "put s2", "take s2", "take s1"]


def test_an_exception_that_leaves_such_a_block_goes_on_and_says_so(gated, shop):
    manager = shop.register(TransactionManager(store=gated))
    with pytest.raises(KeyError) as caught, manager.transaction() as tx, tx.transaction():
        tx.execute("agent", "put")
        manager.close()
        raise KeyError("off")
    assert "manager is closed" in " ".join(caught.value.__notes__)
    assert shop.calls == ["put s1"]


def test_a_call_that_was_under_way_is_in_doubt_for_whoever_recovers_it(
    gated, shop, in_thread, signal
):
    shop.running, shop.go = signal(), signal()
    manager = shop.register(TransactionManager(store=gated))
    block = manager.transaction()
    block.__enter__()
    calling = in_thread(block.bind(block.execute), "agent", "slow")
    shop.running.wait()
    manager.close()
    shop.go.set()
    with pytest.raises(TransactionNotActive, match="what was under way"):
        calling.result()
    with shop.register(TransactionManager(store=gated)) as other:
        other.recover()
        assert other.get_result(block.transaction_id).state == "rolled_back"
    assert shop.calls == ["slow", "take s1 in doubt"]
    with pytest.raises(TransactionNotActive):
        block.__exit__(None, None, None)


def test_one_that_waits_to_be_resumed_is_resumed_by_another_manager(gated, shop):
    manager = shop.register(TransactionManager(store=gated))
    with (
        pytest.raises(TransactionNotActive),
        manager.transaction(on_crash="wait", resume_within_seconds=60) as tx,
    ):
        tx.execute("agent", "put")
        manager.close()
    with shop.register(TransactionManager(store=gated)) as other:
        with other.resume(tx.transaction_id) as again:
            again.execute("agent", "put")
        assert again.result.state == "committed"
    assert shop.calls == ["put s1"]


def test_the_same_with_tasks(gated, shop):
    async def main():
        manager = shop.register(AsyncTransactionManager(store=gated))
        with pytest.raises(TransactionNotActive):
            async with manager.transaction() as tx:
                await tx.execute("agent", "put")
                child = tx.transaction("child")
                await child.__aenter__()
                place = child.savepoint()
                running, go = asyncio.Event(), asyncio.Event()

                @manager.action("slow", compensating_action="take")
                async def slow(action, data):
                    running.set()
                    await go.wait()

                calling = asyncio.create_task(child.execute("agent", "slow"))
                await running.wait()
                await manager.close()
                go.set()
                for call in (
                    lambda: calling,
                    lambda: tx.execute("agent", "put"),
                    lambda: tx.undo("s1"),
                    lambda: child.rollback_to(place),
                    tx.commit,
                    tx.rollback,
                    child.commit,
                    lambda: child.__aexit__(None, None, None),
                ):
                    with pytest.raises(TransactionNotActive, match="manager is closed"):
                        await call()
                for make in (tx.savepoint, tx.transaction):
                    with pytest.raises(TransactionNotActive, match="manager is closed"):
                        make()
        assert tx.result.state == "active"
        return tx.transaction_id

    name = asyncio.run(main())
    with shop.register(TransactionManager(store=gated)) as other:
        other.recover()
        assert other.get_result(name).state == "rolled_back"
    assert shop.calls == ["put s1", "take s2 in doubt", "take s1"]
