"""What gives nothing to prove is refused by name, and so is what cannot be."""

import functools
import itertools

import pytest
from tests.unit.testing.atomic.agency import BOOKED, book, maker, planned

from aumai_transactions import AsyncTransactionManager
from aumai_transactions.stores.memory import MemoryStore
from aumai_transactions.testing import NothingToProve, assert_atomic
from aumai_transactions.testing.atomic import check


def refused(saga=planned, **options):
    given = {"world": BOOKED, "manager": maker()} | options
    with pytest.raises(NothingToProve) as told:
        assert_atomic(saga, **given)
    return str(told.value)


def of_steps(*actions):
    def saga(manager):
        tx = manager.begin()
        for action in actions:
            manager.add_step(tx, "agent", action, {"what": "flight"})
        manager.commit(tx)

    return saga


def test_a_transaction_without_a_step_proves_nothing():
    assert "has no step" in refused(of_steps())


def test_a_world_that_never_changes_proves_nothing():
    assert "the world never changes" in refused(world={})


def test_a_transaction_that_does_not_commit_by_itself_proves_nothing():
    def fail(action, data):
        raise ValueError("sold out")

    told = refused(manager=maker({"book": fail}))
    assert "rolled_back and not committed" in told
    assert "sold out" in told


def test_a_program_that_raises_by_itself_proves_nothing():
    def broken(manager):
        planned(manager)
        raise KeyError("nope")

    assert "the clean run raised KeyError" in refused(broken)


def test_a_dry_run_proves_nothing():
    told = refused(of_steps("book", "pay"))
    assert "nothing is done by pay" in told


def test_a_saga_that_makes_no_transaction_proves_nothing():
    assert "has made no transaction" in refused(lambda manager: BOOKED.update(by="hand"))


def test_two_transactions_are_no_transaction():
    def twice(manager):
        planned(manager)
        planned(manager)

    assert "has made 2 transactions" in refused(twice)


def test_two_clean_runs_must_leave_the_same():
    numbers = itertools.count()

    def number(action, data, context):
        BOOKED[next(numbers)] = data["what"]

    told = refused(manager=maker({"book": number}))
    assert "two clean runs leave different worlds" in told
    assert "world[0] is gone" in told


def test_a_world_that_nobody_puts_back_proves_nothing():
    booked = {}

    def keep(action, data, context):
        booked[context.transaction_id, context.step_id] = data["what"]

    told = refused(world=lambda: list(booked.values()), manager=maker({"book": keep}))
    assert "pass reset=" in told


def test_a_reset_that_does_not_put_everything_back_is_found():
    booked, runs = {}, itertools.count()

    def keep(action, data, context):
        booked[context.idempotency_key] = data["what"]

    def undo(action, data, context):
        booked.pop(context.forward_key, None)

    def reset():
        booked.clear()
        if next(runs) > 3:
            booked["left"] = "over"

    make = maker({"book": keep, "cancel": undo})
    told = refused(world=lambda: booked, reset=reset, manager=make)
    assert "reset() does not put the world back: world['left']" in told


def test_a_manager_with_another_store_is_refused():
    told = refused(manager=lambda **given: maker()())
    assert "another store" in told


def test_what_makes_no_manager_is_refused():
    assert "it returned dict" in refused(manager=dict)


def test_an_asynchronous_manager_needs_a_coroutine():
    told = refused(lambda manager: None, manager=maker(kind=AsyncTransactionManager))
    assert "the saga must be an `async def`" in told


def test_no_fault_at_all_proves_nothing():
    assert "faults= is empty" in refused(faults=[])


def test_too_many_runs_are_refused_and_not_cut(monkeypatch):
    monkeypatch.setattr(check, "RUNS_MAX", 10)
    assert "more than 10 runs" in refused()


@pytest.mark.parametrize(
    "options,told",
    [
        ({"faults": ["fire"]}, "takes names of"),
        ({"crash": "hard"}, "crash= must be"),
        ({"store": "postgresql://here"}, "store= must be"),
        ({"storage": "memory:"}, "takes no storage="),
        ({"world": 7}, "world= must be"),
    ],
)
def test_an_option_that_cannot_be_is_refused(options, told):
    given = {"world": BOOKED, "manager": maker()} | options
    with pytest.raises(TypeError, match=told):
        assert_atomic(planned, **given)


def test_faults_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="names no fault of this transaction"):
        assert_atomic(planned, world=BOOKED, manager=maker(), only="s9.action#1:refused")


@pytest.mark.parametrize("what", ["saga", "manager", "recover"])
def test_what_another_process_could_not_import_is_refused(what):
    given: dict = {"saga": planned, "manager": book, "recover": book}
    given[what] = functools.partial(print)
    with pytest.raises(TypeError, match=f"{what}= must be a function of a module"):
        assert_atomic(
            given["saga"],
            world=BOOKED,
            manager=given["manager"],
            recover=given["recover"],
            crash="process",
        )


def test_a_store_of_ones_own_is_used():
    made = []

    def new():
        made.append(MemoryStore())
        return made[-1]

    report = assert_atomic(planned, world=BOOKED, manager=maker(), store=new, faults=["refused"])
    assert len(made) == report.runs > 4
    assert report.store == "new"


def test_only_the_functions_with_the_decorator_are_there_without_a_manager():
    told = refused(of_steps("book"), manager=None)
    assert "nothing is done by book" in told
