"""What the three services sell.

Owns: the tables with the effects, and the only places where these change. The idempotency is not
here but in `ledger.py`: a participant says what one booking is, and never asks whether it is
the first one.
Rules:
  1. Each database has a view `holdings`, which shows what is taken now, by which transaction. It
     is the evidence that a person reads from the file.
  2. What runs out is guarded by the database: a CHECK that refuses less than nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from aumai_transactions.demo.ledger import Call, Participant, Refused

TEXT_CHARACTERS_MAX = 200
DELAY_SECONDS_MAX = 60
AMOUNT_MAX = Decimal(1_000_000)
ROWS_MAX = 1_000
_FIRST_NUMBER = 1_001
_DELAYS = ("delay_seconds", "answer_delay_seconds")

_BOOKINGS: Final = """
CREATE TABLE IF NOT EXISTS stock (
    item TEXT PRIMARY KEY,
    total INTEGER NOT NULL,
    available INTEGER NOT NULL CHECK (available BETWEEN 0 AND total)
) STRICT;
CREATE TABLE IF NOT EXISTS bookings (
    number INTEGER PRIMARY KEY,
    item TEXT NOT NULL REFERENCES stock (item),
    traveller TEXT NOT NULL,
    key TEXT NOT NULL UNIQUE,
    transaction_id TEXT NOT NULL,
    step_id TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'cancelled'))
) STRICT;
CREATE VIEW IF NOT EXISTS holdings AS
    SELECT number, transaction_id, step_id, item || ' for ' || traveller AS what, key
    FROM bookings WHERE state = 'open';
"""
_CHARGES: Final = """
CREATE TABLE IF NOT EXISTS cards (
    card TEXT PRIMARY KEY,
    available_cents INTEGER NOT NULL CHECK (available_cents >= 0),
    is_blocked INTEGER NOT NULL CHECK (is_blocked IN (0, 1))
) STRICT;
CREATE TABLE IF NOT EXISTS charges (
    number INTEGER PRIMARY KEY,
    card TEXT NOT NULL REFERENCES cards (card),
    amount_cents INTEGER NOT NULL CHECK (amount_cents > 0),
    key TEXT NOT NULL UNIQUE,
    transaction_id TEXT NOT NULL,
    step_id TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'refunded'))
) STRICT;
CREATE VIEW IF NOT EXISTS holdings AS
    SELECT number, transaction_id, step_id,
           printf('%.2f on card %s', amount_cents / 100.0, card) AS what, key
    FROM charges WHERE state = 'open';
"""


class Bookings:
    """Sell something of which there is only so much: seats, rooms.

    Args:
        name: The service's name.
        path: Where orders are posted; `/cancel` below it undoes them.
        item_field: The field of an order that names the thing, such as `flight_id`.
        prefix: What reservation ids begin with.
        stock: How many of each thing there are.
    """

    schema = _BOOKINGS

    def __init__(
        self, name: str, *, path: str, item_field: str, prefix: str, stock: Mapping[str, int]
    ) -> None:
        self.name = name
        self.path = path
        self.cancel_path = f"{path}/cancel"
        self._item_field = item_field
        self._prefix = prefix
        self._stock = stock

    def order(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the item, the traveller and the delays."""
        return {
            "item": text_of(data, self._item_field),
            "traveller": text_of(data, "traveller"),
        } | delays_of(data)

    def open(self, database: sqlite3.Connection) -> None:
        """Put the stock on the shelf, once."""
        database.executemany(
            "INSERT INTO stock (item, total, available) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            [(item, total, total) for item, total in self._stock.items()],
        )

    def carry_out(self, database: sqlite3.Connection, call: Call) -> dict[str, Any]:
        """Take one off the shelf."""
        item, traveller = call.data["item"], call.data["traveller"]
        taken = database.execute(
            "UPDATE stock SET available = available - 1 WHERE item = ? AND available > 0", (item,)
        )
        if taken.rowcount != 1:
            raise Refused(422, f"{self.name}: {item} is sold out, or there is no such thing")
        booked = database.execute(
            "INSERT INTO bookings (number, item, traveller, key, transaction_id, step_id)"
            " VALUES ((SELECT coalesce(max(number) + 1, ?) FROM bookings), ?, ?, ?, ?, ?)",
            (_FIRST_NUMBER, item, traveller, call.key, call.transaction_id, call.step_id),
        )
        return {
            "reservation_id": f"{self._prefix}-{booked.lastrowid}",
            self._item_field: item,
            "traveller": traveller,
        }

    def undo(self, database: sqlite3.Connection, key: str) -> dict[str, Any] | None:
        """Put it back on the shelf."""
        row = database.execute(
            "UPDATE bookings SET state = 'cancelled' WHERE key = ? AND state = 'open'"
            " RETURNING number, item",
            (key,),
        ).fetchone()
        if row is None:
            return None
        number, item = row
        database.execute("UPDATE stock SET available = available + 1 WHERE item = ?", (item,))
        return {"reservation_id": f"{self._prefix}-{number}"}

    def state(self, database: sqlite3.Connection) -> dict[str, Any]:
        """Return what is left of each thing, and the open reservations."""
        left = database.execute(
            "SELECT item, available FROM stock ORDER BY item LIMIT ?", [ROWS_MAX]
        )
        rows = database.execute(
            "SELECT number, item, traveller, transaction_id FROM bookings WHERE state = 'open'"
            " ORDER BY number LIMIT ?",
            [ROWS_MAX],
        )
        return {
            "available": dict(left.fetchall()),
            "open": [
                {
                    "reservation_id": f"{self._prefix}-{number}",
                    self._item_field: item,
                    "traveller": traveller,
                    "transaction_id": transaction_id,
                }
                for number, item, traveller, transaction_id in rows
            ],
        }


class Payments:
    """Charge cards, up to their limit.

    Args:
        cards: How many cents each card can still be charged; None means that it is blocked.
    """

    name = "payments"
    path = "/charges"
    cancel_path = "/charges/refund"
    schema = _CHARGES

    def __init__(self, cards: Mapping[str, int | None]) -> None:
        self._cards = cards

    def order(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the card, the amount in cents and the delays."""
        return {"card": text_of(data, "card"), "cents": cents_of(data, "amount")} | delays_of(data)

    def open(self, database: sqlite3.Connection) -> None:
        """Issue the cards, once."""
        database.executemany(
            "INSERT INTO cards (card, available_cents, is_blocked) VALUES (?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            [(card, cents or 0, int(cents is None)) for card, cents in self._cards.items()],
        )

    def carry_out(self, database: sqlite3.Connection, call: Call) -> dict[str, Any]:
        """Charge the card."""
        card, cents = call.data["card"], call.data["cents"]
        taken = database.execute(
            "UPDATE cards SET available_cents = available_cents - ?"
            " WHERE card = ? AND is_blocked = 0 AND available_cents >= ?",
            (cents, card, cents),
        )
        if taken.rowcount != 1:
            raise Refused(402, f"card {card} was declined")
        charged = database.execute(
            "INSERT INTO charges (number, card, amount_cents, key, transaction_id, step_id)"
            " VALUES ((SELECT coalesce(max(number) + 1, ?) FROM charges), ?, ?, ?, ?, ?)",
            (_FIRST_NUMBER, card, cents, call.key, call.transaction_id, call.step_id),
        )
        return {"charge_id": f"CH-{charged.lastrowid}", "card": card, "amount": cents / 100}

    def undo(self, database: sqlite3.Connection, key: str) -> dict[str, Any] | None:
        """Give the money back."""
        row = database.execute(
            "UPDATE charges SET state = 'refunded' WHERE key = ? AND state = 'open'"
            " RETURNING number, card, amount_cents",
            (key,),
        ).fetchone()
        if row is None:
            return None
        number, card, cents = row
        database.execute(
            "UPDATE cards SET available_cents = available_cents + ? WHERE card = ?", (cents, card)
        )
        return {"charge_id": f"CH-{number}", "amount": cents / 100}

    def state(self, database: sqlite3.Connection) -> dict[str, Any]:
        """Return what each card can still pay, and the charges that stand."""
        cards = database.execute(
            "SELECT card, available_cents FROM cards ORDER BY card LIMIT ?", [ROWS_MAX]
        )
        rows = database.execute(
            "SELECT number, card, amount_cents, transaction_id FROM charges WHERE state = 'open'"
            " ORDER BY number LIMIT ?",
            [ROWS_MAX],
        )
        return {
            "available_cents": dict(cards.fetchall()),
            "open": [
                {
                    "charge_id": f"CH-{number}",
                    "card": card,
                    "amount_cents": cents,
                    "transaction_id": transaction_id,
                }
                for number, card, cents, transaction_id in rows
            ],
        }


PARTICIPANTS: Final[Mapping[str, Participant]] = {
    participant.name: participant
    for participant in (
        Bookings(
            "flights",
            path="/reservations",
            item_field="flight_id",
            prefix="FL",
            stock={"F123": 8, "F900": 1, "F000": 0},
        ),
        Bookings(
            "hotels",
            path="/bookings",
            item_field="hotel_id",
            prefix="HO",
            stock={"H456": 8, "H900": 1, "H000": 0},
        ),
        Payments({"4242": 1_000_000, "0002": None}),
    )
}
"""What there is to buy. F900 and H900 have one left, F000 and H000 none; card 0002 is declined."""


def text_of(data: Mapping[str, Any], field: str) -> str:
    """Return a field that has to be a short text which can be printed and stored."""
    value = data.get(field)
    if not isinstance(value, str) or not value.strip():
        raise Refused(400, f"{field} must be a non-empty text")
    if len(value) > TEXT_CHARACTERS_MAX:
        raise Refused(400, f"{field} is longer than {TEXT_CHARACTERS_MAX} characters")
    # Why printable: control characters, NUL among them, lone surrogates and line ends are not.
    if not value.isprintable():
        raise Refused(400, f"{field} holds characters that cannot be printed")
    return value


def cents_of(data: Mapping[str, Any], field: str) -> int:
    """Return a field that has to be an amount of money."""
    value = data.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(400, f"{field} must be a number")
    # Why through text: 850.1 is meant as 850.10, not as the binary fraction nearest to it.
    cents = Decimal(str(value)) * 100
    if not 0 < cents <= AMOUNT_MAX * 100 or cents != cents.to_integral_value():
        raise Refused(400, f"{field} must be positive, whole cents, and at most {AMOUNT_MAX:,}")
    return int(cents)


def delays_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return how slow the service is asked to be, for demonstrations and tests.

    `delay_seconds` passes before the effect, `answer_delay_seconds` between effect and answer.
    """
    delays = {}
    for field in _DELAYS:
        value = data.get(field, 0)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Refused(400, f"{field} must be a number of seconds")
        if not 0 <= value <= DELAY_SECONDS_MAX:
            raise Refused(400, f"{field} must be between 0 and {DELAY_SECONDS_MAX}")
        delays[field] = value
    return delays
