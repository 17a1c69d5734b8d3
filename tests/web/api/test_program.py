"""A whole transaction by a program that only speaks HTTP, with a server that dies under it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.web.api.bench import Shop, shop, step, steps_of


def test_a_failing_step_lets_its_program_undo_all_that_was_done(server: Shop) -> None:
    program = server.client("buyer")
    before = len(server.world())
    tx = program.begin(mode="interactive", name="order 1")
    found = program.post(f"{tx}/steps", step("reserve", item="book"))
    assert (found.status, found.json["step"]["output"]) == (200, {"reservation": "r-book"})
    assert program.post(f"{tx}/steps", step("charge", item="book", card="good")).status == 200
    failed = program.post(f"{tx}/steps", step("charge", item="fee", card="bad"))
    assert (failed.status, failed.code) == (409, "step-failed")
    assert "card declined" in failed.json["detail"]
    back = program.post(f"{tx}/rollback", {"note": "no money"}, Prefer="wait=30")
    assert (back.status, back.json["state"]) == (200, "rolled_back")
    assert back.json["result"]["compensated_steps"] == ["s2", "s1"]
    assert server.world()[before:] == ["reserve book", "charge book", "refund book", "release book"]


def test_a_server_that_is_killed_in_a_step_is_gone_on_with_by_the_next_one(tmp_path: Path) -> None:
    with shop(tmp_path) as first:
        program = first.client("buyer")
        tx = program.begin(mode="interactive")
        name = tx.rpartition("/")[2]
        done = program.post(f"{tx}/steps", step("reserve", item="book"), Idempotency_Key="1")
        assert done.status == 200
        wanted = step("reserve", item="pen", wait_for="go")
        asked = program.send("POST", f"{tx}/steps", wanted, Idempotency_Key="2")
        with contextlib.closing(asked):
            first.journal_has(name, done.json["sequence"] + 2)
            first.kill()
    with shop(tmp_path) as second:
        program = second.client("buyer")
        second.let("go")
        again = program.post(f"{tx}/steps", step("reserve", item="book"), Idempotency_Key="1")
        assert (again.status, again.is_replayed) == (200, True)
        assert again.json["step"] == done.json["step"]
        assert program.post(f"{tx}/steps", wanted, Idempotency_Key="2").status == 200
        assert second.world() == ["reserve book", "reserve pen"]
        failed = program.post(f"{tx}/steps", step("charge", card="bad"), Idempotency_Key="3")
        assert failed.code == "step-failed"
        again = program.post(f"{tx}/steps", step("charge", card="bad"), Idempotency_Key="3")
        assert again.code == "step-failed"
        back = program.post(f"{tx}/rollback", None, Prefer="wait=30")
        assert back.json["state"] == "rolled_back"
        assert steps_of(back.json) == {"s1": "compensated", "s2": "compensated", "s3": "failed"}
        assert second.world()[2:] == ["release pen", "release book"]


def test_a_server_that_is_told_to_stop_leaves_what_is_open_to_the_next_one(tmp_path: Path) -> None:
    with shop(tmp_path) as first:
        program = first.client("buyer")
        tx = program.begin(mode="interactive")
        assert program.post(f"{tx}/steps", step("reserve", item="book")).status == 200
    with shop(tmp_path) as second:
        program = second.client("buyer")
        ended = program.post(f"{tx}/commit", None, Prefer="wait=30")
        assert (ended.status, ended.json["state"]) == (200, "committed")
        assert second.world() == ["reserve book"]


def test_a_server_that_is_told_to_stop_does_not_wait_for_a_call_for_ever(tmp_path: Path) -> None:
    with shop(tmp_path) as first:
        program = first.client("buyer")
        tx = program.begin(steps=[step("reserve", item="book", wait_for="go")])
        asked = program.send("POST", f"{tx}/commit", None, Prefer="wait=30")
        with contextlib.closing(asked):
            first.journal_has(tx.rpartition("/")[2], 4)
            first.stop()
            assert asked.getresponse().status == 202
    with shop(tmp_path) as second:
        second.let("go")
        program = second.client("buyer")
        while (ended := program.get(tx).json)["state"] != "committed":
            assert not ended["result"]["is_final"]
        assert second.world() == ["reserve book"]


def test_a_plan_whose_server_is_killed_is_carried_out_by_the_next_one(tmp_path: Path) -> None:
    with shop(tmp_path) as first:
        program = first.client("buyer")
        tx = program.begin(steps=[step("reserve", item="book"), step("reserve", wait_for="go")])
        asked = program.post(f"{tx}/commit")
        assert (asked.status, asked.json["state"]) in ((202, "pending"), (202, "active"))
        first.journal_has(tx.rpartition("/")[2], 6)
        first.kill()
    with shop(tmp_path) as second:
        second.let("go")
        program = second.client("buyer")
        ended = program.get(tx)
        while not ended.json["result"]["is_final"]:
            ended = program.get(tx)
        assert ended.json["state"] == "committed"
        assert second.world() == ["reserve book", "reserve"]


def test_a_plan_that_names_what_nobody_here_knows_is_left_to_workers(server: Shop) -> None:
    program = server.client("buyer")
    tx = program.begin()
    added = program.post(f"{tx}/steps", step("weld"))
    assert (added.status, added.json["steps"]) == (201, ["s1"])
    refused = program.post(f"{tx}/commit")
    assert (refused.status, refused.code) == (422, "unknown-action")
    left = program.post(f"{tx}/submit")
    assert (left.status, left.json["state"]) == (202, "pending")
    late = program.post(f"{tx}/steps", step("weld"))
    assert (late.status, late.code) == (409, "invalid-transaction-state")


def test_a_step_takes_what_an_earlier_one_has_returned(server: Shop) -> None:
    program = server.client("buyer")
    tx = program.begin(steps=[step("reserve", item="book")])
    reference = {"into": ["item"], "step_id": "s1", "at": "/reservation", "type": "string"}
    body = {**step("reserve", item=None), "references": [reference]}
    assert program.post(f"{tx}/steps", body).status == 201
    ended = program.post(f"{tx}/commit", None, Prefer="wait=30")
    assert ended.json["result"]["outputs"]["s2"] == {"reservation": "r-r-book"}


def test_a_program_goes_back_to_a_savepoint_and_goes_on(server: Shop) -> None:
    program = server.client("buyer")
    tx = program.begin(mode="interactive")
    assert program.post(f"{tx}/steps", step("reserve", item="a")).status == 200
    assert program.post(f"{tx}/savepoints", {"name": "half"}).status == 201
    assert program.post(f"{tx}/steps", step("reserve", item="b")).status == 200
    assert program.post(f"{tx}/savepoints/half/rollback").status == 200
    assert program.post(f"{tx}/savepoints/other/rollback").status == 409
    assert program.post(f"{tx}/steps", step("reserve", item="c")).status == 200
    ended = program.post(f"{tx}/commit", None, Prefer="wait=30")
    found = [(one["data"].get("item"), one["state"]) for one in ended.json["steps"]]
    assert [one for one in found if one[0] is not None] == [
        ("a", "succeeded"),
        ("b", "compensated"),
        ("c", "succeeded"),
    ]


def test_a_person_allows_a_step_and_it_is_carried_out_at_once(server: Shop) -> None:
    program, person = server.client("buyer"), server.client("boss", "admin")
    tx = program.begin(mode="interactive")
    waits = program.post(f"{tx}/steps", step("ship", item="x1"), Idempotency_Key="ship")
    assert (waits.status, waits.json["waiting"]["reason"]) == (202, "approval")
    (asked,) = person.get(tx).json["approvals"]
    wrong = person.post(f"{tx}/steps/s1/approve", {"digest": "0" * 32})
    assert (wrong.status, wrong.code) == (409, "invalid-transaction-state")
    body = {"digest": asked["digest"], "note": "in the budget"}
    allowed = person.post(f"{tx}/steps/s1/approve", body, Prefer="wait=30")
    assert steps_of(allowed.json) == {"s1": "succeeded"}
    again = program.post(f"{tx}/steps", step("ship", item="x1"), Idempotency_Key="ship")
    assert (again.status, again.json["step"]["output"]) == (200, "shipped")
    given = [one for one in person.get(f"{tx}/events").json["items"] if "given" in one["kind"]]
    assert [(one["fields"]["by"], one["fields"]["note"]) for one in given] == [
        ("boss", "in the budget")
    ]


def test_a_person_refuses_a_step_and_the_whole_goes_back(server: Shop) -> None:
    program, person = server.client("buyer"), server.client("boss", "admin")
    tx = program.begin(mode="interactive")
    assert program.post(f"{tx}/steps", step("reserve", item="y")).status == 200
    assert program.post(f"{tx}/steps", step("ship")).status == 202
    denied = person.post(f"{tx}/steps/s2/deny", {"note": "no"}, Prefer="wait=30")
    assert (denied.json["state"], denied.json["result"]["reason"]) == ("rolled_back", "denied")


def test_an_admin_rolls_back_what_another_has_open(server: Shop) -> None:
    program, person = server.client("buyer"), server.client("boss", "admin")
    tx = program.begin(mode="interactive")
    assert program.post(f"{tx}/steps", step("reserve", item="z")).status == 200
    back = person.post(f"{tx}/rollback", {"note": "stop it"}, Prefer="wait=30")
    assert back.json["state"] == "rolled_back"
    late = program.post(f"{tx}/steps", step("reserve", item="z"))
    assert (late.status, late.code) == (409, "transaction-not-active")
    asked = [one for one in person.get(f"{tx}/events").json["items"] if "requested" in one["kind"]]
    assert [(one["fields"]["by"], one["fields"]["note"]) for one in asked] == [("boss", "stop it")]


def test_a_step_in_doubt_is_resolved_by_a_person(server: Shop) -> None:
    program, person = server.client("buyer"), server.client("boss", "admin")
    tx = program.begin(steps=[step("notify")])
    stuck = program.post(f"{tx}/commit", None, Prefer="wait=30")
    assert (stuck.status, stuck.json["attention"]) == (200, "in_doubt")
    assert {"name": "resolve", "step_id": "s1", "answers": ["happened", "did_not_happen"],
            "needs_note": True} in stuck.json["actions"]  # fmt: skip
    said = person.post(f"{tx}/steps/s1/resolve", {"answer": "happened"})
    assert (said.status, said.json["errors"][0]["pointer"]) == (422, "/note")
    body = {"answer": "happened", "note": "it is in the outbox"}
    done = person.post(f"{tx}/steps/s1/resolve", body, Prefer="wait=30")
    assert (done.status, done.json["state"]) == (200, "committed")


def test_an_undo_that_failed_is_tried_again_in_bulk(server: Shop) -> None:
    program, person = server.client("buyer"), server.client("boss", "admin")
    failing = step("reserve", item="q", undo_fails_without="open")
    names = []
    for _ in range(2):
        tx = program.begin(steps=[failing, step("charge", card="bad")])
        ended = program.post(f"{tx}/commit", None, Prefer="wait=30")
        assert ended.json["attention"] == "outstanding"
        names.append(tx.rpartition("/")[2])
    server.let("open")
    body = {"action": "retry", "transaction_ids": [*names, "nobody"], "note": "it is open now"}
    found = person.post("/bulk", body, Idempotency_Key="b1")
    assert [one["outcome"] for one in found.json["items"]] == ["accepted", "accepted", "refused"]
    assert found.json["items"][2]["problem"]["status"] == 404
    assert [one["steps"] for one in found.json["items"]] == [["s1"], ["s1"], []]
    again = person.post("/bulk", body, Idempotency_Key="b1")
    assert [one["is_replayed"] for one in again.json["items"]] == [True, True, False]
    for name in names:
        while (one := person.get(f"/transactions/{name}").json)["attention"] is not None:
            pass
        assert one["result"]["outstanding"] == []
        kinds = [
            entry["kind"] for entry in person.get(f"/transactions/{name}/events").json["items"]
        ]
        assert kinds.count("retry_requested") == 1
