"""Every operation of the document: that it is there, what it says, and who may ask for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest
from tests.web.api.bench import API, Client, Shop, shop, step

from aumai_transactions.web.api.endpoints import ENDPOINTS
from aumai_transactions.web.api.examples import EXAMPLES
from aumai_transactions.web.api.openapi import document, text

READ, ACT, ADMIN, WHOLE = "read", "act", "admin", "whole store"
# What each operation is for: who may ask for it, and what they are shown of others'. An operation
# without a rule fails.
RULES: dict[str, str] = {
    "listTransactions": READ,
    "getTransaction": READ,
    "getEvents": READ,
    "previewRollback": READ,
    "listAttention": READ,
    "listActions": READ,
    "getDescription": READ,
    "streamChanges": READ,
    "listLocks": WHOLE,
    "listWorkers": WHOLE,
    "getHealth": WHOLE,
    "beginTransaction": ACT,
    "addStep": ACT,
    "submit": ACT,
    "commit": ACT,
    "rollback": ACT,
    "makeSavepoint": ACT,
    "rollbackToSavepoint": ACT,
    "approve": ADMIN,
    "deny": ADMIN,
    "retry": ADMIN,
    "resolve": ADMIN,
    "trust": ADMIN,
    "bulk": ADMIN,
}


class Found(NamedTuple):
    method: str
    path: str
    described: dict[str, Any]

    @property
    def name(self) -> str:
        return self.described["operationId"]


def operations() -> Iterator[Found]:
    for path, methods in document()["paths"].items():
        for method, described in methods.items():
            yield Found(method.upper(), path, described)


EVERY = {one.name: one for one in operations()}


def test_the_committed_document_is_the_one_that_is_served(server: Shop) -> None:
    committed = (Path(__file__).parents[3] / "docs" / "openapi.json").read_text()
    assert committed == text()
    assert server.client("reader", "read").get("/openapi.json").json == json.loads(committed)


def test_the_routes_are_those_of_the_document() -> None:
    routes = {(one.method, one.path, one.needs, one.changes) for one in ENDPOINTS}
    described = {
        (one.method, one.path, one.described["x-scope"], one.method == "POST")
        for one in EVERY.values()
    }
    assert routes == described
    assert len(routes) == len(ENDPOINTS)


def test_every_operation_has_a_rule_and_needs_the_scope_that_it_says() -> None:
    scopes = {name: READ if rule == WHOLE else rule for name, rule in RULES.items()}
    assert {name: one.described["x-scope"] for name, one in EVERY.items()} == scopes


@pytest.mark.parametrize("name", EVERY)
def test_every_operation_is_described(name: str) -> None:
    found = EVERY[name].described
    assert found["summary"]
    assert found["description"]
    assert found["security"] == [{"token": [found["x-scope"]]}]
    done = [status for status in found["responses"] if status.startswith("2")]
    assert done
    assert {"400", "401", "403", "421", "422", "429", "500", "503"} <= found["responses"].keys()
    if "{" in EVERY[name].path:
        assert "404" in found["responses"]
    for parameter in found["parameters"]:
        assert parameter["in"] == "query" or parameter["description"], parameter
    if EVERY[name].method == "POST":
        assert "example" in found["requestBody"]["content"]["application/json"]
        assert "Idempotency-Key" in {one["name"] for one in found["parameters"]}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_one(name: str) -> None:
    whole = document()
    schema = EVERY[name].described["requestBody"]["content"]["application/json"]["schema"]
    found = {**schema, "components": whole["components"]}
    jsonschema.Draft202012Validator(found).validate(EXAMPLES[name])


class World(NamedTuple):
    """Hold a server, what one program of one tenant has begun there, and everybody's clients."""

    tx: str
    clients: dict[str, Client]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with shop(tmp_path_factory.mktemp("matrix")) as server:
        clients = {
            "nobody": Client(server.port, None),
            "wrong": Client(server.port, "A" * 43),
            "red reader": server.client("red-reader", "read", "red"),
            "red owner": server.client("red-owner", "act", "red"),
            "red other": server.client("red-other", "act", "red"),
            "red admin": server.client("red-admin", "admin", "red"),
            "blue reader": server.client("blue-reader", "read", "blue"),
            "blue actor": server.client("blue-actor", "act", "blue"),
            "blue admin": server.client("blue-admin", "admin", "blue"),
            "reader": server.client("reader", "read"),
            "actor": server.client("actor", "act"),
            "admin": server.client("admin", "admin"),
        }
        tx = clients["red owner"].begin(steps=[step("ship")])
        committed = clients["red owner"].post(f"{tx}/commit", None, Prefer="wait=30")
        assert committed.json["attention"] == "approval"
        yield World(tx, clients)


def asked(world: World, who: str, one: Found) -> int:
    """Ask for an operation on that transaction, bound to a state that it is not in any more."""
    name = world.tx.rpartition("/")[2]
    path = one.path.removeprefix(API)
    path = path.replace("{transaction_id}", name).replace("{step_id}", "s1").replace("{name}", "x")
    client = world.clients[who]
    if one.name == "streamChanges":
        connection = client.send(one.method, path)
        status = connection.getresponse().status
        connection.close()
        return status
    if one.method == "GET":
        return client.get(path).status
    body = EXAMPLES[one.name]
    if one.name == "bulk":
        body = {**body, "transaction_ids": [name]}
    headers = {} if one.name in ("bulk", "beginTransaction") else {"If_Match": '"1"'}
    return client.post(path, body, **headers).status


SCOPE_OF = {"reader": 1, "owner": 2, "actor": 2, "other": 2, "admin": 3}


def expected(who: str, one: Found) -> set[int]:
    """Return what they are to be answered; for a transaction of red's that red's owner began."""
    rule = RULES[one.name]
    if who in ("nobody", "wrong"):
        return {401} if who == "nobody" else {401, 429}  # There are many wrong ones.
    tenant, _, role = who.rpartition(" ")
    scope = SCOPE_OF[role]
    if scope < {READ: 1, WHOLE: 1, ACT: 2, ADMIN: 3}[rule]:
        return {403}
    if rule == WHOLE:
        return {403} if tenant else {200}
    if "{transaction_id}" not in one.path:
        return {200, 201}
    if tenant == "blue":
        return {404}
    if rule == READ:
        return {200}
    may_act = role == "owner" or (role == "admin" and (rule == ADMIN or one.name == "rollback"))
    if not may_act:
        return {404}
    # Why these: it may, and what it wants does not fit the sequence, or what has been seen.
    return {409, 412}


@pytest.mark.parametrize("name", EVERY)
def test_nobody_is_let_in_but_by_their_scope_and_to_their_own(world: World, name: str) -> None:
    one = EVERY[name]
    for who in world.clients:
        status = asked(world, who, one)
        assert status in expected(who, one), (who, name, status)


def test_what_others_own_is_in_no_list(world: World) -> None:
    name = world.tx.rpartition("/")[2]
    for who, client in world.clients.items():
        if who in ("nobody", "wrong"):
            continue
        for path in ("/transactions?limit=500", "/attention"):
            items = client.get(path).json["items"]
            ids = {one.get("transaction", one)["transaction_id"] for one in items}
            assert (name in ids) == (not who.startswith("blue")), (who, path)
    found = world.clients["blue admin"].post(
        "/bulk", {"action": "rollback", "transaction_ids": [name]}
    )
    assert found.json["items"][0]["problem"]["status"] == 404
    assert world.clients["blue actor"].get("/transactions?tenant=red").json["items"] == []


def test_what_is_anothers_is_told_of_as_what_is_not_there(world: World) -> None:
    name = world.tx.rpartition("/")[2]
    unknown = "0" * len(name)
    for path in ("", "/events", "/preview"):
        reader = world.clients["blue reader"]
        told = [
            json.dumps(reader.get(f"/transactions/{one}{path}").json).replace(one, "")
            for one in (name, unknown)
        ]
        assert told[0] == told[1]
        assert "store.db" not in told[0]
    told = [
        json.dumps(world.clients["actor"].post(f"/transactions/{one}/rollback").json)
        for one in (name, unknown)
    ]
    assert told[0].replace(name, "") == told[1].replace(unknown, "")


def test_what_is_begun_is_of_the_tokens_own_tenant(world: World) -> None:
    red = world.clients["red owner"]
    assert red.get(red.begin()).json["metadata"] == {"tenant": "red"}
    foreign = red.post("/transactions", {"metadata": {"tenant": "blue"}})
    assert (foreign.status, foreign.json["errors"][0]["pointer"]) == (422, "/metadata/tenant")


def test_a_server_that_only_shows_changes_nothing(tmp_path: Path) -> None:
    from tests.web.served import served

    with served(tmp_path) as server:
        client = Client(server.port, server.token("boss", "--scope", "admin"))
        for one in EVERY.values():
            if one.method == "POST":
                path = one.path.removeprefix(API)
                found = client.post(path, EXAMPLES[one.name])
                assert (found.status, found.code) == (403, "read-only"), one.name
        assert client.get("/actions").json["items"] == []


def test_no_method_is_served_that_is_not_described(world: World) -> None:
    for path in {one.path for one in EVERY.values()}:
        methods = {one.method for one in EVERY.values() if one.path == path}
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            if method not in methods:
                found = world.clients["admin"].ask(method, path.removeprefix(API))
                assert (found.status, found.headers["allow"]) == (405, ", ".join(sorted(methods)))
