"""The examples in the OpenAPI document.

Owns: them. A test sends each one.
"""

from __future__ import annotations

from typing import Any

_STEP: dict[str, Any] = {
    "action": "book_flight",
    "agent_id": "travel",
    "data": {"to": "Lisbon"},
    "compensating_action": "cancel_flight",
}

EXAMPLES: dict[str, dict[str, Any]] = {
    "beginTransaction": {
        "mode": "planned",
        "name": "trip to Lisbon",
        "timeout_seconds": 300,
        "metadata": {"order": "4711"},
        "steps": [_STEP],
    },
    "addStep": _STEP,
    "submit": {},
    "commit": {},
    "rollback": {"note": "the customer has called"},
    "makeSavepoint": {"name": "flights"},
    "rollbackToSavepoint": {},
    "approve": {"note": "within the budget"},
    "deny": {"note": "too dear"},
    "retry": {"note": "the service is back"},
    "resolve": {"answer": "undone", "note": "refunded by phone, receipt 17"},
    "trust": {"note": "compared with the bank's statement"},
    "bulk": {"action": "retry", "transaction_ids": ["0d1c90a8"], "note": "the service is back"},
}

_CODES = {
    400: ("bad-json", "The body is no JSON: Expecting value, line 1, column 1."),
    401: ("unauthorized", "A token is needed: Authorization: Bearer …"),
    403: ("forbidden", "That needs the scope `act`, which this token does not have."),
    404: ("transaction-not-found", "There is no such transaction."),
    408: ("request-timeout", "The body did not arrive within 30 seconds."),
    409: ("invalid-transaction-state", "It is committed. It is finished; begin a new transaction."),
    412: ("sequence-moved", "Transaction 0d1c90a8 stands at entry 9 and not at 7 any more."),
    413: ("content-too-large", "The body has more than 4,194,304 bytes."),
    414: ("uri-too-long", "The path is too long."),
    415: ("unsupported-media-type", "Send JSON, with Content-Type: application/json."),
    421: ("misdirected-request", "This server is not reached under that name."),
    422: ("invalid-request", "/limit: Input should be less than or equal to 500"),
    429: ("too-many-requests", "More than 200 requests a second; ask again in a second."),
    500: ("internal-error", "Something went wrong here; the log has it under a number."),
    503: ("store-unavailable", "The store cannot be written now; try again."),
}


def of_problem(status: int) -> dict[str, Any]:
    """Return an example of a problem with this status."""
    code, detail = _CODES[status]
    return {
        "type": f"urn:aumai-transactions:problem:{code}",
        "title": code.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
    }
