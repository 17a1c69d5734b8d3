"""Which step waits for which."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aumai_transactions.core.definition import Reference, StepDefinition
from aumai_transactions.core.graph import ancestors, dependencies, topological_order
from aumai_transactions.errors import DependencyCycle, DuplicateStep, UnknownStep


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
