"""Actions over HTTP under a real manager: retried, asked about, undone, and looked at."""

import pytest

from aumai_transactions import TransactionManager
from aumai_transactions.models import TransactionState
from aumai_transactions.participants.http import http_action

from .conftest import answer, read_request


@pytest.fixture
def airline(serve):
    """Say "later" to the first reservation, lose the second answer, and know what became of it."""

    def behave(connection, service):
        service.requests.append(read_request(connection))
        method, path, _ = service.requests[-1].line.split(" ")
        first = len(service.requests) == 1
        lost_or_late = answer(429, "{}", "Retry-After: 0") if first else answer(500, "{}")
        connection.sendall(
            {
                ("POST", "/seats/F%201"): lost_or_late,
                ("DELETE", "/bookings/R1"): answer(200, "{}"),
                ("GET", "/bookings/R1"): answer(404),
                ("POST", "/declined"): answer(402, "no"),
            }.get((method, path), answer(200, '{"id": "R1"}'))
        )

    return serve(behave)


def test_a_lost_answer_is_asked_for_and_its_output_undoes_it(airline):
    url = f"http://127.0.0.1:{airline.port}"
    actions = [
        http_action(
            "reserve",
            url=f"{url}/seats/{{data.flight}}",
            compensating_action="cancel",
            retry={"first_delay_seconds": 0},
            probe={"url": f"{url}/calls?key={{forward_key}}"},
            verify={"url": f"{url}/bookings/{{output.id}}"},
        ),
        http_action(
            "cancel", method="DELETE", url=f"{url}/bookings/{{output.id}}", idempotent=True
        ),
        http_action("pay", url=f"{url}/declined", effect="none"),
    ]
    with TransactionManager(actions=actions) as manager:
        transaction = manager.begin(30)
        manager.add_step(transaction, "a", "reserve", {"flight": "F 1"})
        manager.add_step(transaction, "a", "pay", {})
        result = manager.commit(transaction)
    assert result.state is TransactionState.rolled_back
    assert result.clean
    assert [request.line.rpartition(" ")[0].partition("?")[0] for request in airline.requests] == [
        "POST /seats/F%201",
        "POST /seats/F%201",
        "GET /calls",
        "POST /declined",
        "DELETE /bookings/R1",
        "GET /bookings/R1",
    ]
    keys = [request.headers["Idempotency-Key"].rpartition("/")[2] for request in airline.requests]
    assert keys == ["action", "action", "probe", "action", "compensation", "verification"]
