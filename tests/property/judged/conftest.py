"""A plain model that judges a journal and the world.

`Judge` shares no code with the core: it knows the program and the invariants, nothing else. It is
told each entry once, in order, and each call of a handler before the call has an effect. A
violation names the invariant (DESIGN.md section 2) or the rule of SEMANTICS.md that it breaks; R1
and R2 are those of a retry policy: how often, and not before.
"""
# mypy: disable-error-code="arg-type, attr-defined, operator, union-attr, var-annotated"

import re
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from aumai_transactions import RetryPolicy

T0 = 1_772_193_600_000_000
SECOND = 1_000_000
TIMEOUT_SECONDS = 60
CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


class Violation(Exception):
    """An invariant does not hold."""


@dataclass
class Told:
    """What the journal has said about one step."""

    starts: int = 0
    first_at: int = 0
    runs: bool = False
    doubt: bool = False
    doubt_at: int = 0
    crashed: bool = False
    asked: bool = False
    may_be_done: bool = False
    is_failed: bool = False
    is_undone: bool = False
    wished: bool = False
    by_person: bool = False
    due: int | None = None
    left: dict = field(default_factory=dict)
    answered: set = field(default_factory=set)
    accounted: set = field(default_factory=set)
    late_success: bool = False
    acted_late: bool = False
    undos: int = 0
    undo_left: set = field(default_factory=set)
    is_open: bool = False
    is_stuck: bool = False
    may_continue: bool = False
    revoked: bool = False

    def account(self):
        """Somebody says that it is done: what its only call answers later is no news."""
        if self.starts > 1:
            return
        self.accounted |= {*self.left, self.starts}
        self.left = {}


def number_of(step_id):
    return int(step_id.removeprefix("s")) - 1


def kind_of(entry):
    return type(entry).__name__


class Judge:
    """Hold a journal and the world against the invariants."""

    def __init__(self, program, world):
        self.program = program
        self.world = world
        self.told = [Told() for _ in program.steps]
        self.ran = self.goes_back = self.has_ended = self.has_committed = False
        self.requested = False
        self.reason = None
        self.driver = None
        self.taken_over_at = None
        self.begun = set()
        self.last = {}

    def require(self, holds, invariant, what):
        if not holds:
            raise Violation(f"{invariant}: {what}")

    # -------------------------------------------------------------------------------- the journal

    def entry(self, entry):
        """Judge the next entry of the journal."""
        kind = kind_of(entry)
        name = getattr(entry, "step_id", None)
        index = number_of(name) if name else None
        if index is not None and hasattr(entry, "attempt") and kind != "CallReturnedLate":
            self.last[index] = entry
        free = ("Claimed", "RollbackRequested", "CommitRequested", "ResolutionGiven")
        if kind not in (*free, "RetryRequested", "CallReturnedLate"):
            self.require(not self.has_committed, "I8", f"{kind} follows the commit")
        method = getattr(self, f"_on_{CAPITAL.sub('_', kind).lower()}", None)
        if method is None:
            return
        if index is None or kind == "RollbackStarted":
            method(entry)
        else:
            method(entry, index, self.told[index])

    def _on_claimed(self, entry):
        if entry.takeover and entry.driver_id != self.driver:
            for told in self.told:
                told.left = {n: who for n, who in told.left.items() if who != self.driver}
        self.driver = entry.driver_id
        if entry.takeover:
            self.taken_over_at = entry.at

    def _on_rollback_requested(self, _entry):
        self.requested = True

    def _on_retry_requested(self, entry, _index, told):
        if told.due is not None:
            told.due = entry.at
        elif self.goes_back:
            told.is_open, told.is_stuck, told.acted_late = True, False, False
        else:
            told.wished, told.asked = True, False

    def _on_resolution_given(self, entry, _index, told):
        told.is_stuck = told.acted_late = False
        told.due = None
        if entry.answer == "happened":
            told.doubt, told.by_person = False, not told.late_success
            told.account()
        if entry.answer == "did_not_happen":
            told.doubt = told.may_be_done = False
            told.is_failed = True

    def _on_step_started(self, entry, index, told):
        declared = self.program.steps[index]
        self.ran = True
        self.require(not self.goes_back, "I4", f"{entry} follows the rollback")
        before = [self.told[other] for other in self.program.before(index)]
        ready = all(other.may_be_done and not other.doubt for other in before)
        self.require(ready, "I3", f"{entry} starts before what it waits for is certain")
        if told.doubt:
            safe = declared.idempotent or told.wished
            self.require(safe, "I5", f"{entry} starts again")
            asked = declared.probe is None or told.asked
            self.require(asked, "C4", f"{entry} starts again before its probe was asked")
        self._not_too_early(entry, told)
        told.starts += 1
        told.runs = True
        told.first_at = told.first_at or entry.at
        told.wished = False
        told.is_failed = False

    def _not_too_early(self, entry, told):
        self.require(told.due is None or entry.at >= told.due, "R2", f"{entry} is too early")
        told.due = None

    def _on_step_succeeded(self, _entry, _index, told):
        told.doubt, told.may_be_done, told.by_person = False, True, False
        told.runs = False

    def _on_step_failed(self, entry, index, told):
        sure = not told.doubt or self.program.steps[index].idempotent
        self.require(sure, "I13", f"{entry} clears what is in doubt")
        self.require(not told.late_success, "I13", f"{entry} behind a late success")
        told.doubt = told.may_be_done = told.runs = False
        told.is_failed = True

    def _on_step_in_doubt(self, entry, index, told):
        told.doubt, told.may_be_done, told.asked = True, True, False
        told.doubt_at = entry.at
        told.crashed = entry.cause == "crash"
        if told.crashed:
            self.world.rejected.discard(index)  # Nobody here has heard of it.
        told.runs = False
        if entry.left_behind and entry.attempt not in told.answered:
            told.left[entry.attempt] = self.driver

    def _on_retry_scheduled(self, entry, index, told):
        declared = self.program.steps[index]
        policy = {
            "action": declared.retry or RetryPolicy(),
            "compensation": declared.undo_retry or RetryPolicy(),
        }.get(entry.operation, declared.asks_retry or RetryPolicy())
        told.due = entry.due_at
        if entry.operation != "action" or told.crashed:
            return
        self.require(entry.attempt <= policy.attempts_max, "R1", f"{entry} is one too many")
        if policy.budget_seconds is not None and entry.due_at > entry.at:
            end = told.first_at + policy.budget_seconds * SECOND
            self.require(entry.due_at <= end, "R1", f"{entry} is beyond its budget")
        if self.program.timeout_scope == "transaction" and entry.due_at > entry.at:
            end = T0 + TIMEOUT_SECONDS * SECOND
            self.require(entry.due_at <= end, "D1", f"{entry} is beyond the deadline")

    def _on_probe_started(self, entry, _index, told):
        self.require(told.doubt, "I13", f"{entry} about what is certain")
        self._not_too_early(entry, told)

    def _on_probe_answered(self, entry, _index, told):
        if entry.answer == "unknown":
            told.asked = not entry.will_retry
            return
        told.doubt = False
        if entry.answer == "done":
            told.account()
        told.may_be_done = entry.answer == "done"
        told.is_failed = not told.may_be_done
        if told.is_failed:
            told.is_open = False

    def _on_call_returned_late(self, entry, index, told):
        if entry.operation != "action":
            told.undo_left.discard(entry.attempt)
            return
        told.left.pop(entry.attempt, None)
        told.answered.add(entry.attempt)
        if entry.attempt in told.accounted:
            return
        if entry.outcome == "succeeded":
            if (told.doubt or told.runs) and not self.goes_back:
                told.late_success = True
            elif told.doubt and not told.undos:
                told.doubt, told.due = False, None
            elif told.is_failed or told.undos:
                told.acted_late = True
                self.begun.add(index)
                told.is_stuck = told.is_stuck or (self._halts() and not told.is_open)
        elif entry.outcome == "not_done" and entry.attempt == told.starts == 1:
            if told.doubt and not told.undos:
                told.doubt = told.may_be_done = told.is_open = False
                told.is_failed, told.due = True, None
            elif told.is_undone:
                told.is_stuck = False

    def _halts(self):
        halts = self.program.on_compensation_failure == "halt"
        return halts and self.ran and self.goes_back and not self.has_ended

    def _on_rollback_started(self, entry):
        self.goes_back, self.reason = True, entry.reason
        self.begun = set()
        for index, (told, step) in enumerate(zip(self.told, self.program.steps, strict=True)):
            told.due = None
            if told.doubt and told.late_success:
                told.doubt = False
            told.is_open = step.undo and (told.may_be_done or not self.ran)
            if told.is_failed and told.acted_late:
                told.is_stuck = self._halts()
                self.begun.add(index)

    def _on_rollback_revoked(self, entry, index, told):
        self.require(self.may_revoke(index), "D3", f"{entry} is too late")
        told.revoked = told.may_be_done = True
        told.doubt = told.by_person = False
        self.goes_back = False
        # Whatever goes on tries again what was rejected, too: there is no other way on.
        self.world.rejected.clear()
        for other in self.told:
            other.is_open = False

    def may_revoke(self, index):
        """Tell whether the undo of a step may answer `Continue`."""
        told = self.told[index]
        return (
            self.goes_back
            and not self.has_ended
            and self.reason in ("step_failed", "in_doubt")
            and not self.requested
            and self.begun == {index}
            and not told.revoked
            and not told.left
            and not told.undo_left
            and not told.acted_late
            and not self._must_go_back()
        )

    def _must_go_back(self):
        """Tell whether recovery has it, and would not have let it go forward."""
        if self.taken_over_at is None:
            return False
        late = self.taken_over_at > T0 + TIMEOUT_SECONDS * SECOND
        policy = self.program.on_crash
        return policy == "roll_back" or (policy is None and late)

    def _on_compensation_started(self, entry, index, told):
        self.require(self.goes_back, "I3", f"{entry} without a rollback")
        behind = self.program.behind(index)
        blocking = {i for i in behind if self.told[i].is_open or self.told[i].is_stuck}
        self.require(not blocking, "I3", f"{entry} before the undo of {blocking}")
        declared = self.program.steps[index]
        asked = not told.doubt or declared.probe is None or told.asked
        self.require(asked, "C4", f"{entry} before the probe was asked")
        self.require(entry.in_doubt == told.doubt, "I13", f"{entry}: in_doubt is wrong")
        if told.left and not told.undos:
            until = told.doubt_at + declared.abandon_after_seconds * SECOND
            self.require(entry.at >= until, "C5", f"{entry} does not wait for {told.left}")
        self._not_too_early(entry, told)
        told.undos += 1
        self.begun.add(index)
        told.may_continue = self.may_revoke(index)

    def _on_compensation_succeeded(self, entry, index, told):
        if self.program.steps[index].verify is None or not self.ran or entry.simulated:
            self._close(told)

    def _on_verification_started(self, entry, _index, told):
        self._not_too_early(entry, told)

    def _on_verification_answered(self, entry, _index, told):
        if entry.answer == "residue":
            told.is_open, told.is_stuck = False, self._halts()
        elif not entry.will_retry:
            self._close(told)

    def _close(self, told):
        told.is_open, told.is_undone = False, True
        if told.left or told.acted_late:
            told.is_stuck = self._halts()

    def _on_compensation_failed(self, entry, _index, told):
        if entry.left_behind:
            told.undo_left.add(entry.attempt)
        if not entry.will_retry:
            told.is_open, told.is_stuck = False, self._halts()

    def _on_step_outstanding(self, _entry, index, told):
        self.begun.add(index)
        told.is_open, told.is_stuck = False, self._halts()

    def _on_transaction_rolled_back(self, _entry):
        left = [i for i, told in enumerate(self.told) if told.is_open or told.is_stuck]
        self.require(not left, "I2", f"ends with {left} not undone")
        self.has_ended = True

    def _on_transaction_committed(self, _entry):
        sure = all(told.may_be_done and not told.doubt for told in self.told)
        self.require(sure, "I2", "commits over what is not done")
        self.has_committed = True

    # ---------------------------------------------------------------------------------- the calls

    def call(self, context):
        """Judge one call of a handler, before it has an effect."""
        index = number_of(context.step_id)
        what = f"{context.operation} of step {context.step_id}, attempt {context.attempt}"
        intents = {
            "action": "StepStarted",
            "compensation": "CompensationStarted",
            "probe": "ProbeStarted",
            "verification": "VerificationStarted",
        }
        last = self.last.get(index)
        intended = kind_of(last) == intents[context.operation] and last.attempt == context.attempt
        self.require(intended, "I1", f"{what} is called behind {last}")
        self._key(context, index, what)
        self.require(not self.has_committed, "I8", f"{what} is called behind the commit")
        if context.operation == "action":
            self._action(index, what)
        elif context.operation == "compensation":
            self._undo(context, index, what)
        elif context.operation == "verification":
            self.require(self.told[index].undos > 0, "C7", f"{what} before the undo")

    def _key(self, context, index, what):
        keys = self.world.keys
        known = keys.setdefault((context.operation, index), context.idempotency_key)
        self.require(known == context.idempotency_key, "I9", f"{what} has another key")
        self.require(len(set(keys.values())) == len(keys), "I9", f"{what} has another's key")
        forward = keys.get(("action", index), context.forward_key)
        self.require(context.forward_key == forward, "I9", f"{what}: forward_key is wrong")

    def _action(self, index, what):
        self.require(not self.goes_back, "I4", f"{what} is called while going back")
        wished = index in self.world.wished
        if not self.program.steps[index].idempotent and not wished:
            twice = index in self.world.standing or self.world.may_act_yet(index)
            self.require(not twice, "I5", f"{what} is called twice")
        rejected = index in self.world.rejected and not wished
        self.require(not rejected, "C2", f"{what} is called again after its rejection")
        self.world.wished.discard(index)

    def _undo(self, context, index, what):
        told = self.told[index]
        self.require(context.in_doubt == told.doubt, "I13", f"{what}: in_doubt is wrong")
        self.require(context.ran == self.ran, "D5", f"{what}: ran is wrong")
        if self.ran and not told.doubt and not told.by_person:
            self.require(context.output == {"by": index}, "C5", f"{what} gets {context.output}")
        # Why as of the intent: whatever others have recorded since, nobody has read here yet.
        heard = (told.may_continue, self.may_revoke(index))
        self.require(context.can_continue in heard, "D3", f"{what}: can_continue is wrong")

    # ------------------------------------------------------------------------------------ the end

    def end(self, result):
        """Judge the outcome against the world."""
        steps = self.program.steps
        standing = {i for i in self.world.standing if steps[i].effect != "none"}
        state = result.state.value
        if state == "failed":
            self.require(self.world.calls == [], "I2", "failed, and something ran")
        elif state == "committed":
            effects = {i for i, step in enumerate(steps) if step.effect != "none"}
            self.require(standing >= effects, "I2", f"committed without {effects - standing}")
        else:
            self.require(state == "rolled_back", "I2", f"ends as {state}")
            said = {number_of(item.step_id) for item in result.outstanding}
            said |= {number_of(step_id) for step_id in result.uncompensated}
            said |= {number_of(step_id) for step_id in result.unverified}
            silent = standing - said - self.world.left
            self.require(not silent, "I2", f"{silent} stand and nobody says so")
            if result.clean:
                self.require(standing <= self.world.left, "I12", "clean, and something stands")


@pytest.fixture(scope="session")
def judging():
    """What a simulation is judged by."""
    return SimpleNamespace(Judge=Judge, Violation=Violation)
