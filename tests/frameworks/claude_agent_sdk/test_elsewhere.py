"""Tools that Claude Code runs itself: what the hooks around them do."""
# ruff: noqa: PT012, SIM117 (an exception leaves a whole block, and a client ends before it)
# mypy: disable-error-code="arg-type,union-attr"

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from claude_agent_sdk import HookMatcher

from aumai_transactions import AsyncTransactionManager, TransactionNotActive
from aumai_transactions.integrations import READ, ToolRule
from aumai_transactions.integrations.claude_agent_sdk import ClaudeTools
from aumai_transactions.integrations.tool_calls import ToolFailed

UNDONE: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_undone():
    UNDONE.clear()


def unwrite(file_path: str, result: Any) -> None:
    UNDONE.append((file_path, result))


def ask(told: dict[str, Any]) -> bool:
    return bool(told["file_path"] == "secret")


WRITE = {"file_path": "a.txt", "content": "a"}


async def after(code: Any, use: str, tool: str, told: dict[str, Any], response: Any) -> Any:
    return await code.hook(
        "PostToolUse", use, tool_name=tool, tool_input=told, tool_response=response
    )


async def failed(code: Any, use: str, tool: str, told: dict[str, Any], error: str) -> Any:
    return await code.hook("PostToolUseFailure", use, tool_name=tool, tool_input=told, error=error)


def run(test: Any) -> None:
    asyncio.run(test)


def states_of(tx: Any) -> list[tuple[str, str]]:
    return [(one.action, one.state.value) for one in tx.steps]


def test_a_command_is_a_step_before_it_runs_and_nothing_undoes_it(connect):
    async def test():
        async with AsyncTransactionManager() as manager:
            with pytest.raises(KeyError):
                async with manager.transaction() as tx, connect(ClaudeTools(), {}) as code:
                    told = {"command": "make install"}
                    assert await code.before("Bash", told, "u1") is None
                    kinds = [one.kind for one in await manager.get_events(tx.transaction_id)]
                    assert kinds[-1] == "step_started"
                    await after(code, "u1", "Bash", told, {"stdout": "done"})
                    assert states_of(tx) == [("Bash", "succeeded")]
                    # A command that is run again is meant to be.
                    assert await code.before("Bash", told, "u2") is None
                    await failed(code, "u2", "Bash", told, "exit code 2")
                    assert states_of(tx) == [("Bash", "succeeded"), ("Bash", "failed")]
                    assert "exit code 2" in str(tx.describe())
                    raise KeyError
            assert tx.result.uncompensated == ["s1"]
            assert code.stopped is None

    run(test())


def test_what_a_rule_says_undoes_it_with_what_it_returned(connect):
    async def test():
        tools = ClaudeTools({"Write": unwrite, "mcp__git__push": unwrite})
        async with AsyncTransactionManager() as manager:
            with pytest.raises(KeyError):
                async with manager.transaction(), connect(tools, {}) as code:
                    for use, tool in (("u1", "Write"), ("u2", "mcp__git__push")):
                        assert await code.before(tool, WRITE, use) is None
                        await after(code, use, tool, WRITE, {"type": use})
                    raise KeyError
        assert UNDONE == [("a.txt", {"type": "u2"}), ("a.txt", {"type": "u1"})]

    run(test())


def test_the_same_again_is_refused_with_what_it_gave_for_it_cannot_be_replayed(connect):
    async def test():
        tools = ClaudeTools({"Write": unwrite})
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            async with connect(tools, {}) as code:
                assert await code.before("Write", WRITE, "u1") is None
                again = asyncio.create_task(code.before("Write", WRITE, "u2"))
                await asyncio.wait([again], timeout=0.05)
                assert not again.done()
                await after(code, "u1", "Write", WRITE, {"path": "a.txt"})
                for refusal in (await again, await code.before("Write", WRITE, "u3")):
                    assert "was not done again" in refusal
                    assert '{"path": "a.txt"}' in refusal
                assert code.stopped is None
        assert states_of(tx) == [("Write", "succeeded")]

    run(test())


def test_what_only_reads_is_let_through_and_the_rest_can_be_denied(connect):
    async def test():
        tools = ClaudeTools({"Write": unwrite, "mcp__git__log": READ}, others="deny")
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            async with connect(tools, {}) as code:
                for tool in ("Read", "Grep", "mcp__git__log"):
                    assert await code.before(tool, {"file_path": "a.txt"}, "u1") is None
                    await after(code, "u1", tool, {}, "what it says")
                refusal = await code.before("Bash", {"command": "rm -rf /"}, "u2")
                assert "it was not called. Declared: Write" in refusal
                assert await code.before("Write", WRITE, "u3") is None
                await after(code, "u3", "Write", WRITE, None)
        assert states_of(tx) == [("Write", "succeeded")]
        assert tx.result.state == "committed"
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            async with connect(ClaudeTools(others="pass"), {}) as code:
                assert await code.before("Bash", {"command": "ls"}, "u1") is None
        assert tx.steps == []

    run(test())


def test_a_tool_of_another_server_is_not_taken_for_ones_own(connect):
    async def test():
        tools = ClaudeTools()
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            async with connect(tools, {"trip": tools.offered()}) as code:
                name = "mcp__other__transaction_status"
                assert await code.before(name, {}, "u1") is None
                await after(code, "u1", name, {}, "well")
        assert states_of(tx) == [(name, "succeeded")]

    run(test())


def test_outside_of_a_transaction_and_after_its_end_nothing_is_let_through(connect):
    async def test():
        tools = ClaudeTools()
        async with connect(tools, {}) as code:
            refusal = await code.before("Bash", {"command": "ls"}, "u1")
            assert "must run inside a transaction" in refusal
            assert code.stopped == refusal
            assert await code.before("Read", {"file_path": "a.txt"}, "u2") is None
        async with connect(ClaudeTools(required=False), {}) as code:
            assert await code.before("Bash", {"command": "ls"}, "u1") is None
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            async with connect(tools, {}) as code:
                assert await code.before("Bash", {"command": "ls"}, "u1") is None
                ending = asyncio.create_task(tx.rollback("enough"))
                await after(code, "u1", "Bash", {"command": "ls"}, "a.txt")
                await ending
                for tool in ("Bash", "Read"):
                    assert "has ended" in await code.before(tool, {"command": "ls"}, "u2")
                    assert "has ended" in code.stopped

    run(test())


@pytest.mark.parametrize("allows", [True, False])
def test_the_user_of_claude_code_is_asked_and_a_no_is_no_effect(connect, allows):
    async def test():
        tools = ClaudeTools({"Write": ToolRule(unwrite, requires_approval=ask)})
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            async with connect(tools, {}) as code:
                told = {**WRITE, "file_path": "secret"}
                said = await code.hook("PreToolUse", "u1", tool_name="Write", tool_input=told)
                assert said["hookSpecificOutput"]["permissionDecision"] == "ask"
                said = await code.hook("PreToolUse", "u2", tool_name="Write", tool_input=WRITE)
                assert said == {}
                await after(code, "u2", "Write", WRITE, None)
                if allows:
                    await after(code, "u1", "Write", told, None)
                await code.hook("Stop")
        states = [("Write", "succeeded" if allows else "failed"), ("Write", "succeeded")]
        assert states_of(tx) == states
        assert tx.result.state == "committed"
        assert UNDONE == []

    run(test())


def test_the_end_of_a_subagents_turn_ends_only_its_own_calls(connect):
    async def test():
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            async with connect(ClaudeTools(), {}) as code:
                told = {"command": "ls"}
                assert await code.before("Bash", told, "u1", agent_id="a1") is None
                assert await code.before("Bash", told, "u2", agent_id="a2") is None
                assert await code.before("Bash", told, "u3") is None
                await code.hook("SubagentStop", agent_id="a1")
                assert [one[1] for one in states_of(tx)] == ["failed", "running", "running"]
                await code.hook("Stop")
                assert [one[1] for one in states_of(tx)] == ["failed", "running", "failed"]
                await after(code, "u2", "Bash", told, "a.txt")
        assert [one[1] for one in states_of(tx)] == ["failed", "succeeded", "failed"]

    run(test())


def test_a_run_that_breaks_off_leaves_in_doubt_what_nobody_heard_of(connect):
    async def test():
        tools = ClaudeTools({"Write": unwrite})
        async with AsyncTransactionManager() as manager:
            with pytest.raises(KeyError):
                async with manager.transaction() as tx, connect(tools, {}) as code:
                    assert await code.before("Write", WRITE, "u1") is None
                    assert await code.before("Bash", {"command": "make"}, "u2") is None
                    raise KeyError
            assert UNDONE == [("a.txt", None)]
            assert tx.result.state == "rolled_back"
            assert [one.step_id for one in tx.result.outstanding] == ["s2"]

    run(test())


def test_a_failure_can_be_declared_to_leave_it_open_whether_it_happened(connect):
    async def test():
        tools = ClaudeTools({"Write": ToolRule(unwrite, in_doubt_on=(ToolFailed,))})
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            async with connect(tools, {}) as code:
                assert await code.before("Write", WRITE, "u1") is None
                said = await failed(code, "u1", "Write", WRITE, "the disk is full")
                assert "It was undone" in said["hookSpecificOutput"]["additionalContext"]
        assert UNDONE == [("a.txt", None)]
        assert tx.result.state == "committed"

    run(test())


def test_behind_the_commit_point_nothing_more_is_done_and_the_agent_may_finish(connect):
    async def test():
        tools = ClaudeTools({"Write": ToolRule(pivot=True), "Edit": unwrite})
        servers = {"trip": tools.offered()}
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            async with connect(tools, servers) as code:
                assert await code.before("Write", WRITE, "u1") is None
                assert await after(code, "u1", "Write", WRITE, None) == {}
                assert tx.state == "committed"
                assert await code.before("Read", {"file_path": "a.txt"}, "u2") is None
                await code.use("mcp__trip__transaction_status", {})
                assert code.stopped is None
                assert "it is committed" in await code.before("Edit", WRITE, "u3")
                assert "it is committed" in str(code.stopped)
        assert tx.result.state == "committed"
        assert states_of(tx) == [("Write", "succeeded")]

    run(test())


def test_a_hook_that_cannot_do_its_work_blocks_the_call(connect):
    async def test():
        def breaks(_told: dict[str, Any]) -> bool:
            raise RuntimeError("the rule is wrong")

        tools = ClaudeTools({"Write": ToolRule(unwrite, requires_approval=breaks)})
        async with AsyncTransactionManager() as manager:
            with pytest.raises(TransactionNotActive):
                async with manager.transaction(), connect(tools, {}) as code:
                    refusal = await code.before("Write", WRITE, "u1")
                    assert refusal == "RuntimeError: the rule is wrong"
                    await manager.close()
                    assert "closed" in await code.before("Bash", {"command": "ls"}, "u2")
                    assert "closed" in code.stopped

    run(test())


def test_hooks_of_ones_own_come_after_them():
    async def hook(_told, _use, _context):
        return {}

    mine = HookMatcher(matcher="Bash", hooks=[hook])
    found = ClaudeTools().hooks({"PreToolUse": [mine], "Notification": [mine]})
    assert found["PreToolUse"][1] is mine
    assert found["Notification"] == [mine]
