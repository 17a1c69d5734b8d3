"""Events, for whatever tells people of them."""

from datetime import UTC, datetime, timedelta

import pytest

from aumai_transactions.models import Event, TransactionState

START = datetime(2026, 2, 27, 12, tzinfo=UTC)
PLAN = {
    "definition": {
        "name": "trip",
        "steps": [
            {"step_id": "a", "agent_id": "x", "action": "do", "compensating_action": "undo"},
            {"step_id": "b", "agent_id": "y", "action": "fail"},
        ],
    }
}


@pytest.fixture
def events():
    """Make events a second apart, from (kind, step, fields); the first one records a plan."""

    def make(*told):
        return [
            Event(
                transaction_id="t",
                sequence=number,
                kind=kind,
                at=START + timedelta(seconds=number),
                state=TransactionState.active,
                step_id=step,
                fields=fields,
            )
            for number, (kind, step, fields) in enumerate((("plan_recorded", None, PLAN), *told), 1)
        ]

    return make
