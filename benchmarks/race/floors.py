"""The least that can be done, as entrants: no product, only what the machine allows.

    python -m race.floors journal --sink sqlite:x.db --at-once 64

Owns: three floors.
  by hand   A loop with an undo list. Nothing is durable, nothing is remembered.
  commits   One row after the other in autocommit, n+1 of them for a transaction of n steps.
  journal   Intents and results in one table, each durable before whoever waits for it goes on;
            what waits at the same time shares a commit. A result stands with the next intent in one
            write, so that three steps wait four times, and five calls (two of them undo) six times.
            No models, no checks, no hashes, no locks, no leases, and nothing can be asked of it.
Rules:
  1. The journal says what it has to say as JSON, as ours does; a row is an event.
  2. Alone, the caller commits by itself. Many at once are tasks of one event loop, and a writer
     commits what has gathered: `inline` in the loop itself, once for each turn of it; `thread` in a
     thread, while the loop goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from itertools import count
from typing import Any

from race.slices import StepFailed, alone, by_tasks, serve, serve_async

Row = tuple[int, int, str, str]
Write = Callable[[list[Row]], object]
Append = Callable[[list[Row]], Awaitable[object]]
BEGUN, INTENT, RESULT, ENDED = "begun", "intent", "result", "ended"
EACH_BY_HAND = 200
numbers = count()


def act(data: dict[str, Any]) -> dict[str, Any]:
    return data


def fail(data: dict[str, Any]) -> dict[str, Any]:
    raise StepFailed


async def act_async(data: dict[str, Any]) -> dict[str, Any]:
    return data


async def fail_async(data: dict[str, Any]) -> dict[str, Any]:
    raise StepFailed


# ------------------------------------------------------------------------------------- by hand


def by_hand(handlers: Sequence[Callable[[dict[str, Any]], dict[str, Any]]]) -> str:
    """Carry out the steps, or undo those that were done."""
    steps = [(handler, {"n": 1}, act) for handler in handlers]
    done = []
    try:
        for handler, data, undo in steps:
            output = handler(data)
            done.append((undo, output))
    except StepFailed:
        for undo, output in reversed(done):
            undo(output)
        return "rolled_back"
    return "committed"


async def by_hand_async(
    handlers: Sequence[Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]],
) -> str:
    """Do the same with coroutines."""
    steps = [(handler, {"n": 1}, act_async) for handler in handlers]
    done = []
    try:
        for handler, data, undo in steps:
            output = await handler(data)
            done.append((undo, output))
    except StepFailed:
        for undo, output in reversed(done):
            await undo(output)
        return "rolled_back"
    return "committed"


def run_by_hand(options: argparse.Namespace) -> None:
    """Be the floor in memory."""
    plain = [act] * (options.steps - 1) + [fail if options.fails else act]
    coroutines = [act_async] * (options.steps - 1) + [fail_async if options.fails else act_async]
    if options.by == "threads":
        serve(partial(alone, partial(by_hand, plain), each=EACH_BY_HAND))
        return
    work = partial(by_hand_async, coroutines)
    asyncio.run(serve_async(lambda seconds: by_tasks(work, seconds, options.at_once, EACH_BY_HAND)))


# ---------------------------------------------------------------------------------- where it goes


def sqlite_sink(path: str) -> Write:
    """Return what makes rows durable in one commit of a SQLite file."""
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in ("journal_mode = WAL", "synchronous = FULL"):
        database.execute(f"PRAGMA {pragma}").fetchall()
    database.execute(
        "CREATE TABLE event"
        " (id INTEGER PRIMARY KEY, tx INTEGER, step INTEGER, kind TEXT, body TEXT)"
    )
    insert = "INSERT INTO event (tx, step, kind, body) VALUES (?, ?, ?, ?)"

    def write(rows: list[Row]) -> None:
        if len(rows) == 1:
            database.execute(insert, rows[0])
            return
        database.execute("BEGIN IMMEDIATE")
        database.executemany(insert, rows)
        database.execute("COMMIT")

    return write


def postgres_sink(url: str) -> Write:
    """Return what makes rows durable in one statement, which is one round trip."""
    import psycopg

    connection = psycopg.connect(url, autocommit=True)
    connection.execute(
        "CREATE TABLE event (id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
        " tx int8, step int4, kind text, body text)"
    )
    insert = (
        "INSERT INTO event (tx, step, kind, body)"
        " SELECT * FROM unnest(%b::int8[], %b::int4[], %b::text[], %b::text[])"
    )

    def write(rows: list[Row]) -> None:
        columns = [list(column) for column in zip(*rows, strict=True)]
        connection.execute(insert, columns, prepare=True)

    return write


def sink_of(name: str) -> Write:
    """Return the sink of `sqlite:PATH`, or of a PostgreSQL URL."""
    if name.startswith("sqlite:"):
        return sqlite_sink(name.removeprefix("sqlite:"))
    return postgres_sink(name)


def run_commits(options: argparse.Namespace) -> None:
    """Be the floor of bare commits: so many for one transaction."""
    write = sink_of(options.sink)
    rows = [(1, 2, INTENT, json.dumps({"n": 1, "filling": "x" * options.row_bytes}))]

    def one() -> None:
        for _ in range(options.steps + 1):
            write(rows)

    serve(partial(alone, one))


# ---------------------------------------------------------------------------------- the journal


class Durable:
    """Be what can be awaited and is done already."""

    def __await__(self) -> Generator[None, None, None]:
        """Wait for nothing."""
        return
        yield


DURABLE = Durable()


class Direct:
    """Commit for one caller, at once."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def append(self, rows: list[Row]) -> Awaitable[object]:
        """Make rows durable."""
        self._write(rows)
        return DURABLE

    def close(self) -> None:
        """Do nothing."""


class Inline:
    """Commit in the event loop what has gathered in one turn of it."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._rows: list[Row] = []
        self._waiting: list[asyncio.Future[None]] = []

    def append(self, rows: list[Row]) -> Awaitable[object]:
        """Make rows durable, with those of others."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._rows += rows
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.append(future)
        return future

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        waiting, self._waiting = self._waiting, []
        self._write(rows)
        for future in waiting:
            future.set_result(None)

    def close(self) -> None:
        """Do nothing."""


class Thread:
    """Commit in a thread what has gathered while it was busy."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._rows: list[Row] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._guard = threading.Lock()
        self._work = threading.Semaphore(0)
        self._is_open = True
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def append(self, rows: list[Row]) -> Awaitable[object]:
        """Make rows durable, with those of others."""
        future: asyncio.Future[None] = self._loop.create_future()
        with self._guard:
            is_first = not self._waiting
            self._rows += rows
            self._waiting.append(future)
        if is_first:
            self._work.release()
        return future

    def _run(self) -> None:
        while True:
            self._work.acquire()
            if not self._is_open:
                return
            with self._guard:
                rows, self._rows = self._rows, []
                waiting, self._waiting = self._waiting, []
            self._write(rows)
            self._loop.call_soon_threadsafe(self._tell, waiting)

    @staticmethod
    def _tell(waiting: list[asyncio.Future[None]]) -> None:
        for future in waiting:
            future.set_result(None)

    def close(self) -> None:
        """End the thread."""
        self._is_open = False
        self._work.release()
        self._thread.join()


WRITERS: dict[str, type[Inline | Thread]] = {"inline": Inline, "thread": Thread}


async def journaled(append: Append, steps: int, *, fails: bool) -> None:
    """Carry out a transaction, each intent and result of it durable in time."""
    tx, data, text = next(numbers), {"n": 1}, json.dumps
    news: list[Row] = [(tx, 0, BEGUN, "{}")]
    for step in range(1, steps + 1):
        await append([*news, (tx, step, INTENT, text(data))])
        if fails and step == steps:
            break
        data = act(data)
        news = [(tx, step, RESULT, text(data))]
    if fails:
        news = [(tx, steps, RESULT, '"failed"')]
        for step in range(steps - 1, 0, -1):
            await append([*news, (tx, -step, INTENT, text(data))])
            act(data)
            news = [(tx, -step, RESULT, text(data))]
    await append([*news, (tx, 0, ENDED, "{}")])


def without_a_loop(work: Callable[[], Any]) -> Callable[[], None]:
    """Return a function that carries out a coroutine which never waits."""

    def run() -> None:
        try:
            work().send(None)
        except StopIteration:
            return
        raise RuntimeError("it waits for something")

    return run


async def run_journal(options: argparse.Namespace, writer: Inline | Thread) -> None:
    with closing(writer):
        one = partial(journaled, writer.append, options.steps, fails=options.fails)
        await serve_async(lambda seconds: by_tasks(one, seconds, options.at_once))


def main() -> None:
    """Be one floor."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kind", choices=("by-hand", "commits", "journal"))
    parser.add_argument("--sink", default="")
    parser.add_argument("--writer", choices=("direct", *WRITERS), default="direct")
    parser.add_argument("--by", choices=("threads", "tasks"), default="threads")
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--row-bytes", type=int, default=300)
    parser.add_argument("--fails", action="store_true")
    options = parser.parse_args()
    if options.kind == "by-hand":
        run_by_hand(options)
    elif options.kind == "commits":
        run_commits(options)
    elif options.writer == "direct":
        append = Direct(sink_of(options.sink)).append
        one = partial(journaled, append, options.steps, fails=options.fails)
        serve(partial(alone, without_a_loop(one)))
    else:

        async def be() -> None:
            await run_journal(options, WRITERS[options.writer](sink_of(options.sink)))

        asyncio.run(be())


if __name__ == "__main__":
    main()
