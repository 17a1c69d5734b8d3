"""What came out of a backup waits for a person, whatever anybody else wants."""
# mypy: disable-error-code="union-attr"

import pytest

from aumai_transactions.core.decider import decide
from aumai_transactions.core.entries import (
    Claimed,
    CommitRequested,
    PlanRecorded,
    RestoredFromBackup,
    TrustGiven,
)
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.observations import (
    CommitCalled,
    DriverArrived,
    PlanGiven,
    ResolutionAnswered,
    RetryAsked,
    RollbackCalled,
    TrustAnswered,
)
from aumai_transactions.core.outcome import attention_of, is_runnable, result_of, summary_of
from aumai_transactions.core.planning import plan
from aumai_transactions.core.saga import IllegalEntry, Saga
from aumai_transactions.errors import InvalidTransactionState

ONCE_MORE = {"idempotent": True}
RESTORED = RestoredFromBackup(9, 1_000_000, "ann", "the disk died")


@pytest.fixture
def half_done(play, make_step):
    """A transaction whose second step was running when the backup was made."""
    steps = [make_step(name, compensating_action="undo", **ONCE_MORE) for name in ("a", "b")]
    return play(*steps).commit().returned("a")


def said(tx, entry):
    evolve(tx.saga, entry)
    tx.entries.append(entry)
    return tx


def restored(tx):
    return said(tx, RESTORED)


def test_nothing_of_it_is_planned_and_a_person_is_asked(half_done):
    saga = restored(half_done).saga
    assert plan(saga, half_done.now) == ()
    assert not is_runnable(saga)
    assert attention_of(saga) == "restored"
    summary = summary_of(saga)
    assert (summary.attention, summary.runnable, summary.due_at) == ("restored", False, None)
    result = result_of(saga, durable=True)
    assert result.waiting.reason == "restored"
    assert "aumai-transactions recover --trust tx --note" in result.waiting.detail
    assert "aumai-transactions rollback tx" in result.waiting.detail
    assert result.warnings == [
        "restored by ann from a backup of 1970-01-01T00:00:01Z (the disk died)"
    ]
    assert not result.clean


def test_a_call_that_would_be_next_is_not_planned_before_a_person_says_so(play, make_step):
    tx = play(make_step("a"))
    for entry in (PlanRecorded(1, tx.definition), CommitRequested(2)):
        said(tx, entry)
    assert plan(tx.saga, tx.now) != ()
    restored(tx)
    assert plan(tx.saga, tx.now) == ()
    said(tx, TrustGiven(10, "ann"))
    assert plan(tx.saga, tx.now) != ()


@pytest.mark.parametrize(
    "wish",
    [
        DriverArrived("d2", takeover=True),
        DriverArrived("d2", takeover=True, resumes=True),
        CommitCalled(),
        RetryAsked("b"),
    ],
)
def test_nobody_acts_on_it_before_that(half_done, wish):
    saga = restored(half_done).saga
    with pytest.raises(InvalidTransactionState, match="recover --trust tx"):
        decide(saga, wish, half_done.now)


def test_a_claim_in_its_journal_without_a_persons_word_is_illegal(half_done):
    saga = restored(half_done).saga
    with pytest.raises(IllegalEntry):
        evolve(saga, Claimed(10, saga.token + 1, "d2", takeover=True))


def test_a_plan_that_waits_for_its_commit_is_held_back_too(play, make_step):
    tx = play(make_step("a"))
    restored(tx.see(PlanGiven(tx.definition)))
    with pytest.raises(InvalidTransactionState, match="restored from a backup"):
        decide(tx.saga, CommitCalled(), tx.now)
    said(tx, TrustGiven(10, "ann"))
    assert tx.commit().calls == ["action:a"]


def test_a_person_lets_it_go_on_and_it_does_with_the_same_key(half_done):
    tx = restored(half_done)
    (given,) = decide(tx.saga, TrustAnswered("ann", "the bank has nothing"), tx.now)
    assert given == TrustGiven(tx.now, "ann", "the bank has nothing")
    said(tx, given)
    assert attention_of(tx.saga) is None
    assert is_runnable(tx.saga)
    assert "ann let it go on after it was restored (the bank has nothing)" in tx.saga.warnings
    tx.see(DriverArrived("d2", takeover=True))
    assert tx.calls == ["action:b"]
    assert tx.returned("b").state == "committed"


def test_a_restore_is_not_counted_as_a_death(play, make_step):
    tx = restored(play(make_step("a", **ONCE_MORE), crashes_max=1).commit())
    said(tx, TrustGiven(10, "ann"))
    assert tx.see(DriverArrived("d2", takeover=True)).calls == ["action:a"]
    assert tx.saga.crashes == 0
    assert tx.see(DriverArrived("d3", takeover=True)).saga.crashes == 1


def test_a_person_lets_it_go_back(half_done):
    tx = restored(half_done)
    tx.see(RollbackCalled("ann", "start over"))
    tx.see(DriverArrived("d2", takeover=True))
    assert tx.saga.state.value == "compensating"


def test_what_a_person_knows_is_recorded_before_it_goes_on(play, make_step):
    tx = play(make_step("a", on_unknown="ask")).commit()
    tx.see(DriverArrived("d2", takeover=True))
    assert tx.result.waiting.reason == "in_doubt"
    restored(tx)
    assert tx.result.waiting.reason == "restored"
    tx.see(ResolutionAnswered("a", "happened", "ann", "seen in the bank"))
    assert tx.calls == []
    assert tx.result.waiting.reason == "restored"


@pytest.mark.parametrize("is_trusted", [False, True])
def test_what_was_never_restored_or_trusted_already_takes_no_trust(half_done, is_trusted):
    if is_trusted:
        restored(half_done)
        evolve(half_done.saga, TrustGiven(10, "ann"))
    with pytest.raises(InvalidTransactionState, match="cannot trust"):
        decide(half_done.saga, TrustAnswered("ann"), half_done.now)
    with pytest.raises(IllegalEntry):
        evolve(half_done.saga, TrustGiven(11, "ann"))


def test_a_second_restore_holds_it_back_again(half_done):
    saga = restored(half_done).saga
    evolve(saga, TrustGiven(10, "ann"))
    evolve(saga, RESTORED)
    assert not is_runnable(saga)


def test_an_empty_journal_was_not_restored():
    with pytest.raises(IllegalEntry):
        evolve(Saga("tx"), RESTORED)
