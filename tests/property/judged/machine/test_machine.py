"""Random plans, random deaths, one plain model: the invariants hold."""

import os

import pytest
from hypothesis import given, settings

from aumai_transactions.stores import open_store
from aumai_transactions.stores.memory import MemoryStore

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
IN_MEMORY = settings(max_examples=20_000 if NIGHTLY else 150)
ON_DISK = settings(max_examples=1_000 if NIGHTLY else 25)


def test_the_invariants_hold_in_memory_whatever_happens(simulate, programs):
    ends = set()

    @IN_MEMORY
    @given(programs())
    def live(program):
        result = simulate(MemoryStore(), program)
        ends.add(result.state.value if result else "never begun")

    live()
    assert {"committed", "rolled_back"} <= ends


def test_the_invariants_hold_on_sqlite_whatever_happens(simulate, programs, tmp_path):
    store = open_store(f"sqlite:///{tmp_path}/journal.db", create=True)

    @ON_DISK
    @given(programs())
    def live(program):
        simulate(store, program)

    live()
    store.close()


@pytest.mark.parametrize("kill", range(1, 40))
def test_every_single_moment_of_a_trip_that_fails_can_be_the_last(simulate, kill):
    steps = [simulate.step(), simulate.step(idempotent=True), simulate.step(forward=("fail",))]
    for again in (0, 1, 3):
        kills = (kill, again) if again else (kill,)
        result = simulate(MemoryStore(), simulate.program(tuple(steps), kills=kills))
        assert result is None or result.clean
