"""What a manager is, whichever way it waits."""

import functools

import pytest

from aumai_transactions import (
    Action,
    AsyncTransactionManager,
    DefinitionError,
    StoreError,
    StoreNotFound,
    TransactionManager,
)


def module_level(action, data):
    return "called"


def undo_module_level(action, data):
    return None


@pytest.fixture(params=["memory", "sqlite"])
def store_options(request, tmp_path):
    return {} if request.param == "memory" else {"store": f"sqlite:///{tmp_path}/journal.db"}


def test_a_decorated_function_stays_as_it_is_and_is_registered(make_sync):
    manager = make_sync()

    @manager.action("act", compensating_action="undo", idempotent=True)
    def act(action, data):
        return 1

    assert act("x", {}) == 1
    # Why by name: what any module has decorated with @step is known to every manager.
    (action,) = [action for action in manager.actions if action.name == "act"]
    assert (action.name, action.compensating_action, action.idempotent) == ("act", "undo", True)
    assert not action.is_plain


def test_the_default_name_of_an_action_is_its_module_and_qualified_name(make_sync):
    manager = make_sync()
    manager.action()(module_level)
    assert f"{__name__}:module_level" in manager.actions


def test_a_step_takes_the_undo_that_its_action_was_registered_with(make_sync):
    manager = make_sync()
    manager.action("act", compensating_action="undo")(module_level)
    tx = manager.begin()
    assert manager.add_step(tx, "a", "act", {}).compensating_action == "undo"
    assert manager.add_step(tx, "a", "act", {}, "other").compensating_action == "other"


def test_a_compensating_action_may_be_a_function(make_sync, store_options):
    manager = make_sync({"act": module_level, "fail": fail}, **store_options)
    tx = manager.begin()
    step = manager.add_step(tx, "a", "act", {}, undo_module_level)
    manager.add_step(tx, "a", "fail", {})
    assert step.compensating_action == f"{__name__}:undo_module_level"
    assert manager.commit(tx).compensated_steps == ["s1"]


def fail(action, data):
    raise ValueError("no")


@pytest.mark.parametrize(
    "unstable",
    [lambda action, data: None, functools.partial(module_level)],
    ids=["lambda", "partial"],
)
def test_on_a_durable_store_what_cannot_be_found_again_needs_a_name(tmp_path, make_sync, unstable):
    manager = make_sync(store=f"sqlite:///{tmp_path}/journal.db")
    tx = manager.begin()
    with pytest.raises(DefinitionError, match="Register it under a name"):
        manager.action()(unstable)
    with pytest.raises(DefinitionError, match="Register it under a name"):
        manager.add_step(tx, "a", "act", {}, unstable)
    manager.action("stable")(unstable)
    assert "stable" in manager.actions


def test_in_memory_a_lambda_needs_no_name(make_sync):
    manager = make_sync()
    manager.action()(lambda action, data: None)
    assert [action.name for action in manager.actions if action.name.endswith(".<lambda>")]


@pytest.mark.parametrize("handler", [None, 7, "act", object()])
def test_what_cannot_be_called_is_no_handler(handler):
    with pytest.raises(DefinitionError, match="'act'"):
        TransactionManager({"act": handler})


@pytest.mark.parametrize("undo", [7, object(), ["undo"]])
def test_what_is_neither_a_name_nor_a_function_is_no_compensating_action(make_sync, undo):
    manager = make_sync()
    with pytest.raises(DefinitionError, match="a name or a function"):
        manager.add_step(manager.begin(), "a", "act", {}, undo)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout_scope": "sometimes"},
        {"on_crash": "panic"},
        {"on_compensation_failure": "stop"},
        {"state": "committed"},
        {"colour": "red"},
    ],
)
def test_an_option_that_cannot_be_is_refused_by_name(make_sync, options):
    (name,) = options
    with pytest.raises((DefinitionError, TypeError), match=name):
        make_sync().begin(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout_scope": "transaction"},
        {"on_crash": "resume"},
        {"on_compensation_failure": "halt"},
        {"name": "a trip"},
    ],
)
def test_an_option_of_begin_stands_in_the_transaction(make_sync, options):
    tx = make_sync().begin(**options)
    assert {name: getattr(tx, name) for name in options} == options


def test_step_ids_are_short_and_distinct_even_among_edited_ones(make_sync):
    manager = make_sync()
    tx = manager.begin()
    for _ in range(3):
        manager.add_step(tx, "a", "act", {})
    del tx.steps[0]
    manager.add_step(tx, "a", "act", {})
    assert len({step.step_id for step in tx.steps}) == 3


def test_actions_with_options_can_be_given_when_the_manager_is_made():
    action = Action("act", module_level, compensating_action="undo")
    for kind in (TransactionManager, AsyncTransactionManager):
        assert action in list(kind(actions=[action]).actions)


def test_making_a_manager_touches_no_file(tmp_path):
    manager = TransactionManager(store=f"sqlite:///{tmp_path}/journal.db")
    assert manager.has_durable_store
    assert list(tmp_path.iterdir()) == []


def test_only_begin_makes_a_store(tmp_path, make_sync):
    path = tmp_path / "journal.db"
    manager = make_sync(store=f"sqlite:///{path}")
    for call in (manager.recover, manager.get_all_transactions, manager.verify):
        with pytest.raises(StoreNotFound, match=str(path)):
            call()
    assert list(tmp_path.iterdir()) == []
    manager.begin()
    assert path.exists()


def test_a_store_that_is_no_store_is_refused(make_sync):
    with pytest.raises(StoreError, match="nosql"):
        make_sync(store="nosql://somewhere").begin()


@pytest.mark.parametrize("given,durable", [(None, False), ("memory:", False), ("x.db", True)])
def test_a_manager_knows_before_it_opens_whether_its_store_is_durable(given, durable):
    assert TransactionManager(store=given).has_durable_store is durable


def test_memory_by_its_name_keeps_everything_too(make_sync):
    manager = make_sync(store="memory:")
    result = manager.commit(manager.begin())
    assert [tx.transaction_id for tx in manager.get_all_transactions()] == [result.transaction_id]
