"""Mistakes on the way back, about what is in doubt, and in what is said of it in the end.

Owns: those mutants.
"""
# mypy: disable-error-code="attr-defined"

from tests.simulation.mutants.planting import mutant

from aumai_transactions import calls
from aumai_transactions.core import (
    doubts,
    evolution,
    journal,
    late_returns,
    outcome,
    persons,
    planning,
    programs,
    scopes,
    transitions,
    undo_planning,
    undoing,
)
from aumai_transactions.core.commands import Record
from aumai_transactions.core.entries import RetryScheduled, TransactionRolledBack
from aumai_transactions.core.states import (
    STEP_COMPENSATED,
    STEP_IN_DOUBT,
)
from aumai_transactions.core.transitions import take_effect


@mutant(seed=2, needs=("in_doubt",))
def forget_what_is_in_doubt(plant):
    """I2, I3, I13: only what succeeded for certain is undone."""
    plant.blind()
    sound = undoing.rollback_started

    def started(saga, entry):
        sound(saga, entry)
        for index in list(saga.undo):
            if saga.steps[index].doubt is not None:
                saga.undo.remove(index)
                saga.steps[index].to_undo = False

    plant.put(undoing, "rollback_started", started)


@mutant(seed=1)
def undo_in_the_order_of_execution(plant):
    """I3: forward instead of backwards."""
    plant.blind()
    plant.put(undo_planning, "reversed", iter)


@mutant(seed=1)
def undo_before_what_depends_on_it(plant):
    """I3: undos that are made at the same time do not wait for each other."""
    plant.blind()
    plant.everywhere(transitions.undo_waits, lambda saga, step: False)


@mutant(seed=1)
def end_before_the_last_undo_has_answered(plant):
    """I2: it is rolled back once its last undo has begun."""
    plant.blind()
    sound = planning.plan_undo

    def plan_undo(saga, now, parallel_max):
        found = sound(saga, now, parallel_max)
        is_last = len(found) == len(saga.undo) == 1 and not isinstance(found[0], Record)
        return [*found, Record(TransactionRolledBack(now))] if is_last else found

    plant.put(planning, "plan_undo", plan_undo)


@mutant(seed=5, needs=("outstanding",))
def stop_at_the_first_failed_undo(plant):
    """I2: the rest is left standing, and nobody says so."""
    plant.blind()
    sound = undoing.compensation_failed

    def failed(saga, entry):
        sound(saga, entry)
        if not entry.will_retry:
            saga.undo.clear()

    plant.put(undoing, "compensation_failed", failed)


@mutant(seed=5, needs=("outstanding",))
def go_on_where_it_should_halt(plant):
    """I3, D7: `on_compensation_failure="halt"` goes on."""
    plant.put(undoing, "leave_outstanding_still", lambda saga, step: None)


@mutant(seed=27)
def undo_over_a_halted_step(plant):
    """I3, D7: what a failed undo depends on is undone all the same."""
    plant.blind()
    plant.put(undoing, "ancestors", lambda edges, of: set())


@mutant(seed=2, needs=("outstanding",))
def forget_a_failed_undo(plant):
    """I2, I10, I12: what could not be undone counts as undone."""

    def failed(saga, entry):
        step = undoing._ended(saga, entry.step_id)
        if not entry.will_retry:
            undoing.no_longer_to_undo(saga, step)
            step.state = STEP_COMPENSATED
            saga.undone.append(step.index)

    plant.put(undoing, "compensation_failed", failed)


@mutant(seed=2, needs=("outstanding",))
def show_what_is_outstanding_as_clean(plant):
    """I2, I12: a result does not name what a person has to look at."""
    plant.put(outcome, "_outstanding", lambda saga: [])


@mutant(seed=2, needs=("outstanding",))
def let_nobody_look_at_what_is_outstanding(plant):
    """I2, I12: what is outstanding is not on the list of what needs a person."""
    plant.put(outcome, "_is_outstanding", lambda saga, step: False)


@mutant(seed=3)
def do_not_name_what_nothing_undoes(plant):
    """I2, I12: a result does not name what was left because nothing undoes it."""
    plant.put(outcome, "_uncompensated", lambda saga: [])


@mutant(seed=42, needs=("fault_undo_lies",))
def take_what_an_undo_left_for_clean(plant):
    """I2, I12: what is found after an undo is not looked at."""
    sound = calls._verification_returned

    def verification_returned(step, value):
        return sound(step, value)._replace(answer="clean", left=None, error=None)

    plant.put(calls, "_verification_returned", verification_returned)


@mutant(seed=22)
def do_not_verify_an_undo(plant):
    """I2: an action's `verify` is never asked."""
    plant.blind()
    sound = undoing.compensation_succeeded

    def succeeded(saga, entry):
        sound(saga, entry)
        step = saga.step(entry.step_id)
        if step.to_verify:
            step.to_verify = False
            undoing._undone(saga, step)

    plant.put(undoing, "compensation_succeeded", succeeded)


@mutant(seed=39, needs=("partial_rollback",))
def orphan_what_depends_on_it(plant):
    """I3: what depends on a step that is undone stays."""
    plant.blind()
    for module in (planning, programs, scopes):
        plant.put(module, "live_dependants", lambda saga, of: [])


@mutant(seed=None, needs=("partial_rollback",))
def forget_what_runs_in_what_is_undone(plant):
    """I2, I4: a part is undone, but for what runs in it."""
    sound = scopes.partial_rollback_started

    def started(saga, entry):
        sound(saga, entry)
        for name in entry.step_ids:
            if saga.by_id[name].undo_wanted:
                saga.by_id[name].undo_wanted = False
                saga.undo_awaits -= 1

    plant.put(scopes, "partial_rollback_started", started)


# --------------------------------------------------------------------------------------- in doubt


@mutant(seed=2, needs=("in_doubt",))
def run_an_unknown_step_again(plant):
    """I5: whether or not it is idempotent."""
    plant.blind()
    plant.everywhere(doubts.may_run_again, lambda step: step.attempt < 3)


@mutant(seed=1, needs=("in_doubt",))
def do_not_ask_a_probe(plant):
    """C4: what is in doubt is run again, or undone, without a question."""
    plant.blind()
    plant.everywhere(doubts.must_be_asked, lambda step: False)


def answer_probes(plant, heard, instead):
    """Hear one answer of a probe as another one."""
    sound = calls._probe_returned

    def probe_returned(step, value):
        found = sound(step, value)
        return found._replace(answer=instead, error=None) if found.answer == heard else found

    plant.put(calls, "_probe_returned", probe_returned)


@mutant(seed=16, needs=("fault_call_lost",))
def hear_not_done_as_done(plant):
    """I2: a probe that says "not done" is heard as one that says "done"."""
    answer_probes(plant, "not_done", "done")


@mutant(seed=2)
def hear_done_as_not_done(plant):
    """I2, I5: a probe that says "done" is heard as one that says "not done"."""
    answer_probes(plant, "done", "not_done")


@mutant(seed=104, needs=("fault_cannot_tell",))
def hear_unknown_as_not_done(plant):
    """I2, I5: a probe that cannot tell is heard as one that says "not done"."""
    answer_probes(plant, "unknown", "not_done")


@mutant(seed=144, needs=("asked_ResolutionAnswered",))
def hear_a_person_the_wrong_way_round(plant):
    """I2, I3: what a person says did not happen counts as happened."""
    sound = persons.resolution_given

    def given(saga, entry):
        answer = entry.answer
        if saga.step(entry.step_id).state is STEP_IN_DOUBT and answer == "did_not_happen":
            answer = "happened"
        sound(saga, entry._replace(answer=answer))

    plant.put(persons, "resolution_given", given)


@mutant(seed=11, needs=("in_doubt",))
def do_not_ask_a_person(plant):
    """C4: `on_unknown="ask"` asks nobody."""
    sound = doubts.asks

    def asks(step):
        return sound(step) and step.definition.on_unknown != "ask"

    plant.everywhere(sound, asks)


# ------------------------------------------------------------------------------------ late answers


@mutant(seed=159, needs=("late_succeeded",))
def count_a_late_success(plant):
    """I2, I3, I4, I13: what was given up and succeeds later counts as succeeded."""
    sound = late_returns._late_success

    def late_success(saga, step, entry, note):
        if step.state is STEP_IN_DOUBT and saga.state.value == "active":
            step.output = entry.output
            take_effect(saga, step)
        else:
            sound(saga, step, entry, note)

    plant.put(late_returns, "_late_success", late_success)


@mutant(seed=28, needs=("late_behind_the_end",))
def forget_a_late_success_behind_the_end(plant):
    """I12: what succeeds after it was undone, and after the end, is on nobody's list."""
    sound = evolution.late_returns.call_returned_late

    def late(saga, entry):
        if not saga.state.is_final:
            sound(saga, entry)

    plant.put(late_returns, "call_returned_late", late)


@mutant(seed=11)
def do_not_wait_for_what_was_left_behind(plant):
    """C5, I12: an undo does not wait for a call that was given up and may act yet."""
    plant.everywhere(undo_planning.abandon_at, lambda step: None)


@mutant(seed=11)
def forget_what_may_still_act(plant):
    """C5, I12: what was undone while a call of it may act yet counts as undone."""
    sound = undoing._undone

    def undone(saga, step):
        step.left_behind = {}
        sound(saga, step)

    plant.put(undoing, "_undone", undone)


# ------------------------------------------------------------------------------------- the journal


@mutant(seed=1)
def do_not_chain_the_entries(plant):
    """I11: the hash of an entry does not cover the one before it."""
    sound = journal.chain_hash

    def chain_hash(transaction_id, sequence, before, body):
        return sound(transaction_id, sequence, journal.NO_HASH, body)

    plant.everywhere(sound, chain_hash)


@mutant(seed=1)
def do_not_check_the_chain(plant):
    """I11: a journal is read without a look at its hashes."""
    from aumai_transactions.core.codec import decode

    def entries(kept):
        for stored in kept.entries:
            yield decode(stored.body, kept.transaction_id, stored.sequence)

    plant.everywhere(journal.entries, entries)


@mutant(seed=10)
def forget_when_it_is_read(plant):
    """A6, C8, D3: the time of the next attempt is written down, and not read."""
    sound = journal.decode

    def decode(body, name, sequence):
        entry_id, entry = sound(body, name, sequence)
        if isinstance(entry, RetryScheduled):
            entry = entry._replace(due_at=entry.at)
        return entry_id, entry

    plant.everywhere(sound, decode)
