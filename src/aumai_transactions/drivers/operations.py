"""What a procedure asks its driver to do.

Owns: the whole of the input and output that a transaction needs, as values. A procedure is a
generator that yields these; the driver carries each one out and sends the answer back. So the
procedures are written once, and run with threads, with asyncio, or simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from aumai_transactions.actions import Callee
    from aumai_transactions.core.definition import Operation
    from aumai_transactions.core.observations import LateReturn
    from aumai_transactions.core.saga import SagaStep
    from aumai_transactions.drivers.run import Run
    from aumai_transactions.store import Append

T = TypeVar("T")


class DoAppend(NamedTuple):
    """Append, together with what others append at the same time; answer: `AppendAnswer`.

    A cancellation that arrives meanwhile is noted in `run`, and the append is finished.
    """

    append: Append
    run: Run


class DoBlocking(NamedTuple):
    """Call a function that may wait for a disk or a network; answer: what it returns."""

    function: Callable[[], Any]


class DoCall(NamedTuple):
    """Call a handler; answer: the observation, and the exception where it raised one.

    After `timeout_seconds` it is given up: a coroutine is cancelled, a function is left behind
    in its thread, and what it returns later is handed to `on_late`.

    A cancellation that arrives meanwhile is noted in `run`; what it means for the handler is
    the handler's kind to say: a coroutine is cancelled, a function is waited for.
    """

    callee: Callee
    run: Run
    step: SagaStep
    operation: Operation
    timeout_seconds: float | None = None
    on_late: Callable[[LateReturn], None] | None = None


class DoSleep(NamedTuple):
    """Wait for so many seconds.

    Where a transaction is in hand meanwhile, a cancellation that arrives is noted in its `run` and
    ends the wait.
    """

    seconds: float
    run: Run | None = None


Operations = DoAppend | DoBlocking | DoCall | DoSleep
Procedure = Generator[Operations, Any, T]


def blocking(function: Callable[[], T]) -> Procedure[T]:
    """Ask for a call that may wait; return what it returns."""
    answer: T = yield DoBlocking(function)
    return answer
