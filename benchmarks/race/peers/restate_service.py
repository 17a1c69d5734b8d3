"""The service that Restate calls in `with_restate.py`: three durable steps, and an undo list.

Owns: what a user of Restate's SDK would write.
"""

from __future__ import annotations

from typing import Any

import restate
from restate import Context, Service, TerminalError

saga = Service("Saga")


def act(data: dict[str, Any]) -> dict[str, Any]:
    """Be a step, or undo one."""
    return data


def fail(data: dict[str, Any]) -> dict[str, Any]:
    """Be a step that fails for good."""
    raise TerminalError("no")


@saga.handler()
async def run(ctx: Context, request: dict[str, Any]) -> str:
    """Carry out three steps, or undo those that were done."""
    data, done = {"n": 1}, []
    try:
        for name, step in (("1", act), ("2", act), ("3", fail if request["fails"] else act)):
            data = await ctx.run_typed(name, step, data=data)
            done.append(data)
    except TerminalError:
        for number, output in enumerate(reversed(done)):
            await ctx.run_typed(f"undo {number}", act, data=output)
        return "rolled_back"
    return "committed"


app = restate.app(services=[saga])
