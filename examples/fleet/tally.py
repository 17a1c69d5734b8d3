"""What is counted in the end: the journals, the locks and the shop's own tables, side by side."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
from shop import CUSTOMERS, ITEMS, UNITS

from aumai_transactions import TransactionManager, TransactionState
from aumai_transactions.core.entries import Claimed
from aumai_transactions.core.journal import entries
from aumai_transactions.store import Query, Store
from aumai_transactions.stores.postgres import PostgresStore
from aumai_transactions.testing.history import Access, problems_of

if TYPE_CHECKING:
    from fleet import Fleet

COMMITTED, ROLLED_BACK = TransactionState.committed, TransactionState.rolled_back
STEPS = 3
EFFECTS = """
SELECT position, resource, transaction_id, step_id, kind, token, key FROM effects ORDER BY position
"""


class Row(NamedTuple):
    """One line of the table.

    Args:
        what: What was counted.
        count: How many.
        is_checked: True where a number stands for right or wrong.
        is_right: Whether it is as it should be.
    """

    what: str
    count: int
    is_checked: bool = False
    is_right: bool = True


def exactly(what: str, count: int, wanted: int = 0) -> Row:
    return Row(what, count, is_checked=True, is_right=count == wanted)


class Shop(NamedTuple):
    """What the shop's own tables say."""

    effects: list[tuple[Any, ...]]
    repeats: int
    amounts: dict[str, int]

    @classmethod
    def at(cls, place: str) -> "Shop":
        """Read them."""
        with psycopg.connect(place) as db:
            [(repeats,)] = db.execute("SELECT count(*) FROM repeats").fetchall()
            amounts = db.execute("SELECT name, amount FROM balances").fetchall()
            return cls(db.execute(EFFECTS).fetchall(), repeats, dict(amounts))

    def doubled(self) -> int:
        """How many effects stand there once more than their key allows."""
        keys = Counter(row[6] for row in self.effects)
        return sum(count - 1 for count in keys.values())

    def gone(self, names: tuple[str, ...]) -> int:
        """How many units these have less than in the beginning."""
        return sum(UNITS - self.amounts[name] for name in names)

    def half_done(self, states: dict[str, TransactionState]) -> int:
        """How many transactions have more or fewer effects in force than their journal says."""
        net: Counter[str] = Counter(dict.fromkeys(states, 0))
        for _position, _resource, tx, _step, kind, *_ in self.effects:
            net[tx] += 1 if kind == "write" else -1
        wanted = {tx: STEPS if state is COMMITTED else 0 for tx, state in states.items()}
        return sum(count != wanted.get(tx, 0) for tx, count in net.items())


def rows_of(fleet: "Fleet", place: str, drained: int) -> Iterator[Row]:
    """Hold everything against everything else."""
    shop = Shop.at(place)
    with (
        PostgresStore(fleet.url, create=False) as store,
        TransactionManager(store=store) as manager,
    ):
        states = {tx.transaction_id: tx.state for tx in manager.get_all_transactions()}
        counts = Counter(states.values())
        need_somebody = store.count(Query(attention=True))
        locks = len(store.locks(None).locks)
        takeovers = takeovers_in(store, list(states))
        broken = len(manager.verify().problems)
        accesses = [Access(*row[:6]) for row in shop.effects if row[1] is not None]
        disorder = len(problems_of(store, accesses))
    committed, back = counts[COMMITTED], counts[ROLLED_BACK]
    yield exactly("orders submitted", len(states), fleet.orders)
    yield Row("  committed", committed)
    yield exactly("  rolled back: nobody delivers there", back, refused_of(fleet.orders))
    yield exactly("  neither (lost)", fleet.orders - committed - back)
    yield exactly("  in need of a person", need_somebody)
    yield Row("workers killed by SIGKILL", fleet.kills)
    yield Row("submitters killed by SIGKILL", fleet.kills_of_submitter)
    yield Row("orders taken over from a dead worker", takeovers)
    yield exactly("workers that drained on SIGTERM", drained, len(fleet.workers))
    yield Row("effects in the shop's table, undos included", len(shop.effects))
    yield Row("  calls that came again, and did nothing", shop.repeats)
    yield exactly("  double effects", shop.doubled())
    yield exactly("  orders half done", shop.half_done(states))
    yield exactly("items that are gone and not sold", shop.gone(ITEMS) - committed)
    yield exactly("money that was charged for nothing", shop.gone(CUSTOMERS) - committed)
    yield exactly("locks left", locks)
    yield exactly("violations of isolation", disorder)
    yield exactly("damaged journals", broken)


def refused_of(orders: int) -> int:
    return sum(number % 10 == 7 for number in range(orders))


def takeovers_in(store: Store, names: list[str]) -> int:
    journals = [store.read(name) for name in names]
    said = [entry for journal in journals if journal for _, entry in entries(journal)]
    return sum(isinstance(entry, Claimed) and entry.takeover for entry in said)
