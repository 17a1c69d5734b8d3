"""A call that was given up and returns later: told, never counted (SEMANTICS C5, I4)."""
# mypy: disable-error-code="union-attr"

from itertools import permutations

import pytest

from aumai_transactions.core.definition import Retry
from aumai_transactions.core.entries import CallReturnedLate
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.observations import DriverArrived
from aumai_transactions.core.saga import IllegalEntry

ABANDON = {"abandon_after_seconds": 10.0}


def given_up(play, make_step, policy=ABANDON, **options):
    """a timed out and goes on in its thread; the transaction goes back."""
    return play(make_step("a", policy, **options)).commit().left_behind("a")


def test_an_undo_waits_for_a_call_that_was_left_behind(play, make_step):
    tx = given_up(play, make_step)
    assert tx.recorded == ["step_in_doubt:a", "rollback_started:a"]
    assert (tx.calls, tx.wakes_after) == ([], 10)
    waiting = tx.result.waiting
    assert (waiting.reason, waiting.step_ids) == ("left_behind", ["a"])
    assert tx.wait(9.9).calls == []
    assert tx.wait(0.1).calls == ["compensation:a"]
    assert tx.entries[-1].in_doubt


def test_it_waits_a_minute_where_nothing_is_declared(play, make_step):
    assert given_up(play, make_step, {}).wakes_after == 60


def test_after_the_wait_the_step_is_undone_and_said_to_be_able_to_act_still(play, make_step):
    tx = given_up(play, make_step).wake().returned("a")
    assert tx.state == "rolled_back"
    assert [item.reason for item in tx.result.outstanding] == ["may_still_act"]
    assert not tx.result.clean


def test_a_success_before_the_undo_becomes_its_output(play, make_step):
    tx = given_up(play, make_step).late("a", "succeeded", output={"id": 7})
    assert tx.calls == ["compensation:a"]
    assert (tx.saga.step("a").output, tx.entries[-1].in_doubt) == ({"id": 7}, False)
    tx.returned("a")
    assert tx.result.clean
    assert any("returned later, and succeeded" in warning for warning in tx.result.warnings)


def test_a_success_during_the_undo_is_outstanding_when_that_ends(play, make_step):
    tx = given_up(play, make_step).wake().late("a", "succeeded")
    assert tx.recorded == ["call_returned_late:a"]
    tx.returned("a")
    assert (tx.state, tx.result.outstanding[0].reason) == ("rolled_back", "acted_late")


def test_a_success_after_the_end_changes_no_state_and_needs_a_person(play, make_step):
    tx = given_up(play, make_step).wake().returned("a").late("a", "succeeded")
    assert (tx.state, tx.calls) == ("rolled_back", [])
    assert [item.reason for item in tx.result.outstanding] == ["acted_late"]
    assert tx.retry("a").calls == ["compensation:a"]
    assert tx.returned("a").result.clean


def test_a_success_after_a_person_has_resolved_it_needs_a_person_again(play, make_step):
    tx = given_up(play, make_step).wake().returned("a").resolve("a", "undone")
    assert tx.result.outstanding == []
    assert tx.late("a", "succeeded").result.outstanding[0].reason == "acted_late"


def test_a_refusal_of_the_only_call_before_the_undo_leaves_nothing_to_undo(play, make_step):
    tx = given_up(play, make_step).late("a", "not_done")
    assert (tx.state, tx.made) == ("rolled_back", ["action:a"])
    assert tx.result.clean


def test_a_refusal_of_the_only_call_after_the_end_takes_it_off_the_list(play, make_step):
    tx = given_up(play, make_step).wake().returned("a").late("a", "not_done")
    assert (tx.result.outstanding, tx.result.compensated_steps) == ([], ["a"])
    assert tx.result.clean


def test_a_call_that_does_not_know_what_it_did_is_waited_for_no_longer(play, make_step):
    tx = given_up(play, make_step).late("a", "in_doubt")
    assert tx.calls == ["compensation:a"]
    assert tx.entries[-1].in_doubt
    assert tx.returned("a").result.clean


def test_a_success_is_never_counted_while_a_person_is_asked(play, make_step):
    tx = play(make_step("a", on_unknown="ask")).commit().left_behind("a")
    tx.late("a", "succeeded", output={"id": 7})
    assert (tx.state, tx.states["a"], tx.result.waiting.reason) == (
        "active",
        "in_doubt",
        "in_doubt",
    )
    tx.resolve("a", "happened")
    assert (tx.state, tx.result.outputs) == ("committed", {"a": {"id": 7}})


def test_a_refusal_while_a_person_is_asked_fails_the_step(play, make_step):
    tx = play(make_step("a", on_unknown="ask")).commit().left_behind("a").late("a", "not_done")
    assert (tx.state, tx.result.clean) == ("rolled_back", True)


def test_a_refusal_of_one_of_several_calls_answers_for_itself_alone(play, make_step):
    tx = play(make_step("a", ABANDON, idempotent=True)).commit().raised("a", "in_doubt")
    tx.left_behind("a")
    tx.late("a", "not_done", attempt=2)
    assert tx.calls == ["compensation:a"]
    assert tx.entries[-1].in_doubt


def test_a_success_while_the_next_attempt_is_waited_for_is_not_forgotten(play, make_step):
    again = {"has_probe": True, "retry": Retry(first_delay_seconds=10, jitter=0)}
    for ending in ("rollback", "refusal"):
        tx = play(make_step("a", again)).commit().left_behind("a").probed("a", "not_done")
        assert tx.result.waiting.reason == "retry"
        tx.late("a", "succeeded", output={"id": 7}, attempt=1)
        if ending == "rollback":
            tx.rollback()
        else:
            tx.wake().raised("a", "not_done", may_retry=False)
            tx.probed("a", "not_done")
        assert tx.calls == ["compensation:a"], ending
        assert tx.saga.step("a").output == {"id": 7}


def test_a_done_of_a_probe_says_nothing_about_the_other_attempts(play, make_step):
    asked = {"has_probe": True}
    tx = play(make_step("a", asked, idempotent=True), make_step("b", idempotent=True)).commit()
    tx.raised("a", "in_doubt").probed("a", "not_done")
    tx.left_behind("a").probed("a", "done", {"id": 7}).raised("b", "not_done")
    assert tx.result.waiting.reason == "left_behind", "the second attempt may act yet"


def test_a_refusal_of_all_calls_leaves_nothing_to_undo(play, make_step):
    tx = play(make_step("a", ABANDON, idempotent=True)).commit().left_behind("a")
    tx.late("a", "not_done", attempt=1)
    tx.left_behind("a")
    tx.late("a", "not_done", attempt=2)
    assert (tx.state, tx.result.clean, tx.saga.step("a").undo_attempt) == ("rolled_back", True, 0)


def test_a_success_while_the_next_attempt_runs_is_told_to_the_undo(play, make_step):
    tx = play(make_step("a", idempotent=True)).commit().left_behind("a")
    assert tx.calls == ["action:a"]
    tx.late("a", "succeeded", output={"id": 7})
    tx.raised("a", "in_doubt")
    assert (tx.saga.step("a").output, tx.entries[-1].in_doubt) == ({"id": 7}, False)


def test_a_success_behind_a_counted_attempt_is_no_news(play, make_step):
    tx = play(make_step("a", idempotent=True)).commit().left_behind("a").returned("a", {"id": 7})
    assert tx.state == "committed"
    tx.late("a", "succeeded", output={"id": 7})
    assert (tx.state, tx.result.outstanding) == ("committed", [])
    assert tx.result.warnings != []


@pytest.mark.parametrize("settled", ["probe", "person"])
def test_a_success_that_was_known_already_is_no_news(play, make_step, settled):
    policy = {"has_probe": settled == "probe"}
    tx = play(make_step("a", policy, on_unknown="ask"), make_step("b")).commit().left_behind("a")
    if settled == "probe":
        tx.probed("a", "done")
    else:
        tx.resolve("a", "happened")
    tx.raised("b")
    assert tx.calls == ["compensation:a"]
    tx.returned("a").late("a", "succeeded")
    assert (tx.result.outstanding, tx.result.clean) == ([], True)


def test_a_success_of_what_was_said_not_to_have_happened_needs_a_person(play, make_step):
    tx = play(make_step("a", on_unknown="ask")).commit().left_behind("a")
    tx.resolve("a", "did_not_happen").late("a", "succeeded")
    assert (tx.state, tx.result.outstanding[0].reason) == ("rolled_back", "acted_late")


def test_a_success_of_a_failed_step_before_it_goes_back_is_outstanding_then(play, make_step):
    a = make_step("a", {"has_probe": True}, after=())
    tx = play(a, make_step("b", after=()), parallel_max=2).commit().left_behind("a")
    tx.probed("a", "not_done")
    assert tx.states["a"] == "failed"
    tx.late("a", "succeeded").returned("b").returned("b")
    assert (tx.state, tx.result.outstanding[0].reason) == ("rolled_back", "acted_late")
    assert "compensation:a" not in tx.made
    assert tx.retry("a").calls == ["compensation:a"]
    assert tx.returned("a").result.clean


def test_under_halt_a_call_that_may_still_act_halts_what_it_depends_on(play, make_step):
    tx = play(make_step("a"), make_step("b", ABANDON), on_compensation_failure="halt").commit()
    tx.returned("a").left_behind("b").wake().returned("b")
    assert (tx.state, tx.result.waiting.reason) == ("compensating", "halted")
    tx.late("b", "not_done")
    assert tx.state == "compensating"
    assert tx.claim().calls == ["compensation:a"]


def test_a_late_answer_before_its_timeout_was_recorded_is_not_waited_for(play, make_step):
    tx = play(make_step("a", ABANDON)).commit().late("a", "succeeded", output=7)
    tx.left_behind("a")
    assert tx.calls == ["compensation:a"]
    assert tx.saga.step("a").output == 7


def test_the_same_late_answer_is_recorded_once(play, make_step):
    tx = given_up(play, make_step).late("a", "in_doubt")
    assert tx.late("a", "in_doubt").recorded == []


def test_a_late_answer_of_an_undo_is_told_with_what_is_outstanding(play, make_step):
    tx = play(make_step("a"), make_step("b")).commit().returned("a").raised("b")
    tx.raised("a", "timeout", left_behind=True)
    assert tx.state == "rolled_back"
    tx.late("a", "succeeded", operation="compensation")
    (left,) = tx.result.outstanding
    assert (left.reason, "returned later, and succeeded" in left.error) == ("failed", True)


def test_a_late_answer_of_a_call_that_was_never_made_is_refused(play, make_step):
    tx = play(make_step("a")).commit()
    with pytest.raises(IllegalEntry):
        evolve(tx.saga, CallReturnedLate(1, "a", "action", 0, "succeeded"))


# ------------------------------------------------------------------------------------ takeovers


def test_the_calls_of_a_dead_driver_are_not_waited_for(play, make_step):
    tx = given_up(play, make_step).crash()
    assert tx.calls == ["compensation:a"]
    assert tx.returned("a").result.clean


def test_the_calls_of_a_living_driver_are_waited_for_by_whoever_goes_on(play, make_step):
    tx = given_up(play, make_step).claim()
    assert (tx.calls, tx.wakes_after) == ([], 10)


def test_the_same_driver_waits_for_its_own_calls_after_a_takeover(play, make_step):
    tx = given_up(play, make_step).see(DriverArrived("d1", takeover=True))
    assert (tx.calls, tx.wakes_after) == ([], 10)


def test_the_death_of_a_driver_says_nothing_about_the_calls_of_one_before(play, make_step):
    tx = given_up(play, make_step).claim()
    tx.see(DriverArrived("d9", takeover=True))
    assert (tx.calls, tx.wakes_after) == ([], 10)


def test_the_calls_of_a_dead_driver_are_forgotten_also_while_a_step_runs(play, make_step):
    tx = play(make_step("a", ABANDON, idempotent=True)).commit().left_behind("a")
    tx.crash()
    assert tx.calls == ["action:a"]
    tx.raised("a", "in_doubt")
    assert tx.calls == ["compensation:a"]
    assert tx.returned("a").result.clean


# ------------------------------------------------------------------------------------ all orders


EVENTS = ("late", "wait", "undo", "crash")


@pytest.mark.parametrize("order", list(permutations(EVENTS)), ids="-".join)
@pytest.mark.parametrize("outcome", ["succeeded", "not_done", "in_doubt"])
def test_in_no_order_is_a_late_answer_counted_or_kept_silent(play, make_step, order, outcome):
    tx = given_up(play, make_step)
    acted_at = None
    for event in order:
        if event == "late":
            acted_at = len(tx.made)
            tx.late("a", outcome)
        elif event == "wait":
            tx.wait(10)
        elif event == "crash":
            tx.crash()
        elif "compensation:a" in tx.calls or tx.saga.step("a").undo_running:
            tx.returned("a")
    while tx.state != "rolled_back":
        if tx.saga.step("a").undo_running:
            tx.returned("a")
        else:
            tx.wake()
    assert tx.made.count("action:a") == 1
    assert tx.result.outputs in ({}, {"a": None})
    undone_after = "compensation:a" in tx.made[acted_at:]
    if outcome == "succeeded" and not undone_after:
        assert [item.reason for item in tx.result.outstanding] == ["acted_late"]
    if outcome == "not_done":
        assert tx.result.clean
