"""Run a program against a recorded transaction, and see whether it asks for the same again.

Owns: the cut of a journal at which a program could have died with nothing under way, the store that
holds it, and the onlooker who stops the program at the first thing that was not recorded.
Rules:
  1. No handler is called, and nothing is undone: the onlooker ends the played process first.
  2. A step that had failed is new when it is asked for again (SEMANTICS E4); it fails again, as it
     was recorded, so that the program can go the way that it went.
"""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aumai_transactions.core.definition import StepDefinition
from aumai_transactions.core.entries import WITHOUT_TOKEN, Claimed, StepAdded
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.isolation import holdings_of
from aumai_transactions.core.journal import entries
from aumai_transactions.core.outcome import summary_of
from aumai_transactions.core.saga import Saga
from aumai_transactions.core.values import canonical_json
from aumai_transactions.errors import InternalError, StepRejected
from aumai_transactions.models import StepState, TransactionState
from aumai_transactions.store import Append
from aumai_transactions.stores.memory import MemoryStore
from aumai_transactions.testing.atomic.faults import WRITE, FaultKind, Moment
from aumai_transactions.testing.atomic.lives import Life
from aumai_transactions.testing.atomic.planted import Saboteur
from aumai_transactions.testing.atomic.record import Record
from aumai_transactions.testing.clock import ManualClock
from aumai_transactions.testing.replay.report import Difference

if TYPE_CHECKING:
    from aumai_transactions.actions import ActionRegistry
    from aumai_transactions.core.entries import Entry
    from aumai_transactions.core.journal import Journal

_GOING_ON = (TransactionState.pending, TransactionState.active)
_UNDER_WAY = (StepState.running, StepState.in_doubt, StepState.compensating)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Onlooker(Saboteur):
    """Let a program be answered what was recorded, and end it where it asks for anything else.

    Args:
        failed: The steps that had failed, which fail again.
    """

    def __init__(self, failed: list[tuple[StepDefinition, BaseException]]) -> None:
        super().__init__((), Record())
        self._failed = failed
        self.added: dict[str, StepDefinition] = {}
        self.asked: StepDefinition | None = None

    def written(self, append: Append) -> None:
        """Take note of the steps that a program adds."""
        for entry in append.entries:
            if isinstance(entry, StepAdded):
                self.added[entry.step.step_id] = entry.step

    def reach(
        self,
        what: str,
        operation: str = "",
        name: str = "",  # noqa: ARG002 (the form is given)
        *,
        behind_commit: bool = False,  # noqa: ARG002
    ) -> tuple[Moment, FaultKind | None]:
        """Let writes be; let a step fail that had failed, and end the program at any other call."""
        self.refuse_the_dead()
        if what == WRITE:
            return Moment(WRITE, "", 1), None
        step = self.added.get(what)
        if operation == "action" and step is not None:
            for place, (other, error) in enumerate(self._failed):
                if _is_same(other, step):
                    del self._failed[place]
                    raise error
            self.asked = step
        return self.die()


def program_differences(
    journal: Journal, saga: Saga, registry: ActionRegistry, program: Callable[[Any], Any]
) -> Iterator[Difference]:
    """Yield where a program does not ask for what was recorded.

    Args:
        journal: The journal.
        saga: What it says.
        registry: Today's handlers, none of which is called.
        program: Given a block, carries out the steps.
    """
    written = [entry for _, entry in entries(journal)]
    kept, before = _cut(journal.transaction_id, written)
    if before is None:
        return
    store = _filled(journal.transaction_id, kept)
    onlooker = Onlooker(
        [
            (step.definition, _error_of(saga, step.step_id))
            for step in saga.steps
            if step.state is StepState.failed
        ]
    )
    told: dict[str, Any] = {}
    clock = ManualClock(_EPOCH + timedelta(microseconds=kept[-1].at))
    life = Life(_maker(registry, program), store, onlooker, Record(), clock)
    life.lead(_worker(journal.transaction_id, program, onlooker, told))
    if life.raised is not None:
        text = f"it could not be resumed: {type(life.raised).__name__}: {life.raised}"
        yield Difference("", "stops", text)
        return
    if "missing" not in told:
        raise InternalError(f"the program of {journal.transaction_id} was not run to any end.")
    yield from _compared(saga, before, onlooker, told)


def _compared(
    saga: Saga, before: Saga, onlooker: Onlooker, told: dict[str, Any]
) -> Iterator[Difference]:
    missing: list[str] = told.get("missing", [])
    new = onlooker.asked
    expected = [saga.by_id[name].definition for name in missing]
    if new is not None and expected:
        first = expected[0]
        text = f"the program asks for {_told(new)} where {_told(first)} was recorded."
        yield Difference(first.step_id, "stops", text)
        return
    if new is not None and saga.state is TransactionState.committed and not _has_more(saga, before):
        yield Difference("", "stops", f"the program asks for {_told(new)}, which was not recorded.")
    error = told.get("error")
    if error is not None:
        yield Difference("", "stops", f"the program raises {type(error).__name__}: {error}")
        return
    for definition in expected:
        text = f"the program does not ask for {_told(definition)} any more."
        yield Difference(definition.step_id, "stops", text)


def _has_more(saga: Saga, before: Saga) -> bool:
    """Tell whether steps were recorded that the cut does not hold."""
    return len(saga.steps) > len(before.steps)


def _worker(
    transaction_id: str, program: Callable[[Any], Any], onlooker: Onlooker, told: dict[str, Any]
) -> Callable[[Any], Any]:
    """Return what resumes a transaction, runs the program in it, and leaves it as it is."""

    def ended(block: Any, error: Exception | None = None) -> None:
        told["missing"] = block.not_asked_again
        if error is not None:
            told["error"] = error
        onlooker.die()

    def work(manager: Any) -> None:
        with manager.resume(transaction_id) as block:
            try:
                program(block)
            except Exception as error:  # noqa: BLE001 (it is told as a difference)
                ended(block, error)
            finally:
                told.setdefault("missing", block.not_asked_again)
            ended(block)

    async def work_async(manager: Any) -> None:
        resumed = manager.resume(transaction_id)
        async with await resumed if inspect.isawaitable(resumed) else resumed as block:
            try:
                await program(block)
            except Exception as error:  # noqa: BLE001 (it is told as a difference)
                ended(block, error)
            finally:
                told.setdefault("missing", block.not_asked_again)
            ended(block)

    return work_async if inspect.iscoroutinefunction(program) else work


def _maker(registry: ActionRegistry, program: Callable[[Any], Any]) -> Callable[..., Any]:
    from aumai_transactions import AsyncTransactionManager, TransactionManager

    def make(**given: Any) -> Any:
        kind = (
            AsyncTransactionManager if inspect.iscoroutinefunction(program) else TransactionManager
        )
        manager: Any = kind(strict=True, **given)
        manager._registry = registry  # noqa: SLF001 (one package)
        return manager

    return make


def _cut(transaction_id: str, written: list[Entry]) -> tuple[list[Entry], Saga | None]:
    """Return the longest beginning of a journal with nothing under way, and what it says."""
    saga, length = Saga(transaction_id), 0
    for number, entry in enumerate(written, 1):
        evolve(saga, entry)
        if saga.state not in _GOING_ON or saga.commit_requested or saga.rollback_requested:
            break
        if all(step.state not in _UNDER_WAY for step in saga.steps):
            length = number
    kept = written[:length]
    if not kept:
        return [], None
    before = Saga(transaction_id)
    for entry in kept:
        evolve(before, entry)
    return kept, before


def _filled(transaction_id: str, kept: list[Entry]) -> MemoryStore:
    """Return a store that holds the beginning of a journal, whose driver has died."""
    store, saga = MemoryStore(), Saga(transaction_id)
    driver_id, token = store.join(), 0
    for number, entry in enumerate(kept):
        evolve(saga, entry)
        claims = isinstance(entry, Claimed)
        token = entry.token if isinstance(entry, Claimed) else token
        is_act = claims or not isinstance(entry, WITHOUT_TOKEN)
        append = Append(
            transaction_id,
            number,
            f"recorded.{number}",
            [entry],
            summary_of(saga),
            token if is_act else None,
            driver_id if claims else None,
            holdings=None if saga.locks is None else holdings_of(saga),
        )
        store.append([append])
    store.leave(driver_id)
    return store


def _error_of(saga: Saga, step_id: str) -> BaseException:
    """Return the exception with which a step had failed, as far as it is known."""
    record = saga.by_id[step_id].error
    if record is None:
        return StepRejected("it failed")
    kind = getattr(builtins, record.type, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        return kind(record.message)
    return StepRejected(record.message)


def _is_same(one: StepDefinition, other: StepDefinition) -> bool:
    return (one.intent, one.agent_id, one.action) == (other.intent, other.agent_id, other.action)


def _told(step: StepDefinition) -> str:
    data = canonical_json(step.data).decode()
    return f"{step.action!r} by {step.agent_id} with {data:.200}"
