"""A shop whose agents do what agents do, in a store that others look at.

`shop:manager` is an app for `--app`; `build_store` fills a store by real runs, and by processes
that are killed in the midst of one.

    python tests/web/shop.py STORE SCENE      plays one scene, and may die of it
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from aumai_transactions import (
    NothingToUndo,
    RetryLater,
    RetryPolicy,
    StepContext,
    StepRejected,
    TransactionManager,
)
from aumai_transactions.clock import SystemClock

HERE = Path(__file__).resolve()
HOUR = 3_600


class ShiftedClock(SystemClock):
    """Tell the time of some while ago, so that a store looks like one that has been used."""

    def __init__(self, seconds_ago: float = 0) -> None:
        self._shift = round(seconds_ago * 1_000_000)

    def now(self) -> int:
        return super().now() - self._shift


def define_actions(manager: TransactionManager) -> TransactionManager:
    @manager.action("flights.book", compensating_action="flights.cancel", idempotent=True)
    def book_flight(action: str, data: dict[str, Any]) -> dict[str, Any]:
        return {"locator": "QX7KLM", "seat": data.get("seat", "14C"), "price": 218.4}

    @manager.action("flights.cancel", idempotent=True)
    def cancel_flight(action: str, data: dict[str, Any]) -> None:
        pass

    @manager.action(
        "hotels.book",
        compensating_action="hotels.cancel",
        idempotent=True,
        retry=RetryPolicy(attempts_max=3, first_delay_seconds=0.05, jitter=0),
    )
    def book_hotel(action: str, data: dict[str, Any], context: StepContext) -> dict[str, Any]:
        if context.attempt <= data.get("busy", 0):
            raise ConnectionError("503: the booking desk is busy")
        return {"room": 412, "nights": data.get("nights", 2)}

    @manager.action("hotels.cancel")
    def cancel_hotel(action: str, data: dict[str, Any]) -> None:
        if data.get("line") and Path(data["line"]).exists():
            raise ConnectionError("the hotel does not answer its telephone")

    @manager.action("cards.charge", compensating_action="cards.refund", on_unknown="ask")
    def charge(action: str, data: dict[str, Any]) -> dict[str, Any]:
        if data.get("card") == "declined":
            raise StepRejected("card declined: limit reached")
        if data.get("card") == "silent":
            raise TimeoutError("the bank did not answer within 30 s")
        if data.get("card") == "deadly":
            os.kill(os.getpid(), signal.SIGKILL)
        return {"receipt": "R-20431", "amount": data["amount"]}

    @manager.action("cards.refund", idempotent=True)
    def refund(action: str, data: dict[str, Any]) -> NothingToUndo | None:
        return NothingToUndo("the bank knows no such charge") if data.get("lost") else None

    @manager.action(
        "ledger.transfer", compensating_action="ledger.transfer_back", requires_approval=True,
        resources=["account:{account}"],
    )  # fmt: skip
    def transfer(action: str, data: dict[str, Any]) -> dict[str, Any]:
        return {"balance": 12_000 - data["amount"]}

    @manager.action("ledger.transfer_back", idempotent=True)
    def transfer_back(action: str, data: dict[str, Any]) -> None:
        pass

    @manager.action(
        "ledger.count", compensating_action="ledger.forget", resources=["account:{account}"]
    )
    def count(action: str, data: dict[str, Any]) -> int:
        return 12_000

    @manager.action("ledger.forget", idempotent=True)
    def forget(action: str, data: dict[str, Any]) -> None:
        pass

    @manager.action(
        "stock.reserve", compensating_action="stock.release", confirming_action="stock.take"
    )
    def reserve(action: str, data: dict[str, Any]) -> dict[str, Any]:
        if data.get("closed"):
            raise RetryLater(HOUR, "the warehouse is closed until eight")
        return {"shelf": "B-07", "pieces": data.get("pieces", 1)}

    @manager.action("stock.release", idempotent=True)
    def release(action: str, data: dict[str, Any]) -> None:
        pass

    @manager.action("stock.take", idempotent=True)
    def take(action: str, data: dict[str, Any]) -> None:
        if data.get("line") and Path(data["line"]).exists():
            raise StepRejected("the shelf is empty")

    @manager.action("mail.send", effect="irreversible")
    def send(action: str, data: dict[str, Any]) -> dict[str, Any]:
        return {"message_id": f"<{len(str(data))}@shop.example>"}

    @manager.action("search", effect="none")
    def search(action: str, data: dict[str, Any]) -> list[str]:
        return ["Hotel Astoria", "Hotel Bristol"]

    return manager


def open_manager(store: str, seconds_ago: float = 0) -> TransactionManager:
    return define_actions(TransactionManager(store=store, clock=ShiftedClock(seconds_ago)))


manager = define_actions(TransactionManager())

SECONDS_AGO = {
    "committed": 26 * HOUR,
    "declined": 5 * HOUR,
    "outstanding": 3 * HOUR,
    "halted": 2.5 * HOUR,
    "in_doubt": 2 * HOUR,
    "stuck": 1.6 * HOUR,
    "approval": 1.2 * HOUR,
    "waits_for_lock": 1.1 * HOUR,
    "crash": 0.8 * HOUR,
    "savepoint": 0.5 * HOUR,
    "nested": 0.4 * HOUR,
    "parked": 0.2 * HOUR,
    "submitted": 200,
    "expired": 100,
    "crash_in_undo": 40,
}
DEADLY = ("crash", "crash_in_undo")


def play(store: str, scene: str) -> str:
    """Play one scene, and return which transaction it was about."""
    line = str(Path(store).with_name("line-is-down"))
    if scene == "expired":
        return _expired(store)
    with open_manager(store, SECONDS_AGO[scene]) as shop:
        if scene in ("savepoint", "nested"):
            return _blocks(shop, scene)
        options, steps = PLANNED[scene]
        tx = shop.begin(**options)
        for agent, action, data in steps:
            filled = {key: line if text == "LINE" else text for key, text in data.items()}
            shop.add_step(tx, agent, action, filled)
        if scene == "submitted":
            shop.submit(tx)
        else:
            shop.commit(tx, wait_max_seconds=0 if scene in ("parked", "waits_for_lock") else 30)
        return tx.transaction_id


def _expired(store: str) -> str:
    with open_manager(store, SECONDS_AGO["expired"]) as shop:
        tx = shop.begin(name="Order 7699", timeout_seconds=1)
        shop.add_step(tx, "billing", "cards.charge", {"amount": 12, "card": "private"})
        shop.save(tx)
    with open_manager(store) as later:
        later.commit(later.get_transaction(tx.transaction_id))
    return tx.transaction_id


def _blocks(shop: TransactionManager, scene: str) -> str:
    if scene == "savepoint":
        with shop.transaction(name="Plan a visit to Lisbon", metadata={"region": "eu"}) as tx:
            tx.execute("research", "search", {"city": "Lisbon"})
            tx.execute("travel", "flights.book", {"from": "OSL", "to": "LIS"})
            place = tx.savepoint("before the hotel")
            tx.execute("travel", "hotels.book", {"hotel": "Astoria", "nights": 4})
            tx.rollback_to(place)
            tx.execute("travel", "hotels.book", {"hotel": "Bristol", "nights": 3})
        return tx.transaction_id
    with shop.transaction(name="Conference week", metadata={"region": "us"}) as tx:
        tx.execute("travel", "flights.book", {"from": "BER", "to": "BOS"})
        with tx.transaction(name="Side trip"):
            tx.execute("rail", "hotels.book", {"hotel": "Harbour", "busy": 1})
        tx.execute("billing", "cards.charge", {"amount": 940, "card": "corporate"})
    return tx.transaction_id


def _trip(card: str, **hotel: Any) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        ("travel", "flights.book", {"from": "BER", "to": "LIS", "seat": "7A"}),
        ("travel", "hotels.book", {"hotel": "Astoria", "nights": 2, **hotel}),
        ("billing", "cards.charge", {"amount": 431, "card": card}),
    ]


PLANNED: dict[str, tuple[dict[str, Any], list[tuple[str, str, dict[str, Any]]]]] = {
    "committed": (
        {"name": "Trip to Lisbon", "metadata": {"region": "eu", "tier": "gold"}},
        [*_trip("corporate", busy=2), ("mail", "mail.send", {"to": "ann@example.org"})],
    ),
    "declined": (
        {"name": "Trip to Porto", "metadata": {"region": "eu"}},
        _trip("declined", busy=1),
    ),
    "outstanding": ({"name": "Trip to Faro"}, _trip("declined", line="LINE")),
    "halted": (
        {"name": "Trip to Evora", "on_compensation_failure": "halt"},
        _trip("declined", line="LINE"),
    ),
    "in_doubt": ({"name": "Trip to Braga", "metadata": {"tier": "gold"}}, _trip("silent")),
    "stuck": (
        {"name": "Order 7731"},
        [
            ("warehouse", "stock.reserve", {"pieces": 3, "line": "LINE"}),
            ("billing", "cards.charge", {"amount": 87, "card": "private"}),
        ],
    ),
    "approval": (
        {"name": "Pay the supplier"},
        [
            ("research", "search", {"invoice": "2026-114"}),
            (
                "finance",
                "ledger.transfer",
                {"account": 42, "amount": 4_800, "to": "Nordic Steel AS"},
            ),
        ],
    ),
    "waits_for_lock": (
        {"name": "Close the month", "lock_timeout_seconds": 86_400},
        [("finance", "ledger.count", {"account": 42})],
    ),
    "crash": ({"name": "Trip to Sintra", "on_crash": "resume"}, _trip("deadly")),
    "parked": (
        {"name": "Order 7740"},
        [("warehouse", "stock.reserve", {"pieces": 1, "closed": True})],
    ),
    "submitted": ({"name": "Order 7741"}, [("warehouse", "stock.reserve", {"pieces": 2})]),
    "crash_in_undo": ({"name": "Trip to Coimbra", "on_crash": "roll_back"}, _trip("deadly")),
}


def build_store(path: Path, scenes: tuple[str, ...] = tuple(SECONDS_AGO)) -> dict[str, str]:
    """Fill a store, and return the transaction of each scene that told."""
    path.with_name("line-is-down").touch()
    found = {}
    for scene in scenes:
        if scene in DEADLY:
            ran = subprocess.run([sys.executable, str(HERE), str(path), scene], check=False)
            assert ran.returncode == -signal.SIGKILL, f"{scene} should have died"
        else:
            found[scene] = play(str(path), scene)
    with TransactionManager(store=str(path)) as looking:
        for one in looking.find():
            name = {"Trip to Sintra": "crash", "Trip to Coimbra": "crash_in_undo"}
            if one.summary.name in name:
                found[name[one.summary.name]] = one.summary.transaction_id
    return found


if __name__ == "__main__":
    play(sys.argv[1], sys.argv[2])
