"""What is recorded about a call that ended: SEMANTICS C1 to C6."""
# mypy: disable-error-code="union-attr"

import pytest

from aumai_transactions.core.definition import Retry
from aumai_transactions.core.observations import HandlerReturned, ProbeReturned, RetryAsked

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


# -------------------------------------------------------------------------- trying it once more


def test_without_a_policy_what_was_not_done_fails_at_once(play, make_step):
    tx = play(make_step("a")).commit().raised("a")
    assert tx.recorded == ["step_failed:a", "rollback_started:a", "transaction_rolled_back"]


def test_with_a_policy_what_was_not_done_is_tried_again_when_it_is_due(play, make_step, steady):
    tx = play(make_step("a", {"retry": steady})).commit().raised("a")
    assert tx.recorded == ["step_failed:a", "retry_scheduled:a"]
    assert (tx.states["a"], tx.wakes_after) == ("pending", 1)
    assert tx.wait(0.999).recorded == []
    assert tx.wait(0.001).recorded == ["step_started:a"]
    assert tx.entries[-1].attempt == 2
    assert tx.returned("a").state == "committed"


def test_the_limit_of_attempts_counts_the_first_one(play, make_step, steady):
    tx = play(make_step("a", {"retry": steady})).commit().raised("a").wake().raised("a")
    assert tx.wakes_after == 2
    tx.wake().raised("a")
    assert tx.recorded[0] == "step_failed:a"
    assert (tx.state, tx.result.failed_step) == ("rolled_back", "a")
    assert tx.made == ["action:a"] * 3


def test_no_attempt_begins_behind_the_budget(play, make_step, steady):
    retry = steady._replace(attempts_max=9, budget_seconds=3.5)
    tx = play(make_step("a", {"retry": retry})).commit().raised("a").wake().raised("a").wake()
    tx.raised("a")
    assert tx.state == "rolled_back"
    assert tx.made == ["action:a"] * 3


def test_the_draw_is_journaled_and_decides_how_much_of_a_wait_is_waited(play, make_step):
    retry = Retry(first_delay_seconds=8.0)
    tx = play(make_step("a", {"retry": retry})).commit().raised("a", draw=0.25)
    assert (tx.entries[-1].draw, tx.wakes_after) == (0.25, 2)


def test_a_rejection_is_never_tried_again(play, make_step, steady):
    tx = play(make_step("a", {"retry": steady})).commit().raised("a", may_retry=False)
    assert (tx.state, tx.made) == ("rolled_back", ["action:a"])


@pytest.mark.parametrize("policy", [{}, {"retry": Retry()}], ids=["no policy", "policy"])
def test_a_handler_that_says_later_is_tried_again_and_not_before(play, make_step, policy):
    tx = play(make_step("a", policy)).commit().raised("a", after_seconds=90.0, draw=0.0)
    assert tx.wakes_after == 90
    assert tx.result.waiting.reason == "retry"
    assert tx.wake().calls == ["action:a"]


def test_later_for_ever_ends_with_the_default_policy(play, make_step):
    tx = play(make_step("a")).commit().raised("a", after_seconds=1.0)
    while tx.state == "active":
        tx.wake().raised("a", after_seconds=1.0)
    assert tx.made == ["action:a"] * 5
    assert tx.state == "rolled_back"


def test_no_attempt_is_scheduled_behind_the_deadline_of_the_whole_transaction(
    play, make_step, steady
):
    step = make_step("a", {"retry": steady})
    whole = play(step, timeout_scope="transaction").commit().raised("a", after_seconds=61.0)
    assert whole.state == "rolled_back"
    start = play(step).commit().raised("a", after_seconds=61.0)
    assert start.wakes_after == 61


def test_an_attempt_that_is_due_behind_the_deadline_goes_back_instead(play, make_step, steady):
    tx = play(make_step("a", {"retry": steady}), timeout_scope="transaction").commit().raised("a")
    tx.wait(61)
    assert (tx.state, tx.result.reason) == ("rolled_back", "deadline")


def test_nothing_is_tried_again_once_somebody_wants_to_go_back(play, make_step, steady):
    tx = play(make_step("a", {"retry": steady})).commit().rollback().raised("a")
    assert (tx.state, tx.made) == ("rolled_back", ["action:a"])


def test_a_rollback_of_what_waits_goes_back_at_once(play, make_step, steady):
    tx = play(make_step("a"), make_step("b", {"retry": steady})).commit().returned("a").raised("b")
    tx.rollback()
    assert tx.calls == ["compensation:a"]
    assert tx.states["b"] == "failed"
    assert tx.returned("a").result.reason == "requested"


def test_another_branch_goes_on_while_a_step_waits(play, make_step, steady):
    a = make_step("a", {"retry": steady}, after=())
    tx = play(a, make_step("b", after=())).commit().raised("a")
    assert tx.recorded == ["step_failed:a", "retry_scheduled:a", "step_started:b"]
    assert tx.wakes_after is None
    assert tx.returned("b").wake().returned("a").state == "committed"


# ------------------------------------------------------------------- clearing an earlier doubt


@pytest.mark.parametrize(
    "idempotent,is_answer,clears", [(True, True, True), (True, False, False), (False, True, False)]
)
def test_a_no_clears_a_doubt_only_as_a_participants_answer_to_the_same_key(
    play, make_step, idempotent, is_answer, clears
):
    tx = play(make_step("a", idempotent=idempotent, on_unknown="ask")).commit()
    tx.raised("a", "in_doubt")
    if not idempotent:
        tx.retry("a")
    tx.raised("a", "not_done", is_answer=is_answer)
    assert tx.recorded[0] == ("step_failed:a" if clears else "step_in_doubt:a")


def test_a_no_does_not_clear_a_call_that_still_runs(play, make_step):
    tx = play(make_step("a", idempotent=True)).commit().left_behind("a")
    tx.raised("a", "not_done")
    assert tx.recorded == ["step_in_doubt:a", "rollback_started:a"]
    assert tx.result.waiting.reason == "left_behind"


def test_a_no_does_not_clear_a_call_that_is_known_to_have_acted(play, make_step):
    tx = play(make_step("a", idempotent=True)).commit().left_behind("a")
    tx.late("a", "succeeded", output={"id": 7})
    tx.raised("a", "not_done")
    assert tx.calls == ["compensation:a"]
    assert (tx.saga.step("a").output, tx.entries[-1].in_doubt) == ({"id": 7}, False)


def test_a_later_no_that_does_not_clear_is_tried_again_by_the_policy(play, make_step, steady):
    tx = play(make_step("a", {"retry": steady}, idempotent=True)).commit().raised("a", "in_doubt")
    tx.wake().raised("a", "not_done", is_answer=False)
    assert tx.recorded == ["step_in_doubt:a", "retry_scheduled:a"]
    assert tx.wake().returned("a").state == "committed"


# ------------------------------------------------------------------------------ in doubt: again


def test_without_a_policy_a_doubtful_idempotent_step_runs_once_more_at_once(play, make_step):
    tx = play(make_step("a", idempotent=True)).commit().raised("a", "in_doubt")
    assert tx.recorded == ["step_in_doubt:a", "step_started:a"]


def test_a_maybe_that_says_when_is_asked_again_then(play, make_step):
    tx = play(make_step("a", idempotent=True)).commit().raised("a", "in_doubt", after_seconds=70.0)
    assert tx.wakes_after == 70
    tx.wake().raised("a", "in_doubt", after_seconds=70.0)
    assert tx.calls == ["compensation:a"]


def test_with_a_policy_a_doubtful_idempotent_step_is_scheduled(play, make_step, steady):
    tx = play(make_step("a", {"retry": steady}, idempotent=True)).commit().raised("a", "in_doubt")
    assert tx.recorded == ["step_in_doubt:a", "retry_scheduled:a"]
    tx.wake().raised("a", "in_doubt").wake().raised("a", "in_doubt")
    assert tx.made == ["action:a"] * 3 + ["compensation:a"]
    assert tx.returned("a").result.reason == "in_doubt"


def test_a_policy_lets_no_doubtful_step_run_again_that_is_not_idempotent(play, make_step, steady):
    tx = play(make_step("a", {"retry": steady})).commit().raised("a", "in_doubt")
    assert tx.calls == ["compensation:a"]


@pytest.mark.parametrize("outcome", ["in_doubt", "timeout"])
def test_a_timeout_is_in_doubt_like_a_lost_answer(play, make_step, outcome):
    tx = play(make_step("a")).commit().raised("a", outcome)
    assert tx.recorded == ["step_in_doubt:a", "rollback_started:a", "compensation_started:a"]
    assert tx.entries[-1].in_doubt


# ------------------------------------------------------------------------------------- probes


def asked(play, make_step, policy=None, **options):
    """A step in doubt whose probe is being asked."""
    tx = play(make_step("a", {"has_probe": True} | (policy or {}), **options)).commit()
    tx.raised("a", "in_doubt")
    assert tx.calls == ["probe:a"]
    return tx


def test_a_probe_that_says_done_lets_the_step_count_with_its_output(play, make_step):
    tx = asked(play, make_step).probed("a", "done", {"id": 7})
    assert (tx.state, tx.result.outputs) == ("committed", {"a": {"id": 7}})


def test_a_probe_that_says_not_done_fails_a_step_that_is_not_idempotent(play, make_step):
    tx = asked(play, make_step).probed("a", "not_done")
    assert tx.recorded == ["probe_answered:a", "rollback_started:a", "transaction_rolled_back"]
    assert (tx.result.reason, tx.result.clean) == ("step_failed", True)


def test_a_probe_that_says_not_done_lets_an_idempotent_step_run_again(play, make_step):
    tx = asked(play, make_step, idempotent=True).probed("a", "not_done")
    assert tx.recorded == ["probe_answered:a", "retry_scheduled:a", "step_started:a"]
    tx.raised("a", "in_doubt").probed("a", "not_done")
    assert tx.state == "rolled_back"


def test_a_probe_that_says_not_done_lets_the_policy_try_again(play, make_step, steady):
    tx = asked(play, make_step, {"retry": steady}).probed("a", "not_done")
    assert tx.wakes_after == 1
    assert tx.wake().calls == ["action:a"]


def test_what_a_crash_cut_off_and_is_not_done_runs_as_if_for_the_first_time(play, make_step):
    tx = play(make_step("a", {"has_probe": True})).commit().crash()
    assert tx.calls == ["probe:a"]
    assert tx.probed("a", "not_done").calls == ["action:a"]
    assert tx.returned("a").state == "committed"


def test_a_probe_that_does_not_know_is_asked_again_by_its_policy(play, make_step, steady):
    tx = asked(play, make_step, {"probe_retry": steady}).probed("a")
    assert tx.recorded == ["probe_answered:a", "retry_scheduled:a"]
    assert (tx.wakes_after, tx.state) == (1, "active")
    tx.wake().probed("a").wake().probed("a")
    assert tx.made == ["action:a"] + ["probe:a"] * 3 + ["compensation:a"]


def test_each_new_doubt_may_be_asked_about_as_often(play, make_step, steady):
    policy = {"probe_retry": steady._replace(attempts_max=1)}
    tx = asked(play, make_step, policy, idempotent=True).probed("a")
    assert tx.calls == ["action:a"]
    assert tx.raised("a", "in_doubt").calls == ["probe:a"]
    assert tx.probed("a").calls == ["compensation:a"]


def test_still_unknown_an_idempotent_step_runs_again_by_its_policy(play, make_step, steady):
    once = Retry(attempts_max=1)
    tx = asked(play, make_step, {"retry": steady, "probe_retry": once}, idempotent=True)
    tx.probed("a")
    assert tx.recorded == ["probe_answered:a", "retry_scheduled:a"]
    assert tx.wake().calls == ["action:a"]


def test_a_probe_that_is_not_here_is_no_answer(play, make_step):
    tx = asked(play, make_step, on_unknown="ask").missing_of("a", "probe")
    assert tx.result.waiting.reason == "in_doubt"


def test_a_probe_is_asked_while_going_back_and_its_yes_gives_the_output(play, make_step):
    tx = play(make_step("a", {"has_probe": True})).commit().rollback().raised("a", "in_doubt")
    assert tx.calls == ["probe:a"]
    tx.probed("a", "done", {"id": 7})
    assert (tx.calls, tx.saga.step("a").output) == (["compensation:a"], {"id": 7})
    assert not tx.entries[-1].in_doubt


def test_a_probe_that_says_not_done_while_going_back_leaves_nothing_to_undo(play, make_step):
    tx = play(make_step("a", {"has_probe": True})).commit().rollback().raised("a", "in_doubt")
    tx.probed("a", "not_done")
    assert (tx.state, tx.made) == ("rolled_back", ["action:a", "probe:a"])
    assert tx.result.clean


def test_an_answer_of_a_probe_that_a_person_was_faster_than_is_not_recorded(play, make_step):
    tx = asked(play, make_step).resolve("a", "happened")
    assert tx.see(ProbeReturned("a", "not_done")).recorded == []
    assert tx.state == "committed"


def test_a_person_who_asks_for_a_retry_has_the_probe_asked_first(play, make_step):
    once = {"probe_retry": Retry(attempts_max=1)}
    tx = asked(play, make_step, once, on_unknown="ask").probed("a")
    assert tx.result.waiting.reason == "in_doubt"
    assert tx.retry("a").calls == ["probe:a"]
    assert tx.probed("a").calls == ["action:a"]


def test_the_probe_of_what_waits_for_its_next_attempt_can_be_asked_at_once(play, make_step, steady):
    tx = asked(play, make_step, {"probe_retry": steady}).probed("a")
    assert tx.see(RetryAsked("a")).calls == ["probe:a"]
