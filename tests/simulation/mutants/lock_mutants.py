"""Mistakes about resources: who holds them, for how long, and what was read of them.

Owns: those mutants.
"""
# mypy: disable-error-code="attr-defined"

from tests.simulation.mutants.planting import mutant

from aumai_transactions.core import isolation, lock_book, locking
from aumai_transactions.core.locking import Fence
from aumai_transactions.core.states import COMMITTING, COMPENSATING


@mutant(seed=2)
def take_no_notice_of_resources(plant):
    """I10: a step does not wait for what it uses."""
    plant.everywhere(isolation.missing, lambda saga, step: ())
    plant.everywhere(isolation.awaits_locks, lambda saga: False)


@mutant(seed=2, needs=("locks_granted",))
def grant_to_two(plant):
    """I10: a resource that is held exclusively is granted once more."""
    plant.everywhere(locking.conflict, lambda one, other: False)


@mutant(seed=4, needs=("locks_granted",))
def share_with_whoever_is_exclusive(plant):
    """I10: who asks to share a resource gets it from whoever has it exclusively."""
    plant.everywhere(locking.conflict, lambda one, other: one == other == "exclusive")


@mutant(seed=5, needs=("locks_awaited", "rolled_back"))
def let_go_when_it_goes_back(plant):
    """I10: resources are let go of when the rollback begins, before anything is undone."""
    sound = isolation.holdings_of
    plant.everywhere(sound, lambda saga: () if saga.state is COMPENSATING else sound(saga))


@mutant(seed=2, needs=("locks_granted", "commit_decided"))
def let_go_at_the_commit_point(plant):
    """I10: resources are let go of at the commit decision, before the held steps have run."""
    sound = isolation.holdings_of
    plant.everywhere(sound, lambda saga: () if saga.state is COMMITTING else sound(saga))


@mutant(seed=None, needs=("outstanding",))
def let_go_of_what_is_outstanding(plant):
    """I10: what an outstanding step used is let go of at the end."""
    sound = isolation.let_go

    def let_go(saga, locks):
        sound(saga, locks)
        locks.held = {}

    plant.everywhere(sound, let_go)


@mutant(seed=2, needs=("locks_granted",))
def keep_locks_behind_the_end(plant):
    """I10, L1: who has rolled back holds what it held for ever."""
    sound = isolation.let_go

    def let_go(saga, locks):
        held = locks.held
        sound(saga, locks)
        if saga.state.value == "rolled_back":
            locks.held = held

    plant.everywhere(sound, let_go)


@mutant(seed=None, needs=("rollback_deadlock",))
def let_a_victim_keep_its_locks(plant):
    """I10, L1: who gives way in a deadlock goes back, and keeps what the others wait for."""
    sound = isolation.let_go

    def let_go(saga, locks):
        held = locks.held
        sound(saga, locks)
        if saga.reason == "deadlock":
            locks.held = held

    plant.everywhere(sound, let_go)


@mutant(seed=7, needs=("locks_granted",))
def grant_the_same_token_again(plant):
    """I10: the fencing token of a resource begins again once nobody holds it."""
    sound = lock_book.LockBook._fence

    def fence(self, resource):
        return sound(self, resource) if self._by_resource.get(resource) else Fence()

    plant.put(lock_book.LockBook, "_fence", fence)


@mutant(seed=2, needs=("locks_awaited",))
def wait_for_a_resource_for_ever(plant):
    """L1, L3: nobody looks how long a transaction has waited for a resource."""
    sound = isolation._waits

    def waits(saga, want, table, behind, now):
        queued = saga.locks.queued.get(want.place)
        return sound(saga, want, table, behind, now if queued is None else min(now, queued.at))

    plant.put(isolation, "_waits", waits)


@mutant(seed=20, needs=("locks_granted", "commit_decided"))
def claim_nothing_for_held_steps(plant):
    """I10: what a held step uses is not claimed before the commit point."""
    plant.blind()
    sound = isolation._wants

    def wants(saga):
        held = {use for step in saga.steps if step.definition.on_commit for use in _uses(step)}
        for want in sound(saga):
            left = tuple(use for use in want.resources if use not in held)
            if left:
                yield want._replace(resources=left)

    plant.put(isolation, "_wants", wants)


def _uses(step):
    return step.definition.resources


@mutant(seed=22, needs=("locks_granted",))
def commit_over_a_stale_read(plant):
    """G9: what was read and not locked is not compared before the commit."""
    plant.everywhere(isolation.reads_to_check, lambda saga, entries: ())
    plant.put(isolation, "_changed", lambda saga, table: [])
