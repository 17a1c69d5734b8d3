"""SIGTERM while a block is open, at moments at which it is easily lost."""

import asyncio
import signal
import threading

import pytest

from aumai_transactions.drivers import signals
from aumai_transactions.drivers.signals import EXIT_CODE, Terminable

GUARD_SECONDS = 10


@pytest.fixture(autouse=True)
def nobody_else_is_open(monkeypatch):
    """What other tests have left open would be told as well."""
    monkeypatch.setattr(signals, "_open", {})
    monkeypatch.setattr(signals, "_heard", [])
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_signal_that_comes_right_before_the_last_block_is_over_ends_the_program():
    """The loop comes to it between two callbacks, when nobody is open any more."""
    ended = []

    async def program():
        block = Terminable(asyncio.get_running_loop())
        signal.raise_signal(signal.SIGTERM)
        block.over()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    with pytest.raises(SystemExit) as caught:
        asyncio.run(asyncio.wait_for(program(), GUARD_SECONDS))
    assert caught.value.code == EXIT_CODE
    assert ended == ["cancelled"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_signal_that_comes_while_an_object_is_let_go_of_comes_again():
    """Python tells of what is raised there, and goes on as if nothing had been."""

    class Dying:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    block = Terminable()
    try:
        with pytest.raises(SystemExit) as caught:
            wait_behind(Dying())
    finally:
        block.over()
    assert caught.value.code == EXIT_CODE


def wait_behind(dying):
    del dying
    threading.Event().wait(GUARD_SECONDS)


def test_a_signal_ends_the_program_once_and_not_what_comes_after_it():
    async def told():
        block = Terminable(asyncio.get_running_loop())
        try:
            signal.raise_signal(signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            block.over()

    async def later():
        block = Terminable(asyncio.get_running_loop())
        block.over()
        await asyncio.sleep(0)
        return "lived"

    with pytest.raises(SystemExit):
        asyncio.run(asyncio.wait_for(told(), GUARD_SECONDS))
    assert asyncio.run(later()) == "lived"
