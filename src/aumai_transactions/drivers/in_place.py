"""How a procedure that calls no handler is carried out in the thread where one stands.

Owns: that. It blocks, so a task of asyncio has it done in a thread, unless the store never blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from aumai_transactions.drivers.operations import (
    DoAppend,
    DoBlocking,
    DoSleep,
    DoTurn,
    Operations,
    Procedure,
)
from aumai_transactions.errors import InternalError

if TYPE_CHECKING:
    from aumai_transactions.drivers.desk import Desk

T = TypeVar("T")


def carry_out(desk: Desk, procedure: Procedure[T], *, queues: bool = True) -> T:
    """Carry out a procedure that calls no handler, in this thread, and return what it returns.

    Args:
        desk: The manager's.
        procedure: The procedure.
        queues: False to write by itself, and not together with what others write.
    """
    return carry_on(desk, procedure, None, queues=queues)


def carry_on(
    desk: Desk, procedure: Procedure[T], operation: Operations | None, *, queues: bool = True
) -> T:
    """Carry out the rest of a procedure.

    Args:
        desk: The manager's.
        procedure: The procedure.
        operation: What it waits for; None where it has not begun.
        queues: See `carry_out`.
    """
    try:
        if operation is None:
            operation = next(procedure)
        while True:
            try:
                answer = _perform(desk, operation, queues=queues)
            except Exception as error:  # noqa: BLE001 (the procedure decides what it means)
                operation = procedure.throw(error)
            else:
                operation = procedure.send(answer)
    except StopIteration as done:
        value: T = done.value
        return value
    finally:
        procedure.close()


def take_in_place(operation: DoTurn) -> Any:
    """Take a turn in this thread, and return its value."""
    with operation.lock:
        return carry_out(operation.desk, operation.steps())


def _perform(desk: Desk, operation: Operations, *, queues: bool) -> Any:
    match operation:
        case DoAppend() if not queues:
            return desk.store.append((operation.append,))[0]
        case DoAppend():
            return append_to_the_end(desk, operation)
        case DoBlocking():
            return operation.function()
        case DoSleep():
            return desk.clock.sleep(operation.seconds)
        case _:
            message = f"{type(operation).__name__} was asked for where nobody can do it."
            raise InternalError(message)


def append_to_the_end(desk: Desk, operation: DoAppend) -> Any:
    """Append, and note the first interrupt that arrives meanwhile."""
    while True:
        try:
            return desk.append(operation.append)
        except (KeyboardInterrupt, SystemExit) as interrupt:
            # Why again: the write may or may not have happened, and the very same append
            # tells. The interrupt is raised once the transaction stands where it may rest.
            if operation.run.interrupt is not None:
                raise
            operation.run.interrupt = interrupt
