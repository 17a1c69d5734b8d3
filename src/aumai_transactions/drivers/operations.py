"""What a procedure asks its driver to do.

Owns: the whole of the input and output that a transaction needs, as values. A procedure is a
generator that yields these; the driver carries each one out and sends the answer back. So the
procedures are written once, and run with threads, with asyncio, or simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from threading import Lock

    from aumai_transactions.actions import Callee
    from aumai_transactions.calls import Answered, Arguments
    from aumai_transactions.core.commands import Call
    from aumai_transactions.core.definition import Operation
    from aumai_transactions.core.observations import HandlerMissing, LateReturn
    from aumai_transactions.core.saga import SagaStep
    from aumai_transactions.drivers.desk import Desk
    from aumai_transactions.store import Append

T = TypeVar("T")


class Attendant(Protocol):
    """Be whoever waits for a transaction here.

    `interrupt` is a cancellation that arrived meanwhile, raised again once all is recorded;
    `is_callers` tells that the work is theirs, so that a cancellation means that it is not wanted
    any more.
    """

    transaction_id: str
    interrupt: BaseException | None
    is_callers: bool


class Ended(NamedTuple):
    """Tell that a call which was started has ended.

    Args:
        call: The command that it stands for.
        answer: What was seen.
        error: What it raised.
    """

    call: Call
    answer: Answered | HandlerMissing
    error: BaseException | None


class Inbox(Protocol):
    """Take in what is waited for, from whichever thread it comes; None just wakes."""

    def put(self, item: Ended | None) -> None:
        """Put something in."""


class DoAppend(NamedTuple):
    """Append, together with what others append at the same time; answer: `AppendAnswer`.

    A cancellation that arrives meanwhile is noted in `run`, and the append is finished.
    """

    append: Append
    run: Attendant


class DoBlocking(NamedTuple):
    """Call a function that may wait for a disk or a network; answer: what it returns."""

    function: Callable[[], Any]


class DoTurn(NamedTuple):
    """Carry out a procedure under a lock, and do not leave it half-way; answer: its value.

    It calls no handler, so that it is as short as what it writes. A cancellation that arrives
    meanwhile is noted in `run`.
    """

    desk: Desk
    lock: Lock
    steps: Callable[[], Procedure[Any]]
    run: Attendant


class DoCall(NamedTuple):
    """Call a handler; answer: the observation, and the exception where it raised one.

    After `timeout_seconds` it is given up: a coroutine is cancelled, a function is left behind
    in its thread, and what it returns later is handed to `on_late`.

    A cancellation that arrives meanwhile is noted in `run`; what it means for the handler is
    the handler's kind to say: a coroutine is cancelled, a function is waited for.
    """

    callee: Callee
    run: Attendant
    step: SagaStep
    operation: Operation
    arguments: Arguments
    attempt: int = 0
    timeout_seconds: float | None = None
    on_late: Callable[[LateReturn], None] | None = None


class DoInbox(NamedTuple):
    """Make an inbox that this procedure can wait at; answer: the `Inbox`."""


class DoStart(NamedTuple):
    """Start a call, and go on; once it has ended, an `Ended` is put into the inbox.

    Args:
        call: The command.
        operation: The call.
        inbox: Where its end is told.
    """

    call: Call
    operation: DoCall
    inbox: Inbox


class DoNext(NamedTuple):
    """Wait for what comes into an inbox; answer: that, or None where the time is over.

    A cancellation that arrives meanwhile is noted in `run` and ends the wait.

    Args:
        inbox: The inbox.
        seconds: How long at most; None for as long as it takes.
        run: Who waits.
        for_others: True where it is others that are waited for, and not just time.
    """

    inbox: Inbox
    seconds: float | None
    run: Attendant
    for_others: bool = False


class DoSleep(NamedTuple):
    """Wait for so many seconds.

    Where a transaction is in hand meanwhile, a cancellation that arrives is noted in its `run` and
    ends the wait.
    """

    seconds: float
    run: Attendant | None = None


class DoTogether(NamedTuple):
    """Carry out procedures of which each is somebody else's business; answer: their values.

    At most so many are carried out at the same time, and they are begun in order. Once one of them
    has raised, or there is an interrupt, no other is begun; it is raised when all have ended.
    """

    procedures: Sequence[Callable[[], Procedure[Any]]]
    concurrency: int


Operations = (
    DoAppend | DoBlocking | DoTurn | DoCall | DoInbox | DoStart | DoNext | DoSleep | DoTogether
)
Procedure = Generator[Operations, Any, T]


def blocking(function: Callable[[], T]) -> Procedure[T]:
    """Ask for a call that may wait; return what it returns."""
    answer: T = yield DoBlocking(function)
    return answer
