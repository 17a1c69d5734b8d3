"""A person is asked to allow a step, and answers."""
# mypy: disable-error-code="union-attr"

import pytest

from aumai_transactions.core.approvals import DIGEST_CHARACTERS, digest_of
from aumai_transactions.core.definition import Reference, StepDefinition
from aumai_transactions.core.entries import (
    ApprovalDenied,
    ApprovalGiven,
    ApprovalRequested,
    StepStarted,
)
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.saga import IllegalEntry
from aumai_transactions.errors import CommitPointPassed, InvalidTransactionState, UnknownStep

STEP = StepDefinition("s1", "agent", "pay", {"amount": 1}, "refund")


@pytest.fixture
def asked(play, make_step):
    """a waits for an approval; b comes behind it."""
    return play(make_step("a", requires_approval=True), make_step("b")).commit()


# -------------------------------------------------------------------------------------- the digest


@pytest.mark.parametrize(
    "changes",
    [
        {"step_id": "s2"},
        {"agent_id": "other"},
        {"action": "give"},
        {"compensating_action": None},
        {"data": {"amount": 2}},
        {"data": {"amount": 1.0}},
        {"data": {"amount": True}},
    ],
    ids=str,
)
def test_a_digest_is_of_exactly_what_is_to_be_allowed(changes):
    other = STEP._replace(**changes)
    assert digest_of(other, other.data) != digest_of(STEP, STEP.data)


def test_a_digest_does_not_depend_on_the_order_of_keys_or_on_anything_else():
    one, other = {"a": 1, "b": 2}, {"b": 2, "a": 1}
    assert digest_of(STEP, one) == digest_of(STEP._replace(idempotent=True), other)
    assert len(digest_of(STEP, one)) == DIGEST_CHARACTERS


def test_a_digest_never_changes():
    assert digest_of(STEP, STEP.data) == "930970fcba2992613cb5f4c210965cb0"


# --------------------------------------------------------------------------------------- asking


def test_a_step_is_asked_about_in_its_turn_and_the_transaction_parks(asked):
    assert asked.recorded[-2:] == ["transaction_activated", "approval_requested:a"]
    assert (asked.calls, asked.outcome()) == ([], ("approval", False, None))
    waiting = asked.result.waiting
    assert (waiting.reason, waiting.step_ids, waiting.until) == ("approval", ["a"], None)
    assert "aumai-transactions approve tx a | deny tx a" in waiting.detail
    assert asked.wait(10**6).recorded == []


def test_an_allowed_step_has_its_turn(asked):
    asked.approve("a", note="fine")
    assert asked.recorded == ["approval_given:a", "step_started:a"]
    assert asked.result.warnings == ["ann allowed step a (fine)"]
    assert asked.returned("a").returned("b").state == "committed"


def test_a_denied_step_sends_the_transaction_back(play, make_step):
    tx = play(make_step("x"), make_step("a", requires_approval=True)).commit().returned("x")
    tx.deny("a", note="too dear")
    assert tx.recorded == ["approval_denied:a", "rollback_started:a", "compensation_started:x"]
    tx.returned("x")
    assert (tx.result.reason, tx.result.failed_step) == ("denied", "a")
    assert tx.result.error == "ApprovalDenied: ann denied step a (too dear)"
    assert tx.states == {"x": "compensated", "a": "skipped"}


def test_what_nobody_allows_in_time_counts_as_denied(play, make_step):
    step = make_step("a", requires_approval=True, approval_timeout_seconds=30)
    tx = play(step).commit()
    assert (tx.wakes_after, tx.outcome()) == (30, ("approval", True, 30))
    assert "until 2026-02-27T12:00:30Z" in tx.result.waiting.detail
    assert tx.wait(29.9).recorded == []
    assert tx.wait(0.1).recorded == [
        "approval_denied:a",
        "rollback_started:a",
        "transaction_rolled_back",
    ]
    assert "nobody answered in time" in tx.result.error
    assert "it waited for 30 s" in tx.result.error


def test_two_approvals_wait_for_the_earlier_time_limit(play, make_step):
    options = {"after": (), "requires_approval": True}
    one = make_step("a", approval_timeout_seconds=30, **options)
    other = make_step("b", approval_timeout_seconds=20, **options)
    tx = play(one, other, make_step("c", **options), parallel_max=4).commit()
    assert (tx.wakes_after, tx.result.waiting.step_ids) == (20, ["a", "b", "c"])


def test_a_step_that_waits_blocks_nothing_that_does_not_depend_on_it(play, make_step):
    a = make_step("a", after=(), requires_approval=True)
    tx = play(a, make_step("b", after=()), make_step("c", after=("b",))).commit()
    assert tx.calls == ["action:b"]
    assert tx.returned("b").calls == ["action:c"]
    tx.returned("c")
    assert tx.result.waiting.reason == "approval"
    tx.approve("a").returned("a")
    assert tx.state == "committed"


def test_what_is_shown_and_allowed_has_its_references_filled_in(play, make_step):
    b = make_step(
        "b",
        requires_approval=True,
        references=(Reference(("id",), "a", "/id"),),
        data={"id": None},
    )
    tx = play(make_step("a"), b).commit().returned("a", {"id": 7})
    asked = tx.entries[-1]
    assert asked.data == {"id": 7}
    assert asked.digest == digest_of(b, {"id": 7})
    tx.approve("b")
    assert tx.saga.step("b").data == {"id": 7}


def test_an_approval_holds_for_the_next_attempt_as_well(play, make_step, steady):
    tx = play(make_step("a", {"retry": steady}, requires_approval=True)).commit().approve("a")
    assert tx.raised("a").wake().calls == ["action:a"]


def test_a_step_in_doubt_that_was_allowed_is_not_asked_about_again(play, make_step):
    tx = play(make_step("a", requires_approval=True, idempotent=True)).commit().approve("a")
    assert tx.raised("a", "in_doubt").calls == ["action:a"]


def test_an_approval_survives_a_crash(asked):
    assert asked.crash(1).outcome() == ("approval", False, None)
    assert asked.approve("a").calls == ["action:a"]


def test_a_rollback_ends_the_wait(asked):
    assert asked.rollback().state == "rolled_back"
    with pytest.raises(InvalidTransactionState, match="waits for no approval"):
        asked.approve("a")


# ---------------------------------------------------------------------------------- interactive


def test_a_program_goes_on_without_a_step_that_waits(program):
    tx = program().ask("a", requires_approval=True)
    assert tx.recorded[-1] == "approval_requested:a"
    assert tx.ask("b").calls == ["action:b"]
    tx.returned("b")
    assert tx.outcome() == ("approval", True, None)
    assert tx.commit().state == "active"
    tx.approve("a")
    assert tx.calls == ["action:a"]
    assert tx.returned("a").state == "committed"


def test_a_denial_takes_an_interactive_transaction_back(program):
    tx = program().did("x").ask("a", requires_approval=True).deny("a")
    assert tx.calls == ["compensation:x"]
    assert tx.returned("x").result.reason == "denied"


def test_a_denial_waits_for_what_runs(program):
    tx = program().ask("x").ask("a", requires_approval=True).deny("a")
    assert (tx.state, tx.calls) == ("active", [])
    assert tx.returned("x").calls == ["compensation:x"]


def test_a_time_limit_denies_in_an_interactive_transaction_too(program):
    tx = program().ask("a", requires_approval=True, approval_timeout_seconds=5).wait(5)
    assert (tx.state, tx.result.reason) == ("rolled_back", "denied")


# ---------------------------------------------------------------------------------- what cannot be


def test_an_answer_that_was_given_to_something_else_is_refused(asked):
    with pytest.raises(InvalidTransactionState, match="has the digest other"):
        asked.approve("a", digest="other")
    right = asked.entries[-1].digest
    assert asked.approve("a", digest=right).calls == ["action:a"]


@pytest.mark.parametrize("answer", ["approve", "deny"])
def test_an_answer_to_what_was_not_asked_is_refused(asked, answer):
    with pytest.raises(InvalidTransactionState, match="waits for no approval"):
        getattr(asked, answer)("b")
    with pytest.raises(UnknownStep, match="zzz"):
        getattr(asked, answer)("zzz")


@pytest.mark.parametrize("answer", ["approve", "deny"])
def test_no_answer_is_heard_behind_the_commit_point(program, answer):
    tx = program().did("a").ask("h", on_commit=True).commit()
    assert tx.state == "committing"
    with pytest.raises(CommitPointPassed):
        getattr(tx, answer)("a")


@pytest.mark.parametrize(
    "entry",
    [
        ApprovalRequested(1, "a", "d"),
        ApprovalRequested(1, "b", "d"),
        ApprovalRequested(1, "zzz", "d"),
        ApprovalGiven(1, "b", "d", "ann"),
        ApprovalGiven(1, "a", "another", "ann"),
        ApprovalGiven(1, "zzz", "d", "ann"),
        ApprovalDenied(1, "b", "ann"),
        ApprovalDenied(1, "zzz", "ann"),
    ],
    ids=str,
)
def test_an_entry_about_an_approval_that_does_not_fit_is_refused(asked, entry):
    with pytest.raises(IllegalEntry):
        evolve(asked.saga, entry)


def test_an_approval_is_not_asked_for_where_none_is_needed(play, make_step):
    tx = play(make_step("a"), make_step("b")).commit().returned("a")
    with pytest.raises(IllegalEntry):
        evolve(tx.saga, ApprovalRequested(1, "b", "d"))


def test_an_approval_is_given_once(asked):
    digest = asked.entries[-1].digest
    asked.approve("a")
    for entry in (ApprovalGiven(1, "a", digest, "ann"), ApprovalDenied(1, "a", "ann")):
        with pytest.raises(IllegalEntry, match="nobody was asked"):
            evolve(asked.saga, entry)


def test_no_step_starts_that_needs_an_approval_and_has_none(play, make_step):
    tx = play(make_step("a", requires_approval=True)).commit()
    with pytest.raises(IllegalEntry, match="nobody has allowed"):
        evolve(tx.saga, StepStarted(1, "a", 1))
