"""The user's hooks that are told each entry once it is durable.

Owns: how `on_event` is called, and what becomes of what it raises.
Rules:
  1. Several hooks are told one after the other, each its own copy of the event, and each whatever
     the one before has raised. Of one transaction, each is told the entries in their order.
  2. What a hook raises is logged, becomes a warning of the result, and changes nothing else.
  3. A function is called where the transaction is driven, which waits for it. What an async one
     returns is awaited by a sync manager; an async manager goes on meanwhile, and awaits one after
     the other in a task of its loop.
"""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from aumai_transactions.calls import error_record
from aumai_transactions.core.values import shown
from aumai_transactions.drivers.ambient import OnItsOwn
from aumai_transactions.errors import DefinitionError
from aumai_transactions.models import Event

if TYPE_CHECKING:
    import asyncio

    from aumai_transactions.drivers.run import Run

OnEvent = Callable[[Event], object]
"""Given an entry right after it became durable; what it raises becomes a warning."""

Settled = Callable[[BaseException], None]
"""Told what a hook that was awaited has raised."""

HOOK_SECONDS_MAX = 5.0
"""How long the end of an async manager waits for hooks that it still awaits."""

HOOKS_WAITING_MAX = 10_000
"""How many calls of async hooks may wait for their turn."""

log = logging.getLogger("aumai_transactions")


class Hooks:
    """Tell every hook of a manager about events.

    Args:
        hooks: The hooks.
        awaited: Sees to it that what an async one has returned is awaited.
    """

    def __init__(
        self, hooks: tuple[OnEvent, ...], awaited: Callable[[Awaitable[object], Settled], None]
    ) -> None:
        self._hooks = hooks
        self._awaited = awaited

    def tell(self, run: Run, event: Event) -> None:
        """Tell each hook; what one raises becomes a warning of the run."""
        last = len(self._hooks) - 1
        for number, hook in enumerate(self._hooks):
            # Why copies: a hook may change what it is given.
            given = event if number == last else event.model_copy(deep=True)
            try:
                with OnItsOwn():
                    answer = hook(given)
                    if answer is not None and inspect.isawaitable(answer):
                        self._awaited(answer, partial(_warn, run, event.kind, event.step_id))
            except Exception as error:  # noqa: BLE001 (a hook changes no outcome)
                _warn(run, event.kind, event.step_id, error)


def hooks_of(given: object, awaited: Callable[[Awaitable[object], Settled], None]) -> Hooks | None:
    """Return the hooks that a manager was given; None where there are none.

    Raises:
        DefinitionError: It is neither a function nor a list of functions.
    """
    if given is None:
        return None
    found = (given,) if callable(given) else given
    if not isinstance(found, (list, tuple)) or not all(callable(hook) for hook in found):
        message = f"on_event must be a function, or a list of functions, not {shown(given)}."
        raise DefinitionError(message)
    return Hooks(tuple(found), awaited) if found else None


def _warn(run: Run, kind: str, step_id: str | None, error: BaseException) -> None:
    place = {"transaction_id": run.transaction_id, "step_id": step_id}
    log.error("on_event raised for %s", kind, exc_info=error, extra=place)
    run.hook_warnings.append(f"the hook on_event raised {error_record(error)} (at {kind})")


async def outcome_of(awaitable: Awaitable[object]) -> BaseException | None:
    """Await what a hook has returned; return what it raised."""
    import asyncio

    try:
        await awaitable
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 (it is told)
        return error
    return None


def dropped(awaitable: Awaitable[object], settled: Settled, why: str) -> None:
    """Say that what a hook has returned is not awaited."""
    if inspect.iscoroutine(awaitable):
        awaitable.close()
    settled(RuntimeError(why))


class HookTasks:
    """Await what hooks return in a task of the event loop, one after the other."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiting: deque[tuple[Awaitable[object], Settled]] = deque()

    def put(self, awaitable: Awaitable[object], settled: Settled) -> None:
        """Let something be awaited, from any thread; return at once."""
        import asyncio

        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            # A late answer is told in a thread of its own.
            if self._loop is None or self._loop.is_closed():
                dropped(awaitable, settled, "its event loop is gone")
            else:
                self._loop.call_soon_threadsafe(self._add, awaitable, settled)
            return
        self._add(awaitable, settled)

    def _add(self, awaitable: Awaitable[object], settled: Settled) -> None:
        if len(self._waiting) >= HOOKS_WAITING_MAX:
            dropped(awaitable, settled, f"{HOOKS_WAITING_MAX:,} calls of it wait already")
            return
        self._waiting.append((awaitable, settled))
        if self._loop is not None and (self._task is None or self._task.done()):
            self._task = self._loop.create_task(self._work())

    async def _work(self) -> None:
        import asyncio

        while self._waiting:
            awaitable, settled = self._waiting.popleft()
            error = await outcome_of(awaitable)
            if error is not None:
                settled(error)
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                break
        while self._waiting:
            dropped(*self._waiting.popleft(), "its event loop ends")

    async def close(self) -> None:
        """Wait, but only so long, for what is still awaited; then cancel it."""
        import asyncio

        task = self._task
        if task is None or task.done():
            return
        await asyncio.wait({task}, timeout=HOOK_SECONDS_MAX)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=HOOK_SECONDS_MAX)
