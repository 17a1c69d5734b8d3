"""A program of decorated functions that is there to be killed; it is imported, never the main one.

What it does to the world is a line in the file `effects`, written before the function returns. At
the point that it is told to, it says so and stands still until it is killed.
"""
# mypy: disable-error-code="call-arg, union-attr"

import asyncio
import os
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

from pydantic import BaseModel

from aumai_transactions import (
    StepContext,
    TransactionManager,
    step,
    transaction,
)

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
ORDER = {"stop_at": "", "passed": 0}


class Fare(BaseModel):
    amount: Decimal
    valid_until: date


@dataclass
class Booking:
    ref: str
    fare: Fare
    at: datetime


def say(text):
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def passing(point):
    if point == ORDER["stop_at"]:
        say("there")
        sys.stdin.read()


def effect(text):
    line = os.open("effects", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(line, f"{text}\n".encode())
    os.close(line)


def unbook(flight_id, result: Booking | None, context: StepContext):
    ref = result.ref if result else None
    effect(f"unbook {flight_id} {ref} {type(result).__name__} doubt={context.in_doubt}")


@step(compensating_action=unbook)
def book(flight_id: str, fare: Fare) -> Booking:
    passing(f"before book {flight_id}")
    effect(f"book {flight_id}")
    passing(f"after book {flight_id}")
    return Booking(f"ref {flight_id}", fare, NOW)


@step(effect="none")
async def price(flight_id: str, on: date = date(2026, 3, 1)) -> Fare:
    effect(f"price {flight_id}")
    await asyncio.sleep(0)
    return Fare(amount=Decimal("10.50"), valid_until=on)


@step
def release(token: str, result: str | None = None) -> None:
    effect(f"release {token} {result}")


@step(compensating_action=release, idempotent=True)
def hold(token: str, context: StepContext) -> str:
    effect(f"hold {token} {context.idempotency_key.rpartition(':')[0]}")
    passing(f"after hold {token}")
    return f"held {token}"


@step(compensating_action=f"{__name__}:release")
def reserve(token: str, seats: int) -> str:
    effect(f"reserve {token} {seats}")
    return f"{seats} for {token}"


def trip(flights):
    """Book a trip; return what each step gave, with its type."""
    given: list[object] = []
    for number, flight_id in enumerate(flights):
        fare = asyncio.run(price(flight_id))
        booking = book(flight_id, fare)
        given.append((type(fare).__name__, type(booking).__name__, booking.at.isoformat()))
        given.append(str(booking.fare.amount + number))
    given.append(hold("T"))
    given.append(reserve("S", 2))
    passing("before the end")
    return given


def told_at(event):
    added = event.fields.get("step", {}).get("step_id")
    passing(f"durable {event.kind} {event.step_id or added}")


def run(store, stop_at, on_crash, *flights):
    ORDER["stop_at"] = stop_at
    within = 600 if on_crash == "wait" else None
    with TransactionManager(store=store, on_event=told_at) as manager:
        with manager.transaction(on_crash=on_crash, resume_within_seconds=within) as tx:
            say(tx.transaction_id)
            given = trip(flights)
        say(f"{tx.result.state.value} {given}")


def resume(store, stop_at, name, *flights):
    ORDER["stop_at"] = stop_at
    with TransactionManager(store=store, on_event=told_at) as manager:
        with manager.resume(name) as tx:
            given = trip(flights)
        say(f"{tx.result.state.value} {given}")


def recover(store):
    """Undo what was left, with nothing but the functions that this module has decorated."""
    with TransactionManager(store=store) as manager:
        for report in manager.recover():
            clean = report.result is not None and report.result.clean
            say(f"{report.outcome} {report.detail} clean={clean}")


def without_manager(stop_at, *flights):
    ORDER["stop_at"] = stop_at
    with transaction() as tx:
        say(tx.transaction_id)
        say(trip(flights))
