"""Our own transactions, as an entrant.

    python -m race.ours --store sqlite:///x.db --by tasks --at-once 64

Owns: what a user of the public interface would write for each mode, and nothing measures here.
Rules:
  1. A transaction has three steps (or as many as are asked for), each with data and an output; in
     variant B the last one fails, and the others are undone.
  2. Nothing is switched off: hash chain, checks, models, fencing and leases are there as always.
  3. The best of what is public: one manager for all; alone and with threads a `TransactionManager`,
     with tasks an `AsyncTransactionManager` whose handlers are coroutines. Actions are registered
     once, with what undoes them. What commits together, the manager finds out by itself.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from typing import Any

from race.slices import Report, StepFailed, alone, by_tasks, by_threads, serve, serve_async

import aumai_transactions
from aumai_transactions import (
    AsyncTransactionManager,
    TransactionManager,
    TransactionRolledBack,
    TransactionState,
)

COMMITTED, ROLLED_BACK = TransactionState.committed, TransactionState.rolled_back
# In memory every transaction is kept, so that each slice begins anew; so many between two looks at
# the clock.
MEMORY = "memory:"
EACH_IN_MEMORY = 8
numbers = count()


def act(action: str, data: dict[str, Any]) -> dict[str, Any]:
    return data


def fail(action: str, data: dict[str, Any]) -> None:
    raise StepFailed


async def act_async(action: str, data: dict[str, Any]) -> dict[str, Any]:
    return data


async def fail_async(action: str, data: dict[str, Any]) -> None:
    raise StepFailed


def manager_of(store: str) -> TransactionManager:
    """Return a manager with the actions."""
    manager = TransactionManager(store=store)
    manager.action("act", compensating_action="undo")(act)
    manager.action("fail", compensating_action="undo")(fail)
    manager.action("undo")(act)
    return manager


def async_manager_of(store: str) -> AsyncTransactionManager:
    """Return a manager with the same actions as coroutines."""
    manager = AsyncTransactionManager(store=store)
    manager.action("act", compensating_action="undo")(act_async)
    manager.action("fail", compensating_action="undo")(fail_async)
    manager.action("undo")(act_async)
    return manager


def check(state: TransactionState, expected: TransactionState) -> None:
    if state is not expected:
        raise RuntimeError(f"a transaction has become {state}, not {expected}")


class Plan:
    """Hold what one transaction does.

    Args:
        steps: How many.
        fails: True where the last one fails.
        locks: True where the first one uses a resource, which nobody else wants.
    """

    def __init__(self, steps: int, *, fails: bool, locks: bool) -> None:
        self.actions = ["act"] * (steps - 1) + ["fail" if fails else "act"]
        self.expected = ROLLED_BACK if fails else COMMITTED
        self.locks = locks

    def steps(self) -> list[tuple[str, dict[str, Any]]]:
        """Return each action with the options of its step."""
        options: list[dict[str, Any]] = [{} for _ in self.actions]
        if self.locks:
            options[0]["resources"] = [f"order:{next(numbers)}"]
        return list(zip(self.actions, options, strict=True))

    def planned(self, manager: TransactionManager) -> None:
        """Plan all steps, and commit."""
        tx = manager.begin()
        for action, options in self.steps():
            manager.add_step(tx, "agent", action, {"n": 1}, **options)
        check(manager.commit(tx).state, self.expected)

    async def planned_async(self, manager: AsyncTransactionManager) -> None:
        """Plan all steps, and commit."""
        tx = await manager.begin()
        for action, options in self.steps():
            manager.add_step(tx, "agent", action, {"n": 1}, **options)
        check((await manager.commit(tx)).state, self.expected)

    def interactive(self, manager: TransactionManager) -> None:
        """Choose each step when the one before has returned."""
        try:
            with manager.transaction() as tx:
                for action, options in self.steps():
                    tx.execute("agent", action, {"n": 1}, **options)
        except (StepFailed, TransactionRolledBack):
            check(ROLLED_BACK, self.expected)
        else:
            check(COMMITTED, self.expected)

    async def interactive_async(self, manager: AsyncTransactionManager) -> None:
        """Choose each step when the one before has returned."""
        try:
            async with manager.transaction() as tx:
                for action, options in self.steps():
                    await tx.execute("agent", action, {"n": 1}, **options)
        except (StepFailed, TransactionRolledBack):
            check(ROLLED_BACK, self.expected)
        else:
            check(COMMITTED, self.expected)


def run_threads(options: argparse.Namespace, plan: Plan, about: str) -> None:
    """Be the entrant that has threads."""
    work: Callable[[TransactionManager], None] = plan.planned
    if options.shape == "interactive":
        work = plan.interactive
    if options.store == MEMORY:

        def anew(seconds: float) -> Report:
            with manager_of(MEMORY) as manager:
                return alone(partial(work, manager), seconds, EACH_IN_MEMORY)

        serve(anew, about)
        return
    with manager_of(options.store) as manager:
        one = partial(work, manager)
        if options.at_once == 1:
            serve(partial(alone, one), about)
        else:
            serve(partial(by_threads, one, count=options.at_once), about)


async def run_tasks(options: argparse.Namespace, plan: Plan, about: str) -> None:
    """Be the entrant that has tasks."""
    work: Callable[[AsyncTransactionManager], Awaitable[None]] = plan.planned_async
    if options.shape == "interactive":
        work = plan.interactive_async
    if options.store == MEMORY:

        async def anew(seconds: float) -> Report:
            async with async_manager_of(MEMORY) as manager:
                one = partial(work, manager)
                return await by_tasks(one, seconds, options.at_once, EACH_IN_MEMORY)

        await serve_async(anew, about)
        return
    async with async_manager_of(options.store) as manager:
        one = partial(work, manager)
        await serve_async(lambda seconds: by_tasks(one, seconds, options.at_once), about)


def main() -> None:
    """Be one entrant."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", default=MEMORY)
    parser.add_argument("--by", choices=("threads", "tasks"), default="threads")
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--shape", choices=("planned", "interactive"), default="planned")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--fails", action="store_true")
    parser.add_argument("--locks", action="store_true")
    options = parser.parse_args()
    plan = Plan(options.steps, fails=options.fails, locks=options.locks)
    about = f"aumai-transactions {aumai_transactions.__version__}"
    if options.by == "tasks":
        asyncio.run(run_tasks(options, plan, about))
    else:
        run_threads(options, plan, about)


if __name__ == "__main__":
    main()
