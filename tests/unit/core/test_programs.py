"""What a program may ask for, and what is refused before anything is recorded."""
# mypy: disable-error-code="union-attr"

import pytest

from aumai_transactions.core.definition import Reference
from aumai_transactions.core.observations import RollbackCalled, StepAsked, StepWanted, UndoAsked
from aumai_transactions.core.programs import current_id, unsettled_in
from aumai_transactions.errors import (
    CommitPointPassed,
    DefinitionError,
    DuplicateStep,
    InvalidTransactionState,
    TransactionNotActive,
    UndoRefused,
    UnknownStep,
)


def asks(tx, make_step, make_scope):
    """Every wish of a program, by name."""
    return {
        "a step": lambda: tx.see(StepAsked(make_step("z", after=()))),
        "an undo": lambda: tx.undo("a"),
        "an undo of a group": lambda: tx.undo_scope(make_scope("s1")),
        "an end of a group": lambda: tx.release(make_scope("c1", "child")),
        "somebody's step": lambda: tx.see(StepWanted("r1", make_step("z", after=()))),
        "somebody's undo": lambda: tx.see(RollbackCalled(scope_id="c1")),
    }


WISHES = [
    "a step",
    "an undo",
    "an undo of a group",
    "an end of a group",
    "somebody's step",
    "somebody's undo",
]


# ------------------------------------------------------------------------------ when it is too late


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("state", ["committed", "rolled back", "going back", "committing wanted"])
def test_nothing_is_asked_of_a_transaction_that_has_ended_or_is_ending(
    program, make_step, make_scope, wish, state
):
    tx = program().did("a")
    if state == "committed":
        tx.commit()
    elif state == "committing wanted":
        tx.ask("slow").commit()
    else:
        tx.rollback()
        if state == "rolled back":
            tx.returned("a")
    before = tx.saga.sequence
    with pytest.raises(TransactionNotActive, match="Nothing was done"):
        asks(tx, make_step, make_scope)[wish]()
    assert tx.saga.sequence == before


@pytest.mark.parametrize("going,call", [("committed", "commit"), ("rolled back", "rollback")])
def test_what_is_ending_says_how(program, make_step, going, call):
    tx = program().ask("slow")
    getattr(tx, call)()
    with pytest.raises(TransactionNotActive, match=f"It is being {going}"):
        tx.ask("b")


@pytest.mark.parametrize("wish", WISHES)
def test_nothing_is_asked_behind_the_commit_point(program, make_step, make_scope, wish):
    tx = program().did("a").ask("h", on_commit=True).commit()
    for _ in ("committing", "committed"):
        with pytest.raises(CommitPointPassed):
            asks(tx, make_step, make_scope)[wish]()
        if tx.state == "committing":
            tx.returned("h")


@pytest.mark.parametrize("wish", WISHES)
def test_a_planned_transaction_has_no_program(play, make_step, make_scope, wish):
    tx = play(make_step("a")).commit()
    tx.undo = lambda name: tx.see(UndoAsked(step_id=name))
    tx.undo_scope = lambda scope: tx.see(UndoAsked(scope_id=scope.scope_id))
    tx.release = lambda *scopes: tx.see(StepAsked(make_step("z"), scopes))
    with pytest.raises(InvalidTransactionState, match="It was planned"):
        asks(tx, make_step, make_scope)[wish]()


@pytest.mark.parametrize("wish", ["a step", "an undo"])
@pytest.mark.parametrize("outcome", [None, "in_doubt"])
def test_nothing_is_asked_while_the_pivot_is_under_way_or_in_doubt(
    program, make_step, make_scope, wish, outcome
):
    tx = program().did("a").ask("p", pivot=True, compensating_action=None)
    if outcome:
        tx.raised("p", outcome)
    with pytest.raises(InvalidTransactionState, match="Its pivot 'p' is"):
        asks(tx, make_step, make_scope)[wish]()


# ------------------------------------------------------------------------------------------ names


def test_a_step_without_a_name_gets_the_next_free_one(program):
    tx = program().ask("").ask("s3").ask("")
    assert list(tx.states) == ["s1", "s3", "s4"]


def test_a_name_is_free_again_once_its_step_is_over(program):
    tx = program().ask("a").raised("a").ask("a").returned("a.2", 1).undo("a").returned("a.2")
    tx.ask("a").returned("a.3", 2)
    assert tx.states == {"a": "failed", "a.2": "compensated", "a.3": "succeeded"}
    assert current_id(tx.saga, "a") == "a.3"
    tx.ask("b", references=(Reference(("x",), "a"),), data={"x": None})
    assert tx.saga.step("b").resolved_data == {"x": 2}
    assert tx.undo("a").recorded[0] == "partial_rollback_started:a.3"


@pytest.mark.parametrize("state", ["running", "succeeded", "in_doubt", "approval"])
def test_a_name_is_not_free_while_its_step_is_in_force(program, state):
    tx = program().ask("a", on_unknown="ask", requires_approval=state == "approval")
    if state == "succeeded":
        tx.returned("a")
    elif state == "in_doubt":
        tx.raised("a", "in_doubt")
    with pytest.raises(DuplicateStep, match="'a'"):
        tx.ask("a")


def test_a_name_that_nobody_has_means_nothing(program):
    assert current_id(program().did("a").saga, "b") is None


# ------------------------------------------------------------------------------- what it stands on


@pytest.mark.parametrize("state", ["failed", "running", "undone"])
def test_a_step_stands_on_what_has_succeeded_and_is_in_force(program, state):
    tx = program().ask("a")
    if state == "failed":
        tx.raised("a")
    elif state == "undone":
        tx.returned("a").undo("a")
    for options in (
        {"after": ("a",)},
        {"references": (Reference(("x",), "a"),), "data": {"x": None}},
    ):
        with pytest.raises(DefinitionError, match="must have succeeded and be in force"):
            tx.ask("b", **options)


def test_a_step_that_stands_on_nothing_known_is_refused_by_name(program):
    tx = program()
    with pytest.raises(UnknownStep, match="'zzz'"):
        tx.ask("b", after=("zzz",))
    with pytest.raises(UnknownStep, match="a reference"):
        tx.ask("b", references=(Reference(("x",), "zzz"),))
    assert tx.state == "pending"


def test_a_second_pivot_is_refused(program):
    tx = program().ask("a").ask("p", pivot=True, compensating_action=None)
    with pytest.raises(DefinitionError, match="has the pivot 'p' already"):
        tx.ask("q", pivot=True, compensating_action=None)


def test_a_step_in_a_nested_transaction_that_has_ended_is_refused(program, make_scope):
    released, undone = make_scope("c1", "child"), make_scope("c2", "child")
    tx = program().did("a", released).release(released).did("b", undone).undo_scope(undone)
    tx.returned("b")
    for scope, state in ((released, "in parent"), (undone, "rolled_back")):
        with pytest.raises(TransactionNotActive, match=state) as caught:
            tx.ask("z", scope)
        assert caught.value.transaction_id == f"tx.{scope.scope_id}"
        with pytest.raises(TransactionNotActive):
            tx.release(scope)


# --------------------------------------------------------------------------------------- undoing


def test_an_undo_of_a_step_that_does_not_exist_is_refused(program):
    with pytest.raises(UnknownStep, match="the undo"):
        program().did("a").undo("zzz")


@pytest.mark.parametrize("state", ["failed", "undone", "being undone"])
def test_an_undo_of_a_step_that_is_not_in_force_is_refused(program, state):
    tx = program().ask("a")
    if state == "failed":
        tx.raised("a")
    else:
        tx.returned("a").undo("a")
        if state == "undone":
            tx.returned("a")
    with pytest.raises(InvalidTransactionState, match="only one in force can be undone"):
        tx.undo("a")


def test_an_undo_of_a_step_alone_is_refused_where_something_depends_on_it(program):
    tx = program().did("a").did("b", after=("a",)).did("c", after=("b",))
    with pytest.raises(UndoRefused) as caught:
        tx.undo("a", with_dependents=False)
    assert (caught.value.what, caught.value.dependants) == ("step a", ("b", "c"))
    tx.undo("c").returned("c").undo("b").returned("b")
    assert tx.undo("a", with_dependents=False).calls == ["compensation:a"]


@pytest.mark.parametrize("kind", ["savepoint", "child"])
def test_an_undo_of_a_group_is_refused_where_something_outside_depends_on_it(
    program, make_scope, kind
):
    group = make_scope("g1", kind, name="draft")
    tx = program().did("a", group).did("b", group, after=("a",)).did("x", after=("b",))
    with pytest.raises(UndoRefused) as caught:
        tx.undo_scope(group)
    assert (caught.value.what, caught.value.dependants) == (f"{kind} draft", ("x",))
    assert tx.undo("x").returned("x").undo_scope(group).calls == ["compensation:b"]


def test_an_undo_of_a_group_that_nothing_was_done_in_does_nothing(program, make_scope):
    savepoint = make_scope("s1")
    tx = program().did("x").undo_scope(savepoint)
    assert tx.recorded == []
    tx.did("a", savepoint).undo_scope(savepoint).returned("a")
    assert tx.undo_scope(savepoint).recorded == []


def test_a_savepoint_can_be_used_again_and_undone_again(program, make_scope):
    savepoint = make_scope("s1")
    tx = program().did("a", savepoint).undo_scope(savepoint).returned("a").did("b", savepoint)
    assert tx.undo_scope(savepoint).calls == ["compensation:b"]


def test_a_nested_transaction_is_undone_once(program, make_scope):
    child = make_scope("c1", "child")
    tx = program().did("a", child).undo_scope(child).returned("a")
    with pytest.raises(TransactionNotActive, match="It is undone"):
        tx.undo_scope(child)


def test_a_wish_to_undo_is_refused_at_once_where_something_depends_on_it(program, make_scope):
    child = make_scope("c1", "child")
    tx = program().did("a", child).release(child).did("x", after=("a",))
    with pytest.raises(UndoRefused, match="child c1"):
        tx.see(RollbackCalled(scope_id="c1"))


@pytest.mark.parametrize("scope_id", ["zzz", "s1", "c1"])
def test_only_a_nested_transaction_that_goes_on_is_undone_from_outside(
    program, make_scope, scope_id
):
    child, savepoint = make_scope("c1", "child"), make_scope("s1")
    tx = program().did("a", child).undo_scope(child).returned("a").did("b", savepoint)
    with pytest.raises(TransactionNotActive, match="Nothing was changed"):
        tx.see(RollbackCalled(scope_id=scope_id))


# --------------------------------------------------------------------------------------- groups


def test_what_is_not_settled_in_a_group_is_named(program, make_scope):
    child, inner = make_scope("c1", "child"), make_scope("s1", parent="c1")
    tx = program().did("a", child).ask("b", child, inner).ask("c", child, requires_approval=True)
    tx.ask("d", child, on_unknown="ask").raised("d", "in_doubt").ask("e", child).raised("e")
    assert set(unsettled_in(tx.saga, tx.saga.scopes["c1"])) == {"b", "c", "d"}
    tx.undo("a")
    assert "a" in unsettled_in(tx.saga, tx.saga.scopes["c1"])
    assert unsettled_in(tx.saga, tx.saga.scopes["s1"]) == ["b"]
