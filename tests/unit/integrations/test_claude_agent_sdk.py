"""Tests of what a program is told that imports this adapter without its framework."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

ADAPTER = "aumai_transactions.integrations.claude_agent_sdk"


def test_without_its_framework_it_says_how_that_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [one for one in sys.modules if one.split(".")[0] in ("claude_agent_sdk", "mcp_types")]
    for name in (*names, ADAPTER):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "claude_agent_sdk", None)
    with pytest.raises(ImportError) as raised:
        importlib.import_module(ADAPTER)
    assert "pip install 'aumai-transactions[claude]'" in str(raised.value)


def test_what_the_adapters_share_imports_no_framework() -> None:
    program = (
        "import sys, aumai_transactions.integrations; print('claude_agent_sdk' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert ran.stdout.split() == [b"False"]
