"""A driver that stood still past its lease, between a durable intent and its call.

There nothing but a participant can refuse a call of somebody who was replaced; so whoever may have
been looks first (`drivers/leases.py`).
"""

import signal

import psycopg
import pytest

from aumai_transactions.core.entries import Claimed
from aumai_transactions.core.journal import entries

pytestmark = pytest.mark.crash

ANNOUNCED = "durable:step_started:s2"
IS_OVER = b"SELECT bool_and(lease_until < clock_timestamp()) FROM drivers"


@pytest.fixture
def scene(scenes, postgres16):
    return scenes(seed=1, url=postgres16.store(lease_seconds=1), server=postgres16)


@pytest.fixture
def leases_run_out(scene, postgres16):
    """Wait, in the server, until nobody's lease lasts."""

    def wait():
        schema = scene.url.rpartition("schema=")[2].partition("&")[0]
        options = f"-c search_path={schema}"
        with psycopg.connect(postgres16.url, options=options, autocommit=True) as connection:
            while connection.execute(IS_OVER).fetchone() != (True,):
                connection.execute(b"SELECT pg_sleep(0.05)")

    return wait


def stopped(scene, **orders):
    """A driver that is stopped right behind the durable intent of s2."""
    victim = scene.start("drive", in_flight=1, stop_at=ANNOUNCED, **orders)
    scene.driver_of(victim)
    assert victim.wait_for("in flight") == []
    name = victim.next_line().removeprefix("there ")
    victim.send(signal.SIGSTOP)
    return victim, name


def calls_of(scene, name, step_id):
    return [
        effect.attempt
        for effect in scene.effects
        if (effect.transaction_id, effect.step_id, effect.mark) == (name, step_id, "effect")
    ]


@pytest.mark.parametrize("is_async", [False, True])
def test_who_stood_still_past_its_lease_and_was_replaced_makes_no_call(
    scene, leases_run_out, is_async
):
    victim, name = stopped(scene, is_async=is_async)
    leases_run_out()
    [report] = scene.recover()
    assert report == {name: "finished"}

    victim.send(signal.SIGCONT)
    victim.release()
    # It ends with the error that says so, which is its own to print.
    assert victim.next_line() is None
    victim.reap()

    assert calls_of(scene, name, "s2") == [2]
    scene.judge()


@pytest.mark.parametrize("is_async", [False, True])
def test_who_stood_still_past_its_lease_and_was_not_replaced_goes_on(
    scene, leases_run_out, is_async
):
    victim, name = stopped(scene, is_async=is_async)
    leases_run_out()
    victim.send(signal.SIGCONT)
    victim.finish()

    assert calls_of(scene, name, "s2") == [1]
    journal = scene.judge()[name]
    assert [type(entry) for _, entry in entries(journal)].count(Claimed) == 1
    assert scene.outcomes[name] == "committed"
