"""What lies between a handler and the participant: a network that fails as a cell says.

Owns: the faults themselves, and the handlers that make calls over such a network.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from tests.faults.cells import Cell
from tests.faults.participant import Hotel, Request

from aumai_transactions import OutcomeUnknown, RetryPolicy, StepContext, StepRejected

# A coroutine that has an answer gives it before its event loop looks at any time, and where every
# call of an operation hangs, no busy machine can make one late. A function that answers after an
# earlier call of it has hung must not be late: it makes one write to SQLite in that time.
TIMEOUT_SECONDS = 0.05
TIMEOUT_SECONDS_OF_BUSY = 0.3
SECONDS_MAX = 30
ASKED_TWICE = RetryPolicy(attempts_max=2)


class NoAnswer(Exception):
    """The caller hears nothing; it goes on waiting."""

    def __init__(self, number: int):
        super().__init__()
        self.number = number


class Network:
    """Carry calls to a hotel, and lose some of them.

    Args:
        cell: What goes wrong.
        hotel: Where calls go.
        passing: Called where a call has left, if it matters that a process may die there.
    """

    def __init__(self, cell: Cell, hotel: Hotel, passing: Callable[[str], None] = lambda _: None):
        self.cell = cell
        self.hotel = hotel
        self.passing = passing
        self.answers: dict[int, Any] = {}

    def deliver(self) -> None:
        """Let what is on its way arrive now."""
        for number, request in self.hotel.delayed():
            self.answers[number] = self._answer(request)

    def deliver_again(self) -> None:
        """Let the first call of the action arrive once more."""
        for request in self.hotel.first_actions():
            self._answer(request)

    def _answer(self, request: Request) -> Any:
        try:
            return self.hotel.arrives(request)
        except StepRejected as refusal:
            return refusal

    def send(self, request: Request) -> Any:
        """Make a call.

        Raises:
            NoAnswer: The answer does not come.
            OutcomeUnknown: The connection broke.
        """
        fault = self.cell.fault
        if fault.arrives == "before_next":
            self.deliver()
        if request.operation == "probe":
            return self.hotel.arrives(request)
        number, earlier = self.hotel.sends(request)
        happening = self._happening(request.operation, earlier)
        if fault.again_later:
            self.passing(f"reached {request.operation}")
        if happening == "error":
            raise RuntimeError("the service is out of order")
        if happening == "refusal":
            raise StepRejected("the room does not exist")
        if happening == "request_lost":
            raise OutcomeUnknown("the connection broke")
        if happening == "silent":
            raise NoAnswer(number)
        if happening == "delayed":
            self.hotel.delays(number)
            raise NoAnswer(number)
        answer = self._answer(request)
        if happening == "twice":
            answer = self._answer(request)
        self.answers[number] = answer
        if happening == "answer_lost":
            raise ConnectionResetError("the connection broke")
        if happening == "acts_silent":
            raise NoAnswer(number)
        return told(answer)

    def _happening(self, operation: str, earlier: int) -> str | None:
        fault = self.cell.fault
        if operation == "undo" and fault.undo_fails:
            return "error"
        if fault.operation != operation:
            return None
        if fault.then and earlier == 1:
            return fault.then
        return fault.happening if fault.always or earlier == 0 else None


def told(answer: Any) -> Any:
    """Return an answer, or raise it."""
    if isinstance(answer, StepRejected):
        raise answer
    return answer


class Agent:
    """The handlers of one manager; each transaction has a network of its own.

    Those of a sync manager are functions: one that hears nothing waits in its thread until `gate`
    opens. Those of an async manager are coroutines, which are cancelled.
    """

    def __init__(self, cell: Cell, network_of: Callable[[str], Network], *, is_async: bool):
        self.cell = cell
        self.network_of = network_of
        self.is_async = is_async
        self.gate = threading.Event()
        self.late = threading.Semaphore(0)
        self.left_behind = 0

    def register(self, manager: Any) -> None:
        kind, is_async = self.cell.kind, self.is_async
        book = manager.action(
            "book",
            compensating_action="cancel",
            idempotent=kind.idempotent,
            timeout_seconds=self._seconds("action"),
            probe_retry=ASKED_TWICE,
        )(self.book_async if is_async else self.book)
        if kind.has_probe:
            book.probe(self.probe_async if is_async else self.probe)
        manager.action(
            "cancel", idempotent=kind.undo_idempotent, timeout_seconds=self._seconds("undo")
        )(self.cancel_async if is_async else self.cancel)
        manager.action("refuse", idempotent=True, effect="none")(self.refuse)

    def _seconds(self, operation: str) -> float | None:
        kind, fault = self.cell
        if not fault.times_out or operation != fault.operation:
            return None
        forward = kind.has_probe or (kind.idempotent and not fault.always)
        answers_later = forward if operation == "action" else kind.undo_idempotent
        return TIMEOUT_SECONDS_OF_BUSY if answers_later and not self.is_async else TIMEOUT_SECONDS

    def book(self, action: str, data: Any, context: StepContext) -> Any:
        return self._called("action", context)

    def cancel(self, action: str, data: Any, context: StepContext) -> Any:
        self._called("undo", context)

    def probe(self, data: Any, context: StepContext) -> Any:
        return self._network(context).send(Request.of("probe", context))

    async def book_async(self, action: str, data: Any, context: StepContext) -> Any:
        return await self._called_async("action", context)

    async def cancel_async(self, action: str, data: Any, context: StepContext) -> Any:
        await self._called_async("undo", context)

    async def probe_async(self, data: Any, context: StepContext) -> Any:
        return self._network(context).send(Request.of("probe", context))

    def refuse(self, action: str, data: Any) -> None:
        raise StepRejected("the plan ends here")

    def _network(self, context: StepContext) -> Network:
        return self.network_of(context.transaction_id)

    def _called(self, operation: str, context: StepContext) -> Any:
        try:
            return self._network(context).send(Request.of(operation, context))
        except NoAnswer as nothing:
            self.left_behind += 1
            self.gate.wait()
            answers = self._network(context).answers
            if nothing.number not in answers:
                raise OutcomeUnknown("the connection broke at last") from None
            return told(answers[nothing.number])

    async def _called_async(self, operation: str, context: StepContext) -> Any:
        try:
            return self._network(context).send(Request.of(operation, context))
        except NoAnswer:
            await asyncio.Event().wait()

    def on_event(self, event: Any) -> None:
        if event.kind == "call_returned_late":
            self.late.release()

    def let_go_on(self) -> None:
        """Let the calls that were left behind go on, and wait until each has said what it did."""
        self.gate.set()
        while self.left_behind:
            assert self.late.acquire(timeout=SECONDS_MAX), (
                "a call that was left behind said nothing"
            )
            self.left_behind -= 1
