"""Steps of interactive transactions that somebody outside has asked for.

Owns: how a step goes on when whoever asked for it does not wait any longer, and what they are told.
Rules:
  1. What becomes of a step is told from the journal, and not from what its call has raised here:
     whoever asks again is told the same.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from aumai_transactions.core.states import (
    STEP_COMPENSATED,
    STEP_COMPENSATING,
    STEP_FAILED,
    STEP_IN_DOUBT,
    STEP_PENDING,
    STEP_RUNNING,
)
from aumai_transactions.drivers.terms import Terms
from aumai_transactions.web.problems import Problem

if TYPE_CHECKING:
    from aumai_transactions.core.saga import SagaStep
    from aumai_transactions.drivers.overview import Look
    from aumai_transactions.drivers.telling import Executed
    from aumai_transactions.drivers.terms import Request
    from aumai_transactions.integrations.open_transaction import OpenTransaction
    from aumai_transactions.integrations.open_transactions import OpenTransactions
    from aumai_transactions.web.principals import Principal
    from aumai_transactions.web.transactions import Transactions

WAIT_SECONDS = 30
"""How long a request waits for its step, where its caller does not say otherwise."""

RUNNING_MAX = 256
"""How many steps can be under way at once."""


class Wanted(NamedTuple):
    """Hold a step that is to be carried out.

    Args:
        agent_id: On whose behalf.
        action: What is done.
        data: With what.
        compensating_action: What undoes it; None for what its action says.
        step_id: What to call it; None for the next free name.
        options: What it is besides.
    """

    agent_id: str
    action: str
    data: dict[str, Any]
    compensating_action: str | None
    step_id: str | None
    options: dict[str, Any]


class Stands(NamedTuple):
    """Tell how a step stands.

    Args:
        look: Its transaction.
        step_id: Which it is.
        is_over: True where nothing becomes of it any more by itself.
        is_replayed: True where the same request had asked for it before.
    """

    look: Look
    step_id: str
    is_over: bool
    is_replayed: bool


class Running:
    """Carry out steps that somebody outside asks for.

    Args:
        transactions: The way to the store.
        opened: The transactions that are open here.
    """

    def __init__(self, transactions: Transactions, opened: OpenTransactions) -> None:
        self._transactions = transactions
        self._opened = opened
        self._tasks: set[asyncio.Task[Executed]] = set()

    async def execute(
        self,
        who: Principal,
        transaction_id: str,
        wanted: Wanted,
        terms: Terms,
        wait_seconds: int | None,
    ) -> Stands:
        """Carry out a step, once for each request, and tell how it stands.

        Args:
            who: Who asks.
            transaction_id: In which transaction of theirs.
            wanted: What.
            terms: Which request it is, and on which sequence alone it counts.
            wait_seconds: How long they wait; None for a while, and not for a person.

        Raises:
            Problem: The step has failed, is in doubt, or was undone; or too many are under way.
            TransactionError: It cannot be; nothing was done.
        """
        one = await self._opened.find(transaction_id, owner=who.name)
        request: Request = terms.request  # type: ignore[assignment]  # (each has one)
        is_replayed = request.step_in(one.block._shared.saga) is not None  # noqa: SLF001
        if len(self._tasks) >= RUNNING_MAX:
            detail = f"{RUNNING_MAX} steps are under way already. Nothing was done; ask again."
            raise Problem(429, "too-many-steps", detail, headers={"retry-after": "1"})
        patience = 0 if wait_seconds is None else wait_seconds
        task = asyncio.create_task(_carry_out(one, wanted, terms, patience))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        seconds = WAIT_SECONDS if wait_seconds is None else wait_seconds
        await self._transactions.wait_for(task, seconds)
        error = task.exception() if task.done() else None
        if error is not None and not isinstance(error, Exception):
            raise error
        look = await self._transactions.look(who, transaction_id)
        step_id = request.step_in(look.saga)
        if step_id is None:
            if error is not None:
                raise error
            # Why an error: nothing of it is durable, so that nobody can say what becomes of it.
            detail = "The step has not begun yet. Ask again under the same Idempotency-Key."
            raise Problem(503, "not-begun", detail, headers={"retry-after": "1"})
        step = look.saga.by_id[step_id]
        _refuse_ended(look, step)
        is_over = step.state not in (STEP_PENDING, STEP_RUNNING) or step.definition.on_commit
        return Stands(look, step_id, is_over, is_replayed)

    @property
    def under_way(self) -> list[asyncio.Task[Executed]]:
        """The steps that are carried out now."""
        return list(self._tasks)


async def _carry_out(
    one: OpenTransaction, wanted: Wanted, terms: Terms, wait_seconds: float
) -> Executed:
    return await one.execute(
        wanted.agent_id,
        wanted.action,
        wanted.data,
        wanted.compensating_action,
        wanted.step_id,
        terms,
        wait_max_seconds=wait_seconds,
        options=wanted.options,  # type: ignore[arg-type]  # (checked where it is used)
    )


def _refuse_ended(look: Look, step: SagaStep) -> None:
    """Refuse to tell of a step that did not take effect as of one that did.

    Raises:
        Problem: It did not.
    """
    told = {
        STEP_FAILED: ("step-failed", "was not done"),
        STEP_IN_DOUBT: ("step-in-doubt", "may have been done, and nobody knows"),
        STEP_COMPENSATING: ("step-undone", "is being undone"),
        STEP_COMPENSATED: ("step-undone", "was undone"),
    }.get(step.state)
    if told is None:
        return
    code, what = told
    error = step.error or step.undo_error
    why = f": {error}" if error is not None else ""
    then = ""
    if look.result.waiting is not None and look.result.waiting.reason != "running":
        then = f" It waits: {look.result.waiting.detail}."
    more = {
        "transaction_id": look.saga.transaction_id,
        "step_id": step.step_id,
        "step_state": step.state.value,
        "state": look.saga.state.value,
        "sequence": look.sequence,
    }
    raise Problem(409, code, f"Step {step.step_id} {what}{why}.{then}", more=more)
