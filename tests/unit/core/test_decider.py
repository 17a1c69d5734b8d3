"""The rules of SEMANTICS C, D and E, in the core alone."""
# mypy: disable-error-code="union-attr"

import pytest

from aumai_transactions.core.decider import UNKNOWN_ATTEMPTS_MAX, decide, plan
from aumai_transactions.core.definition import Reference, idempotency_key
from aumai_transactions.core.entries import RollbackStarted, StepStarted
from aumai_transactions.core.observations import (
    CommitCalled,
    DriverArrived,
    HandlerReturned,
    PlanGiven,
    ResolutionAnswered,
    RetryAsked,
    RollbackCalled,
)
from aumai_transactions.errors import InvalidTransactionState, UnknownStep

START = ["plan_recorded", "commit_requested", "claimed", "transaction_activated"]


# ------------------------------------------------------------------------------- the plain ways


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


# -------------------------------------------------------------------------------------- C1 and C2


def test_not_done_on_the_first_attempt_clears_the_step(play, make_step):
    tx = play(make_step("a"), make_step("b")).commit().returned("a").raised("b")
    assert "compensation_started:b" not in tx.recorded
    assert tx.returned("a").result.outstanding == []


@pytest.mark.parametrize("idempotent", [True, False])
def test_not_done_behind_a_doubtful_attempt_clears_only_an_idempotent_step(
    play, make_step, idempotent
):
    tx = play(make_step("a", idempotent=idempotent, on_unknown="ask")).commit()
    tx.raised("a", "in_doubt")
    if not idempotent:
        tx.retry("a")
    assert tx.calls == ["action:a"]
    tx.raised("a", "not_done")
    if idempotent:
        assert tx.recorded[0] == "step_failed:a"
        assert tx.state == "rolled_back"
        assert tx.result.compensated_steps == []
    else:
        assert tx.recorded == ["step_in_doubt:a"]
        assert tx.result.waiting.reason == "in_doubt"


@pytest.mark.parametrize("outcome", ["in_doubt", "cancelled"])
def test_an_unknown_outcome_is_recorded_as_in_doubt(play, make_step, outcome):
    tx = play(make_step("a")).commit().raised("a", outcome)
    assert tx.recorded[0] == "step_in_doubt:a"
    cause = {"in_doubt": "unknown", "cancelled": "cancelled"}[outcome]
    assert tx.saga.step("a").doubt == cause


def test_a_warning_about_a_return_value_stands_in_the_result(play, make_step):
    tx = play(make_step("a")).commit()
    tx.see(HandlerReturned("a", "action", None, "it was not JSON"))
    assert tx.state == "committed"
    assert tx.result.warnings == ["it was not JSON"]


# -------------------------------------------------------------------------------------- C4: doubt


def test_an_idempotent_step_in_doubt_runs_again_under_the_same_key(play, make_step):
    tx = play(make_step("a", idempotent=True)).commit().raised("a", "in_doubt")
    assert tx.recorded == ["step_in_doubt:a", "step_started:a"]
    assert tx.entries[-1].attempt == 2
    assert idempotency_key("tx", "a", "action") == "tx/a/action"
    assert tx.returned("a").state == "committed"


def test_an_idempotent_step_that_stays_in_doubt_is_compensated_after_the_last_attempt(
    play, make_step
):
    tx = play(make_step("a", idempotent=True)).commit()
    for _ in range(UNKNOWN_ATTEMPTS_MAX - 1):
        assert tx.raised("a", "in_doubt").calls == ["action:a"]
    tx.raised("a", "in_doubt")
    assert tx.recorded == ["step_in_doubt:a", "rollback_started:a", "compensation_started:a"]
    assert tx.entries[-1].in_doubt


def test_a_step_in_doubt_that_is_not_idempotent_is_compensated_as_in_doubt(play, make_step):
    tx = play(make_step("a"), make_step("b")).commit().returned("a").raised("b", "in_doubt")
    assert tx.recorded == ["step_in_doubt:b", "rollback_started:b", "compensation_started:b"]
    assert tx.entries[-1].in_doubt
    tx.returned("b")
    assert tx.recorded == ["compensation_succeeded:b", "compensation_started:a"]
    assert not tx.entries[-1].in_doubt
    assert tx.returned("a").result.reason == "in_doubt"


@pytest.mark.parametrize(
    "options", [{"on_unknown": "ask"}, {"compensating_action": None}], ids=["ask", "no undo"]
)
def test_a_step_in_doubt_that_asks_waits_for_a_person(play, make_step, options):
    tx = play(make_step("a", **options), make_step("b")).commit().raised("a", "in_doubt")
    assert tx.recorded == ["step_in_doubt:a"]
    assert (tx.calls, tx.state) == ([], "active")
    assert tx.result.waiting.reason == "in_doubt"
    assert tx.result.waiting.step_ids == ["a"]
    assert (tx.result.failed_step, tx.result.error) == ("a", "Problem: a raised")


def test_a_step_without_an_undo_may_say_compensate_and_is_outstanding_then(play, make_step):
    tx = play(make_step("a", compensating_action=None, on_unknown="compensate")).commit()
    tx.raised("a", "in_doubt")
    assert tx.recorded[1:] == [
        "rollback_started:a",
        "step_outstanding:a",
        "transaction_rolled_back",
    ]
    (left,) = tx.result.outstanding
    assert left.reason == "no_compensation"


def test_a_step_in_doubt_without_effect_is_neither_asked_about_nor_outstanding(play, make_step):
    tx = play(make_step("a", compensating_action=None, effect="none")).commit()
    tx.raised("a", "in_doubt")
    assert tx.state == "rolled_back"
    assert tx.result.clean


@pytest.mark.parametrize(
    "answer,end", [("happened", "committed"), ("did_not_happen", "rolled_back")]
)
def test_the_answer_of_a_person_decides_a_step_in_doubt(play, make_step, answer, end):
    tx = (
        play(make_step("a", on_unknown="ask")).commit().raised("a", "in_doubt").resolve("a", answer)
    )
    assert tx.state == end
    assert tx.result.compensated_steps == []
    assert any(answer.replace("_", " ") in warning for warning in tx.result.warnings)


def test_a_retry_asked_for_by_a_person_runs_a_doubtful_step_once_more(play, make_step):
    tx = play(make_step("a", on_unknown="ask")).commit().raised("a", "in_doubt").retry("a")
    assert tx.recorded == ["retry_requested:a", "claimed", "step_started:a"]
    tx.raised("a", "in_doubt")
    assert (tx.calls, tx.state) == ([], "active")


def test_a_rollback_asked_for_while_a_person_is_asked_undoes_the_doubtful_step(play, make_step):
    tx = play(make_step("a", on_unknown="ask")).commit().raised("a", "in_doubt")
    tx.see(RollbackCalled())
    assert tx.calls == ["compensation:a"]
    assert tx.entries[-1].in_doubt
    assert tx.returned("a").result.reason == "requested"


def test_a_commit_never_happens_over_a_step_in_doubt(play, make_step):
    a = make_step("a", on_unknown="ask", after=())
    b = make_step("b", after=())
    tx = play(a, b, parallel_max=2).commit().raised("a", "in_doubt").returned("b")
    assert (tx.calls, tx.state) == ([], "active")
    assert "transaction_committed" not in tx.recorded


# -------------------------------------------------------------------------------- C7: compensation


def test_a_succeeded_step_whose_undo_has_no_handler_is_outstanding_by_name(play, make_step):
    tx = play(make_step("a"), make_step("b")).commit().returned("a").raised("b").missing("a")
    assert tx.recorded == ["step_outstanding:a", "transaction_rolled_back"]
    (left,) = tx.result.outstanding
    assert left.reason == "no_handler"
    assert "undo_a" in left.error


def test_a_simulated_step_is_undone_by_simulation(play, make_step):
    tx = play(make_step("a"), make_step("b")).commit().missing("a").raised("b").missing("a")
    assert tx.recorded == ["compensation_succeeded:a", "transaction_rolled_back"]
    assert tx.result.simulated_steps == ["a"]
    assert tx.result.clean


def test_a_pending_rollback_without_handlers_is_simulated(play, make_step):
    tx = play(make_step("a")).rollback_pending().missing("a")
    assert tx.recorded == ["compensation_succeeded:a", "transaction_rolled_back"]
    assert tx.result.clean


@pytest.mark.parametrize(
    "effect,uncompensated", [(None, ["a"]), ("none", [])], ids=["effect", "none"]
)
def test_a_succeeded_step_without_an_undo_is_listed_unless_it_has_no_effect(
    play, make_step, effect, uncompensated
):
    tx = play(make_step("a", compensating_action=None, effect=effect), make_step("b")).commit()
    tx.returned("a").raised("b")
    assert tx.result.uncompensated == uncompensated
    assert tx.result.outstanding == []
    assert tx.result.clean is (uncompensated == [])


def test_a_failing_compensation_is_outstanding_and_the_rest_is_undone(play, make_step):
    tx = play(make_step("a"), make_step("b"), make_step("c")).commit()
    tx.returned("a").returned("b").raised("c").raised("b")
    assert tx.calls == ["compensation:a"]
    tx.returned("a")
    assert tx.state == "rolled_back"
    assert tx.result.error == "Problem: c raised"
    assert [item.step_id for item in tx.result.outstanding] == ["b"]


def test_a_failing_compensation_in_a_pending_rollback_is_a_warning(play, make_step):
    tx = play(make_step("a")).rollback_pending().raised("a")
    assert tx.state == "rolled_back"
    assert tx.result.outstanding == []
    assert "undo_a" in tx.result.warnings[0]


def test_a_cancelled_compensation_is_tried_once_more_and_only_once(play, make_step):
    tx = play(make_step("a"), make_step("b")).commit().returned("a").raised("b")
    tx.raised("a", "cancelled")
    assert tx.recorded == ["compensation_failed:a", "compensation_started:a"]
    tx.raised("a", "cancelled")
    assert tx.state == "rolled_back"
    assert [item.step_id for item in tx.result.outstanding] == ["a"]


def test_an_outstanding_compensation_can_be_retried_after_the_end(play, make_step):
    tx = play(make_step("a"), make_step("b")).commit().returned("a").raised("b").raised("a")
    assert tx.state == "rolled_back"
    tx.retry("a")
    assert tx.recorded == ["retry_requested:a", "claimed", "compensation_started:a"]
    tx.returned("a")
    assert tx.state == "rolled_back"
    assert tx.result.clean
    assert tx.result.compensated_steps == ["a"]


@pytest.mark.parametrize("answer,undone", [("undone", ["a"]), ("left_in_place", [])])
def test_an_outstanding_compensation_can_be_resolved_after_the_end(play, make_step, answer, undone):
    tx = play(make_step("a"), make_step("b")).commit().returned("a").raised("b").raised("a")
    tx.resolve("a", answer)
    assert tx.calls == []
    assert tx.result.outstanding == []
    assert tx.result.compensated_steps == undone
    assert tx.states["a"] == "resolved"


def test_outstanding_compensations_are_retried_in_reverse_order_of_their_effects(play, make_step):
    tx = play(make_step("a"), make_step("b"), make_step("c")).commit()
    tx.returned("a").returned("b").raised("c").raised("b").raised("a")
    tx.see(RetryAsked("a"), RetryAsked("b"), DriverArrived("d3"))
    assert tx.calls == ["compensation:b"]
    assert tx.returned("b").calls == ["compensation:a"]


# ------------------------------------------------------------------------------------ D7: halting


def halted(play, make_step):
    """a ← b, and c alone: b's undo fails while the policy is halt."""
    tx = play(
        make_step("a", after=()),
        make_step("c", after=()),
        make_step("b", after=("a",)),
        make_step("d"),
        on_compensation_failure="halt",
    ).commit()
    tx.returned("a").returned("c").returned("b").raised("d")
    assert tx.calls == ["compensation:b"]
    return tx.raised("b")


def test_under_halt_independent_branches_finish_and_ancestors_stand_still(play, make_step):
    tx = halted(play, make_step)
    assert tx.calls == ["compensation:c"]
    tx.returned("c")
    assert (tx.calls, tx.state) == ([], "compensating")
    assert tx.states == {"a": "succeeded", "b": "outstanding", "c": "compensated", "d": "failed"}
    assert tx.result.waiting.reason == "halted"
    assert tx.result.waiting.step_ids == ["b"]


def test_recovery_does_not_retry_a_halted_compensation(play, make_step):
    tx = halted(play, make_step).returned("c").crash()
    assert tx.recorded == ["claimed"]
    assert tx.calls == []


def test_a_retry_that_works_sets_a_halted_transaction_going_again(play, make_step):
    tx = halted(play, make_step).returned("c").retry("b")
    assert tx.calls == ["compensation:b"]
    assert tx.returned("b").calls == ["compensation:a"]
    assert tx.returned("a").state == "rolled_back"
    assert tx.result.clean


def test_a_retry_that_fails_halts_again(play, make_step):
    tx = halted(play, make_step).returned("c").retry("b").raised("b")
    assert (tx.calls, tx.state) == ([], "compensating")
    assert tx.result.waiting.reason == "halted"


@pytest.mark.parametrize("answer", ["undone", "left_in_place"])
def test_a_resolution_sets_a_halted_transaction_going_again(play, make_step, answer):
    tx = halted(play, make_step).returned("c").resolve("b", answer)
    assert tx.calls == ["compensation:a"]
    assert tx.returned("a").state == "rolled_back"


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


# ----------------------------------------------------------------------------------- E: recovery


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


# ------------------------------------------------------------------------------------- references


def refers(make_step, at="/id", into=("flight",)):
    return make_step("b", data={"flight": None}, references=(Reference(into, "a", at),))


def test_a_reference_is_filled_in_and_stands_in_the_intent(play, make_step):
    tx = play(make_step("a"), refers(make_step)).commit().returned("a", {"id": 7})
    assert isinstance(tx.entries[-1], StepStarted)
    assert tx.entries[-1].data == {"flight": 7}
    assert tx.saga.step("b").resolved_data == {"flight": 7}


def test_the_undo_and_a_second_attempt_get_the_data_that_was_filled_in(play, make_step):
    b = make_step(
        "b",
        data={"flight": None},
        references=(Reference(("flight",), "a", "/id"),),
        idempotent=True,
    )
    tx = play(make_step("a"), b).commit().returned("a", {"id": 7}).raised("b", "in_doubt")
    assert tx.entries[-1].data == {"flight": 7}
    tx.raised("b", "in_doubt")
    assert tx.calls == ["compensation:b"]
    assert tx.saga.step("b").resolved_data == {"flight": 7}


@pytest.mark.parametrize(
    "at,into",
    [
        ("/nothing", ("flight",)),
        ("/id/deeper", ("flight",)),
        ("/id", ("no", "such")),
        ("/id", ("l", 3)),
        ("/id", ("l", "x")),
        ("/id", ()),
    ],
)
def test_a_reference_that_cannot_be_filled_in_fails_its_step_before_it_runs(
    play, make_step, at, into
):
    b = make_step("b", data={"flight": None, "l": []}, references=(Reference(into, "a", at),))
    tx = play(make_step("a"), b).commit().returned("a", {"id": 7})
    assert tx.recorded[1:] == ["step_failed:b", "rollback_started:b", "compensation_started:a"]
    assert "UnresolvedReference" in tx.result.error
    assert tx.entries[-3].attempt == 0


def test_the_output_of_a_warned_step_cannot_be_referred_to(play, make_step):
    tx = play(make_step("a"), refers(make_step)).commit()
    tx.see(HandlerReturned("a", "action", None, "what it returned was not JSON"))
    assert tx.recorded[1] == "step_failed:b"


# ------------------------------------------------------------------------------------------ graph


def test_independent_steps_start_together_up_to_the_limit(play, make_step):
    steps = [make_step(name, after=()) for name in "abc"]
    tx = play(*steps, parallel_max=2).commit()
    assert tx.calls == ["action:a", "action:b"]
    assert tx.returned("b").calls == ["action:c"]


def test_a_step_starts_only_when_all_that_it_waits_for_succeeded(play, make_step):
    tx = play(
        make_step("a", after=()),
        make_step("b", after=()),
        make_step("c", after=("a", "b")),
        parallel_max=3,
    ).commit()
    assert tx.returned("b").calls == []
    assert tx.returned("a").calls == ["action:c"]


def test_a_diamond_is_undone_backwards(play, make_step):
    tx = play(
        make_step("top", after=()),
        make_step("left", after=("top",)),
        make_step("right", after=("top",)),
        make_step("bottom", after=("left", "right")),
        make_step("end"),
        parallel_max=2,
    ).commit()
    tx.returned("top").returned("right").returned("left").returned("bottom").raised("end")
    order = []
    while tx.calls:
        name = tx.calls[0].partition(":")[2]
        order.append(name)
        tx.returned(name)
    assert order == ["bottom", "left", "right", "top"]


def test_a_failure_waits_for_the_steps_that_still_run(play, make_step):
    tx = play(make_step("a", after=()), make_step("b", after=()), parallel_max=2).commit()
    tx.raised("a")
    assert (tx.recorded, tx.calls) == (["step_failed:a"], [])
    tx.see(HandlerReturned("b", "action"))
    assert tx.recorded == ["step_succeeded:b", "rollback_started:a", "compensation_started:b"]


def test_the_first_step_that_failed_is_named(play, make_step):
    tx = play(make_step("a", after=()), make_step("b", after=()), parallel_max=2).commit()
    tx.raised("b").raised("a")
    assert tx.result.failed_step == "b"


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
