"""Calls that may take only so long: what is given up, and that no answer is lost or doubled."""
# mypy: disable-error-code="arg-type, attr-defined, comparison-overlap, return-value, var-annotated"

import asyncio
import contextvars
import threading
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from aumai_transactions import TransactionManager
from aumai_transactions.drivers import timed
from aumai_transactions.drivers.timed import GivenUp, LeavableCall, limited

ROUNDS = 2_000
LATER = 600.0


class Hand:
    """Takes what was handed on late."""

    def __init__(self):
        self.given = []
        self.there = threading.Event()

    def __call__(self, outcome):
        self.given.append(outcome)
        self.there.set()

    def hand_on_result(self, task):
        self(task.result())


def limit(seconds, hand=None):
    return SimpleNamespace(
        seconds=seconds, hand_on_result=(hand or Hand()).hand_on_result, operation=None
    )


# ------------------------------------------------------------------------------------- threads


def test_an_answer_belongs_either_to_who_waits_or_to_whoever_takes_late_ones():
    together = threading.Barrier(2)
    late = 0
    for number in range(ROUNDS):
        hand = Hand()

        def work():
            together.wait()
            return number  # noqa: B023 (it ends within this round)

        called = LeavableCall(work, hand)
        called.start()
        together.wait()
        if called.leave():
            assert hand.there.wait(30)
            assert hand.given == [number]
            assert not called.ended.done()
            late += 1
        else:
            assert called.ended.result() == number
            assert hand.given == []
    assert 0 <= late <= ROUNDS


def test_what_has_ended_cannot_be_left(signal):
    hand = Hand()
    called = LeavableCall(lambda: "answer", hand)
    called.start()
    assert called.ended.result(30) == "answer"
    assert not called.leave()
    assert hand.given == []


def test_what_was_left_hands_its_answer_on_once(signal):
    hand, go = Hand(), signal()
    called = LeavableCall(go.wait, hand)
    called.start()
    assert called.leave()
    assert called.leave()
    go.set()
    assert hand.there.wait(30)
    called._thread.join(30)
    assert hand.given == [True]


def test_a_call_starts_once_however_often_it_is_started():
    calls = []
    called = LeavableCall(lambda: calls.append(1), Hand())
    for _ in range(3):
        called.start()
    called.ended.result(30)
    called._thread.join(30)
    assert calls == [1]


def test_the_thread_is_a_daemon_with_the_context_of_whoever_made_the_call():
    variable = contextvars.ContextVar("variable", default="unseen")
    variable.set("seen")
    called = LeavableCall(lambda: (variable.get(), threading.current_thread().daemon), Hand())
    variable.set("changed since")
    called.start()
    assert called.ended.result(30) == ("seen", True)


@pytest.mark.parametrize("has_ended", [True, False])
def test_a_second_interrupt_leaves_the_call_unless_it_has_ended(signal, has_ended):
    class Interrupted(Future):
        """A future whose first two waits are interrupted; by then it has ended, or not."""

        waits = 0

        def result(self, timeout=None):
            self.waits += 1
            if self.waits > 2:
                return super().result(timeout)
            if self.waits == 2 and has_ended:
                go.set()
                called._thread.join(30)
            raise KeyboardInterrupt

    go, hand = signal(), Hand()
    answer = ("the answer", None)

    def work():
        go.wait()
        return answer

    called = LeavableCall(work, hand)
    called.ended = Interrupted()
    run = SimpleNamespace(interrupt=None)
    given_up = SimpleNamespace(
        seconds=LATER,
        operation=SimpleNamespace(step=None, operation="action", run=run),
        given_up=lambda error: error,
    )
    outcome = called.outcome(given_up)
    go.set()
    assert isinstance(run.interrupt, KeyboardInterrupt)
    if has_ended:
        assert outcome == answer
        assert hand.given == []
    else:
        assert isinstance(outcome, GivenUp)
        assert outcome.left_behind
        assert hand.there.wait(30)
        assert hand.given == [answer]


def test_an_interrupt_between_two_waits_leaves_the_call_so_that_its_answer_is_heard(signal):
    class Interrupted:
        """A run in which the note of an interrupt is interrupted itself."""

        @property
        def interrupt(self):
            raise KeyboardInterrupt

    class Waited(Future):
        def result(self, timeout=None):
            raise KeyboardInterrupt

    go, hand = signal(), Hand()
    called = LeavableCall(go.wait, hand)
    called.ended = Waited()
    operation = SimpleNamespace(step=None, operation="action", run=Interrupted())
    with pytest.raises(KeyboardInterrupt):
        called.outcome(SimpleNamespace(seconds=LATER, operation=operation))
    go.set()
    assert hand.there.wait(30)
    assert hand.given == [True]


# ---------------------------------------------------------------------------------- coroutines


def test_a_coroutine_that_ends_in_time_returns_or_raises_what_it_does():
    async def good():
        await asyncio.sleep(0)
        return 5

    async def bad():
        raise LookupError("no")

    async def story():
        assert await limited(good(), limit(LATER)) == 5
        with pytest.raises(LookupError):
            await limited(bad(), limit(LATER))

    asyncio.run(story())


def test_a_coroutine_that_takes_too_long_is_cancelled_and_not_left_behind():
    async def story():
        with pytest.raises(GivenUp) as caught:
            await limited(asyncio.Event().wait(), limit(0.01))
        assert not caught.value.left_behind
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(story())


def test_a_coroutine_that_ends_with_its_cancellation_hands_its_answer_on_late():
    async def stubborn():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "late"

    async def story():
        hand = Hand()
        with pytest.raises(GivenUp) as caught:
            await limited(stubborn(), limit(0.01, hand))
        assert caught.value.left_behind
        await asyncio.sleep(0)
        assert hand.given == ["late"]

    asyncio.run(story())


def test_a_coroutine_that_goes_on_after_its_cancellation_hands_its_answer_on_late(monkeypatch):
    monkeypatch.setattr(timed, "CANCEL_SECONDS_MAX", 0.01)

    async def story():
        go, hand = asyncio.Event(), Hand()

        async def stubborn():
            while not go.is_set():
                try:
                    await go.wait()
                except asyncio.CancelledError:
                    continue
            return "late"

        with pytest.raises(GivenUp) as caught:
            await limited(stubborn(), limit(0.01, hand))
        assert caught.value.left_behind
        assert hand.given == []
        go.set()
        (left,) = asyncio.all_tasks() - {asyncio.current_task()}
        await left
        await asyncio.sleep(0)
        assert hand.given == ["late"]

    asyncio.run(story())


@pytest.mark.parametrize("times", [1, 2, 4])
def test_a_cancellation_reaches_the_coroutine_and_is_raised_when_it_has_ended(times):
    async def story():
        entered, go = asyncio.Event(), asyncio.Event()
        told = []

        async def careful():
            entered.set()
            while not go.is_set():
                try:
                    await go.wait()
                except asyncio.CancelledError:
                    told.append("cancelled")
            raise asyncio.CancelledError

        waiting = asyncio.create_task(limited(careful(), limit(LATER)))
        await entered.wait()
        for _ in range(times):
            waiting.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
        is_done = waiting.done()
        go.set()
        assert not is_done
        assert told == ["cancelled"] * times
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(story())


def test_a_cancelled_coroutine_that_never_ends_is_left_when_its_time_is_over(monkeypatch):
    monkeypatch.setattr(timed, "CANCEL_SECONDS_MAX", 0.01)

    async def story():
        entered, go = asyncio.Event(), asyncio.Event()

        async def stubborn():
            entered.set()
            while not go.is_set():
                try:
                    await go.wait()
                except asyncio.CancelledError:
                    continue

        hand = Hand()
        waiting = asyncio.create_task(limited(stubborn(), limit(0.1, hand)))
        await entered.wait()
        waiting.cancel()
        with pytest.raises(GivenUp) as caught:
            await waiting
        assert caught.value.left_behind
        go.set()
        for _ in range(5):
            await asyncio.sleep(0)
        assert hand.given == [None]

    asyncio.run(story())


def test_the_answer_of_a_probe_that_comes_late_is_of_no_use_and_not_handed_on(signal):
    # A probe says nothing about an effect of its own.
    heard = []
    manager = TransactionManager(on_event=lambda event: heard.append(event.kind))
    go, ended = signal(), signal()

    def probe(data):
        go.wait()
        ended.set()

    from aumai_transactions import OutcomeUnknown, RetryPolicy

    @manager.action(
        "act",
        compensating_action="undo",
        probe=probe,
        probe_retry=RetryPolicy(attempts_max=1),
        timeout_seconds=0.01,
    )
    def act(action, data):
        raise OutcomeUnknown("lost")

    manager.action("undo")(lambda action, data: None)
    tx = manager.begin()
    manager.add_step(tx, "agent", "act", {})
    assert manager.commit(tx).state.value == "rolled_back"
    go.set()
    ended.wait()
    assert "call_returned_late" not in heard
    manager.close()
