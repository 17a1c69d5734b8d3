"""What is sent a signal: a program with an open transaction, which says where it stands.

Its arguments: a folder, `sync` or `async`, `memory` or `sqlite`, and a place. It says "ready" when
it stands there; a line on its standard input lets it go on.
"""

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

from aumai_transactions import AsyncTransactionManager, TransactionManager

FOLDER, KIND, STORE, PLACE = sys.argv[1:]
MANY = 300
released = threading.Event()
world = os.open(Path(FOLDER, "world"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
begun = threading.Semaphore(0)


def say(line):
    os.write(1, line.encode() + b"\n")


def put(action, data):
    os.write(world, f"put {data['it']}\n".encode())
    if data.get("holds"):
        say("ready")
        threading.Event().wait()


def take(action, data):
    os.write(world, f"take {data['it']}\n".encode())


def slow_take(action, data):
    say("ready")
    released.wait()
    take(action, data)


def put_together(action, data):
    put(action, data)
    begun.release()
    released.wait()


async def async_put(action, data):
    os.write(world, f"put {data['it']}\n".encode())
    if data.get("holds"):
        say("ready")
        await asyncio.Event().wait()


async def async_slow_take(action, data):
    say("ready")
    await asyncio.to_thread(released.wait)
    take(action, data)


def made(kind, puts, slow_takes):
    handlers = {
        "put": puts,
        "take": take,
        "slow_take": slow_takes,
        "put_together": put_together,
    }
    store = str(Path(FOLDER, "store.db")) if STORE == "sqlite" else None
    return kind(handlers, store=store)


def tell(tx):
    if tx is not None and tx.result is not None:
        say(f"{tx.result.state.value} {tx.state.value} {tx.result.reason} {tx.result.clean}")


def in_block(tx):
    tx.execute("agent", "put", {"it": "a"}, "take")
    undo = "slow_take" if PLACE == "undo" else "take"
    tx.execute("agent", "put", {"it": "b"}, undo)
    if PLACE == "body":
        say("ready")
        threading.Event().wait()
    if PLACE == "handler":
        tx.execute("agent", "put", {"it": "c", "holds": True}, "take")
    if PLACE == "undo":
        raise ValueError("the model gave up")
    if PLACE == "many":
        for number in range(MANY):
            tx.execute("agent", "put", {"it": number}, "take")
        say("ready")
        raise ValueError("the model gave up")
    if PLACE == "own handler":
        say("ready")
        released.wait()


async def in_async_block(tx):
    await tx.execute("agent", "put", {"it": "a"}, "take")
    undo = "slow_take" if PLACE == "undo" else "take"
    await tx.execute("agent", "put", {"it": "b"}, undo)
    if PLACE in ("body", "overlap"):
        say("ready")
        await asyncio.Event().wait()
    if PLACE == "handler":
        await tx.execute("agent", "put", {"it": "c", "holds": True}, "take")
    if PLACE == "undo":
        raise ValueError("the model gave up")
    if PLACE == "many":
        for number in range(MANY):
            await tx.execute("agent", "put", {"it": number}, "take")
        say("ready")
        raise ValueError("the model gave up")
    if PLACE == "own handler":
        say("ready")
        await asyncio.to_thread(released.wait)


def main():
    with made(TransactionManager, put, slow_take) as manager:
        if PLACE == "graph":
            graph(manager)
            return
        tx = manager.transaction()
        try:
            with tx:
                in_block(tx)
        finally:
            tell(tx)


def graph(manager):
    tx = manager.begin()
    for it in "ab":
        manager.add_step(tx, "agent", "put_together", {"it": it}, "take", after=[])
    manager.add_step(tx, "agent", "put", {"it": "c"}, "take")
    threading.Thread(target=when_both_have_begun, daemon=True).start()
    try:
        manager.commit(tx)
    finally:
        result = manager.get_result(tx)
        say(f"{result.state.value} {tx.state.value} {result.reason} {result.clean}")


def when_both_have_begun():
    begun.acquire()
    begun.acquire()
    say("ready")


async def beat():
    # Why: Python runs a handler of signal.signal between two bytecodes; a signal that comes just
    # before the loop begins to wait is only heard when the loop wakes up.
    while True:  # noqa: ASYNC110 (nothing else may wake the loop)
        await asyncio.sleep(0.05)


async def async_main():
    beating = asyncio.create_task(beat()) if PLACE == "own handler" else None
    async with made(AsyncTransactionManager, async_put, async_slow_take) as manager:
        opened, other, ended = asyncio.Event(), asyncio.Event(), None
        if PLACE == "overlap":
            ended = asyncio.create_task(ends_first(manager, opened, other))
            await opened.wait()
        tx = manager.transaction()
        try:
            async with tx:
                if ended is not None:
                    other.set()
                    await ended
                await in_async_block(tx)
        finally:
            tell(tx)
            if beating is not None:
                beating.cancel()


async def ends_first(manager, opened, other):
    async with manager.transaction() as tx:
        await tx.execute("agent", "put", {"it": "kept"}, "take")
        opened.set()
        await other.wait()


def read():
    sys.stdin.readline()
    released.set()


def mine(number, frame):
    say("mine")


if __name__ == "__main__":
    threading.Thread(target=read, daemon=True).start()
    if PLACE == "own handler":
        signal.signal(signal.SIGTERM, mine)
    if KIND == "async":
        asyncio.run(async_main())
    else:
        main()
    if PLACE == "own handler" and signal.getsignal(signal.SIGTERM) is mine:
        say("kept")
