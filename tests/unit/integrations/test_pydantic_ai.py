"""Tests of the adapter for pydantic-ai where that is not installed."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest


@pytest.mark.parametrize("adapter", ["pydantic_ai", "pydantic_ai_durability"])
def test_without_its_framework_it_says_what_to_install(adapter, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydantic_ai", None)
    with pytest.raises(ImportError, match=r"pip install 'aumai-transactions\[pydantic-ai\]'"):
        importlib.import_module(f"aumai_transactions.integrations.{adapter}")


def test_what_adapters_have_in_common_does_not_import_it():
    program = "import sys, aumai_transactions.integrations; print(*sys.modules)"
    told = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert "aumai_transactions.integrations" in told.split()
    assert "pydantic_ai" not in told.split()
