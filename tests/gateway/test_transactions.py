"""Agents use a server's tools in transactions, over both transports and in both eras."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.bench import ROOMS, Bench, asked, begun, refused, run, text, toy

ERAS = ("auto", "legacy")


@pytest.mark.parametrize("era", ERAS)
def test_what_is_rolled_back_is_as_it_was_and_what_is_committed_stands(
    tmp_path: Path, era: str
) -> None:
    bench = Bench(tmp_path)

    async def main() -> None:
        async with bench.stdio(mode=era) as client:
            await asked(client, "toy__give", name="7", guest="Ann")
            tx = await begun(client)
            await asked(client, "toy__give", name="7", guest="Bob", transaction_id=tx)
            await asked(client, "toy__give", name="8", guest="Bob", transaction_id=tx)
            assert bench.has() == {"7": "Bob", "8": "Bob"}
            told = (await asked(client, "tx_rollback", transaction_id=tx)).structured_content
            assert told["state"] == "rolled_back"
            assert bench.has() == {"7": "Ann"}
            tx = await begun(client)
            await asked(client, "toy__give", name="8", guest="Eve", transaction_id=tx)
            told = (await asked(client, "tx_commit", transaction_id=tx)).structured_content
            assert told["state"] == "committed"
        assert bench.has() == {"7": "Ann", "8": "Eve"}

    run(main())


def test_a_savepoint_is_returned_to_and_the_rest_stands(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def main() -> None:
        async with bench.stdio() as client:
            tx = await begun(client)
            await asked(client, "toy__give", name="1", guest="Ann", transaction_id=tx)
            await asked(client, "tx_savepoint", transaction_id=tx, savepoint="here")
            await asked(client, "toy__give", name="1", guest="Bob", transaction_id=tx)
            await asked(client, "tx_savepoint", transaction_id=tx, savepoint="inside")
            await asked(client, "toy__give", name="2", guest="Bob", transaction_id=tx)
            await asked(client, "tx_rollback", transaction_id=tx, savepoint="here")
            assert bench.has() == {"1": "Ann"}
            assert "in no savepoint" in await refused(
                client, "tx_rollback", transaction_id=tx, savepoint="inside"
            )
            await asked(client, "toy__give", name="3", guest="Eve", transaction_id=tx)
            await asked(client, "tx_commit", transaction_id=tx)
        assert bench.has() == {"1": "Ann", "3": "Eve"}

    run(main())


def test_a_tool_that_fails_ends_nothing_and_its_words_reach_the_agent(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def main() -> None:
        async with bench.stdio() as client:
            tx = await begun(client)
            told = await refused(client, "toy__give", name="1", guest="nobody", transaction_id=tx)
            assert "nobody is no guest" in told
            await asked(client, "toy__give", name="1", guest="Ann", transaction_id=tx)
            status = (await asked(client, "tx_status", transaction_id=tx)).structured_content
            assert [one["tool"] for one in status["done"]] == ["toy__give"]
            assert [one["tool"] for one in status["failed"]] == ["toy__give"]
            await asked(client, "tx_commit", transaction_id=tx)
        assert bench.has() == {"1": "Ann"}

    run(main())


def test_agents_on_two_connections_and_in_two_eras_share_one_transaction(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def main() -> None:
        with bench.http() as serving:
            async with serving.client() as ann, serving.client(mode="legacy") as bob:
                assert ann.protocol_version != bob.protocol_version
                tx = await begun(ann)
                await asyncio.gather(
                    *(
                        asked(who, "toy__give", name=f"{name}{n}", guest=name, transaction_id=tx)
                        for who, name in ((ann, "ann"), (bob, "bob"))
                        for n in range(5)
                    )
                )
                assert len(bench.has()) == 10
                told = (await asked(bob, "tx_list")).structured_content
                assert told["open"] == [tx]
                await asked(bob, "tx_rollback", transaction_id=tx)
                assert bench.has() == {}
                late = await refused(ann, "toy__give", name="9", guest="x", transaction_id=tx)
                assert "rolled back" in late
                assert bench.has() == {}

    run(main())


def test_a_transaction_does_not_see_into_what_another_has_changed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def main() -> None:
        async with bench.stdio() as client:
            first, second = await begun(client), await begun(client)
            await asked(client, "toy__give", name="1", guest="Ann", transaction_id=first)
            waiting = asyncio.create_task(
                asked(client, "toy__give", name="1", guest="Bob", transaction_id=second)
            )
            await asked(client, "toy__give", name="2", guest="Bob", transaction_id=second)
            assert not waiting.done()
            await asked(client, "tx_rollback", transaction_id=first)
            await waiting
            await asked(client, "tx_commit", transaction_id=second)
        assert bench.has() == {"1": "Bob", "2": "Bob"}

    run(main())


def test_an_equal_call_is_made_once_unless_its_rule_says_otherwise(tmp_path: Path) -> None:
    bench = Bench(tmp_path, transactions={"policy": "allow"})

    async def main() -> None:
        async with bench.stdio() as client:
            tx = await begun(client)
            for _ in range(3):
                told = await asked(client, "toy__shout", text="hey", transaction_id=tx)
                assert text(told) == "HEY"
            for guest in ("Ann", "Bob", "Ann"):
                await asked(client, "toy__give", name="1", guest=guest, transaction_id=tx)
            await asked(client, "tx_commit", transaction_id=tx)
        assert bench.log() == ["shout hey", "give 1 Ann", "give 1 Bob", "give 1 Ann"]

    run(main())


def test_a_gateway_that_ends_in_order_undoes_what_nobody_has_committed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def main() -> None:
        async with bench.stdio() as client:
            tx = await begun(client)
            await asked(client, "toy__give", name="1", guest="Ann", transaction_id=tx)
        assert bench.has() == {}
        async with bench.stdio() as client:
            told = (await asked(client, "tx_status", transaction_id=tx)).structured_content
            assert told["state"] == "rolled_back"

    run(main())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("over", ["http", "stdio"])
def test_a_gateway_that_is_told_to_end_undoes_what_nobody_has_committed(
    tmp_path: Path, number: signal.Signals, over: str
) -> None:
    bench = Bench(tmp_path)

    async def half(client: Any) -> None:
        tx = await begun(client)
        await asked(client, "toy__give", name="1", guest="Ann", transaction_id=tx)
        assert bench.has() == {"1": "Ann"}

    async def by_http() -> None:
        with bench.http() as serving:
            async with serving.client() as client:
                await half(client)
            serving.process.send_signal(number)
            assert serving.process.wait(60) == 0
            assert "Traceback" not in "\n".join(serving.said)

    async def by_stdio() -> None:
        with contextlib.suppress(BaseExceptionGroup):
            async with bench.stdio() as client:
                await half(client)
                os.kill(int(bench.pid_file.read_text()), number)
                # It lets go of its standard output when it has ended, and not before.
                while True:
                    await client.call_tool("tx_list", {})

    run(by_http() if over == "http" else by_stdio())
    assert bench.has() == {}


def test_a_call_that_takes_too_long_is_ended_and_undone(tmp_path: Path) -> None:
    table = {**toy(tmp_path / "rooms.json"), "timeout_seconds": 1}
    bench = Bench(tmp_path, {"toy": table})

    async def main() -> None:
        async with bench.stdio() as client:
            tx = await begun(client)
            await asked(client, "toy__give", name="1", guest="Ann", transaction_id=tx)
            bench.orders("hang-after")
            told = await refused(client, "toy__give", name="1", guest="Bob", transaction_id=tx)
            assert "undone" in told
            assert bench.has() == {"1": "Ann"}
            await asked(client, "toy__give", name="2", guest="Bob", transaction_id=tx)
            await asked(client, "tx_commit", transaction_id=tx)
        assert bench.has() == {"1": "Ann", "2": "Bob"}

    run(main())


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("says", ["yes", "no", "cancel", "cannot"])
def test_what_cannot_be_undone_is_made_once_a_person_has_allowed_it(
    tmp_path: Path, era: str, says: str
) -> None:
    from mcp_types import ElicitResult

    bench = Bench(tmp_path)
    questions: list[str] = []

    async def person(_context: Any, params: Any) -> ElicitResult:
        questions.append(params.message)
        if says == "cancel":
            return ElicitResult(action="cancel")
        return ElicitResult(action="accept", content={"approve": says == "yes"})

    options = {} if says == "cannot" else {"elicitation_callback": person}

    async def main() -> None:
        async with bench.stdio(mode=era, **options) as client:
            tx = await begun(client)
            await asked(client, "toy__give", name="1", guest="Ann", transaction_id=tx)
            result = await client.call_tool("toy__shout", {"text": "hey", "transaction_id": tx})
            if says == "yes":
                assert text(result) == "HEY"
                await asked(client, "tx_commit", transaction_id=tx)
            elif says == "no":
                assert result.is_error
                assert (await status(client, tx))["state"] == "rolled_back"
            else:
                assert "waits until a person allows it" in text(result)
                (waits,) = (await status(client, tx))["waits_for_an_approval"]
                approved = bench.cli("approve", tx, waits["step_id"], "--by", "eve")
                assert approved.returncode in (0, 5), approved.stderr
                again = await asked(client, "toy__shout", text="hey", transaction_id=tx)
                assert text(again) == "HEY"
                await asked(client, "tx_commit", transaction_id=tx)

    run(main())
    done = ["give 1 Ann", "free 1"] if says == "no" else ["give 1 Ann", "shout hey"]
    assert bench.log() == done
    assert len(questions) == (0 if says == "cannot" else 1)
    assert all("toy__shout" in one and "hey" in one for one in questions)


async def status(client: Any, tx: str) -> Any:
    return (await asked(client, "tx_status", transaction_id=tx)).structured_content


def test_the_point_of_no_return_is_behind_an_approval_and_nothing_goes_back_after_it(
    tmp_path: Path,
) -> None:
    from mcp_types import ElicitResult

    bench = Bench(tmp_path)

    async def person(_context: Any, _params: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={"approve": True})

    async def main() -> None:
        async with bench.stdio(elicitation_callback=person) as client:
            tx = await begun(client)
            await asked(client, "toy__give", name="1", guest="Ann", transaction_id=tx)
            assert (
                text(await asked(client, "toy__invoice", guest="Ann", transaction_id=tx)) == "sent"
            )
            assert await refused(client, "tx_rollback", transaction_id=tx)
            await asked(client, "tx_commit", transaction_id=tx)

    run(main())
    assert bench.log() == ["give 1 Ann", "invoice Ann"]
    assert bench.has() == {"1": "Ann"}


@pytest.mark.parametrize(
    "order, left", [("die-before", "die"), ("die-after", "die"), ("fail-after", "fail")]
)
def test_a_server_that_dies_in_a_call_leaves_nothing_that_is_not_undone(
    tmp_path: Path, order: str, left: str
) -> None:
    bench = Bench(tmp_path)

    async def main() -> None:
        async with bench.stdio() as client:
            await asked(client, "toy__give", name="1", guest="Ann")
            tx = await begun(client)
            await asked(client, "toy__give", name="2", guest="Bob", transaction_id=tx)
            bench.orders(order)
            told = await refused(client, "toy__give", name="1", guest="Eve", transaction_id=tx)
            if left == "die":
                assert "undone" in told
                assert bench.has() == {"1": "Ann", "2": "Bob"}
            await asked(client, "toy__give", name="3", guest="Eve", transaction_id=tx)
            await asked(client, "tx_rollback", transaction_id=tx)

    run(main())
    # An error is believed: whoever knows better says on_error = "in_doubt".
    assert bench.has() == ({"1": "Ann"} if left == "die" else {"1": "Eve"})


def test_an_error_after_the_effect_is_undone_where_the_rule_does_not_believe_it(
    tmp_path: Path,
) -> None:
    tools = {**ROOMS, "give": {**ROOMS["give"], "on_error": "in_doubt"}}
    bench = Bench(tmp_path, {"toy": toy(tmp_path / "rooms.json", tools)})

    async def main() -> None:
        async with bench.stdio() as client:
            await asked(client, "toy__give", name="1", guest="Ann")
            tx = await begun(client)
            bench.orders("fail-after")
            assert "undone" in await refused(
                client, "toy__give", name="1", guest="Eve", transaction_id=tx
            )
            assert bench.has() == {"1": "Ann"}
            await asked(client, "tx_commit", transaction_id=tx)

    run(main())


def test_what_needs_no_look_before_it_is_undone_by_what_its_rule_and_its_answer_say(
    tmp_path: Path,
) -> None:
    from tests.gateway.bench import toy

    undo = {"tool": "give", "arguments": {"name": "$args.name", "guest": "$result.text"}}
    tools = {"free": {"undo": undo}}
    bench = Bench(tmp_path, {"toy": toy(tmp_path / "rooms.json", tools)})

    async def main() -> None:
        async with bench.stdio() as client:
            tx = await begun(client)
            await asked(client, "toy__free", name="1", transaction_id=tx)
            told = (await asked(client, "tx_rollback", transaction_id=tx)).structured_content
            assert told["needs_a_person"] == []

    run(main())
    assert bench.log() == ["free 1", "give 1 free"]


@pytest.mark.parametrize("asks", ["auto", "legacy", "elsewhere"])
@pytest.mark.parametrize("keeps", ["before", "nothing"])
def test_what_a_person_has_allowed_is_made_once_also_where_equal_calls_are_not_the_same(
    tmp_path: Path, asks: str, keeps: str
) -> None:
    from mcp_types import ElicitResult
    from tests.gateway.bench import ROOMS, toy

    undo = {"tool": "free", "arguments": {"name": "$args.name"}}
    rule = ROOMS["give"] if keeps == "before" else {"undo": undo, "once": False}
    tools = {**ROOMS, "give": {**rule, "approve": True}}
    bench = Bench(tmp_path, {"toy": toy(tmp_path / "rooms.json", tools)})
    questions: list[str] = []

    async def person(_context: Any, params: Any) -> ElicitResult:
        questions.append(params.message)
        return ElicitResult(action="accept", content={"approve": len(questions) < 5})

    options = {} if asks == "elsewhere" else {"mode": asks, "elicitation_callback": person}

    async def main() -> None:
        async with bench.stdio(**options) as client:
            tx = await begun(client)
            for guest in ("Ann", "Bob", "Ann"):
                about = {"name": "1", "guest": guest, "transaction_id": tx}
                if asks == "elsewhere":
                    told = await refused(client, "toy__give", **about)
                    bench.cli("approve", tx, told.split()[1], "--by", "eve")
                assert text(await asked(client, "toy__give", **about)) == f"1 is for {guest}"
            await asked(client, "tx_commit", transaction_id=tx)

    run(main())
    assert bench.log() == ["give 1 Ann", "give 1 Bob", "give 1 Ann"]
    assert len(questions) == (0 if asks == "elsewhere" else 3)


@pytest.mark.parametrize("how", ["files", "before"])
def test_what_has_changed_while_a_person_was_asked_is_not_lost(tmp_path: Path, how: str) -> None:
    from tests.gateway.bench import ROOMS, toy

    rooms = tmp_path / "rooms.json"
    rule = {"files": [str(rooms)], "once": False} if how == "files" else ROOMS["give"]
    tools = {**ROOMS, "give": {**rule, "approve": True}}
    bench = Bench(tmp_path, {"toy": toy(rooms, tools, folders=[str(tmp_path)])})

    async def main() -> None:
        async with bench.stdio() as client:
            tx = await begun(client)
            about = {"name": "1", "guest": "Bob", "transaction_id": tx}
            told = await refused(client, "toy__give", **about)
            # Somebody outside has it changed meanwhile.
            await asked(client, "toy__give", name="1", guest="Ann")
            bench.cli("approve", tx, told.split()[1], "--by", "eve")
            told = await refused(client, "toy__give", **about)
            if "has changed since" in told:
                told = await refused(client, "toy__give", **about)
            assert bench.has() == {"1": "Ann"}
            assert "waits until a person" in told
            bench.cli("approve", tx, told.split()[1], "--by", "eve")
            await asked(client, "toy__give", **about)
            assert bench.has() == {"1": "Bob"}
            await asked(client, "tx_rollback", transaction_id=tx)

    run(main())
    assert bench.has() == {"1": "Ann"}


@pytest.mark.crash
@pytest.mark.parametrize("ends", ["rollback", "commit"])
def test_a_killed_gateway_comes_back_and_the_agent_goes_on(tmp_path: Path, ends: str) -> None:
    bench = Bench(tmp_path)

    async def before() -> str:
        with bench.http() as serving:
            async with contextlib.AsyncExitStack() as stack:
                client = await stack.enter_async_context(serving.client())
                await asked(client, "toy__give", name="1", guest="Ann")
                tx = await begun(client)
                await asked(client, "toy__give", name="1", guest="Bob", transaction_id=tx)
                await asked(client, "tx_savepoint", transaction_id=tx, savepoint="here")
                await asked(client, "toy__give", name="2", guest="Bob", transaction_id=tx)
                bench.orders("hang-after")
                hangs = asyncio.create_task(
                    client.call_tool(
                        "toy__give", {"name": "3", "guest": "Bob", "transaction_id": tx}
                    )
                )
                while "3" not in bench.has():  # noqa: ASYNC110 (another process writes it)
                    await asyncio.sleep(0.01)
                serving.kill()
                hangs.cancel()
                with contextlib.suppress(BaseException):
                    await stack.aclose()
            return tx

    async def after(tx: str) -> None:
        async with bench.stdio() as client:
            # What was in doubt is undone, what was done stands, and the transaction is open.
            told = await status(client, tx)
            assert told["state"] == "active"
            assert told["savepoints"] == ["here"]
            assert bench.has() == {"1": "Bob", "2": "Bob"}
            await asked(client, "toy__give", name="1", guest="Bob", transaction_id=tx)
            await asked(client, "tx_rollback", transaction_id=tx, savepoint="here")
            assert bench.has() == {"1": "Bob"}
            await asked(client, f"tx_{ends}", transaction_id=tx)

    run(after(run(before())))
    assert bench.has() == ({"1": "Ann"} if ends == "rollback" else {"1": "Bob"})


@pytest.mark.parametrize("order, happened", [("die-after", True), ("die-before", False)])
def test_a_probe_tells_what_became_of_a_call_whose_answer_never_came(
    tmp_path: Path, order: str, *, happened: bool
) -> None:
    probe = {"tool": "room", "arguments": {"name": "$args.name"}, "done_if": "$result.structured"}
    tools = {**ROOMS, "give": {**ROOMS["give"], "probe": probe}}
    bench = Bench(tmp_path, {"toy": toy(tmp_path / "rooms.json", tools)})

    async def main() -> None:
        async with bench.stdio() as client:
            tx = await begun(client)
            bench.orders(order)
            call = {"name": "1", "guest": "Ann", "transaction_id": tx}
            result = await client.call_tool("toy__give", call)
            assert result.is_error is not happened
            assert bench.has() == ({"1": "Ann"} if happened else {})
            told = (await asked(client, "tx_rollback", transaction_id=tx)).structured_content
            assert told["needs_a_person"] == []

    run(main())
    assert bench.has() == {}


def test_a_tool_of_another_server_may_undo_a_call(tmp_path: Path) -> None:
    undo = {"tool": "other__give", "arguments": {"name": "$args.text", "guest": "$result.text"}}
    first = toy(tmp_path / "rooms.json", {"shout": {"undo": undo}})
    other = toy(tmp_path / "other.json", {})
    bench = Bench(tmp_path, {"toy": first, "other": other})

    async def main() -> None:
        async with bench.stdio() as client:
            tx = await begun(client)
            await asked(client, "toy__shout", text="hey", transaction_id=tx)
            await asked(client, "tx_rollback", transaction_id=tx)

    run(main())
    assert (tmp_path / "other.json").read_text() == '{"hey": "HEY"}'


def test_identity_tells_which_calls_are_the_same(tmp_path: Path) -> None:
    tools = {"give": {"identity": ["name"]}, "room": {"effect": "none"}}
    bench = Bench(tmp_path, {"toy": toy(tmp_path / "rooms.json", tools)})

    async def main() -> None:
        async with bench.stdio() as client:
            tx = await begun(client)
            for guest in ("Ann", "Ann, please"):
                call = {"name": "1", "guest": guest, "transaction_id": tx}
                assert text(await asked(client, "toy__give", **call)) == "1 is for Ann"
            told = (await asked(client, "tx_rollback", transaction_id=tx)).structured_content
            assert len(told["cannot_be_undone"]) == 1

    run(main())
    assert bench.log() == ["give 1 Ann"]
