"""Tests of the way of a foreign tool's call through a transaction, with no framework around it."""
# ruff: noqa: PT012 (an exception leaves a whole block)

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from aumai_transactions import (
    ApprovalPending,
    AsyncTransactionManager,
    DefinitionError,
    InvalidData,
    NoActiveTransaction,
    Resource,
    TransactionManager,
    TransactionNotActive,
    TransactionRolledBack,
    UnknownAction,
    step,
)
from aumai_transactions.integrations import READ, ToolCall, ToolCalls, ToolRule, is_for_the_model


class World:
    """Hold what tools have done."""

    def __init__(self) -> None:
        self.rooms: list[str] = []
        self.calls: list[str] = []
        self.undone: list[Any] = []

    def book(self, data: dict[str, Any]) -> str:
        self.calls.append(data["hotel"])
        if data["hotel"] == "Astoria":
            raise ValueError("the Astoria is full")
        self.rooms.append(data["hotel"])
        return f"{data['hotel']} 7"

    async def book_async(self, data: dict[str, Any]) -> str:
        await asyncio.sleep(0)
        return self.book(data)

    def cancel(self, hotel: str, result: str | None) -> None:
        self.undone.append((hotel, result))
        self.rooms.remove(hotel)


@pytest.fixture
def world() -> World:
    return World()


def call_of(world: World, hotel: str, **options: Any) -> ToolCall[str]:
    return ToolCall(name="book", arguments={"hotel": hotel}, call=world.book, **options)


def async_call_of(world: World, hotel: str, **options: Any) -> ToolCall[str]:
    return ToolCall(name="book", arguments={"hotel": hotel}, call=world.book_async, **options)


def test_a_run_that_ends_commits_and_one_that_raises_is_undone(world: World) -> None:
    tools = ToolCalls({"book": world.cancel})
    manager = TransactionManager()
    with manager.transaction() as tx:
        assert tools.run(call_of(world, "Ritz")) == "Ritz 7"
    assert tx.result is not None
    assert tx.result.state == "committed"
    with pytest.raises(KeyError), manager.transaction() as tx:
        tools.run(call_of(world, "Savoy"))
        raise KeyError
    assert world.rooms == ["Ritz"]
    assert world.undone == [("Savoy", "Savoy 7")]


def test_the_same_holds_for_tasks_and_for_tasks_of_a_sync_manager(world: World) -> None:
    tools = ToolCalls({"book": world.cancel})

    async def main() -> None:
        async with AsyncTransactionManager() as manager:
            with pytest.raises(KeyError):
                async with manager.transaction():
                    assert await tools.run_async(async_call_of(world, "Ritz")) == "Ritz 7"
                    # A framework calls a sync tool in a thread that inherits the context.
                    await asyncio.to_thread(tools.run, call_of(world, "Savoy"))
                    assert world.rooms == ["Ritz", "Savoy"]
                    raise KeyError
        with TransactionManager().transaction():
            assert await tools.run_async(async_call_of(world, "Lux")) == "Lux 7"

    asyncio.run(main())
    assert world.rooms == ["Lux"]
    assert world.undone == [("Savoy", "Savoy 7"), ("Ritz", "Ritz 7")]


def test_a_tools_error_is_raised_as_itself_and_aborts_nothing(world: World) -> None:
    tools = ToolCalls({"book": world.cancel})
    with TransactionManager().transaction() as tx:
        with pytest.raises(ValueError, match="full") as raised:
            tools.run(call_of(world, "Astoria"))
        assert is_for_the_model(raised.value)
        tools.run(call_of(world, "Ritz"))
    assert [one.state.value for one in tx.steps] == ["failed", "succeeded"]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_failure_that_is_returned_is_no_success(world: World, *, is_async: bool) -> None:
    tools = ToolCalls({"book": world.cancel})
    told = {"is_error": True, "text": "full"}
    call: ToolCall[Any] = ToolCall(
        name="book",
        arguments={"hotel": "Ritz"},
        call=lambda _data: told,
        failure=lambda result: result["text"] if result["is_error"] else None,
    )
    with TransactionManager().transaction() as tx:
        found = asyncio.run(tools.run_async(call)) if is_async else tools.run(call)
    assert found is told
    assert [one.state.value for one in tx.steps] == ["failed"]
    assert "ToolFailed: full" in str(tx.describe())
    assert world.undone == []


class Interrupted(Exception):
    """Steer a framework."""


@pytest.mark.parametrize("is_async", [False, True])
def test_what_steers_the_framework_leaves_as_itself_and_is_asked_for_again(
    world: World, *, is_async: bool
) -> None:
    tools = ToolCalls({"book": world.cancel}, control_flow=(Interrupted,))
    asked: list[str] = []

    def book(data: dict[str, Any]) -> str:
        if not asked:
            asked.append("once")
            raise Interrupted
        return world.book(data)

    call: ToolCall[str] = ToolCall(name="book", arguments={"hotel": "Ritz"}, call=book)
    run = (lambda: asyncio.run(tools.run_async(call))) if is_async else (lambda: tools.run(call))
    with TransactionManager().transaction() as tx:
        with pytest.raises(Interrupted):
            run()
        assert run() == "Ritz 7"
        assert "Suspended: Interrupted" in str(tx.describe())
    assert [one.state.value for one in tx.steps] == ["failed", "succeeded"]
    assert world.undone == []


def test_the_same_call_again_is_answered_from_the_record_and_a_read_is_made(world: World) -> None:
    tools = ToolCalls({"book": world.cancel, "look": READ})
    looks: list[int] = []

    def look(_data: dict[str, Any]) -> int:
        looks.append(1)
        return len(looks)

    with TransactionManager().transaction():
        assert tools.run(call_of(world, "Ritz")) == "Ritz 7"
        again = call_of(world, "Ritz", restore=lambda output: f"recorded {output}")
        assert tools.run(again) == "recorded Ritz 7"
        reading: ToolCall[int] = ToolCall(name="look", arguments={}, call=look)
        assert [tools.run(reading), tools.run(reading)] == [1, 2]
    assert world.rooms == ["Ritz"]


def test_equal_calls_side_by_side_take_effect_once(world: World) -> None:
    tools = ToolCalls({"book": world.cancel})

    async def main() -> list[str]:
        async with AsyncTransactionManager() as manager, manager.transaction():
            calls = (tools.run_async(async_call_of(world, "Ritz")) for _ in range(8))
            return list(await asyncio.gather(*calls))

    assert asyncio.run(main()) == ["Ritz 7"] * 8
    assert world.rooms == ["Ritz"]


def test_a_call_outside_of_a_transaction_is_refused_unless_it_may_be(world: World) -> None:
    with pytest.raises(NoActiveTransaction, match="tool 'book'") as raised:
        ToolCalls().run(call_of(world, "Ritz"))
    assert not is_for_the_model(raised.value)
    with pytest.raises(NoActiveTransaction):
        asyncio.run(ToolCalls().run_async(async_call_of(world, "Ritz")))
    assert world.calls == []
    free = ToolCalls(required=False)
    assert free.run(call_of(world, "Ritz")) == "Ritz 7"
    assert asyncio.run(free.run_async(async_call_of(world, "Savoy"))) == "Savoy 7"


def test_a_call_after_the_end_is_refused_and_ends_the_run(world: World) -> None:
    tools = ToolCalls({"book": world.cancel})
    with TransactionManager().transaction() as tx:
        tools.run(call_of(world, "Ritz"))
        tx.rollback("enough")
        for _ in range(3):
            with pytest.raises(TransactionNotActive) as raised:
                tools.run(call_of(world, "Savoy"))
            assert not is_for_the_model(raised.value)
    assert world.calls == ["Ritz"]
    assert world.rooms == []


def test_a_thread_that_inherits_nothing_is_given_the_block(world: World) -> None:
    with TransactionManager().transaction() as tx:
        tools = ToolCalls({"book": world.cancel}, transaction=tx)
        thread = threading.Thread(target=tools.run, args=(call_of(world, "Ritz"),))
        thread.start()
        thread.join()
    assert [one.action for one in tx.steps] == ["book"]


def test_others_are_journaled_denied_or_passed(world: World) -> None:
    call: ToolCall[str] = ToolCall(name="reserve", arguments={"hotel": "Ritz"}, call=world.book)
    manager = TransactionManager()
    with pytest.raises(KeyError), manager.transaction() as tx:
        ToolCalls().run(call)
        raise KeyError
    assert tx.result is not None
    assert tx.result.uncompensated == ["s1"]
    with manager.transaction() as tx:
        with pytest.raises(UnknownAction, match="was not called") as raised:
            ToolCalls({"pay": "pay_back"}, others="deny").run(call)
        assert is_for_the_model(raised.value)
        assert ToolCalls(others="pass").run(call) == "Ritz 7"
        assert tx.steps == []


@pytest.mark.parametrize("is_async", [False, True])
def test_a_person_is_asked_by_the_framework_and_the_journal_says_who(
    world: World, *, is_async: bool
) -> None:
    tools = ToolCalls({"book": ToolRule(world.cancel, requires_approval=True)})
    pending: list[ApprovalPending] = []

    def asks(one: ApprovalPending) -> bool:
        pending.append(one)
        return len(pending) < 2

    call = call_of(world, "Ritz", ask=asks, asked_by="ann")
    refused = call_of(world, "Savoy", ask=asks, asked_by="ann")
    run = (lambda one: asyncio.run(tools.run_async(one))) if is_async else tools.run
    assert tools.requires_approval("book", {"hotel": "Ritz"})
    with pytest.raises(TransactionRolledBack) as raised, TransactionManager().transaction() as tx:
        assert run(call) == "Ritz 7"
        run(refused)
    assert raised.value.result.reason == "denied"
    assert [one.step_id for one in pending] == ["s1", "s2"]
    assert world.rooms == []
    assert [one.state.value for one in tx.steps] == ["compensated", "skipped"]


def test_what_puts_the_question_off_is_raised_and_the_step_waits(world: World) -> None:
    tools = ToolCalls({"book": ToolRule(world.cancel, requires_approval=True)})
    answers: list[bool] = []

    def asks(_pending: ApprovalPending) -> bool:
        if not answers:
            raise Interrupted
        return answers[0]

    with TransactionManager().transaction() as tx:
        with pytest.raises(Interrupted):
            tools.run(call_of(world, "Ritz", ask=asks))
        assert [one.state.value for one in tx.steps] == ["pending"]
        answers.append(True)
        assert tools.run(call_of(world, "Ritz", ask=asks)) == "Ritz 7"
        assert [one.state.value for one in tx.steps] == ["succeeded"]


def test_arguments_that_are_no_json_are_refused_before_anything_happens(world: World) -> None:
    call: ToolCall[str] = ToolCall(name="book", arguments={"hotel": object()}, call=world.book)
    with TransactionManager().transaction() as tx:
        with pytest.raises(InvalidData) as raised:
            ToolCalls({"book": world.cancel}).run(call)
        assert is_for_the_model(raised.value)
        assert tx.steps == []


def test_a_result_that_cannot_be_recorded_changes_no_outcome(world: World) -> None:
    call: ToolCall[Any] = ToolCall(name="look", arguments={}, call=lambda _data: world)
    with TransactionManager().transaction() as tx:
        assert ToolCalls({"look": READ}).run(call) is world
    assert tx.result is not None
    assert "could not be recorded" in " ".join(tx.result.warnings)


def release(hotel: str) -> None:
    """Stand at a place where it is found again."""


def release_otherwise(hotel: str) -> None:
    """Stand at another one."""


def test_two_functions_do_not_undo_tools_of_one_name() -> None:
    ToolCalls({"shared name": release})
    ToolCalls({"shared name": release})
    with pytest.raises(DefinitionError, match=r"called 'shared name\.undo' already"):
        ToolCalls({"shared name": release_otherwise})
    ToolCalls({"shared name": ToolRule(release_otherwise, name="another name")})


@step(name="own step of tool calls", compensating_action=release)
def own(hotel: str) -> None:
    """Be a step of one's own."""


def test_a_tool_does_not_go_by_the_name_of_a_step_or_an_action(world: World) -> None:
    with pytest.raises(DefinitionError, match="needs no rule"):
        ToolCalls({"own step of tool calls": release})
    manager = TransactionManager({"book": lambda _action, _data: None})
    with manager.transaction() as tx:
        with pytest.raises(DefinitionError, match="of its own"):
            ToolCalls().run(call_of(world, "Ritz"))
        ToolCalls({"book": ToolRule(name="book a room")}).run(call_of(world, "Ritz"))
        assert [one.action for one in tx.steps] == ["book a room"]


@pytest.mark.parametrize(
    "make, what",
    [
        (lambda: ToolRule(on_commit=True), "on_commit"),
        (lambda: ToolRule(colour="red"), "no option 'colour'"),  # type: ignore[call-arg]
        (lambda: ToolCalls(others="maybe"), "others must be"),  # type: ignore[arg-type]
        (lambda: ToolCalls(["book"]), "rules must be a dict"),  # type: ignore[arg-type]
        (lambda: ToolCalls({"book": 7}), "must be a function or a name"),  # type: ignore[dict-item]
        (lambda: ToolCalls({"book": ToolRule(effect="some")}), "effect"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_is_refused_when_it_is_declared(make: Any, what: str) -> None:
    with pytest.raises(DefinitionError, match=what):
        make()


def test_a_rule_takes_what_a_step_takes(world: World) -> None:
    @step(name="reading with a lock", resources=[Resource.shared("rate:{currency}")], effect="none")
    def reading(currency: str) -> int:
        return 7

    rule = ToolRule(world.cancel, resources=["hotel:{hotel}"], agent_id="hotel_agent")
    manager = TransactionManager()
    with manager.transaction() as tx:
        ToolCalls({"book": rule}).run(call_of(world, "Ritz"))
        assert reading("usd") == 7
        assert [one.resource for one in manager.locks()] == ["hotel:Ritz", "rate:usd"]
    assert tx.steps[0].agent_id == "hotel_agent"


def test_a_tool_is_found_by_who_goes_on_with_its_transaction_and_by_nobody_else(
    world: World, tmp_path: Path
) -> None:
    rule = ToolRule(world.cancel, idempotent=True)
    tools = ToolCalls({"a tool known here": rule})
    call: ToolCall[Any] = ToolCall(
        name="a tool known here", arguments={"hotel": "Ritz"}, call=world.book
    )
    planned = TransactionManager(strict=True)
    tx = planned.begin()
    planned.add_step(tx, "agent", "a tool known here", {})
    with pytest.raises(UnknownAction, match="a tool known here"):
        planned.commit(tx)
    first = TransactionManager(store=tmp_path / "a.db")
    block = first.transaction()
    block.__enter__()
    tools.run(call)
    first.close()
    (found,) = TransactionManager(store=tmp_path / "a.db").recover()
    assert found.outcome == "finished"
    assert world.undone == [("Ritz", "Ritz 7")]
    with pytest.raises(TransactionNotActive):
        block.__exit__(None, None, None)
