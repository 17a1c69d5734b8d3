"""What is done around the commit point, and in which order."""
# mypy: disable-error-code="union-attr"

import pytest

from aumai_transactions.core.decider import advance
from aumai_transactions.core.definition import Reference
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.observations import DriverArrived
from aumai_transactions.core.saga import Saga
from aumai_transactions.errors import CommitPointPassed

REREAD = {"has_reread": True}


@pytest.fixture
def committing(play, make_step):
    """a with a confirmation, b, and then what is held: h and i."""

    def begin(**options):
        a = make_step("a", options.pop("policy", None), confirming_action="confirm_a")
        held = [
            make_step(name, options.get("held_policy"), on_commit=True, idempotent=True)
            for name in "hi"
        ]
        tx = play(a, make_step("b"), *held, parallel_max=8).commit()
        return tx.returned("a").returned("b")

    return begin


# ----------------------------------------------------------------------------------- reading again


def test_what_was_read_is_read_again_before_the_commit(play, make_step):
    tx = play(make_step("a", REREAD), make_step("b"), make_step("c", REREAD)).commit()
    tx.returned("a").returned("b").returned("c")
    assert (tx.state, tx.calls) == ("active", ["reread:a", "reread:c"])
    assert tx.reread("a").calls == []
    assert tx.reread("c").recorded == ["reread_answered:c", "transaction_committed"]


def test_what_has_changed_sends_the_transaction_back(play, make_step):
    tx = play(make_step("a", REREAD), make_step("b")).commit().returned("a").returned("b")
    tx.reread("a", holds=False)
    assert tx.recorded == ["reread_answered:a", "rollback_started:a", "compensation_started:b"]
    tx.returned("b").returned("a")
    assert (tx.result.reason, tx.result.failed_step) == ("conflict", "a")
    assert tx.result.error == "ReadConflict: a has changed"


def test_a_reread_that_is_not_here_counts_as_changed(play, make_step):
    tx = play(make_step("a", REREAD)).commit().returned("a")
    tx.missing_of("a", "reread")
    assert tx.calls == ["compensation:a"]
    assert tx.saga.reason == "conflict"


def test_what_was_simulated_undone_or_not_done_is_not_read_again(program):
    tx = program().ask("a", policy=REREAD).missing("a").ask("b", policy=REREAD).raised("b")
    tx.did("c", policy=REREAD).undo("c").returned("c").commit()
    assert tx.state == "committed"


def test_what_was_read_is_read_again_by_whoever_takes_over(play, make_step):
    b = make_step("b", {"has_reread": True})
    tx = play(make_step("a", REREAD), b).commit().returned("a").returned("b").reread("a")
    journaled = Saga("tx")
    for entry in tx.entries:
        evolve(journaled, entry)
    _entries, calls = advance(journaled, [DriverArrived("d2", takeover=True)], tx.now)
    assert [call.step.step_id for call in calls] == ["a", "b"]


def test_an_answer_that_comes_twice_or_too_late_is_not_recorded(play, make_step):
    tx = play(make_step("a", REREAD), make_step("b", REREAD)).commit().returned("a").returned("b")
    tx.reread("a")
    assert tx.reread("a", holds=False).recorded == []
    tx.reread("b")
    assert tx.reread("b").recorded == []


# ------------------------------------------------------------------------------------- the pivot


def test_the_pivot_comes_last_and_its_success_is_the_decision(play, make_step):
    p = make_step("p", pivot=True, compensating_action=None)
    tx = play(make_step("a", after=()), make_step("b", after=()), p, parallel_max=4).commit()
    assert tx.calls == ["action:a", "action:b"]
    tx.returned("b")
    assert tx.returned("a").calls == ["action:p"]
    assert tx.returned("p").recorded == [
        "step_succeeded:p",
        "commit_decided",
        "transaction_committed",
    ]


def test_what_was_read_is_read_again_before_the_pivot_and_not_behind_it(play, make_step):
    p = make_step("p", pivot=True, compensating_action=None)
    tx = play(make_step("a", REREAD), p).commit().returned("a")
    assert tx.calls == ["reread:a"]
    assert tx.reread("a").calls == ["action:p"]
    assert tx.returned("p").state == "committed"


def test_a_conflict_before_the_pivot_goes_back_and_the_pivot_never_starts(play, make_step):
    p = make_step("p", pivot=True, compensating_action=None)
    tx = play(make_step("a", REREAD), p).commit().returned("a").reread("a", holds=False)
    assert tx.returned("a").states == {"a": "compensated", "p": "skipped"}
    assert "action:p" not in tx.made


def test_a_pivot_that_is_not_done_sends_a_plan_back(play, make_step):
    p = make_step("p", pivot=True, compensating_action=None)
    tx = play(make_step("a"), p).commit().returned("a").raised("p")
    assert tx.calls == ["compensation:a"]
    assert tx.saga.reason == "step_failed"


def test_a_pivot_in_doubt_goes_neither_back_nor_forward(play, make_step):
    p = make_step("p", pivot=True, compensating_action=None)
    tx = play(make_step("a"), p, on_crash="roll_back").commit().returned("a")
    tx.raised("p", "in_doubt")
    assert (tx.calls, tx.outcome()) == ([], ("in_doubt", False, None))
    tx.crash(3600)
    assert (tx.state, tx.calls, tx.outcome()[0]) == ("active", [], "in_doubt")
    assert tx.resolve("p", "happened").recorded[-2:] == ["commit_decided", "transaction_committed"]


def test_a_pivot_in_doubt_that_did_not_happen_goes_back(play, make_step):
    p = make_step("p", pivot=True, compensating_action=None)
    tx = play(make_step("a"), p).commit().returned("a").raised("p", "in_doubt")
    assert tx.resolve("p", "did_not_happen").calls == ["compensation:a"]


def test_a_pivot_in_doubt_is_asked_about_and_then_run_again_with_its_key(play, make_step):
    p = make_step("p", {"has_probe": True}, pivot=True, compensating_action=None)
    tx = play(make_step("a"), p).commit().returned("a").raised("p", "in_doubt")
    assert tx.calls == ["probe:p"]
    assert tx.probed("p", "done", 7).state == "committed"
    again = make_step("p", pivot=True, compensating_action=None, idempotent=True)
    tx = play(make_step("a"), again).commit().returned("a").raised("p", "in_doubt")
    assert tx.calls == ["action:p"]
    assert tx.returned("p").state == "committed"


def test_a_cancelled_pivot_is_in_doubt_and_does_not_go_back(play, make_step):
    p = make_step("p", pivot=True, compensating_action=None)
    tx = play(make_step("a"), p).commit().returned("a").raised("p", "cancelled")
    assert (tx.state, tx.calls, tx.outcome()[0]) == ("active", [], "in_doubt")


def test_a_rollback_that_is_asked_for_while_the_pivot_runs_waits_for_what_becomes_of_it(
    play, make_step
):
    p = make_step("p", pivot=True, compensating_action=None)
    tx = play(make_step("a"), p).commit().returned("a").rollback()
    assert tx.recorded == ["rollback_requested"]
    assert tx.returned("p").state == "committed"
    tx = play(make_step("a"), p).commit().returned("a").rollback().raised("p")
    assert tx.calls == ["compensation:a"]


def test_a_program_is_told_of_a_pivot_that_was_not_done_and_goes_on(program):
    tx = program().did("a").ask("p", pivot=True, compensating_action=None).raised("p")
    assert (tx.state, tx.states) == ("active", {"a": "succeeded", "p": "failed"})
    tx.ask("q", pivot=True, compensating_action=None)
    assert tx.returned("q").state == "committed"


def test_the_pivot_of_a_program_waits_until_everything_else_has_ended(program):
    tx = program().did("x").ask("a").undo("x")
    tx.ask("p", pivot=True, compensating_action=None)
    assert tx.calls == []
    assert tx.returned("a").calls == []
    assert tx.returned("x").calls == ["action:p"]
    assert tx.returned("p").state == "committed"


def test_the_pivot_of_a_program_commits_although_nobody_called_commit(program):
    tx = program().did("a").ask("h", on_commit=True)
    tx.ask("p", pivot=True, compensating_action=None).returned("p")
    assert (tx.state, tx.calls) == ("committing", ["action:h"])
    assert tx.returned("h").state == "committed"


# ------------------------------------------------------------------------- behind the commit point


def test_the_decision_comes_before_what_it_lets_happen(committing):
    tx = committing()
    assert tx.recorded == ["step_succeeded:b", "commit_decided", "confirmation_started:a"]
    assert (tx.state, tx.calls) == ("committing", ["confirmation:a"])
    assert tx.returned("a").calls == ["action:h"]
    assert tx.returned("h").calls == ["action:i"]
    tx.returned("i")
    assert (tx.state, tx.recorded[-1]) == ("committed", "transaction_committed")
    assert tx.result.completed_steps == ["a", "b", "h", "i"]


def test_confirmations_come_in_the_order_of_the_steps_whatever_ended_first(play, make_step):
    steps = [make_step(name, after=(), confirming_action=f"confirm_{name}") for name in "ab"]
    tx = play(*steps, parallel_max=2).commit().returned("b").returned("a")
    assert tx.calls == ["confirmation:a"]
    assert tx.returned("a").calls == ["confirmation:b"]
    assert tx.returned("b").state == "committed"


def test_a_step_that_was_undone_is_not_confirmed(program):
    tx = program().did("a", confirming_action="confirm_a").did("b", confirming_action="confirm_b")
    tx.undo("a").returned("a").commit()
    assert tx.calls == ["confirmation:b"]


def test_a_confirmation_that_fails_is_tried_again_and_then_needs_a_person(committing):
    tx = committing(policy={"confirm_retry": None})
    for _ in range(4):
        tx.raised("a", draw=0.5)
        assert tx.outcome()[:2] == (None, True)
        tx.wake()
        assert tx.calls == ["confirmation:a"]
    tx.raised("a")
    assert tx.outcome() == ("commit", False, None)
    waiting = tx.result.waiting
    assert (waiting.reason, waiting.step_ids) == ("committing", ["a"])
    assert "retry tx a" in waiting.detail
    assert "--happened" in waiting.detail
    assert tx.retry("a").calls == ["confirmation:a"]
    assert tx.returned("a").calls == ["action:h"]


def test_a_confirmation_is_tried_as_often_as_it_declares(committing, steady):
    tx = committing(policy={"confirm_retry": steady}).raised("a")
    assert tx.wakes_after == 1
    assert tx.wake().raised("a").wakes_after == 2
    assert tx.wake().raised("a").outcome()[0] == "commit"


def test_a_confirmation_whose_retry_is_pointless_needs_a_person_at_once(committing):
    assert committing().raised("a", may_retry=False).outcome()[0] == "commit"


def test_a_confirmation_that_is_not_here_needs_a_person(committing):
    tx = committing().missing("a")
    assert tx.outcome()[0] == "commit"
    assert "UnknownAction" in tx.result.waiting.detail


def test_the_confirmation_of_a_simulated_step_is_simulated(play, make_step):
    tx = play(make_step("a", confirming_action="confirm_a")).commit().missing("a").missing("a")
    assert (tx.state, tx.result.simulated_steps) == ("committed", ["a"])


def test_a_confirmation_in_doubt_is_tried_again_for_it_is_idempotent(committing):
    tx = committing().raised("a", "in_doubt")
    assert tx.recorded == ["confirmation_failed:a", "retry_scheduled:a"]
    tx = committing().raised("a", "timeout", left_behind=True)
    assert tx.recorded == ["confirmation_failed:a", "retry_scheduled:a"]


@pytest.mark.parametrize("answer", ["happened", "left_in_place"])
def test_a_person_can_do_a_confirmation_by_hand_or_leave_it(committing, answer):
    tx = committing().raised("a", may_retry=False).resolve("a", answer)
    assert tx.calls == ["action:h"]
    assert any("somebody decided for step a" in warning for warning in tx.result.warnings)
    assert tx.returned("h").returned("i").state == "committed"


def test_a_confirmation_that_a_crash_cut_off_is_made_again(committing):
    tx = committing().crash(1)
    assert (tx.calls, tx.saga.step("a").confirm_attempt) == (["confirmation:a"], 2)
    assert tx.returned("a").returned("h").returned("i").state == "committed"


# ----------------------------------------------------------------------------------- held steps


def test_a_held_step_waits_for_everything_else(play, make_step):
    h = make_step("h", on_commit=True)
    tx = play(h, make_step("a"), make_step("b")).commit()
    assert tx.calls == ["action:a"]
    tx.returned("a").returned("b")
    assert (tx.state, tx.calls) == ("committing", ["action:h"])


def test_a_held_step_never_runs_where_the_transaction_goes_back(play, make_step):
    tx = play(make_step("a"), make_step("b"), make_step("h", on_commit=True)).commit()
    tx.returned("a").raised("b").returned("a")
    assert (tx.state, tx.states["h"]) == ("rolled_back", "skipped")
    assert "action:h" not in tx.made


def test_a_held_step_is_tried_again_and_then_needs_a_person(play, make_step):
    tx = play(make_step("a"), make_step("h", on_commit=True)).commit().returned("a")
    for _ in range(4):
        tx.raised("h", draw=0.5).wake()
        assert tx.calls == ["action:h"]
    assert tx.raised("h").outcome() == ("commit", False, None)
    assert tx.result.waiting.step_ids == ["h"]
    assert tx.wait(10**6).recorded == []
    assert tx.retry("h").calls == ["action:h"]
    assert tx.raised("h").outcome() == ("commit", False, None)
    assert tx.retry("h").returned("h", 1).result.outputs == {"h": 1}


def test_a_held_step_that_is_rejected_needs_a_person_at_once(play, make_step):
    tx = play(make_step("a"), make_step("h", on_commit=True)).commit().returned("a")
    tx.raised("h", may_retry=False)
    assert tx.outcome() == ("commit", False, None)
    assert "(Problem: h raised)" in tx.result.waiting.detail


@pytest.mark.parametrize("answer,state", [("happened", "succeeded"), ("left_in_place", "resolved")])
def test_a_person_can_do_a_held_step_by_hand_or_leave_it(play, make_step, answer, state):
    tx = play(make_step("a"), make_step("h", on_commit=True)).commit().returned("a")
    tx.raised("h", may_retry=False).resolve("h", answer)
    assert (tx.state, tx.states["h"]) == ("committed", state)
    assert any(answer.replace("_", " ") in warning for warning in tx.result.warnings)


def test_what_comes_behind_a_held_step_that_is_stuck_waits(committing):
    tx = committing().returned("a").raised("h", may_retry=False)
    assert (tx.calls, tx.states["i"]) == ([], "pending")
    assert tx.resolve("h", "left_in_place").calls == ["action:i"]


def test_a_held_step_in_doubt_runs_again_with_its_key_for_it_is_idempotent(play, make_step):
    held = make_step("h", on_commit=True, idempotent=True)
    tx = play(make_step("a"), held).commit().returned("a").raised("h", "in_doubt", draw=0.5)
    assert tx.outcome()[:2] == (None, True)
    assert tx.wake().calls == ["action:h"]
    assert tx.returned("h").state == "committed"


def test_a_held_step_in_doubt_is_asked_about_where_it_can_be(play, make_step):
    held = make_step("h", {"has_probe": True}, on_commit=True)
    tx = play(make_step("a"), held).commit().returned("a").raised("h", "in_doubt")
    assert tx.calls == ["probe:h"]
    assert tx.probed("h", "done", 5).result.outputs == {"h": 5}


def test_a_held_step_of_which_nobody_knows_needs_a_person(play, make_step):
    held = make_step("h", {"has_probe": True}, on_commit=True)
    tx = play(make_step("a"), held).commit().returned("a").raised("h", "in_doubt")
    for _ in range(4):
        tx.probed("h", draw=0.5).wake()
    tx.probed("h")
    assert (tx.outcome(), tx.result.waiting.reason) == (("commit", False, None), "in_doubt")
    assert tx.resolve("h", "happened").state == "committed"


def test_a_held_step_that_did_not_happen_runs_again(play, make_step):
    held = make_step("h", {"has_probe": True}, on_commit=True)
    tx = play(make_step("a"), held).commit().returned("a").raised("h", "in_doubt")
    for _ in range(4):
        tx.probed("h", draw=0.5).wake()
    tx.probed("h").resolve("h", "did_not_happen")
    assert tx.calls == ["action:h"]
    assert tx.returned("h").state == "committed"


def test_a_held_step_that_a_crash_cut_off_is_settled_and_carried_out(play, make_step):
    held = make_step("h", on_commit=True, idempotent=True)
    tx = play(make_step("a"), held, on_crash="roll_back").commit().returned("a").crash(3600)
    assert (tx.state, tx.calls) == ("committing", ["action:h"])
    assert tx.returned("h").state == "committed"


def test_a_late_refusal_leaves_a_held_step_in_doubt_to_its_own_rules(play, make_step):
    held = make_step("h", on_commit=True, idempotent=True)
    tx = play(make_step("a"), held).commit().returned("a").left_behind("h")
    tx.late("h", "not_done").wake().returned("h")
    assert tx.state == "committed"


def test_a_held_step_that_cannot_be_filled_in_is_known_before_the_commit_point(play, make_step):
    held = make_step(
        "h", on_commit=True, references=(Reference(("x",), "a", "/id"),), data={"x": None}
    )
    tx = play(make_step("a"), held).commit().returned("a", {})
    assert tx.recorded[1:3] == ["step_failed:h", "rollback_started:h"]
    assert tx.returned("a").result.failed_step == "h"


def test_a_held_step_is_filled_in_when_it_runs(play, make_step):
    held = make_step(
        "h", on_commit=True, references=(Reference(("x",), "a", "/id"),), data={"x": None}
    )
    tx = play(make_step("a"), held).commit().returned("a", {"id": 7})
    assert tx.entries[-1].data == {"x": 7}


def test_no_deadline_is_checked_behind_the_commit_point(committing):
    tx = committing()
    tx.now += 10**12
    assert tx.returned("a").returned("h").returned("i").state == "committed"


def test_nobody_goes_back_behind_the_commit_point(committing):
    tx = committing()
    with pytest.raises(CommitPointPassed, match="nothing was changed"):
        tx.rollback()
    tx.returned("a").returned("h").returned("i")
    with pytest.raises(CommitPointPassed):
        tx.rollback()


def test_without_anything_behind_it_the_end_is_the_decision(play, make_step):
    tx = play(make_step("a")).commit().returned("a")
    assert tx.recorded == ["step_succeeded:a", "transaction_committed"]
