"""Each kind of violation, planted into a history that is sound without it."""

import contextlib

import pytest

from aumai_transactions import Resource, TransactionManager
from aumai_transactions.stores.memory import MemoryStore
from aumai_transactions.testing.history import Access, problems_of


@pytest.fixture
def story():
    """Two transactions, one after the other, on one account; and what the participant recorded."""
    store = MemoryStore()
    accesses: list[Access] = []
    manager = TransactionManager(store=store)

    def record(context, kind):
        for resource, token in context.resources.items():
            place = (context.transaction_id, context.step_id, kind, token)
            accesses.append(Access(len(accesses), resource, *place))

    @manager.action("write", compensating_action="undo", resources=["account:{on}"])
    def write(action, data, context):
        record(context, "write")

    @manager.action("undo", idempotent=True)
    def undo(action, data, context):
        record(context, "undo")

    @manager.action("read", effect="none", resources=[Resource.shared("account:{on}")])
    def read(action, data, context):
        record(context, "read")

    def run(*steps, fails=False):
        block = manager.transaction()
        with contextlib.suppress(ZeroDivisionError), block as tx:
            for action, on in steps:
                tx.execute("agent", action, {"on": on})
            if fails:
                raise ZeroDivisionError
        return block.transaction_id

    yield store, accesses, run
    manager.close()


def problems(story, accesses=None):
    store, recorded, _run = story
    return problems_of(store, recorded if accesses is None else accesses)


def test_a_sound_history_has_no_problems(story):
    _store, accesses, run = story
    run(("write", "a"), ("read", "b"), ("write", "b"))
    run(("read", "a"), ("read", "b"))
    run(("write", "b"), ("write", "a"), fails=True)
    assert len(accesses) == 9
    assert problems(story) == []


def test_an_access_without_a_grant_is_found(story):
    _store, accesses, run = story
    run(("write", "a"))
    accesses[0] = accesses[0]._replace(token=None)
    (found,) = problems(story)
    assert "never granted" in found


def test_a_write_under_a_shared_lock_is_found(story):
    _store, accesses, run = story
    run(("read", "a"))
    accesses[0] = accesses[0]._replace(kind="write")
    assert any("never granted for that" in found for found in problems(story))


def test_an_older_token_after_a_newer_one_is_found(story):
    _store, accesses, run = story
    run(("write", "a"))
    run(("write", "a"))
    first, second = accesses
    swapped = [second._replace(position=0), first._replace(position=1)]
    assert any("with a newer one" in found for found in problems(story, swapped))


def test_who_comes_in_between_is_found(story):
    _store, accesses, run = story
    run(("write", "a"), ("write", "a"))
    run(("write", "a"))
    first, again, other = accesses
    order = [first, other._replace(position=1), again._replace(position=2)]
    assert any("in between" in found for found in problems(story, order))


def test_readers_side_by_side_are_no_problem(story):
    _store, accesses, run = story
    run(("read", "a"), ("read", "a"))
    run(("read", "a"))
    first, again, other = accesses
    order = [first, other._replace(position=1), again._replace(position=2)]
    assert problems(story, order) == []


def test_two_that_each_came_before_the_other_are_found(story):
    _store, accesses, run = story
    one = run(("write", "a"), ("write", "b"))
    two = run(("write", "a"), ("write", "b"))
    at_a, at_b, then_a, then_b = accesses
    order = [at_a, then_b._replace(position=1), at_b._replace(position=2), then_a]
    (found,) = [text for text in problems(story, order) if "no order" in text]
    assert one in found
    assert two in found


@pytest.mark.parametrize("kind", ["write", "undo"])
def test_what_was_done_twice_is_found(story, kind):
    _store, accesses, run = story
    run(("write", "a"), fails=True)
    again = next(access for access in accesses if access.kind == kind)
    found = problems(story, [*accesses, again._replace(position=9)])
    assert any("once, and did 2 times" in text for text in found)


def test_what_was_rolled_back_and_stands_is_found(story):
    _store, accesses, run = story
    run(("write", "a"), fails=True)
    found = problems(story, [access for access in accesses if access.kind != "undo"])
    assert any("still stands" in text for text in found)


def test_what_was_undone_and_never_done_is_found(story):
    _store, accesses, run = story
    run(("write", "a"), fails=True)
    found = problems(story, [access for access in accesses if access.kind == "undo"])
    assert any("never done" in text for text in found)


def test_what_is_not_over_is_found(story):
    _store, _accesses, run = story
    run(("write", "a"))
    stranger = Access(9, "account:b", "nobody", "s1", "write", 1)
    assert any("nobody is unknown" in text for text in problems(story, [stranger]))
