"""What a saga looks like from outside."""

import pytest

from aumai_transactions.core.definition import Reference, Retry
from aumai_transactions.core.observations import CommitCalled, PlanGiven, RollbackCalled
from aumai_transactions.core.outcome import (
    attention_of,
    is_runnable,
    needed_actions,
    result_of,
    show,
    summary_of,
    transaction_of,
)
from aumai_transactions.core.times import instant
from aumai_transactions.models import RetryPolicy, Transaction


def test_a_summary_counts_steps_completions_and_agents(play, make_step):
    tx = play(make_step("a"), make_step("b"), name="trip").commit().returned("a")
    summary = summary_of(tx.saga)
    assert (summary.steps, summary.completed, summary.agents) == (2, 1, ("agent",))
    assert (summary.state.value, summary.name, summary.timeout_seconds) == ("active", "trip", 60)
    assert summary.runnable
    assert summary.attention is None


def states(play, make_step):
    """Plays that stand in every situation, by what a list must say about them."""
    a, b = make_step("a"), make_step("b")
    asks = make_step("a", on_unknown="ask")
    saved = play(a)
    saved.see(PlanGiven(saved.definition))
    wanted = play(a)
    wanted.see(PlanGiven(wanted.definition))
    wanted.saga.commit_requested = True
    halt = play(a, b, on_compensation_failure="halt").commit().returned("a").raised("b")
    done = play(a, b).commit().returned("a").raised("b")
    return {
        "saved": (saved, None, False),
        "wanted": (wanted, None, True),
        "running": (play(a).commit(), None, True),
        "asking": (play(asks).commit().raised("a", "in_doubt"), "in_doubt", False),
        "undoing": (play(a, b).commit().returned("a").raised("b"), None, True),
        "halted": (halt.raised("a"), "halted", False),
        "outstanding": (done.raised("a"), "outstanding", False),
        "committed": (play().commit(), None, False),
        "rolled back": (play(a).commit().raised("a"), None, False),
        "expired": (expired(play), None, False),
    }


LATER = Retry(2, 9.0, jitter=0.0)


def waiting_states(play, make_step):
    """Plays that wait for a time: by what for, for which steps, and for how long."""
    a, b = make_step("a"), make_step("b")
    retried = play(make_step("a", {"retry": LATER})).commit().raised("a")
    probed = play(make_step("a", {"has_probe": True, "probe_retry": LATER})).commit()
    undone = play(make_step("a", {"undo_retry": LATER}), b).commit().returned("a").raised("b")
    policy = {"has_verify": True, "verify_retry": LATER}
    verified = play(make_step("a", policy), b).commit().returned("a").raised("b").returned("a")
    left = play(make_step("a", {"abandon_after_seconds": 9.0}), b).commit().left_behind("a")
    person = play(a, make_step("b", on_unknown="ask")).commit().returned("a")
    return {
        "next attempt": (retried, "retry", 9),
        "next probe": (probed.raised("a", "in_doubt").probed("a"), "retry", 9),
        "next undo": (undone.raised("a"), "retry", 9),
        "next verification": (verified.verified("a"), "retry", 9),
        "left behind": (left, "left_behind", 9),
        "person": (person.raised("b", "in_doubt"), "in_doubt", None),
    }


@pytest.mark.parametrize(
    "name",
    ["next attempt", "next probe", "next undo", "next verification", "left behind", "person"],
)
def test_what_waits_for_a_time_says_for_what_and_until_when(play, make_step, name):
    tx, reason, seconds = waiting_states(play, make_step)[name]
    summary, waiting = summary_of(tx.saga), tx.result.waiting
    assert (waiting.reason, waiting.step_ids) == (reason, ["b" if name == "person" else "a"])
    if seconds is None:
        assert (waiting.until, summary.due_at) == (None, None)
        assert (summary.attention, summary.runnable) == ("in_doubt", False)
        return
    due = tx.now + seconds * 1_000_000
    assert (summary.due_at, summary.runnable, summary.attention) == (due, True, None)
    assert waiting.until == instant(due)
    assert waiting.until.isoformat(timespec="seconds").replace("+00:00", "Z") in waiting.detail
    assert "retry tx a" in waiting.detail, "how not to wait"
    assert not tx.result.is_final


def test_what_runs_is_due_at_no_time(play, make_step):
    summary = summary_of(play(make_step("a")).commit().saga)
    assert (summary.due_at, summary.runnable) == (None, True)


def test_a_time_that_is_waited_for_is_over_when_its_call_begins(play, make_step):
    tx = play(make_step("a", {"retry": LATER})).commit().raised("a").wake()
    assert summary_of(tx.saga).due_at is None
    assert tx.result.waiting.reason == "running"


def test_the_policy_of_a_step_and_the_key_are_shown(play, make_step):
    tx = play(make_step("a", {"retry": LATER, "timeout_seconds": 3.0}), make_step("b"), key="k")
    tx.see(PlanGiven(tx.definition))
    found = transaction_of(tx.saga)
    assert found.idempotency_key == "k"
    assert found.steps[0].retry == RetryPolicy(attempts_max=2, first_delay_seconds=9, jitter=0)
    assert (found.steps[0].timeout_seconds, found.steps[1].retry) == (3.0, None)


def expired(play):
    tx = play()
    tx.now += 61_000_000
    return tx.commit()


@pytest.mark.parametrize(
    "name",
    [
        "saved",
        "wanted",
        "running",
        "asking",
        "undoing",
        "halted",
        "outstanding",
        "committed",
        "rolled back",
        "expired",
    ],
)
def test_a_list_says_who_needs_a_person_and_who_a_driver(play, make_step, name):
    tx, attention, runnable = states(play, make_step)[name]
    assert attention_of(tx.saga) == attention
    assert is_runnable(tx.saga) is runnable
    result = result_of(tx.saga, durable=True)
    assert result.is_final is (name in ("outstanding", "committed", "rolled back", "expired"))


def test_a_requested_rollback_makes_an_asking_transaction_runnable(play, make_step):
    tx = play(make_step("a", on_unknown="ask")).commit().raised("a", "in_doubt")
    tx.saga.rollback_requested = "requested"
    assert is_runnable(tx.saga)


def test_the_actions_that_are_needed_are_those_that_may_still_be_called(play, make_step):
    tx = play(make_step("a"), make_step("b"), make_step("c"))
    tx.see(PlanGiven(tx.definition))
    everything = {"do_a", "do_b", "do_c", "undo_a", "undo_b", "undo_c"}
    assert set(needed_actions(tx.saga)) == everything
    tx = play(make_step("a"), make_step("b"), make_step("c")).commit().returned("a")
    assert set(needed_actions(tx.saga)) == everything - {"do_a"}
    tx.raised("b")
    assert needed_actions(tx.saga) == ["undo_a"]
    tx.returned("a")
    assert needed_actions(tx.saga) == []


WAITS = {"on_crash": "wait", "resume_within_seconds": 30}


@pytest.mark.parametrize(
    "policy, step, is_called",
    [
        ({}, {}, False),
        ({}, {"idempotent": True}, False),
        (WAITS, {}, False),
        (WAITS, {"idempotent": True}, True),
        ({"on_crash": "resume"}, {"idempotent": True}, True),
        ({}, {"idempotent": True, "pivot": True}, True),
    ],
)
def test_of_what_a_program_left_only_what_is_safe_to_call_again_is_needed(
    program, policy, step, is_called
):
    tx = program(**policy).did("a").ask("b", **step)
    needed = needed_actions(tx.saga)
    assert ("do_b" in needed, "do_a" in needed) == (is_called, False)
    assert {"undo_a", "undo_b"} <= set(needed)
    assert ("action:b" in tx.crash().calls) is is_called


def test_a_program_that_asked_for_its_commit_needs_all_that_it_asked_for(program):
    tx = program().did("a").ask("b").commit()
    assert "do_b" in needed_actions(tx.saga)


def test_a_pending_rollback_needs_only_what_undoes(play, make_step):
    tx = play(make_step("a"), make_step("b"))
    tx.see(PlanGiven(tx.definition))
    tx.saga.rollback_requested = "requested"
    assert set(needed_actions(tx.saga)) == {"undo_a", "undo_b"}


def test_a_simulated_step_needs_nothing_to_be_undone(play, make_step):
    tx = play(make_step("a"), make_step("b")).commit().missing("a")
    assert "undo_a" not in needed_actions(tx.saga)


def test_show_brings_the_callers_object_up_to_date_and_only_what_changed(play, make_step):
    tx = play(make_step("a"), make_step("b")).commit()
    mine = transaction_of(tx.saga)
    models = list(mine.steps)
    tx.returned("a")
    show(tx.saga, mine, models)
    assert [step.state.value for step in mine.steps] == ["succeeded", "running"]
    assert not tx.saga.touched
    tx.raised("b")
    show(tx.saga, mine, models)
    assert mine.state.value == "compensating"
    assert [step.state.value for step in mine.steps] == ["compensating", "failed"]


def test_a_transaction_read_from_a_journal_has_everything_that_was_declared(play, make_step):
    b = make_step("b", after=("a",), references=(Reference(("x",), "a", "/y"),), data={"x": None})
    options = {"timeout_scope": "transaction", "on_crash": "resume", "name": "trip"}
    tx = play(make_step("a"), b, on_compensation_failure="halt", **options)
    tx.see(PlanGiven(tx.definition), CommitCalled())
    found = transaction_of(tx.saga)
    assert Transaction.model_validate_json(found.model_dump_json()) == found
    assert found.steps[1].after == ["a"]
    assert found.steps[1].references[0].model_dump() == {
        "into": ["x"],
        "step_id": "a",
        "at": "/y",
        "type": None,
    }
    assert (found.timeout_scope, found.on_crash, found.name) == ("transaction", "resume", "trip")
    assert found.on_compensation_failure == "halt"


def test_a_result_holds_the_outputs_that_there_were(play, make_step):
    tx = play(make_step("a"), make_step("b"), make_step("c")).commit()
    tx.returned("a", {"id": 1}).returned("b").returned("c", False)
    assert tx.result.outputs == {"a": {"id": 1}, "c": False}


def test_times_of_a_result_are_those_of_the_journal(play, make_step):
    tx = play(make_step("a")).commit()
    assert tx.result.started_at is not None
    assert tx.result.finished_at is None
    tx.now += 5_000_000
    tx.returned("a")
    assert (tx.result.finished_at - tx.result.started_at).total_seconds() == 5


def test_a_left_effect_stays_visible_after_a_person_has_decided_to_leave_it(play, make_step):
    tx = play(make_step("a"), make_step("b")).commit().returned("a").raised("b").raised("a")
    tx.resolve("a", "left_in_place")
    # I12: nothing silent; it is off the operator's list, and still said.
    assert attention_of(tx.saga) is None
    assert any("left in place" in warning for warning in tx.result.warnings)


def test_a_rollback_that_is_requested_while_pending_needs_no_claim_to_be_seen(play, make_step):
    tx = play(make_step("a"))
    tx.see(PlanGiven(tx.definition), RollbackCalled())
    assert tx.state == "compensating"


def test_a_halted_effect_that_nothing_undoes_is_not_said_to_be_retriable(play, make_step):
    a = make_step("a", compensating_action=None, on_unknown="compensate")
    tx = play(a, on_compensation_failure="halt").commit().raised("a", "in_doubt")
    assert tx.result.waiting.reason == "halted"
    assert "resolve tx a --undone" in tx.result.waiting.detail
    assert "retry" not in tx.result.waiting.detail
