"""LangGraph, as an entrant: a graph of three nodes with the SQLite checkpointer.

    python -m race.peers.with_langgraph --folder . --at-once 64

Owns: what a user of LangGraph would write, with `durability="sync"`, which writes a checkpoint
before the next node begins. Compensations are nodes that an edge leads to.
Not comparable: it writes what a node has returned, never that one begins, and nothing goes on by
itself after a crash: a program has to find the threads that did not end, and call their nodes.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from itertools import count
from typing import Any, TypedDict

from race.slices import StepFailed, by_tasks, serve_async

try:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
    from langgraph.graph import END, START, StateGraph
except ImportError as error:
    sys.exit(f"not installed: pip install langgraph langgraph-checkpoint-sqlite ({error})")

numbers = count()


class State(TypedDict, total=False):
    """What the nodes hand on."""

    data: dict[str, int]
    fails: bool
    outcome: str


async def act(state: State) -> State:
    """Be a step, or undo one."""
    return {"data": state["data"]}


def fail() -> None:
    raise StepFailed


async def last(state: State) -> State:
    """Be the last step."""
    try:
        if state["fails"]:
            fail()
    except StepFailed:
        return {"outcome": "rolled_back"}
    return {"data": state["data"], "outcome": "committed"}


def graph() -> Any:
    """Return the graph."""
    builder: Any = StateGraph(State)
    for name in ("first", "second", "undo_second", "undo_first"):
        builder.add_node(name, act)
    builder.add_node("third", last)
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    builder.add_edge("second", "third")
    builder.add_conditional_edges(
        "third",
        lambda state: "undo_second" if state["outcome"] == "rolled_back" else END,
        ["undo_second", END],
    )
    builder.add_edge("undo_second", "undo_first")
    builder.add_edge("undo_first", END)
    return builder


def one_of(compiled: Any, *, fails: bool) -> Callable[[], Awaitable[None]]:
    """Return what carries out one."""
    expected = "rolled_back" if fails else "committed"

    async def one() -> None:
        config = {"configurable": {"thread_id": str(next(numbers))}}
        begun = {"data": {"n": 1}, "fails": fails}
        found = await compiled.ainvoke(begun, config, durability="sync")
        if found["outcome"] != expected:
            raise RuntimeError(f"it has ended {found['outcome']}")

    return one


async def main() -> None:
    """Be the entrant."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", default=".")
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--fails", action="store_true")
    options = parser.parse_args()
    async with AsyncSqliteSaver.from_conn_string(f"{options.folder}/langgraph.db") as saver:
        one = one_of(graph().compile(checkpointer=saver), fails=options.fails)
        about = f"langgraph {version('langgraph')}"
        await serve_async(lambda seconds: by_tasks(one, seconds, options.at_once), about)


if __name__ == "__main__":
    asyncio.run(main())
