import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aumai_transactions.participants import template as template_module
from aumai_transactions.participants.template import (
    Placeholder,
    UnfitValue,
    as_text,
    json_body,
    parsed_json,
    parsed_text,
    placeholders_in,
    values_of,
)

DATA = {
    "id": "F1",
    "n": 7,
    "price": 850.0,
    "yes": True,
    "none": None,
    "empty": "",
    "traveller": {"name": "Ada"},
    "items": [{"id": "a"}, {"id": "b"}],
    "1": "one",
    "braces": "{data.id}{{}}",
}


@pytest.fixture
def values(acting):
    return values_of(DATA, acting)


def text(template, values):
    return parsed_text(template).rendered(values, lambda _, inserted: inserted)


def body(template, values):
    return json.loads(json_body(parsed_json(template), values))


# ---------------------------------------------------------------------------------- what it is


@pytest.mark.parametrize(
    "template,shown",
    [
        ("", ""),
        ("plain", "plain"),
        ("{data.id}", "F1"),
        ("a{data.id}b{data.n}c", "aF1b7c"),
        ("{data.traveller.name}", "Ada"),
        ("{data.items.1.id}", "b"),
        ("{data.1}", "one"),
        ("{data.price} {data.yes}", "850.0 true"),
        ("{transaction_id} {step_id} {agent_id}", "tx-1 flight flight_agent"),
        ("{key} {forward_key}", "tx-1/flight/action tx-1/flight/action"),
        ("{{data.id}}", "{data.id}"),
        ("{{{data.id}}}", "{F1}"),
        ("{{}}", "{}"),
        ("{data.braces}", "{data.id}{{}}"),
        ("$output %s {{0}} \\{data.id}", "$output %s {0} \\F1"),
    ],
)
def test_references_are_replaced_by_the_values_that_they_lead_to(template, shown, values):
    assert text(template, values) == shown


@pytest.mark.parametrize(
    "template,told",
    [
        ("{", "holds a single {; a reference is written {data.flight_id}"),
        ("a}", "a brace that is meant as it stands }}"),
        ("{data.id", "single {"),
        ("{{data.id}", "single }"),
        ("{data.{data.id}}", "single {"),
        ("{}", "holds {}, which names nothing"),
        ("{data.}", "which names nothing"),
        ("{.data}", "which names nothing"),
        ("{data..id}", "which names nothing"),
        ("{ data.id }", "without spaces"),
        ("{flight_id}", "holds {flight_id}; did you mean {data.flight_id}? Known are data, output"),
        ("{dta.id}", "did you mean {data.id}?"),
        ("{outputs.a.id}", "did you mean {output.a.id}?"),
        ("{step_id.x}", "step_id is a text and has no fields; write {step_id}"),
        ("{data" + ".a" * 65 + "}", "more than 64 names"),
        ("{data.id!r}{x:>10}", "did you mean {data.x:>10}?"),
        ("{\x1b[2J}", r"holds {\x1b[2J}"),
    ],
)
def test_a_mistake_says_what_to_write_instead(template, told):
    with pytest.raises(ValueError, match=r"^holds") as caught:
        parsed_text(template)
    assert told in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_method_or_an_attribute_is_only_ever_a_key(values):
    for path in (
        "__class__",
        "items.__len__",
        "id.upper",
        "traveller.keys",
        "items.-1",
        "items.01",
    ):
        with pytest.raises(UnfitValue, match="leads to nothing"):
            text(f"{{data.{path}}}", values)


# ---------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "reference,told",
    [
        ("data.gone", "{data.gone} leads to nothing: there is no 'gone' in an object"),
        ("data.id.x", "there is no 'x' in a text"),
        ("data.items.2", "there is no '2' in a list"),
        ("data.items.99999999999999999999", "in a list"),
        ("data.none.x", "there is no 'x' in null"),
        ("data.none", "{data.none} is null; only text, a number, true or false can stand there"),
        ("data.items", "{data.items} is a list"),
        ("data.traveller", "{data.traveller} is an object"),
        ("output.id", "{output.id} is known only in an undo, a probe or a verification"),
    ],
)
def test_what_cannot_stand_in_a_text_is_refused_by_name(reference, told, values):
    with pytest.raises(UnfitValue) as caught:
        text(f"x{{{reference}}}", values)
    assert told in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"x", {1}, None])
def test_what_is_no_json_is_no_text(value):
    with pytest.raises(UnfitValue):
        as_text(Placeholder("data", ("x",)), value)


def test_a_number_with_too_many_digits_is_no_text():
    with pytest.raises(UnfitValue, match="too many digits"):
        as_text(Placeholder("data", ("x",)), 10**5_000)


def test_the_output_is_known_to_an_undo_a_probe_and_a_verification(acting):
    for operation in ("compensation", "probe", "verification"):
        context = replace(acting, operation=operation, output={"id": "R1"})
        assert text("{output.id}", values_of({}, context)) == "R1"
        empty = values_of({}, replace(context, output=None))
        for reference in ("output", "output.id"):
            with pytest.raises(UnfitValue, match="leads to nothing"):
                text(f"{{{reference}}}", empty)


# --------------------------------------------------------------------------------------- json


def test_a_reference_alone_is_the_value_and_inside_a_text_it_is_text(values):
    template = {
        "n": "{data.n}",
        "who": "{data.traveller}",
        "all": "{data}",
        "none": "{data.none}",
        "empty": "{data.empty}",
        "note": "no {data.n} for {data.traveller.name}{data.empty}",
        "list": ["{data.items.0}", 5, None, True, {"deep": "{key}"}],
        "{data.id}": "a key stays as it is",
        "literal": "{{data.id}}",
    }
    assert body(template, values) == {
        "n": 7,
        "who": {"name": "Ada"},
        "all": DATA,
        "none": None,
        "empty": "",
        "note": "no 7 for Ada",
        "list": [{"id": "a"}, 5, None, True, {"deep": "tx-1/flight/action"}],
        "{data.id}": "a key stays as it is",
        "literal": "{data.id}",
    }


@pytest.mark.parametrize("template", [5, 1.5, True, [], {}, "x", [None]])
def test_json_without_references_is_sent_as_it_is(template, values):
    assert body(template, values) == template


def test_a_mistake_in_json_is_named_by_its_place():
    with pytest.raises(
        ValueError, match=r"^rooms\[2\]\.id: holds \{id\}; did you mean \{data.id\}"
    ):
        parsed_json({"rooms": [{"id": "{data.id}"}, {"id": "{id}"}]})


def test_every_reference_of_a_body_is_found():
    node = parsed_json({"a": ["{data.x}", "t {key} {output.y}"], "b": {"c": 5}})
    assert [found.shown for found in placeholders_in(node)] == ["{data.x}", "{key}", "{output.y}"]


def test_a_body_does_not_grow_without_bound(acting, monkeypatch):
    monkeypatch.setattr(template_module, "JSON_BYTES_MAX", 1_000)
    values = values_of({"x": "y" * 90, "l": ["y" * 90]}, acting)
    assert json_body(parsed_json(["{data.x}"] * 5 + ["{data.l}"] * 5), values)
    for many in (["{data.x}"] * 20, ["{data.l}"] * 20, ["a{data.x}"] * 20):
        with pytest.raises(UnfitValue, match=r"makes the body longer than 1,000 bytes"):
            json_body(parsed_json(many), values)


def test_what_is_no_json_is_no_body(acting):
    circle: list = []
    circle.append(circle)
    for hostile in ("\ud800", circle, {"x": {1}}, float("nan")):
        with pytest.raises(UnfitValue, match="cannot be written as JSON"):
            json_body(parsed_json({"x": "{data.x}"}), values_of({"x": hostile}, acting))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text() | st.floats(-1e9, 1e9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(value=JSON)
def test_whatever_the_value_is_it_arrives_as_it_is_and_nothing_beside_it_changes(value):
    values = {"data": {"x": value}}
    found = body({"before": 1, "x": "{data.x}", "after": "{{y}}"}, values)
    assert found == {"before": 1, "x": value, "after": "{y}"}


@given(value=st.text())
def test_a_text_with_braces_is_inserted_and_not_looked_at_again(value):
    values = {"data": {"x": value, "y": "Y"}}
    assert text("<{data.x}|{data.y}>", values) == f"<{value}|Y>"


@given(literal=st.text())
def test_doubled_braces_make_every_text_a_literal(literal):
    doubled = literal.replace("{", "{{").replace("}", "}}")
    assert text(doubled, {}) == literal
