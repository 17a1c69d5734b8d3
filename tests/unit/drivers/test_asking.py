"""What a person asks for, and how it is seen through, through the sync driver."""
# mypy: disable-error-code="var-annotated"

import pytest

from aumai_transactions import (
    InvalidTransactionState,
    OutcomeUnknown,
    TransactionNotFound,
)


def begun(manager, *actions, undo=True):
    tx = manager.begin()
    for action in actions:
        manager.add_step(tx, "agent", action, {}, f"undo_{action}" if undo else None)
    return tx


def all_handlers(handler, *actions):
    return dict.fromkeys([*actions, *(f"undo_{action}" for action in actions)], handler)


# --------------------------------------------------------------------------- what a person does


def doubtful(make_sync, **options):
    calls = []
    behaviour = {"raise": True}
    manager = make_sync()

    @manager.action("act", on_unknown="ask", **options)
    def act(action, data, context):
        calls.append((action, context.attempt, context.idempotency_key))
        if behaviour["raise"]:
            raise OutcomeUnknown("no answer")

    manager.action("undo_act")(lambda action, data: calls.append(action))
    tx = begun(manager, "act")
    return manager, tx, calls, behaviour


def test_a_step_in_doubt_waits_for_a_person_and_goes_on_with_the_answer(make_sync):
    manager, tx, _calls, _behaviour = doubtful(make_sync)
    result = manager.commit(tx)
    assert not result.is_final
    assert result.waiting.reason == "in_doubt"
    assert f"resolve {tx.transaction_id} s1 --happened" in result.waiting.detail
    assert manager.recover() == []
    result = manager.resolve(tx, "s1", "happened", note="I looked", by="ann")
    assert result.state.value == "committed"
    assert tx.state.value == "committed"
    assert any("ann decided" in warning for warning in result.warnings)


def test_the_answer_that_it_did_not_happen_rolls_back(make_sync):
    manager, tx, calls, _behaviour = doubtful(make_sync)
    manager.commit(tx)
    result = manager.resolve(tx.transaction_id, "s1", "did_not_happen", note="I looked")
    assert result.state.value == "rolled_back"
    assert "undo_act" not in calls


def test_a_retry_runs_the_doubtful_step_once_more_under_the_same_key(make_sync):
    manager, tx, calls, behaviour = doubtful(make_sync)
    manager.commit(tx)
    behaviour["raise"] = False
    assert manager.retry(tx, "s1").state.value == "committed"
    assert [attempt for _action, attempt, _key in calls] == [1, 2]
    assert len({key for _action, _attempt, key in calls}) == 1


def test_a_rollback_of_a_waiting_transaction_undoes_the_doubtful_step(make_sync):
    manager, tx, calls, _behaviour = doubtful(make_sync)
    manager.commit(tx)
    assert manager.rollback(tx).reason == "requested"
    assert calls[-1] == "undo_act"


def test_an_outstanding_undo_can_be_retried_until_it_works(make_sync):
    broken = ["yes", "yes"]

    def act(action, data):
        if action == "second":
            raise ValueError("no")
        if action == "undo_first" and broken:
            raise ConnectionError(broken.pop())

    manager = make_sync(all_handlers(act, "first", "second"))
    tx = begun(manager, "first", "second")
    assert [item.step_id for item in manager.commit(tx).outstanding] == ["s1"]
    assert [item.step_id for item in manager.retry(tx, "s1").outstanding] == ["s1"]
    assert manager.retry(tx, "s1").clean
    with pytest.raises(InvalidTransactionState):
        manager.retry(tx, "s1")


@pytest.mark.parametrize("call", ["retry", "resolve", "rollback"])
def test_what_nobody_knows_cannot_be_asked_about(make_sync, call):
    manager = make_sync()
    tx = begun(make_sync(), "act")
    calls = {
        "retry": lambda: manager.retry("nowhere", "s1"),
        "resolve": lambda: manager.resolve("nowhere", "s1", "undone", note="x"),
        "rollback": lambda: manager.rollback(tx),
    }
    with pytest.raises(TransactionNotFound):
        calls[call]()
