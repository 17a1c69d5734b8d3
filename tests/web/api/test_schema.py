"""Requests that the document allows, and some that it does not, made up by schemathesis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)
from tests.web.api.bench import Client, Shop, shop, step

EXAMPLES_MAX = 6
DOCUMENT = Path(__file__).parents[3] / "docs" / "openapi.json"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
# Why without the stream: it does not end.
schema = schemathesis.openapi.from_path(str(DOCUMENT)).exclude(operation_id="streamChanges")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shop, Client, list[str]]]:
    """Run a server with transactions of all kinds, of one who may do everything with them."""
    with shop(tmp_path_factory.mktemp("schema")) as server:
        boss = server.client("boss", "admin")
        open_one = boss.begin(mode="interactive")
        assert boss.post(f"{open_one}/steps", step("reserve")).status == 200
        assert boss.post(f"{open_one}/savepoints", {"name": "half"}).status == 201
        asks = boss.begin(steps=[step("ship")])
        doubtful = boss.begin(steps=[step("notify")])
        for path in (asks, doubtful):
            assert boss.post(f"{path}/commit", None, Prefer="wait=30").status == 200
        draft = boss.begin(steps=[step("reserve")])
        names = [path.rpartition("/")[2] for path in (open_one, asks, doubtful, draft)]
        yield server, boss, names


@schema.parametrize()
@settings(
    max_examples=EXAMPLES_MAX,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_whatever_is_asked_for_is_answered_as_the_document_says(
    case: Any, made: tuple[Shop, Client, list[str]]
) -> None:
    server, boss, names = made
    parameters = case.path_parameters
    if "transaction_id" in parameters and len(str(case.body)) % 3:
        # Why: of an id that was made up, all that can be said is that there is none.
        parameters["transaction_id"] = names[len(str(parameters)) % len(names)]
        parameters.update({"step_id": "s1"} if "step_id" in parameters else {})
    headers = {"Authorization": f"Bearer {boss.token}"}
    case.headers.pop("Prefer", None)
    response = case.call(base_url=f"http://127.0.0.1:{server.port}", headers=headers, timeout=60)
    case.validate_response(response, checks=CHECKS)
