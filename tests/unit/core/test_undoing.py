"""What going back does: compensations, their order and their failures, and the way out of it."""
# mypy: disable-error-code="union-attr"

import pytest

from aumai_transactions.core.definition import Retry
from aumai_transactions.core.observations import DriverArrived, RetryAsked, RollbackCalled
from aumai_transactions.core.outcome import attention_of

# ------------------------------------------------------------------------------- C7: compensation


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


# ------------------------------------------------------------------------------ C6: once, or more


def going_back(play, make_step, policy=None, **options):
    """a has succeeded, b has failed, and a is being undone."""
    tx = play(make_step("a", policy), make_step("b"), **options).commit().returned("a").raised("b")
    assert tx.calls == ["compensation:a"]
    return tx


def test_an_undo_is_called_once_where_nothing_is_declared(play, make_step):
    tx = going_back(play, make_step).raised("a")
    assert tx.state == "rolled_back"
    assert tx.result.outstanding[0].reason == "failed"


def test_an_idempotent_undo_is_tried_five_times(play, make_step):
    tx = going_back(play, make_step, {"undo_idempotent": True}).raised("a")
    assert tx.recorded == ["compensation_failed:a", "retry_scheduled:a"]
    while tx.state == "compensating":
        tx.wake().raised("a")
    assert tx.made.count("compensation:a") == 5
    assert tx.result.outstanding[0].reason == "failed"


def test_an_undo_is_tried_as_often_as_it_declares(play, make_step, steady):
    tx = going_back(play, make_step, {"undo_retry": steady}).raised("a")
    assert tx.wakes_after == 1
    assert (tx.result.waiting.reason, tx.result.waiting.step_ids) == ("retry", ["a"])
    assert tx.wake().returned("a").result.clean


def test_an_undo_whose_retry_is_pointless_is_not_tried_again(play, make_step, steady):
    tx = going_back(play, make_step, {"undo_retry": steady}).raised("a", may_retry=False)
    assert tx.state == "rolled_back"


def test_an_undo_that_says_later_is_called_later(play, make_step):
    tx = going_back(play, make_step).raised("a", after_seconds=30.0)
    assert tx.wakes_after == 30
    assert tx.wake().returned("a").result.clean


def test_an_undo_that_waits_can_be_asked_for_at_once(play, make_step, steady):
    tx = going_back(play, make_step, {"undo_retry": steady}).raised("a").retry("a")
    assert tx.calls == ["compensation:a"]


def test_the_next_undo_waits_until_the_one_before_has_ended_for_good(play, make_step, steady):
    a, b = make_step("a"), make_step("b", {"undo_retry": steady})
    tx = play(a, b, make_step("c")).commit().returned("a").returned("b").raised("c").raised("b")
    assert tx.calls == []
    tx.wake().returned("b")
    assert tx.calls == ["compensation:a"]


def test_what_there_was_not_to_undo_stands_in_the_journal(play, make_step):
    tx = going_back(play, make_step).returned("a", note="there is no such booking")
    assert tx.entries[-2].note == "there is no such booking"
    assert tx.result.compensated_steps == ["a"]


# -------------------------------------------------------------------------------- verification


VERIFIED = {"has_verify": True, "verify_retry": Retry(2, 1.0, jitter=0.0)}


def test_after_its_undo_a_step_is_verified_before_it_counts_as_undone(play, make_step):
    tx = going_back(play, make_step, VERIFIED).returned("a")
    assert tx.recorded == ["compensation_succeeded:a", "verification_started:a"]
    assert tx.result.compensated_steps == []
    assert tx.verified("a", "clean").result.clean
    assert tx.result.compensated_steps == ["a"]


def test_what_an_undo_left_is_outstanding(play, make_step):
    tx = going_back(play, make_step, VERIFIED).returned("a").verified("a", "residue", [1])
    assert tx.state == "rolled_back"
    assert [item.reason for item in tx.result.outstanding] == ["residue"]
    assert tx.result.compensated_steps == []
    tx.retry("a").returned("a")
    assert tx.calls == ["verification:a"]
    assert tx.verified("a", "clean").result.clean


def test_an_undo_that_cannot_be_verified_is_said_to_be_unverified(play, make_step):
    tx = going_back(play, make_step, VERIFIED).returned("a").verified("a")
    assert tx.wakes_after == 1
    tx.wake().verified("a")
    assert tx.state == "rolled_back"
    assert (tx.result.unverified, tx.result.outstanding) == (["a"], [])
    assert not tx.result.clean
    assert any("is not known" in warning for warning in tx.result.warnings)


def test_a_verification_that_is_not_here_leaves_the_undo_unverified(play, make_step):
    tx = going_back(play, make_step, VERIFIED).returned("a").missing_of("a", "verification")
    assert tx.result.unverified == ["a"]


def test_a_crash_in_a_verification_repeats_the_verification_alone(play, make_step):
    tx = going_back(play, make_step, VERIFIED).returned("a").crash()
    assert tx.recorded == ["claimed", "verification_started:a"]
    assert tx.entries[-1].attempt == 2


def test_an_answer_of_a_verification_that_is_not_asked_any_more_is_not_recorded(play, make_step):
    tx = going_back(play, make_step, VERIFIED).returned("a").verified("a", "clean")
    assert tx.verified("a", "residue").recorded == []


def test_nothing_is_verified_where_nothing_ran_or_was_simulated(play, make_step):
    pending = play(make_step("a", VERIFIED)).rollback_pending().returned("a")
    assert pending.state == "rolled_back"
    dry = play(make_step("a", VERIFIED), make_step("b")).commit().missing("a").raised("b")
    assert dry.missing("a").state == "rolled_back"


def test_under_halt_a_residue_halts_what_it_depends_on(play, make_step):
    a, b = make_step("a"), make_step("b", VERIFIED)
    tx = play(a, b, make_step("c"), on_compensation_failure="halt").commit()
    tx.returned("a").returned("b").raised("c").returned("b").verified("b", "residue")
    assert (tx.state, tx.calls, tx.result.waiting.reason) == ("compensating", [], "halted")


# ------------------------------------------------------------------------------------ Continue


def test_continue_lets_the_failed_step_run_again_with_another_output(play, make_step):
    tx = going_back(play, make_step).returned("a", {"id": 8}, continues=True)
    assert tx.recorded == ["rollback_revoked:a", "step_started:b"]
    tx.returned("b")
    assert (tx.state, tx.result.reason, tx.result.error) == ("committed", None, None)
    assert tx.result.outputs["a"] == {"id": 8}
    assert any("went on instead of back" in warning for warning in tx.result.warnings)


def test_continue_settles_the_step_in_doubt_itself(play, make_step):
    tx = play(make_step("a"), make_step("b")).commit().raised("a", "in_doubt")
    tx.returned("a", {"id": 8}, continues=True)
    assert tx.calls == ["action:b"]
    assert tx.returned("b").state == "committed"


def test_what_goes_on_goes_back_again_and_undoes_in_the_same_order(play, make_step):
    steps = [make_step(name) for name in "abc"]
    tx = play(*steps).commit().returned("a").returned("b").raised("c")
    tx.returned("b", continues=True).raised("c")
    assert tx.calls == ["compensation:b"]
    assert tx.returned("b").calls == ["compensation:a"]
    assert tx.returned("a").result.compensated_steps == ["b", "a"]


def test_a_step_that_waited_for_its_next_attempt_goes_on_as_well(play, make_step, steady):
    a, b = make_step("a", after=()), make_step("b", {"retry": steady}, after=())
    tx = play(a, b, make_step("c", after=())).commit().returned("a").raised("b").raised("c")
    assert tx.calls == ["compensation:a"]
    tx.returned("a", continues=True)
    assert tx.calls == ["action:b"]
    assert tx.returned("b").returned("c").state == "committed"


REFUSED = "ContinueRefused"


def refused(tx, name):
    assert tx.recorded[0] == f"compensation_failed:{name}"
    (error,) = [item.error for item in tx.result.outstanding if item.step_id == name]
    assert error.startswith(REFUSED)


def test_continue_is_heard_once_for_each_step(play, make_step):
    tx = going_back(play, make_step).returned("a", continues=True).raised("b")
    tx.returned("a", continues=True)
    refused(tx, "a")
    assert tx.state == "rolled_back"


def test_continue_is_not_heard_once_another_undo_has_begun(play, make_step):
    tx = play(make_step("a"), make_step("b"), make_step("c")).commit()
    tx.returned("a").returned("b").raised("c").returned("b").returned("a", continues=True)
    refused(tx, "a")


def test_continue_is_not_heard_where_somebody_asked_for_the_rollback(play, make_step):
    asked = play(make_step("a"), make_step("b")).commit().rollback().returned("a")
    refused(asked.returned("a", continues=True), "a")
    meanwhile = going_back(play, make_step).see(RollbackCalled())
    assert meanwhile.recorded == ["rollback_requested"]
    refused(meanwhile.returned("a", continues=True), "a")


@pytest.mark.parametrize("on_crash", ["roll_back"])
def test_continue_is_not_heard_after_a_crash_that_rolls_back(play, make_step, on_crash):
    tx = play(make_step("a"), on_crash=on_crash).commit().crash().returned("a", continues=True)
    refused(tx, "a")


def test_continue_is_not_heard_from_a_step_whose_call_may_still_act(play, make_step):
    tx = play(make_step("a")).commit().left_behind("a").wake().returned("a", continues=True)
    refused(tx, "a")


def test_continue_is_not_heard_while_an_undo_that_was_given_up_may_still_act(
    play, make_step, steady
):
    tx = going_back(play, make_step, {"undo_retry": steady})
    tx.raised("a", "timeout", left_behind=True).wake().returned("a", continues=True)
    refused(tx, "a")
    over = going_back(play, make_step, {"undo_retry": steady})
    over.raised("a", "timeout", left_behind=True)
    over.late("a", "not_done", operation="compensation").wake().returned("a", continues=True)
    assert over.calls == ["action:b"]


def test_an_outstanding_undo_that_waits_for_its_next_attempt_is_still_said_to_stand(
    play, make_step, steady
):
    tx = going_back(play, make_step, {"undo_retry": steady}).raised("a", may_retry=False)
    assert (tx.state, tx.result.outstanding[0].reason) == ("rolled_back", "failed")
    tx.retry("a").raised("a")
    assert tx.wakes_after == 2
    assert [item.step_id for item in tx.result.outstanding] == ["a"]
    assert not tx.result.clean
    assert attention_of(tx.saga) == "outstanding"
    tx.wake().returned("a")
    assert tx.result.clean
    assert attention_of(tx.saga) is None


def test_continue_is_not_heard_while_another_step_is_outstanding(play, make_step):
    b = make_step("b", compensating_action=None, on_unknown="compensate")
    tx = play(make_step("a"), b).commit().returned("a").raised("b", "in_doubt")
    refused(tx.returned("a", continues=True), "a")


def test_continue_is_not_heard_once_a_person_has_resolved_another_step(play, make_step):
    b = make_step("b", compensating_action=None, on_unknown="compensate")
    tx = play(make_step("a"), b, on_compensation_failure="halt").commit().returned("a")
    tx.raised("b", "in_doubt").resolve("b", "undone")
    assert tx.calls == ["compensation:a"]
    refused(tx.returned("a", continues=True), "a")


def test_continue_is_not_heard_in_the_rollback_of_a_pending_transaction(play, make_step):
    tx = play(make_step("a")).rollback_pending().returned("a", continues=True)
    assert (tx.recorded[0], tx.state) == ("compensation_failed:a", "rolled_back")


# ---------------------------------------------------------------------------------- the order


def test_retries_do_not_change_the_order_of_undoing(play, make_step, steady):
    a, b = make_step("a", {"retry": steady}, after=()), make_step("b", after=())
    tx = play(a, b, make_step("c")).commit().raised("a").returned("b").wake().returned("a")
    tx.raised("c")
    # Undone first is what succeeded last, whenever it was first tried.
    assert tx.calls == ["compensation:a"]
    assert tx.returned("a").calls == ["compensation:b"]


def test_a_doubt_that_a_probe_settles_later_keeps_its_place_in_the_order(play, make_step):
    a = make_step("a", {"has_probe": True})
    tx = play(a, make_step("b")).commit().raised("a", "in_doubt").probed("a", "done").raised("b")
    assert tx.returned("a").result.compensated_steps == ["a"]
