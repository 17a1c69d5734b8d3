"""Steps that a program adds, groups of them, and what of them is taken back."""
# mypy: disable-error-code="arg-type, union-attr"

import pytest

from aumai_transactions.core.definition import Reference, StepDefinition
from aumai_transactions.core.entries import (
    PartialRollbackStarted,
    RollbackRequested,
    ScopeOpened,
    ScopeReleased,
    StepAdded,
    StepRefused,
    UndoRequestRefused,
    UndoWindowClosing,
)
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.observations import RollbackCalled, StepWanted
from aumai_transactions.core.outcome import scope_result
from aumai_transactions.core.planning import timer_at
from aumai_transactions.core.saga import IllegalEntry
from aumai_transactions.core.scopes import is_held_back, is_in_force


def added(name, **options):
    return StepAdded(1, StepDefinition(name, "agent", "act", {}, **options))


def taken_back(*names, **options):
    return PartialRollbackStarted(1, names, "requested", **options)


# ------------------------------------------------------------------------------- steps and groups


def test_a_step_that_is_asked_for_begins_at_once_whatever_else_runs(program):
    tx = program().ask("a")
    assert tx.recorded == ["transaction_activated", "step_added", "step_started:a"]
    assert tx.ask("b").calls == ["action:b"]
    assert tx.states == {"a": "running", "b": "running"}


def test_a_step_depends_on_what_it_names_and_refers_to_and_on_nothing_else(program):
    tx = program().did("a", output={"id": 7}).did("b")
    tx.ask("c", references=(Reference(("x",), "a", "/id"),), data={"x": None})
    assert tx.saga.edges == [(), (), (0,)]
    assert tx.saga.step("c").resolved_data == {"x": 7}
    assert tx.saga.step("a").dependents == [2]


def test_an_agent_is_listed_once_in_the_order_of_appearance(program):
    tx = program().did("a").did("b")
    assert tx.saga.agents == ("agent",)


def test_groups_are_opened_with_the_first_step_in_them(program, make_scope):
    outer, inner = make_scope("s1"), make_scope("s2", parent="s1")
    tx = program().did("a", outer, inner)
    kinds = [type(entry).__name__ for entry in tx.entries]
    assert kinds.count("ScopeOpened") == 2
    assert tx.saga.scopes["s1"].all_steps() == [0]
    assert tx.saga.scopes["s1"].steps == []
    chain = [scope.definition.scope_id for scope in tx.saga.step("a").scope.chain()]
    assert chain == ["s2", "s1"]
    tx.did("b", outer)
    assert tx.saga.scopes["s1"].all_steps() == [1, 0]


@pytest.mark.parametrize(
    "entry",
    [
        added("a"),
        added("b", after=("zzz",)),
        added("b", after=("runs",)),
        added("b", scope_id="zzz"),
        added("b", scope_id="over"),
        added("b", scope_id="inside"),
        StepAdded(1, StepDefinition("b", "agent", "act", {}), request_id="nobody"),
        ScopeOpened(1, ("zzz",)),
        ScopeReleased(1, "zzz"),
        ScopeReleased(1, "over"),
        StepRefused(1, "nobody", None),
        UndoRequestRefused(1, "over", ("a",)),
        UndoWindowClosing(1, "a", 9),
        taken_back("zzz"),
        taken_back("gone"),
        taken_back("a"),
    ],
    ids=str,
)
def test_what_cannot_be_added_grouped_or_taken_back_is_refused(program, make_scope, entry):
    over, inside = make_scope("over", "child"), make_scope("inside", parent="over")
    tx = program().did("a").did("b1", after=("a",)).did("gone").undo("gone").returned("gone")
    tx.did("c", over, inside).undo_scope(over).returned("c").ask("runs")
    if isinstance(entry, ScopeOpened):
        entry = ScopeOpened(1, make_scope("s9", parent="zzz"))
    with pytest.raises(IllegalEntry):
        evolve(tx.saga, entry)


@pytest.mark.parametrize("kind", ["a group twice", "in a group that is over"])
def test_a_group_that_cannot_begin_is_refused(program, make_scope, kind):
    over = make_scope("over", "child")
    tx = program().did("a", over).undo_scope(over).returned("a")
    wrong = over if kind == "a group twice" else make_scope("s9", parent="over")
    with pytest.raises(IllegalEntry, match="a group begins"):
        evolve(tx.saga, ScopeOpened(1, wrong))


def test_a_planned_transaction_has_neither_groups_nor_parts(play, make_step, make_scope):
    tx = play(make_step("a"), make_step("b")).commit().returned("a")
    for entry in (added("c"), ScopeOpened(1, make_scope("s1")), taken_back("a")):
        with pytest.raises(IllegalEntry, match="planned"):
            evolve(tx.saga, entry)


@pytest.mark.parametrize("state", ["pending", "commit wanted", "going back", "over"])
def test_nothing_is_added_or_taken_back_but_while_it_is_active(program, state):
    tx = program()
    if state != "pending":
        tx.did("a")
    if state == "commit wanted":
        tx.ask("slow").commit()
    elif state == "going back":
        tx.rollback()
    elif state == "over":
        tx.commit()
    with pytest.raises(IllegalEntry):
        evolve(tx.saga, added("z"))
    if state != "commit wanted":
        with pytest.raises(IllegalEntry):
            evolve(tx.saga, taken_back("a"))


# --------------------------------------------------------------------------------- taking it back


def test_a_step_is_undone_and_the_transaction_goes_on_and_commits(program):
    tx = program().did("a", output=1).did("b", output=2).undo("a")
    assert tx.recorded == ["partial_rollback_started:a", "compensation_started:a"]
    tx.returned("a")
    assert (tx.state, tx.states["a"]) == ("active", "compensated")
    tx.commit()
    assert tx.state == "committed"
    assert tx.result.clean
    assert tx.result.compensated_steps == ["a"]
    assert tx.result.outputs == {"b": 2}


def test_what_depends_on_a_step_is_undone_before_it(program):
    tx = program().did("a").did("b", after=("a",)).did("c", after=("b",)).undo("a")
    assert tx.calls == ["compensation:c"]
    assert tx.returned("c").calls == ["compensation:b"]
    assert tx.returned("b").calls == ["compensation:a"]
    assert tx.returned("a").commit().state == "committed"


def test_a_live_dependant_is_never_orphaned(program):
    tx = program().did("a").did("b", after=("a",))
    with pytest.raises(IllegalEntry, match="orphaned"):
        evolve(tx.saga, taken_back("a"))
    evolve(tx.saga, taken_back("a", "b"))


def test_a_group_is_undone_with_all_that_stands_in_it_and_nothing_else(program, make_scope):
    outer, inner = make_scope("s1"), make_scope("s2", parent="s1")
    tx = program().did("x").did("a", outer).did("b", outer, inner).did("y")
    tx.undo_scope(outer)
    assert tx.calls == ["compensation:b"]
    assert tx.returned("b").calls == ["compensation:a"]
    tx.returned("a").commit()
    assert tx.result.compensated_steps == ["b", "a"]
    assert tx.states == {"x": "succeeded", "a": "compensated", "b": "compensated", "y": "succeeded"}


def test_an_inner_group_is_undone_alone(program, make_scope):
    outer, inner = make_scope("s1"), make_scope("s2", parent="s1")
    tx = program().did("a", outer).did("b", outer, inner).undo_scope(inner).returned("b")
    assert tx.commit().result.compensated_steps == ["b"]


def test_a_step_that_runs_is_awaited_and_then_undone(program, make_scope):
    savepoint = make_scope("s1")
    tx = program().did("a", savepoint).ask("b", savepoint).undo_scope(savepoint)
    assert tx.calls == []
    assert tx.saga.step("b").undo_wanted
    assert tx.returned("b").calls == ["compensation:b"]
    assert tx.returned("b").calls == ["compensation:a"]
    assert tx.returned("a").commit().state == "committed"


def test_a_step_that_runs_and_is_not_done_has_nothing_to_undo(program, make_scope, steady):
    savepoint = make_scope("s1")
    tx = program().did("a", savepoint).ask("b", savepoint, policy={"retry": steady})
    tx.undo_scope(savepoint).raised("b")
    # Why no other attempt: it is not wanted any more.
    assert tx.recorded == ["step_failed:b", "compensation_started:a"]
    assert tx.returned("a").commit().state == "committed"


def test_a_step_that_runs_and_comes_into_doubt_is_undone_all_the_same(program):
    tx = program().ask("a", idempotent=True).undo("a").raised("a", "in_doubt")
    assert tx.recorded == ["step_in_doubt:a", "compensation_started:a"]
    assert tx.entries[-1].in_doubt
    tx.returned("a").commit()
    assert (tx.state, tx.result.clean) == ("committed", True)


def test_a_step_in_doubt_is_asked_about_before_it_is_undone(program):
    tx = program().ask("a", policy={"has_probe": True}).undo("a").raised("a", "in_doubt")
    assert tx.calls == ["probe:a"]
    tx.probed("a", "not_done")
    assert (tx.states, tx.calls) == ({"a": "failed"}, [])
    assert tx.commit().result.clean


def test_a_step_that_waits_for_its_next_attempt_is_left_out(program, steady):
    tx = program().ask("a", policy={"retry": steady}).raised("a").undo("a")
    assert (tx.states, tx.saga.waiting, tx.calls) == ({"a": "skipped"}, {}, [])
    assert tx.commit().state == "committed"


def test_a_step_that_waits_for_an_approval_is_left_out(program):
    tx = program().ask("a", requires_approval=True).undo("a")
    assert (tx.states, tx.saga.approvals) == ({"a": "skipped"}, {})
    assert tx.commit().state == "committed"


def test_a_held_step_is_left_out(program):
    tx = program().did("x").ask("a", on_commit=True).undo("a")
    assert (tx.states["a"], tx.saga.deferred) == ("skipped", [])
    assert tx.commit().state == "committed"


def test_a_step_that_nothing_undoes_stays_and_is_said_to(program):
    tx = program().did("a", compensating_action=None, output=1).undo("a").commit()
    assert tx.state == "committed"
    assert tx.result.uncompensated == ["a"]
    assert any("step a" in warning and "it stays" in warning for warning in tx.result.warnings)
    assert tx.result.outputs == {}
    assert not tx.result.clean


def test_a_step_without_an_effect_is_taken_back_in_silence(program):
    tx = program().did("a", compensating_action=None, effect="none").undo("a").commit()
    assert (tx.state, tx.result.warnings, tx.result.clean) == ("committed", [], True)


def test_a_step_that_was_simulated_and_has_no_undo_is_taken_back_in_silence(program):
    tx = program().ask("a", compensating_action=None).missing("a").undo("a").commit()
    assert (tx.state, tx.result.warnings, tx.result.uncompensated) == ("committed", [], [])


def test_why_a_step_was_undone_stands_in_the_result(program):
    tx = program().did("a").undo("a", note="too dear").returned("a").commit()
    assert tx.result.warnings == ["step a was undone: Undone: too dear"]


def test_what_is_taken_back_is_in_force_no_more(program):
    tx = program().did("a").did("b", compensating_action=None)
    assert is_in_force(tx.saga.step("a"))
    tx.undo("a").undo("b")
    assert not is_in_force(tx.saga.step("a"))
    assert not is_in_force(tx.saga.step("b"))


# ------------------------------------------------------------------------------ a bounded episode


def test_new_steps_of_a_group_wait_until_it_is_undone_and_others_do_not(program, make_scope):
    savepoint = make_scope("s1")
    tx = program().did("a", savepoint).undo_scope(savepoint)
    assert tx.ask("b", savepoint).calls == []
    assert is_held_back(tx.saga, tx.saga.step("b"))
    assert tx.ask("c").calls == ["action:c"]
    tx.returned("a")
    assert tx.calls == ["action:b"]
    tx.returned("b").returned("c").commit()
    assert tx.result.compensated_steps == ["a"]


def test_an_inner_group_waits_for_the_undo_of_the_outer_one(program, make_scope):
    outer, inner = make_scope("s1"), make_scope("s2", parent="s1")
    tx = program().did("a", outer).undo_scope(outer).ask("b", outer, inner)
    assert tx.calls == []
    assert tx.returned("a").calls == ["action:b"]


def test_a_group_of_which_nothing_is_to_be_undone_holds_nobody_back(program, make_scope):
    savepoint = make_scope("s1")
    tx = program().did("a", savepoint, compensating_action=None, effect="none")
    tx.undo_scope(savepoint)
    assert tx.saga.going_back == set()
    assert tx.ask("b", savepoint).calls == ["action:b"]


def test_the_commit_waits_for_an_undo_that_is_under_way(program):
    tx = program().did("a").did("b").undo("a").commit()
    assert (tx.state, tx.calls) == ("active", [])
    assert tx.returned("a").state == "committed"


def test_an_undo_that_is_tried_again_waits_and_a_timer_knows(program, steady):
    tx = program().did("a", policy={"undo_retry": steady}).undo("a").raised("a")
    assert timer_at(tx.saga, tx.now) == tx.now + 1_000_000
    assert tx.ask("b").calls == ["action:b"]
    assert tx.wait(1).calls == ["compensation:a"]
    assert tx.returned("a").returned("b").commit().state == "committed"


def test_an_undo_that_fails_takes_the_whole_back(program):
    tx = program().did("x").did("a").undo("a").raised("a")
    assert tx.recorded == ["compensation_failed:a", "rollback_started:a", "compensation_started:x"]
    tx.returned("x")
    assert (tx.state, tx.result.reason) == ("rolled_back", "step_failed")
    assert [item.step_id for item in tx.result.outstanding] == ["a"]
    assert (tx.result.failed_step, tx.result.error) == ("a", "Problem: a raised")


def test_the_whole_goes_back_only_once_what_runs_has_ended(program):
    tx = program().ask("x").did("a").undo("a").raised("a")
    assert (tx.state, tx.calls) == ("active", [])
    assert tx.returned("x").recorded[1] == "rollback_started:a"


def test_continue_is_refused_where_only_a_part_goes_back(program):
    tx = program().did("a").undo("a").returned("a", 7, continues=True)
    assert tx.recorded[:2] == ["compensation_failed:a", "rollback_started:a"]
    assert "ContinueRefused" in tx.result.outstanding[0].error


def test_a_rollback_of_the_whole_goes_on_where_a_part_was_being_undone(program):
    tx = program().did("x").did("a").did("b").undo("b").rollback()
    assert (tx.state, tx.calls) == ("active", [])
    assert tx.returned("b").calls == ["compensation:a"]
    tx.returned("a").returned("x")
    assert (tx.state, tx.result.compensated_steps) == ("rolled_back", ["b", "a", "x"])


def test_a_step_that_was_undone_is_not_undone_again_with_the_whole(program):
    tx = program().did("a").did("b").undo("b").returned("b").rollback()
    assert tx.calls == ["compensation:a"]
    assert tx.returned("a").result.compensated_steps == ["b", "a"]


# --------------------------------------------------------------------------- nested transactions


def test_a_nested_transaction_is_released_and_shown_as_in_its_parent(program, make_scope):
    child = make_scope("c1", "child", name="hotel")
    tx = program().did("x").did("a", child, output=1).release(child)
    assert tx.recorded == ["scope_released"]
    told = scope_result(tx.saga, "c1", durable=True)
    assert (told.transaction_id, told.state.value) == ("tx.c1", "active")
    assert (told.waiting.reason, told.completed_steps) == ("parent", ["a"])
    assert told.outputs == {"a": 1}
    tx.commit()
    assert scope_result(tx.saga, "c1", durable=True).state.value == "committed"


def test_a_nested_transaction_that_was_undone_is_rolled_back_and_its_parent_goes_on(
    program, make_scope
):
    child = make_scope("c1", "child")
    tx = program().did("x").did("a", child).undo_scope(child, reason="cancelled").returned("a")
    told = scope_result(tx.saga, "c1", durable=True)
    assert (told.state.value, told.reason) == ("rolled_back", "cancelled")
    assert told.compensated_steps == ["a"]
    assert tx.commit().state == "committed"
    assert scope_result(tx.saga, "c1", durable=True).state.value == "rolled_back"


def test_a_nested_transaction_without_steps_can_be_released_and_undone(program, make_scope):
    one, other = make_scope("c1", "child"), make_scope("c2", "child")
    tx = program().release(one)
    assert tx.recorded == ["transaction_activated", "scope_opened", "scope_released"]
    tx.did("a", other).undo("a").returned("a").undo_scope(other)
    assert scope_result(tx.saga, "c2", durable=True).state.value == "rolled_back"
    assert tx.commit().state == "committed"


def test_a_nested_transaction_is_undone_as_a_unit_when_the_whole_goes_back(program, make_scope):
    child = make_scope("c1", "child")
    tx = program().did("a", child).did("x").did("b", child).did("y").rollback()
    order = []
    while tx.calls:
        order.append(tx.calls[0].partition(":")[2])
        tx.returned(order[-1])
    # y, then the child as a whole, then x, which took effect between its two steps.
    assert order == ["y", "b", "a", "x"]


def test_units_do_not_come_before_what_depends_on_them(program, make_scope):
    child = make_scope("c1", "child")
    tx = program().did("a", child).did("x", after=("a",)).did("b", child, after=("x",)).rollback()
    order = []
    while tx.calls:
        order.append(tx.calls[0].partition(":")[2])
        tx.returned(order[-1])
    assert order == ["b", "x", "a"]


def test_a_savepoint_in_a_child_counts_to_the_unit_of_the_child(program, make_scope):
    child, inner = make_scope("c1", "child"), make_scope("s1", parent="c1")
    tx = program().did("a", child, inner).did("x").did("b", child).rollback()
    assert tx.calls == ["compensation:b"]
    assert tx.returned("b").calls == ["compensation:a"]


# ------------------------------------------------------------------------- wishes of other people


def test_a_nested_transaction_is_undone_because_somebody_else_asked(program, make_scope):
    child = make_scope("c1", "child")
    tx = program().did("x").did("a", child).release(child)
    tx.see(RollbackCalled(by="ann", note="not this one", scope_id="c1"))
    assert tx.calls == ["compensation:a"]
    assert tx.saga.undo_requests == {}
    tx.returned("a").commit()
    assert (tx.state, tx.states) == ("committed", {"x": "succeeded", "a": "compensated"})


def test_a_wish_to_undo_is_refused_where_something_has_come_to_depend_on_it(program, make_scope):
    child = make_scope("c1", "child")
    tx = program().did("a", child).release(child).did("x", after=("a",))
    evolve(tx.saga, RollbackRequested(1, scope_id="c1"))
    tx.entries.append(RollbackRequested(1, scope_id="c1"))
    tx.see()
    assert tx.recorded == ["undo_request_refused"]
    assert any("x depends on it" in warning for warning in tx.result.warnings)
    assert tx.commit().state == "committed"


def test_a_step_that_somebody_else_wants_is_carried_out(program, make_step):
    tx = program().did("x").see(StepWanted("r1", make_step("a", after=()), by="ann"))
    assert tx.recorded == ["step_requested", "step_added", "step_started:a"]
    assert tx.saga.step("a").request_id == "r1"
    assert tx.saga.step_requests == {}


def test_a_step_that_somebody_else_wants_and_that_cannot_be_is_refused_by_name(program, make_step):
    tx = program().did("a").see(StepWanted("r1", make_step("a", after=())))
    assert tx.recorded == ["step_requested", "step_refused"]
    assert tx.saga.refused["r1"].type == "DuplicateStep"
    assert tx.commit().state == "committed"


# ------------------------------------------------------------------------------------ undo windows


def test_an_undo_window_warns_once_before_it_closes(program):
    tx = program(timeout_seconds=600).did("a", undo_within_seconds=100)
    assert timer_at(tx.saga, tx.now) == tx.now + 90_000_000
    assert tx.wait(89.9).recorded == []
    assert tx.wait(0.1).recorded == ["undo_window_closing:a"]
    assert tx.entries[-1].until == tx.now + 10_000_000
    assert tx.wait(60).recorded == []
    assert tx.commit().state == "committed"


def test_the_warning_of_a_long_window_comes_a_minute_before(program):
    tx = program(timeout_seconds=10_000).did("a", undo_within_seconds=3600)
    assert timer_at(tx.saga, tx.now) == tx.now + 3_540_000_000


def test_a_window_rolls_back_before_it_closes_where_that_is_wanted(program):
    tx = program(on_undo_window="roll_back").did("x").did("a", undo_within_seconds=10).wait(9)
    assert tx.recorded == [
        "undo_window_closing:a",
        "rollback_started:a",
        "compensation_started:a",
    ]
    tx.returned("a").returned("x")
    assert (tx.result.reason, tx.result.error[:10]) == ("deadline", "UndoWindow")
    assert "can soon not be undone" in tx.result.error


def test_a_window_that_was_missed_says_until_when_it_was(program):
    tx = program(on_undo_window="roll_back").did("a", undo_within_seconds=10).wait(11)
    assert "could be undone until" in tx.saga.error.message


def test_the_window_of_a_step_that_was_undone_takes_nothing_back(program):
    tx = program(on_undo_window="roll_back").did("x").did("a", undo_within_seconds=10)
    tx.undo("a").returned("a").wait(9)
    assert tx.state == "active"
    assert tx.commit().state == "committed"


def test_no_window_closes_behind_the_commit_point(program):
    tx = program(on_undo_window="roll_back").did("a", undo_within_seconds=10)
    tx.ask("h", on_commit=True).commit()
    assert (tx.state, tx.saga.windows, tx.saga.closing) == ("committing", {}, {})
    assert tx.wait(60).recorded == []
    assert tx.returned("h").state == "committed"
