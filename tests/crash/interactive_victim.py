"""What is killed: a process in the middle of an interactive transaction, or that goes on with one.

Two agents share the transaction: each books twenty things, some of which fail first and are booked
in another way, some of which are drafts that it takes back again. The world is a file of lines.
"""

# mypy: disable-error-code="possibly-undefined, var-annotated"

import asyncio
import json
import os
import sys
import threading
from pathlib import Path

from aumai_transactions import AsyncTransactionManager, TransactionManager, TransactionNotFound
from aumai_transactions.stores.sqlite import SqliteStore
from aumai_transactions.testing.kill_nursery import serve

AGENTS = ("one", "two")
THINGS = 20


class World:
    """A file of lines: what was done, for which step, under which key; and where to stand still.

    Each effect has a point before and after it. At the point of the number `stop_at`, or of that
    name, the process says "now" and stands still there.
    """

    def __init__(self, orders, reporter):
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._file = os.open(Path(orders["folder"], "world"), flags, 0o600)
        self._stop_at = orders.get("stop_at")
        self._reporter = reporter
        self._passed = 0
        self._guard = threading.Lock()

    def point(self, name):
        with self._guard:
            self._passed += 1
            stops = self._stop_at in (self._passed, name)
        if stops:
            self._reporter.say("now")
            self._reporter.wait()

    def act(self, action, data, context):
        it = data.get("it")
        self.point(f"before {action} {it}")
        line = [action, it, context.step_id, context.idempotency_key]
        os.write(self._file, json.dumps(line).encode() + b"\n")
        self.point(f"after {action} {it}")
        return {"booked": it}

    async def act_async(self, action, data, context):
        await asyncio.sleep(0)
        done = self.act(action, data, context)
        await asyncio.sleep(0)
        return done

    def fail(self, action, data):
        self.point(f"fail {data['it']}")
        raise ValueError("sold out")

    def register(self, manager, *, is_async=False):
        act = self.act_async if is_async else self.act
        safe = {"compensating_action": "cancel", "idempotent": True}
        manager.action("book_safely", **safe)(act)
        manager.action("book_once", compensating_action="cancel")(self.act)
        manager.action("book_elsewhere", **safe)(self.act)
        manager.action("sold_out", compensating_action="cancel")(self.fail)
        manager.action("cancel")(act)
        manager.action("reserve", confirming_action="confirm", **safe)(self.act)
        manager.action("confirm", idempotent=True)(self.act)
        manager.action("mail", idempotent=True)(self.act)
        manager.action("wire", idempotent=True, effect="irreversible")(self.act)
        manager.action("wire_once", effect="irreversible")(self.act)
        manager.action("pay", requires_approval=True, **safe)(self.act)


def action_of(number):
    return "book_safely" if number % 2 else "book_once"


def work(tx, agent):
    """Be one agent, in a thread."""
    for number in range(THINGS):
        it = f"{agent}.{number}"
        if number % 5 == 2:
            try:
                tx.execute(agent, "sold_out", {"it": it})
            except ValueError:
                tx.execute(agent, "book_elsewhere", {"it": it})
        elif number % 7 == 3:
            with tx.savepoint(f"draft {it}") as savepoint:
                tx.execute(agent, "book_safely", {"it": f"draft {it}"})
                savepoint.rollback()
            tx.execute(agent, action_of(number), {"it": it})
        elif number == 10:
            with tx.transaction(f"leg of {agent}") as leg:
                leg.execute(agent, action_of(number), {"it": it})
        else:
            assert tx.execute(agent, action_of(number), {"it": it}) == {"booked": it}


async def work_async(tx, agent):
    """Be one agent, in a task."""
    for number in range(THINGS):
        it = f"{agent}.{number}"
        if number % 5 == 2:
            try:
                await tx.execute(agent, "sold_out", {"it": it})
            except ValueError:
                await tx.execute(agent, "book_elsewhere", {"it": it})
        elif number % 7 == 3:
            async with tx.savepoint(f"draft {it}") as savepoint:
                await tx.execute(agent, "book_safely", {"it": f"draft {it}"})
                await savepoint.rollback()
            await tx.execute(agent, action_of(number), {"it": it})
        elif number == 10:
            async with tx.transaction(f"leg of {agent}") as leg:
                await leg.execute(agent, action_of(number), {"it": it})
        else:
            assert await tx.execute(agent, action_of(number), {"it": it}) == {"booked": it}


def both(block, reporter):
    """Let both agents do their work in a block, in threads."""
    failed = []

    def one(agent):
        try:
            work(tx, agent)
        except BaseException as error:
            failed.append(error)

    with block as tx:
        reporter.say(f"tx {tx.transaction_id}")
        threads = [threading.Thread(target=tx.bind(one), args=(agent,)) for agent in AGENTS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]
    reporter.say(f"ended {block.result.state.value}")


async def both_async(block, reporter):
    async with block as tx:
        reporter.say(f"tx {tx.transaction_id}")
        async with asyncio.TaskGroup() as group:
            for agent in AGENTS:
                group.create_task(work_async(tx, agent))
    reporter.say(f"ended {block.result.state.value}")


def agents(reporter, orders, manager):
    """Begin the transaction of both agents, or go on with it."""
    if "resume" in orders:
        both(manager.resume(orders["resume"]), reporter)
    else:
        both(manager.transaction(**orders["options"]), reporter)


async def agents_async(reporter, orders, manager):
    async with manager:
        if "resume" in orders:
            await both_async(await manager.resume(orders["resume"]), reporter)
        else:
            await both_async(manager.transaction(**orders["options"]), reporter)


def commits(reporter, orders, manager):
    """Carry a transaction over its commit point: two reservations, two mails, maybe a pivot."""
    with manager.transaction(**orders["options"]) as tx:
        reporter.say(f"tx {tx.transaction_id}")
        tx.execute("agent", "mail", {"it": "m1"}, on_commit=True)
        tx.execute("agent", "reserve", {"it": "r1"})
        tx.execute("agent", "reserve", {"it": "r2"})
        tx.execute("agent", "mail", {"it": "m2"}, on_commit=True)
        if orders["pivot"]:
            tx.execute("agent", orders["pivot"], {"it": "w"}, pivot=True)
    reporter.say(f"ended {tx.result.state.value}")


def undoes(reporter, orders, manager):
    """Do five things, and take them back."""
    try:
        with manager.transaction() as tx:
            reporter.say(f"tx {tx.transaction_id}")
            for it in "abcde":
                tx.execute("agent", "book_once", {"it": it})
            raise ValueError("the model gave up")
    except ValueError:
        reporter.say(f"ended {tx.result.state.value}")


def graph(reporter, orders, manager):
    """Carry out a planned diamond in parallel."""
    tx = manager.begin(3_600, **orders["options"])
    reporter.say(f"tx {tx.transaction_id}")

    def add(it, *after):
        return manager.add_step(
            tx, "agent", orders["action"], {"it": it}, "cancel", after=list(after)
        )

    top = add("top")
    middle = [add(f"middle {number}", top) for number in range(4)]
    add("bottom", *middle)
    reporter.say(f"ended {manager.commit(tx).state.value}")


def pays(reporter, orders, manager):
    """Wait for an approval, planned or in a block."""
    if orders["planned"]:
        tx = manager.begin(3_600)
        manager.add_step(tx, "agent", "book_once", {"it": "a"})
        manager.add_step(tx, "agent", "pay", {"it": "b"})
        reporter.say(f"tx {tx.transaction_id}")
        manager.commit(tx)
        reporter.say("now")
        reporter.wait()
    tx = (
        manager.resume(orders["resume"])
        if "resume" in orders
        else manager.transaction(on_crash="wait", resume_within_seconds=3_600)
    )
    with tx:
        reporter.say(f"tx {tx.transaction_id}")
        tx.execute("agent", "book_once", {"it": "a"})
        tx.execute("agent", "pay", {"it": "b"})
    reporter.say(f"ended {tx.result.state.value}")


def recover(reporter, orders, manager):
    for item in manager.recover():
        reporter.say(f"{item.outcome} {item.result.state.value if item.result else None}")


ROLES = {
    "agents": agents,
    "commits": commits,
    "undoes": undoes,
    "graph": graph,
    "pays": pays,
    "recover": recover,
}


def run(reporter, orders):
    world = World(orders, reporter)

    def on_event(event):
        world.point(f"durable {event.kind} {event.step_id}")

    with SqliteStore(Path(orders["folder"], "store.db")) as store:
        try:
            if orders.get("is_async"):
                async_manager = AsyncTransactionManager(store=store, on_event=on_event)
                world.register(async_manager, is_async=True)
                asyncio.run(agents_async(reporter, orders, async_manager))
                return
            with TransactionManager(store=store, on_event=on_event) as manager:
                world.register(manager)
                ROLES[orders["role"]](reporter, orders, manager)
        except TransactionNotFound:
            reporter.say("ended unknown")


if __name__ == "__main__":
    serve(int(sys.argv[-1]), run)
