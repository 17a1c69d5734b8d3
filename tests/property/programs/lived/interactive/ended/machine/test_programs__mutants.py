"""The state machine has teeth: each mutant breaks one rule, and a random program shows it.

    I1  act_before_the_journal, act_without_an_intent
    I2  commit_over_what_is_in_doubt, forget_what_runs_in_what_is_undone, leave_what_is_in_doubt,
        keep_what_is_held, run_it_all_again_at_resume
    I3  undo_in_the_order_of_execution, orphan_what_depends_on_it
    I4  see the mutants of plans: go_on_after_the_rollback
    I5  run_an_unknown_step_again
    I6  claim_with_the_old_token, take_it_from_the_living
    I7  forget_what_was_acknowledged, acknowledge_too_early
    I8  roll_back_behind_the_commit_point, carry_out_what_is_held_at_once
    I9  make_the_key_of_the_attempt, make_every_key_a_new_one

`pytest tests/property/programs -k teeth` runs them all, those of plans as well. A mutant's
docstring begins with the rules by which it may be caught; A is what a call has to answer, E4 what
a resumed program is told. The core checks some rules twice, when it decides and when it evolves:
`blind` switches the second check off where it would hide the mutant.
"""
# mypy: disable-error-code="attr-defined"

from dataclasses import replace
from itertools import count

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from aumai_transactions import calls
from aumai_transactions.core import (
    claims,
    commit_planning,
    committing,
    decider,
    evolution,
    planning,
    programs,
    scopes,
    undo_planning,
    undoing,
)
from aumai_transactions.core.commands import Call, Record
from aumai_transactions.core.entries import (
    Claimed,
    CommitRequested,
    RollbackStarted,
    StepStarted,
    TransactionCommitted,
)
from aumai_transactions.drivers import shared
from aumai_transactions.models import TransactionState
from aumai_transactions.store import AppendAnswer
from aumai_transactions.stores.memory import MemoryStore

UNTIL_CAUGHT = settings(
    max_examples=400,
    stateful_step_count=15,
    phases=[Phase.generate],
    derandomize=True,
    database=None,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


def blind(monkeypatch):
    for module in (claims, committing, evolution, scopes, undoing):
        monkeypatch.setattr(module, "require", lambda holds, otherwise: None)


def tell_handlers(monkeypatch, changes):
    """Tell every handler something else than the core does."""
    sound = calls.context_of

    def context_of(saga, step, operation):
        found = sound(saga, step, operation)
        return replace(found, **changes(found))

    monkeypatch.setattr(calls, "context_of", context_of)


def act_before_the_journal(monkeypatch):
    """I1: an intent is written only together with the outcome."""
    sound = MemoryStore._append

    def append(self, one):
        late = self.__dict__.setdefault("late", [])
        while late:
            sound(self, late.pop())
        if isinstance(one.entries[-1], StepStarted) and one.driver_id is None:
            late.append(one)
            return AppendAnswer.appended
        return sound(self, one)

    monkeypatch.setattr(MemoryStore, "_append", append)


def act_without_an_intent(monkeypatch):
    """I1: a request stands where the intent of an undo should be."""
    monkeypatch.setattr(undo_planning, "CompensationStarted", lambda at, *rest: CommitRequested(at))


def commit_over_what_is_in_doubt(monkeypatch):
    """I2: a commit does not wait for what is in doubt."""
    blind(monkeypatch)
    sound = planning._plan_interactive

    def plan_interactive(saga, now):
        if saga.commit_requested and saga.doubtful and not saga.running:
            return (Record(TransactionCommitted(now)),)
        return sound(saga, now)

    monkeypatch.setattr(planning, "_plan_interactive", plan_interactive)


def forget_what_runs_in_what_is_undone(monkeypatch):
    """I2, A, I12: a part is undone, but for what runs in it."""
    sound = scopes.partial_rollback_started

    def started(saga, entry):
        sound(saga, entry)
        for name in entry.step_ids:
            if saga.by_id[name].undo_wanted:
                saga.by_id[name].undo_wanted = False
                saga.undo_awaits -= 1

    monkeypatch.setattr(scopes, "partial_rollback_started", started)


def leave_what_is_in_doubt(monkeypatch):
    """I2, I3, I7: the whole goes back, and only what succeeded for certain is undone."""
    blind(monkeypatch)
    sound = undoing.rollback_started

    def started(saga, entry):
        sound(saga, entry)
        for index in list(saga.undo):
            if saga.steps[index].doubt is not None:
                saga.undo.remove(index)
                saga.steps[index].to_undo = False

    monkeypatch.setattr(undoing, "rollback_started", started)


def keep_what_is_held(monkeypatch):
    """I2: it commits, and what was held until then is never carried out."""
    blind(monkeypatch)

    def carry_out(saga, step, now):
        saga.deferred.clear()
        return (Record(TransactionCommitted(now)),)

    monkeypatch.setattr(commit_planning, "_carry_out", carry_out)


def run_it_all_again_at_resume(monkeypatch):
    """I2, E4, I7: a resumed program finds nothing of what it had done."""
    monkeypatch.setattr(shared.Shared, "remember_recorded", lambda self: None)


def undo_in_the_order_of_execution(monkeypatch):
    """I3: forward instead of backwards."""
    blind(monkeypatch)
    monkeypatch.setattr(undo_planning, "reversed", iter, raising=False)


def orphan_what_depends_on_it(monkeypatch):
    """I3, A: what depends on a step that is undone stays."""
    blind(monkeypatch)
    for module in (planning, programs, scopes):
        monkeypatch.setattr(module, "live_dependants", lambda saga, of: [])


def run_an_unknown_step_again(monkeypatch):
    """I5: whether or not it is idempotent."""
    blind(monkeypatch)
    monkeypatch.setattr(planning, "may_run_again", lambda step: step.attempt < 3)


def claim_with_the_old_token(monkeypatch):
    """I6: whoever takes over fences nobody off."""
    blind(monkeypatch)
    sound, sound_store = decider._driver_arrived, MemoryStore._refusal

    def arrived(saga, seen, now):
        claim, *rest = sound(saga, seen, now)
        return [Claimed(now, max(saga.token, 1), *claim[2:]), *rest]

    def refusal(self, kept, append):
        if append.driver_id is None or append.expected_sequence != len(kept.entries):
            return sound_store(self, kept, append)
        return None

    monkeypatch.setattr(decider, "_driver_arrived", arrived)
    monkeypatch.setattr(MemoryStore, "_refusal", refusal)


def take_it_from_the_living(monkeypatch):
    """I6: the store does not look whether the one who has it lives."""
    sound = MemoryStore._refusal

    def refusal(self, kept, append):
        found = sound(self, kept, append)
        return None if found is AppendAnswer.held else found

    monkeypatch.setattr(MemoryStore, "_refusal", refusal)


def forget_what_was_acknowledged(monkeypatch):
    """I7: the last entry of a process that dies was never written through."""
    sound = MemoryStore.leave

    def leave(self, driver_id):
        for kept in self._in_order:
            if kept.driver_id == driver_id and len(kept.entries) > kept.marks[-1][0] + 1:
                kept.entries.pop()
        sound(self, driver_id)

    monkeypatch.setattr(MemoryStore, "leave", leave)


def acknowledge_too_early(monkeypatch):
    """I7, I2: a success is told before it is written, and then is not."""
    sound = MemoryStore._append

    def append(self, one):
        if isinstance(one.entries[-1], TransactionCommitted):
            return AppendAnswer.appended
        return sound(self, one)

    monkeypatch.setattr(MemoryStore, "_append", append)


def roll_back_behind_the_commit_point(monkeypatch):
    """I8: what cannot be carried out behind the commit point takes the commit back."""
    blind(monkeypatch)
    sound = decider.plan

    def plan(saga, now, parallel_max=1):
        if saga.state is TransactionState.committing:
            return (Record(RollbackStarted(now, "step_failed")),)
        return sound(saga, now, parallel_max)

    monkeypatch.setattr(decider, "plan", plan)


def carry_out_what_is_held_at_once(monkeypatch):
    """I8: a step that was to be held until the commit runs before it."""
    blind(monkeypatch)
    sound, sound_start = planning._plan_interactive, evolution._step_started

    def plan_interactive(saga, now):
        for index in saga.deferred:
            step = saga.steps[index]
            if step.attempt == 0 and not saga.running:
                return (Call("action", step, StepStarted(now, step.step_id, 1, None)),)
        return sound(saga, now)

    def started(saga, entry):
        state = saga.state
        if saga.step(entry.step_id).definition.on_commit:
            saga.state = TransactionState.committing
        sound_start(saga, entry)
        saga.state = state

    monkeypatch.setattr(planning, "_plan_interactive", plan_interactive)
    monkeypatch.setattr(evolution, "_step_started", started)


def make_the_key_of_the_attempt(monkeypatch):
    """I9: a repeat under another key is no repeat to its participant."""

    def key(found):
        return {"idempotency_key": f"{found.idempotency_key}/{found.attempt}"}

    tell_handlers(monkeypatch, key)


def make_every_key_a_new_one(monkeypatch):
    """I9: another key for each call."""
    numbers = count()
    sound = calls.idempotency_key
    monkeypatch.setattr(calls, "idempotency_key", lambda *of: f"{sound(*of)}/{next(numbers)}")


MUTANTS = [
    act_before_the_journal,
    act_without_an_intent,
    commit_over_what_is_in_doubt,
    forget_what_runs_in_what_is_undone,
    leave_what_is_in_doubt,
    keep_what_is_held,
    run_it_all_again_at_resume,
    undo_in_the_order_of_execution,
    orphan_what_depends_on_it,
    run_an_unknown_step_again,
    claim_with_the_old_token,
    take_it_from_the_living,
    forget_what_was_acknowledged,
    acknowledge_too_early,
    roll_back_behind_the_commit_point,
    carry_out_what_is_held_at_once,
    make_the_key_of_the_attempt,
    make_every_key_a_new_one,
]


@pytest.mark.parametrize("mutate", MUTANTS, ids=lambda one: one.__name__)
def test_the_machine_has_teeth_against_a_core_that_would(mutate, monkeypatch, programs_of, living):
    rules = mutate.__doc__.partition(": ")[0].replace(", ", "|")
    mutate(monkeypatch)
    with pytest.raises(living.violation, match=f"^({rules}): ") as caught:
        run_state_machine_as_test(programs_of(patience=3), settings=UNTIL_CAUGHT)
    print(f"{mutate.__name__} → {caught.value}")
