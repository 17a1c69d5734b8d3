"""`evolve` refuses every entry that cannot follow what came before."""

import pytest

from aumai_transactions.core.definition import Definition
from aumai_transactions.core.entries import (
    CallReturnedLate,
    Claimed,
    CommitRequested,
    CompensationFailed,
    CompensationStarted,
    CompensationSucceeded,
    ErrorRecord,
    PlanRecorded,
    ProbeAnswered,
    ProbeStarted,
    ResolutionGiven,
    RetryRequested,
    RetryScheduled,
    RollbackRevoked,
    RollbackStarted,
    StepFailed,
    StepInDoubt,
    StepOutstanding,
    StepStarted,
    StepSucceeded,
    TransactionActivated,
    TransactionCommitted,
    TransactionExpired,
    TransactionImported,
    TransactionRolledBack,
    VerificationAnswered,
    VerificationStarted,
)
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.planning import plan
from aumai_transactions.core.saga import IllegalEntry
from aumai_transactions.models import TransactionState

ERROR = ErrorRecord("T", "m")
DEFINITION = Definition(1, 60)


def started(name, attempt=1):
    return StepStarted(at=1, step_id=name, attempt=attempt)


def succeeded(name, attempt=1):
    return StepSucceeded(at=1, step_id=name, attempt=attempt)


def failed(name, attempt=1):
    return StepFailed(at=1, step_id=name, attempt=attempt, error=ERROR)


def doubted(name, attempt=1):
    return StepInDoubt(at=1, step_id=name, attempt=attempt, cause="unknown", error=ERROR)


def undoing(name, attempt=1):
    return CompensationStarted(at=1, step_id=name, attempt=attempt)


def undone(name):
    return CompensationSucceeded(at=1, step_id=name, attempt=1)


def not_undone(name):
    return CompensationFailed(at=1, step_id=name, attempt=1, error=ERROR)


def resolved(name, answer):
    return ResolutionGiven(at=1, step_id=name, answer=answer, by="me", note="n")


def scheduled(name, operation="action"):
    return RetryScheduled(at=1, step_id=name, operation=operation, attempt=2, due_at=9)


def asking(name, attempt=1):
    return ProbeStarted(at=1, step_id=name, attempt=attempt)


def asked(name, answer):
    return ProbeAnswered(at=1, step_id=name, attempt=1, answer=answer)


def looking(name, attempt=1):
    return VerificationStarted(at=1, step_id=name, attempt=attempt)


def looked(name, answer):
    return VerificationAnswered(at=1, step_id=name, attempt=1, answer=answer)


def revoked(name):
    return RollbackRevoked(at=1, step_id=name, attempt=1)


def late(name, attempt=1):
    return CallReturnedLate(1, name, "action", attempt, "succeeded")


BACK = RollbackStarted(at=1, reason="requested")
FAILED_BACK = RollbackStarted(at=1, reason="step_failed")
ACTIVE = TransactionActivated(at=1)
COMMITTED = TransactionCommitted(at=1)
ROLLED_BACK = TransactionRolledBack(at=1)
EXPIRED = TransactionExpired(at=1, error=ERROR)
RETRY_A = RetryRequested(at=1, step_id="a")

# What the journal says after the plan (a, then b, then c), and what cannot follow then.
ILLEGAL = [
    # A plan, a start and an end each have their time.
    ([ACTIVE], PlanRecorded(at=1, definition=DEFINITION)),
    ([ACTIVE], ACTIVE),
    ([ACTIVE], EXPIRED),
    ([], COMMITTED),
    ([], ROLLED_BACK),
    ([ACTIVE], ROLLED_BACK),
    ([EXPIRED], ACTIVE),
    ([EXPIRED], BACK),
    (
        [],
        TransactionImported(
            at=1, definition=DEFINITION, state=TransactionState.committed, source=""
        ),
    ),
    # I2: nothing is committed over a step that did not succeed.
    ([ACTIVE], COMMITTED),
    ([ACTIVE, started("a")], COMMITTED),
    ([ACTIVE, started("a"), doubted("a")], COMMITTED),
    ([ACTIVE, started("a"), succeeded("a"), started("b"), failed("b")], COMMITTED),
    ([ACTIVE, BACK], COMMITTED),
    # I4: no action intent where it is not active.
    ([], started("a")),
    ([ACTIVE, BACK], started("a")),
    ([ACTIVE, BACK, ROLLED_BACK], started("a")),
    ([EXPIRED], started("a")),
    # A step starts in its turn, once.
    ([ACTIVE], started("b")),
    ([ACTIVE], started("a", 2)),
    ([ACTIVE], started("a", 0)),
    ([ACTIVE, started("a")], started("a", 2)),
    ([ACTIVE, started("a")], started("b")),
    ([ACTIVE, started("a"), succeeded("a")], started("a", 2)),
    ([ACTIVE, started("a"), failed("a")], started("a", 2)),
    ([ACTIVE], started("zzz")),
    # I5: an unknown outcome runs again only where that is safe.
    ([ACTIVE, started("a"), doubted("a")], started("a", 2)),
    # An outcome belongs to a call that is under way.
    ([ACTIVE], succeeded("a")),
    ([ACTIVE], failed("a")),
    ([ACTIVE], doubted("a")),
    ([ACTIVE, started("a"), succeeded("a")], succeeded("a")),
    ([ACTIVE, started("a"), succeeded("a")], failed("a")),
    ([ACTIVE, started("a"), succeeded("a")], doubted("a")),
    ([ACTIVE, started("a"), doubted("a")], succeeded("a")),
    ([ACTIVE, started("a")], failed("a", 0)),
    ([ACTIVE], failed("b", 0)),
    ([ACTIVE, started("a"), succeeded("a")], failed("a", 0)),
    # Going back: once, and only while nothing runs.
    ([ACTIVE, started("a")], BACK),
    ([ACTIVE, BACK], BACK),
    ([ACTIVE, BACK, ROLLED_BACK], BACK),
    # I3 and the rest of undoing.
    ([ACTIVE, started("a"), succeeded("a")], undoing("a")),
    ([ACTIVE, BACK], undoing("a")),
    ([ACTIVE, started("a"), failed("a"), BACK], undoing("a")),
    ([ACTIVE, started("a"), succeeded("a"), BACK], undoing("a", 2)),
    ([ACTIVE, started("a"), succeeded("a"), BACK, undoing("a")], undoing("a", 2)),
    ([ACTIVE, started("a"), succeeded("a"), BACK, undoing("a"), undone("a")], undoing("a", 2)),
    (
        [ACTIVE, started("a"), succeeded("a"), started("b"), succeeded("b"), BACK],
        undoing("a"),
    ),
    ([ACTIVE, started("a"), succeeded("a"), BACK], undone("a")),
    ([ACTIVE, started("a"), succeeded("a"), BACK], not_undone("a")),
    (
        [ACTIVE, started("a"), succeeded("a"), BACK],
        CompensationFailed(at=1, step_id="a", attempt=1, error=ERROR, will_retry=True),
    ),
    ([ACTIVE, BACK], StepOutstanding(at=1, step_id="a", reason="failed")),
    # I2: nothing is rolled back while something is still to be undone.
    ([ACTIVE, started("a"), succeeded("a"), BACK], ROLLED_BACK),
    ([ACTIVE, started("a"), succeeded("a"), BACK, undoing("a")], ROLLED_BACK),
    ([BACK], ROLLED_BACK),
    # Requests name something that is there.
    ([ACTIVE], RETRY_A),
    ([ACTIVE, started("a"), succeeded("a")], RETRY_A),
    ([ACTIVE], resolved("a", "happened")),
    ([ACTIVE, started("a"), succeeded("a")], resolved("a", "did_not_happen")),
    ([ACTIVE, started("a"), doubted("a")], resolved("a", "undone")),
    (
        [ACTIVE, started("a"), succeeded("a"), BACK, undoing("a"), not_undone("a")],
        resolved("a", "happened"),
    ),
    ([ACTIVE], resolved("zzz", "undone")),
    # A wait belongs to what does not run.
    ([ACTIVE, started("a")], scheduled("a")),
    ([ACTIVE, started("a"), succeeded("a"), BACK, undoing("a")], scheduled("a", "compensation")),
    ([ACTIVE, started("a"), doubted("a"), asking("a")], scheduled("a", "probe")),
    # I13: a probe is asked about what is in doubt, once at a time, and answers what was asked.
    ([ACTIVE], asking("a")),
    ([ACTIVE, started("a")], asking("a")),
    ([ACTIVE, started("a"), succeeded("a")], asking("a")),
    ([ACTIVE, started("a"), doubted("a")], asking("a", 2)),
    ([ACTIVE, started("a"), doubted("a"), asking("a")], asking("a", 2)),
    ([ACTIVE, started("a"), doubted("a")], asked("a", "done")),
    (
        [ACTIVE, started("a"), doubted("a"), asking("a"), asked("a", "unknown")],
        asked("a", "done"),
    ),
    # What is verified has been undone, and is not undone again meanwhile.
    ([ACTIVE, started("a"), succeeded("a")], looking("a")),
    ([ACTIVE, started("a"), succeeded("a"), BACK, undoing("a")], looking("a")),
    ([ACTIVE, started("a"), succeeded("a"), BACK, undoing("a"), undone("a")], looking("a")),
    ([ACTIVE, started("a"), succeeded("a"), BACK, undoing("a")], looked("a", "clean")),
    # D3: only an undo revokes, and only a rollback that nobody asked for.
    ([ACTIVE, started("a"), succeeded("a")], revoked("a")),
    ([ACTIVE, started("a"), succeeded("a"), BACK, undoing("a")], revoked("a")),
    ([ACTIVE, started("a"), succeeded("a"), FAILED_BACK], revoked("a")),
    # A call that was never made does not return.
    ([ACTIVE], late("zzz")),
    ([ACTIVE], late("a", 0)),
    # I6: tokens follow each other.
    ([], Claimed(at=1, token=0, driver_id="d")),
    ([], Claimed(at=1, token=2, driver_id="d")),
    ([Claimed(at=1, token=1, driver_id="d")], Claimed(at=1, token=1, driver_id="d")),
]


@pytest.fixture
def saga(play, make_step):
    return play(make_step("a"), make_step("b"), make_step("c"))


def begin(tx):
    evolve(tx.saga, PlanRecorded(at=1, definition=tx.definition))
    evolve(tx.saga, CommitRequested(at=1))
    return tx.saga


@pytest.mark.parametrize("before,illegal", ILLEGAL, ids=str)
def test_an_entry_that_cannot_follow_is_refused(saga, before, illegal):
    told = begin(saga)
    for entry in before:
        evolve(told, entry)
    with pytest.raises(IllegalEntry):
        evolve(told, illegal)


def test_under_halt_what_the_failed_undo_depends_on_cannot_be_undone(play, make_step):
    tx = play(make_step("a"), make_step("b"), on_compensation_failure="halt")
    told = begin(tx)
    for entry in (ACTIVE, started("a"), succeeded("a"), started("b"), succeeded("b"), BACK):
        evolve(told, entry)
    evolve(told, undoing("b"))
    evolve(told, not_undone("b"))
    for illegal in (undoing("a"), ROLLED_BACK):
        with pytest.raises(IllegalEntry):
            evolve(told, illegal)


ASKED = {"has_probe": True, "has_verify": True}


@pytest.mark.parametrize(
    "before,illegal",
    [
        ([], started("a", 2)),
        ([asking("a")], started("a", 2)),
        ([BACK], undoing("a")),
        ([BACK, asking("a")], undoing("a")),
        ([asking("a"), BACK], undoing("a")),
        ([asking("a"), asked("a", "done"), BACK, undoing("a"), undone("a")], undoing("a", 2)),
        ([asking("a"), asked("a", "done"), BACK, undoing("a"), undone("a")], looking("a", 2)),
        ([asking("a"), asked("a", "done"), BACK, undoing("a"), undone("a")], ROLLED_BACK),
        (
            [asking("a"), asked("a", "done"), BACK, undoing("a"), undone("a"), looking("a")],
            looking("a", 2),
        ),
    ],
    ids=str,
)
def test_what_can_be_asked_about_is_asked_before_it_runs_again_or_is_undone_or_done_with(
    play, make_step, before, illegal
):
    told = begin(play(make_step("a", ASKED, idempotent=True)))
    for entry in (ACTIVE, started("a"), doubted("a"), *before):
        evolve(told, entry)
    with pytest.raises(IllegalEntry):
        evolve(told, illegal)


def test_an_idempotent_step_in_doubt_may_run_again(play, make_step):
    told = begin(play(make_step("a", idempotent=True)))
    for entry in (
        ACTIVE,
        started("a"),
        doubted("a"),
        started("a", 2),
        succeeded("a", 2),
        COMMITTED,
    ):
        evolve(told, entry)
    assert told.state is TransactionState.committed


@pytest.mark.parametrize("state", ["pending", "active", "compensating", "committing"])
def test_only_a_finished_transaction_can_be_imported(play, state):
    entry = TransactionImported(
        at=1, definition=DEFINITION, state=TransactionState(state), source="x"
    )
    with pytest.raises(IllegalEntry):
        evolve(play().saga, entry)


def test_an_imported_transaction_says_so_and_has_nothing_to_do(play, make_step):
    tx = play(make_step("a"))
    entry = TransactionImported(
        at=1, definition=tx.definition, state=TransactionState.rolled_back, source="old.json"
    )
    evolve(tx.saga, entry)
    assert plan(tx.saga, tx.now) == ()
    assert "old.json" in tx.result.warnings[0]


def test_a_plan_may_be_replaced_while_it_is_pending(play, make_step):
    tx = play(make_step("a"))
    told = begin(tx)
    evolve(told, PlanRecorded(at=2, definition=DEFINITION))
    assert told.steps == []
    assert told.ready == []


def test_each_entry_moves_the_sequence_and_the_time(play):
    told = begin(play())
    evolve(told, TransactionActivated(at=77))
    assert (told.sequence, told.updated_at) == (3, 77)
