"""`evolve` refuses what cannot be around the commit point (invariants I2 and I8)."""

import pytest

from aumai_transactions.core.entries import (
    CommitDecided,
    CommitRequested,
    ConfirmationFailed,
    ConfirmationStarted,
    ConfirmationSucceeded,
    ErrorRecord,
    PlanRecorded,
    RereadAnswered,
    ResolutionGiven,
    RetryRequested,
    RollbackStarted,
    StepAdded,
    StepFailed,
    StepInDoubt,
    StepStarted,
    StepSucceeded,
    TransactionActivated,
    TransactionCommitted,
)
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.saga import IllegalEntry

ERROR = ErrorRecord("T", "m")
ACTIVE = TransactionActivated(1)
DECIDED = CommitDecided(1)
COMMITTED = TransactionCommitted(1)
BACK = RollbackStarted(1, "requested")


def started(name, attempt=1):
    return StepStarted(1, name, attempt)


def succeeded(name):
    return StepSucceeded(1, name, 1)


def failed(name, attempt=1, **options):
    return StepFailed(1, name, attempt, ERROR, **options)


def doubted(name):
    return StepInDoubt(1, name, 1, "unknown", ERROR)


def confirming(name, attempt=1):
    return ConfirmationStarted(1, name, attempt)


def confirmed(name):
    return ConfirmationSucceeded(1, name, 1)


def not_confirmed(name):
    return ConfirmationFailed(1, name, 1, ERROR)


def resolved(name, answer):
    return ResolutionGiven(1, name, answer, "me", "n")


DID_A = [ACTIVE, started("a"), succeeded("a")]
DID = [*DID_A, started("b"), succeeded("b")]
GONE = [*DID, DECIDED]
CONFIRMED = [*GONE, confirming("a"), confirmed("a"), confirming("b"), confirmed("b")]

# What the journal says after the plan (a, b, both confirmed; then h and i, held), and what cannot
# follow then.
ILLEGAL = [
    # The decision has its time: once, when every step has ended well, while it is active.
    ([], DECIDED),
    ([ACTIVE], DECIDED),
    (DID_A, DECIDED),
    ([*DID_A, started("b")], DECIDED),
    ([*DID_A, started("b"), failed("b")], DECIDED),
    ([*DID_A, started("b"), doubted("b")], DECIDED),
    ([*DID, BACK], DECIDED),
    (GONE, DECIDED),
    # Nothing goes back behind it.
    (GONE, BACK),
    (CONFIRMED, BACK),
    # Nothing that waits for it comes before it.
    ([ACTIVE], started("h")),
    (DID, started("h")),
    (DID, confirming("a")),
    ([*DID, BACK], started("h")),
    # Confirmations come one by one in the order of the steps.
    (GONE, confirming("b")),
    (GONE, confirming("h")),
    (GONE, confirming("a", 2)),
    (GONE, confirming("zzz")),
    (GONE, confirmed("a")),
    (GONE, not_confirmed("a")),
    ([*GONE, confirming("a")], confirming("a", 2)),
    ([*GONE, confirming("a"), confirmed("a")], confirming("a", 2)),
    ([*GONE, confirming("a"), confirmed("a")], confirmed("a")),
    # Then what is held, one by one, in order, and nothing else.
    (GONE, started("h")),
    (CONFIRMED, started("i")),
    (CONFIRMED, started("a", 2)),
    (CONFIRMED, started("h", 2)),
    ([*CONFIRMED, started("h")], started("i")),
    ([*CONFIRMED, started("h")], started("h", 2)),
    ([*CONFIRMED, started("h"), failed("h")], started("h", 2)),
    ([*CONFIRMED, started("h"), failed("h")], started("i")),
    ([*CONFIRMED, started("h"), doubted("h")], started("h", 2)),
    ([*CONFIRMED, started("h"), succeeded("h")], started("h", 2)),
    # The end comes when all of it is done.
    (DID, COMMITTED),
    (GONE, COMMITTED),
    (CONFIRMED, COMMITTED),
    ([*CONFIRMED, started("h")], COMMITTED),
    ([*CONFIRMED, started("h"), failed("h")], COMMITTED),
    ([*CONFIRMED, started("h"), doubted("h")], COMMITTED),
    # A person answers what is stuck, and nothing else.
    (GONE, resolved("a", "happened")),
    (GONE, resolved("h", "left_in_place")),
    (GONE, RetryRequested(1, "a")),
    (GONE, RetryRequested(1, "h")),
    ([*GONE, confirming("a"), not_confirmed("a")], RetryRequested(1, "b")),
    ([*GONE, confirming("a"), not_confirmed("a")], resolved("h", "happened")),
    # Something is read again before it, and not behind it.
    (GONE, RereadAnswered(1, "a", holds=True)),
    ([], RereadAnswered(1, "a", holds=True)),
    (DID, RereadAnswered(1, "zzz", holds=True)),
]


@pytest.fixture
def saga(play, make_step):
    steps = [make_step(name, confirming_action=f"confirm_{name}") for name in "ab"]
    steps += [make_step(name, on_commit=True) for name in "hi"]
    saga = play(*steps).saga
    evolve(saga, PlanRecorded(1, play(*steps).definition))
    evolve(saga, CommitRequested(1))
    return saga


@pytest.mark.parametrize("before,illegal", ILLEGAL, ids=str)
def test_an_entry_that_cannot_follow_is_refused(saga, before, illegal):
    for entry in before:
        evolve(saga, entry)
    with pytest.raises(IllegalEntry):
        evolve(saga, illegal)


def test_the_whole_way_is_heard(saga):
    for entry in [
        *CONFIRMED,
        started("h"),
        failed("h"),
        RetryRequested(1, "h"),
        started("h", 2),
        StepSucceeded(1, "h", 2),
        started("i"),
        failed("i", will_retry=True),
        started("i", 2),
        failed("i", 2),
        resolved("i", "left_in_place"),
        COMMITTED,
    ]:
        evolve(saga, entry)
    assert saga.state.value == "committed"


def test_nobody_decides_a_commit_that_nobody_asked_for(play, make_step):
    tx = play(make_step("a"))
    for entry in (PlanRecorded(1, tx.definition), *DID_A):
        evolve(tx.saga, entry)
    for entry in (DECIDED, COMMITTED):
        with pytest.raises(IllegalEntry, match="nobody asked"):
            evolve(tx.saga, entry)


def test_a_pivot_asks_for_it_by_its_success(program):
    tx = program().ask("p", pivot=True, compensating_action=None)
    with pytest.raises(IllegalEntry):
        evolve(tx.saga, DECIDED)
    evolve(tx.saga, succeeded("p"))
    evolve(tx.saga, DECIDED)


def test_a_decision_is_not_heard_over_an_undo_of_a_part(program):
    tx = program().did("a").did("b").undo("a").commit()
    for entry in (DECIDED, COMMITTED):
        with pytest.raises(IllegalEntry):
            evolve(tx.saga, entry)


def test_a_decision_closes_every_undo_window(play, make_step):
    tx = play(make_step("a", undo_within_seconds=60), make_step("h", on_commit=True)).commit()
    tx.returned("a")
    assert (tx.state, tx.saga.windows, tx.saga.closing) == ("committing", {}, {})


def test_there_is_one_pivot(program, make_step):
    tx = program().ask("p", pivot=True, requires_approval=True, compensating_action=None)
    with pytest.raises(IllegalEntry, match="pivot"):
        evolve(tx.saga, StepAdded(1, make_step("q", after=(), pivot=True)))
