"""A hotel that other processes call over HTTP, with the barrier in its own database.

    python hotel_service.py DATABASE

It says its port, and serves until its standard input ends. Some answers are lost after the effect,
some come late, and some say 503 although all is done.
"""

import asyncio
import json
import random
import sqlite3
import sys

from aumai_transactions.participants.barrier import (
    BarrierMiddleware,
    create_barrier_table,
    current_barrier,
)

TABLES = """
PRAGMA journal_mode = WAL;
CREATE TABLE rooms (name TEXT PRIMARY KEY, guests INTEGER NOT NULL);
CREATE TABLE effects (
    position INTEGER PRIMARY KEY AUTOINCREMENT, resource TEXT, transaction_id TEXT, step_id TEXT,
    operation TEXT, attempt INTEGER, key TEXT, token INTEGER
);
"""
LOST, ANGRY, SLOW = 0.03, 0.02, 0.25
SLOW_SECONDS_MAX = 0.03


def connect(place):
    connection = sqlite3.connect(place, timeout=30, check_same_thread=False)
    # What kills in these tests loses nothing that was handed to the system.
    connection.execute("PRAGMA synchronous = OFF")
    return connection


def open_hotel(place):
    connection = connect(place)
    connection.executescript(TABLES)
    create_barrier_table(connection)
    connection.close()


async def act(scope, receive, send):
    """Take a booking, or take it back; the barrier has seen to it that this is due."""
    message = await receive()
    room = json.loads(message["body"])["room"]
    status, by = {"/book": (200, 1), "/cancel": (200, -1)}.get(scope["path"], (422, 0))
    if by:
        guarded = current_barrier()
        call, database = guarded.call, guarded.connection
        database.execute(
            "INSERT INTO rooms VALUES (?, ?) ON CONFLICT DO UPDATE SET guests = guests + ?",
            (room, by, by),
        )
        resource = f"room:{room}"
        names = (resource, call.transaction_id, call.step_id, call.operation, call.attempt)
        database.execute(
            "INSERT INTO effects (resource, transaction_id, step_id, operation, attempt, key, "
            "token) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*names, call.key, call.resources.get(resource)),
        )
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"room": room}).encode()})


async def serve_one(app, dice, reader, writer):
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split()
        pairs = [line.split(": ", 1) for line in head[1:] if line]
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs]
        body = await reader.readexactly(int(dict(headers).get(b"content-length", b"0")))
    except (asyncio.IncompleteReadError, ConnectionError):
        # Whoever called was killed before all of it had left.
        writer.close()
        return
    parts = [{"type": "http.request", "body": body, "more_body": False}]
    answer = []

    async def receive():
        return parts.pop(0)

    async def send(message):
        answer.append(message)

    if dice.random() < SLOW:
        await asyncio.sleep(dice.random() * SLOW_SECONDS_MAX)
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    await app(scope, receive, send)
    fate = dice.random()
    status = 503 if fate > 1 - ANGRY else answer[0]["status"]
    if fate >= LOST:
        lines = [f"HTTP/1.1 {status} X", "Connection: close"]
        lines += [f"{name.decode()}: {value.decode()}" for name, value in answer[0]["headers"]]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + answer[1]["body"])
    writer.close()


async def serve(place):
    app = BarrierMiddleware(act, lambda: connect(place), required=True)
    dice = random.Random(7)

    async def one(reader, writer):
        await serve_one(app, dice, reader, writer)

    async with await asyncio.start_server(one, "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    open_hotel(sys.argv[1])
    asyncio.run(serve(sys.argv[1]))
