"""What is killed: an agent in the midst of its second tool. The world is a file of lines."""
# mypy: disable-error-code="union-attr, misc"

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.tools import tool
from tests.frameworks.langchain.scene import Script, call

from aumai_transactions import TransactionManager
from aumai_transactions.integrations.langchain import TransactionMiddleware


def write(folder: Path, line: str) -> None:
    with (folder / "world").open("a") as world:
        world.write(line + "\n")


def program(folder: Path) -> tuple[TransactionManager, Any]:
    """Make the manager and the agent with its rules."""

    @tool
    def book(what: str) -> dict[str, str]:
        """Book something; the hotel is the end of this process."""
        write(folder, f"book {what}")
        if what == "hotel":
            os.kill(os.getpid(), signal.SIGKILL)
        return {"room": f"{what} 7"}

    def cancel(what: str, result: Any) -> None:
        write(folder, f"cancel {what} {result}")

    turns = [[call("book", what="flight")], [call("book", what="hotel")]]
    middleware = [TransactionMiddleware({"book": cancel})]
    agent = create_agent(Script(turns=turns), [book], middleware=middleware)
    return TransactionManager(store=f"sqlite:///{folder}/trips.db"), agent


if __name__ == "__main__":
    manager, agent = program(Path(sys.argv[2]))
    if sys.argv[1] == "run":
        with manager.transaction(name="trip"):
            agent.invoke({"messages": [("user", "go")]})
    else:
        print(*(one.result.state.value for one in manager.recover()))
