"""What attackers of the core found: each of these once went wrong."""
# mypy: disable-error-code="union-attr"

import pytest

from aumai_transactions.core.definition import Reference, Retry
from aumai_transactions.core.description import describe
from aumai_transactions.core.entries import (
    CommitRequested,
    ErrorRecord,
    PartialRollbackStarted,
    PlanRecorded,
    RollbackStarted,
    StepFailed,
    StepStarted,
    StepSucceeded,
    TransactionActivated,
    TransactionCommitted,
)
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.observations import ResolutionAnswered, RetryAsked, RollbackCalled
from aumai_transactions.core.outcome import scope_result
from aumai_transactions.core.saga import IllegalEntry
from aumai_transactions.errors import (
    DefinitionError,
    InvalidTransactionState,
    IrreversibleBeforeCompensatable,
)

PIVOT = {"pivot": True, "compensating_action": None}
WAIT = {"on_crash": "wait", "resume_within_seconds": 30}
SUCCEEDED = StepSucceeded(1, "a", 1)
PARALLEL = {"parallel_compensation": True, "parallel_max": 8}


def refers(step_id, at="/id"):
    return {"references": (Reference(("x",), step_id, at),), "data": {"x": None}}


# ------------------------------------------------------------------------------------ going back


def test_an_undo_without_a_handler_does_not_stop_the_others(play, make_step):
    tx = play(make_step("a"), make_step("b"), make_step("c")).commit().returned("a").returned("b")
    tx.raised("c").missing("b")
    assert tx.calls == ["compensation:a"]
    assert tx.returned("a").result.outstanding[0].reason == "no_handler"


def test_an_undo_of_a_part_that_has_no_handler_takes_the_whole_back(program):
    tx = program().did("x").did("a").undo("a").missing("a")
    assert (tx.state, tx.calls) == ("compensating", ["compensation:x"])


def test_parallel_undos_keep_the_order_over_a_step_that_has_nothing_to_undo(play, make_step):
    between = make_step("b", compensating_action=None, effect="none")
    tx = play(make_step("a"), between, make_step("c"), make_step("d"), **PARALLEL).commit()
    tx.returned("a").returned("b").returned("c").raised("d")
    assert tx.calls == ["compensation:c"]
    with pytest.raises(IllegalEntry, match="depends on it"):
        evolve(tx.saga, type(tx.entries[-1])(1, "a", 1))


def test_a_nested_transaction_is_no_unit_over_a_step_that_has_nothing_to_undo(program, make_scope):
    child = make_scope("c1", "child")
    tx = program().did("x1", child).did("m", after=("x1",), compensating_action=None, effect="none")
    tx.did("y", after=("m",)).did("x2", child).rollback()
    assert tx.calls == ["compensation:x2"]
    assert tx.returned("x2").calls == ["compensation:y"]
    assert tx.returned("y").calls == ["compensation:x1"]


def test_parallel_undos_wake_for_the_one_that_waits(play, make_step, steady):
    policy = {"undo_retry": steady}
    steps = [make_step("a", policy), make_step("b", policy), make_step("c")]
    tx = play(*steps, **PARALLEL).commit().returned("a").returned("b").raised("c").raised("b")
    assert tx.wakes_after == 1
    assert tx.result.waiting.step_ids == ["b"]


def test_the_sentence_about_parallel_undos_names_the_one_that_is_due(play, make_step, steady):
    a = make_step("a", {"undo_retry": steady}, after=())
    b = make_step("b", {"abandon_after_seconds": 30.0}, after=())
    tx = play(a, b, make_step("c", after=()), **PARALLEL).commit()
    tx.returned("a").left_behind("b").raised("c").raised("a")
    assert (tx.wakes_after, tx.result.waiting.reason) == (1, "retry")
    assert tx.result.waiting.step_ids == ["a"]


# ------------------------------------------------------------------------------- parts going back


def test_a_step_without_an_effect_that_comes_into_doubt_is_dealt_with(program):
    tx = program().ask("a", compensating_action=None, effect="none").raised("a", "in_doubt")
    assert (tx.states, tx.saga.doubtful, tx.saga.unsettled) == ({"a": "failed"}, {}, 0)
    tx.commit()
    assert (tx.state, tx.result.clean) == ("committed", True)


def test_a_late_success_of_a_step_without_an_effect_matters_to_nobody(program):
    tx = program().ask("a", compensating_action=None, effect="none").left_behind("a")
    tx.late("a", "succeeded").commit()
    assert (tx.state, tx.result.outstanding) == ("committed", [])


def test_what_a_call_said_late_is_undone_and_not_left_out(program, steady):
    tx = program().ask("a", policy={"has_probe": True, "retry": steady}).left_behind("a")
    tx.probed("a", "not_done").late("a", "succeeded", output=7)
    assert tx.states == {"a": "pending"}
    tx.undo("a")
    assert (tx.calls, tx.saga.step("a").output) == (["compensation:a"], 7)
    assert tx.returned("a").commit().result.compensated_steps == ["a"]


def test_what_a_call_said_late_becomes_the_output_that_is_undone(program):
    tx = program().ask("a", on_unknown="ask").left_behind("a").late("a", "succeeded", output=7)
    assert tx.states == {"a": "in_doubt"}
    tx.undo("a")
    assert (tx.calls, tx.saga.step("a").output) == (["compensation:a"], 7)
    assert not tx.entries[-1].in_doubt


@pytest.mark.parametrize("how", ["probe", "late", "person"])
def test_what_turns_out_to_have_happened_and_cannot_be_undone_is_said_to_stay(program, how):
    tx = program().ask("a", policy={"has_probe": True}, compensating_action=None)
    tx.left_behind("a").undo("a")
    if how == "probe":
        tx.probed("a", "done", 5)
    elif how == "late":
        tx.late("a", "succeeded", output=5)
    else:
        tx.see(ResolutionAnswered("a", "happened", "me", "n"))
    tx.commit()
    assert (tx.state, tx.result.uncompensated, tx.result.outputs) == ("committed", ["a"], {})
    assert any("it stays" in warning for warning in tx.result.warnings)


def halted(program):
    """b runs; the undo of a has left something that needs a person; the policy is halt."""
    tx = program(on_compensation_failure="halt").ask("b").did("a").undo("a").raised("a")
    assert (tx.state, tx.states["a"]) == ("active", "outstanding")
    return tx


def test_an_undo_that_is_tried_again_while_others_run_lets_the_transaction_go_on(program):
    tx = halted(program).see(RetryAsked("a"))
    assert tx.calls == ["compensation:a"]
    tx.returned("a").returned("b").commit()
    assert (tx.state, tx.result.clean) == ("committed", True)


@pytest.mark.parametrize("answer", ["undone", "left_in_place"])
def test_a_person_who_resolves_an_undo_while_others_run_lets_it_go_on(program, answer):
    tx = halted(program).see(ResolutionAnswered("a", answer, "me", "n"))
    tx.returned("b").commit()
    assert (tx.state, tx.states["a"]) == ("committed", "resolved")
    assert tx.result.uncompensated == (["a"] if answer == "left_in_place" else [])


def test_a_late_refusal_after_the_undo_lets_a_halted_transaction_go_on(program):
    tx = program(on_compensation_failure="halt").ask("b").ask("a").left_behind("a")
    tx.see(RetryAsked("a")).returned("a")
    assert (tx.states["a"], tx.saga.halted) == ("outstanding", {1})
    tx.late("a", "not_done").returned("b").commit()
    assert (tx.state, tx.result.clean) == ("committed", True)


def test_a_rollback_after_such_a_refusal_is_not_halted_by_it(program):
    tx = program(on_compensation_failure="halt").ask("b").ask("a").left_behind("a")
    tx.see(RetryAsked("a")).returned("a").late("a", "not_done").returned("b").rollback()
    assert tx.calls == ["compensation:b"]
    assert tx.returned("b").state == "rolled_back"


def test_a_nested_transaction_is_undone_with_the_savepoint_that_it_stands_in(program, make_scope):
    outer, child = make_scope("s1"), make_scope("c1", "child", "s1")
    tx = program().did("a", outer, child).release(outer, child).undo_scope(outer).returned("a")
    assert scope_result(tx.saga, "c1", durable=True).state.value == "rolled_back"


def test_a_group_that_is_not_there_is_an_illegal_entry(program):
    tx = program().did("a")
    with pytest.raises(IllegalEntry, match="not there"):
        evolve(tx.saga, PartialRollbackStarted(1, ("a",), "requested", "zzz"))


def test_a_step_in_doubt_that_is_to_be_undone_does_not_run_again(program):
    tx = program().ask("a", idempotent=True, on_unknown="ask").left_behind("a").left_behind("a")
    tx.undo("a")
    with pytest.raises(IllegalEntry, match="to be undone"):
        evolve(tx.saga, StepStarted(1, "a", 3))


def test_what_waits_for_its_group_keeps_what_it_depends_on_from_being_undone(program, make_scope):
    group = make_scope("s1")
    tx = program().did("a").did("b", group, after=("a",)).ask("c", group).undo_scope(group)
    assert tx.undo("a").calls == []
    assert tx.returned("c").calls == ["compensation:c"]
    assert tx.returned("c").calls == ["compensation:b"]
    assert tx.returned("b").calls == ["compensation:a"]


# ------------------------------------------------------------------------------------- the pivot


@pytest.mark.parametrize("shape", ["planned", "interactive"])
def test_a_pivot_in_doubt_is_run_again_whatever_the_deadline_says(play, program, make_step, shape):
    if shape == "planned":
        p = make_step("p", idempotent=True, **PIVOT)
        tx = play(make_step("a"), p, timeout_scope="transaction").commit().returned("a")
    else:
        tx = program().did("a").ask("p", idempotent=True, **PIVOT)
    tx.now += 3600 * 1_000_000
    assert tx.raised("p", "in_doubt").calls == ["action:p"]
    assert tx.returned("p").state == "committed"


def test_a_late_success_while_the_pivot_runs_is_left_to_a_person(program):
    tx = program().ask("f", policy={"has_probe": True}).left_behind("f").probed("f", "not_done")
    tx.ask("p", **PIVOT).late("f", "succeeded")
    assert tx.state == "active"
    tx.returned("p")
    assert (tx.state, tx.outcome()[0]) == ("committed", "outstanding")
    assert tx.result.outstanding[0].reason == "acted_late"


def test_a_rollback_that_waits_for_a_pivot_in_doubt_is_nobodys_work(play, make_step):
    tx = play(make_step("a"), make_step("p", **PIVOT)).commit().returned("a")
    tx.raised("p", "in_doubt").rollback()
    assert (tx.outcome(), tx.result.waiting.reason) == (("in_doubt", False, None), "in_doubt")
    assert tx.resolve("p", "did_not_happen").calls == ["compensation:a"]


def test_a_rollback_that_waits_for_a_pivot_does_not_keep_it_from_being_asked_about(play, make_step):
    policy = {"has_probe": True, "probe_retry": Retry(3, 1.0, jitter=0.0)}
    tx = play(make_step("a"), make_step("p", policy, **PIVOT)).commit().returned("a")
    tx.raised("p", "in_doubt").probed("p").rollback()
    assert tx.wakes_after == 1
    assert tx.wake().probed("p", "done").state == "committed"


def test_another_pivot_may_come_where_the_first_was_left_out(program):
    tx = program().did("a").ask("p", requires_approval=True, **PIVOT).undo("p")
    assert tx.ask("q", **PIVOT).returned("q").state == "committed"


def test_a_pivot_in_a_nested_transaction_is_refused(program, make_scope):
    child, inner = make_scope("c1", "child"), make_scope("s1", parent="c1")
    with pytest.raises(DefinitionError, match="nested transaction"):
        program().ask("p", child, inner, **PIVOT)
    assert program().ask("p", make_scope("s1"), **PIVOT).calls == ["action:p"]


def test_nobody_undoes_a_nested_transaction_while_the_pivot_runs(program, make_scope):
    child = make_scope("c1", "child")
    tx = program().did("a", child).release(child).ask("p", **PIVOT)
    with pytest.raises(InvalidTransactionState, match="Its pivot 'p' is running"):
        tx.see(RollbackCalled(scope_id="c1"))


def test_a_pivot_that_may_have_decided_leaves_nothing_to_be_rolled_back(program):
    tx = program().did("a").ask("p", **PIVOT)
    assert not describe(tx.saga, tx.now).can_be_rolled_back


def test_what_was_read_is_read_again_before_each_claim_of_the_commit(play, make_step, steady):
    p = make_step("p", {"retry": steady}, **PIVOT)
    tx = play(make_step("a", {"has_reread": True}), p).commit().returned("a").reread("a")
    tx.raised("p").claim()
    assert tx.wait(1).calls == ["reread:a"]
    assert tx.reread("a").calls == ["action:p"]


def test_a_read_that_was_taken_back_meanwhile_is_no_conflict(program):
    tx = program().did("r", policy={"has_reread": True}).ask("p", **PIVOT)
    assert tx.calls == ["reread:r"]
    tx.undo("r").reread("r", holds=False)
    assert tx.saga.conflict is None
    assert tx.returned("r").calls == ["action:p"]


# ------------------------------------------------------------------------------------ held steps


def test_held_steps_run_in_the_order_of_what_they_depend_on(play, make_step):
    h = make_step("h", on_commit=True, after=("i",))
    tx = play(make_step("a"), h, make_step("i", on_commit=True)).commit().returned("a")
    assert tx.calls == ["action:i"]
    assert tx.returned("i").calls == ["action:h"]


def test_a_held_step_may_refer_to_another_one(play, make_step):
    i = make_step("i", on_commit=True, **refers("h"))
    tx = play(make_step("a"), make_step("h", on_commit=True), i).commit().returned("a")
    assert tx.calls == ["action:h"]
    tx.returned("h", {"id": 7})
    assert (tx.calls, tx.entries[-1].data) == (["action:i"], {"x": 7})
    assert tx.returned("i").state == "committed"


@pytest.mark.parametrize("by", ["pivot", "held step"])
def test_a_held_step_that_cannot_be_filled_in_is_not_called_and_needs_a_person(play, make_step, by):
    first = make_step("f", **PIVOT) if by == "pivot" else make_step("f", on_commit=True)
    h = make_step("h", on_commit=True, **refers("f"))
    tx = play(make_step("a"), first, h).commit().returned("a").returned("f", {})
    assert (tx.calls, tx.outcome()) == ([], ("commit", False, None))
    assert "UnresolvedReference" in tx.result.waiting.detail
    assert tx.retry("h").outcome() == ("commit", False, None)
    assert tx.resolve("h", "left_in_place").state == "committed"


def test_a_held_step_goes_on_after_its_rollback_was_revoked(play, make_step):
    h = make_step("h", on_commit=True, **refers("a"))
    tx = play(make_step("a"), h).commit().returned("a", {})
    assert tx.calls == ["compensation:a"]
    tx.returned("a", {"id": 1}, continues=True)
    assert (tx.state, tx.calls, tx.entries[-1].data) == ("committing", ["action:h"], {"x": 1})


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_held_step_that_a_probe_calls_not_done_is_tried_five_times(play, make_step, idempotent):
    h = make_step("h", {"has_probe": True}, on_commit=True, idempotent=idempotent)
    tx = play(make_step("a"), h).commit().returned("a")
    for _ in range(4):
        tx.raised("h", "in_doubt").probed("h", "not_done", draw=0.5).wake()
        assert tx.calls == ["action:h"]
    assert tx.raised("h", "in_doubt").probed("h", "not_done").outcome()[0] == "commit"


@pytest.mark.parametrize("retry", [None, Retry(1)])
def test_a_held_step_that_succeeded_late_has_happened(play, make_step, retry):
    h = make_step("h", {"has_probe": True, "retry": retry}, on_commit=True)
    tx = play(make_step("a"), h).commit().returned("a").left_behind("h").probed("h", "not_done")
    assert tx.states["h"] == ("pending" if retry is None else "failed")
    tx.late("h", "succeeded", output=3)
    assert (tx.state, tx.result.outputs["h"], tx.result.outstanding) == ("committed", 3, [])


def test_a_held_step_that_was_left_in_place_and_acts_late_is_on_the_list(play, make_step):
    h = make_step("h", {"has_probe": True, "retry": Retry(1)}, on_commit=True)
    tx = play(make_step("a"), h).commit().returned("a").left_behind("h").probed("h", "not_done")
    assert tx.resolve("h", "left_in_place").late("h", "succeeded").state == "committed"
    assert tx.outcome() == ("outstanding", False, None)


@pytest.mark.parametrize(
    "entry", [StepStarted(1, "h", 2), StepFailed(1, "h", 0, ErrorRecord("E", ""))], ids=str
)
def test_a_held_step_that_was_done_is_not_started_again(play, make_step, entry):
    held = make_step("h", on_commit=True)
    tx = play(make_step("a"), held, make_step("i", on_commit=True)).commit()
    tx.returned("a").returned("h").returned("i")
    tx.saga.state = type(tx.saga.state)("committing")
    with pytest.raises(IllegalEntry):
        evolve(tx.saga, entry)


# ------------------------------------------------------------------------------------- approvals


def test_a_step_waits_for_its_approval_again_after_a_rollback_was_revoked(play, make_step):
    asked = make_step("b", after=(), requires_approval=True, approval_timeout_seconds=50)
    c, x = make_step("c", after=()), make_step("x", after=("c",))
    tx = play(c, asked, x, parallel_max=3).commit().returned("c").raised("x")
    tx.returned("c", 1, continues=True).returned("x")
    assert (tx.outcome(), tx.wakes_after) == (("approval", True, 50), 50)
    assert tx.approve("b").returned("b").state == "committed"


def test_an_approval_is_not_used_for_other_data_than_was_shown(play, make_step):
    b = make_step("b", requires_approval=True, **refers("a", ""))
    tx = play(make_step("a"), b).commit().returned("a", 1).approve("b").raised("b")
    tx.returned("a", 999, continues=True)
    assert (tx.calls, tx.entries[-1].data) == ([], {"x": 999})
    assert tx.outcome()[0] == "approval"
    tx.approve("b")
    assert tx.saga.step("b").data == {"x": 999}


def test_what_nobody_allows_in_time_is_denied_while_another_step_waits(play, make_step):
    a = make_step("a", after=(), requires_approval=True, approval_timeout_seconds=5)
    b = make_step("b", {"retry": Retry(3, 60.0, jitter=0.0)}, after=())
    tx = play(a, b, parallel_max=2).commit().raised("b")
    assert (tx.wakes_after, tx.result.waiting.reason) == (5, "approval")
    tx.wake()
    assert (tx.state, tx.result.reason) == ("rolled_back", "denied")


@pytest.mark.parametrize("answer", ["approve", "deny"])
def test_a_step_that_was_denied_is_not_answered_again(play, make_step, answer):
    a = make_step("a", after=(), requires_approval=True)
    tx = play(a, make_step("b", after=()), parallel_max=2).commit().deny("a")
    assert tx.outcome() == (None, True, None)
    with pytest.raises(InvalidTransactionState, match="waits for no approval"):
        getattr(tx, answer)("a")


def test_a_step_that_waits_for_an_approval_does_not_fail_without_a_call(play, make_step):
    tx = play(make_step("a", requires_approval=True)).commit()
    with pytest.raises(IllegalEntry, match="out of its turn"):
        evolve(tx.saga, StepFailed(1, "a", 0, ErrorRecord("E", "")))


# ------------------------------------------------------------------------------------------ names


def test_a_name_with_a_dot_and_a_number_is_a_name_of_its_own(program):
    tx = program().did("room", output=1).did("room.2", output=2)
    tx.ask("b", references=(Reference(("x",), "room"),), data={"x": None}).returned("b")
    assert tx.saga.step("b").resolved_data == {"x": 1}
    assert tx.undo("room.2").recorded[0] == "partial_rollback_started:room.2"


def test_what_nothing_undoes_comes_last_in_a_program_too(program):
    options = {"effect": "irreversible", "compensating_action": None}
    tx = program().did("mail", **options)
    with pytest.raises(IrreversibleBeforeCompensatable) as caught:
        tx.ask("book")
    assert (caught.value.irreversible, caught.value.compensatable) == ("mail", "book")
    assert tx.ask("look", compensating_action=None).calls == ["action:look"]
    assert tx.ask("h", on_commit=True).recorded == ["step_added"]
    free = program(allow_irreversible_first=True).did("mail", **options).ask("book")
    assert free.calls == ["action:book"]


# --------------------------------------------------------------------------- when a program dies


def test_a_program_is_waited_for_without_end_and_nobody_is_kept_busy(program):
    tx = program(on_crash="resume").did("a").crash(1)
    assert (tx.outcome(), tx.wakes_after) == ((None, False, None), None)
    assert (tx.result.waiting.reason, tx.result.waiting.until) == ("resume", None)
    assert tx.resume(10).did("b").state == "active"


def test_a_commit_that_waits_for_a_retry_is_gone_on_with_after_a_crash(program, steady):
    tx = program().ask("a", policy={"retry": steady}).commit().raised("a").crash(0)
    assert (tx.outcome(), tx.wakes_after) == ((None, True, 1), 1)
    assert tx.wake().returned("a").state == "committed"


def test_an_undo_of_a_part_that_waits_is_gone_on_with_after_a_crash(program, steady):
    tx = program(**WAIT).did("a", policy={"undo_retry": steady}).undo("a").raised("a").crash(0)
    assert tx.wakes_after == 1
    assert tx.wake().calls == ["compensation:a"]
    assert tx.returned("a").wakes_after == 29


def test_an_approval_runs_out_while_its_program_is_dead(program):
    step = {"requires_approval": True, "approval_timeout_seconds": 10}
    tx = program(**WAIT).ask("a", **step).crash(1)
    assert (tx.wakes_after, tx.result.waiting.reason) == (9, "approval")
    assert tx.wake().result.reason == "denied"


def test_a_window_closes_while_a_person_is_waited_for(play, make_step):
    a = make_step("a", undo_within_seconds=10)
    tx = play(a, make_step("b", on_unknown="ask"), on_undo_window="roll_back").commit()
    tx.returned("a").raised("b", "in_doubt")
    assert (tx.outcome(), tx.wakes_after) == (("in_doubt", True, 9), 9)
    assert tx.wake().saga.reason == "deadline"


def test_a_window_closes_while_a_retry_is_waited_for(play, make_step):
    a = make_step("a", undo_within_seconds=10)
    tx = play(a, make_step("b", {"retry": Retry(3, 60.0, jitter=0.0)})).commit()
    tx.returned("a").raised("b")
    assert (tx.wakes_after, tx.result.waiting.step_ids) == (9, ["b"])
    assert tx.wake().recorded == ["undo_window_closing:a"]


def test_a_window_that_closes_while_its_program_is_dead_is_heeded(program):
    tx = program(on_undo_window="roll_back", **WAIT).did("a", undo_within_seconds=20).crash(1)
    assert tx.wakes_after == 17
    assert tx.wake().recorded[:2] == ["undo_window_closing:a", "rollback_started:a"]


# ----------------------------------------------------------------------------------- description


def test_what_is_being_undone_or_stays_is_described(program):
    tx = program().did("a").did("b").undo("a")
    told = describe(tx.saga, tx.now)
    assert [step.step_id for step in told.running] == ["a"]
    tx.raised("a", may_retry=False).returned("b")
    told = describe(tx.saga, tx.now)
    assert [(step.step_id, step.error) for step in told.needs_a_person] == [
        ("a", "Problem: a raised")
    ]
    tx.resolve("a", "left_in_place")
    assert [step.step_id for step in describe(tx.saga, tx.now).done] == ["a"]


# ------------------------------------------------------- what a hostile journal cannot make happen


@pytest.mark.parametrize("doubt", [False, True])
def test_no_journal_goes_back_over_its_pivot(program, doubt):
    tx = program().did("a").ask("p", **PIVOT)
    if doubt:
        tx.raised("p", "in_doubt")
    else:
        evolve(tx.saga, SUCCEEDED._replace(step_id="p"))
    with pytest.raises(IllegalEntry):
        evolve(tx.saga, RollbackStarted(1, "requested"))


def test_no_journal_commits_over_a_try_that_was_not_confirmed(play, make_step):
    tx = play(make_step("a", confirming_action="confirm"))
    for entry in (
        PlanRecorded(1, tx.definition),
        CommitRequested(1),
        TransactionActivated(1),
        StepStarted(1, "a", 1),
        SUCCEEDED,
    ):
        evolve(tx.saga, entry)
    with pytest.raises(IllegalEntry):
        evolve(tx.saga, TransactionCommitted(1))
