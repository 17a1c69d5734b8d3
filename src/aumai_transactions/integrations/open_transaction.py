"""A transaction that stays open between two requests of whoever is outside: `OpenTransaction`.

Owns: what can be done in one that is open, from any task.
Rules:
  1. In which savepoint a transaction stands is told by the last of its marks, which are steps.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from aumai_transactions.actions import Action
from aumai_transactions.core.times import instant
from aumai_transactions.core.values import checked_name
from aumai_transactions.drivers.ambient import AMBIENT, SCOPES
from aumai_transactions.drivers.async_block import AsyncSavepoint
from aumai_transactions.drivers.blocks import options_of
from aumai_transactions.drivers.groups import Group, enter
from aumai_transactions.drivers.terms import ANY, Terms
from aumai_transactions.errors import InvalidTransactionState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aumai_transactions.core.observations import StepAsked
    from aumai_transactions.drivers.async_block import AsyncTransactionBlock
    from aumai_transactions.drivers.options import StepOptions
    from aumai_transactions.drivers.telling import Executed
    from aumai_transactions.models import Transaction, TransactionResult

_MARK = Action("savepoint", lambda _action, _data: None, effect="none")
"""The step by which a savepoint is durable: it is journaled with its first step only."""


class OpenTransaction:
    """Be one transaction that is open here; made by `OpenTransactions`.

    Attributes:
        block: It; it can be used from any task.
        owner: Who began it.
    """

    def __init__(self, block: AsyncTransactionBlock, owner: str) -> None:
        self.block = block
        self.owner = owner
        self._savepoints = _savepoints_of(block)
        self._turn = asyncio.Lock()
        self._is_over = asyncio.Event()

    @property
    def transaction_id(self) -> str:
        """Its id."""
        return self.block.transaction_id

    @property
    def savepoints(self) -> list[str]:
        """The names of the savepoints that it stands in, the outermost first."""
        return [one.name for one in self._savepoints]

    @property
    def is_begun(self) -> bool:
        """True once its first step has made it durable."""
        return self.block._shared.is_begun  # noqa: SLF001 (one package)

    @property
    def is_over(self) -> bool:
        """True once nothing can be done in it any more."""
        broken = self.block._shared.broken is not None  # noqa: SLF001 (one package)
        if broken or self.block.state.is_final or self.block.is_left:
            self._is_over.set()
        return self._is_over.is_set()

    @contextlib.contextmanager
    def inside(self) -> Iterator[AsyncTransactionBlock]:
        """Let the code of this block stand in the transaction, and in its savepoint.

        Leaving it ends nothing, whatever is raised.
        """
        tokens = AMBIENT.set(self.block), SCOPES.set(SCOPES.get())
        enter(self.transaction_id, self._savepoints[-1].group if self._savepoints else None)
        try:
            yield self.block
        finally:
            SCOPES.reset(tokens[1])
            AMBIENT.reset(tokens[0])
            _ = self.is_over  # A step that is denied, or out of time, ends the whole.

    async def execute(  # noqa: PLR0917 (who does what, with what, and what undoes it)
        self,
        agent_id: str | None,
        action: str,
        data: dict[str, Any],
        compensating_action: str | None,
        step_id: str | None,
        terms: Terms,
        *,
        wait_max_seconds: float = 30,
        options: StepOptions,
    ) -> Executed:
        """Carry out a step, once for each request; see `AsyncTransactionBlock.execute`.

        Raises:
            IdempotencyKeyReused: Something else was asked for under the same key.
            SequenceMoved: The journal has gone on; nothing was changed.
        """
        with self.inside() as block:
            asked = block._asked(  # noqa: SLF001 (one package)
                agent_id,
                action,
                data,
                compensating_action,
                step_id=step_id,
                intent=None,
                options=options,
            )
            asked = _as_requested(asked, terms)
            wait = wait_max_seconds
            return await block.execute_in(block, asked, once=False, wait=wait, terms=terms)

    async def savepoint(self, name: str, terms: Terms = ANY) -> bool:
        """Make a savepoint; what is executed from now on belongs to it.

        Args:
            name: What to call it. It hides an earlier one of the same name.
            terms: Which request it is, and on which sequence alone it counts.

        Returns:
            True where the same request has made it before.

        Raises:
            TransactionNotActive: The transaction has ended.
        """
        checked_name(name, "savepoint")
        async with self._turn:
            with self.inside() as block:
                made = block.savepoint(name)
                is_replayed = await self._leave_mark({"name": name}, terms)
            if not is_replayed:
                self._savepoints.append(made)
            return is_replayed

    async def rollback_to(self, name: str, terms: Terms = ANY) -> bool:
        """Undo what was executed since a savepoint was made; it can be gone back to again.

        Args:
            name: The savepoint.
            terms: Which request it is, and on which sequence alone it counts.

        Returns:
            True where the same request has undone it before.

        Raises:
            InvalidTransactionState: It stands in no savepoint of this name; nothing was undone.
            UndoRefused: Something outside that is in force depends on it; nothing was undone.
            TransactionRolledBack: An undo failed, so that the whole transaction went back.
        """
        async with self._turn:
            if terms.step_in(self.block._shared.saga) is not None:  # noqa: SLF001 (one package)
                return True
            found = [one for one in self._savepoints if one.name == name]
            if not found:
                hint = f"It has {', '.join(self.savepoints) or 'none'}. Nothing was undone."
                call = f"go back to savepoint {name!r:.200} of"
                state = "in no savepoint of this name"
                raise InvalidTransactionState(self.transaction_id, state, call, hint)
            place = self._savepoints.index(found[-1])
            with self.inside() as block:
                await block.rollback_to(found[-1])
                del self._savepoints[place + 1 :]
                # Why not its sequence as well: what was undone has moved it.
                again = terms._replace(if_sequence=None)
                return await self._leave_mark({"name": name, "is_back": True}, again)

    async def commit(self, *, wait_max_seconds: float = 30) -> TransactionResult:
        """Commit it, and return the outcome; look at `state`.

        Where it waits for a person or a time by then, it is let go of, and is committed without
        anybody's asking again once that has come.
        """
        with self.inside():
            return await self.block.commit(wait_max_seconds=wait_max_seconds)

    async def rollback(self, note: str = "", *, wait_max_seconds: float = 30) -> TransactionResult:
        """Undo all of it, and return the outcome.

        Raises:
            CommitPointPassed: The commit is decided; nothing was changed.
            InvalidTransactionState: It has ended.
        """
        with self.inside() as block:
            return await block.rollback(note, wait_max_seconds=wait_max_seconds)

    async def _leave_mark(self, data: dict[str, Any], terms: Terms) -> bool:
        asked = self.block.asked_of([_MARK], data, agent_id=None, options=options_of({}))
        asked = _as_requested(asked, terms)
        executed = await self.block.execute_in(self.block, asked, once=False, terms=terms)
        return executed.is_replayed

    async def _hold(self) -> None:
        """Wait until it is over, or its time is."""
        made: Transaction = self.block._transaction  # noqa: SLF001 (one package)
        clock = self.block._manager._clock  # noqa: SLF001
        seconds = (made.created_at - instant(0)).total_seconds() + made.timeout_seconds
        until = round(seconds * 1_000_000)
        while not self.is_over and (left := until - clock.now()) >= 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_over.wait(), left / 1_000_000 + 0.001)


def _as_requested(asked: StepAsked, terms: Terms) -> StepAsked:
    """Return a step that is found again by the request that it belongs to."""
    if terms.request is None:
        return asked
    return asked._replace(step=asked.step._replace(intent=terms.request.append_id))


def _savepoints_of(block: AsyncTransactionBlock) -> list[AsyncSavepoint]:
    """Return the savepoints that a transaction stands in, the outermost first."""
    shared = block._shared  # noqa: SLF001 (one package)
    with shared.lock:
        marks = [one for one in shared.saga.steps if one.definition.action == _MARK.name]
        scope = marks[-1].scope if marks else None
        chain = [] if scope is None else [one.definition for one in scope.chain()]
    found: list[AsyncSavepoint] = []
    group: Group | None = None
    for told in reversed(chain):
        group = Group(told.scope_id, told.kind, told.name, group, told.expires_at)
        group.is_placed = True
        found.append(AsyncSavepoint(block, group))
    enter(block.transaction_id, None)
    return found
