"""Calls that take too long, with threads: given up, left behind, and heard of later."""
# mypy: disable-error-code="union-attr, var-annotated"

import asyncio
import contextvars
import signal as signals
import sys
import threading

import pytest

from aumai_transactions import (
    NotDone,
    RetryPolicy,
    StepRejected,
    TransactionManager,
    Unknown,
)

SOON = 0.01
LATER = 600.0


@pytest.fixture
def trip(place, clock, signal):
    """A manager whose `act` waits for `go` and then does what `end` says."""
    made = Trip(place, clock, signal)
    yield made
    made.go.set()
    made.manager.close()


class Trip:
    def __init__(self, place, clock, signal):
        self.calls = []
        self.undone_with = []
        self.go, self.entered, self.heard = signal(), signal(), signal()
        self.end = lambda: {"id": 7}
        self.clock = clock
        self.manager = TransactionManager(store=place, clock=clock, on_event=self.on_event)

    def on_event(self, event):
        if event.kind == "call_returned_late":
            self.heard.set()

    def act(self, action, data):
        self.calls.append("act")
        self.entered.set()
        self.go.wait()
        return self.end()

    def undo(self, action, data, context):
        self.calls.append("undo")
        self.undone_with.append((context.in_doubt, context.output))

    def begun(self, handler=None, **options):
        options.setdefault("timeout_seconds", SOON)
        self.manager.action("act", compensating_action="undo", **options)(handler or self.act)
        self.manager.action("undo")(self.undo)
        tx = self.manager.begin()
        self.manager.add_step(tx, "agent", "act", {})
        return tx

    def kinds(self, tx):
        return [event.kind for event in self.manager.get_events(tx)]


# ------------------------------------------------------------------------------ an action


def test_a_call_that_answers_in_time_is_as_if_it_had_no_timeout(trip):
    trip.go.set()
    result = trip.manager.commit(trip.begun(timeout_seconds=LATER))
    assert (result.state.value, result.outputs) == ("committed", {"s1": {"id": 7}})


def test_an_undo_waits_for_a_call_that_was_left_behind_and_gets_its_output(trip):
    tx = trip.begun()
    result = trip.manager.commit(tx)
    assert (result.state.value, result.waiting.reason) == ("compensating", "left_behind")
    assert (result.waiting.until - tx.created_at).total_seconds() == pytest.approx(60, abs=1)
    assert "no answer within 0.01 s" in result.error
    assert trip.manager.recover() == []
    trip.go.set()
    trip.heard.wait()
    result = trip.manager.wait(tx)
    assert (result.state.value, result.reason, result.clean) == ("rolled_back", "in_doubt", True)
    assert trip.undone_with == [(False, {"id": 7})]
    assert result.completed_steps == result.compensated_steps == ["s1"]


def test_a_late_refusal_before_the_undo_leaves_nothing_to_undo(trip):
    def refuse():
        raise StepRejected("full")

    trip.end = refuse
    tx = trip.begun()
    trip.manager.commit(tx)
    trip.go.set()
    trip.heard.wait()
    result = trip.manager.wait(tx)
    assert (result.state.value, result.clean, trip.calls) == ("rolled_back", True, ["act"])


def test_an_undo_gives_the_waiting_up_and_says_that_the_call_may_still_act(trip):
    tx = trip.begun(abandon_after_seconds=5)
    result = trip.manager.commit(tx)
    assert result.state.value == "rolled_back"
    assert [(item.step_id, item.reason) for item in result.outstanding] == [("s1", "may_still_act")]
    assert trip.undone_with == [(True, None)]
    assert not result.clean


def test_a_success_after_the_final_entry_goes_on_the_operators_list_and_undoes_nothing(trip):
    tx = trip.begun(abandon_after_seconds=5)
    trip.manager.commit(tx)
    trip.go.set()
    trip.heard.wait()
    result = trip.manager.get_result(tx)
    assert (result.state.value, trip.calls) == ("rolled_back", ["act", "undo"])
    assert [item.reason for item in result.outstanding] == ["acted_late"]
    assert trip.kinds(tx)[-1] == "call_returned_late"
    assert trip.manager.verify(tx).is_intact


def test_a_refusal_after_the_final_entry_takes_it_off_the_operators_list(trip):
    def refuse():
        raise StepRejected("full")

    trip.end = refuse
    tx = trip.begun(abandon_after_seconds=5)
    trip.manager.commit(tx)
    trip.go.set()
    trip.heard.wait()
    result = trip.manager.get_result(tx)
    assert (result.outstanding, result.clean) == ([], True)


def test_a_success_while_the_undo_runs_goes_on_the_operators_list(trip):
    def undo(action, data):
        trip.calls.append("undo")
        trip.go.set()
        trip.heard.wait()

    tx = trip.begun(abandon_after_seconds=5)
    trip.manager.action("undo")(undo)
    result = trip.manager.commit(tx)
    assert [item.reason for item in result.outstanding] == ["acted_late"]
    assert trip.calls == ["act", "undo"]


def test_an_idempotent_call_is_made_again_with_the_same_key(trip):
    keys = []

    def act(action, data, context):
        keys.append((context.idempotency_key, context.attempt))
        if context.attempt == 1:
            trip.go.wait()
        return context.attempt

    result = trip.manager.commit(trip.begun(act, idempotent=True, timeout_seconds=0.05))
    assert (result.state.value, result.outputs) == ("committed", {"s1": 2})
    assert [attempt for _key, attempt in keys] == [1, 2]
    assert len({key for key, _attempt in keys}) == 1
    trip.go.set()
    trip.heard.wait()
    # The same key was answered already: the late answer is no news.
    result = trip.manager.get_result(result.transaction_id)
    assert (result.outputs, result.outstanding) == ({"s1": 2}, [])


def test_a_timeout_of_the_step_beats_the_one_of_its_action(trip):
    trip.manager.action("act", timeout_seconds=LATER)(trip.act)
    tx = trip.manager.begin()
    trip.manager.add_step(tx, "agent", "act", {}, timeout_seconds=SOON)
    assert "no answer within 0.01 s" in trip.manager.commit(tx).error


def test_the_thread_of_a_timed_call_sees_the_context_of_its_caller(trip):
    variable = contextvars.ContextVar("variable", default="unseen")

    def act(action, data):
        return {"seen": variable.get(), "thread": threading.current_thread().daemon}

    variable.set("seen")
    result = trip.manager.commit(trip.begun(act, timeout_seconds=LATER))
    assert result.outputs == {"s1": {"seen": "seen", "thread": True}}


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_ends_the_program_in_a_timed_handler_rolls_back_and_is_raised(trip, error):
    def act(action, data):
        raise error("told")

    tx = trip.begun(act, timeout_seconds=LATER)
    with pytest.raises(error, match="told"):
        trip.manager.commit(tx)
    assert trip.manager.get_result(tx).reason == "cancelled"
    assert trip.undone_with == [(True, None)]


def test_where_no_thread_can_be_started_nothing_is_called_and_nothing_is_in_doubt(
    trip, monkeypatch
):
    start = threading.Thread.start

    def refuse(thread):
        if thread.name == "aumai-timed-handler":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    result = trip.manager.commit(trip.begun())
    assert (result.state.value, result.clean, trip.calls) == ("rolled_back", True, [])
    assert result.error == "RuntimeError: can't start new thread"


def test_a_rollback_inside_a_timed_handler_is_refused(trip):
    def act(action, data):
        with pytest.raises(Exception, match="from a handler"):
            trip.manager.rollback(tx)

    tx = trip.begun(act, timeout_seconds=LATER)
    assert trip.manager.commit(tx).state.value == "committed"


# ------------------------------------------------------------ undo, probe and verification


def test_an_undo_that_takes_too_long_is_outstanding_and_its_late_end_is_told(trip):
    @trip.manager.action("slow", timeout_seconds=SOON)
    def slow(action, data):
        trip.go.wait()

    def fail(action, data):
        raise ValueError("no")

    trip.manager.action("act")(lambda action, data: None)
    trip.manager.action("fail")(fail)
    tx = trip.manager.begin()
    trip.manager.add_step(tx, "agent", "act", {}, "slow")
    trip.manager.add_step(tx, "agent", "fail", {})
    result = trip.manager.commit(tx)
    assert [(item.step_id, item.reason) for item in result.outstanding] == [("s1", "failed")]
    assert "no answer within" in result.outstanding[0].error
    trip.go.set()
    trip.heard.wait()
    result = trip.manager.get_result(tx)
    assert "returned later, and succeeded" in result.outstanding[0].error
    assert result.state.value == "rolled_back"


def test_a_probe_that_takes_too_long_is_asked_again_as_if_it_did_not_know(trip, signal):
    asked = []
    release = signal()

    def probe(data):
        asked.append(data)
        if len(asked) == 1:
            release.wait()
            return Unknown()
        return NotDone()

    tx = trip.begun(probe=probe, probe_retry=RetryPolicy(jitter=0), timeout_seconds=SOON)
    trip.manager.commit(tx)
    result = trip.manager.wait(tx)
    release.set()
    trip.go.set()
    assert len(asked) == 2
    assert result.state.value == "rolled_back"
    assert trip.undone_with == []


def test_a_verification_that_takes_too_long_leaves_the_step_unverified(trip, signal):
    release = signal()

    def verify(data):
        release.wait()

    def fail(action, data):
        raise ValueError("no")

    once = RetryPolicy(attempts_max=1)
    trip.manager.action(
        "act", compensating_action="undo", verify=verify, verify_retry=once, timeout_seconds=0.5
    )(lambda action, data: None)
    trip.manager.action("undo", timeout_seconds=SOON)(trip.undo)
    trip.manager.action("fail")(fail)
    tx = trip.manager.begin()
    for action in ("act", "fail"):
        trip.manager.add_step(tx, "agent", action, {})
    result = trip.manager.commit(tx)
    release.set()
    assert (result.unverified, result.clean) == (["s1"], False)
    assert result.compensated_steps == ["s1"]


# ------------------------------------------------------------------------------ async handlers


def test_an_async_handler_that_takes_too_long_is_cancelled_and_not_left_behind(trip):
    ends = []

    async def act(action, data):
        try:
            await asyncio.Event().wait()
        finally:
            ends.append("cancelled")

    result = trip.manager.commit(trip.begun(act))
    assert (result.state.value, result.reason, result.clean) == ("rolled_back", "in_doubt", True)
    assert (ends, trip.undone_with) == (["cancelled"], [(True, None)])


def test_an_async_handler_that_takes_too_long_is_cancelled_inside_of_a_running_loop_too(trip):
    async def act(action, data):
        await asyncio.Event().wait()

    async def notebook():
        return trip.manager.commit(trip.begun(act))

    assert asyncio.run(notebook()).reason == "in_doubt"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_timed_handler_answers_inside_of_a_running_loop(trip, kind):
    async def act(action, data):
        await asyncio.sleep(0)
        return kind

    handler = act if kind == "async" else lambda action, data: kind

    async def notebook():
        return trip.manager.commit(trip.begun(handler, timeout_seconds=LATER))

    assert asyncio.run(notebook()).outputs == {"s1": kind}


def test_an_async_handler_that_swallows_its_cancellation_answers_late(trip):
    async def act(action, data):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return {"id": 8}

    tx = trip.begun(act)
    trip.manager.commit(tx)
    trip.heard.wait()
    result = trip.manager.wait(tx)
    assert trip.undone_with == [(False, {"id": 8})]
    assert (result.state.value, result.clean) == ("rolled_back", True)


def test_an_async_handler_that_raises_when_it_is_cancelled_is_in_doubt_still(trip):
    async def act(action, data):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise StepRejected("cleaned up") from None

    assert trip.manager.commit(trip.begun(act)).reason == "in_doubt"
    assert trip.undone_with == [(True, None)]


# ----------------------------------------------------------------------------------- interrupts


@pytest.fixture
def interrupt():
    """Send a real SIGINT to the main thread while it waits, and wait until it was heard there."""
    assert threading.current_thread() is threading.main_thread()
    here = threading.get_ident()
    heard = threading.Event()

    def on_interrupt(number, frame):
        heard.set()
        raise KeyboardInterrupt

    def is_waiting():
        frame = sys._current_frames()[here]
        return frame.f_code.co_name == "wait" and frame.f_back.f_code.co_name == "result"

    def send():
        while not is_waiting():
            pass
        heard.clear()
        signals.pthread_kill(here, signals.SIGINT)
        # Why another signal: one that comes right before a thread blocks is not seen by Python
        # until something wakes the thread.
        while not heard.wait(0.1):
            signals.pthread_kill(here, signals.SIGUSR1)

    before = {
        signals.SIGINT: signals.signal(signals.SIGINT, on_interrupt),
        signals.SIGUSR1: signals.signal(signals.SIGUSR1, lambda number, frame: None),
    }
    yield send
    for number, handler in before.items():
        signals.signal(number, handler)


def test_an_interrupt_waits_for_the_timed_call_and_then_goes_back(trip, interrupt):
    def act(action, data):
        interrupt()
        trip.calls.append("act has ended")
        return {"id": 7}

    tx = trip.begun(act, timeout_seconds=LATER)
    with pytest.raises(KeyboardInterrupt):
        trip.manager.commit(tx)
    assert trip.calls == ["act has ended", "undo"]
    assert trip.undone_with == [(False, {"id": 7})]
    assert trip.manager.get_result(tx).reason == "cancelled"


def test_a_second_interrupt_leaves_the_timed_call_behind(trip, interrupt):
    def act(action, data):
        interrupt()
        interrupt()
        return trip.act(action, data)

    tx = trip.begun(act, timeout_seconds=LATER)
    with pytest.raises(KeyboardInterrupt):
        trip.manager.commit(tx)
    result = trip.manager.get_result(tx)
    assert (result.state.value, result.reason) == ("compensating", "cancelled")
    assert result.waiting.reason == "left_behind"
    trip.go.set()
    trip.heard.wait()
    assert trip.manager.wait(tx).clean
    assert trip.undone_with == [(False, {"id": 7})]


def test_an_interrupted_call_can_still_take_too_long(trip, interrupt):
    def act(action, data):
        interrupt()
        return trip.act(action, data)

    tx = trip.begun(act, timeout_seconds=0.2, abandon_after_seconds=1)
    with pytest.raises(KeyboardInterrupt):
        trip.manager.commit(tx)
    result = trip.manager.wait(tx)
    assert (result.reason, trip.undone_with) == ("cancelled", [(True, None)])
    assert [item.reason for item in result.outstanding] == ["may_still_act"]
