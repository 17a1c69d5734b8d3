"""A plain model of the world outside, and a plain reader of journals that holds them to the law.

`World` is what participants have done, by idempotency key. `Judge` shares no code with the core
but the decoding of entries: it is shown the journal again and again, and asked at each call of a
handler. A violation names the invariant (DESIGN.md section 2) that it breaks.
"""
# mypy: disable-error-code="arg-type, attr-defined, union-attr, var-annotated"

import re
import threading
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from aumai_transactions.core.codec import decode
from aumai_transactions.errors import JournalCorrupt

CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")
INTENTS = {
    "action": "StepStarted",
    "compensation": "CompensationStarted",
    "confirmation": "ConfirmationStarted",
    "probe": "ProbeStarted",
}
REQUESTS = {
    "CommitRequested",
    "RollbackRequested",
    "RetryRequested",
    "ResolutionGiven",
    "ApprovalGiven",
    "ApprovalDenied",
    "PlanRecorded",
}
SAFE = {"idempotent", "hold"}
"""The actions that may run again under the same key."""
WITHOUT_UNDO = {"bare", "hold", "read"}
DECIDED = {"committing", "committed"}


class Violation(Exception):
    """An invariant does not hold."""


def require(holds, invariant, what):
    if not holds:
        raise Violation(f"{invariant}: {what}")


class World:
    """What participants have done: by key, how often it stands.

    A participant honours the key of an idempotent action: a repeat changes nothing, not even
    after its undo.
    """

    def __init__(self):
        self.lock = threading.RLock()
        self.standing = {}
        self.tags = {}
        self.applied = set()
        self.calls = {}
        self.confirmed = set()
        self.total = 0

    def number(self, key):
        """Count a call, and return how many were made under this key before."""
        with self.lock:
            self.total += 1
            self.calls[key] = self.calls.get(key, 0) + 1
            return self.calls[key] - 1

    def apply(self, key, tag, *, is_idempotent):
        with self.lock:
            self.tags[key] = tag
            if not (is_idempotent and key in self.applied):
                self.standing[key] = self.standing.get(key, 0) + 1
            self.applied.add(key)

    def undo(self, key):
        with self.lock:
            self.standing.pop(key, None)

    def in_force(self):
        """The tags of the effects that stand, one for each."""
        with self.lock:
            found = [self.tags[key] for key, times in self.standing.items() for _ in range(times)]
        return sorted(found)


@dataclass
class Told:
    """What the journal has said about one step."""

    step_id: str
    action: str
    tag: int
    before: set = field(default_factory=set)
    groups: tuple = ()
    agent: str = ""
    is_held: bool = False
    is_pivot: bool = False
    state: str = "pending"
    starts: int = 0
    effect: int = 0
    undo_runs: bool = False
    to_undo: bool = False
    last: object = None

    @property
    def is_busy(self):
        asked = kind_of(self.last) in INTENTS.values() and self.state == "doubt"
        return self.state == "running" or self.undo_runs or asked

    @property
    def may_stand(self):
        return self.state in ("done", "doubt", "running")

    @property
    def has_undo(self):
        return self.action not in WITHOUT_UNDO


def kind_of(entry):
    return type(entry).__name__


class Judge:
    """Hold one journal against the invariants, entry by entry and call by call."""

    def __init__(self, transaction_id, world):
        self.transaction_id = transaction_id
        self.world = world
        self.lock = threading.RLock()
        self.bodies = []
        self.entries = []
        self.steps = {}
        self.groups = {}
        self.keys = {}
        self.state = "pending"
        self.token = 0
        self.driver = None
        self.effects = 0
        self.back_requested = self.commit_requested = self.is_parallel = False
        self.going_back = {}
        self.parallel_max = None

    # -------------------------------------------------------------------------------- the journal

    def follow(self, read):
        """Read on; what was read before must stand there unchanged."""
        with self.lock:
            journal = read(self.transaction_id)
            stored = () if journal is None else journal.entries
            known = len(self.bodies)
            before = [(one.body, one.hash) for one in stored[:known]]
            require(before == self.bodies, "I7", "what was durable has gone, or was changed")
            for one in stored[known:]:
                require(one.sequence == len(self.bodies) + 1, "I6", f"a gap before {one.sequence}")
                try:
                    _id, entry = decode(one.body, self.transaction_id, one.sequence)
                except JournalCorrupt as error:
                    raise Violation(f"I11: {error}") from error
                self.bodies.append((one.body, one.hash))
                self.entries.append(entry)
                self._entry(entry)

    def has(self, kind):
        return any(kind_of(entry) == kind for entry in self.entries)

    def _entry(self, entry):
        kind = kind_of(entry)
        step = self.steps.get(getattr(entry, "step_id", None))
        if step is not None and kind in (*INTENTS.values(), *ENDS):
            step.last = entry
        if self.state == "committed" and kind not in (*REQUESTS, "Claimed"):
            raise Violation(f"I8: {kind} follows the commit")
        method = getattr(self, f"_on_{CAPITAL.sub('_', kind).lower()}", None)
        if method is None:
            return
        if step is None or kind in ("RollbackStarted", "PartialRollbackStarted"):
            method(entry)
        else:
            method(entry, step)

    def _on_plan_recorded(self, entry):
        self.is_parallel = entry.definition.parallel_compensation
        known = []
        for step in entry.definition.steps:
            before = known if step.after is None else step.after
            self._add(step, before)
            known.append(step.step_id)

    def _on_claimed(self, entry):
        require(entry.token == self.token + 1, "I6", f"token {entry.token} follows {self.token}")
        self.token, self.driver = entry.token, entry.driver_id
        for step in self.steps.values():
            step.undo_runs = False

    def _on_scope_opened(self, entry):
        scope = entry.scope
        self.groups[scope.scope_id] = (*self.groups.get(scope.parent, ()), scope.scope_id)

    def _on_step_added(self, entry):
        require(self.state == "active", "I4", f"a step is added while it is {self.state}")
        named = {*(entry.step.after or ()), *(item.step_id for item in entry.step.references)}
        self._add(entry.step, named)

    def _add(self, step, before):
        self.steps[step.step_id] = Told(
            step.step_id,
            step.action,
            step.data.get("tag", 0),
            set(before),
            self.groups.get(step.scope_id, ()),
            step.agent_id,
            is_held=step.on_commit,
            is_pivot=step.pivot,
        )

    def _on_transaction_activated(self, _entry):
        self.state = "active"

    def _on_commit_requested(self, _entry):
        self.commit_requested = True

    def _on_rollback_requested(self, _entry):
        self.back_requested = True

    def _on_step_started(self, entry, step):
        if step.is_held:
            require(self.state == "committing", "I8", f"{entry} before the commit point")
        else:
            require(self.state not in DECIDED, "I8", f"{entry} behind the commit point")
            require(self.state == "active", "I4", f"{entry} while it is {self.state}")
        held_back = [group for group in step.groups if self.going_back.get(group)]
        require(not held_back, "I4", f"{entry} while {held_back} goes back")
        if step.state == "doubt":
            require(step.action in SAFE, "I5", f"{entry} runs again, and nobody knows")
        else:
            require(step.state in ("pending", "failed"), "I5", f"{entry} while {step.state}")
        ready = all(self.steps[name].state == "done" for name in step.before)
        require(ready, "I3", f"{entry} before what it depends on is done")
        if step.is_pivot:
            others = [one for one in self.steps.values() if one.state in OPEN and not one.is_held]
            require(others == [step], "I8", f"the pivot starts before {others}")
        step.starts += 1
        step.state = "running"
        running = [one.step_id for one in self.steps.values() if one.state == "running"]
        bound = self.parallel_max or len(running)
        require(len(running) <= bound, "I3", f"{running} run at once, and {bound} may")

    def _on_step_succeeded(self, _entry, step):
        self._done(step)

    def _done(self, step):
        step.state = "done"
        self.effects += 1
        step.effect = self.effects
        self._left(step)

    def _left(self, step):
        """Where nothing undoes a step that was to be undone once it had ended, it is left."""
        is_left = step.action == "read" or (step.state == "done" and not step.has_undo)
        if step.to_undo and is_left and step.state != "running":
            step.state = "left"
            self._ended(step)

    def _on_step_failed(self, entry, step):
        step.state = "pending" if entry.will_retry else "failed"
        self._ended(step)

    def _on_step_in_doubt(self, _entry, step):
        if step.state != "doubt" and not step.effect:
            self.effects += 1
            step.effect = self.effects
        step.state = "doubt"
        self._left(step)

    def _on_probe_answered(self, entry, step):
        if entry.answer == "done":
            self._done(step)
        elif entry.answer == "not_done":
            step.state = "pending" if entry.will_retry else "failed"
            self._ended(step)

    def _on_resolution_given(self, entry, step):
        if entry.answer == "happened":
            self._done(step)
        elif entry.answer == "did_not_happen":
            step.state = "pending" if self.state == "committing" else "failed"
        else:
            step.state = "undone" if entry.answer == "undone" else "left"
        self._ended(step)

    def _on_retry_requested(self, _entry, step):
        if step.state == "outstanding":
            step.state, step.to_undo = "done", True

    def _on_partial_rollback_started(self, entry):
        require(self.state == "active", "I8", f"{entry} while it is {self.state}")
        named = set(entry.step_ids)
        for name in entry.step_ids:
            step = self.steps[name]
            live = [one.step_id for one in self._dependants(name) if one.may_stand]
            require(set(live) <= named, "I3", f"{entry} orphans {live}")
            if step.state == "pending":
                step.state = "skipped"
            else:
                step.to_undo = True
                self._left(step)
        if entry.scope_id is not None:
            self.going_back[entry.scope_id] = {n for n in named if self.steps[n].to_undo}

    def _dependants(self, name):
        return [one for one in self.steps.values() if name in one.before]

    def _on_rollback_started(self, entry):
        require(self.state not in DECIDED, "I8", f"{entry} behind the commit point")
        require(self.state in ("active", "pending"), "I4", f"{entry} while it is {self.state}")
        running = [one.step_id for one in self.steps.values() if one.state == "running"]
        require(not running, "I4", f"{entry} while {running} run")
        self.state = "compensating"
        self.going_back = {}
        for step in self.steps.values():
            step.to_undo = step.may_stand and (step.has_undo or step.state == "doubt")
            if step.action == "read":
                step.to_undo = False

    def _on_compensation_started(self, entry, step):
        require(self.state not in DECIDED, "I8", f"{entry} behind the commit point")
        require(step.to_undo, "I2", f"{entry}, and nobody wants that")
        require(not step.undo_runs, "I5", f"{entry} while it is being undone")
        waiting = [one.step_id for one in self._dependants(step.step_id) if one.to_undo]
        require(not waiting, "I3", f"{entry} before the undo of {waiting}")
        if self.state == "compensating" and not self.is_parallel:
            self._in_order(entry, step)
        step.undo_runs = True

    def _in_order(self, entry, step):
        running = [one.step_id for one in self.steps.values() if one.undo_runs]
        require(not running, "I3", f"{entry} while {running} are being undone")
        if any(name.startswith("c") for one in self.steps.values() for name in one.groups):
            return  # Nested transactions are undone as a unit.
        later = [
            one.step_id
            for one in self.steps.values()
            if one.to_undo and one.effect > step.effect and not self._is_halted(one)
        ]
        require(not later, "I3", f"{entry} before the undo of {later}, which came later")

    def _is_halted(self, step):
        dependants = self._dependants(step.step_id)
        return any(one.state == "outstanding" or self._is_halted(one) for one in dependants)

    def _on_compensation_succeeded(self, _entry, step):
        step.state = "undone"
        self._ended(step)

    def _on_compensation_failed(self, entry, step):
        step.undo_runs = False
        if not entry.will_retry:
            step.state = "outstanding"
            self._ended(step)

    def _on_step_outstanding(self, _entry, step):
        step.state = "outstanding"
        self._ended(step)

    def _ended(self, step):
        step.undo_runs = step.to_undo = False
        for names in self.going_back.values():
            names.discard(step.step_id)

    def _on_commit_decided(self, _entry):
        self._require_settled("the commit is decided")
        self.state = "committing"

    def _on_confirmation_started(self, entry, step):
        require(self.state == "committing", "I8", f"{entry} before the commit point")

    def _on_transaction_committed(self, _entry):
        self._require_settled("it commits")
        held = [one.step_id for one in self.steps.values() if one.state == "pending"]
        require(not held, "I2", f"it commits without {held}")
        self.state = "committed"

    def _require_settled(self, what):
        require(self.state in ("active", "committing"), "I2", f"{what} while {self.state}")
        late = [
            one.step_id
            for one in self.steps.values()
            if one.to_undo or one.state in OPEN or one.state == "outstanding"
            if not (one.is_held and one.state == "pending")
        ]
        require(not late, "I2", f"{what} over {late}")

    def _on_transaction_rolled_back(self, _entry):
        left = [
            one.step_id
            for one in self.steps.values()
            if one.to_undo or (one.may_stand and one.has_undo)
        ]
        require(not left, "I2", f"it ends with {left} not undone")
        self.state = "rolled_back"

    # ---------------------------------------------------------------------------------- the calls

    def call(self, context, read):
        """Judge one call of a handler, before it has an effect; `read` returns the journal."""
        with self.lock:
            self.follow(read)
            what = f"{context.operation} of {context.step_id}, attempt {context.attempt}"
            step = self.steps.get(context.step_id)
            require(step is not None, "I1", f"{what}: the journal does not know it")
            last, intent = step.last, INTENTS[context.operation]
            intended = kind_of(last) == intent and last.attempt == context.attempt
            require(intended, "I1", f"{what} is called behind {last}")
            require(context.token == self.token, "I6", f"{what} acts under another token")
            self._key(context, what)
            if context.operation == "action" and step.action not in SAFE:
                twice = self.world.standing.get(context.idempotency_key)
                require(not twice, "I5", f"{what} acts twice")
            if context.operation == "action" and not step.is_held:
                require(self.state == "active", "I4", f"{what} while it is {self.state}")
            if context.operation == "compensation":
                require(self.state not in DECIDED, "I8", f"{what} behind the commit point")

    def _key(self, context, what):
        own = context.operation, context.step_id
        known = self.keys.setdefault(own, context.idempotency_key)
        require(known == context.idempotency_key, "I9", f"{what} has another key than before")
        others = {key for place, key in self.keys.items() if place != own}
        require(known not in others, "I9", f"{what} has the key of another")
        forward = self.keys.get(("action", context.step_id), context.forward_key)
        require(forward == context.forward_key, "I9", f"{what} has another forward_key")


OPEN = ("pending", "running", "doubt")
ENDS = (
    "StepSucceeded",
    "StepFailed",
    "StepInDoubt",
    "CompensationSucceeded",
    "CompensationFailed",
    "ProbeAnswered",
    "ConfirmationSucceeded",
    "ConfirmationFailed",
)


@pytest.fixture(scope="session")
def lawful():
    """What programs are judged by."""
    return SimpleNamespace(
        Violation=Violation, World=World, Judge=Judge, require=require, kind_of=kind_of
    )
