"""Whether two functions are one, by where in the program they stand."""

import functools
import sys
import types

import pytest

from aumai_transactions.drivers.places import (
    are_two,
    is_redefined,
    is_there,
    name_here,
    place_of,
)


def here():
    pass


def other():
    pass


def made(around):
    def inner():
        return around

    return inner


@functools.wraps(here)
def wrapped():
    return here()


def in_module(name, program, qualname="tool"):
    module = types.ModuleType(name)
    exec(compile(program, "tools.py", "exec"), module.__dict__)  # noqa: S102
    return module, getattr(module, qualname)


def test_a_place_is_that_of_the_innermost_function():
    assert place_of(here) == place_of(wrapped) == f"{__name__}:here"
    assert place_of(made(1)).endswith(":made.<locals>.inner")
    assert place_of(functools.partial(here)).endswith(":partial")


def test_two_functions_are_two_where_both_places_last():
    assert are_two(here, other)
    assert not are_two(here, wrapped)
    assert not are_two(here, made(1))
    assert not are_two(lambda: None, other)


def test_one_function_of_a_module_that_has_two_names_is_one():
    program = "def tool(): pass\ndef more(): pass"
    _, one = in_module("__main__", program)
    module, two = in_module("tools", program)
    assert place_of(one) != place_of(two)
    assert not are_two(one, two)
    assert are_two(one, module.more)


def test_what_has_no_code_is_told_apart_by_its_place():
    assert are_two(len, here)
    assert not are_two(len, len)


def test_a_function_is_there_as_long_as_its_module_has_it(monkeypatch):
    assert is_there(here)
    assert is_there(wrapped)
    assert not is_there(made(1))
    module, tool = in_module("passing_tools", "def tool(): pass")
    assert not is_there(tool)
    monkeypatch.setitem(sys.modules, "passing_tools", module)
    assert is_there(tool)
    module.tool = here
    assert not is_there(tool)


def test_a_function_is_redefined_only_around_the_same_things():
    one, two = [1], [1]
    assert is_redefined(made(one), made(one))
    assert not is_redefined(made(one), made(two))
    assert not is_redefined(here, other)
    assert is_redefined(here, wrapped)


def test_a_cell_that_is_empty_yet_is_like_no_other():
    def around():
        def inner():
            return later

        before = inner.__closure__
        assert before is not None
        with pytest.raises(ValueError, match="empty"):
            before[0].cell_contents  # noqa: B018 (looking is the test)
        same = is_redefined(inner, inner)
        if not same:
            later = 1
        return same, inner

    assert around()[0]
    assert not is_redefined(around()[1], around()[1])


def test_a_name_is_given_once():
    first = name_here("a place of this test alone")
    assert first == "a place of this test alone"
    assert name_here(first) == f"{first}#2"
    assert name_here(first) == f"{first}#3"
