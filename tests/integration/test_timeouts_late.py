"""When a late answer arrives: before or after everything else that is written meanwhile."""
# mypy: disable-error-code="union-attr, var-annotated"

import asyncio
import contextlib
import threading

import pytest

from aumai_transactions import (
    AsyncTransactionManager,
    OutcomeUnknown,
    StepRejected,
    StoreUnavailable,
    TransactionManager,
)
from aumai_transactions.drivers.pauses import HOLD_SECONDS_MAX

SOON = 0.01


@pytest.fixture
def scene(gated, clock, signal):
    """Managers of one gated store; the first of them leaves a call behind."""
    made = Scene(gated, clock, signal)
    yield made
    made.go.set()
    for manager in made.managers:
        manager.close()


class Scene:
    def __init__(self, store, clock, signal):
        self.store, self.clock = store, clock
        self.calls = []
        self.undone_with = []
        self.go, self.heard = signal(), signal()
        self.end = lambda: {"id": 7}
        self.managers = []

    def on_event(self, event):
        if event.kind == "call_returned_late":
            self.heard.set()

    def act(self, action, data):
        self.calls.append("act")
        self.go.wait()
        return self.end()

    def undo(self, action, data, context):
        self.calls.append("undo")
        self.undone_with.append((context.in_doubt, context.output))

    def join(self, **options):
        manager = TransactionManager(store=self.store, clock=self.clock, on_event=self.on_event)
        options.setdefault("abandon_after_seconds", 5)
        manager.action("act", compensating_action="undo", timeout_seconds=SOON, **options)(self.act)
        manager.action("undo")(self.undo)
        self.managers.append(manager)
        return manager

    def begun(self, manager):
        tx = manager.begin()
        manager.add_step(tx, "agent", "act", {})
        return tx

    def answer(self):
        """Let the call that was left behind answer, and wait until that is journaled."""
        self.go.set()
        self.heard.wait()


def kinds(manager, tx):
    return [event.kind for event in manager.get_events(tx)]


def order(manager, tx, *wanted):
    return [kind for kind in kinds(manager, tx) if kind in wanted]


# -------------------------------------------------------------------------------------- the order


def test_an_answer_before_the_doubt_is_journaled_becomes_what_the_undo_gets(scene):
    manager = scene.join()
    scene.store.before["StepInDoubt"] = scene.answer
    tx = scene.begun(manager)
    result = manager.commit(tx)
    assert order(manager, tx, "call_returned_late", "step_in_doubt") == [
        "call_returned_late",
        "step_in_doubt",
    ]
    assert (result.state.value, result.clean) == ("rolled_back", True)
    assert scene.undone_with == [(False, {"id": 7})]
    # Nothing had to be waited for.
    assert scene.clock.sleeps == []


def test_a_refusal_before_the_doubt_is_journaled_is_at_most_undone_as_in_doubt(scene):
    def refuse():
        raise StepRejected("full")

    scene.end = refuse
    manager = scene.join()
    scene.store.before["StepInDoubt"] = scene.answer
    assert manager.commit(scene.begun(manager)).clean
    assert scene.undone_with in ([], [(True, None)])


def test_an_answer_after_the_doubt_is_journaled_becomes_what_the_undo_gets(
    scene, in_thread, signal
):
    manager = scene.join()
    parked, go_on = signal(), signal()

    def hold():
        parked.set()
        go_on.wait()

    scene.clock.at[1] = hold
    tx = scene.begun(manager)
    committing = in_thread(manager.commit, tx)
    parked.wait()
    scene.answer()
    go_on.set()
    assert committing.result().clean
    assert scene.undone_with == [(False, {"id": 7})]


def test_while_an_undo_waits_for_an_answer_nobody_holds_the_transaction(scene):
    manager = scene.join(abandon_after_seconds=HOLD_SECONDS_MAX / 2)
    held = []
    scene.clock.at[1] = lambda: held.append(manager.find()[0].driver_id)
    tx = scene.begun(manager)
    assert manager.commit(tx).state.value == "rolled_back"
    assert held == [None]


def test_an_answer_just_before_the_undo_is_journaled_becomes_what_it_gets(scene):
    manager = scene.join()
    scene.store.before["CompensationStarted"] = scene.answer
    tx = scene.begun(manager)
    assert manager.commit(tx).clean
    assert scene.undone_with == [(False, {"id": 7})]


def test_an_answer_just_after_the_undo_is_journaled_goes_on_the_operators_list(scene):
    manager = scene.join()
    scene.store.before["CompensationSucceeded"] = scene.answer
    tx = scene.begun(manager)
    result = manager.commit(tx)
    assert [item.reason for item in result.outstanding] == ["acted_late"]
    assert scene.undone_with == [(True, None)]


def test_a_refusal_just_before_the_undo_leaves_nothing_to_undo(scene):
    def refuse():
        raise StepRejected("full")

    scene.end = refuse
    manager = scene.join()
    scene.store.before["CompensationStarted"] = scene.answer
    result = manager.commit(scene.begun(manager))
    assert (result.clean, scene.calls) == (True, ["act"])


def test_an_answer_before_the_final_entry_is_in_the_result(scene):
    manager = scene.join()
    scene.store.before["TransactionRolledBack"] = scene.answer
    result = manager.commit(scene.begun(manager))
    assert [item.reason for item in result.outstanding] == ["acted_late"]


def test_a_late_answer_that_does_not_know_either_changes_nothing_but_is_told(scene):
    def unknown():
        raise OutcomeUnknown("lost")

    scene.end = unknown
    manager = scene.join()
    tx = scene.begun(manager)
    before = manager.commit(tx)
    scene.answer()
    after = manager.get_result(tx)
    assert after.outstanding == before.outstanding
    assert any("returned later" in warning for warning in after.warnings)


def test_the_callers_object_shows_what_a_late_answer_changed(scene):
    def refuse():
        raise StepRejected("full")

    scene.end = refuse
    manager = scene.join()
    tx = scene.begun(manager)
    manager.commit(tx)
    assert tx.steps[0].state.value == "outstanding"
    scene.answer()
    assert manager.get_transaction(tx.transaction_id) is tx
    assert tx.steps[0].state.value == "compensated"


# --------------------------------------------------------------------------- whoever has it by then


def test_an_answer_is_journaled_whoever_has_taken_the_transaction_over(scene):
    first, second = scene.join(abandon_after_seconds=100), scene.join()
    tx = scene.begun(first)
    assert first.commit(tx).waiting.reason == "left_behind"
    scene.clock.advance(100)
    (report,) = second.recover()
    assert [item.reason for item in report.result.outstanding] == ["may_still_act"]
    scene.answer()
    assert [item.reason for item in second.get_result(tx).outstanding] == ["acted_late"]
    assert second.verify(tx).is_intact


def test_an_answer_comes_into_the_journal_also_when_its_manager_has_been_closed(scene):
    first, second = scene.join(abandon_after_seconds=100), scene.join()
    tx = scene.begun(first)
    first.commit(tx)
    first.close()
    scene.answer()
    assert second.wait(tx.transaction_id).clean
    assert scene.undone_with == [(False, {"id": 7})]


def test_an_answer_that_finds_its_store_closed_is_told_to_the_log(
    tmp_path, clock, signal, caplog, monkeypatch
):
    go, told = signal(), signal()
    manager = TransactionManager(store=tmp_path / "own.db", clock=clock)
    manager.action("undo")(lambda action, data: None)

    @manager.action("act", compensating_action="undo", timeout_seconds=SOON)
    def act(action, data):
        go.wait()

    tx = manager.begin()
    manager.add_step(tx, "agent", "act", {})
    manager.commit(tx)
    emit = caplog.handler.emit

    def noted(record):
        emit(record)
        told.set()

    monkeypatch.setattr(caplog.handler, "emit", noted)
    manager.close()
    go.set()
    told.wait()
    assert "could not be journaled" in caplog.text
    assert tx.transaction_id in caplog.text


def test_an_answer_is_written_again_while_the_store_cannot_be_written(scene):
    failures = ["disk full", "disk full"]

    def fail():
        if failures:
            scene.store.before["CallReturnedLate"] = fail
            raise StoreUnavailable(failures.pop(), outcome_unknown=bool(failures))

    manager = scene.join()
    tx = scene.begun(manager)
    manager.commit(tx)
    scene.store.before["CallReturnedLate"] = fail
    scene.answer()
    assert failures == []
    assert kinds(manager, tx).count("call_returned_late") == 1


# -------------------------------------------------------------------------------- the same instant

ROUNDS = 100
TIMEOUT = 0.0012


def about_the_timeout(number):
    """Seconds that end a little before, with, or a little after the timeout."""
    return TIMEOUT + 0.00002 * (number % 20 - 10)


class Answers(dict):
    """A signal for each transaction, given once the answer of its only call is journaled."""

    def __init__(self, signal):
        super().__init__()
        self.signal = signal

    def __missing__(self, name):
        return self.setdefault(name, self.signal())

    def on_event(self, event):
        if event.kind in ("step_succeeded", "call_returned_late"):
            self[event.transaction_id].set()


def assert_one_answer(kinds_of):
    assert sum(kinds_of.count(kind) for kind in ("step_succeeded", "call_returned_late")) == 1
    assert kinds_of.count("step_in_doubt") == kinds_of.count("call_returned_late")


def test_an_answer_in_the_instant_of_the_timeout_is_neither_lost_nor_doubled(
    place, clock, signal, make_sync
):
    answers = Answers(signal)
    manager = make_sync(store=place, clock=clock, on_event=answers.on_event)

    @manager.action("act", compensating_action="undo", timeout_seconds=TIMEOUT)
    def act(action, data):
        threading.Event().wait(data["seconds"])

    manager.action("undo")(lambda action, data: None)
    for number in range(ROUNDS):
        tx = manager.begin()
        manager.add_step(tx, "agent", "act", {"seconds": about_the_timeout(number)})
        if not manager.commit(tx).is_final:
            manager.wait(tx)
        answers[tx.transaction_id].wait()
        assert_one_answer(kinds(manager, tx))


def test_in_tasks_an_answer_in_the_instant_of_the_timeout_is_neither_lost_nor_doubled(
    place, clock, signal
):
    async def story():
        answers = Answers(signal)
        async with AsyncTransactionManager(
            store=place, clock=clock, on_event=answers.on_event
        ) as manager:

            @manager.action("thread", compensating_action="undo", timeout_seconds=TIMEOUT)
            def thread(action, data):
                threading.Event().wait(data["seconds"])

            @manager.action("task", compensating_action="undo", timeout_seconds=TIMEOUT)
            async def task(action, data):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(data["seconds"])

            manager.action("undo")(lambda action, data: None)

            async def one(number):
                tx = await manager.begin()
                data = {"seconds": about_the_timeout(number // 2)}
                manager.add_step(tx, "agent", ("thread", "task")[number % 2], data)
                if not (await manager.commit(tx)).is_final:
                    await manager.wait(tx)
                await asyncio.to_thread(answers[tx.transaction_id].wait)
                assert_one_answer([event.kind for event in await manager.get_events(tx)])

            for first in range(0, ROUNDS, 10):
                await asyncio.gather(*(one(number) for number in range(first, first + 10)))

    asyncio.run(story())
