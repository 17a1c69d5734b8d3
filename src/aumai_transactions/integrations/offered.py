"""What a model can be offered about the transaction that it works in.

Owns: two plain functions that fit under any framework's tool decorator: one that tells how things
stand, and one that undoes everything. Their docstrings are for models.
"""

from __future__ import annotations

import asyncio
import inspect

from aumai_transactions.drivers.ambient import AMBIENT


def transaction_status() -> str:
    """Tell what this transaction has done so far, what is held, and what can still be undone."""
    block = AMBIENT.get()
    return "No transaction is open." if block is None else str(block.describe())


async def roll_back_transaction(reason: str) -> str:
    """Undo everything that was done in this transaction, and end it. No other tool works after it.

    Args:
        reason: Why it is given up.
    """
    block = AMBIENT.get()
    if block is None:
        return "No transaction is open."
    if inspect.iscoroutinefunction(block.rollback):
        result = await block.rollback(reason)
    else:
        result = await asyncio.to_thread(block.rollback, reason)
    return str(result)
