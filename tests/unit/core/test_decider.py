"""The plain ways, the life of a transaction, recovery, and what cannot be asked for."""
# mypy: disable-error-code="union-attr"

import pytest

from aumai_transactions.core.decider import advance, decide
from aumai_transactions.core.entries import RollbackStarted
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.observations import (
    CommitCalled,
    DriverArrived,
    HandlerReturned,
    PlanGiven,
    ResolutionAnswered,
    RetryAsked,
    RollbackCalled,
)
from aumai_transactions.core.outcome import next_agent
from aumai_transactions.core.planning import plan
from aumai_transactions.errors import InvalidTransactionState, UnknownStep

START = ["plan_recorded", "commit_requested", "claimed", "transaction_activated"]


# --------------------------------------------------------------------------------- the plain ways


def test_a_commit_records_the_plan_the_claim_and_the_first_intent_in_one_append(play, make_step):
    tx = play(make_step("a"), make_step("b")).commit()
    assert tx.recorded == [*START, "step_started:a"]
    assert tx.calls == ["action:a"]


def test_a_result_and_the_next_intent_travel_in_one_append(play, make_step):
    tx = play(make_step("a"), make_step("b")).commit().returned("a")
    assert tx.recorded == ["step_succeeded:a", "step_started:b"]


def test_the_last_result_and_the_commit_travel_in_one_append(play, make_step):
    tx = play(make_step("a")).commit().returned("a")
    assert tx.recorded == ["step_succeeded:a", "transaction_committed"]
    assert tx.calls == []


def test_a_transaction_without_steps_is_committed_at_once(play):
    tx = play().commit()
    assert tx.recorded == [*START, "transaction_committed"]


def test_a_failure_goes_back_through_the_completed_steps_in_reverse(play, make_step):
    tx = play(make_step("a"), make_step("b"), make_step("c")).commit()
    tx.returned("a").returned("b").raised("c")
    assert tx.recorded == ["step_failed:c", "rollback_started:c", "compensation_started:b"]
    assert tx.returned("b").calls == ["compensation:a"]
    assert tx.returned("a").recorded == ["compensation_succeeded:a", "transaction_rolled_back"]
    assert tx.result.compensated_steps == ["b", "a"]


def test_nothing_is_planned_for_a_pending_transaction_that_nobody_asked_to_carry_out(play):
    tx = play().see(PlanGiven(play().definition))
    assert tx.recorded == ["plan_recorded"]
    assert tx.state == "pending"


def test_the_same_plan_twice_is_recorded_once(play, make_step):
    tx = play(make_step("a"))
    tx.see(PlanGiven(tx.definition))
    assert tx.see(PlanGiven(tx.definition)).recorded == []


# --------------------------------------------------------------------------- D1 and D5: lifecycle


def test_the_start_deadline_is_checked_when_the_commit_begins_and_never_again(play, make_step):
    tx = play(make_step("a"), make_step("b"))
    tx.now += 60_000_000
    tx.commit()
    tx.now += 1_000_000_000
    assert tx.returned("a").calls == ["action:b"]
    late = play(make_step("a"))
    late.now += 60_000_001
    late.commit()
    assert late.recorded[-1] == "transaction_expired"
    assert (late.state, late.calls, late.result.reason) == ("failed", [], "deadline")
    assert late.states == {"a": "skipped"}


def test_the_transaction_deadline_refuses_to_start_a_later_step_and_goes_back(play, make_step):
    tx = play(make_step("a"), make_step("b"), timeout_scope="transaction").commit()
    tx.now += 60_000_001
    tx.returned("a")
    assert tx.recorded == ["step_succeeded:a", "rollback_started", "compensation_started:a"]
    assert tx.returned("a").result.reason == "deadline"
    assert "DeadlineExceeded" in tx.result.error


def test_no_deadline_is_checked_once_every_step_has_succeeded(play, make_step):
    tx = play(make_step("a"), timeout_scope="transaction").commit()
    tx.now += 60_000_001
    assert tx.returned("a").state == "committed"


def test_a_pending_rollback_undoes_every_declared_compensation_in_reverse(play, make_step):
    tx = play(make_step("a"), make_step("b", compensating_action=None), make_step("c"))
    tx.rollback_pending()
    assert tx.calls == ["compensation:c"]
    assert tx.returned("c").calls == ["compensation:a"]
    tx.returned("a")
    assert (tx.state, tx.result.completed_steps, tx.saga.ran) == ("rolled_back", [], False)


def test_a_pending_rollback_heeds_no_deadline(play, make_step):
    tx = play(make_step("a"))
    tx.now += 3_600_000_000
    assert tx.rollback_pending().calls == ["compensation:a"]


def test_a_rollback_of_an_active_transaction_waits_for_the_running_step(play, make_step):
    tx = play(make_step("a"), make_step("b")).commit()
    tx.see(RollbackCalled())
    assert (tx.recorded, tx.calls) == (["rollback_requested"], [])
    tx.see(HandlerReturned("a", "action"))
    assert tx.recorded == ["step_succeeded:a", "rollback_started", "compensation_started:a"]
    assert tx.returned("a").result.reason == "requested"


def test_a_rollback_of_an_active_transaction_undoes_only_what_may_have_had_an_effect(
    play, make_step
):
    tx = play(make_step("a"), make_step("b"), make_step("c")).commit().returned("a")
    tx.see(RollbackCalled())
    tx.see(HandlerReturned("b", "action"))
    undone = [*tx.calls, *tx.returned("b").calls, *tx.returned("a").calls]
    assert undone == ["compensation:b", "compensation:a"]


def test_a_second_request_to_roll_back_is_not_recorded(play, make_step):
    tx = play(make_step("a")).commit().rollback()
    assert tx.rollback().recorded == []


# ------------------------------------------------------------------------------------ E: recovery


def test_a_takeover_within_the_deadline_goes_forward(play, make_step):
    tx = play(make_step("a", idempotent=True), make_step("b")).commit().crash()
    assert tx.recorded == ["claimed", "step_in_doubt:a", "step_started:a"]
    assert tx.returned("a").returned("b").state == "committed"


def test_a_takeover_of_a_running_step_that_is_not_idempotent_goes_back(play, make_step):
    tx = play(make_step("a"), make_step("b")).commit().returned("a").crash()
    assert tx.recorded == [
        "claimed",
        "step_in_doubt:b",
        "rollback_started:b",
        "compensation_started:b",
    ]
    assert tx.entries[-1].in_doubt
    assert tx.returned("b").returned("a").result.reason == "in_doubt"


def test_a_takeover_of_a_running_step_that_asks_waits(play, make_step):
    tx = play(make_step("a", on_unknown="ask")).commit().crash()
    assert tx.recorded == ["claimed", "step_in_doubt:a"]
    assert tx.result.waiting.reason == "in_doubt"


@pytest.mark.parametrize(
    "on_crash,late,reason",
    [
        (None, False, None),
        (None, True, "deadline"),
        ("resume", False, None),
        ("resume", True, None),
        ("roll_back", False, "crash"),
        ("roll_back", True, "crash"),
    ],
)
def test_the_crash_policy_decides_which_way_recovery_goes(play, make_step, on_crash, late, reason):
    tx = play(make_step("a", idempotent=True), make_step("b"), on_crash=on_crash).commit()
    tx.crash(after_seconds=61 if late else 1)
    if reason is None:
        assert tx.calls == ["action:a"]
        assert tx.returned("a").returned("b").state == "committed"
    else:
        assert tx.calls == ["compensation:a"]
        assert tx.returned("a").result.reason == reason


def test_a_takeover_past_the_deadline_goes_back_from_a_later_step_as_well(play, make_step):
    tx = play(make_step("a"), make_step("b")).commit().returned("a")
    tx.crash(after_seconds=61)
    assert tx.calls == ["compensation:b"]


def test_a_takeover_in_an_undo_tries_the_undo_again_with_the_next_attempt(play, make_step):
    tx = play(make_step("a"), make_step("b")).commit().returned("a").raised("b").crash()
    assert tx.recorded == ["claimed", "compensation_started:a"]
    assert tx.entries[-1].attempt == 2
    assert tx.returned("a").state == "rolled_back"


def test_a_takeover_of_a_pending_rollback_goes_on_with_it(play, make_step):
    tx = play(make_step("a"), make_step("b")).rollback_pending().returned("b").crash()
    assert tx.calls == ["compensation:a"]


# ------------------------------------------------------------------------------------ wrong calls


def test_a_second_commit_is_refused(play, make_step):
    tx = play(make_step("a")).commit()
    with pytest.raises(InvalidTransactionState, match="active"):
        decide(tx.saga, CommitCalled(), tx.now)


def test_a_commit_behind_a_recorded_wish_to_commit_is_refused(play):
    tx = play()
    tx.see(PlanGiven(tx.definition))
    saga = tx.saga
    saga.commit_requested = True
    with pytest.raises(InvalidTransactionState):
        decide(saga, CommitCalled(), tx.now)


def test_a_rollback_of_a_finished_transaction_is_refused(play):
    tx = play().commit()
    with pytest.raises(InvalidTransactionState, match="begin a new transaction"):
        decide(tx.saga, RollbackCalled(), tx.now)


@pytest.mark.parametrize(
    "call", [RetryAsked("nobody"), ResolutionAnswered("nobody", "undone", "", "")]
)
def test_a_step_that_does_not_exist_is_named(play, call):
    tx = play().commit()
    with pytest.raises(UnknownStep, match="'nobody'"):
        decide(tx.saga, call, tx.now)


def test_a_step_that_is_neither_in_doubt_nor_outstanding_cannot_be_retried(play, make_step):
    tx = play(make_step("a")).commit().returned("a")
    with pytest.raises(InvalidTransactionState, match="succeeded"):
        decide(tx.saga, RetryAsked("a"), tx.now)


def test_an_effect_that_nothing_undoes_cannot_be_retried(play, make_step):
    tx = play(make_step("a", compensating_action=None, on_unknown="compensate")).commit()
    tx.raised("a", "in_doubt")
    with pytest.raises(InvalidTransactionState, match="resolve it as undone or left in place"):
        decide(tx.saga, RetryAsked("a"), tx.now)


@pytest.mark.parametrize("answer", ["undone", "left_in_place"])
def test_the_wrong_answer_about_a_doubtful_step_names_the_right_pair(play, make_step, answer):
    tx = play(make_step("a", on_unknown="ask")).commit().raised("a", "in_doubt")
    with pytest.raises(InvalidTransactionState, match="happened or did-not-happen"):
        decide(tx.saga, ResolutionAnswered("a", answer, "me", "note"), tx.now)


@pytest.mark.parametrize("answer", ["happened", "did_not_happen"])
def test_the_wrong_answer_about_an_outstanding_undo_names_the_right_pair(play, make_step, answer):
    tx = play(make_step("a"), make_step("b")).commit().returned("a").raised("b").raised("a")
    with pytest.raises(InvalidTransactionState, match="undone or left-in-place"):
        decide(tx.saga, ResolutionAnswered("a", answer, "me", "note"), tx.now)


def test_a_step_without_a_question_cannot_be_resolved(play, make_step):
    tx = play(make_step("a")).commit().returned("a")
    with pytest.raises(InvalidTransactionState, match="Nothing is to be resolved"):
        decide(tx.saga, ResolutionAnswered("a", "happened", "me", "note"), tx.now)


# ----------------------------------------------------------------------------------------- purity


def test_planning_twice_says_the_same(play, make_step):
    tx = play(make_step("a"), on_compensation_failure="halt")
    tx.see(PlanGiven(tx.definition))
    tx.saga.commit_requested = True
    first, second = plan(tx.saga, tx.now), plan(tx.saga, tx.now)
    assert [one.entry for one in first] == [one.entry for one in second] != []


def test_going_back_after_a_crash_records_why_and_where(play, make_step):
    tx = play(make_step("a"), on_crash="roll_back").commit().crash()
    back = next(entry for entry in tx.entries if isinstance(entry, RollbackStarted))
    assert (back.reason, back.step_id) == ("crash", "a")


# ---------------------------------------------------------------------------- whom a driver serves


def begun(play, *steps, **options):
    """A transaction that was submitted: nobody has taken it yet."""
    tx = play(*steps, **options)
    for seen in (PlanGiven(tx.definition), CommitCalled()):
        for entry in decide(tx.saga, seen, tx.now):
            evolve(tx.saga, entry)
            tx.entries.append(entry)
    return tx


def arrived(tx, *serves):
    """What a driver that serves these is to do: the kinds it records, and the calls it makes."""
    entries, calls = advance(tx.saga, [DriverArrived("d1")], tx.now, 4, frozenset(serves))
    tx.entries += entries
    kinds = [type(entry).__name__ for entry in entries]
    return kinds, [call.step.step_id for call in calls]


@pytest.fixture
def two_agents(make_step):
    return [make_step(name)._replace(agent_id=agent) for name, agent in (("a", "x"), ("b", "y"))]


def test_a_driver_makes_no_call_on_behalf_of_whom_it_does_not_serve(play, two_agents):
    kinds, calls = arrived(begun(play, *two_agents), "y")
    assert (kinds, calls) == (["Claimed", "TransactionActivated"], [])


def test_a_driver_makes_the_calls_of_whom_it_serves_up_to_the_first_of_others(play, two_agents):
    tx = begun(play, *two_agents)
    assert arrived(tx, "x")[1] == ["a"]
    entries, calls = advance(tx.saga, [HandlerReturned("a", "action", None)], 0, 4, {"x"})
    assert ([type(entry).__name__ for entry in entries], calls) == (["StepSucceeded"], [])
    assert next_agent(tx.saga) == "y"
    assert arrived(tx, "y")[1] == ["b"]


def test_of_steps_at_the_same_time_only_those_of_whom_it_serves_are_called(play, two_agents):
    first, second = two_agents
    tx = begun(play, first._replace(after=()), second._replace(after=()))
    assert arrived(tx, "y")[1] == ["b"]


def test_the_end_is_anybodys(play, two_agents):
    tx = begun(play, two_agents[0])
    arrived(tx, "x")
    entries, _ = advance(tx.saga, [HandlerReturned("a", "action", None)], 0, 4, {"nobody"})
    assert type(entries[-1]).__name__ == "TransactionCommitted"


def test_the_next_agent_is_whose_call_comes_next(play, make_step, two_agents, steady):
    tx = begun(play, *two_agents)
    assert next_agent(tx.saga) == "x"
    tx.claim().returned("a")
    assert tx.raised("b").calls == ["compensation:a"]
    assert next_agent(tx.saga) == "x"
    assert next_agent(tx.returned("a").saga) is None


def test_what_is_ready_comes_before_what_waits_for_its_time(play, make_step, two_agents, steady):
    retried = make_step("c", policy={"retry": steady})._replace(agent_id="z", after=())
    tx = play(retried, two_agents[1]._replace(after=())).commit()
    assert tx.raised("c").calls == ["action:b"]
    assert next_agent(tx.returned("b").saga) == "z", "it waits, and nothing else is left"
