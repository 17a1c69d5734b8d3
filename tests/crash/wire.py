"""The way to a PostgreSQL server over TCP, which is cut where a test says.

Owns: `Wire`. It listens on loopback and passes everything on to the server's socket. Unlike a
network it is cut at a byte that is chosen: in the middle of a message, before an answer, or in one.
"""

import socket
import threading
from typing import Literal

CHUNK = 1 << 16
Direction = Literal["to server", "to client"]


class Pipe:
    """One connection: what is read on one side is written on the other, by two threads."""

    def __init__(self, wire, client):
        self._wire = wire
        self._client = client
        self._server = socket.socket(socket.AF_UNIX)
        self._server.connect(wire.server)
        self.is_frozen = False
        self.said = b""
        self._threads = [
            threading.Thread(target=self._pass, args=("to server", client, self._server)),
            threading.Thread(target=self._pass, args=("to client", self._server, client)),
        ]
        for thread in self._threads:
            thread.start()

    def _pass(self, direction: Direction, source, target):
        try:
            while part := source.recv(CHUNK):
                if direction == "to server":
                    self.said = (self.said + part)[-CHUNK:]
                passed, is_cut = self._wire.let_through(direction, part)
                if not self.is_frozen:
                    target.sendall(passed)
                if is_cut:
                    return
        except OSError:
            return
        finally:
            self.cut()

    def cut(self):
        """End both sides; the server hears of it as of a client that is gone."""
        for end in (self._client, self._server):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self):
        self.cut()
        for thread in self._threads:
            thread.join()
        self._client.close()
        self._server.close()


class Wire:
    """Pass on what goes to a server and back.

    Args:
        server: The server's socket.
    """

    def __init__(self, server: str):
        self.server = server
        self.passed = {"to server": 0, "to client": 0}
        self._cuts: dict[str, int] = {}
        self._guard = threading.Lock()
        self._pipes: list[Pipe] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def cut(self, direction: Direction, after: int) -> None:
        """Cut the connection on which so many more bytes have gone in this direction."""
        with self._guard:
            self._cuts = {direction: after}

    def let_through(self, direction: Direction, part: bytes) -> tuple[bytes, bool]:
        """Return what still goes through, and whether the connection is cut behind it."""
        with self._guard:
            self.passed[direction] += len(part)
            left = self._cuts.get(direction)
            if left is None:
                return part, False
            if left >= len(part):
                self._cuts[direction] = left - len(part)
                return part, False
            del self._cuts[direction]
            return part[:left], True

    def is_to_cut(self) -> bool:
        """Tell whether a cut is still to come."""
        return bool(self._cuts)

    def stop_cutting(self) -> None:
        """Forget a cut that has not come."""
        with self._guard:
            self._cuts = {}

    def freeze(self, said: bytes) -> int:
        """Let nothing through any more where this was said, and let nobody notice; return on how
        many connections.
        """
        frozen = [pipe for pipe in self._pipes if said in pipe.said and not pipe.is_frozen]
        for pipe in frozen:
            pipe.is_frozen = True
        return len(frozen)

    def _run(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                self._pipes.append(Pipe(self, client))
            except OSError:
                client.close()  # The server is away.

    def close(self) -> None:
        # Why shut down first: on Linux that is what wakes whoever accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for pipe in self._pipes:
            pipe.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
