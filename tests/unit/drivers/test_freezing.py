"""What a caller may have put into a pending transaction."""

from datetime import datetime

import pytest

from aumai_transactions import (
    DefinitionError,
    DependencyCycle,
    DuplicateStep,
    InvalidData,
    InvalidTransactionState,
    OutputReference,
    TransactionState,
    TransactionStep,
    UnknownStep,
)
from aumai_transactions.drivers.freezing import STEPS_MAX

STORES = pytest.mark.parametrize("store", ["memory", "sqlite"])


@pytest.fixture
def manager(make_sync):
    return make_sync()


def begun(manager, count=1):
    tx = manager.begin()
    for _ in range(count):
        manager.add_step(tx, "agent", "act", {})
    return tx


def refused(manager, tx, kind, match):
    with pytest.raises(kind, match=match):
        manager.commit(tx)
    assert tx.state is TransactionState.pending or kind is InvalidTransactionState


def test_a_state_edited_by_hand_is_refused(manager):
    tx = begun(manager)
    tx.state = TransactionState.committed
    refused(manager, tx, InvalidTransactionState, "edited by hand")


def test_a_time_without_a_zone_is_refused(manager):
    tx = begun(manager)
    tx.created_at = datetime(2026, 1, 1)  # noqa: DTZ001 (that is what is refused)
    refused(manager, tx, DefinitionError, "time zone")


@pytest.mark.parametrize("attribute", ["step_id", "agent_id", "action"])
def test_a_name_edited_into_nothing_is_refused_by_step(manager, attribute):
    tx = begun(manager, 2)
    setattr(tx.steps[1], attribute, "")
    refused(manager, tx, InvalidData, rf"steps\[1\]\.{attribute}")


def test_an_undo_edited_into_nothing_is_refused(manager):
    tx = begun(manager)
    tx.steps[0].compensating_action = ""
    refused(manager, tx, InvalidData, "compensating_action")


def test_a_step_that_stands_twice_is_refused(manager):
    tx = begun(manager)
    tx.steps.append(tx.steps[0])
    refused(manager, tx, DuplicateStep, "s1")


def test_a_predecessor_that_does_not_exist_is_refused(manager):
    tx = begun(manager, 2)
    tx.steps[1].after = ["nowhere"]
    refused(manager, tx, UnknownStep, "nowhere")


def test_steps_that_wait_for_each_other_are_refused(manager):
    tx = begun(manager, 2)
    tx.steps[0].after = ["s2"]
    refused(manager, tx, DependencyCycle, "s1")


def test_a_reference_to_a_step_that_does_not_exist_is_refused(manager):
    tx = begun(manager)
    tx.steps[0].references.append(OutputReference(into=["x"], step_id="nowhere"))
    refused(manager, tx, UnknownStep, "nowhere")


def test_a_step_made_by_hand_is_as_good_as_an_added_one(manager):
    tx = manager.begin()
    tx.steps.append(TransactionStep(agent_id="agent", action="act"))
    assert manager.commit(tx).completed_steps == [tx.steps[0].step_id]


def test_more_steps_than_allowed_are_refused(manager):
    tx = manager.begin()
    tx.steps = [TransactionStep.model_construct(step_id="s")] * (STEPS_MAX + 1)
    refused(manager, tx, DefinitionError, "10,001 steps")


@STORES
@pytest.mark.parametrize("timeout", [0.001, 1e300, 2**63 - 1, 2**64, 2**70])
def test_a_timeout_that_is_taken_can_be_kept_by_every_store(make_sync, make_store, store, timeout):
    manager = make_sync(store=make_store(store))
    try:
        tx = manager.begin(timeout_seconds=timeout)
    except DefinitionError:
        assert timeout > 2**63 - 1
        return
    manager.save(tx)
    name = tx.transaction_id
    del tx
    assert manager.get_transaction(name).timeout_seconds == timeout


@STORES
def test_unusual_but_sound_text_is_kept_by_every_store(make_sync, make_store, store):
    text = "é 漢字 🛫 \x01 \u2028 '\" \\ \r\n"
    seen = []

    def act(action, data):
        seen.append((action, data))
        return {text: [text]}

    manager = make_sync({text: act}, store=make_store(store))
    tx = manager.begin(name=text)
    manager.add_step(tx, text, text, {text: text}, text)
    result = manager.commit(tx)
    assert seen == [(text, {text: text})]
    name = tx.transaction_id
    del tx
    found = manager.get_transaction(name)
    assert (found.name, found.steps[0].agent_id) == (text, text)
    assert manager.get_result(name).outputs == result.outputs == {"s1": {text: [text]}}
    assert manager.verify().is_intact
