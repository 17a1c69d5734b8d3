"""Calls that take too long, with asyncio: given up, cancelled or left behind, heard of later."""
# mypy: disable-error-code="union-attr, var-annotated"

import asyncio
import contextvars
import threading

import pytest

from aumai_transactions import AsyncTransactionManager, NotDone, RetryPolicy, StepRejected, Unknown
from aumai_transactions.drivers import timed

SOON = 0.01
LATER = 600.0


class Trip:
    """A manager whose sync `act` waits for `go`; what undoes it notes what it was given."""

    def __init__(self, place, clock, signal):
        self.calls = []
        self.undone_with = []
        self.go, self.entered, self.heard = signal(), signal(), signal()
        self.manager = AsyncTransactionManager(store=place, clock=clock, on_event=self.on_event)

    def on_event(self, event):
        if event.kind == "call_returned_late":
            self.heard.set()

    def act(self, action, data):
        self.calls.append("act")
        self.entered.set()
        self.go.wait()
        return {"id": 7}

    def undo(self, action, data, context):
        self.calls.append("undo")
        self.undone_with.append((context.in_doubt, context.output))

    async def begun(self, handler=None, **options):
        options.setdefault("timeout_seconds", SOON)
        self.manager.action("act", compensating_action="undo", **options)(handler or self.act)
        self.manager.action("undo")(self.undo)
        tx = await self.manager.begin()
        self.manager.add_step(tx, "agent", "act", {})
        return tx


@pytest.fixture
def run(place, clock, signal):
    """Run a story with a trip of its own."""

    def run(story):
        async def told():
            trip = Trip(place, clock, signal)
            try:
                await story(trip)
            finally:
                trip.go.set()
                await trip.manager.close()

        asyncio.run(told())

    return run


async def kinds(trip, tx):
    return [event.kind for event in await trip.manager.get_events(tx)]


# ---------------------------------------------------------------------------------- sync handlers


def test_an_undo_waits_for_a_thread_that_was_left_behind_and_gets_its_output(run):
    async def story(trip):
        tx = await trip.begun()
        result = await trip.manager.commit(tx)
        assert (result.state.value, result.waiting.reason) == ("compensating", "left_behind")
        trip.go.set()
        await asyncio.to_thread(trip.heard.wait)
        assert (await trip.manager.wait(tx)).clean
        assert trip.undone_with == [(False, {"id": 7})]

    run(story)


def test_an_undo_gives_the_waiting_up_and_hears_of_a_success_afterwards(run):
    async def story(trip):
        tx = await trip.begun(abandon_after_seconds=5)
        result = await trip.manager.commit(tx)
        assert [item.reason for item in result.outstanding] == ["may_still_act"]
        trip.go.set()
        await asyncio.to_thread(trip.heard.wait)
        result = await trip.manager.get_result(tx)
        assert [item.reason for item in result.outstanding] == ["acted_late"]
        assert trip.calls == ["act", "undo"]

    run(story)


def test_the_loop_lives_while_a_timed_sync_handler_runs(run):
    async def story(trip):
        tx = await trip.begun(timeout_seconds=LATER)
        committing = asyncio.create_task(trip.manager.commit(tx))
        await asyncio.to_thread(trip.entered.wait)
        trip.go.set()
        assert (await committing).outputs == {"s1": {"id": 7}}

    run(story)


def test_a_cancellation_waits_for_the_timed_thread_and_goes_back(run):
    async def story(trip):
        tx = await trip.begun(timeout_seconds=LATER)
        committing = asyncio.create_task(trip.manager.commit(tx))
        await asyncio.to_thread(trip.entered.wait)
        for _ in range(3):
            committing.cancel()
            await asyncio.sleep(0)
        assert not committing.done()
        trip.go.set()
        with pytest.raises(asyncio.CancelledError):
            await committing
        assert trip.undone_with == [(False, {"id": 7})]

    run(story)


def test_a_cancelled_timed_thread_can_still_take_too_long(run):
    async def story(trip):
        tx = await trip.begun(timeout_seconds=0.2)
        committing = asyncio.create_task(trip.manager.commit(tx))
        await asyncio.to_thread(trip.entered.wait)
        committing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await committing
        result = await trip.manager.get_result(tx)
        assert (result.reason, result.waiting.reason) == ("cancelled", "left_behind")

    run(story)


def test_the_thread_of_a_timed_call_sees_the_context_of_its_task(run):
    variable = contextvars.ContextVar("variable", default="unseen")

    async def story(trip):
        def act(action, data):
            return {"seen": variable.get(), "daemon": threading.current_thread().daemon}

        variable.set("seen")
        result = await trip.manager.commit(await trip.begun(act, timeout_seconds=LATER))
        assert result.outputs == {"s1": {"seen": "seen", "daemon": True}}

    run(story)


def test_a_timed_sync_handler_may_return_an_awaitable(run):
    async def story(trip):
        async def more():
            await asyncio.sleep(0)
            return "awaited"

        result = await trip.manager.commit(
            await trip.begun(lambda action, data: more(), timeout_seconds=LATER)
        )
        assert result.outputs == {"s1": "awaited"}

    run(story)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_ends_the_program_in_a_timed_thread_rolls_back_and_is_raised(
    place, clock, signal, error
):
    trip = Trip(place, clock, signal)

    def act(action, data):
        raise error("told")

    async def story():
        tx = await trip.begun(act, timeout_seconds=LATER)
        told.append(tx)
        await trip.manager.commit(tx)

    told = []
    with pytest.raises(error, match="told"):
        asyncio.run(story())

    async def look():
        result = await trip.manager.get_result(told[0])
        await trip.manager.close()
        return result

    assert asyncio.run(look()).reason == "cancelled"
    assert trip.undone_with == [(True, None)]


def test_an_answer_that_comes_when_the_loop_is_closed_is_journaled(place, make_clock, signal):
    trip = Trip(place, make_clock(), signal)

    async def story():
        tx = await trip.begun()
        assert (await trip.manager.commit(tx)).waiting.reason == "left_behind"
        return tx

    tx = asyncio.run(story())
    trip.go.set()
    trip.heard.wait()

    async def look():
        result = await trip.manager.wait(tx)
        await trip.manager.close()
        return result

    assert asyncio.run(look()).clean
    assert trip.undone_with == [(False, {"id": 7})]


# --------------------------------------------------------------------------------- async handlers


def test_an_async_handler_that_takes_too_long_is_cancelled_and_undone_at_once(run):
    async def story(trip):
        ends = []

        async def act(action, data):
            try:
                await asyncio.Event().wait()
            finally:
                ends.append("cancelled")

        result = await trip.manager.commit(await trip.begun(act))
        assert (result.state.value, result.reason, result.clean) == (
            "rolled_back",
            "in_doubt",
            True,
        )
        assert (ends, trip.undone_with) == (["cancelled"], [(True, None)])

    run(story)


def test_an_async_handler_that_swallows_its_cancellation_and_answers_is_heard_late(run):
    async def story(trip):
        async def act(action, data):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return {"id": 8}

        tx = await trip.begun(act)
        await trip.manager.commit(tx)
        await asyncio.to_thread(trip.heard.wait)
        assert (await trip.manager.wait(tx)).clean
        assert trip.undone_with == [(False, {"id": 8})]

    run(story)


def test_an_async_handler_that_goes_on_after_its_cancellation_is_left_behind(run, monkeypatch):
    monkeypatch.setattr(timed, "CANCEL_SECONDS_MAX", SOON)

    async def story(trip):
        go = asyncio.Event()

        async def act(action, data):
            while not go.is_set():
                try:
                    await go.wait()
                except asyncio.CancelledError:
                    trip.calls.append("swallowed")
            return {"id": 9}

        tx = await trip.begun(act)
        result = await trip.manager.commit(tx)
        assert (result.waiting.reason, trip.calls) == ("left_behind", ["swallowed"])
        go.set()
        await asyncio.to_thread(trip.heard.wait)
        assert (await trip.manager.wait(tx)).clean
        assert trip.undone_with == [(False, {"id": 9})]

    run(story)


def test_an_async_handler_that_refuses_late_leaves_nothing_to_undo(run, monkeypatch):
    monkeypatch.setattr(timed, "CANCEL_SECONDS_MAX", SOON)

    async def story(trip):
        go = asyncio.Event()

        async def act(action, data):
            while not go.is_set():
                try:
                    await go.wait()
                except asyncio.CancelledError:
                    trip.calls.append("swallowed")
            raise StepRejected("full")

        tx = await trip.begun(act)
        await trip.manager.commit(tx)
        go.set()
        await asyncio.to_thread(trip.heard.wait)
        assert (await trip.manager.wait(tx)).clean
        assert trip.calls == ["swallowed"]

    run(story)


@pytest.mark.parametrize("times", [1, 2, 5])
def test_a_timed_async_handler_has_ended_before_its_undo_however_often_it_is_cancelled(run, times):
    async def story(trip):
        entered, go = asyncio.Event(), asyncio.Event()

        async def act(action, data):
            try:
                entered.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                while not go.is_set():
                    try:
                        await go.wait()
                    except asyncio.CancelledError:
                        trip.calls.append("again")
                trip.calls.append("cleaned up")
                raise

        tx = await trip.begun(act, timeout_seconds=LATER)
        committing = asyncio.create_task(trip.manager.commit(tx))
        await entered.wait()
        for _ in range(times):
            committing.cancel()
            for _ in range(10):
                await asyncio.sleep(0)
        is_done = committing.done()
        go.set()
        assert not is_done
        with pytest.raises(asyncio.CancelledError):
            await committing
        assert trip.calls == ["again"] * (times - 1) + ["cleaned up", "undo"]
        assert trip.undone_with == [(True, None)]

    run(story)


def test_a_cancelled_async_handler_that_never_ends_is_left_behind_when_its_time_is_over(
    run, monkeypatch
):
    monkeypatch.setattr(timed, "CANCEL_SECONDS_MAX", SOON)

    async def story(trip):
        entered, go = asyncio.Event(), asyncio.Event()

        async def act(action, data):
            entered.set()
            while not go.is_set():
                try:
                    await go.wait()
                except asyncio.CancelledError:
                    trip.calls.append("swallowed")

        tx = await trip.begun(act, timeout_seconds=0.2)
        committing = asyncio.create_task(trip.manager.commit(tx))
        await entered.wait()
        committing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await committing
        result = await trip.manager.get_result(tx)
        assert (result.reason, result.waiting.reason) == ("cancelled", "left_behind")
        go.set()
        await asyncio.to_thread(trip.heard.wait)
        assert (await trip.manager.wait(tx)).clean

    run(story)


class AsyncCallable:
    def __init__(self, ends):
        self.ends = ends

    async def __call__(self, action, data):
        try:
            await asyncio.Event().wait()
        finally:
            self.ends.append("cancelled")


def test_an_object_whose_call_is_async_is_cancelled_like_any_async_handler(run):
    async def story(trip):
        ends = []
        result = await trip.manager.commit(await trip.begun(AsyncCallable(ends)))
        assert (result.state.value, result.clean, ends) == ("rolled_back", True, ["cancelled"])

    run(story)


def test_an_async_undo_that_takes_too_long_is_outstanding(run):
    async def story(trip):
        async def undo(action, data):
            await asyncio.Event().wait()

        def fail(action, data):
            raise ValueError("no")

        trip.manager.action("act", compensating_action="slow")(lambda action, data: None)
        trip.manager.action("slow", timeout_seconds=SOON)(undo)
        trip.manager.action("fail")(fail)
        tx = await trip.manager.begin()
        for action in ("act", "fail"):
            trip.manager.add_step(tx, "agent", action, {})
        result = await trip.manager.commit(tx)
        assert [(item.step_id, item.reason) for item in result.outstanding] == [("s1", "failed")]

    run(story)


def test_an_async_probe_that_takes_too_long_is_asked_again(run):
    async def story(trip):
        asked = []

        async def probe(data):
            asked.append(data)
            if len(asked) == 1:
                await asyncio.Event().wait()
            return NotDone() if len(asked) == 3 else Unknown()

        async def act(action, data):
            await asyncio.Event().wait()

        tx = await trip.begun(act, probe=probe, probe_retry=RetryPolicy(jitter=0))
        result = await trip.manager.commit(tx)
        assert (len(asked), result.clean, trip.undone_with) == (3, True, [])

    run(story)
