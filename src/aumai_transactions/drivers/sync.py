"""The driver with threads: `TransactionManager`.

Owns: how this thread waits for a store, for a handler and for time. The rules are the core's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from aumai_transactions.core.observations import ApprovalAnswered, ResolutionAnswered, RetryAsked
from aumai_transactions.drivers import (
    asking,
    procedures,
    recovery,
    requesting,
    resuming,
    submitting,
)
from aumai_transactions.drivers.asking import WAIT_SECONDS_MAX
from aumai_transactions.drivers.desk import id_of, read_events, read_result, read_transaction
from aumai_transactions.drivers.freezing import checked_count, frozen_step
from aumai_transactions.drivers.hooks import Settled, dropped, outcome_of
from aumai_transactions.drivers.locks import checked_retries, runs_left
from aumai_transactions.drivers.manager import BLOCK_TIMEOUT_SECONDS
from aumai_transactions.drivers.operations import Procedure
from aumai_transactions.drivers.options import (
    BeginOptions,
    BlockOptions,
    StepOptions,
    checked_options,
    checked_wait,
)
from aumai_transactions.drivers.resuming import nested_in
from aumai_transactions.drivers.stored import StoredTransactions
from aumai_transactions.drivers.sync_block import TransactionBlock
from aumai_transactions.drivers.sync_keeping import SyncKeeping
from aumai_transactions.errors import InvalidTransactionState, StepRejected
from aumai_transactions.models import (
    DEFAULT_TIMEOUT_SECONDS,
    Event,
    Recovered,
    Risk,
    Transaction,
    TransactionResult,
)

if TYPE_CHECKING:
    from types import TracebackType

    from aumai_transactions.core.entries import Answer

T = TypeVar("T")


class TransactionManager(SyncKeeping):
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
        on_event: Called with each journal entry, right after it became durable: a function, sync
            or async, or a list of them. What one raises becomes a warning.
        action_source: Called with the action definitions of a journal; returns the actions.
        parallel_max: How many steps of one transaction run at once.
        clock: What time it is; for tests.
        engine: What carries planned transactions out instead of this manager, such as
            `engines.dbos.DbosEngine`; the journal stays in `store`.
        telemetry: Who watches: `OpenTelemetry()` of `aumai_transactions.telemetry`.
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
                `Transaction`. With `idempotency_key` it is durable at once, and a second `begin`
                with the same key returns the transaction that has it, whatever its state: the
                same `add_step` calls and `commit` then repeat its plan and return its outcome.

        Raises:
            DefinitionError: The timeout is not a positive finite number, or an option is wrong.
            IdempotencyKeyReused: The key was used for a transaction with other options.
            StoreError: The store cannot be opened.
        """
        checked = checked_options(options)
        desk = self._open(create=True)
        tx = self._begun(desk, timeout_seconds, checked)
        if tx.idempotency_key is None:
            return tx
        return self._run(procedures.begin_keyed(desk, tx))

    def commit(
        self, tx: Transaction, *, wait_max_seconds: float = WAIT_SECONDS_MAX
    ) -> TransactionResult:
        """Carry out the steps in order; undo what was done if one of them fails.

        Args:
            tx: The transaction.
            wait_max_seconds: How long to wait for the time of a next attempt. What is due later is
                not waited for: the outcome is then not final, and `waiting` says until when.

        Returns:
            The outcome. A failed step is not an exception: look at `state`, or call
            `raise_for_state()`.

        Raises:
            InvalidTransactionState: It is not pending.
            DefinitionError: The plan cannot be carried out; nothing has run.
            InvalidData: Something in it is not JSON; nothing has run.
            StoreError: The journal could not be written; see the message.
        """
        seconds = checked_wait(wait_max_seconds)
        procedure = procedures.commit(self._desk(), tx, wait_max_seconds=seconds)
        return self._run_or_go_back(procedure, tx)

    def rollback(
        self, tx: Transaction | str, *, wait_max_seconds: float = WAIT_SECONDS_MAX
    ) -> TransactionResult:
        """Undo a pending or active transaction in reverse order.

        Of a pending one every compensating action is run; of an active one only what undoes
        steps that may have had an effect.

        Args:
            tx: The transaction, or its id; by the id of a nested one only that is undone.
            wait_max_seconds: How long to wait for a driver in another process, or for the time of
                a next attempt; then the outcome is not final, and `waiting` says for what.

        Raises:
            InvalidTransactionState: It is finished, or the call comes from its own handler.
        """
        seconds = checked_wait(wait_max_seconds)
        if isinstance(tx, str):
            by_id = procedures.rollback_by_id(self._desk(), tx, wait_max_seconds=seconds)
            return self._run(by_id)
        procedure = procedures.rollback(self._desk(), tx, wait_max_seconds=seconds)
        return self._run_or_go_back(procedure, tx)

    def submit(self, tx: Transaction) -> TransactionResult:
        """Leave a pending transaction to the workers of its store, and return at once.

        It is durable then, and `wait(tx)` waits for the outcome. The deadline is looked at when
        somebody takes it. Returned is how it stands: not final. Raises what `save` raises.
        """
        return self._run(submitting.submit(self._desk(), tx))

    def wait(
        self, tx: Transaction | str, *, timeout_seconds: float | None = None
    ) -> TransactionResult:
        """Wait until a transaction is finished or needs a person, and carry it on when it is due.

        Args:
            tx: The transaction, or its id.
            timeout_seconds: How long to wait at most; None for as long as it takes.

        Returns:
            The outcome; not final where the time was over or a person is needed.
        """
        desk = self._desk()
        until = None
        if timeout_seconds is not None:
            until = asking.waiting_until(desk, checked_wait(timeout_seconds))
        return self._run(asking.see_through(desk, id_of(tx), until, others=True))

    def check(self, tx: Transaction | str) -> list[Risk]:
        """Name the risks of a transaction before it runs; nothing is called.

        Effects that nothing undoes, calls that nobody can ask about, retries that may do things
        twice, unknown actions, timeouts beyond the deadline, secrets in the data.

        Args:
            tx: The transaction, or its id.
        """
        return self._run(procedures.check(self._desk(), tx))

    def transaction(
        self, timeout_seconds: float = BLOCK_TIMEOUT_SECONDS, **options: Unpack[BlockOptions]
    ) -> TransactionBlock:
        """Return a transaction whose steps are chosen as the program goes, to be used as a block.

        Inside a block of this manager it is nested in that one.

        Args:
            timeout_seconds: How long from now it may take; past that it is rolled back.
            **options: `on_crash` (`roll_back` by default; `wait` with `resume_within_seconds`),
                `on_compensation_failure`, `parallel_compensation`, `allow_irreversible_first`,
                `on_undo_window`, `name`; see `Transaction`. A nested one takes `name` only.

        Raises:
            DefinitionError: An option is unknown, or has a value that cannot be.
        """
        around = self._block_around()
        if around is not None:
            return nested_in(around, TransactionBlock, timeout_seconds, options)
        made = self._interactive(timeout_seconds, options)
        accepts = options.get("accepts_requests", False)
        return TransactionBlock(self, made, accepts_requests=accepts)

    def run(
        self,
        function: Callable[[TransactionBlock], T],
        *,
        retries: int = 3,
        timeout_seconds: float = BLOCK_TIMEOUT_SECONDS,
        **options: Unpack[BlockOptions],
    ) -> T:
        """Run a function in a transaction, and the whole of it again where it gave way to others.

        Args:
            function: Given the block, executes its steps; what it returns is returned. It is run
                again from the beginning, in a new transaction, so that it must not count on what
                it remembers of the one before.
            retries: How often at most it is run again after a `Deadlock` or a `ReadConflict`.
            timeout_seconds: How long each run may take.
            **options: See `transaction`.

        Raises:
            Deadlock: It gave way every time.
            ReadConflict: What it had read changed every time.
        """
        left = checked_retries(retries)
        while True:
            block = self.transaction(timeout_seconds, **options)
            try:
                with block as tx:
                    return function(tx)
            except Exception as error:  # noqa: BLE001 (raised again where it is no such thing)
                around = self._block_around()
                left = runs_left(left, error, block.result, is_nested=around is not None)

    def resume(self, tx: Transaction | str) -> TransactionBlock:
        """Go on with an interactive transaction whose process died; use the result as a block.

        The program is run again: a step that it asks for once more, with the same agent, action
        and identity arguments, is answered with what was recorded; anything else is a new step.

        Raises:
            InvalidTransactionState: It is planned, is going back or has ended, or a living
                process has it.
            TransactionNotFound: There is no such transaction.
        """
        procedure = resuming.resume(self._desk(), id_of(tx))
        shared, transaction = self._run(procedure)
        return resuming.block_of(TransactionBlock, self, shared, transaction, self._desk())

    def join(self, transaction_id: str) -> TransactionBlock:
        """Take part in an interactive transaction that is open in this process, by its id.

        For other agents and threads that were given nothing but the id; that of a nested one takes
        part in that. As a block, it stands in the transaction, and leaving it ends nothing.

        Raises:
            TransactionNotActive: None of this id is open in this process.
        """
        return resuming.join(TransactionBlock, self, self._desk(), id_of(transaction_id))

    def request_step(
        self,
        transaction_id: str,
        agent_id: str,
        action: str,
        data: dict[str, Any] | None = None,
        compensating_action: str | None = None,
        *,
        by: str = "",
        wait_max_seconds: float = WAIT_SECONDS_MAX,
        **options: Unpack[StepOptions],
    ) -> Any:
        """Ask for a step in an interactive transaction that another process has open.

        That process carries it out, with its own actions, if it has begun the transaction with
        `accepts_requests=True`; this one waits, and needs no handler.

        Args:
            transaction_id: The transaction, or a nested one of it.
            agent_id: On whose behalf the step acts.
            action: The name of the action there.
            data: JSON object for it.
            compensating_action: The name of what undoes it there.
            by: Who asks; stands in the journal.
            wait_max_seconds: How long to wait for the outcome.
            **options: See `StepOptions`.

        Raises:
            TransactionNotActive: It has ended; or nobody has carried the step out in time.
            DefinitionError: The step cannot be.
            StepFailed: Its action raised.
            StepInDoubt: Nobody knows whether it happened.
        """
        step = self._step("step", agent_id, action, data or {}, compensating_action, options)
        wanted = frozen_step(step, "the step", self._registry, self._before_record)
        seconds = checked_wait(wait_max_seconds)
        procedure = requesting.request(
            self._desk(), transaction_id, wanted, by=by, wait_max_seconds=seconds
        )
        return self._run(procedure)

    def approve(
        self,
        tx: Transaction | str,
        step_id: str,
        *,
        by: str,
        note: str = "",
        digest: str | None = None,
        wait_max_seconds: float = WAIT_SECONDS_MAX,
    ) -> TransactionResult:
        """Allow a step that waits for a person, and see to it that it goes on.

        Args:
            tx: The transaction, or its id.
            step_id: The step.
            by: Who allows it; stands in the journal.
            note: Why.
            digest: Of what was shown to that person; refused if something else waits by now.
            wait_max_seconds: How long to wait for what follows.

        Raises:
            InvalidTransactionState: The step does not wait for that.
        """
        return self._ask(tx, ApprovalAnswered(step_id, True, by, note, digest), wait_max_seconds)  # noqa: FBT003

    def deny(
        self,
        tx: Transaction | str,
        step_id: str,
        *,
        by: str,
        note: str = "",
        wait_max_seconds: float = WAIT_SECONDS_MAX,
    ) -> TransactionResult:
        """Refuse a step that waits for a person; the transaction is rolled back.

        Raises:
            InvalidTransactionState: The step does not wait for that.
        """
        return self._ask(tx, ApprovalAnswered(step_id, False, by, note), wait_max_seconds)  # noqa: FBT003

    def save(self, tx: Transaction) -> None:
        """Make a pending transaction durable as it stands, without starting it."""
        self._run(procedures.save(self._desk(), tx))

    def recover(
        self, *, wait_max_seconds: float = WAIT_SECONDS_MAX, concurrency: int | None = None
    ) -> list[Recovered]:
        """Finish what dead processes left behind, and what is due, and say what was done.

        Safe to run from many processes at once, and to be killed itself. A transaction of a
        living driver is never touched.

        Args:
            wait_max_seconds: How long to wait, once all else is done, for the times of next
                attempts.
            concurrency: How many transactions to carry on at the same time; the default is one
                after the other. With more than one, their handlers run in other threads than this.
        """
        seconds = checked_wait(wait_max_seconds)
        count = 1 if concurrency is None else checked_count(concurrency, "concurrency")
        return self._run(recovery.recover(self._desk(), seconds, count))

    def retry(
        self,
        tx: Transaction | str,
        step_id: str,
        *,
        note: str = "",
        by: str = "",
        wait_max_seconds: float = WAIT_SECONDS_MAX,
    ) -> TransactionResult:
        """Try a step in doubt, what waits for its next attempt, or an outstanding compensation now.

        It is called with the same key as before.
        """
        return self._ask(tx, RetryAsked(step_id, by, note), wait_max_seconds)

    def resolve(
        self,
        tx: Transaction | str,
        step_id: str,
        answer: Answer,
        *,
        note: str,
        by: str = "somebody",
        wait_max_seconds: float = WAIT_SECONDS_MAX,
    ) -> TransactionResult:
        """Record what a person knows or did.

        Args:
            tx: The transaction, or its id.
            step_id: The step.
            answer: For a step in doubt `happened` or `did_not_happen`; for an outstanding
                compensation `undone` or `left_in_place`.
            note: How that is known; it stands in the journal.
            by: Who says so.
            wait_max_seconds: How long to wait for a driver elsewhere, or for the time of a next
                attempt.

        Raises:
            InvalidTransactionState: The answer does not fit the step; names the one that does.
        """
        return self._ask(tx, ResolutionAnswered(step_id, answer, by, note), wait_max_seconds)

    def get_transaction(self, transaction_id: str) -> Transaction:
        """Return a transaction as it stands; the caller's own object while somebody holds it.

        Raises:
            TransactionNotFound: There is no such transaction.
        """
        return self._run(read_transaction(self._desk(), id_of(transaction_id)))

    def get_all_transactions(self) -> Sequence[Transaction]:
        """Return all transactions, oldest first: a list in memory, else read as it is used."""
        desk = self._desk()
        if self._given_store is None:
            return desk.book.all_kept()
        return StoredTransactions(self, desk)

    def get_result(self, tx: Transaction | str) -> TransactionResult:
        """Return the outcome of a transaction as far as the journal knows it now."""
        return self._run(read_result(self._desk(), id_of(tx)))

    def get_events(self, tx: Transaction | str) -> list[Event]:
        """Return the journal of a transaction, entry by entry."""
        return self._run(read_events(self._desk(), id_of(tx)))

    def close(self) -> None:
        """Let go of the store; what this manager was driving can be recovered at once."""
        try:
            self._close_store()
        finally:
            self._loop_thread.close()
            if self._task_runner is not None:
                self._task_runner.close()

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

    def _awaited(self, awaitable: Awaitable[object], settled: Settled) -> None:
        """Await what a hook has returned, in the thread of the async handlers."""
        try:
            error: BaseException | None = self._loop_thread.run(outcome_of(awaitable))
        except StepRejected:
            # The hook is told in the one thread that could await it.
            dropped(awaitable, settled, "it is told in the thread of the async handlers")
            return
        if error is not None:
            settled(error)

    def _run_or_go_back(self, procedure: Procedure[T], tx: Transaction) -> T:
        """Carry out a procedure; undo what it began where an interrupt hit between two calls."""
        try:
            return self._run(procedure)
        except (KeyboardInterrupt, SystemExit):
            if procedures.is_left_behind(self._desk(), tx):
                with contextlib.suppress(InvalidTransactionState):
                    self._run(procedures.cancel(self._desk(), tx))
            raise
