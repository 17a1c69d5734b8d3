"""What the adapter for LangChain says where LangChain is not installed."""

from __future__ import annotations

import subprocess
import sys


def test_without_the_framework_the_adapter_says_what_to_install() -> None:
    hidden = "import sys; sys.modules['langchain'] = None; sys.modules['langgraph'] = None; "
    program = hidden + "import aumai_transactions.integrations.langchain"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert "pip install 'aumai-transactions[langchain]'" in ran.stderr


def test_what_all_adapters_share_imports_no_framework() -> None:
    program = (
        "import sys, aumai_transactions.integrations; "
        "print({'langchain', 'langchain_core', 'langgraph'} & set(sys.modules))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ran.stdout == "set()\n", ran.stderr
