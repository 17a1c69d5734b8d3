"""Which resources a step uses: what it says, what its action says, and what is refused."""

import pytest

from aumai_transactions import (
    Action,
    DefinitionError,
    InvalidData,
    Resource,
    TransactionManager,
)


def used(resources=None, data=None, own=None, **options):
    """What one step of such an action is recorded to use: mode by name."""
    made = Action("act", lambda *_: None, effect="none", resources=resources)
    with TransactionManager(actions=[made]) as manager:
        tx = manager.begin(**options)
        manager.add_step(tx, "agent", "act", data or {}, resources=own)
        assert manager.commit(tx).state.value == "committed"
        (plan, *_rest) = manager.get_events(tx)
    uses = plan.fields["definition"]["steps"][0].get("resources", [])
    return {use["name"]: use.get("mode", "exclusive") for use in uses}


@pytest.mark.parametrize(
    "resources,data,found",
    [
        (["a:{id}"], {"id": 42}, "a:42"),
        (["a:{id}"], {"id": "x{y}"}, "a:x{y}"),
        (["a:{/deep/0/id}"], {"deep": [{"id": "7"}]}, "a:7"),
        (["a:{odd/key}"], {"odd/key": "1"}, None),
        (["A:{id}/{kind}"], {"id": 1, "kind": "K"}, "a:1/K"),
        (lambda data: [f"a:{data['id']}"], {"id": 5}, "a:5"),
    ],
)
def test_names_are_filled_in_from_the_data(resources, data, found):
    if found is None:
        with pytest.raises(InvalidData):
            used(resources, data)
    else:
        assert used(resources, data) == {found: "exclusive"}


def test_what_a_step_says_is_taken_as_it_is_and_added():
    found = used(["a:{id}"], {"id": 1}, own=["b:{id}", Resource.shared("C:1")])
    assert found == {"a:1": "exclusive", "b:{id}": "exclusive", "c:1": "shared"}


def test_each_resource_stands_there_once_and_exclusive_wins():
    assert used(["r", Resource.shared("R:1")], own=[Resource.shared("r"), "r:1"]) == {
        "r": "exclusive",
        "r:1": "exclusive",
    }


def test_a_function_cannot_change_what_is_recorded():
    def resources(data):
        data["id"] = "changed"
        return ["r"]

    made = Action("act", lambda action, data: data, effect="none", resources=resources)
    with TransactionManager(actions=[made]) as manager:
        tx = manager.begin()
        manager.add_step(tx, "agent", "act", {"id": "kept"})
        assert manager.commit(tx).outputs == {"s1": {"id": "kept"}}


@pytest.mark.parametrize(
    "data", [{}, {"id": None}, {"id": " "}, {"id": True}, {"id": 1.5}, {"id": []}]
)
def test_what_cannot_be_in_a_name_is_refused_by_its_place(data):
    with pytest.raises(InvalidData, match=r"data\.id"):
        used(["a:{id}"], data)


@pytest.mark.parametrize("resources", ["r", 7, [7], {"r": 1}, [None]])
def test_what_is_no_list_of_resources_is_refused_when_it_is_declared(resources):
    with pytest.raises(DefinitionError, match="resources"):
        used(resources)
    with pytest.raises(DefinitionError, match="resources"):
        used(own=resources)
    with pytest.raises(DefinitionError, match="resources"):
        used(lambda data: resources)


def test_more_than_a_thousand_are_refused():
    with pytest.raises(DefinitionError, match="more than the 1,000"):
        used(own=[f"r:{number}" for number in range(1_001)])


def test_a_name_that_depends_on_an_output_is_refused_unless_the_step_names_its_own():
    made = Action("act", lambda *_: {"id": 1}, effect="none", resources=["a:{id}"])
    with TransactionManager(actions=[made]) as manager:
        tx = manager.begin()
        first = manager.add_step(tx, "agent", "act", {"id": 1})
        second = manager.add_step(tx, "agent", "act", {"id": first.output("/id")})
        with pytest.raises(DefinitionError, match="depends on an output"):
            manager.commit(tx)
        second.resources = [Resource(name="a:1")]
        assert manager.commit(tx).state.value == "committed"


@pytest.mark.parametrize(
    "options",
    [{"isolation": "some"}, {"lock_timeout_seconds": 0}, {"lock_timeout_seconds": None}],
)
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(DefinitionError):
        used(["r"], **options)
