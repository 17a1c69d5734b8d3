"""A block of a program that is one transaction, for tasks: `AsyncTransactionBlock`.

Owns: how a task waits for what it asks of its transaction. The rules are the core's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from aumai_transactions.core.observations import CommitCalled, RollbackCalled, UndoAsked
from aumai_transactions.core.values import checked_name, checked_note
from aumai_transactions.drivers import requesting, taking_part
from aumai_transactions.drivers.asking import WAIT_SECONDS_MAX
from aumai_transactions.drivers.blocks import BlockBase
from aumai_transactions.drivers.finishing import finish, leave_block
from aumai_transactions.drivers.groups import Group, enter
from aumai_transactions.drivers.messages import annotate
from aumai_transactions.drivers.noticing import TaskTeller
from aumai_transactions.drivers.options import StepOptions, checked_wait
from aumai_transactions.drivers.parts import Part
from aumai_transactions.drivers.signals import Terminable
from aumai_transactions.drivers.telling import Executed
from aumai_transactions.drivers.terms import ANY, Terms
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


class AsyncTransactionBlock(BlockBase):
    """Be one transaction whose steps are chosen as the program goes; for `async with`.

    Like `TransactionBlock`, method by method; each one that may touch the store is awaited. It may
    be used from any task, by as many agents as share it.
    """

    async def __aenter__(self) -> Self:
        """Begin; the first step makes the transaction durable."""
        if self._shared_run is None:
            manager = self._manager
            desk = await asyncio.to_thread(manager._open, create=True)  # noqa: SLF001 (one package)
            self._begin(desk)
            if self._accepts_requests:
                # Why held: a loop holds its tasks only weakly.
                self._serving = asyncio.ensure_future(
                    self._run(requesting.serve(desk, self._shared))
                )
        self._terminable = Terminable(asyncio.get_running_loop())
        self._enter()
        return self

    async def __aexit__(
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
                await self._end(error)
            else:
                await self._end_nested(error)
        finally:
            self._leave()
            self._terminable.over()
            await self._end_telling()

    async def execute(
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
        executed = await self._execute(
            asked, once=self._once(action, once), again=again, wait=seconds
        )
        return executed.output

    async def _execute(
        self, asked: StepAsked, *, once: bool, again: bool, wait: float = WAIT_SECONDS_MAX
    ) -> Executed:
        return await self._run(
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
    async def execute_in(
        block: BlockBase,
        asked: StepAsked,
        *,
        once: bool,
        wait: float = WAIT_SECONDS_MAX,
        terms: Terms = ANY,
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
            terms=terms,
        )
        return await block._manager._tasks.run(procedure)  # noqa: SLF001

    def savepoint(self, name: str = "") -> AsyncSavepoint:
        """Return a savepoint; what this context executes from now on belongs to it.

        As a block, an exception that leaves it undoes what was executed in it, and leaving it ends
        it. Else it lasts until the transaction ends.

        Args:
            name: What to call it; a restarted program finds its steps again by it.
        """
        self._check_open()
        return AsyncSavepoint(self, self._new_group("savepoint", name))

    async def rollback_to(self, savepoint: AsyncSavepoint) -> None:
        """Undo what was executed since the savepoint, and go on from there.

        Raises:
            UndoRefused: Something outside that is in force depends on it; names it.
            TransactionRolledBack: An undo failed, so that the whole transaction went back.
            CommitPointPassed: The commit is decided; nothing was changed.
        """
        self._check_open()
        self._refuse_own_handler("roll back")
        await self._undo_group(self._group_of(savepoint))
        savepoint.enter()

    async def undo(self, step: TransactionStep | str, *, with_dependents: bool = True) -> None:
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
        await self._undo(UndoAsked(step_id=step_id, with_dependents=with_dependents))

    def transaction(
        self, name: str = "", *, timeout_seconds: float | None = None
    ) -> AsyncTransactionBlock:
        """Return a nested transaction, to be used as a block.

        It commits into this one: it can be rolled back by itself, and is undone as one unit where
        this one goes back. Its timeout ends no later than this one's.

        Args:
            name: What to call it.
            timeout_seconds: How long from now it may take.
        """
        self._check_open()
        group = self._new_group("child", name, timeout_seconds)
        return AsyncTransactionBlock(self._manager, self._transaction, parent=self, group=group)

    async def commit(self, *, wait_max_seconds: float = WAIT_SECONDS_MAX) -> TransactionResult:
        """Commit now; a nested one commits into its parent.

        Returns:
            The outcome; look at `state`.
        """
        self._check_open()
        self._refuse_own_handler("commit")
        if self._group is not None:
            return await self._commit_nested()
        return await self._finish(CommitCalled(), checked_wait(wait_max_seconds))

    async def rollback(
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
            await self._undo_group(self._group, note=note)
            self._went_back_by_itself = self._group.is_over = True
            self._result = self._scope_result()
            return self._result
        wish = RollbackCalled(note=checked_note(note, "note"))
        result = await self._finish(wish, checked_wait(wait_max_seconds))
        self._went_back_by_itself = True
        return result

    async def _undo_group(self, group: Group, reason: Any = "requested", note: str = "") -> None:
        await self._undo(UndoAsked(scope_id=group.scope_id, reason=reason, note=note))

    async def _undo(self, asked: UndoAsked) -> None:
        await self._run(taking_part.undo(self._desk, self._shared, self._part(), asked))

    async def _commit_nested(self) -> TransactionResult:
        group = self._group
        if self._result is None and group is not None:
            part = self._part()
            releasing = taking_part.release(self._desk, self._shared, part, group)
            await self._run(releasing)
            self._result = self._scope_result()
        return self._scope_result()

    async def _finish(
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
            self._result = await self._run(procedure)
        except (KeyboardInterrupt, SystemExit) as interrupt:
            # It came between two operations. An undo is finished, whoever interrupts; who
            # interrupts that as well is obeyed at once.
            part.interrupt = interrupt
            again = self._wish_at_end(interrupt)
            procedure = leave_block(self._desk, self._shared, self._part(), again, wait)
            self._result = await self._run(procedure)
        if part.interrupt is not None:
            annotate(part.interrupt, self._result)
            raise part.interrupt
        return self._result

    async def _end(self, error: BaseException | None) -> None:
        if self._result is not None and (self._result.is_final or self._shared.has_let_go):
            self._raise_ended(error, self._result)
            return
        wish = self._wish_at_end(error)
        try:
            if error is None and is_put_off(self._shared):
                waiting = put_off(self._desk, self._shared, self._part())
                self._result = result = await self._run(waiting)
            else:
                result = await self._finish(wish, leaves=True)
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

    async def _end_nested(self, error: BaseException | None) -> None:
        if self._group is not None and self._group.is_over:
            self._result = self._scope_result()
            if error is None and not self._went_back_by_itself:
                raise rolled_back(self._result)
            return
        if error is None:
            try:
                await self._commit_nested()
            finally:
                self._result = self._result or self._scope_result()
            return
        try:
            await self._undo_group(self._group, note=type(error).__name__)  # type: ignore[arg-type]
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

    async def _run(self, procedure: Procedure[T]) -> T:
        runner = self._manager._tasks  # noqa: SLF001 (one package)
        return await runner.run(procedure)

    def _new_teller(self) -> TaskTeller:
        return TaskTeller(self._shared.run, asyncio.get_running_loop())

    async def _end_telling(self) -> None:
        teller = self._tell_no_more()
        if isinstance(teller, TaskTeller):
            await teller.close()
            self._keep_warnings()

    def _part(self) -> Part:
        return Part(self._transaction.transaction_id)


class AsyncSavepoint:
    """Mark a place in a transaction to which it can go back; made by `tx.savepoint()`."""

    def __init__(self, block: AsyncTransactionBlock, group: Group) -> None:
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

    async def rollback(self) -> None:
        """Undo what was executed since; see `AsyncTransactionBlock.rollback_to`."""
        await self.block.rollback_to(self)

    async def __aenter__(self) -> Self:
        """Return this savepoint."""
        self.enter()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Undo what was executed in the block, where an exception leaves it."""
        try:
            if error is not None:
                await self._undo(error)
        finally:
            enter(self.block._transaction.transaction_id, self.group.parent)  # noqa: SLF001

    async def _undo(self, error: BaseException) -> None:
        try:
            await self.block._undo_group(self.group, note=type(error).__name__)  # noqa: SLF001
        except TransactionNotActive:
            return  # The whole has ended, and with it this.
        except TransactionRolledBack as whole:
            error.add_note(str(whole))
        except TransactionError as problem:
            if isinstance(error, Exception):
                raise
            # Why not raised: a cancellation must not become an error that is caught.
            error.add_note(f"the savepoint could not be undone: {problem}")
