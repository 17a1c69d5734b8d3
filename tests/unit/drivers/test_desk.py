"""How entries are shown to people and hooks."""

import random
from typing import Any

import pytest

from aumai_transactions import Event, RetryPolicy, TransactionManager
from aumai_transactions.core.definition import StepDefinition
from aumai_transactions.core.kinds import KINDS
from aumai_transactions.core.requests import StepRequested
from aumai_transactions.core.saga import Saga
from aumai_transactions.drivers.desk import event_of
from aumai_transactions.testing.clock import ManualClock

OF_NO_STEP = {
    "plan_recorded",
    "transaction_imported",
    "restored_from_backup",
    "trust_given",
    "commit_requested",
    "rollback_requested",
    "claimed",
    "transaction_activated",
    "transaction_expired",
    "scope_opened",
    "scope_released",
    "step_refused",  # It has never become one.
    "undo_request_refused",
    "commit_decided",
    "versions_read",
    "transaction_committed",
    "transaction_rolled_back",
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_entry_that_is_about_a_step_names_it(kind):
    step = StepDefinition("s7", "agent", "act", {}, None)
    known = {"step_id": "s7", "step": step, "at": 0, "due_at": 1, "until": 1, "made_at": 1}
    cls: Any = KINDS[kind]
    entry = cls(*(known.get(field) for field in cls._fields))
    event = event_of(Saga("tx"), 1, entry)
    assert event.step_id == (None if kind in OF_NO_STEP else "s7")


def test_a_wish_for_a_step_has_no_id_yet():
    step = StepDefinition("", "agent", "act", {}, None)
    entry = StepRequested(0, "r1", step)
    assert event_of(Saga("tx"), 1, entry).step_id is None


def test_the_journal_and_the_hook_name_the_step_that_a_program_adds():
    told: list[Event] = []
    with TransactionManager({"act": lambda action, data: None}, on_event=told.append) as manager:
        with manager.transaction() as tx:
            tx.execute("agent", "act")
            tx.execute("agent", "act", step_id="mine")
        events = manager.get_events(tx.transaction_id)
    for seen in (told, events):
        added = [event for event in seen if event.kind == "step_added"]
        assert [event.step_id for event in added] == ["s1", "mine"]
        assert added[1].fields["step"]["action"] == "act"


def test_the_jitter_of_a_wait_leaves_the_programs_own_dice_alone():
    calls = []

    def flaky(action, data):
        calls.append(action)
        if len(calls) < 3:
            raise ValueError("not yet")

    manager = TransactionManager(clock=ManualClock(1_000_000))
    manager.action("flaky", retry=RetryPolicy(attempts_max=3, first_delay_seconds=0.1))(flaky)
    tx = manager.begin()
    manager.add_step(tx, "a", "flaky", {})
    random.seed(7)
    before = random.getstate()
    assert manager.commit(tx).state == "committed"
    assert len(calls) == 3
    assert random.getstate() == before
