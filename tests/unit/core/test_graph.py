"""Which step waits for which."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aumai_transactions.core.definition import Reference, StepDefinition
from aumai_transactions.core.graph import ancestors, dependencies, descendants, topological_order
from aumai_transactions.errors import DefinitionError, DependencyCycle, DuplicateStep, UnknownStep


def steps(**after):
    """Steps by name; `None`: after all before, a string of names: after these."""
    return [
        StepDefinition(name, "a", "act", {}, after=None if names is None else tuple(names))
        for name, names in after.items()
    ]


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_a_sequence_has_one_edge_between_neighbours(count):
    edges = dependencies(steps(**{f"s{number}": None for number in range(count)}))
    assert sum(map(len, edges)) == max(count - 1, 0)
    assert all(edges[number] == (number - 1,) for number in range(1, count))


@pytest.mark.parametrize(
    "after,wanted",
    [
        ({"a": None, "b": None}, [(), (0,)]),
        ({"a": None, "b": ""}, [(), ()]),
        ({"a": "", "b": "", "c": None}, [(), (), (0, 1)]),
        ({"a": "", "b": "a", "c": "a", "d": "bc"}, [(), (0,), (0,), (1, 2)]),
        ({"a": "", "b": "a", "c": "", "d": None}, [(), (0,), (), (1, 2)]),
        # A later step may be named: the order of declaration is not the order of execution.
        ({"a": "b", "b": ""}, [(1,), ()]),
        ({"a": "", "b": "aa"}, [(), (0,)]),
    ],
)
def test_after_none_nothing_and_named(after, wanted):
    assert dependencies(steps(**after)) == wanted


def test_a_reference_is_a_dependency_too():
    first, second = steps(a="", b="")
    refers = StepDefinition("c", "a", "act", {}, after=(), references=(Reference(("x",), "b"),))
    assert dependencies([first, second, refers]) == [(), (), (1,)]


def test_an_unknown_predecessor_is_named_with_the_step_that_names_it():
    with pytest.raises(UnknownStep, match=r"'b'.*'zzz'") as caught:
        dependencies(steps(a=None, b=["zzz"]), "tx-1")
    assert (caught.value.step_id, caught.value.transaction_id) == ("zzz", "tx-1")


def test_an_unknown_reference_is_named():
    step = StepDefinition("a", "a", "act", {}, references=(Reference(("x",), "zzz"),))
    with pytest.raises(UnknownStep, match="zzz"):
        dependencies([step])


def test_a_duplicate_step_is_named():
    with pytest.raises(DuplicateStep, match="'b'") as caught:
        dependencies([*steps(a=None, b=None), *steps(b=None)], "tx-1")
    assert caught.value.step_id == "b"


@pytest.mark.parametrize(
    "after,cycle",
    [
        ({"a": "a"}, {"a"}),
        ({"a": "b", "b": "a"}, {"a", "b"}),
        ({"x": "", "a": "c", "b": "a", "c": "b", "y": "c"}, {"a", "b", "c"}),
    ],
)
def test_a_circle_is_named_step_by_step(after, cycle):
    with pytest.raises(DependencyCycle, match="wait for each other") as caught:
        dependencies(steps(**after))
    assert set(caught.value.cycle) == cycle
    named = caught.value.cycle
    for position, name in enumerate(named):
        assert named[(position + 1) % len(named)] in after or len(named) == 1
        assert name in after


def test_ancestors_are_all_that_is_depended_on_directly_or_not():
    edges = dependencies(steps(a="", b="a", c="b", d="", e="cd"))
    assert ancestors(edges, [2]) == {0, 1}
    assert ancestors(edges, [4]) == {0, 1, 2, 3}
    assert ancestors(edges, []) == set()


@given(st.lists(st.sets(st.integers(0, 7)), max_size=8))
def test_the_order_keeps_every_dependency_or_names_a_true_circle(wanted):
    count = len(wanted)
    edges = [tuple(sorted(one for one in befores if one < count)) for befores in wanted]
    names = [str(number) for number in range(count)]
    try:
        order = topological_order(edges, names, "")
    except DependencyCycle as error:
        circle = [int(name) for name in error.cycle]
        for position, one in enumerate(circle):
            following = circle[(position + 1) % len(circle)]
            assert one in edges[following]
    else:
        assert sorted(order) == list(range(count))
        place = {one: position for position, one in enumerate(order)}
        assert all(
            place[before] < place[one] for one, befores in enumerate(edges) for before in befores
        )


# ----------------------------------------------------------------- the pivot and what is held


def late(name, after=None, **options):
    return StepDefinition(name, "a", "act", {}, after=after, **options)


def test_the_pivot_comes_behind_everything_else_whatever_it_names():
    found = dependencies([late("a", ()), late("b", ()), late("p", ("a",), pivot=True)])
    assert set(found[2]) == {0, 1}
    found = dependencies([late("a"), late("b"), late("p", (), pivot=True)])
    assert found == [(), (0,), (1,)]


@pytest.mark.parametrize("after", [None, (), ("p",)])
def test_nothing_but_what_is_held_stands_behind_the_pivot(after):
    with pytest.raises(DefinitionError, match=r"'b' .* stands behind its pivot 'p'"):
        dependencies([late("a"), late("p", pivot=True), late("b", after)], "tx-1")
    held = dependencies([late("a"), late("p", pivot=True), late("h", after, on_commit=True)])
    assert held[2] == ((1,) if after else ())


def test_a_held_step_waits_for_what_it_names_and_nothing_waits_for_it_by_itself():
    found = dependencies([late("a"), late("h", on_commit=True), late("b"), late("c")])
    assert found == [(), (), (0,), (2,)]
    found = dependencies([late("a"), late("h", ("a",), on_commit=True), late("b")])
    assert found == [(), (0,), (0,)]


def test_a_step_cannot_wait_for_one_that_is_held():
    held = late("h", on_commit=True)
    refers = StepDefinition("b", "a", "act", {}, after=(), references=(Reference(("x",), "h"),))
    for waits in (late("b", ("h",)), refers):
        with pytest.raises(DefinitionError, match=r"'b' .* waits for 'h'.*on_commit=True as well"):
            dependencies([late("a"), held, waits])
    assert dependencies([late("a"), held, late("i", ("h",), on_commit=True)])[2] == (1,)


# --------------------------------------------------------------------------------- descendants


def test_descendants_are_all_that_depends_on_it_directly_or_not():
    dependents = [[1, 2], [3], [3], [], []]
    assert descendants(dependents, [0]) == {1, 2, 3}
    assert descendants(dependents, [1, 2]) == {3}
    assert descendants(dependents, [0, 3]) == {1, 2, 3}
    assert descendants(dependents, [4]) == set()
    assert descendants(dependents, []) == set()
