"""Two agents research together: one transaction, one budget, and every search costs money.

python examples/research_pair.py

The scout finds, the checker looks for a second source. A source that is down is no reason to stop:
the scout takes another one, inside the transaction. An answer that is lost is not paid for twice.
And where they cannot finish, everything is refunded, to the cent. The budget is a participant of
its own, with its own database, behind the barrier. The agents' models are scripts.
"""

import asyncio
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from aumai_transactions import (
    AsyncTransactionBlock,
    AsyncTransactionManager,
    StepContext,
    StepRejected,
)
from aumai_transactions.participants.barrier import barrier, create_barrier_table

FOLDER = tempfile.TemporaryDirectory()
LEDGER = Path(FOLDER.name) / "ledger.db"

CENTS = {"newswire": 125, "archive": 80, "registry": 210}
FACTS = {"founded": "1912", "owner": "the city", "height": "97 m"}

# ---------------------------------------------------------------------- the budget's own side


def open_budget(cents: int) -> None:
    with closing(sqlite3.connect(LEDGER)) as db:
        create_barrier_table(db)
        db.execute("CREATE TABLE IF NOT EXISTS budget (cents INTEGER NOT NULL)")
        db.execute(
            "CREATE TABLE IF NOT EXISTS bookings (key TEXT NOT NULL, cents INTEGER NOT NULL)"
        )
        db.execute("DELETE FROM budget")
        db.execute("DELETE FROM bookings")
        db.execute("INSERT INTO budget VALUES (?)", (cents,))
        db.commit()


def cents_left() -> int:
    with closing(sqlite3.connect(LEDGER)) as db:
        (left,) = db.execute("SELECT cents FROM budget").fetchone()
        (booked,) = db.execute("SELECT coalesce(sum(cents), 0) FROM bookings").fetchone()
    print(f"  {left} cents are left, {-booked} are booked")
    return int(left)


def book(db: sqlite3.Connection, key: str, cents: int) -> None:
    db.execute("UPDATE budget SET cents = cents + ?", (cents,))
    db.execute("INSERT INTO bookings VALUES (?, ?)", (key, cents))


# ------------------------------------------------------------------------------- the tools


def define_tools(manager: AsyncTransactionManager) -> None:
    @manager.action("search", compensating_action="refund", idempotent=True)
    def search(action: str, data: dict[str, Any], context: StepContext) -> Any:
        source, about = data["source"], data["about"]
        if (source, about) == ("newswire", "owner"):
            raise StepRejected("the newswire is down")
        with closing(sqlite3.connect(LEDGER)) as db, barrier(db, context, request=data) as call:
            if call.is_due:
                (left,) = db.execute("SELECT cents FROM budget").fetchone()
                if left < CENTS[source]:
                    raise StepRejected(f"the budget is spent: {left} cents are left")
                book(db, context.idempotency_key, -CENTS[source])
                call.answer = {"fact": FACTS[about], "cents": CENTS[source]}
        if about == "height" and context.attempt == 1:
            raise TimeoutError("the answer was lost, the money was not")
        return call.answer

    @manager.action("refund", idempotent=True)
    def refund(action: str, data: dict[str, Any], context: StepContext) -> None:
        with closing(sqlite3.connect(LEDGER)) as db, barrier(db, context) as call:
            # Not due: it was refunded already, or never charged.
            if call.is_due:
                book(db, context.forward_key, call.forward_answer["cents"])


# ------------------------------------------------------------------------------ the agents


async def scout(tx: AsyncTransactionBlock, found: asyncio.Queue[str | None]) -> None:
    for about in FACTS:
        try:
            await tx.execute("scout", "search", {"source": "newswire", "about": about})
        except StepRejected as error:
            if "budget" in str(error):
                raise
            # A tool's error aborts nothing. The model reads it, and tries another way.
            print(f"  scout: {error}; the archive will do")
            await tx.execute("scout", "search", {"source": "archive", "about": about})
        await found.put(about)
    await found.put(None)


async def checker(tx: AsyncTransactionBlock, found: asyncio.Queue[str | None]) -> dict[str, str]:
    checked = {}
    while about := await found.get():
        second = await tx.execute("checker", "search", {"source": "registry", "about": about})
        checked[about] = second["fact"]
    return checked


async def research(manager: AsyncTransactionManager) -> dict[str, str]:
    found: asyncio.Queue[str | None] = asyncio.Queue()
    async with (
        manager.transaction(name="the water tower") as tx,
        asyncio.TaskGroup() as pair,
    ):
        pair.create_task(scout(tx, found))
        report = pair.create_task(checker(tx, found))
    assert tx.result is not None
    assert tx.result.state == "committed"
    return report.result()


# ------------------------------------------------------------------------------- the story


async def main() -> None:
    async with AsyncTransactionManager(store=f"{FOLDER.name}/journal.db") as manager:
        define_tools(manager)

        print("With a budget of 1,000 cents:")
        open_budget(1_000)
        print(f"  the report: {await research(manager)}")
        # Two answers were lost, and their searches called again with the same key: paid once.
        spent = 2 * CENTS["newswire"] + CENTS["archive"] + 3 * CENTS["registry"]
        assert cents_left() == 1_000 - spent

        print("With 500 cents, which is not enough:")
        open_budget(500)
        try:
            await research(manager)
        except* StepRejected as errors:
            print(f"  they give up: {errors.exceptions[0].args[0].partition(':')[0]}")
        assert cents_left() == 500
        *_, last = [found async for found in manager.get_all_transactions()]
        result = await manager.get_result(last)
        print(f"  the transaction is {result.state}, and clean: {result.clean}")
        assert result.clean


if __name__ == "__main__":
    with FOLDER:
        asyncio.run(main())
