"""What is killed: a process that carries out transactions, or recovers them.

Every moment that a kill can hit is a *point* with a name. A victim counts the points that it
passes and says "now" at the one it was told; or it stands still at a named one, until it dies.
"""

import asyncio
import os
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aumai_transactions import AsyncTransactionManager, StepRejected, TransactionManager
from aumai_transactions.stores import open_store
from aumai_transactions.testing.kill_effects import EffectFile
from aumai_transactions.testing.kill_nursery import Reporter, serve

OUTCOME_BYTES = 64
# Three steps each. `safe` is idempotent, `once` is not, `refuse` raises and does nothing.
PLANS: list[tuple[tuple[str, str, str], dict[str, Any]]] = [
    (("safe", "safe", "safe"), {}),
    (("once", "once", "once"), {}),
    (("safe", "safe", "refuse"), {}),
    (("once", "once", "refuse"), {}),
    (("safe", "once", "safe"), {}),
    (("safe", "safe", "safe"), {"on_crash": "roll_back"}),
]


class Points:
    """Count the points that this process passes, and stop at one of them.

    Args:
        reporter: Who to tell.
        now_at: Say "now" at this one, counted from when everything is in flight.
        stop_at: Stand still at the first of this name.
        hold_at: Stand still at each of this name.
        in_flight: How many transactions must be under way before counting begins.
    """

    def __init__(self, reporter, now_at=None, stop_at=None, hold_at=None, in_flight=0, **_):
        self.reporter = reporter
        self.now_at = now_at
        self.stop_at = stop_at
        self.hold_at = hold_at
        self.missing = in_flight
        self.passed = 0
        self.guard = threading.Lock()

    def one_more_in_flight(self):
        """Note that one more transaction has made its first call."""
        with self.guard:
            # Order matters: counting begins when nothing is missing, and whoever waits for "in
            # flight" must not have read past a "now" that another thread said before it.
            if self.missing == 1:
                self.reporter.say("in flight")
            self.missing -= 1

    def passing(self, name, transaction_id):
        if name == self.stop_at:
            self.stop_at = None
            self.reporter.say(f"there {transaction_id}")
            self.reporter.wait()
        if name == self.hold_at:
            self.reporter.say("held")
            self.reporter.wait()
        if self.now_at is not None and self.missing <= 0:
            with self.guard:
                self.passed += 1
                is_now = self.passed == self.now_at
            if is_now:
                self.reporter.say("now")

    def on_event(self, event):
        self.passing(f"durable:{event.kind}:{event.step_id}", event.transaction_id)


class WatchedStore:
    """A store in front of which there is a point, before each entry is made durable."""

    def __init__(self, store, points):
        self._store = store
        self._points = points

    def __getattr__(self, name):
        return getattr(self._store, name)

    def join(self):
        driver_id = self._store.join()
        self._points.reporter.say(f"driver {driver_id}")
        return driver_id

    def append(self, appends):
        for append in appends:
            for entry in append.entries:
                step_id = getattr(entry, "step_id", None)
                point = f"append:{type(entry).__name__}:{step_id}"
                self._points.passing(point, append.transaction_id)
        return self._store.append(appends)


class Work:
    """The handlers: they tell the effect file what they do, and take their time."""

    def __init__(self, orders, points):
        self.effects = EffectFile(Path(orders["folder"], "effects"))
        self.points = points
        self.seconds = orders["pause_seconds"]
        self.first_ones = orders["in_flight"]
        self.random = random.Random(orders["seed"])

    def pause(self):
        # Not a wait for anything: it makes the windows wide enough to be hit at random.
        return self.seconds * self.random.random()

    def before(self, data, context):
        if data["number"] < self.first_ones and context.step_id == "s1" and context.token == 1:
            self.points.one_more_in_flight()
        self.points.passing(f"before:{context.operation}:{context.step_id}", context.transaction_id)

    def happened(self, context):
        self.effects.write("effect", context)
        self.points.passing(f"after:{context.operation}:{context.step_id}", context.transaction_id)

    def act(self, action, data, context):
        self.before(data, context)
        time.sleep(self.pause())
        self.happened(context)
        time.sleep(self.pause())
        self.effects.write("return", context)

    async def act_async(self, action, data, context):
        self.before(data, context)
        await asyncio.sleep(self.pause())
        self.happened(context)
        await asyncio.sleep(self.pause())
        self.effects.write("return", context)

    def refuse(self, action, data, context):
        self.before(data, context)
        time.sleep(self.pause())
        self.effects.write("return", context)
        raise StepRejected("no")

    def register(self, manager, *, is_async):
        act = self.act_async if is_async else self.act
        manager.action("safe", idempotent=True)(act)
        manager.action("once")(self.act)
        manager.action("refuse")(self.refuse)
        manager.action("undo")(act)


class Outcomes:
    """What callers were told, each written after `commit()` had returned."""

    def __init__(self, folder):
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self.descriptor = os.open(Path(folder, "outcomes"), flags, 0o600)

    def write(self, result):
        line = f"{result.transaction_id} {result.state.value}".ljust(OUTCOME_BYTES - 1) + "\n"
        os.write(self.descriptor, line.encode())


def options_of(orders, number):
    options = {name: orders[name] for name in ("crashes_max",) if name in orders}
    return options | PLANS[number % len(PLANS)][1]


def fill(manager, tx, label, number):
    actions, _ = PLANS[number % len(PLANS)]
    for action in actions:
        manager.add_step(tx, label, action, {"number": number}, "undo")


def drive(reporter, orders, points, store):
    manager = TransactionManager(store=store, on_event=points.on_event)
    Work(orders, points).register(manager, is_async=False)
    outcomes, label = Outcomes(orders["folder"]), orders["label"]

    def carry_out(number):
        while True:
            tx = manager.begin(3600, **options_of(orders, number))
            fill(manager, tx, label, number)
            outcomes.write(manager.commit(tx))
            number += orders["in_flight"]
            if reporter.is_released():
                return

    threads = [
        threading.Thread(target=carry_out, args=(number,)) for number in range(orders["in_flight"])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    manager.close()


async def drive_async(reporter, orders, points, store):
    manager = AsyncTransactionManager(store=store, on_event=points.on_event)
    Work(orders, points).register(manager, is_async=True)
    outcomes, label = Outcomes(orders["folder"]), orders["label"]

    async def carry_out(number):
        while True:
            tx = await manager.begin(3600, **options_of(orders, number))
            fill(manager, tx, label, number)
            outcomes.write(await manager.commit(tx))
            number += orders["in_flight"]
            if reporter.is_released():
                return

    await asyncio.gather(*(carry_out(number) for number in range(orders["in_flight"])))
    await manager.close()


def recover(reporter, orders, points, store):
    """Recover from several threads of one manager, so that they share durable writes."""
    with TransactionManager(store=store, on_event=points.on_event) as manager:
        Work(orders, points).register(manager, is_async=False)
        with ThreadPoolExecutor(orders["at_once"]) as threads:
            for ended in [threads.submit(manager.recover) for _ in range(orders["at_once"])]:
                tell(reporter, ended.result())


async def recover_async(reporter, orders, points, store):
    async with AsyncTransactionManager(store=store, on_event=points.on_event) as manager:
        Work(orders, points).register(manager, is_async=True)
        for report in await asyncio.gather(*(manager.recover() for _ in range(orders["at_once"]))):
            tell(reporter, report)


def tell(reporter, report):
    for item in report:
        if item.outcome != "busy":
            reporter.say(f"{item.outcome} {item.transaction_id}")


def run(reporter: Reporter, orders) -> None:
    points = Points(reporter, **orders)
    store = WatchedStore(open_store(orders["store"], create=True), points)
    role = {
        ("drive", False): drive,
        ("drive", True): drive_async,
        ("recover", False): recover,
        ("recover", True): recover_async,
    }[orders["role"], orders["is_async"]]
    done = role(reporter, orders, points, store)
    if done is not None:
        asyncio.run(done)
    store.close()


if __name__ == "__main__":
    serve(int(sys.argv[-1]), run)
