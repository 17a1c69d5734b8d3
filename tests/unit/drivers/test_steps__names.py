"""By which name a decorated function is found, and that no two are mixed up."""
# mypy: disable-error-code="union-attr"

import importlib
import sys
import textwrap
from typing import Any

import pytest

from aumai_transactions import DefinitionError, step
from aumai_transactions.actions import DECORATED
from aumai_transactions.drivers.steps import step_of


class GaveUp(Exception):
    pass


LOG: list[Any] = []


def cancel(flight_id):
    LOG.append(flight_id)


@step(compensating_action=cancel)
def book(flight_id):
    return flight_id


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Write modules, and import them; they are forgotten in the end."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names: list[str] = []

    def make(name, program):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(program), "utf-8")
        importlib.invalidate_caches()
        names.append(name)
        return importlib.import_module(name)

    yield make
    for name in names:
        sys.modules.pop(name, None)


def test_a_function_is_found_by_its_module_and_its_name(make_sync, tmp_path):
    name = f"{__name__}:book"
    assert name in DECORATED
    assert f"{name}.undo" in DECORATED
    LOG.clear()
    manager = make_sync(store=tmp_path / "trips.db")
    with pytest.raises(GaveUp), manager.transaction() as tx:  # noqa: PT012
        book("F1")
        raise GaveUp
    assert [one.action for one in tx.steps] == [name]
    assert LOG == ["F1"]


def in_main(name):
    def function():
        return name

    function.__module__, function.__qualname__ = "__main__", "function"
    return function


@pytest.mark.parametrize("plain", [lambda: "called", in_main("called"), in_main])
def test_what_no_other_process_finds_is_refused_where_the_store_outlives_it(
    make_sync, tmp_path, plain
):
    if plain is in_main:

        def plain():
            return "called"

    made = step(plain)
    assert made() == "called"
    with make_sync().transaction():
        assert made() == "called"
    manager = make_sync(store=tmp_path / "trips.db")
    message = r'cannot be found again after a restart .* Give it a name: @step\(name="…"\)'
    with manager.transaction():
        with pytest.raises(DefinitionError, match=message):
            made()
        assert step(name=f"named {plain}")(plain)() == "called"
    assert [one.summary.state.value for one in manager.find()] == ["committed"]


def factory(log, client, name=None):
    def cancel(flight_id):
        log.append(f"{client} undoes {flight_id}")

    @step(name=name, compensating_action=cancel)
    def book(flight_id):
        log.append(f"{client} books {flight_id}")

    return book


def test_two_functions_that_were_made_at_one_place_are_never_mixed_up(make_sync):
    log: list[str] = []
    first, second = factory(log, "a"), factory(log, "b")
    with pytest.raises(GaveUp), make_sync().transaction() as tx:  # noqa: PT012
        first("F1")
        second("F2")
        first("F3")
        raise GaveUp
    assert log[:3] == ["a books F1", "b books F2", "a books F3"]
    assert log[3:] == ["a undoes F3", "b undoes F2", "a undoes F1"]
    assert len({one.action for one in tx.steps}) == 2


def test_two_functions_of_one_name_and_place_cannot_meet_in_one_transaction(make_sync, tmp_path):
    log: list[str] = []
    first, second = factory(log, "a", "met"), factory(log, "b", "met")
    manager = make_sync(store=tmp_path / "trips.db")
    for made in (first, second, first):
        with pytest.raises(GaveUp), manager.transaction():  # noqa: PT012
            made("F")
            raise GaveUp
    assert log == ["a books F", "a undoes F", "b books F", "b undoes F", "a books F", "a undoes F"]
    log.clear()
    with pytest.raises(GaveUp), manager.transaction():  # noqa: PT012
        first("F1")
        with pytest.raises(DefinitionError, match="knows another function as 'met'"):
            second("F2")
        raise GaveUp
    assert log == ["a books F1", "a undoes F1"]


def test_a_function_that_was_made_anew_around_the_same_things_is_the_same(make_sync, tmp_path):
    log: list[str] = []
    with make_sync(store=tmp_path / "trips.db").transaction() as tx:
        for number in range(2):
            factory(log, "a", "anew")(f"F{number}")
    assert len(tx.steps) == 2


TOOL = """
    from aumai_transactions import step

    @step(name="{name}")
    def {function}():
        return "{function} of {module}"
"""


def test_two_functions_of_a_program_cannot_have_one_name(modules):
    modules("trip_flights", TOOL.format(name="shared", function="book", module="flights"))
    told = "trip_flights:book and trip_hotels:book are both called 'shared', and nobody"
    with pytest.raises(DefinitionError, match=told):
        modules("trip_hotels", TOOL.format(name="shared", function="book", module="hotels"))


def test_a_function_may_be_defined_once_more(modules, make_sync):
    program = TOOL.format(name="reloaded", function="book", module="first")
    module = modules("trip_reloaded", program)
    before = module.book
    importlib.reload(module)
    assert module.book is not before
    with make_sync().transaction() as tx:
        assert [before(), module.book()] == ["book of first"] * 2
    assert len(tx.steps) == 2


def test_a_name_is_free_again_where_its_function_has_gone(modules, make_sync):
    module = modules("trip_notebook", TOOL.format(name="renamed", function="book", module="first"))
    del module.book
    other = modules("trip_cell", TOOL.format(name="renamed", function="take", module="second"))
    with make_sync().transaction() as tx:
        assert tx.execute("agent", "renamed") == other.take() == "take of second"


def test_a_step_below_a_decorator_that_copies_its_attributes_is_not_that_decorator():
    import functools

    @functools.wraps(book)
    def wrapper(*args):
        return book(*args)

    assert step_of(book) is not None
    assert step_of(wrapper) is None
    assert wrapper.__dict__.keys() >= {"__aumai_step__"}


def test_a_redefined_step_that_names_no_undo_any_more_has_none(make_sync):
    def declared(**options):
        @step(name="has none any more", **options)
        def hold(token):
            pass

        return hold

    declared(compensating_action="comes late")
    hold = declared()
    step(name="comes late")(lambda token: None)
    with make_sync().transaction() as tx:
        hold("T")
    assert tx.steps[0].compensating_action is None
    registered = DECORATED.get("has none any more")
    assert registered is not None
    assert registered.action.compensating_action is None
