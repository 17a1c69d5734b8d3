"""The driver with threads: `TransactionManager` and `SagaOrchestrator`.

Owns: how this thread waits for a store, for a handler and for time. The rules are the core's.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, assert_never, overload

from aumai_transactions.actions import call, raised, returned
from aumai_transactions.core.observations import (
    HandlerRaised,
    HandlerReturned,
    ResolutionAnswered,
    RetryAsked,
)
from aumai_transactions.drivers import procedures, recovery
from aumai_transactions.drivers.append_queue import AppendQueue
from aumai_transactions.drivers.desk import (
    Desk,
    read_events,
    read_result,
    read_transaction,
)
from aumai_transactions.drivers.manager import (
    BeginOptions,
    ManagerBase,
    Template,
    checked_options,
)
from aumai_transactions.drivers.operations import (
    DoAppend,
    DoBlocking,
    DoCall,
    DoSleep,
    Operations,
    Procedure,
)
from aumai_transactions.drivers.run import CALLING
from aumai_transactions.errors import InvalidTransactionState, JournalCorrupt, JournalTooNew
from aumai_transactions.models import (
    DEFAULT_TIMEOUT_SECONDS,
    Event,
    Recovered,
    Transaction,
    TransactionResult,
    TransactionStep,
    Verification,
)
from aumai_transactions.store import Query

if TYPE_CHECKING:
    from types import TracebackType

    from aumai_transactions.actions import Handler
    from aumai_transactions.core.entries import Answer
    from aumai_transactions.store import Append, AppendAnswer, Listed, StoreInfo

T = TypeVar("T")

PAGE = 200


class TransactionManager(ManagerBase):
    """Begin, carry out, undo and look up transactions.

    Without a store everything is kept in memory and ends with the process; with one, every
    intent is durable before it is acted upon, and `recover()` finishes what a dead process
    left. Every method may be called from any thread.

    Args:
        action_handlers: What carries out which action: `(action, data)`, or
            `(action, data, context)`. An action without a handler is simulated.
        store: Where journals are kept: a URL such as `sqlite:///trips.db`, a path, or a store.
        actions: Actions with options; `@manager.action` is the usual way.
        strict: True to refuse an action without a handler before anything runs.
        before_record: Called with each step before it is journaled; returns the data to record
            and to act on.
        on_event: Called with each journal entry, right after it became durable.
        action_source: Called with the action definitions of a journal; returns the actions.
        clock: What time it is; for tests.
    """

    def begin(
        self,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        **options: Unpack[BeginOptions],
    ) -> Transaction:
        """Begin a transaction; nothing is durable before `commit()`, `rollback()` or `save()`.

        Args:
            timeout_seconds: How long from now a `commit()` may still begin.
            **options: `timeout_scope`, `on_crash`, `on_compensation_failure`, `name`; see
                `Transaction`.

        Raises:
            DefinitionError: The timeout is not a positive finite number, or an option is wrong.
            StoreError: The store cannot be opened.
        """
        checked = checked_options(options)
        return self._begun(self._open(create=True), timeout_seconds, checked)

    def commit(self, tx: Transaction) -> TransactionResult:
        """Carry out the steps in order; undo what was done if one of them fails.

        Returns:
            The outcome. A failed step is not an exception: look at `state`, or call
            `raise_for_state()`.

        Raises:
            InvalidTransactionState: It is not pending.
            DefinitionError: The plan cannot be carried out; nothing has run.
            InvalidData: Something in it is not JSON; nothing has run.
            StoreError: The journal could not be written; see the message.
        """
        return self._run_or_go_back(procedures.commit(self._desk(), tx), tx)

    def rollback(self, tx: Transaction) -> TransactionResult:
        """Undo a pending or active transaction in reverse order.

        Of a pending one every compensating action is run; of an active one only what undoes
        steps that may have had an effect.

        Raises:
            InvalidTransactionState: It is finished, or the call comes from its own handler.
        """
        return self._run_or_go_back(procedures.rollback(self._desk(), tx), tx)

    def save(self, tx: Transaction) -> None:
        """Make a pending transaction durable as it stands, without starting it."""
        self._run(procedures.save(self._desk(), tx))

    def recover(self) -> list[Recovered]:
        """Finish what dead processes left behind, and say what was done.

        Safe to run from many processes at once, and to be killed itself. A transaction of a
        living driver is never touched.
        """
        return self._run(recovery.recover(self._desk()))

    def retry(
        self, tx: Transaction | str, step_id: str, *, note: str = "", by: str = ""
    ) -> TransactionResult:
        """Try a step in doubt, or an outstanding compensation, once more, with the same key."""
        wish = RetryAsked(step_id, by, note)
        return self._run(procedures.ask(self._desk(), _id(tx), wish))

    def resolve(
        self,
        tx: Transaction | str,
        step_id: str,
        answer: Answer,
        *,
        note: str,
        by: str = "somebody",
    ) -> TransactionResult:
        """Record what a person knows or did.

        Args:
            tx: The transaction, or its id.
            step_id: The step.
            answer: For a step in doubt `happened` or `did_not_happen`; for an outstanding
                compensation `undone` or `left_in_place`.
            note: How that is known; it stands in the journal.
            by: Who says so.

        Raises:
            InvalidTransactionState: The answer does not fit the step; names the one that does.
        """
        wish = ResolutionAnswered(step_id, answer, by, note)
        return self._run(procedures.ask(self._desk(), _id(tx), wish))

    def get_transaction(self, transaction_id: str) -> Transaction:
        """Return a transaction as it stands; the caller's own object while somebody holds it.

        Raises:
            TransactionNotFound: There is no such transaction.
        """
        return self._run(read_transaction(self._desk(), transaction_id))

    def get_all_transactions(self) -> Sequence[Transaction]:
        """Return all transactions, oldest first: a list in memory, else read as it is used."""
        desk = self._desk()
        if self._given_store is None:
            return desk.book.all_kept()
        return StoredTransactions(self, desk)

    def get_result(self, tx: Transaction | str) -> TransactionResult:
        """Return the outcome of a transaction as far as the journal knows it now."""
        return self._run(read_result(self._desk(), _id(tx)))

    def get_events(self, tx: Transaction | str) -> list[Event]:
        """Return the journal of a transaction, entry by entry."""
        return self._run(read_events(self._desk(), _id(tx)))

    def find(self, query: Query | None = None) -> list[Listed]:
        """Return one page of summaries, without reading journals."""
        return self._desk().store.find(query or Query())

    def verify(self, tx: Transaction | str | None = None) -> Verification:
        """Check the hash chain and every entry of one journal, or of all."""
        return self._run(recovery.verify(self._desk(), None if tx is None else _id(tx)))

    def get_store_info(self) -> StoreInfo:
        """Return what the store is."""
        return self._desk().store.info()

    def close(self) -> None:
        """Let go of the store; what this manager was driving can be recovered at once."""
        try:
            self._close_store()
        finally:
            self._loop_thread.close()

    def __enter__(self) -> Self:
        """Return this manager; leaving the block closes it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close this manager."""
        self.close()

    def _desk(self) -> Desk:
        return self._opened or self._open(create=self._given_store is None)

    def _opened_desk(self, *, create: bool) -> Desk:
        desk = super()._opened_desk(create=create)
        store = desk.store
        self._append: Callable[[Append], AppendAnswer]
        if store.is_blocking:
            self._append = AppendQueue(store).append
        else:
            self._append = lambda append: store.append((append,))[0]
        return desk

    def _run_or_go_back(self, procedure: Procedure[T], tx: Transaction) -> T:
        """Carry out a procedure; undo what it began where an interrupt hit between two calls."""
        try:
            return self._run(procedure)
        except (KeyboardInterrupt, SystemExit):
            if procedures.is_left_behind(self._desk(), tx):
                with contextlib.suppress(InvalidTransactionState):
                    self._run(procedures.cancel(self._desk(), tx))
            raise

    def _run(self, procedure: Procedure[T]) -> T:
        """Carry out what a procedure asks for until it returns."""
        try:
            operation = next(procedure)
            while True:
                try:
                    answer = self._perform(operation)
                except Exception as error:  # noqa: BLE001 (the procedure decides what it means)
                    operation = procedure.throw(error)
                else:
                    operation = procedure.send(answer)
        except StopIteration as done:
            value: T = done.value
            return value
        finally:
            # Why: an interrupt between two operations holds the stack, and with it the procedure,
            # for as long as somebody holds the exception.
            procedure.close()

    def _perform(self, operation: Operations) -> object:
        match operation:
            case DoCall():
                return self._call(operation)
            case DoAppend():
                return self._append_to_the_end(operation)
            case DoBlocking():
                return operation.function()
            case DoSleep():
                self._clock.sleep(operation.seconds)
                return None
            case _:
                assert_never(operation)

    def _append_to_the_end(self, operation: DoAppend) -> AppendAnswer:
        while True:
            try:
                return self._append(operation.append)
            except (KeyboardInterrupt, SystemExit) as interrupt:
                # Why again: the write may or may not have happened, and the very same append
                # tells. The interrupt is raised once the transaction stands where it may rest.
                if operation.run.interrupt is not None:
                    raise
                operation.run.interrupt = interrupt

    def _call(
        self, operation: DoCall
    ) -> tuple[HandlerReturned | HandlerRaised, BaseException | None]:
        step, kind, callee = operation.step, operation.operation, operation.callee
        run = operation.run
        calling = CALLING.set((*CALLING.get(), run.transaction_id))
        try:
            value = call(callee, run.saga, step, kind)
            if value is not None and inspect.isawaitable(value):
                value = self._loop_thread.run(value)
            return returned(step, kind, value), None
        except BaseException as error:  # noqa: BLE001 (it becomes an observation, and is raised)
            return raised(step, kind, callee.action, error), error
        finally:
            CALLING.reset(calling)


class StoredTransactions(Sequence[Transaction]):
    """Read the transactions of a store as they are asked for, oldest first.

    What has been begun and not saved stands at the end.
    """

    def __init__(self, manager: TransactionManager, desk: Desk) -> None:
        self._manager = manager
        self._desk = desk

    def __len__(self) -> int:
        """Return how many there are now."""
        return self._desk.store.count(Query()) + len(self._desk.book.unsaved())

    @overload
    def __getitem__(self, index: int) -> Transaction: ...
    @overload
    def __getitem__(self, index: slice) -> list[Transaction]: ...
    def __getitem__(self, index: int | slice) -> Transaction | list[Transaction]:
        """Read one, or some."""
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        length = len(self)
        position = index + length if index < 0 else index
        if not 0 <= position < length:
            message = f"there are {length} transactions, none at {index}"
            raise IndexError(message)
        listed = self._desk.store.find(Query(offset=position, limit=1))
        if listed:
            return self._manager.get_transaction(listed[0].summary.transaction_id)
        unsaved = self._desk.book.unsaved()
        return unsaved[position - (length - len(unsaved))]

    def __iter__(self) -> Iterator[Transaction]:
        """Read one after the other, a page of summaries at a time.

        Raises:
            JournalCorrupt: A journal is damaged; raised behind all the others, which can be read.
            JournalTooNew: Likewise, for one that a newer release wrote.
        """
        after: int | None = None
        unreadable: Exception | None = None
        while listed := self._desk.store.find(Query(after=after, limit=PAGE)):
            for item in listed:
                try:
                    yield self._manager.get_transaction(item.summary.transaction_id)
                except (JournalCorrupt, JournalTooNew) as error:
                    unreadable = unreadable or error
            after = listed[-1].position
        yield from self._desk.book.unsaved()
        if unreadable is not None:
            raise unreadable


class SagaOrchestrator:
    """Register steps once, and carry them out as a transaction as often as wanted.

    Args:
        manager: What carries them out.
    """

    def __init__(self, manager: TransactionManager) -> None:
        self._manager = manager
        self._template = Template(manager)

    def register(
        self,
        agent_id: str,
        action: str,
        data: dict[str, Any],
        compensating_action: str | Handler | None = None,
    ) -> TransactionStep:
        """Add a step to the saga, and return it; see `TransactionManager.add_step`."""
        return self._template.register(agent_id, action, data, compensating_action)

    def execute(
        self,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        **options: Unpack[BeginOptions],
    ) -> TransactionResult:
        """Carry out the registered steps as one new transaction, and return the outcome."""
        tx = self._manager.begin(timeout_seconds, **options)
        self._template.fill(tx)
        return self._manager.commit(tx)


def _id(tx: Transaction | str) -> str:
    return tx if isinstance(tx, str) else tx.transaction_id
