"""What can be asked of a transaction now, and what would become of it if it went back."""

from __future__ import annotations

import pytest

from aumai_transactions import StepRejected, TransactionManager
from aumai_transactions.core.journal import load
from aumai_transactions.core.possible import possible, preview
from aumai_transactions.core.saga import Saga
from aumai_transactions.errors import InvalidTransactionState
from aumai_transactions.models import Transaction

FAR = 2**60


@pytest.fixture
def manager():
    made = TransactionManager()

    @made.action("book", compensating_action="cancel", idempotent=True)
    def book(action, data):
        return {"ref": 1}

    @made.action("cancel", idempotent=True)
    def cancel(action, data):
        if data.get("closed"):
            raise StepRejected("closed")

    @made.action("pay")
    def pay(action, data):
        if data.get("bad"):
            raise StepRejected("declined")

    @made.action("mail", requires_approval=True)
    def mail(action, data): ...

    with made:
        yield made


def saga_of(manager: TransactionManager, tx: Transaction) -> Saga:
    journal = manager._desk().store.read(tx.transaction_id)
    assert journal is not None
    return load(journal)


def asked(manager: TransactionManager, tx: Transaction) -> list[tuple[str, str | None]]:
    return [(one.name, one.step_id) for one in possible(saga_of(manager, tx), FAR)]


def test_a_pending_one_can_be_committed_submitted_and_rolled_back(manager):
    tx = manager.begin()
    manager.add_step(tx, "a", "book", {})
    manager.save(tx)
    assert asked(manager, tx) == [("commit", None), ("submit", None), ("rollback", None)]


def test_of_one_that_waits_for_a_person_the_step_can_be_allowed_and_refused(manager):
    tx = manager.begin()
    manager.add_step(tx, "a", "mail", {})
    manager.commit(tx)
    assert asked(manager, tx) == [("rollback", None), ("approve", "s1"), ("deny", "s1")]


def test_what_an_undo_left_can_be_tried_again_or_resolved_with_a_note(manager):
    tx = manager.begin()
    manager.add_step(tx, "a", "book", {"closed": True})
    manager.add_step(tx, "a", "pay", {"bad": True})
    manager.commit(tx)
    found = possible(saga_of(manager, tx), FAR)
    assert [(one.name, one.answers, one.needs_note) for one in found] == [
        ("retry", (), False),
        ("resolve", ("undone", "left_in_place"), True),
    ]


def test_of_a_committed_one_nothing_can_be_asked(manager):
    tx = manager.begin()
    manager.commit(tx)
    assert asked(manager, tx) == []
    with pytest.raises(InvalidTransactionState):
        preview(saga_of(manager, tx), FAR)


def test_looking_changes_nothing(manager):
    tx = manager.begin()
    manager.add_step(tx, "a", "mail", {})
    manager.commit(tx)
    saga = saga_of(manager, tx)
    before = saga.sequence, saga.state, dict(saga.approvals)
    possible(saga, FAR)
    assert (saga.sequence, saga.state, dict(saga.approvals)) == before


def test_a_preview_names_the_undos_in_their_order_and_what_stays(manager):
    with manager.transaction() as tx:
        for place in ("first", "second"):
            tx.execute("a", "book", {"place": place})
        tx.execute("b", "pay")
        saga = saga_of(manager, manager.get_transaction(tx.transaction_id))
        told = preview(saga, FAR)
        result = tx.rollback()
    assert [one.step_id for one in told.undos] == ["s2", "s1"] == result.compensated_steps
    assert {one.compensating_action for one in told.undos} == {"cancel"}
    assert told.left == ["s3"] == result.uncompensated


def test_a_preview_of_one_in_doubt_says_so(manager):
    @manager.action("ask", compensating_action="cancel", on_unknown="ask")
    def ask(action, data):
        raise OSError("no answer")

    tx = manager.begin()
    manager.add_step(tx, "a", "ask", {})
    manager.commit(tx)
    told = preview(saga_of(manager, tx), FAR)
    assert [(one.step_id, one.in_doubt) for one in told.undos] == [("s1", True)]


def test_a_preview_counts_what_runs_yet_as_if_it_succeeded(manager):
    seen = []

    @manager.action("look", compensating_action="cancel")
    def look(action, data):
        seen.append(preview(saga_of(manager, tx), FAR))

    tx = manager.begin()
    manager.add_step(tx, "a", "look", {})
    manager.commit(tx)
    assert [(one.step_id, one.is_running) for one in seen[0].undos] == [("s1", True)]
