"""What commands that serve over HTTP share.

Owns: how an address is written, how such a command ends, and what it says where its extra is not
installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from typing import Any

import click

from aumai_transactions.cli.exits import Code, Refused
from aumai_transactions.listening import Address


def parsed_address(text: str, option: str, names: tuple[str, ...]) -> Address:
    """Return the address that somebody has written as HOST:PORT.

    Args:
        text: What was written.
        option: Where.
        names: Under which other names it may be asked.
    """
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65_535:
        raise click.BadParameter("it is like 127.0.0.1:8765", param_hint=option)
    return Address(host.strip("[]") or "127.0.0.1", int(port), None, names)


def run_until_told(work: Coroutine[Any, Any, None]) -> None:
    """Run until it ends, or until it is told to; then it ends in order."""

    async def run() -> None:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())


def needs_extra(error: ModuleNotFoundError, what: str, extra: str) -> Exception:
    """Return what to raise where a package is not installed.

    Args:
        error: What was not found.
        what: What needs it.
        extra: The extra that brings it.
    """
    if (error.name or "").partition(".")[0] == "aumai_transactions":
        return error
    message = (
        f"{what} needs a package that is not installed ({error.name}): "
        f"pip install 'aumai-transactions[{extra}]'"
    )
    return Refused(message, Code.error)
