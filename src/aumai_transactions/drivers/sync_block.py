"""A block of a program that is one transaction, for threads: `TransactionBlock`, `Savepoint`.

Owns: how a thread waits for what it asks of its transaction. The rules are the core's.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from aumai_transactions.core.observations import CommitCalled, RollbackCalled, UndoAsked
from aumai_transactions.core.values import checked_name, checked_note
from aumai_transactions.drivers import requesting, taking_part
from aumai_transactions.drivers.asking import WAIT_SECONDS_MAX
from aumai_transactions.drivers.blocks import BlockBase
from aumai_transactions.drivers.finishing import finish, leave_block
from aumai_transactions.drivers.groups import Group, enter
from aumai_transactions.drivers.messages import annotate
from aumai_transactions.drivers.noticing import ThreadTeller
from aumai_transactions.drivers.options import StepOptions, checked_wait
from aumai_transactions.drivers.parts import Part
from aumai_transactions.drivers.signals import Terminable
from aumai_transactions.drivers.telling import Executed
from aumai_transactions.drivers.unfinished import is_put_off, put_off
from aumai_transactions.errors import (
    CommitPointPassed,
    InvalidTransactionState,
    StoreError,
    TransactionError,
    TransactionNotActive,
    TransactionRolledBack,
    rolled_back,
)
from aumai_transactions.models import TransactionResult, TransactionStep

if TYPE_CHECKING:
    from types import TracebackType

    from aumai_transactions.actions import Handler
    from aumai_transactions.core.observations import StepAsked
    from aumai_transactions.drivers.operations import Procedure

T = TypeVar("T")


class TransactionBlock(BlockBase):
    """Be one transaction whose steps are chosen as the program goes; `with` begins and ends it.

    Leaving the block commits; an exception that leaves it rolls back. A tool's error that is
    caught inside changes nothing. It may be used from any thread, by as many agents as share it.
    Made by `TransactionManager.transaction()`.
    """

    def __enter__(self) -> Self:
        """Begin; the first step makes the transaction durable."""
        if self._shared_run is None:
            desk = self._manager._open(create=True)  # noqa: SLF001 (one package)
            self._begin(desk)
            if self._accepts_requests:
                serving = requesting.serve(desk, self._shared)
                threading.Thread(
                    target=self._run, args=(serving,), name="aumai-requests", daemon=True
                ).start()
        self._terminable = Terminable()
        self._enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Commit; or roll back where an exception leaves the block.

        Raises:
            TransactionRolledBack: It could not commit; `result` says why.
            TransactionNotFinal: Something still waits, for a person or a time.
            CommitPointPassed: An exception left the block behind the commit point.
        """
        try:
            if self._is_guest:
                return
            if self._group is None:
                self._end(error)
            else:
                self._end_nested(error)
        finally:
            self._leave()
            self._terminable.over()
            self._end_telling()

    def execute(
        self,
        agent_id: str | None,
        action: str,
        data: dict[str, Any] | None = None,
        compensating_action: str | Handler | None = None,
        *,
        step_id: str | None = None,
        intent: str | None = None,
        once: bool | None = None,
        again: bool = False,
        wait_max_seconds: float = WAIT_SECONDS_MAX,
        **options: Unpack[StepOptions],
    ) -> Any:
        """Carry out a step now, and return what it returns; it is journaled before and after.

        Args:
            agent_id: On whose behalf; None for the agent of the code around, else `default`.
            action: The name of the action.
            data: JSON object for the action and for what undoes it.
            compensating_action: What undoes it: a name or a function; default what the action was
                registered with.
            step_id: What to call the step; the default is s1, s2, …
            intent: What is asked for, in the program's own words; by it the step is found again
                when the program is resumed. Default: agent, action and identity arguments.
            once: True to answer with what an equal step returned before in this transaction; the
                default is what the action says.
            again: True to carry it out whatever was recorded.
            wait_max_seconds: How long to wait for an approval, where one is needed; for a pivot,
                for the other steps to end.
            **options: See `StepOptions`; `after` omitted means that it depends on nothing but the
                outputs that its data refers to.

        Raises:
            Exception: Whatever the action raised; the transaction goes on.
            StepInDoubt: Nobody knows whether it happened.
            StepUndone: It was undone while it ran.
            ApprovalPending: Nobody has allowed it yet.
            TransactionNotActive: The transaction has ended; nothing was done.
            TransactionRolledBack: The transaction went back meanwhile.
            DefinitionError: The step cannot be; nothing was done.
            InvalidData: Something in it is not JSON; nothing was done.
        """
        self._check_open()
        asked = self._asked(
            agent_id,
            action,
            data,
            compensating_action,
            step_id=step_id,
            intent=intent,
            options=options,
        )
        seconds = checked_wait(wait_max_seconds)
        executed = self._execute(asked, once=self._once(action, once), again=again, wait=seconds)
        return executed.output

    def _execute(
        self, asked: StepAsked, *, once: bool, again: bool, wait: float = WAIT_SECONDS_MAX
    ) -> Executed:
        return self._run(
            taking_part.execute(
                self._desk,
                self._shared,
                self._part(),
                asked,
                self._current_group(),
                once=once,
                again=again,
                wait_max_seconds=wait,
            )
        )

    @staticmethod
    def execute_in(
        block: BlockBase, asked: StepAsked, *, once: bool, wait: float = WAIT_SECONDS_MAX
    ) -> Executed:
        """Carry out a step in whichever block is around its caller."""
        procedure = taking_part.execute(
            block._desk,  # noqa: SLF001 (one package)
            block._shared,  # noqa: SLF001
            block._part(),  # noqa: SLF001
            asked,
            block._current_group(),  # noqa: SLF001
            once=once,
            again=False,
            wait_max_seconds=wait,
        )
        return block._manager._threads.run(procedure)  # noqa: SLF001

    def savepoint(self, name: str = "") -> Savepoint:
        """Return a savepoint; what this context executes from now on belongs to it.

        As a block, an exception that leaves it undoes what was executed in it, and leaving it ends
        it. Else it lasts until the transaction ends.

        Args:
            name: What to call it; a restarted program finds its steps again by it.
        """
        self._check_open()
        return Savepoint(self, self._new_group("savepoint", name))

    def rollback_to(self, savepoint: Savepoint) -> None:
        """Undo what was executed since the savepoint, and go on from there.

        Raises:
            UndoRefused: Something outside that is in force depends on it; names it.
            TransactionRolledBack: An undo failed, so that the whole transaction went back.
            CommitPointPassed: The commit is decided; nothing was changed.
        """
        self._check_open()
        self._refuse_own_handler("roll back")
        self._undo_group(self._group_of(savepoint))
        savepoint.enter()

    def undo(self, step: TransactionStep | str, *, with_dependents: bool = True) -> None:
        """Undo one step, and whatever depends on it.

        Args:
            step: The step, or its id.
            with_dependents: False to be refused where something depends on it.

        Raises:
            UndoRefused: Something in force depends on it, and was not to be undone; names it.
            TransactionRolledBack: An undo failed, so that the whole transaction went back.
            CommitPointPassed: The commit is decided; nothing was changed.
        """
        self._check_open()
        self._refuse_own_handler("undo a step")
        step_id = checked_name(getattr(step, "step_id", step), "step")
        self._undo(UndoAsked(step_id=step_id, with_dependents=with_dependents))

    def transaction(
        self, name: str = "", *, timeout_seconds: float | None = None
    ) -> TransactionBlock:
        """Return a nested transaction, to be used as a block.

        It commits into this one: it can be rolled back by itself, and is undone as one unit where
        this one goes back. Its timeout ends no later than this one's.

        Args:
            name: What to call it.
            timeout_seconds: How long from now it may take.
        """
        self._check_open()
        group = self._new_group("child", name, timeout_seconds)
        return TransactionBlock(self._manager, self._transaction, parent=self, group=group)

    def commit(self, *, wait_max_seconds: float = WAIT_SECONDS_MAX) -> TransactionResult:
        """Commit now; a nested one commits into its parent.

        Returns:
            The outcome; look at `state`.
        """
        self._check_open()
        self._refuse_own_handler("commit")
        if self._group is not None:
            return self._commit_nested()
        return self._finish(CommitCalled(), checked_wait(wait_max_seconds))

    def rollback(
        self, note: str = "", *, wait_max_seconds: float = WAIT_SECONDS_MAX
    ) -> TransactionResult:
        """Undo all of it now, and return the outcome.

        Raises:
            CommitPointPassed: The commit is decided; nothing was changed.
            InvalidTransactionState: It has ended, or a handler of it asks.
        """
        self._check_open()
        self._refuse_own_handler("roll back")
        if self._group is not None:
            self._undo_group(self._group, note=note)
            self._went_back_by_itself = self._group.is_over = True
            self._result = self._scope_result()
            return self._result
        wish = RollbackCalled(note=checked_note(note, "note"))
        result = self._finish(wish, checked_wait(wait_max_seconds))
        self._went_back_by_itself = True
        return result

    def _undo_group(self, group: Group, reason: Any = "requested", note: str = "") -> None:
        self._undo(UndoAsked(scope_id=group.scope_id, reason=reason, note=note))

    def _undo(self, asked: UndoAsked) -> None:
        self._run(taking_part.undo(self._desk, self._shared, self._part(), asked))

    def _commit_nested(self) -> TransactionResult:
        group = self._group
        if self._result is None and group is not None:
            part = self._part()
            releasing = taking_part.release(self._desk, self._shared, part, group)
            self._run(releasing)
            self._result = self._scope_result()
        return self._scope_result()

    def _finish(
        self,
        wish: CommitCalled | RollbackCalled | None,
        wait: float = WAIT_SECONDS_MAX,
        *,
        leaves: bool = False,
    ) -> TransactionResult:
        part = self._part()
        end = leave_block if leaves else finish
        procedure = end(self._desk, self._shared, part, wish, wait)
        try:
            self._result = self._run(procedure)
        except (KeyboardInterrupt, SystemExit) as interrupt:
            # It came between two operations. An undo is finished, whoever interrupts; who
            # interrupts that as well is obeyed at once.
            part.interrupt = interrupt
            again = self._wish_at_end(interrupt)
            procedure = leave_block(self._desk, self._shared, self._part(), again, wait)
            self._result = self._run(procedure)
        if part.interrupt is not None:
            annotate(part.interrupt, self._result)
            raise part.interrupt
        return self._result

    def _end(self, error: BaseException | None) -> None:
        if self._result is not None and (self._result.is_final or self._shared.has_let_go):
            self._raise_ended(error, self._result)
            return
        wish = self._wish_at_end(error)
        try:
            if error is None and is_put_off(self._shared):
                waiting = put_off(self._desk, self._shared, self._part())
                self._result = result = self._run(waiting)
            else:
                result = self._finish(wish, leaves=True)
        except (StoreError, InvalidTransactionState) as problem:
            self._result = self._desk.result_of(self._shared.run)
            if error is None:
                raise
            # Why not raised: it would hide why the program gave up.
            error.add_note(f"the transaction could not be rolled back now: {problem}")
            return
        self._raise_ended(error, result)

    def _raise_ended(self, error: BaseException | None, result: TransactionResult) -> None:
        if error is None:
            self._raise_for_end(result)
            return
        annotate(error, result)
        # Why not over a cancellation: it must not become an error that is caught.
        if self._is_past_commit_point() and isinstance(error, Exception):
            name, state = self.transaction_id, result.state.value
            raise CommitPointPassed(name, state, "roll back") from error

    def _end_nested(self, error: BaseException | None) -> None:
        if self._group is not None and self._group.is_over:
            self._result = self._scope_result()
            if error is None and not self._went_back_by_itself:
                raise rolled_back(self._result)
            return
        if error is None:
            try:
                self._commit_nested()
            finally:
                self._result = self._result or self._scope_result()
            return
        try:
            self._undo_group(self._group, note=type(error).__name__)  # type: ignore[arg-type]
            self._group.is_over = True  # type: ignore[union-attr]
            self._result = self._scope_result()
        except (TransactionNotActive, TransactionRolledBack) as problem:
            # Its root has ended, and with it all that was done in here.
            error.add_note(str(problem))
        except TransactionError as problem:
            if isinstance(error, Exception):
                raise
            # Why not raised: a cancellation must not become an error that is caught.
            error.add_note(f"the nested transaction could not be undone: {problem}")

    def _run(self, procedure: Procedure[T]) -> T:
        runner = self._manager._threads  # noqa: SLF001 (one package)
        return runner.run(procedure)

    def _new_teller(self) -> ThreadTeller:
        return ThreadTeller(self._shared.run, self._manager._loop_thread)  # noqa: SLF001 (one package)

    def _end_telling(self) -> None:
        teller = self._tell_no_more()
        if isinstance(teller, ThreadTeller):
            teller.close()
            self._keep_warnings()

    def _part(self) -> Part:
        return Part(self._transaction.transaction_id)


class Savepoint:
    """Mark a place in a transaction to which it can go back; made by `tx.savepoint()`."""

    def __init__(self, block: TransactionBlock, group: Group) -> None:
        self.block = block
        self.group = group
        self.enter()

    @property
    def name(self) -> str:
        """What it was called."""
        return self.group.definition.name

    def enter(self) -> None:
        """Let what this context executes from now on belong to it."""
        enter(self.block._transaction.transaction_id, self.group)  # noqa: SLF001 (one package)

    def rollback(self) -> None:
        """Undo what was executed since; see `TransactionBlock.rollback_to`."""
        self.block.rollback_to(self)

    def __enter__(self) -> Self:
        """Return this savepoint."""
        self.enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Undo what was executed in the block, where an exception leaves it."""
        try:
            if error is not None:
                self._undo(error)
        finally:
            enter(self.block._transaction.transaction_id, self.group.parent)  # noqa: SLF001

    def _undo(self, error: BaseException) -> None:
        try:
            self.block._undo_group(self.group, note=type(error).__name__)  # noqa: SLF001
        except TransactionNotActive:
            return  # The whole has ended, and with it this.
        except TransactionRolledBack as whole:
            error.add_note(str(whole))
        except TransactionError as problem:
            if isinstance(error, Exception):
                raise
            # Why not raised: a cancellation must not become an error that is caught.
            error.add_note(f"the savepoint could not be undone: {problem}")
