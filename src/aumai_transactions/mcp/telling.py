"""How a transaction is told to an agent, as data.

Owns: which fields there are, and which of them others have written.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from aumai_transactions.errors import TransactionNotActive, TransactionNotFound
from aumai_transactions.mcp.calls import BEFORE
from aumai_transactions.mcp.texts import cleaned
from aumai_transactions.mcp.toolbox import SEPARATOR
from aumai_transactions.store import Query

if TYPE_CHECKING:
    from aumai_transactions.integrations.open_transactions import OpenTransactions
    from aumai_transactions.models import DescribedStep, Description, TransactionResult

LISTED_MAX = 50


def result_told(result: TransactionResult) -> dict[str, Any]:
    """Return the outcome of a transaction."""
    told: dict[str, Any] = {
        "transaction_id": result.transaction_id,
        "state": result.state.value,
        "is_final": result.is_final,
        "undone": list(result.compensated_steps),
        "cannot_be_undone": list(result.uncompensated),
        "needs_a_person": [
            {
                "step_id": one.step_id,
                "tool": one.action,
                "untrusted_text": cleaned(one.error or "", 500),
            }
            for one in result.outstanding
        ],
        "survives_a_crash": result.durable,
    }
    if result.reason is not None:
        told["reason"] = result.reason
    if result.waiting is not None:
        told["waits_for"] = result.waiting.reason
    if result.error:
        told["untrusted_text"] = cleaned(result.error, 500)
    return told


async def status_told(opened: OpenTransactions, name: str, whose: str) -> dict[str, Any]:
    """Return how a transaction stands, be it open or not.

    Raises:
        TransactionNotFound: There is none of theirs.
    """
    try:
        found = await opened.find(name, owner=whose)
    except TransactionNotActive:
        return result_told(await opened.result(name, owner=whose))
    told = _described(found.block.describe())
    told["savepoints"] = [cleaned(one, 200) for one in found.savepoints]
    return told


async def listed(opened: OpenTransactions, whose: str) -> dict[str, Any]:
    """Return somebody's open transactions, and theirs among the latest of the store."""
    there = [one.transaction_id for one in opened.of(whose)]
    others = []
    for one in await opened.manager.find(Query(newest_first=True, limit=LISTED_MAX)):
        name = one.summary.transaction_id
        if name in there:
            continue
        with contextlib.suppress(TransactionNotFound):
            result = await opened.result(name, owner=whose)
            others.append({"transaction_id": name, "state": result.state.value})
    return {"open": there, "others": others}


def _described(found: Description) -> dict[str, Any]:
    return {
        "transaction_id": found.transaction_id,
        "state": found.state.value,
        "can_be_rolled_back": found.can_be_rolled_back,
        "deadline": found.deadline.isoformat(timespec="seconds"),
        "done": [_step(one) for one in found.done if _is_call(one)],
        "running": [_step(one) for one in found.running],
        "waits_for_an_approval": [_step(one) for one in found.waiting_for_approval],
        "in_doubt": [_step(one) for one in found.in_doubt],
        "failed": [_step(one) for one in found.failed],
        "undone": [_step(one) for one in found.undone if _is_call(one)],
        "needs_a_person": [_step(one) for one in found.needs_a_person],
    }


def _is_call(one: DescribedStep) -> bool:
    """Tell whether a step is a call that was asked for, and not what the gateway did for it."""
    return SEPARATOR in one.action and not one.action.endswith(BEFORE)


def _step(one: DescribedStep) -> dict[str, Any]:
    told: dict[str, Any] = {
        "step_id": one.step_id,
        "tool": one.action,
        "can_be_undone": one.can_be_undone,
        "untrusted_text": cleaned(f"{one.data} {one.error or ''}".strip(), 500),
    }
    return told
