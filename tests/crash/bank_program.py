"""A process of the bank: it works for all, and begins transfers and audits of its own.

    python bank_program.py STORE BANK FOLDER NAME SEED

Where the file `jumps` is in the folder, the clock of p1 jumps by hours, to 1970 and to 2100.

It begins transactions while the file `begin` is in the folder, and works until `end` is, or until
whoever started it is gone.
"""

import os
import random
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from bank import BARELY, Bank, handlers_of  # type: ignore[import-not-found]  # beside it

from aumai_transactions import (
    Deadlock,
    LockTimeout,
    OutcomeUnknown,
    StepRejected,
    TransactionManager,
    TransactionRolledBack,
)
from aumai_transactions.drivers.worker import Worker
from aumai_transactions.errors import StoreUnavailable, TransactionError
from aumai_transactions.testing.clock import SkewedClock

JUMPS = [
    lambda clock: clock.jump(0),
    lambda clock: clock.jump(3600),
    lambda clock: clock.jump(-3600),
    lambda clock: clock.set_to(datetime(1970, 1, 1, tzinfo=UTC)),
    lambda clock: clock.set_to(datetime(2100, 1, 1, tzinfo=UTC)),
]
ACCOUNTS = [f"a{number}" for number in range(6)]
# It is the test that kills, and no transaction is to blame for it.
CRASHES_MAX = 1_000
PLANNED = {"timeout_seconds": 600, "lock_timeout_seconds": 120, "crashes_max": CRASHES_MAX}


def main(store, place, folder, name, seed):
    folder, dice = Path(folder), random.Random(seed)
    bank, clock = Bank(place), SkewedClock()
    jumps = name == "p1" and (folder / "jumps").exists()
    with TransactionManager(store=store, clock=clock) as manager:
        handlers_of(manager, bank)
        with Worker(manager, concurrency=3, poll_seconds=0.2, drain_seconds=60):
            print("ready", flush=True)
            number, parent = 0, os.getppid()
            while not (folder / "end").exists() and os.getppid() == parent:
                if not (folder / "begin").exists():
                    # Nothing is begun any more; the worker goes on, and the test says when to end.
                    clock.jump(0)
                    time.sleep(0.02)
                    continue
                if jumps:
                    dice.choice(JUMPS)(clock)
                number += 1
                try:
                    begin(manager, dice, f"{name}-{number}")
                except BARELY as error:
                    print("retry", type(error).__name__, error, file=sys.stderr, flush=True)
                    # The server is away: not to fill the log with what cannot be done yet.
                    time.sleep(0.05)


def begin(manager, dice, key):
    shape = dice.random()
    one, other = dice.sample(ACCOUNTS, 2)
    amount, fails = dice.randint(1, 20), dice.random() < 0.15
    if shape < 0.5:
        tx = manager.begin(name=key, **PLANNED)
        manager.add_step(tx, "out", "move", {"account": one, "by": -amount})
        manager.add_step(tx, "in", "move", {"account": other, "by": amount, "fails": fails})
        manager.submit(tx)
    elif shape < 0.65:
        tx = manager.begin(name=key, **PLANNED)
        for account in dice.sample(ACCOUNTS, 3):
            manager.add_step(tx, "auditor", "look", {"account": account})
        manager.submit(tx)
    else:
        interactive(manager, one, other, amount, fails=fails)


def interactive(manager, one, other, amount, *, fails):
    def transfer(tx):
        tx.execute("out", "move", {"account": one, "by": -amount})
        tx.execute("auditor", "look", {"account": one})
        tx.execute("in", "move", {"account": other, "by": amount})
        if fails:
            raise ValueError("changed my mind")

    try:
        manager.run(transfer, retries=2, lock_timeout_seconds=5, crashes_max=CRASHES_MAX)
    except (Deadlock, LockTimeout, TransactionRolledBack, ValueError, StepRejected, OutcomeUnknown):
        return
    except StoreUnavailable:
        raise
    except TransactionError as error:
        # Fenced, or told by a participant that it came too late: somebody else finishes it.
        print("lost", type(error).__name__, error, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
