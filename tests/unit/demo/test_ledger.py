"""What the demo's services make of the barrier's words; their HTTP is in tests/e2e."""

import sqlite3
from contextlib import closing

import pytest

from aumai_transactions.demo.evidence import events, holdings
from aumai_transactions.demo.ledger import Answer, Call, Ledger, Refused
from aumai_transactions.demo.participants import Bookings
from aumai_transactions.participants.barrier import BarrierCall

ORDER = {"item": "F1", "traveller": "Alice"}


@pytest.fixture
def database(tmp_path):
    return tmp_path / "flights.db"


@pytest.fixture
def ledger(database):
    seats = Bookings(
        "flights", path="/x", item_field="flight_id", prefix="FL", stock={"F1": 2, "F0": 0}
    )
    with closing(Ledger(database, seats)) as ledger:
        yield ledger


def order(key="t1/s1/action", token=1, data=None):
    return Call(BarrierCall(key, transaction_id="t1", step_id="s1", token=token), data or ORDER)


def cancel(key="t1/s1/compensation", token=1, forward_key="t1/s1/action"):
    return Call(BarrierCall(key, "compensation", forward_key, "t1", "s1", token), {})


def test_a_driver_that_was_replaced_is_refused_and_changes_nothing(ledger, database):
    ledger.carry_out(order(token=2))
    for act, call in ((ledger.carry_out, order("late")), (ledger.cancel, cancel())):
        with pytest.raises(Refused, match="taken over") as caught:
            act(call)
        assert caught.value.status == 412
    assert len(holdings({"flights": database})["flights"]) == 1
    assert [event.event for event in events({"flights": database})] == ["done"]


def test_a_refusal_comes_back_with_its_status(ledger):
    sold_out = order(data=ORDER | {"item": "F0"})
    first, again = ledger.carry_out(sold_out), ledger.carry_out(sold_out)
    assert (first.status, first.replayed) == (422, False)
    assert again == Answer(422, first.body, replayed=True)


def test_who_comes_after_an_undo_is_told_gone_and_why(ledger):
    assert ledger.cancel(cancel()).body == {"undone": False}
    assert ledger.carry_out(order()).body == {"error": "this call was cancelled before it arrived"}
    ledger.carry_out(order("other"))
    ledger.cancel(cancel("undo other", forward_key="other"))
    late = ledger.carry_out(order("other"))
    assert (late.status, late.body) == (
        410,
        {"error": "this call was carried out, and cancelled later"},
    )


def test_a_cancel_is_not_taken_for_one_of_another_order(ledger):
    ledger.carry_out(order())
    ledger.cancel(cancel())
    with pytest.raises(Refused, match="another request"):
        ledger.cancel(cancel(forward_key="other"))


def test_a_key_too_long_for_an_index_is_still_shown_in_the_evidence(ledger, database):
    ledger.carry_out(order("k" * 1_500))
    ledger.carry_out(order("k" * 1_500))
    (held,) = holdings({"flights": database})["flights"]
    assert (held.transaction_id, held.arrivals) == ("t1", 1)


def test_the_effect_the_note_and_the_barriers_row_stand_or_fall_together(ledger, database):
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("ALTER TABLE events RENAME TO hidden")
        with pytest.raises(sqlite3.OperationalError, match="events"):
            ledger.carry_out(order())
        other.execute("ALTER TABLE hidden RENAME TO events")
    assert holdings({"flights": database})["flights"] == []
    assert not ledger.knows("t1/s1/action")
    assert ledger.carry_out(order()).status == 201
