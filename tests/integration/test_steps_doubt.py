"""A program that is run again after it died in the middle of a step: nobody knows what that did."""
# mypy: disable-error-code="union-attr"

from typing import Any

import pytest

from aumai_transactions import Done, StepInDoubt, TransactionManager, step
from aumai_transactions.drivers.hooks import hooks_of

CALLED: list[Any] = []
UNDONE: list[Any] = []


class GaveUp(Exception):
    pass


class Died(BaseException):
    pass


def forget(n):
    UNDONE.append(n)


@pytest.fixture(autouse=True)
def journal(tmp_path):
    CALLED.clear()
    UNDONE.clear()
    return tmp_path / "trips.db"


@pytest.fixture
def resumed(make_sync, journal):
    """Run a program again in the transaction in which it died; return the block."""

    def run(name, program, *arguments):
        with make_sync(store=journal).resume(name) as tx:
            tx.value = program(*arguments)
        return tx

    return run


@step(idempotent=True, compensating_action=forget)
def safe(n: int) -> str:
    CALLED.append(n)
    if len(CALLED) == 1:
        raise Died
    return f"{n} at {len(CALLED)}"


@step(probe=lambda data: Done("probed"), compensating_action=forget)
def probed(n: int) -> str:
    CALLED.append(n)
    raise Died


@step(compensating_action=forget)
def doubtful(n: int) -> str:
    CALLED.append(n)
    if len(CALLED) == 1:
        raise Died
    return f"{n} at {len(CALLED)}"


@step(on_unknown="ask")
def asking(n: int) -> str:
    CALLED.append(n)
    raise Died


@pytest.fixture
def died_in(journal, in_thread):
    """Let a program die in the middle of a step, before its outcome is recorded."""

    def run(function, *arguments):
        names = []

        def story():
            manager = TransactionManager(store=journal)

            def on_event(event):
                if event.kind == "step_started":
                    # Why so: nothing of this manager is written any more from here on.
                    manager.close()

            manager._hooks = hooks_of(on_event, manager._awaited)
            block = manager.transaction(on_crash="wait", resume_within_seconds=600)
            block.__enter__()
            names.append(block.transaction_id)
            function(*arguments)

        with pytest.raises(Exception, match="closed"):
            in_thread(story).result()
        return names[0]

    return run


def test_an_idempotent_step_in_doubt_is_called_again_with_its_key(died_in, resumed):
    name = died_in(safe, 1)
    tx = resumed(name, safe, 1)
    assert tx.value == "1 at 2"
    assert (CALLED, UNDONE, len(tx.steps)) == ([1, 1], [], 1)


def test_a_step_in_doubt_that_can_be_asked_about_is_asked_about(died_in, resumed):
    name = died_in(probed, 1)
    tx = resumed(name, probed, 1)
    assert tx.value == "probed"
    assert (CALLED, len(tx.steps)) == ([1], 1)


def test_any_other_step_in_doubt_is_undone_and_then_done_anew(died_in, resumed):
    name = died_in(doubtful, 1)
    tx = resumed(name, doubtful, 1)
    assert tx.value == "1 at 2"
    assert (CALLED, UNDONE) == ([1, 1], [1])
    assert [one.state.value for one in tx.steps] == ["compensated", "succeeded"]


def test_one_that_a_person_must_be_asked_about_is_not_done_anew(died_in, make_sync, journal):
    name = died_in(asking, 1)
    manager = make_sync(store=journal)
    with pytest.raises(GaveUp), manager.resume(name):  # noqa: PT012
        with pytest.raises(StepInDoubt) as caught:
            asking(1)
        assert not caught.value.undone
        raise GaveUp
    assert CALLED == [1]
