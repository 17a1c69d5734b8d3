"""What the API shows, page by page, and how it says no."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.web.api.bench import Shop, step

from aumai_transactions import TransactionManager


@pytest.fixture(scope="module")
def filled(server: Shop) -> list[str]:
    """Return the ids of some transactions of all kinds, in the order in which they were begun."""
    program = server.client("lister")
    paths = [program.begin(name=f"n{at}", metadata={"lot": str(at % 2)}) for at in range(5)]
    tx = program.begin(name="done", steps=[{**step("reserve"), "agent_id": "robot"}])
    assert program.post(f"{tx}/commit", None, Prefer="wait=30").json["state"] == "committed"
    asks = program.begin(name="asks", steps=[step("ship")])
    assert program.post(f"{asks}/commit", None, Prefer="wait=30").status == 200
    return [path.rpartition("/")[2] for path in [*paths, tx, asks]]


def names(found: Any) -> list[str]:
    return [one["name"] for one in found.json["items"]]


def test_a_list_is_walked_through_page_by_page(server: Shop, filled: list[str]) -> None:
    program = server.client("lister")
    seen, cursor = [], ""
    while True:
        found = program.get(f"/transactions?limit=2&order=oldest{cursor}")
        seen += [one["transaction_id"] for one in found.json["items"]]
        if found.json["next"] is None:
            break
        cursor = f"&cursor={found.json['next']}"
    assert seen == filled
    newest = program.get("/transactions?limit=500")
    assert [one["transaction_id"] for one in newest.json["items"]] == filled[::-1]


@pytest.mark.parametrize(
    "query, wanted",
    [
        ("state=committed", ["done"]),
        ("state=committed&state=active", ["asks", "done"]),
        ("attention=true", ["asks"]),
        ("attention=approval", ["asks"]),
        ("attention=outstanding", []),
        ("agent=robot", ["done"]),
        ("action=ship", ["asks"]),
        ("q=SHI", ["asks"]),
        ("metadata.lot=1", ["n3", "n1"]),
        ("metadata.lot=1&q=n3", ["n3"]),
        ("tenant=nobody", []),
        ("created_before=2020-01-01T00:00:00Z", []),
        ("created_from=2020-01-01T00:00:00%2B01:00&state=committed", ["done"]),
        ("older_than=86400", []),
    ],
)
def test_a_list_holds_what_fits(
    server: Shop, filled: list[str], query: str, wanted: list[str]
) -> None:
    assert names(server.client("lister").get(f"/transactions?{query}")) == wanted


@pytest.mark.parametrize(
    "query, pointer",
    [
        ("limit=0", "/limit"),
        ("limit=501", "/limit"),
        ("limit=1000000000", "/limit"),
        ("state=asleep", "/state/0"),
        ("attention=false", "/attention"),
        ("order=random", "/order"),
        ("created_from=yesterday", "/created_from"),
        ("created_from=2020-01-01T00:00:00", "/created_from"),
        ("older_than=-1", "/older_than"),
        ("colour=red", "/colour"),
        ("cursor=AAAA", "/cursor"),
        ("cursor=%F0%9F%98%80", "/cursor"),
    ],
)
def test_a_list_that_cannot_be_is_refused_with_the_place(
    server: Shop, query: str, pointer: str
) -> None:
    found = server.client("lister").get(f"/transactions?{query}")
    assert (found.status, found.code) == (422, "invalid-request")
    assert found.json["errors"][0]["pointer"].startswith(pointer)
    assert found.headers["content-type"] == "application/problem+json"


def test_a_cursor_is_good_for_its_own_list_only(server: Shop, filled: list[str]) -> None:
    program = server.client("lister")
    cursor = program.get("/transactions?limit=1").json["next"]
    assert program.get(f"/transactions?limit=2&cursor={cursor}").status == 200
    assert program.get(f"/transactions?limit=1&state=pending&cursor={cursor}").status == 422
    changed = cursor[:-1] + ("A" if cursor[-1] != "A" else "B")
    assert program.get(f"/transactions?limit=1&cursor={changed}").status == 422
    assert program.get("/transactions?limit=1&limit=2").status == 400


@pytest.mark.parametrize(
    "path",
    ["/transactions", "/transactions/{}", "/transactions/{}/events", "/transactions/{}/preview",
     "/attention", "/actions", "/locks", "/workers"],
)  # fmt: skip
def test_what_has_not_changed_is_not_sent_again(server: Shop, filled: list[str], path: str) -> None:
    program = server.client("lister")
    path = path.format(filled[0])
    first = program.get(path)
    again = program.get(path, If_None_Match=first.tag)
    assert (again.status, again.json, again.tag) == (304, None, first.tag)
    assert program.get(path, If_None_Match='W/"other", "9999"').status == 200
    assert program.get(path, If_None_Match="*").status == 304


def test_the_journal_is_told_entry_by_entry_with_its_hashes(
    server: Shop, filled: list[str]
) -> None:
    program = server.client("lister")
    path = f"/transactions/{filled[5]}/events"
    whole = program.get(path).json["items"]
    assert [one["sequence"] for one in whole] == list(range(1, len(whole) + 1))
    parts, after = [], 0
    while after is not None:
        found = program.get(f"{path}?after={after}&limit=2").json
        parts += found["items"]
        after = found["next"]
    assert parts == whole
    manager = TransactionManager(store=str(server.home / "store.db"))
    journal = manager._desk().store.read(filled[5])
    manager.close()
    assert journal is not None
    assert [one["hash"] for one in whole] == [entry.hash.hex() for entry in journal.entries]
    assert program.get(f"{path}?after=1000").json == {"items": [], "next": None}


def test_a_preview_tells_what_a_rollback_then_does(server: Shop) -> None:
    program = server.client("lister2")
    tx = program.begin(mode="interactive")
    for item in ("a", "b"):
        assert program.post(f"{tx}/steps", step("reserve", item=item)).status == 200
    body = {**step("charge"), "compensating_action": None}
    assert program.post(f"{tx}/steps", body).status == 200
    told = program.get(f"{tx}/preview").json
    assert told["is_possible"]
    ended = program.post(f"{tx}/rollback", None, Prefer="wait=30").json
    assert [one["step_id"] for one in told["undos"]] == ended["result"]["compensated_steps"]
    assert told["left"] == ended["result"]["uncompensated"]
    late = program.get(f"{tx}/preview").json
    assert (late["is_possible"], late["undos"]) == (False, [])
    assert "rolled_back" in late["why_not"]


def test_what_needs_a_person_is_listed_with_what_can_be_answered(
    server: Shop, filled: list[str]
) -> None:
    program = server.client("lister")
    (found,) = program.get("/attention?kind=approval").json["items"]
    assert found["transaction"]["transaction_id"] == filled[6]
    assert [one["step_id"] for one in found["approvals"]] == ["s1"]
    names = [one["name"] for one in found["actions"]]
    assert names == ["rollback", "approve", "deny"]
    assert program.get("/attention?kind=halted").json == {"items": [], "next": None}


def test_the_actions_that_can_be_called_are_listed(server: Shop) -> None:
    items = server.client("lister").get("/actions").json["items"]
    found = {one["name"]: one for one in items}
    assert found["reserve"]["compensating_action"] == "release"
    assert found["reserve"]["idempotent"]
    assert found["ship"]["requires_approval"]


def test_the_server_is_among_the_workers_with_what_it_has(server: Shop) -> None:
    program = server.client("lister2")
    tx = program.begin(mode="interactive")
    assert program.post(f"{tx}/steps", step("reserve")).status == 200
    items = server.client("lister").get("/workers").json["items"]
    having = [one for one in items if tx.rpartition("/")[2] in one["holds"]]
    assert [(one["is_alive"], one["pid"]) for one in having] == [(True, server.process.pid)]


def test_health_counts_transactions_by_state(server: Shop, filled: list[str]) -> None:
    found = server.client("lister").get("/health").json
    assert found["status"] == "ok"
    assert found["states"]["pending"] >= 5
    assert found["needing_a_person"] == 1


DEEP = b'{"data":' + b'{"a":' * 100 + b"1" + b"}" * 100 + b"}"


@pytest.mark.parametrize(
    "body, status, told",
    [
        (b"{", 400, "line 1, column 2"),
        (b"\xff\xfe", 400, "UTF-8"),
        (b'{"name": "a", "name": "b"}', 400, "twice"),
        (b'{"timeout_seconds": NaN}', 400, "NaN"),
        (b'{"timeout_seconds": Infinity}', 400, "Infinity"),
        (b'{"timeout_seconds": 1e999}', 400, "too large"),
        (b'{"name": "\\ud800"}', 400, "surrogate"),
        (DEEP, 400, "64 levels"),
        (b"[" * 100_000, 400, "64 levels"),
        (b"[]", 422, "JSON object"),
        (b"null", 422, "JSON object"),
        (b'{"state": "committed"}', 422, "/state"),
        (b'{"transaction_id": "mine"}', 422, "/transaction_id"),
        (b'{"actions": {"x": {"kind": "command", "run": ["sh"]}}}', 422, "/actions"),
        (b'{"steps": [{"action": "a", "url": "http://x"}]}', 422, "/steps/0/url"),
        (b'{"steps": [{"action": 7}]}', 422, "/steps/0/action"),
        (b'{"mode": "magic"}', 422, "/mode"),
        (b'{"timeout_seconds": "60"}', 422, "/timeout_seconds"),
        (b'{"metadata": {"principal": "boss"}}', 422, "/metadata/principal"),
        (b'{"mode": "interactive", "steps": [{"action": "a"}]}', 422, "/steps"),
        (b'{"on_crash": "wait"}', 422, "/on_crash"),
        (b'{"mode": "interactive", "timeout_seconds": 99999}', 422, "/timeout_seconds"),
    ],
)
def test_a_body_that_cannot_be_is_refused_with_the_place(
    server: Shop, body: bytes, status: int, told: str
) -> None:
    found = server.client("lister").post("/transactions", body)
    assert found.status == status, found
    assert told in json.dumps(found.json)
    assert "Traceback" not in json.dumps(found.json)


def test_a_body_that_is_no_json_by_its_own_word_is_refused(server: Shop) -> None:
    program = server.client("lister")
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        found = program.post("/transactions", b"{}", Content_Type=kind)
        assert (found.status, found.code) == (415, "unsupported-media-type")


def test_a_large_body_is_taken_while_others_are_answered(server: Shop) -> None:
    program = server.client("lister2")
    tx = program.begin()
    body = step("reserve", item=["x" * 1_000] * 1_000)
    assert program.post(f"{tx}/steps", body).status == 201
