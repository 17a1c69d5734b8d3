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
from langgraph.checkpoint.sqlite import SqliteSaver
from tests.frameworks.langchain.scene import Script, call

from aumai_transactions import TransactionManager
from aumai_transactions.integrations.langchain import TransactionMiddleware


def write(folder: Path, line: str) -> None:
    with (folder / "world").open("a") as world:
        world.write(line + "\n")


def program(folder: Path, saver: Any) -> tuple[TransactionManager, Any]:
    """Make the manager and the agent with its rules."""

    @tool
    def book(what: str) -> dict[str, str]:
        """Book something; the hotel is the end of this process."""
        write(folder, f"book {what}")
        if what == "hotel" and sys.argv[1] == "run":
            os.kill(os.getpid(), signal.SIGKILL)
        return {"room": f"{what} 7"}

    def cancel(what: str, result: Any) -> None:
        write(folder, f"cancel {what} {result}")

    turns = [[call("book", what="flight")], [call("book", what="hotel")]]
    middleware = [TransactionMiddleware({"book": cancel})]
    model = Script(turns=turns)
    agent = create_agent(model, [book], middleware=middleware, checkpointer=saver)
    return TransactionManager(store=f"sqlite:///{folder}/trips.db"), agent


def main(what: str, folder: Path, on_crash: str) -> None:
    waits: Any = {"on_crash": "wait", "resume_within_seconds": 3600} if on_crash == "wait" else {}
    with SqliteSaver.from_conn_string(str(folder / "threads.db")) as saver:
        manager, agent = program(folder, saver)
        if what == "run":
            with manager.transaction(name="trip", **waits) as tx:
                config = {"configurable": {"thread_id": tx.transaction_id}}
                agent.invoke({"messages": [("user", "go")]}, config)
        elif what == "recover":
            print(*(one.result.state.value for one in manager.recover()))
        else:
            [dead] = [one.transaction_id for one in manager.get_all_transactions()]
            with manager.resume(dead) as tx:
                agent.invoke(None, {"configurable": {"thread_id": dead}})
            print(tx.result.state.value)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
