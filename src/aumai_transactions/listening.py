"""Where a server of ours is reached: a port or a Unix socket, and its names.

Owns: what an address is, how its socket is had, which `Host` and `Origin` fit it, and how a server
ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aumai_transactions.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Address(NamedTuple):
    """Say where a server is reached over HTTP.

    Args:
        host: The name or address that it binds to.
        port: The port; 0 for any that is free.
        socket: The path of a Unix socket instead.
        names: Under which other names it may be asked, such as that of a proxy in front.
    """

    host: str = "127.0.0.1"
    port: int = 0
    socket: str | None = None
    names: tuple[str, ...] = ()

    @property
    def is_local(self) -> bool:
        """True where nobody on another machine can reach it."""
        return self.socket is not None or self.host in LOOPBACK

    @property
    def named(self) -> str:
        """How people write it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.socket or f"{host}:{self.port}"

    def hosts(self) -> list[str]:
        """Return what `Host` may say; `name:*` for any port, where that is not known yet."""
        if self.socket is not None:
            return ["localhost", *self.names]
        own = [self.host] if self.host not in LOOPBACK else ["127.0.0.1", "localhost", "[::1]"]
        port = self.port
        return [*(f"{name}:{port}" if port else f"{name}:*" for name in own), *self.names]

    def origins(self, scheme: str = "http") -> list[str]:
        """Return what `Origin` may say."""
        return [f"{scheme}://{host}" for host in self.hosts()]


@contextlib.contextmanager
def bound(address: Address) -> Iterator[socket.socket]:
    """Take the socket that clients connect to, and let go of it when the block is left.

    Raises:
        DefinitionError: It cannot be had.
    """
    if address.socket is not None:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        where: Any = address.socket
        # Why before it is bound: it is for its owner alone from its first moment on.
        before = os.umask(0o177)
    else:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        where, before = (address.host, address.port), None
    try:
        made.bind(where)
    except OSError as error:
        made.close()
        message = f"{address.named} cannot be had: {error.strerror or error}. Name another one."
        raise DefinitionError(message) from error
    finally:
        if before is not None:
            os.umask(before)
    try:
        yield made
    finally:
        made.close()
        if address.socket is not None:
            Path(address.socket).unlink(missing_ok=True)


async def until_told(
    server: Any, listener: socket.socket, ending: Callable[[], None] | None = None
) -> None:
    """Serve until this task is cancelled, and then let requests that are under way end.

    Args:
        server: A uvicorn server.
        listener: What clients connect to.
        ending: What ends the answers that would not end by themselves.
    """
    # Why no handlers of its own: they would send the signal once more when it has ended, into the
    # middle of what is done then.
    server.capture_signals = contextlib.nullcontext
    work = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        server.should_exit = True
        if ending is not None:
            ending()
        await work
        raise
