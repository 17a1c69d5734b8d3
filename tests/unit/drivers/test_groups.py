"""In which group a step of a context stands."""
# mypy: disable-error-code="union-attr"

import contextvars
from concurrent.futures import ThreadPoolExecutor

import pytest

from aumai_transactions import step
from aumai_transactions.drivers.ambient import SCOPES
from aumai_transactions.drivers.groups import Group, current, enter


class GaveUp(Exception):
    pass


@pytest.fixture(autouse=True)
def context():
    """Nothing that a test enters is left behind."""
    token = SCOPES.set({})
    yield
    SCOPES.reset(token)


def nested():
    outer = Group("c1", "child", "trip", None, expires_at=5)
    inner = Group("p1", "savepoint", "hotel", outer)
    return outer, inner, Group("p2", "savepoint", "", inner)


def test_a_group_knows_what_it_stands_in():
    outer, inner, innermost = nested()
    assert list(innermost.chain()) == [innermost, inner, outer]
    assert innermost.names() == ["trip", "hotel", ""]
    told = [
        (one.scope_id, one.kind, one.parent, one.name, one.expires_at)
        for one in innermost.definitions()
    ]
    assert told == [
        ("c1", "child", None, "trip", 5),
        ("p1", "savepoint", "c1", "hotel", None),
        ("p2", "savepoint", "p1", "", None),
    ]


def test_a_context_stands_in_one_group_of_each_transaction():
    outer, inner, _ = nested()
    assert current("tx", None) is None
    enter("tx", inner)
    enter("other", outer)
    assert (current("tx", None), current("other", None)) == (inner, outer)
    enter("tx", None)
    assert (current("tx", None), current("other", None)) == (None, outer)
    enter("unknown", None)


def test_a_handle_stays_in_its_own_group():
    outer, inner, innermost = nested()
    aside = Group("c2", "child", "", None)
    assert current("tx", outer) is outer
    enter("tx", innermost)
    assert current("tx", outer) is innermost
    assert current("tx", innermost) is innermost
    enter("tx", aside)
    assert current("tx", inner) is inner


def test_what_a_context_enters_is_not_seen_by_the_one_that_it_came_from():
    outer, inner, _ = nested()
    enter("tx", outer)
    copied = contextvars.copy_context()
    copied.run(enter, "tx", inner)
    assert current("tx", None) is outer
    assert copied.run(current, "tx", None) is inner


@pytest.fixture
def act():
    return step(lambda n: n)


def groups_of(tx):
    return [one.scope_id for one in tx.steps]


def test_a_step_stands_in_the_group_around_it(make_sync, act):
    manager = make_sync()
    with manager.transaction() as tx:
        act(0)
        with tx.savepoint("one") as one:
            act(1)
            with manager.transaction(name="two") as two:
                act(2)
            act(3)
        act(4)
        assert [step.data["n"] for step in two.steps] == [2]
    first, second = one.group.scope_id, two.transaction_id.rpartition(".")[2]
    assert groups_of(tx) == [None, first, second, first, None]


def test_a_group_that_nothing_is_executed_in_leaves_no_trace(make_sync, act):
    manager = make_sync()
    with manager.transaction() as tx:
        act(0)
        before = len(manager.get_events(tx.transaction_id))
        with tx.savepoint("empty"), pytest.raises(GaveUp), tx.savepoint("failing"):
            raise GaveUp
        assert len(manager.get_events(tx.transaction_id)) == before


def test_a_handle_lasts_until_it_is_taken_back_or_the_end(make_sync, act):
    with make_sync().transaction() as tx:
        savepoint = tx.savepoint("handle")
        act(1)
        savepoint.rollback()
        act(2)
    assert [one.state.value for one in tx.steps] == ["succeeded", "succeeded"]
    assert groups_of(tx) == [savepoint.group.scope_id] * 2
    assert tx.result.uncompensated == ["s1"]


def test_only_what_its_own_scope_has_executed_is_undone(make_sync):
    log = []

    def forget(n):
        log.append(n)

    act = step(compensating_action=forget)(lambda n: n)
    with make_sync().transaction() as tx, ThreadPoolExecutor(1) as pool:
        beside = tx.bind(act)
        with pytest.raises(GaveUp), tx.savepoint():  # noqa: PT012
            act(1)
            pool.submit(beside, 2).result()
            pool.submit(tx.bind(act), 3).result()
            raise GaveUp
    assert log == [3, 1]
    assert [one.state.value for one in tx.steps] == ["compensated", "succeeded", "compensated"]


def test_a_step_in_a_group_that_has_ended_is_refused(make_sync, act, in_thread):
    with make_sync().transaction() as tx:
        with tx.transaction("inner") as inner:
            act(1)
            bound = inner.bind(act)
        with pytest.raises(Exception, match="in parent"):
            bound(2)
        with pytest.raises(GaveUp), tx.transaction("failing") as failing:  # noqa: PT012
            act(3)
            bound = failing.bind(act)
            raise GaveUp
        with pytest.raises(Exception, match="rolled_back"):
            in_thread(bound, 4).result()
    assert len(tx.steps) == 2
