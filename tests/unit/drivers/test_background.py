"""The threads that a manager keeps."""
# mypy: disable-error-code="var-annotated"

import asyncio
import contextvars
import threading

import pytest

from aumai_transactions.drivers.background import LoopThread


@pytest.fixture
def loop_thread():
    made = LoopThread()
    yield made
    made.close()


def test_a_coroutine_runs_in_a_thread_of_its_own(loop_thread):
    async def work():
        return threading.current_thread()

    thread = loop_thread.run(work())
    assert thread is not threading.current_thread()
    assert thread.daemon
    assert loop_thread.run(work()) is thread


def test_it_sees_the_context_of_its_caller(loop_thread):
    variable = contextvars.ContextVar("variable")

    async def work():
        return variable.get()

    variable.set("seen")
    assert loop_thread.run(work()) == "seen"


@pytest.mark.parametrize(
    "error", [ValueError, KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit]
)
def test_what_a_coroutine_raises_is_raised_as_what_it_is(loop_thread, in_thread, error):
    async def work():
        raise error("told")

    with pytest.raises(error, match="told") as caught:
        in_thread(loop_thread.run, work()).result()
    assert type(caught.value) is error

    async def more():
        return "still alive"

    assert in_thread(loop_thread.run, more()).result() == "still alive"


def test_many_threads_share_the_loop(loop_thread, in_thread):
    async def meet():
        waiting.append(None)
        if len(waiting) == 5:
            together.set()
        await together.wait()
        return asyncio.get_running_loop()

    waiting, together = [], asyncio.Event()
    threads = [in_thread(loop_thread.run, meet()) for _ in range(5)]
    assert len({thread.result() for thread in threads}) == 1


def test_closing_stops_the_thread_and_closing_again_is_fine(loop_thread):
    async def work():
        return threading.current_thread()

    thread = loop_thread.run(work())
    loop_thread.close()
    assert not thread.is_alive()
    loop_thread.close()
