"""How deep a text is nested."""

import json

import pytest

from aumai_transactions.core.nesting import PARSED_DEPTH_MAX, is_nested_deeper


def lists(depth):
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("depth", [1, 5, PARSED_DEPTH_MAX])
def test_the_limit_is_the_last_depth_that_is_allowed(depth):
    assert not is_nested_deeper(lists(depth), depth)
    assert is_nested_deeper(lists(depth + 1), depth)
    objects = '{"a":' * depth + "1" + "}" * depth
    assert not is_nested_deeper(objects, depth)
    assert is_nested_deeper(f"[{objects}]", depth)


def test_many_side_by_side_are_not_deep():
    assert not is_nested_deeper("[" + ",".join(["[]"] * 1_000) + "]", 2)
    assert not is_nested_deeper("[" + ",".join(['{"a":[1]}'] * 1_000) + "]", 3)


@pytest.mark.parametrize("inside", ["[" * 50, '"' + "[" * 50, "\\" + "{" * 50, '\\"[[[[[', "[\\"])
def test_brackets_in_texts_do_not_count(inside):
    text = json.dumps([inside] * 3)
    assert not is_nested_deeper(text, 1)
    assert json.loads(text) == [inside] * 3


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, '["' + "[" * 300, "[" * 300 + '"']
)
def test_what_is_no_json_is_told_as_well(text):
    assert is_nested_deeper(text)


@pytest.mark.parametrize("text", ["", "1", '"' * 1_000, "]" * 1_000, "\\" * 1_000, '"\\' * 1_000])
def test_what_has_no_brackets_to_speak_of_is_not_deep(text):
    assert not is_nested_deeper(text, 0 if "]" not in text else 1)
