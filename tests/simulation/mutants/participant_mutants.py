"""Mistakes of the barrier behind which participants stand.

Owns: those mutants.
"""
# mypy: disable-error-code="attr-defined"

from tests.simulation.mutants.planting import mutant

from aumai_transactions.answers import NotDone
from aumai_transactions.participants.barrier import block, table
from aumai_transactions.participants.barrier.block import Admission, _Passage


@mutant(seed=100, needs=("real_barrier", "null_compensation"))
def leave_no_tombstone(plant):
    """I2: an undo of nothing leaves no trace, so that a call that comes behind it acts."""
    sound = _Passage._admitted_undo

    def admitted_undo(self):
        if table.look(self._database, self._call.forward_key) is None:
            return Admission(is_due=False)
        return sound(self)

    plant.put(_Passage, "_admitted_undo", admitted_undo)


@mutant(seed=11, needs=("duplicate_answered",))
def forget_what_was_answered(plant):
    """I5: a call that was answered before acts again."""
    sound = _Passage._admitted_again

    def admitted_again(self, *known):
        found = sound(self, *known)
        return Admission(is_due=True) if self._call.operation == "action" else found

    plant.put(_Passage, "_admitted_again", admitted_again)


@mutant(seed=None, needs=("stale_driver_refused",))
def hear_a_stale_driver(plant):
    """B1: a call acts whose driver was replaced, and whose successor has acted already."""
    plant.put(_Passage, "_check_token", lambda self, rows: None)


@mutant(seed=130, needs=("probe_not_done",))
def say_not_done_and_let_it_come(plant):
    """I2, I5: a probe that says "not done" does not keep the call from acting later."""
    sound = _Passage.probe

    def probe(self):
        if table.look(self._database, self._call.forward_key) is None:
            return NotDone("it never arrived")
        return sound(self)

    plant.put(_Passage, "probe", probe)


@mutant(seed=69, needs=("fault_rejects", "fault_call_twice"))
def forget_a_refusal(plant):
    """I2: a refusal is not recorded, so that the same call acts when it comes again."""
    plant.put(_Passage, "refuse", lambda self, admission, refusal: self.abandon(refusal))


@mutant(seed=130, needs=("probe_not_done", "fault_call_late"))
def let_an_earlier_attempt_pass(plant):
    """I2, I5: what a probe has made impossible is not compared with the attempt that comes."""
    assert " AND until_attempt < :attempt" in table.TAKE_PLACE
    changed = table.TAKE_PLACE.replace("until_attempt < :attempt", ":attempt > 0")
    plant.put(table, "TAKE_PLACE", changed)


@mutant(seed=1)
def take_back_what_was_refused(plant):
    """I2: an undo is due whatever became of the call that it undoes."""
    sound = block._Passage._admitted_undo

    def admitted_undo(self):
        found = sound(self)
        return Admission(is_due=True, forward_answer=found.forward_answer)

    plant.put(_Passage, "_admitted_undo", admitted_undo)
