"""Standard input, line by line, for a loop that may have to end before it does.

Owns: that. What waits for a line in a thread of the loop cannot be cancelled, and would keep a
gateway alive that was told to end.
"""

from __future__ import annotations

import asyncio
import os
import threading

CHUNK = 65_536


class Lines:
    """Yield the lines of standard input; nobody else reads it from then on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._descriptor = os.dup(0)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        # Why a daemon, and not a file object: it may wait for ever, and must hold no lock then.
        threading.Thread(target=self._read, name="standard input", daemon=True).start()

    def __aiter__(self) -> Lines:
        """Return this."""
        return self

    async def __anext__(self) -> str:
        """Return the next line; end where standard input does."""
        line = await self._lines.get()
        if line is None:
            raise StopAsyncIteration
        return line

    def _read(self) -> None:
        left: list[bytes] = []
        while True:
            try:
                chunk = os.read(self._descriptor, CHUNK)
            except OSError:
                chunk = b""
            first, *more = chunk.split(b"\n")
            left.append(first)
            lines = []
            for piece in more:  # Why joined only here: a long line comes in many pieces.
                lines.append(b"".join(left))
                left = [piece]
            if not chunk and any(left):
                lines.append(b"".join(left))
            for line in lines:
                self._put(line.decode("utf-8", "replace"))
            if not chunk:
                self._put(None)
                return

    def _put(self, line: str | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._lines.put_nowait, line)
        except RuntimeError:
            return  # The loop has ended, and nobody waits for more.
