"""What becomes of a part that goes back where something is in doubt, or an undo fails."""
# mypy: disable-error-code="union-attr"

import pytest

from aumai_transactions.core.planning import timer_at

# ------------------------------------------------------------------------------------- in doubt


def test_a_step_in_doubt_is_undone_alone_and_its_program_goes_on(program):
    tx = program().did("x").ask("a").raised("a", "in_doubt")
    assert tx.recorded == [
        "step_in_doubt:a",
        "partial_rollback_started:a",
        "compensation_started:a",
    ]
    tx.returned("a")
    assert (tx.states["a"], tx.saga.step("a").doubt, tx.saga.unsettled) == ("compensated", None, 0)
    assert tx.commit().result.clean
    assert "step a was undone: Problem: a raised" in tx.result.warnings


def test_a_step_in_doubt_that_nothing_undoes_waits_for_a_person(program):
    tx = program().ask("a", compensating_action=None).raised("a", "in_doubt").commit()
    assert (tx.state, tx.result.waiting.reason) == ("active", "in_doubt")
    assert tx.resolve("a", "happened").state == "committed"


@pytest.mark.parametrize("answer,state", [("happened", "succeeded"), ("did_not_happen", "failed")])
def test_a_person_settles_a_step_in_doubt_and_the_commit_goes_on(program, answer, state):
    tx = program().ask("a", on_unknown="ask").raised("a", "in_doubt").commit()
    assert tx.state == "active"
    tx.resolve("a", answer)
    assert (tx.state, tx.states["a"]) == ("committed", state)


def test_an_undo_of_a_step_in_doubt_that_fails_takes_the_whole_back(program):
    tx = program().did("x").ask("a").raised("a", "in_doubt").raised("a")
    assert (tx.state, tx.calls) == ("compensating", ["compensation:x"])
    assert [item.reason for item in tx.returned("x").result.outstanding] == ["failed"]


def test_a_step_in_doubt_that_is_idempotent_runs_again_before_it_is_undone(program):
    tx = program().ask("a", idempotent=True).raised("a", "in_doubt")
    assert tx.calls == ["action:a"]
    assert tx.returned("a", 7).commit().result.outputs == {"a": 7}


def test_an_undo_waits_for_a_call_that_was_left_behind(program):
    tx = program().ask("a", policy={"abandon_after_seconds": 10.0}).left_behind("a")
    assert (tx.calls, timer_at(tx.saga, tx.now)) == ([], tx.now + 10_000_000)
    assert tx.ask("b").calls == ["action:b"]
    tx.late("a", "succeeded", output=7)
    assert tx.calls == ["compensation:a"]
    assert tx.saga.step("a").output == 7
    tx.returned("a").returned("b").commit()
    assert (tx.state, tx.result.compensated_steps) == ("committed", ["a"])


def test_a_call_that_was_left_behind_and_answers_not_done_needs_no_undo(program):
    tx = program().ask("a", policy={"abandon_after_seconds": 10.0}).left_behind("a")
    tx.late("a", "not_done")
    assert (tx.states, tx.calls) == ({"a": "failed"}, [])
    assert tx.commit().result.clean


def test_a_call_that_may_still_act_when_its_undo_has_ended_takes_the_whole_back(program):
    tx = program().did("x").ask("a", policy={"abandon_after_seconds": 10.0}).left_behind("a")
    tx.wait(10).returned("a")
    assert (tx.state, tx.calls) == ("compensating", ["compensation:x"])
    assert [item.reason for item in tx.returned("x").result.outstanding] == ["may_still_act"]


def test_a_success_after_its_step_was_undone_takes_the_whole_back(program):
    tx = program().did("x").ask("f", policy={"has_probe": True}).left_behind("f")
    tx.probed("f", "not_done")
    assert tx.states["f"] == "failed"
    tx.late("f", "succeeded")
    assert (tx.state, tx.calls) == ("compensating", ["compensation:x"])
    assert [item.reason for item in tx.returned("x").result.outstanding] == ["acted_late"]


def test_a_success_after_the_commit_is_on_the_list_and_can_be_undone(program):
    tx = program().ask("f", policy={"has_probe": True}).left_behind("f").probed("f", "not_done")
    assert tx.did("g").commit().result.clean
    tx.late("f", "succeeded", output=3)
    assert (tx.state, tx.outcome()[0]) == ("committed", "outstanding")
    assert tx.result.outstanding[0].reason == "acted_late"
    tx.retry("f")
    assert tx.calls == ["compensation:f"]
    tx.returned("f")
    assert (tx.states["f"], tx.outcome()[:2]) == ("compensated", (None, False))


# ---------------------------------------------------------------------------------- halt policy


def test_under_halt_a_failed_undo_of_a_part_halts_what_it_depends_on(program):
    tx = program(on_compensation_failure="halt").did("x").did("y").did("a", after=("x",))
    tx.undo("a").raised("a")
    assert (tx.state, tx.calls) == ("compensating", ["compensation:y"])
    tx.returned("y")
    assert (tx.result.waiting.reason, tx.outcome()[:2]) == ("halted", ("halted", False))
    tx.retry("a")
    assert tx.calls == ["compensation:a"]
    assert tx.returned("a").calls == ["compensation:x"]
    assert tx.returned("x").result.clean
