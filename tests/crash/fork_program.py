"""A parent at work whose children of fork use what they have inherited, and are refused by name.

    python fork_program.py STORE CHILDREN

Threads of the parent carry out transactions while it forks, so that a child inherits their locks in
every state. It prints what a child was told, by call, and how many transactions it has committed.
"""

import collections
import json
import os
import signal
import sys
import threading

from aumai_transactions import TransactionManager, Worker
from aumai_transactions.errors import TransactionError

THREADS = 4
CHILD_SECONDS_MAX = 20


def calls_of(manager, tx, fresh):
    """What a child tries, by name."""
    return {
        "commit": lambda: manager.commit(fresh),
        "begin": lambda: manager.begin(idempotency_key="child"),
        "read": lambda: manager.get_result(tx.transaction_id),
        "recover": manager.recover,
        "submit": lambda: manager.submit(fresh),
        "worker": lambda: Worker(manager).run(until_idle=True),
    }


def be_child(manager, tx, fresh, pipe):
    # Why: a child that waits for a lock of its parent's threads would wait for ever.
    signal.alarm(CHILD_SECONDS_MAX)
    told = {}
    for name, call in calls_of(manager, tx, fresh).items():
        try:
            call()
            told[name] = "done"
        except TransactionError as error:
            told[name] = "told" if "child" in str(error) else f"{error!r}"
        os.write(pipe, json.dumps(told).encode() + b"\n")
    manager.close()
    os._exit(0)


def main(store, children):
    manager = TransactionManager(store=store)
    manager.action("act", idempotent=True)(lambda action, data: None)
    stop = threading.Event()
    committed = []

    def work():
        while not stop.is_set():
            tx = manager.begin()
            manager.add_step(tx, "agent", "act", {})
            manager.add_step(tx, "agent", "act", {})
            committed.append(manager.commit(tx).state.value)

    tx = manager.begin()
    manager.commit(tx)
    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    seen: collections.Counter[str] = collections.Counter()
    for _ in range(int(children)):
        enough = len(committed) + THREADS
        while len(committed) < enough:
            stop.wait(0.001)
        fresh = manager.begin()
        manager.add_step(fresh, "agent", "act", {})
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            be_child(manager, tx, fresh, write)
        os.close(write)
        with os.fdopen(read) as lines:
            last = [json.loads(line) for line in lines][-1:]
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        seen.update(f"{name}: {text}" for told in last for name, text in told.items())
        seen[f"ended with {status}"] += 1
    stop.set()
    for thread in threads:
        thread.join()
    assert set(committed) == {"committed"}
    assert manager.verify().problems == {}
    assert manager.recover() == []
    manager.close()
    print(json.dumps([seen, len(committed)]))


if __name__ == "__main__":
    main(*sys.argv[1:])
