"""Tests of a block that is left while somebody says that a run in it is not over."""
# ruff: noqa: PT012 (an exception leaves a whole block)

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from aumai_transactions import (
    ApprovalPending,
    AsyncTransactionManager,
    TransactionManager,
    TransactionNotFinal,
    TransactionRolledBack,
)
from aumai_transactions.drivers import taking_part, unfinished
from aumai_transactions.drivers.unfinished import begin_run, end_run, unfinished_of

WAITS: dict[str, Any] = {"on_crash": "wait", "resume_within_seconds": 3600}


class World:
    """Hold what was done, and the actions that do it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.rooms: list[str] = []

    def book(self, _action: str, data: dict[str, Any]) -> str:
        self.calls.append(data["hotel"])
        self.rooms.append(data["hotel"])
        return f"{data['hotel']} 7"

    def cancel(self, _action: str, data: dict[str, Any]) -> None:
        self.rooms.remove(data["hotel"])

    def register(self, manager: Any) -> None:
        manager.action("book", compensating_action="cancel")(self.book)
        manager.action("cancel")(self.cancel)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def manager(world: World) -> TransactionManager:
    manager = TransactionManager()
    world.register(manager)
    return manager


def book(tx: Any, hotel: str) -> Any:
    return tx.execute("agent", "book", {"hotel": hotel})


def test_a_block_that_is_left_before_its_run_is_over_is_undone_and_says_why(
    manager: TransactionManager, world: World
) -> None:
    with pytest.raises(TransactionRolledBack, match="the agent waits"), manager.transaction() as tx:
        book(tx, "Ritz")
        begin_run(tx, "run", "the agent waits")
    assert tx.result is not None
    assert tx.result.state == "rolled_back"
    assert world.rooms == []


def test_a_run_that_is_over_hinders_nothing_and_an_exception_undoes_as_ever(
    manager: TransactionManager, world: World
) -> None:
    with manager.transaction() as tx:
        book(tx, "Ritz")
        begin_run(tx, "run", "the agent waits")
        assert unfinished_of(tx) == ["run"]
        end_run(tx, "run")
    assert world.rooms == ["Ritz"]
    with pytest.raises(KeyError), manager.transaction(**WAITS) as tx:
        book(tx, "Savoy")
        begin_run(tx, "run", "the agent waits")
        raise KeyError
    assert world.rooms == ["Ritz"]


def test_the_programs_own_commit_and_rollback_are_its_own_word(
    manager: TransactionManager, world: World
) -> None:
    with manager.transaction() as tx:
        book(tx, "Ritz")
        begin_run(tx, "run", "the agent waits")
        tx.commit()
    with manager.transaction(**WAITS) as tx:
        book(tx, "Savoy")
        begin_run(tx, "run", "the agent waits")
        tx.rollback("enough")
    assert world.rooms == ["Ritz"]


@pytest.mark.parametrize("done", [["Ritz"], []], ids=["after a step", "before the first step"])
def test_a_block_whose_program_comes_back_waits_for_it(
    manager: TransactionManager, world: World, done: list[str]
) -> None:
    with pytest.raises(TransactionNotFinal), manager.transaction(**WAITS) as tx:
        for hotel in done:
            book(tx, hotel)
        begin_run(tx, "run", "the agent waits")
    assert tx.result is not None
    assert tx.result.waiting is not None
    assert tx.result.waiting.reason == "resume"
    assert [one.outcome for one in manager.recover()] == []
    assert world.rooms == done
    with manager.resume(tx.transaction_id) as tx:
        assert book(tx, "Ritz") == "Ritz 7"
        assert book(tx, "Savoy") == "Savoy 7"
    assert world.calls == ["Ritz", "Savoy"]


def test_what_nobody_resumes_in_time_goes_back(world: World, make_sync: Any, clock: Any) -> None:
    manager = make_sync(clock=clock)
    world.register(manager)
    with pytest.raises(TransactionNotFinal), manager.transaction(**WAITS) as tx:
        book(tx, "Ritz")
        begin_run(tx, "run", "the agent waits")
    clock.advance(3_601)
    manager.recover()
    assert manager.get_result(tx.transaction_id).state == "rolled_back"
    assert world.rooms == []


def test_a_transaction_that_has_gone_back_meanwhile_does_not_wait(
    manager: TransactionManager, world: World
) -> None:
    manager.action("pay", compensating_action="cancel", requires_approval=True)(world.book)
    with pytest.raises(TransactionRolledBack) as raised, manager.transaction(**WAITS) as tx:
        book(tx, "Ritz")
        with pytest.raises(ApprovalPending) as pending:
            tx.execute("agent", "pay", {"hotel": "Savoy"}, wait_max_seconds=0)
        begin_run(tx, "run", "the agent waits")
        manager.deny(tx.transaction_id, pending.value.step_id, by="ann")
        with pytest.raises(TransactionRolledBack):
            book(tx, "Lux")
    assert raised.value.result.reason == "denied"
    assert world.rooms == []


def test_a_block_that_is_left_while_a_step_needs_an_approval_waits_and_asks_no_longer(
    manager: TransactionManager, world: World
) -> None:
    manager.action("pay", compensating_action="cancel", requires_approval=True)(world.book)
    with pytest.raises(TransactionNotFinal), manager.transaction(**WAITS) as tx:
        with pytest.raises(ApprovalPending) as pending:
            tx.execute("agent", "pay", {"hotel": "Savoy"}, wait_max_seconds=0)
        begin_run(tx, "run", "the agent waits")
    assert tx.result is not None
    assert not tx.result.is_final
    with manager.resume(tx.transaction_id) as tx:
        manager.approve(tx.transaction_id, pending.value.step_id, by="ann")
        assert tx.execute("agent", "pay", {"hotel": "Savoy"}) == "Savoy 7"
    assert world.calls == ["Savoy"]


def test_a_call_that_another_thread_has_begun_ends_before_anybody_else_may_have_it(
    manager: TransactionManager, world: World, in_thread: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, is_left = threading.Event(), threading.Event()
    attend = taking_part.attend

    @manager.action("slow", compensating_action="cancel")
    def slow(_action: str, data: dict[str, Any]) -> str:
        begun.set()
        assert is_left.wait(60)
        return world.book("book", data)

    def leaving(*args: Any, **options: Any) -> Any:
        is_left.set()
        return (yield from attend(*args, **options))

    monkeypatch.setattr(unfinished, "attend", leaving)
    with pytest.raises(TransactionNotFinal), manager.transaction(**WAITS) as tx:
        calling = in_thread(tx.execute, "agent", "slow", {"hotel": "Ritz"})
        assert begun.wait(60)
        begin_run(tx, "run", "the agent waits")
    assert calling.result() == "Ritz 7"
    kinds = [event.kind for event in manager.get_events(tx.transaction_id)]
    assert kinds[-2:] == ["step_succeeded", "claimed"]
    with manager.resume(tx.transaction_id) as tx:
        assert tx.execute("agent", "slow", {"hotel": "Ritz"}) == "Ritz 7"
    assert world.calls == ["Ritz"]


def test_a_nested_block_is_left_as_ever_and_its_root_is_not(
    manager: TransactionManager, world: World
) -> None:
    with pytest.raises(TransactionRolledBack), manager.transaction() as tx:
        with tx.transaction("part") as part:
            book(part, "Ritz")
            begin_run(part, "run", "the agent waits")
        assert world.rooms == ["Ritz"]
    assert world.rooms == []


def test_the_same_holds_for_tasks(world: World) -> None:
    async def main() -> None:
        async with AsyncTransactionManager() as manager:
            world.register(manager)
            with pytest.raises(TransactionRolledBack):
                async with manager.transaction() as tx:
                    await book(tx, "Ritz")
                    begin_run(tx, "run", "the agent waits")
            assert world.rooms == []
            with pytest.raises(TransactionNotFinal):
                async with manager.transaction(**WAITS) as tx:
                    await book(tx, "Ritz")
                    begin_run(tx, "run", "the agent waits")
            async with await manager.resume(tx.transaction_id) as tx:
                assert await book(tx, "Ritz") == "Ritz 7"

    asyncio.run(main())
    assert world.calls == ["Ritz", "Ritz"]
    assert world.rooms == ["Ritz"]
