"""Tests of the adapter for the OpenAI Agents SDK where that is not installed."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest


def test_without_its_framework_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "agents", None)
    with pytest.raises(ImportError, match=r"pip install 'aumai-transactions\[openai-agents\]'"):
        importlib.import_module("aumai_transactions.integrations.openai_agents")


def test_what_adapters_have_in_common_does_not_import_it():
    program = "import sys, aumai_transactions.integrations; print(*sys.modules)"
    told = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert "aumai_transactions.integrations" in told.split()
    assert not {"agents", "openai"} & set(told.split())
