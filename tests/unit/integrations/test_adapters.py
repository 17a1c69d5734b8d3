"""Tests of adapters where their frameworks are not installed."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

ADAPTERS = {
    "openai_agents": "openai-agents",
    "pydantic_ai": "pydantic-ai",
    "pydantic_ai_durability": "pydantic-ai",
}
PACKAGES = {"openai_agents": "agents"}


@pytest.mark.parametrize("adapter, extra", ADAPTERS.items())
def test_an_adapter_without_its_framework_says_what_to_install(adapter, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGES.get(adapter, "pydantic_ai"), None)
    with pytest.raises(ImportError, match=rf"pip install 'aumai-transactions\[{extra}\]'"):
        importlib.import_module(f"aumai_transactions.integrations.{adapter}")


def test_what_adapters_have_in_common_imports_no_framework():
    program = "import sys, aumai_transactions.integrations; print(*sys.modules)"
    told = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert not {"agents", "openai", "pydantic_ai"} & set(told.split())
