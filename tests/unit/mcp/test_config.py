"""Tests of reading the gateway's configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aumai_transactions.errors import DefinitionError
from aumai_transactions.mcp.config import load


def written(folder: Path, table: Any) -> Path:
    path = folder / "mcp.json"
    path.write_text(table if isinstance(table, str) else json.dumps(table))
    return path


def test_a_file_of_another_host_is_read_as_it_is(tmp_path: Path) -> None:
    table = {
        "globalShortcut": "x",
        "mcpServers": {
            "fs": {"type": "stdio", "command": "npx", "args": ["-y", "x"], "autoApprove": ["read"]},
            "web": {"type": "http", "url": "https://example.com/mcp", "headers": {"X-Key": "1"}},
        },
    }
    found = load(written(tmp_path, table))
    assert found.servers["fs"].command == "npx"
    assert found.servers["web"].headers == {"X-Key": "1"}
    assert found.transactions.policy == "approve"


def test_the_environment_is_filled_in_where_a_server_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "secret")
    server = {"command": "x", "args": ["${KEY}", "${NONE:-usual}"], "env": {"A": "a${KEY}"}}
    found = load(written(tmp_path, {"mcpServers": {"fs": server}})).servers["fs"]
    assert found.args == ["secret", "usual"]
    assert found.env == {"A": "asecret"}


@pytest.mark.parametrize(
    "table, what",
    [
        ("{", "is no JSON"),
        ("[]", 'no "mcpServers"'),
        ({"servers": {}}, 'no "mcpServers"'),
        ({"mcpServers": {}}, "at least 1"),
        ({"mcpServers": {"a": {}}}, 'has "command" to start it'),
        ({"mcpServers": {"a": {"command": "x", "url": "y"}}}, "one of the two"),
        ({"mcpServers": {"a": 7}}, "mcpServers.a"),
        ({"mcpServers": {"a__b": {"command": "x"}}}, "a server's name"),
        ({"mcpServers": {"a/b": {"command": "x"}}}, "a server's name"),
        ({"mcpServers": {"a": {"command": "${UNSET_VARIABLE}"}}}, "UNSET_VARIABLE"),
        ({"mcpServers": {"a": {"command": "x"}}, "transactions": {"polici": "allow"}}, "polici"),
        ({"mcpServers": {"a": {"command": "x"}}, "transactions": {"policy": "maybe"}}, "policy"),
        (
            {"mcpServers": {"a": {"command": "x", "transactions": {"tools": {"t": {"undo": 1}}}}}},
            "mcpServers.a.transactions.tools.t.undo",
        ),
    ],
)
def test_what_cannot_be_used_is_said_with_its_place(tmp_path: Path, table: Any, what: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        load(written(tmp_path, table))
    assert what in str(raised.value)
    assert str(tmp_path) in str(raised.value) or "mcpServers.a" in str(raised.value)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="No such file"):
        load(tmp_path / "none.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    with pytest.raises(DefinitionError, match="no UTF-8"):
        load(tmp_path / "bytes.json")
