"""The way of a late answer into the journal."""
# mypy: disable-error-code="union-attr, var-annotated"

import pytest

from aumai_transactions import OutcomeUnknown
from aumai_transactions.core.entries import ErrorRecord
from aumai_transactions.core.journal import load
from aumai_transactions.core.observations import LateReturn
from aumai_transactions.drivers.late import PAUSES_SECONDS, hand_in

SUCCEEDED = LateReturn("s1", "action", 1, "succeeded", {"id": 7})


@pytest.fixture
def waiting(scripted_store, make_sync, clock):
    """A manager with a transaction whose only step waits in doubt for a person."""
    store = scripted_store()
    events = []
    manager = make_sync(store=store, clock=clock, on_event=events.append)

    @manager.action("act", on_unknown="ask")
    def act(action, data):
        raise OutcomeUnknown("lost")

    tx = manager.begin()
    manager.add_step(tx, "agent", "act", {})
    manager.commit(tx)
    return manager, store, tx.transaction_id, events


def late_ones(manager, name):
    return [event for event in manager.get_events(name) if event.kind == "call_returned_late"]


def test_it_is_journaled_as_a_fact_without_a_token_and_told_to_the_hook(waiting):
    manager, store, name, events = waiting
    token = store.read(name).token
    hand_in(manager._opened, name, SUCCEEDED)
    (event,) = late_ones(manager, name)
    assert (event.fields["outcome"], event.fields["output"]) == ("succeeded", {"id": 7})
    assert events[-1].kind == "call_returned_late"
    assert store.read(name).token == token
    assert load(store.read(name)).state.value == "active"


def test_the_same_answer_twice_is_journaled_once(waiting):
    manager, _store, name, _events = waiting
    for _ in range(3):
        hand_in(manager._opened, name, SUCCEEDED)
    assert len(late_ones(manager, name)) == 1


def test_what_others_write_meanwhile_is_read_and_written_behind(waiting, make_sync):
    manager, store, name, _events = waiting
    other = make_sync(store=store)

    def meanwhile():
        store.before.clear()
        other.resolve(name, "s1", "happened", note="I looked")

    store.before[len(store.calls) + 1] = meanwhile
    hand_in(manager._opened, name, SUCCEEDED)
    told = [event.kind for event in manager.get_events(name)]
    assert told.index("resolution_given") < told.index("call_returned_late")
    assert manager.verify(name).is_intact


def test_a_store_that_cannot_be_written_for_a_while_is_tried_again(waiting, failing, clock):
    manager, store, name, _events = waiting
    for number in range(len(PAUSES_SECONDS)):
        store.before[len(store.calls) + 1 + number] = failing()
    before = clock.now()
    hand_in(manager._opened, name, SUCCEEDED)
    assert len(late_ones(manager, name)) == 1
    assert clock.now() - before == pytest.approx(sum(PAUSES_SECONDS) * 1_000_000)


def test_a_write_of_which_nobody_knows_is_not_doubled(waiting, failing):
    manager, store, name, _events = waiting
    store.after[len(store.calls) + 1] = failing(outcome_unknown=True)
    hand_in(manager._opened, name, SUCCEEDED)
    assert len(late_ones(manager, name)) == 1


def test_what_cannot_be_journaled_at_all_is_told_to_the_log_and_raised_to_nobody(
    waiting, failing, caplog
):
    manager, store, name, _events = waiting
    for number in range(20):
        store.before[len(store.calls) + 1 + number] = failing()
    hand_in(manager._opened, name, SUCCEEDED)
    assert "could not be journaled" in caplog.text
    assert name in caplog.text
    assert "step s1" in caplog.text


def test_an_answer_about_what_is_not_there_is_told_to_the_log(waiting, caplog):
    manager, _store, name, _events = waiting
    hand_in(manager._opened, "nowhere", SUCCEEDED)
    hand_in(manager._opened, name, SUCCEEDED._replace(step_id="s9"))
    assert caplog.text.count("could not be journaled") == 2


def test_a_refusal_is_journaled_with_its_reason(waiting):
    manager, _store, name, _events = waiting
    refused = LateReturn("s1", "action", 1, "not_done", None, ErrorRecord("StepRejected", "full"))
    hand_in(manager._opened, name, refused)
    (event,) = late_ones(manager, name)
    assert event.fields["outcome"] == "not_done"
    assert manager.wait(name).clean
