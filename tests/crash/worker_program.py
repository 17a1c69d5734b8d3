"""A worker that is there to be killed, stopped or told to go; started by a nursery.

What it does to the world is a line in the file `effects`: what was called, and under which key. A
call whose data says so stands still in its midst, and says `there`, until it is let go or killed.
"""
# mypy: disable-error-code="no-untyped-call, attr-defined, assignment, func-returns-value"

import os
import resource
import signal
import sys
import threading
from pathlib import Path

from aumai_transactions import TransactionError, TransactionManager, Worker
from aumai_transactions.stores.sqlite import liveness
from aumai_transactions.testing.kill_nursery import serve

MEBIBYTE = 1 << 20
STACK_BYTES = 1 << 30
HOARD: list[bytearray] = []


def segfault():
    import ctypes

    ctypes.string_at(0)


def take_memory():
    """Take all that there is, and let go of it with the error."""
    taken = []
    while True:
        taken.append(bytearray(MEBIBYTE))


def hoard():
    """Take all that there is, to the last kilobyte, and never let go of it."""
    size = MEBIBYTE
    while size:
        try:
            HOARD.append(bytearray(size))
        except MemoryError:
            size //= 4
    raise MemoryError


def recurse():
    recurse()


def give_up(error):
    raise error


DEATHS = {
    "exit": lambda: os._exit(9),
    "abort": os.abort,
    "segfault": segfault,
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
}
"""What no process survives; the last is what a kernel does that has no memory left."""
ERRORS = {
    "memory": take_memory,
    "recursion": recurse,
    "SystemExit": lambda: sys.exit(3),
    "GeneratorExit": lambda: give_up(GeneratorExit()),
    "KeyboardInterrupt": lambda: give_up(KeyboardInterrupt()),
}
"""What a process survives."""
OTHERS = {"hoard": hoard, "never": lambda: threading.Event().wait()}
WAYS = DEATHS | ERRORS | OTHERS


def limit(orders):
    """Take from this process what it is not to have; nothing of it is taken from others."""
    # Why none: an abort would leave a core of the whole process in the folder.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if "memory_mebibytes" in orders:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + orders["memory_mebibytes"] * MEBIBYTE
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    if "files_max" in orders:
        used = len(list(Path("/proc/self/fd").iterdir()))
        most = used + orders["files_max"]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if "threads_max" in orders:
        # Why not RLIMIT_NPROC: it does not bind root. Here room for no more stacks is left.
        threading.stack_size(STACK_BYTES)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        more = STACK_BYTES * orders["threads_max"] + STACK_BYTES // 2
        most = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def run(reporter, orders):
    limit(orders)
    try:
        work(reporter, orders)
    except TransactionError as error:
        # What this program does not know how to go on from is told, as a program of a user would.
        reporter.say(f"{type(error).__name__}: {error}".replace("\n", " "))


def work(reporter, orders):
    if orders.get("leases"):
        # Nobody's lock proves anything then: who is dead is decided by leases.
        liveness.fcntl = None
    folder = Path(orders["folder"])
    manager = TransactionManager(store=orders["store"])

    def effect(text):
        line = os.open(folder / "effects", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(line, f"{text}\n".encode())
        os.close(line)

    def act(action, data, context):
        tokens = ",".join(f"{token}" for token in context.resources.values())
        effect(f"{action} {context.idempotency_key} {orders.get('label', '')} {tokens}")
        if data.get("stops") and orders.get("stops", True):
            reporter.say(f"there {context.transaction_id}")
            reporter.wait()
        if context.operation == "action" and data.get("dies") and orders.get("dies", True):
            WAYS[data["dies"]]()
        return orders.get("label")

    manager.action("act", compensating_action="undo", idempotent=True)(act)
    manager.action("undo")(act)
    worker = Worker(
        manager,
        concurrency=orders.get("concurrency", 4),
        agents=orders.get("agents"),
        poll_seconds=0.02,
        drain_seconds=orders.get("drain", 60),
    )
    signal.signal(signal.SIGTERM, lambda *_: (reporter.say("stopping"), worker.stop()))
    reporter.say("ready")
    left = worker.run(until_idle=orders.get("until_idle", False))
    reporter.say(f"left {' '.join(left)}".strip())
    if not left:
        manager.close()


if __name__ == "__main__":
    serve(int(sys.argv[-1]), run)
