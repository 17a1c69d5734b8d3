"""What is undone next, and what can be undone at the same time (invariant I3)."""
# mypy: disable-error-code="union-attr"

from hypothesis import given, settings
from hypothesis import strategies as st

from aumai_transactions.core.undo_planning import ABANDON_AFTER_SECONDS, abandon_at, next_to_undo

PARALLEL = {"parallel_compensation": True, "parallel_max": 8}


def going_back(play, steps, last, **options):
    """Every step succeeds, one after the other, but the last, which fails."""
    tx = play(*steps, **options).commit()
    running = list(tx.calls)
    while running != [f"action:{last.step_id}"]:
        tx.returned(running.pop(0).partition(":")[2])
        running += tx.calls
    return tx.raised(last.step_id)


def test_one_at_a_time_where_nothing_else_is_said(play, make_step):
    steps = [make_step(name, after=()) for name in "abc"]
    last = make_step("z")
    tx = going_back(play, [*steps, last], last, parallel_max=8)
    assert tx.calls == ["compensation:c"]
    assert next_to_undo(tx.saga).step_id == "c"


def test_independent_steps_are_undone_at_the_same_time_where_that_is_said(play, make_step):
    steps = [make_step(name, after=()) for name in "abc"]
    last = make_step("z")
    tx = going_back(play, [*steps, last], last, **PARALLEL)
    assert sorted(tx.calls) == ["compensation:a", "compensation:b", "compensation:c"]
    tx.returned("b").returned("a")
    assert tx.state == "compensating"
    assert tx.returned("c").state == "rolled_back"


def test_no_more_at_the_same_time_than_is_allowed(play, make_step):
    steps = [make_step(name, after=()) for name in "abcd"]
    last = make_step("z")
    tx = going_back(play, [*steps, last], last, parallel_compensation=True, parallel_max=2)
    assert tx.calls == ["compensation:d", "compensation:c"]
    assert tx.returned("c").calls == ["compensation:b"]


def test_what_depends_on_a_step_is_undone_before_it_in_parallel_too(play, make_step):
    steps = [
        make_step("a", after=()),
        make_step("b", after=("a",)),
        make_step("c", after=("a",)),
    ]
    last = make_step("z")
    tx = going_back(play, [*steps, last], last, **PARALLEL)
    assert tx.calls == ["compensation:c", "compensation:b"]
    assert tx.returned("c").calls == []
    assert tx.returned("b").calls == ["compensation:a"]


def test_a_verification_belongs_to_the_undo_that_others_wait_for(play, make_step):
    steps = [make_step("a", after=()), make_step("b", {"has_verify": True}, after=("a",))]
    last = make_step("z")
    tx = going_back(play, [*steps, last], last, **PARALLEL)
    assert tx.returned("b").calls == ["verification:b"]
    assert tx.verified("b", "clean").calls == ["compensation:a"]


def test_under_halt_other_branches_are_undone_in_parallel(play, make_step):
    steps = [
        make_step("a", after=()),
        make_step("b", after=("a",)),
        make_step("x", after=()),
        make_step("y", after=("x",)),
    ]
    last = make_step("z")
    tx = going_back(play, [*steps, last], last, on_compensation_failure="halt", **PARALLEL)
    assert sorted(tx.calls) == ["compensation:b", "compensation:y"]
    tx.raised("b")
    assert tx.returned("y").calls == ["compensation:x"]
    tx.returned("x")
    assert (tx.states["a"], tx.outcome()[:2]) == ("succeeded", ("halted", False))


def test_a_crash_in_parallel_undos_makes_all_of_them_again(play, make_step):
    steps = [make_step(name, after=()) for name in "ab"]
    last = make_step("z")
    tx = going_back(play, [*steps, last], last, **PARALLEL).crash(1)
    assert sorted(tx.calls) == ["compensation:a", "compensation:b"]
    assert {tx.saga.step(name).undo_attempt for name in "ab"} == {2}


def test_parts_are_undone_in_parallel_where_the_transaction_says_so(program):
    tx = program(parallel_compensation=True).did("a").did("b").undo("a").undo("b")
    assert tx.made[-2:] == ["compensation:a", "compensation:b"]
    assert tx.returned("b").returned("a").commit().state == "committed"


def test_parts_are_undone_one_by_one_where_it_does_not(program):
    tx = program().did("a").did("b").undo("a").undo("b")
    assert tx.calls == []
    assert tx.returned("a").calls == ["compensation:b"]


def test_an_undo_waits_for_calls_that_were_left_behind_and_only_before_its_first_attempt(program):
    tx = program().ask("a").left_behind("a")
    step = tx.saga.step("a")
    assert abandon_at(step) == tx.now + ABANDON_AFTER_SECONDS * 1_000_000
    tx.wait(ABANDON_AFTER_SECONDS)
    assert (tx.calls, abandon_at(step)) == (["compensation:a"], None)


@given(
    parents=st.lists(st.sets(st.integers(0, 5), max_size=2), min_size=1, max_size=6),
    order=st.randoms(use_true_random=False),
    is_parallel=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_no_step_is_undone_before_what_depends_on_it(play, make_step, parents, order, is_parallel):
    names = [f"s{number}" for number in range(len(parents))]
    steps = [
        make_step(name, after=tuple(sorted({names[p] for p in befores if p < number})))
        for number, (name, befores) in enumerate(zip(names, parents, strict=True))
    ]
    tx = play(*steps, make_step("z"), parallel_max=8, parallel_compensation=is_parallel).commit()
    running = list(tx.calls)
    done = []
    while running:
        call = running.pop(order.randrange(len(running)))
        operation, _, name = call.partition(":")
        tx.raised(name) if name == "z" else tx.returned(name)
        running += tx.calls
        if operation == "compensation":
            done.append(name)
    assert tx.state == "rolled_back"
    assert sorted(done) == names
    for step in steps:
        for before in step.after:
            assert done.index(step.step_id) < done.index(before)
