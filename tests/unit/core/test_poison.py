"""What kills whoever carries it out is set aside after so many deaths in a row."""
# mypy: disable-error-code="union-attr"

import pytest

from aumai_transactions.core.observations import DriverArrived
from aumai_transactions.core.outcome import attention_of, is_runnable, result_of, summary_of

ONCE_MORE = {"idempotent": True}


@pytest.fixture
def dies(play, make_step):
    """A transaction whose step `a` kills its driver, which is counted up to `crashes_max`."""

    def make(crashes_max=3, **options):
        step = make_step("a", **(options or ONCE_MORE))
        return play(make_step("first", idempotent=True), step, crashes_max=crashes_max).commit()

    return make


def another(tx, name):
    """The driver has died in the midst of whatever it did, and another one arrives."""
    return tx.see(DriverArrived(name, takeover=True))


def test_a_death_between_two_calls_does_not_count(play, make_step, steady):
    tx = play(make_step("a", policy={"retry": steady}), crashes_max=1).commit().raised("a")
    assert another(tx, "d2").saga.crashes == 0
    assert tx.wait(1).calls == ["action:a"]


def test_deaths_in_a_call_count_and_the_last_one_sets_it_aside(dies):
    tx = dies(2).returned("first")
    assert another(tx, "d2").calls == ["action:a"]
    assert tx.saga.crashes == 1
    assert is_runnable(tx.saga)
    assert another(tx, "d3").calls == []
    assert tx.saga.crashes == 2
    assert attention_of(tx.saga) == "poisoned"
    assert not is_runnable(tx.saga)
    assert summary_of(tx.saga).attention == "poisoned"
    waiting = result_of(tx.saga, durable=True).waiting
    assert (waiting.reason, waiting.step_ids) == ("poisoned", ["a"])
    assert "2 processes in a row have died of it" in waiting.detail
    assert "aumai-transactions retry tx a" in waiting.detail
    assert "aumai-transactions rollback tx" in waiting.detail


def test_a_driver_that_comes_back_to_what_is_its_own_has_not_died(dies):
    tx = dies(1).returned("first")
    assert tx.see(DriverArrived("d1", takeover=True)).calls == ["action:a"]
    assert tx.saga.crashes == 0


def test_any_call_that_ends_begins_the_count_again(dies):
    tx = dies(3)
    another(another(tx, "d2"), "d3")
    assert tx.saga.crashes == 2
    assert tx.returned("first").saga.crashes == 0
    assert another(tx, "d4").saga.crashes == 1


def test_what_raises_did_not_kill(dies):
    tx = dies(3).returned("first")
    another(tx, "d2")
    assert tx.raised("a").saga.crashes == 0


def test_an_undo_that_kills_is_set_aside_too_and_named(dies):
    tx = dies(2).returned("first").raised("a")
    assert tx.calls == ["compensation:first"]
    another(another(tx, "d2"), "d3")
    assert attention_of(tx.saga) == "poisoned"
    waiting = tx.result.waiting
    assert (waiting.reason, waiting.step_ids) == ("poisoned", ["first"])
    assert "rollback" not in waiting.detail


def test_a_person_lets_it_be_tried_again_from_the_beginning_of_the_count(dies):
    tx = dies(2).returned("first")
    another(another(tx, "d2"), "d3")
    assert tx.retry("a").calls == ["action:a"]
    assert tx.saga.crashes == 0
    assert tx.returned("a").state == "committed"


def test_a_person_lets_it_go_back(dies):
    tx = dies(2).returned("first")
    another(another(tx, "d2"), "d3")
    assert tx.rollback().calls == ["compensation:a"]
    assert tx.returned("a").returned("first").state == "rolled_back"


def test_an_undo_that_killed_is_tried_again_when_a_person_asks(dies):
    tx = dies(2).returned("first").raised("a")
    another(another(tx, "d2"), "d3")
    assert tx.retry("first").calls == ["compensation:first"]
    assert tx.returned("first").state == "rolled_back"


def test_an_outstanding_undo_is_tried_again_though_another_undo_kills(play, make_step):
    steps = [make_step(name, idempotent=True) for name in ("first", "second", "third")]
    tx = play(*steps, crashes_max=2).commit().returned("first").returned("second").raised("third")
    tx.raised("second")
    another(another(tx, "d2"), "d3")
    assert tx.saga.steps[1].outstanding is not None
    assert attention_of(tx.saga) == "poisoned"
    assert tx.retry("second").calls == ["compensation:second"]
    assert tx.returned("second").returned("first").state == "rolled_back"
    assert not tx.result.outstanding
