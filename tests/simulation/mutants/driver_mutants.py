"""Mistakes of the drivers: the order of writing and acting, answers, claims, and what calls mean.

Owns: those mutants.
"""
# mypy: disable-error-code="attr-defined"

from dataclasses import replace
from itertools import count

from tests.simulation.mutants.planting import mutant

from aumai_transactions import calls
from aumai_transactions.core import claims, decider, isolation, undoing
from aumai_transactions.core.entries import Claimed, CompensationStarted, StepStarted
from aumai_transactions.core.observations import HandlerRaised
from aumai_transactions.drivers import asking, driving
from aumai_transactions.drivers.operations import DoAppend, DoSleep
from aumai_transactions.errors import NotDelivered, OutcomeUnknown, StoreUnavailable
from aumai_transactions.store import Append, AppendAnswer


def tell_handlers(plant, changes):
    """Tell every handler something else than the core does."""
    sound = calls.context_of

    def context_of(saga, step, operation):
        found = sound(saga, step, operation)
        return replace(found, **changes(found))

    plant.everywhere(sound, context_of)


def write_behind(plant, kind):
    """Acknowledge intents of one kind at once, and write them together with what follows."""
    behind: dict[str, list[Append]] = {}

    def answer_at_once(desk, append):
        waiting = behind.pop(append.transaction_id, [])
        if type(append.entries[-1]) is kind and append.driver_id is None:
            behind[append.transaction_id] = [*waiting, append]
            return AppendAnswer.appended
        try:
            return desk.store.append([*waiting, append])[-1]
        except StoreUnavailable:
            behind[append.transaction_id] = waiting
            return None

    plant.put(driving, "_answer_at_once", answer_at_once)


@mutant(seed=1)
def act_before_the_intent_is_durable(plant):
    """I1: the intent of an action is written together with its outcome, which saves a write."""
    write_behind(plant, StepStarted)


@mutant(seed=1)
def undo_before_the_intent_is_durable(plant):
    """I1: the intent of an undo is written together with its outcome, which saves a write."""
    write_behind(plant, CompensationStarted)


@mutant(seed=2)
def take_a_lost_reply_for_applied(plant):
    """I1, I6, I7, I14: nobody knows whether an append was made, and it is taken for made."""

    def until_answered(append, run):
        try:
            return (yield DoAppend(append, run))
        except StoreUnavailable:
            return AppendAnswer.appended

    plant.put(driving, "_until_answered", until_answered)


@mutant(seed=1, needs=("fault_store_reply_lost", "answer_moved"))
def take_a_lost_reply_for_failed(plant):
    """I5, I12, I13: what nobody knows to be made is appended once more, as another append."""
    plant.blind()
    numbers = count(1)

    def until_answered(append, run):
        for _ in range(5):
            try:
                return (yield DoAppend(append, run))
            except StoreUnavailable:
                append = append._replace(append_id=f"{append.append_id}/{next(numbers)}")
                yield DoSleep(0.02)
        raise StoreUnavailable("it is not there")

    plant.put(driving, "_until_answered", until_answered)


def hear(plant, heard, instead):
    """Take one answer of the store for another one."""
    sound = driving._until_answered

    def until_answered(append, run):
        answer = yield from sound(append, run)
        return instead if answer is heard else answer

    plant.put(driving, "_until_answered", until_answered)


@mutant(seed=18, needs=("answer_fenced",))
def go_on_though_fenced(plant):
    """I1, I6, I7, I14: a driver that is told that it is fenced goes on."""
    hear(plant, AppendAnswer.fenced, AppendAnswer.appended)


@mutant(seed=8, needs=("answer_moved",))
def go_on_though_moved(plant):
    """I1, I6, I7, I14: what was refused because of news is taken for appended."""
    hear(plant, AppendAnswer.moved, AppendAnswer.appended)


@mutant(seed=5, needs=("answer_held",))
def go_on_though_held(plant):
    """I1, I6, I7, I14: a claim that was refused is taken for made."""
    hear(plant, AppendAnswer.held, AppendAnswer.appended)


@mutant(seed=2)
def recover_outside_the_claim(plant):
    """I6, I14, L1, L3: recovery goes on under the token of whoever had it."""
    sound_built, sound_take = driving._built, driving._take
    sound = asking.drive

    def built(desk, run, entries, *, claims, release):
        has = any(isinstance(entry, Claimed) for entry in entries)
        return sound_built(desk, run, entries, claims=claims and has, release=release)

    def take(run, append, answer, *, claims):
        sound_take(run, append, answer, claims=claims and append.driver_id is not None)

    def drive(desk, run, seen):
        if not seen[0].takeover:
            return (yield from sound(desk, run, seen))
        run.token = run.saga.token
        return (yield from sound(desk, run, []))

    plant.put(driving, "_built", built)
    plant.put(driving, "_take", take)
    plant.put(asking, "drive", drive)


@mutant(seed=1)
def claim_with_the_old_token(plant):
    """I6: a claim does not raise the token."""
    plant.blind()
    from aumai_transactions.stores.memory import MemoryStore

    sound, sound_store = decider._driver_arrived, MemoryStore._refusal

    def arrived(saga, seen, now):
        claim, *rest = sound(saga, seen, now)
        return [Claimed(now, max(saga.token, 1), *claim[2:]), *rest]

    def refusal(self, kept, append):
        if append.driver_id is None or append.expected_sequence != len(kept.entries):
            return sound_store(self, kept, append)
        return None

    plant.put(decider, "_driver_arrived", arrived)
    plant.put(MemoryStore, "_refusal", refusal)


@mutant(seed=1, needs=("takeover_in_action",))
def leave_what_ran_running(plant):
    """L1, I6, I5: whoever takes over does not see that a call of the dead one was under way."""

    def arrived(saga, seen, now):
        return [Claimed(now, saga.token + 1, seen.driver_id, seen.takeover, seen.resumes)]

    plant.put(decider, "_driver_arrived", arrived)


@mutant(seed=2, needs=("takeover_in_undo",))
def leave_what_is_undone_under_way(plant):
    """L1: whoever takes over waits for an undo that died with its driver."""
    sound = claims.claimed

    def claimed(saga, entry):
        flags = [(step, step.undo_running) for step in saga.steps]
        undoing = saga.undoing
        sound(saga, entry)
        for step, flag in flags:
            step.undo_running = flag
        saga.undoing = undoing

    plant.put(claims, "claimed", claimed)


@mutant(seed=1)
def make_the_key_of_the_attempt(plant):
    """I9: a repeat under another key is no repeat to its participant."""

    def key(found):
        return {"idempotency_key": f"{found.idempotency_key}/{found.attempt}"}

    tell_handlers(plant, key)


@mutant(seed=1)
def make_the_key_of_the_token(plant):
    """I9: whoever takes over calls under another key."""

    def key(found):
        return {"idempotency_key": f"{found.idempotency_key}/{found.token}"}

    tell_handlers(plant, key)


@mutant(seed=2, needs=("null_compensation",))
def name_the_wrong_forward_key(plant):
    """I2, I9: an undo names its own key as that of what it undoes."""
    tell_handlers(plant, lambda found: {"forward_key": found.idempotency_key})


@mutant(seed=1, needs=("takeover",))
def call_under_the_first_token(plant):
    """I6: handlers are told the token of the first claim for ever."""
    tell_handlers(plant, lambda found: {"token": 1})


@mutant(seed=2, needs=("locks_granted",))
def keep_the_fencing_token_from_the_handler(plant):
    """G10: a handler is not told the fencing tokens of what its step uses."""
    plant.everywhere(isolation.fencing_tokens, lambda saga, step: {})


@mutant(seed=11, needs=("in_doubt",))
def take_a_timeout_for_a_failure(plant):
    """I2, I5: what has not returned in time counts as not done."""
    sound = calls.timed_out

    def timed_out(step, operation, seconds, *, left_behind):
        seen, error = sound(step, operation, seconds, left_behind=left_behind)
        if isinstance(seen, HandlerRaised):
            seen = seen._replace(outcome="not_done", left_behind=False)
        return seen, error

    plant.everywhere(sound, timed_out)


@mutant(seed=11, needs=("in_doubt", "fault_call_reply_lost"))
def take_a_lost_connection_for_a_failure(plant):
    """I2, I5: a connection that is lost counts as a call that was not made."""
    sound = calls.outcome_of

    def outcome_of(action, error):
        lost = isinstance(error, OSError) and not isinstance(error, (NotDelivered, OutcomeUnknown))
        return "not_done" if lost else sound(action, error)

    plant.everywhere(sound, outcome_of)


@mutant(seed=12, needs=("fault_unknown", "in_doubt"))
def take_an_unknown_answer_for_a_no(plant):
    """I2, I5, I13: a participant that does not know is heard as one that says no."""
    sound = calls.outcome_of

    def outcome_of(action, error):
        return "not_done" if isinstance(error, OutcomeUnknown) else sound(action, error)

    plant.everywhere(sound, outcome_of)


@mutant(seed=21356, needs=("rollback_revoked",))
def continue_though_a_rollback_was_asked_for(plant):
    """C12: an undo revokes a rollback that a person has asked for."""
    plant.blind()
    sound = undoing.may_continue

    def may_continue(saga, step):
        wish, saga.rollback_requested = saga.rollback_requested, None
        try:
            return sound(saga, step)
        finally:
            saga.rollback_requested = wish

    plant.everywhere(sound, may_continue)


@mutant(seed=280, needs=("rollback_revoked",))
def continue_behind_other_undos(plant):
    """C12: an undo revokes a rollback in which others were undone already."""
    plant.blind()
    sound = undoing.may_continue

    def may_continue(saga, step):
        begun, saga.undo_begun = saga.undo_begun, {step.index}
        try:
            return sound(saga, step)
        finally:
            saga.undo_begun = begun

    plant.everywhere(sound, may_continue)
