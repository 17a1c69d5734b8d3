"""What is told to go: a worker, or a program that drives transactions, one after the other.

It goes on until a signal ends it, and says by which way it went. What drives says that it is ready
behind its first transaction: by then whatever is made at first use is there. What it does to the
world is in the file `effects`, what its callers were told in `outcomes`.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from aumai_transactions import AsyncTransactionManager, TransactionManager, Worker
from aumai_transactions.testing.kill_effects import EffectFile
from aumai_transactions.testing.kill_nursery import serve

STEPS = 3
DRAIN_SECONDS = 20
TURNS = 300
"""How long a call is busy: so that there is something that a signal can hit."""


class Life:
    """What all the kinds of programs have in common."""

    def __init__(self, reporter, orders):
        self.reporter, self.orders = reporter, orders
        folder = Path(orders["folder"])
        self.effects = EffectFile(folder / "effects")
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._outcomes = os.open(folder / "outcomes", flags, 0o600)

    def act(self, action, data, context):
        for turn in range(2 * TURNS):
            if turn == TURNS:
                self.effects.write("effect", context)

    async def act_async(self, action, data, context):
        for turn in range(10):
            await asyncio.sleep(0)
            if turn == 5:
                self.effects.write("effect", context)

    def registered(self, manager):
        act = self.act_async if isinstance(manager, AsyncTransactionManager) else self.act
        manager.action("act", compensating_action="undo", idempotent=True)(act)
        manager.action("undo", idempotent=True)(act)
        return manager

    def tell(self, result):
        os.write(self._outcomes, f"{result.transaction_id} {result.state.value}\n".encode())

    def ready(self):
        """Say that it has come to work, once; what is made at first use was made by then."""
        self.reporter.say("ready")
        return True


def worker(life):
    with life.registered(TransactionManager(store=life.orders["store"])) as manager:
        one = Worker(manager, concurrency=3, poll_seconds=0.02, drain_seconds=DRAIN_SECONDS)
        signal.signal(signal.SIGTERM, lambda *_: one.stop())
        life.ready()
        left = one.run()
        life.reporter.say(f"left {len(left)}")


def recoverer(life):
    """Do all that is left, and go by itself."""
    with life.registered(TransactionManager(store=life.orders["store"])) as manager:
        Worker(manager, poll_seconds=0.02).run(until_idle=True)


def plan(life):
    is_ready = False
    with life.registered(TransactionManager(store=life.orders["store"])) as manager:
        while True:
            tx = manager.begin()
            for number in range(STEPS):
                manager.add_step(tx, "agent", "act", {"number": number}, "undo")
            life.tell(manager.commit(tx))
            is_ready = is_ready or life.ready()


def block(life):
    is_ready = False
    with life.registered(TransactionManager(store=life.orders["store"])) as manager:
        while True:
            with manager.transaction() as tx:
                for number in range(STEPS):
                    tx.execute("agent", "act", {"number": number}, "undo")
            life.tell(tx.result)
            is_ready = is_ready or life.ready()


async def plan_async(life):
    is_ready = False
    async with life.registered(AsyncTransactionManager(store=life.orders["store"])) as manager:
        while True:
            tx = await manager.begin()
            for number in range(STEPS):
                manager.add_step(tx, "agent", "act", {"number": number}, "undo")
            life.tell(await manager.commit(tx))
            is_ready = is_ready or life.ready()


async def block_async(life):
    is_ready = False
    async with life.registered(AsyncTransactionManager(store=life.orders["store"])) as manager:
        while True:
            async with manager.transaction() as tx:
                for number in range(STEPS):
                    await tx.execute("agent", "act", {"number": number}, "undo")
            life.tell(tx.result)
            is_ready = is_ready or life.ready()


KINDS = {each.__name__: each for each in (worker, recoverer, plan, block, plan_async, block_async)}


def run(reporter, orders):
    def dropped(found):
        # Python drops an interrupt that comes while an object is let go of; a person presses again.
        if isinstance(found.exc_value, KeyboardInterrupt):
            reporter.say("dropped")
        else:
            sys.__unraisablehook__(found)

    sys.unraisablehook = dropped
    try:
        begun = KINDS[orders["kind"]](Life(reporter, orders))
        if begun is not None:
            asyncio.run(begun)
    except KeyboardInterrupt:
        reporter.say("interrupted")
    except SystemExit as ended:
        reporter.say(f"exit {ended.code}")


if __name__ == "__main__":
    serve(int(sys.argv[-1]), run)
