"""The same request twice, two at once, and one whose answer never came."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.web.api.bench import Reply, Shop, shop, step

from aumai_transactions.stores import open_store

AT_ONCE = 8


def at_once(ask: Callable[[int], Reply]) -> list[Reply]:
    """Ask from several threads at the same moment."""
    begin, found = threading.Barrier(AT_ONCE), {}

    def one(number: int) -> None:
        begin.wait()
        found[number] = ask(number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[number] for number in range(AT_ONCE)]


def kinds(server: Shop, tx: str) -> Counter[str]:
    events = server.client("buyer").get(f"{tx}/events").json["items"]
    return Counter(one["kind"] for one in events)


@pytest.mark.parametrize("mode", ["planned", "interactive"])
def test_a_transaction_that_is_begun_many_times_under_one_key_is_one(
    server: Shop, mode: str
) -> None:
    program = server.client("buyer")
    body = {"mode": mode, "name": "once"}
    found = at_once(lambda _: program.post("/transactions", body, Idempotency_Key=f"begin {mode}"))
    assert len({one.json["transaction_id"] for one in found}) == 1
    assert {one.status for one in found} == {201}
    assert sum(not one.is_replayed for one in found) == 1
    other = {**body, "name": "another"}
    refused = program.post("/transactions", other, Idempotency_Key=f"begin {mode}")
    assert (refused.status, refused.code) == (422, "idempotency-key-reused")


def test_the_keys_of_two_programs_are_two(server: Shop) -> None:
    found = [
        server.client(name).post("/transactions", {}, Idempotency_Key="mine")
        for name in ("buyer", "seller")
    ]
    assert [one.status for one in found] == [201, 201]
    assert found[0].json["transaction_id"] != found[1].json["transaction_id"]


def test_a_step_that_is_added_many_times_under_one_key_is_one(server: Shop) -> None:
    program = server.client("buyer")
    tx = program.begin()
    body = step("reserve", item="one")
    found = at_once(lambda _: program.post(f"{tx}/steps", body, Idempotency_Key="add"))
    assert {(one.status, *one.json["steps"]) for one in found} == {(201, "s1")}
    assert len(program.get(tx).json["steps"]) == 1
    refused = program.post(f"{tx}/steps", step("reserve", item="two"), Idempotency_Key="add")
    assert (refused.status, refused.code) == (422, "idempotency-key-reused")


def test_a_step_that_is_carried_out_many_times_under_one_key_is_carried_out_once(
    server: Shop,
) -> None:
    program = server.client("buyer")
    before = len(server.world())
    tx = program.begin(mode="interactive")
    body = step("charge", item="once")
    found = at_once(lambda _: program.post(f"{tx}/steps", body, Idempotency_Key="do"))
    assert {one.status for one in found} == {200}
    assert server.world()[before:] == ["charge once"]
    refused = program.post(f"{tx}/steps", step("charge", item="more"), Idempotency_Key="do")
    assert (refused.status, refused.code) == (422, "idempotency-key-reused")
    other = {**body, "agent_id": "somebody"}
    assert program.post(f"{tx}/steps", other, Idempotency_Key="do").status == 422


def test_a_wish_that_is_asked_for_many_times_under_one_key_is_heard_once(server: Shop) -> None:
    program, person = server.client("buyer"), server.client("boss", "admin")
    tx = program.begin(steps=[step("ship")])
    assert program.post(f"{tx}/commit", None, Prefer="wait=30").json["attention"] == "approval"
    body = {"note": "yes"}
    path = f"{tx}/steps/s1/approve"
    found = at_once(lambda _: person.post(path, body, Idempotency_Key="yes"))
    assert {one.status for one in found} <= {200, 202}
    assert kinds(server, tx)["approval_given"] == 1
    assert sum(not one.is_replayed for one in found) == 1
    refused = person.post(path, {"note": "no"}, Idempotency_Key="yes")
    assert (refused.status, refused.code) == (422, "idempotency-key-reused")


def test_without_a_key_the_same_wish_again_is_another_one(server: Shop) -> None:
    program = server.client("buyer")
    tx = program.begin()
    for _ in range(2):
        assert program.post(f"{tx}/steps", step("reserve")).status == 201
    assert [one["step_id"] for one in program.get(tx).json["steps"]] == ["s1", "s2"]


@pytest.mark.parametrize("mode", ["planned", "interactive"])
def test_of_those_who_have_seen_the_same_one_alone_changes_it(server: Shop, mode: str) -> None:
    program = server.client("buyer")
    tx = program.begin(mode=mode)
    if mode == "interactive":
        assert program.post(f"{tx}/steps", step("reserve")).status == 200
    before = program.get(tx)
    path = f"{tx}/steps"
    found = at_once(
        lambda number: program.post(path, step("reserve", item=str(number)), If_Match=before.tag)
    )
    done = [one for one in found if one.status in (200, 201)]
    assert len(done) == 1
    refused = [one for one in found if one.status == 412]
    assert len(refused) == AT_ONCE - 1
    assert {one.code for one in refused} == {"sequence-moved"}
    assert all(one.tag.strip('"').isdecimal() for one in refused)
    assert len(program.get(tx).json["steps"]) == len(before.json["steps"]) + 1


def test_any_etag_will_do_for_a_star_and_a_repetition_needs_none(server: Shop) -> None:
    program = server.client("buyer")
    tx = program.begin()
    assert program.post(f"{tx}/steps", step("reserve"), If_Match="*").status == 201
    tag = program.get(tx).tag
    for is_replayed in (False, True):
        asked = program.post(f"{tx}/steps", step("charge"), If_Match=tag, Idempotency_Key="k")
        assert (asked.status, asked.is_replayed) == (201, is_replayed)
    assert program.post(f"{tx}/rollback", None, If_Match='"1"').status == 412
    assert program.post(f"{tx}/rollback", None, If_Match="sesame").status == 400


@pytest.mark.parametrize("key", ["", " ", "ü", "a" * 256, "tab\there"])
def test_a_key_that_is_none_is_refused(server: Shop, key: str) -> None:
    program = server.client("buyer")
    found = program.post("/transactions", {}, Idempotency_Key=key.encode().decode("latin-1"))
    assert found.status == 400


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(tmp_path / "store.db")
    else:
        yield request.getfixturevalue("durable_postgres").store()


def test_a_wish_whose_answer_was_lost_with_its_server_is_heard_once(
    tmp_path: Path, store: str
) -> None:
    body = {"note": "enough"}
    with shop(tmp_path, store=store) as first:
        program = first.client("buyer")
        tx = program.begin(mode="interactive")
        name = tx.rpartition("/")[2]
        done = program.post(f"{tx}/steps", step("reserve", undo_waits_for="go"))
        # Why it cannot have been answered: it waits for an undo that does not end.
        asked = program.send("POST", f"{tx}/rollback", body, Idempotency_Key="r", Prefer="wait=30")
        with contextlib.closing(asked):
            wait_until_journaled(store, name, done.json["sequence"] + 2)
            first.kill()
    with shop(tmp_path, store=store) as second:
        second.let("go")
        program = second.client("buyer")
        again = program.post(f"{tx}/rollback", body, Idempotency_Key="r", Prefer="wait=30")
        assert (again.status, again.is_replayed) == (200, True)
        assert again.json["state"] == "rolled_back"
        assert kinds(second, tx)["rollback_requested"] == 1
        refused = program.post(f"{tx}/rollback", {"note": "other"}, Idempotency_Key="r")
        assert (refused.status, refused.code) == (422, "idempotency-key-reused")


def wait_until_journaled(store: str, name: str, sequence: int) -> None:
    with contextlib.closing(open_store(store, create=False)) as found:
        while True:
            journal = found.read(name)
            if journal is not None and journal.head_sequence >= sequence:
                return
            found.wait_for_news(0.05)
