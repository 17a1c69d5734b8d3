"""A program that makes a store with something of everything, and dies by SIGKILL.

damage_program.py PATH checkpointed|logged PAGE_BYTES
"""

import os
import signal
import sqlite3
import sys
from pathlib import Path

from aumai_transactions import TransactionManager
from aumai_transactions.stores.sqlite.creation import create
from aumai_transactions.stores.sqlite.store import SqliteStore


def refuse(name: str, data: dict) -> None:
    raise ValueError(f"no {name} for {data}")


HANDLERS = {
    "book": lambda name, data: {"booked": data["seat"]},
    "cancel": lambda name, data: None,
    "refuse": refuse,
    "stay": refuse,
}


def compact(path: Path, page_bytes: int) -> None:
    """Make a new store's pages small, so that every byte of it can be tried."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute(f"PRAGMA page_size = {page_bytes}")
    connection.execute("VACUUM")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()


def planned(manager: TransactionManager, *actions: str, undo: str | None = "cancel", **options):
    tx = manager.begin(**options)
    for seat, action in enumerate(actions):
        manager.add_step(tx, "agent", action, {"seat": seat}, undo)
    return tx


def checkpoint(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()


def main(path: Path, kind: str, page_bytes: int) -> None:
    create(path, make_parent=False)
    if page_bytes != 4096:
        compact(path, page_bytes)
    store = SqliteStore(path, create=False)
    manager = TransactionManager(HANDLERS, store=store)
    gone = planned(manager, "book")
    manager.commit(gone)
    store.purge(2**62, 10)
    manager.commit(planned(manager, "book", name="trip"))
    manager.commit(planned(manager, "book", "refuse", metadata={"tenant": "acme"}))
    if kind == "logged":
        checkpoint(path)
    manager.commit(planned(manager, "book", "refuse", undo="stay"))
    manager.save(planned(manager, "book"))
    manager.submit(planned(manager, "book", name="later"))
    block = manager.transaction(on_crash="wait", resume_within_seconds=3_600)
    tx = block.__enter__()
    tx.execute("agent", "book", {"seat": 7}, "cancel", resources=["seat:7"])
    waiting = manager.begin(lock_timeout_seconds=3_600)
    manager.add_step(waiting, "agent", "book", {"seat": 8}, "cancel", resources=["seat:7"])
    manager.commit(waiting, wait_max_seconds=0)
    if kind == "checkpointed":
        checkpoint(path)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
