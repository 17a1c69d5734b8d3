"""Mistakes in the store's contract: who may append what, and what is kept.

Owns: those mutants.
"""
# mypy: disable-error-code="attr-defined"

from tests.simulation.mutants.planting import mutant

from aumai_transactions.core import outcome
from aumai_transactions.core.entries import StepStarted
from aumai_transactions.drivers import driving
from aumai_transactions.store import AppendAnswer
from aumai_transactions.stores import memory
from aumai_transactions.stores.memory import MemoryStore


@mutant(seed=1, needs=("takeover",))
def append_without_fencing(plant):
    """I6, I12: nobody looks at the token, neither the store nor who reads the journal again."""
    sound = MemoryStore._refusal

    def refusal(self, kept, append):
        if append.driver_id is None and append.token is not None:
            append = append._replace(token=kept.token)
        return sound(self, kept, append)

    def reread(desk, run, seen, *, is_blocked=False):
        run.saga = yield from driving.read_saga(desk, run.transaction_id)
        run.sequence, run.holdings = run.saga.sequence, None

    plant.blind()
    plant.put(MemoryStore, "_refusal", refusal)
    plant.put(driving, "_reread", reread)


@mutant(seed=4)
def append_without_a_sequence(plant):
    """I6, D3: whoever has the token appends, whatever stands there by now."""
    sound = MemoryStore._refusal

    def refusal(self, kept, append):
        found = sound(self, kept, append)
        return None if found is AppendAnswer.moved and append.driver_id is None else found

    plant.put(MemoryStore, "_refusal", refusal)


@mutant(seed=5, needs=("takeover",))
def take_it_from_the_living(plant):
    """I6: a claim does not ask whether the one who has it lives."""
    sound = MemoryStore._refusal

    def refusal(self, kept, append):
        found = sound(self, kept, append)
        return None if found is AppendAnswer.held else found

    plant.put(MemoryStore, "_refusal", refusal)


@mutant(seed=2, needs=("answer_already_ours",))
def call_somebody_elses_entries_ours(plant):
    """D4: "already ours" is answered by the place of the entries, not by whose they are."""

    def holds(kept, append):
        return len(kept.entries) >= append.expected_sequence + len(append.entries)

    plant.put(memory, "_holds", holds)


@mutant(seed=1)
def acknowledge_what_is_not_written(plant):
    """D1, D3, I6: an intent is acknowledged at once, and written with the next append."""
    sound = MemoryStore._append

    def append(self, one):
        late = self.__dict__.setdefault("late", {})
        before = late.pop(one.transaction_id, None)
        if before is not None:
            sound(self, before)
        if isinstance(one.entries[-1], StepStarted) and one.driver_id is None:
            late[one.transaction_id] = one
            return AppendAnswer.appended
        return sound(self, one)

    plant.put(MemoryStore, "_append", append)


@mutant(seed=2, needs=("fault_crash",))
def forget_what_the_dead_held(plant):
    """L1: only what nobody holds is due, and not what somebody held who is dead."""
    sound = MemoryStore.due

    def due(self, driver_id, limit, now, **options):
        names = sound(self, driver_id, limit, now, **options)
        return [name for name in names if self._by_id[name].driver_id is None]

    plant.put(MemoryStore, "due", due)


@mutant(seed=4, needs=("retry_scheduled",))
def let_parked_transactions_never_wake(plant):
    """L1: what waits for its next attempt counts as something that nobody can move on."""
    sound = outcome.is_runnable

    def is_runnable(saga):
        return sound(saga) and not saga.waiting

    plant.everywhere(sound, is_runnable)
