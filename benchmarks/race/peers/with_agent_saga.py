"""agent-saga, as an entrant: a saga of three tools over its write-ahead log in a file.

    python -m race.peers.with_agent_saga --folder . --at-once 64

Owns: what a user of agent-saga would write. Each tool is COMPENSABLE, so that its intent and what
it committed are synced (`durable_commit`, its default), and its compensation has a name, so that
another process could find it. Its log has hash chains, as it comes.
Not comparable: a tool that raises is unknown to it, so that it undoes three steps where we undo
two; a recovering process is a program of its own; there is no query but reading the file.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from typing import Any

from race.slices import StepFailed, by_tasks, serve_async

try:
    import agent_saga
    from agent_saga import ActionSemantics, AsyncWAL, Compensation, saga_scope, tool
    from agent_saga.decorator import SagaAborted
    from agent_saga.registry import compensator
except ImportError as error:
    sys.exit(f"not installed: pip install agent-saga ({error})")


@compensator("undo")
async def undo(n: int, idempotency_key: str = "") -> None:
    """Undo one step."""


def undoing(result: dict[str, Any] | None) -> Compensation:
    """Return what undoes a step that has returned this."""
    return Compensation(fn=undo, kwargs={"n": 1}, handler="undo")


@tool("act", semantics=ActionSemantics.COMPENSABLE, compensate=undoing)
async def act(n: int) -> dict[str, int]:
    """Be a step."""
    return {"n": n}


@tool("fail", semantics=ActionSemantics.COMPENSABLE, compensate=undoing)
async def fail(n: int) -> dict[str, int]:
    """Be a step that fails."""
    raise StepFailed


async def committing(wal: AsyncWAL) -> None:
    async with saga_scope(wal=wal):
        for _ in range(3):
            await act(n=1)


async def going_back(wal: AsyncWAL) -> None:
    try:
        async with saga_scope(wal=wal):
            await act(n=1)
            await act(n=1)
            await fail(n=1)
    except SagaAborted:
        return
    raise RuntimeError("it did not go back")


async def main() -> None:
    """Be the entrant."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", default=".")
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--fails", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    wal = AsyncWAL(f"{options.folder}/agent-saga.wal")
    await wal.start()
    work = going_back if options.fails else committing
    about = f"agent-saga {getattr(agent_saga, '__version__', '')}"
    await serve_async(lambda s: by_tasks(lambda: work(wal), s, options.at_once), about)
    await wal.close()


if __name__ == "__main__":
    asyncio.run(main())
