"""A business trip booked by three agents: one that works, and one whose card is declined.

    python trip.py            books both trips and prints what happened
    python trip.py --serve    only runs the three services, on the ports of plan.toml

The services are real: three processes with an HTTP server and a SQLite database each.
"""

import http.client
import json
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aumai_transactions import (
    OutcomeUnknown,
    SagaOrchestrator,
    StepContext,
    StepRejected,
    TransactionManager,
    TransactionResult,
)
from aumai_transactions.demo.evidence import holdings
from aumai_transactions.demo.trip import TripServices

PORTS = {"flights": 8101, "hotels": 8102, "payments": 8103}


def call(url: str, data: dict[str, Any], context: StepContext) -> dict[str, Any]:
    """Call a service so that the same step takes effect once, however often it is tried."""
    address = urlsplit(url)
    headers = {
        "Content-Type": "application/json",
        # The same for every attempt of this step, from any process, also after a crash.
        "Idempotency-Key": context.idempotency_key,
        "Aumai-Transaction": context.transaction_id,
        "Aumai-Step": context.step_id,
    }
    if context.operation == "compensation":
        # What is to be undone: the call that carried this key.
        headers["Aumai-Compensates"] = f"{context.transaction_id}/{context.step_id}/action"
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    try:
        connection.connect()
    except OSError as error:
        raise StepRejected(f"{url} cannot be reached, so nothing happened: {error}") from error
    try:
        connection.request("POST", address.path, json.dumps(data), headers)
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        # The call is out, and nobody knows what became of it: neither done nor not done.
        raise OutcomeUnknown(f"{url} did not answer: {error}") from error
    finally:
        connection.close()
    if response.status in {200, 201}:
        return answer
    if response.status in {400, 402, 404, 410, 413, 422}:
        raise StepRejected(f"{url}: {answer['error']}")
    raise OutcomeUnknown(f"{url} answered {response.status}")


def manager_for(urls: dict[str, str], store: str) -> TransactionManager:
    """Make a manager with an action for each thing that can be done or undone."""
    manager = TransactionManager(store=store)

    def add(name: str, url: str) -> None:
        # idempotent: after a crash in mid-call, the same call may be sent again.
        @manager.action(name, idempotent=True)
        def handler(action: str, data: dict[str, Any], context: StepContext) -> dict[str, Any]:
            return call(url, data, context)

    add("reserve_flight", f"{urls['flights']}/reservations")
    add("cancel_flight", f"{urls['flights']}/reservations/cancel")
    add("book_hotel", f"{urls['hotels']}/bookings")
    add("cancel_hotel", f"{urls['hotels']}/bookings/cancel")
    add("charge_card", f"{urls['payments']}/charges")
    add("refund_card", f"{urls['payments']}/charges/refund")
    return manager


def book(manager: TransactionManager, traveller: str, card: str) -> TransactionResult:
    """Book a trip: all of it, or nothing."""
    saga = SagaOrchestrator(manager)
    saga.register(
        "flight_agent",
        "reserve_flight",
        {"flight_id": "F123", "traveller": traveller},
        "cancel_flight",
    )
    saga.register(
        "hotel_agent",
        "book_hotel",
        {"hotel_id": "H456", "traveller": traveller},
        "cancel_hotel",
    )
    saga.register(
        "billing_agent",
        "charge_card",
        {"amount": 850.00, "card": card},
        "refund_card",
    )
    return saga.execute(timeout_seconds=60)


def print_holdings(services: TripServices) -> None:
    """Print what the services' own databases hold."""
    for service, rows in holdings(services.database_paths).items():
        print(f"  {service}: {', '.join(row.what for row in rows) or 'nothing'}")


def serve() -> None:
    """Run the services on fixed ports until Enter or Ctrl-C is pressed."""
    folder = Path("trip-data")
    folder.mkdir(exist_ok=True)
    with TripServices(folder, PORTS) as services:
        for name, url in services.urls.items():
            print(f"{name}: {url}, database {services.database_paths[name]}")
        try:
            input("Press Enter to stop them. ")
        except (EOFError, KeyboardInterrupt):
            print()


def book_two(services: TripServices, store: str) -> None:
    """Book one trip that works and one whose card is declined, and print what is left."""
    with manager_for(services.urls, store) as manager:
        good = book(manager, "Alice", "4242")
        print(good)
        print_holdings(services)
        assert good.state.value == "committed"

        declined = book(manager, "Bob", "0002")
        print()
        print(declined)
        print_holdings(services)
        assert declined.state.value == "rolled_back"
        assert declined.clean


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, TripServices(Path(folder)) as services:
        book_two(services, store=f"{folder}/trips.db")


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        main()
