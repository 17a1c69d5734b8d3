"""What is done next in an interactive transaction, and what becomes of it when its program dies."""
# mypy: disable-error-code="union-attr"

import pytest

from aumai_transactions.core.definition import Retry
from aumai_transactions.core.entries import ErrorRecord
from aumai_transactions.core.observations import DriverArrived
from aumai_transactions.core.planning import resume_until, timer_at, wake_at
from aumai_transactions.errors import InvalidTransactionState

SECOND = 1_000_000
WAIT = {"on_crash": "wait", "resume_within_seconds": 30}


# -------------------------------------------------------------------------------- going forward


def test_nothing_is_done_that_its_program_has_not_asked_for(program):
    tx = program().did("a")
    assert (tx.calls, wake_at(tx.saga), timer_at(tx.saga, tx.now)) == ([], None, None)
    assert (tx.outcome(), tx.result.waiting.reason) == ((None, True, None), "running")


def test_a_tool_error_is_its_programs_and_aborts_nothing(program):
    tx = program().did("a").ask("b").raised("b")
    assert (tx.recorded, tx.state, tx.saga.failed) == (["step_failed:b"], "active", [])
    tx.commit()
    assert (tx.state, tx.result.completed_steps) == ("committed", ["a"])
    assert (tx.result.failed_step, tx.result.clean) == (None, True)


def test_a_commit_waits_for_every_step_that_was_asked_for(program):
    tx = program().ask("a").ask("b").commit()
    assert tx.returned("b").state == "active"
    assert tx.raised("a").state == "committed"


def test_a_commit_of_nothing_is_a_commit(program):
    assert program().commit().state == "committed"


def test_a_commit_that_was_asked_for_twice_is_recorded_once(program):
    tx = program().ask("a").commit()
    assert tx.commit().recorded == []
    assert tx.returned("a").commit().recorded == []
    gone = program().did("a").rollback()
    with pytest.raises(InvalidTransactionState, match="commit"):
        gone.commit()


def test_a_retry_is_made_when_it_is_due_and_others_go_on(program, steady):
    tx = program().ask("a", policy={"retry": steady}).raised("a")
    assert timer_at(tx.saga, tx.now) == tx.now + SECOND
    assert tx.ask("b").calls == ["action:b"]
    assert tx.wait(1).calls == ["action:a"]
    tx.returned("a").returned("b").commit()
    assert tx.state == "committed"


def test_a_doubt_hinders_nobody_else(program):
    tx = program().ask("a", on_unknown="ask").raised("a", "in_doubt")
    assert tx.outcome() == ("in_doubt", True, None)
    assert tx.did("b").states["b"] == "succeeded"


def test_probes_of_several_steps_are_made_at_the_same_time(program):
    tx = program().ask("a", policy={"has_probe": True}).ask("b", policy={"has_probe": True})
    assert tx.raised("a", "in_doubt").calls == ["probe:a"]
    assert tx.raised("b", "in_doubt").calls == ["probe:b"]
    tx.probed("b", "done").probed("a", "not_done")
    assert tx.states == {"a": "failed", "b": "succeeded"}


def test_a_rollback_undoes_everything_in_the_reverse_order_of_success(program):
    error = ErrorRecord("ValueError", "the program gave up")
    tx = program().ask("a").ask("b").ask("c").returned("b").returned("a")
    tx.rollback("step_failed", error)
    assert (tx.state, tx.calls) == ("active", [])
    assert tx.returned("c").calls == ["compensation:c"]
    assert tx.returned("c").calls == ["compensation:a"]
    assert tx.returned("a").calls == ["compensation:b"]
    tx.returned("b")
    assert (tx.result.reason, tx.result.error) == ("step_failed", str(error))


def test_the_deadline_is_checked_before_every_intent_and_at_the_commit(program):
    late = program().did("a").wait(60.1)
    assert late.state == "active"
    late.ask("b")
    assert late.recorded == ["step_added", "rollback_started", "compensation_started:a"]
    assert late.returned("a").result.reason == "deadline"
    late = program().did("a").wait(60.1).commit()
    assert (late.state, late.saga.reason) == ("compensating", "deadline")
    assert program().did("a").wait(60).commit().state == "committed"


def test_a_step_that_runs_over_the_deadline_may_end(program):
    tx = program().ask("a").wait(3600).returned("a")
    assert (tx.state, tx.states) == ("active", {"a": "succeeded"})


def test_a_pending_program_that_asks_after_the_deadline_gets_nothing(program):
    tx = program().wait(61).ask("a")
    assert (tx.state, tx.made, tx.states) == ("rolled_back", [], {"a": "skipped"})


# -------------------------------------------------------------------------- when its program dies


@pytest.mark.parametrize("on_crash", [None, "roll_back"])
def test_it_goes_back_where_nothing_else_is_said(program, on_crash):
    tx = program(on_crash=on_crash).did("a").ask("b").crash(1)
    assert tx.recorded == [
        "claimed",
        "step_in_doubt:b",
        "rollback_started:b",
        "compensation_started:b",
    ]
    tx.returned("b").returned("a")
    assert (tx.state, tx.result.reason) == ("rolled_back", "crash")


def test_it_waits_for_its_program_where_that_is_said_and_then_goes_back(program):
    tx = program(**WAIT).did("a").crash(1)
    assert (tx.state, tx.wakes_after, tx.outcome()) == ("active", 30, (None, True, 30))
    waiting = tx.result.waiting
    assert (waiting.reason, waiting.detail.count("manager.resume('tx')")) == ("resume", 1)
    assert waiting.until.timestamp() * SECOND == tx.now + 30 * SECOND
    assert tx.wait(29.9).recorded == []
    assert tx.wait(0.1).recorded == ["rollback_started", "compensation_started:a"]


def test_a_second_takeover_does_not_start_the_time_anew(program):
    tx = program(**WAIT).did("a").crash(1).crash(10)
    assert tx.wakes_after == 20


def test_what_is_in_doubt_is_settled_before_it_waits(program):
    tx = program(**WAIT).ask("a").ask("b", idempotent=True).crash(1)
    assert tx.calls == ["compensation:a", "action:b"]
    tx.returned("a").returned("b")
    assert tx.states == {"a": "compensated", "b": "succeeded"}
    assert tx.wakes_after == 30


def test_a_doubt_that_only_a_person_can_settle_is_said_first(program):
    tx = program(**WAIT).ask("a", on_unknown="ask").crash(1)
    assert tx.outcome() == ("in_doubt", True, 30)
    assert tx.result.waiting.reason == "in_doubt"
    assert tx.resolve("a", "happened").wakes_after == 30


def test_nobody_who_answers_a_doubt_holds_the_time_for_resuming_up(program):
    tx = program(**WAIT).ask("a", on_unknown="ask").crash(1)
    assert tx.wait(30).recorded[0] == "rollback_started:a"


def test_a_resumed_program_goes_on_where_it_was(program):
    tx = program(**WAIT).did("a").crash(1).resume(5)
    assert (tx.state, tx.recorded, resume_until(tx.saga)) == ("active", ["claimed"], None)
    tx.wait(25).did("b").commit()
    assert (tx.state, tx.result.completed_steps) == ("committed", ["a", "b"])


def test_a_program_can_be_resumed_at_once_whatever_recovery_would_do(program):
    tx = program().did("a").ask("b", idempotent=True).resume(1)
    assert (tx.state, tx.calls) == ("active", ["action:b"])
    assert tx.returned("b").commit().state == "committed"


def test_a_program_that_dies_again_is_waited_for_again(program):
    tx = program(**WAIT).did("a").crash(1).resume(20).crash(20)
    assert tx.wakes_after == 30


def test_a_resumed_program_asks_for_its_commit_again(program):
    tx = program(**WAIT).did("a").ask("b", on_unknown="ask").commit().resume(1)
    tx.resolve("b", "happened")
    assert tx.state == "active"
    assert tx.did("c").commit().state == "committed"


def test_a_commit_that_was_asked_for_is_carried_out_by_recovery(program):
    tx = program().did("a").ask("b", idempotent=True).commit().crash(1)
    assert tx.calls == ["action:b"]
    assert tx.returned("b").state == "committed"


@pytest.mark.parametrize("state", ["wanted back", "going back", "over"])
def test_what_goes_back_or_has_ended_is_not_resumed(program, state):
    tx = program().did("a")
    if state == "wanted back":
        tx.ask("slow")
    tx.rollback()
    if state == "over":
        tx.returned("a")
    with pytest.raises(InvalidTransactionState, match="resume"):
        tx.resume(1)


def test_a_planned_transaction_is_not_resumed(play, make_step):
    tx = play(make_step("a")).commit()
    with pytest.raises(InvalidTransactionState, match="Only an interactive transaction is resumed"):
        tx.see(DriverArrived("d2", takeover=True, resumes=True))


def test_a_rollback_that_was_asked_for_is_carried_out_by_recovery(program):
    tx = program(**WAIT).did("a").ask("b").rollback().crash(1)
    assert (tx.state, tx.calls) == ("compensating", ["compensation:b"])


def test_a_part_that_was_being_undone_is_undone_to_the_end(program):
    tx = program(**WAIT).did("a").did("b").undo("b").crash(1)
    assert tx.calls == ["compensation:b"]
    tx.returned("b")
    assert (tx.state, tx.states, tx.wakes_after) == (
        "active",
        {"a": "succeeded", "b": "compensated"},
        30,
    )


def test_a_step_that_ran_and_was_to_be_undone_is_undone_after_the_crash(program):
    tx = program(**WAIT).ask("a").undo("a").crash(1)
    assert tx.recorded == ["claimed", "step_in_doubt:a", "compensation_started:a"]
    assert tx.returned("a").wakes_after == 30


def test_an_approval_that_a_dead_program_waits_for_is_still_asked_for(program):
    tx = program(**WAIT).ask("a", requires_approval=True).crash(1)
    assert (tx.outcome()[0], tx.result.waiting.reason) == ("approval", "approval")
    tx.deny("a")
    assert (tx.state, tx.result.reason) == ("rolled_back", "denied")


def test_a_probe_that_does_not_know_is_asked_again_while_its_program_is_dead(program):
    policy = {"has_probe": True, "probe_retry": Retry(3, 1.0, jitter=0.0)}
    tx = program(**WAIT).ask("a", policy=policy).crash(1).probed("a")
    assert tx.wakes_after == 1
    assert tx.wake().calls == ["probe:a"]


# ----------------------------------------------------------------------------------------- timers


def test_the_next_timer_is_the_next_thing_that_time_does(program, steady):
    tx = program(timeout_seconds=10_000)
    tx.did("w", undo_within_seconds=1_000)
    assert timer_at(tx.saga, tx.now) == tx.now + 940 * SECOND
    tx.ask("p", requires_approval=True, approval_timeout_seconds=100)
    assert timer_at(tx.saga, tx.now) == tx.now + 100 * SECOND
    tx.ask("l", policy={"abandon_after_seconds": 50.0}).left_behind("l")
    assert timer_at(tx.saga, tx.now) == tx.now + 50 * SECOND
    tx.ask("r", policy={"retry": steady}).raised("r")
    assert timer_at(tx.saga, tx.now) == tx.now + SECOND
    assert timer_at(tx.saga, tx.now + SECOND) == tx.now + 50 * SECOND


def test_a_planned_transaction_wakes_for_a_window_while_it_waits(play, make_step):
    a = make_step("a", undo_within_seconds=10)
    b = make_step("b", requires_approval=True)
    tx = play(a, b, on_undo_window="roll_back").commit().returned("a")
    assert tx.wakes_after == 9
    assert tx.wake().calls == ["compensation:a"]
