"""What a journal may say, told again without the core: the invariants of DESIGN.md as checks.

Owns: `JournalRules`, which is told each append of one transaction and names what must not be, and
`LockRules`, which does so for what all transactions hold together. Both need no test runner.
Rules:
  1. Nothing here calls the core or goes by what it has folded: only the plan, the entries and the
     words of the invariants. What is said twice here and there is said by two who do not know
     each other, or a mistake of the one would hide in the other.
  2. What is found is a sentence that begins with the invariant (DESIGN.md section 2) or the rule
     of docs/semantics.md that does not hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aumai_transactions.core import entries as kinds
from aumai_transactions.core.lock_entries import LocksGranted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from aumai_transactions.core.definition import Definition, StepDefinition
    from aumai_transactions.core.entries import Entry

_FACTS = frozenset({*kinds.WITHOUT_TOKEN, kinds.Claimed})
"""What may be recorded of a transaction that has ended, whoever wants nothing of it any more."""

_UNDOES = frozenset(
    {
        kinds.CompensationStarted,
        kinds.CompensationSucceeded,
        kinds.CompensationFailed,
        kinds.VerificationStarted,
        kinds.VerificationAnswered,
        kinds.StepOutstanding,
        kinds.RetryScheduled,
        kinds.UndoRequestRefused,
        kinds.StepRefused,
    }
)
"""What may follow a rollback that has ended, where a person has asked for one more attempt."""

_ENDS = frozenset(
    {kinds.TransactionCommitted, kinds.TransactionRolledBack, kinds.TransactionExpired}
)

IDLE_CLAIMS_MAX = 100
"""How often in a row a transaction may be claimed without any consequence."""


class StepTold:
    """Hold what a journal has said about one step, as far as the rules ask for it.

    Attributes:
        acted: It may have had an effect: not every attempt is known not to have.
        state: `new`, `running`, `succeeded`, `failed`, `doubt`.
        by_person: A person has said what it is.
        is_closed: Its undo has ended well, or a person has said so.
        is_outstanding: An effect may stand, and a person has to look.
    """

    __slots__ = (
        "acted",
        "acted_late",
        "approved",
        "asked",
        "attempts",
        "by_person",
        "confirmed",
        "definition",
        "due_at",
        "is_closed",
        "is_outstanding",
        "late_not_done", "late_success", "left",
        "left_in_place",
        "needs",
        "simulated",
        "state",
        "undo_asked",
        "undo_attempts",
        "undo_running",
        "unverified",
        "verifying",
        "wanted",
    )  # fmt: skip

    def __init__(self, definition: StepDefinition, needs: tuple[str, ...]) -> None:
        self.definition = definition
        self.needs = needs
        self.state = "new"
        self.attempts = 0
        self.undo_attempts = 0
        self.acted = False
        self.acted_late = False
        self.late_not_done = False
        self.late_success = False
        self.left: dict[int, str | None] = {}
        self.asked = False
        self.wanted = False
        self.approved = False
        self.by_person = False
        self.simulated = False
        self.confirmed = False
        self.undo_asked = False
        self.undo_running = False
        self.verifying = False
        self.unverified = False
        self.is_closed = False
        self.is_outstanding = False
        self.left_in_place = False
        self.due_at: int | None = None

    @property
    def is_open(self) -> bool:
        """True where its undo has to end before that of what it depends on may begin."""
        undoes = self.definition.compensating_action is not None
        return undoes and self.acted and not self.is_closed and not self.is_outstanding


def needs_of(definition: Definition) -> list[tuple[str, ...]]:
    """Return for each step of a plan the steps that must have succeeded before it (F1, D14, D15).

    Every step that it waits for is named, not only the nearest.
    """
    found: list[tuple[str, ...]] = []
    plain: list[str] = []
    held: list[str] = []
    for step in definition.steps:
        named = [*(step.after or ()), *(item.step_id for item in step.references)]
        if step.on_commit:
            needs = [*plain, *held, *named]
            held.append(step.step_id)
        else:
            is_behind_all = step.pivot or (step.after is None and definition.shape == "planned")
            needs = [*plain, *named] if is_behind_all else named
            plain.append(step.step_id)
        found.append(tuple(dict.fromkeys(needs)))
    return found


class JournalRules:
    """Hold one transaction's journal against the invariants, append by append.

    Args:
        transaction_id: The transaction.
    """

    def __init__(self, transaction_id: str) -> None:
        self.transaction_id = transaction_id
        self.definition: Definition | None = None
        self.steps: dict[str, StepTold] = {}
        self.token = 0
        self.driver_id: str | None = None
        self.sequence = 0
        self.ended: str | None = None
        self.goes_back = False
        self.was_pending = True
        self.is_decided = False
        self.rollback_wanted = False
        self.commit_wanted = False
        self.going_back: set[str] = set()
        self.held: dict[str, str] = {}
        self._found: list[str] = []
        self._idle_claims = 0

    def append(self, entries: Sequence[Entry], token: int | None) -> list[str]:
        """Take in what was appended; return what is wrong with it.

        Args:
            entries: In order.
            token: The fencing token under which they were appended; None for requests.
        """
        self._found = []
        is_idle = len(entries) == 1 and type(entries[0]) is kinds.Claimed
        self._idle_claims = self._idle_claims + 1 if is_idle else 0
        self._require(
            self._idle_claims < IDLE_CLAIMS_MAX, "L3", "it is claimed again and again for nothing"
        )
        for entry in entries:
            self.sequence += 1
            kind = type(entry)
            if self.definition is None and kind is not kinds.PlanRecorded:
                self._wrong("A1", f"{kind.__name__} stands before the plan")
                break
            if kind not in _FACTS and token != self.token:
                self._wrong("I6", f"{kind.__name__} under token {token}, in force is {self.token}")
            if self.ended is not None:
                self._behind_the_end(entry)
            method = _METHODS.get(kind)
            if method is not None:
                method(self, entry)
        return [f"{self.transaction_id}: {text}" for text in self._found]

    @property
    def is_final(self) -> bool:
        """True once it has ended."""
        return self.ended is not None

    def outstanding(self) -> list[str]:
        """Return the steps of which a person has to say what becomes."""
        return [name for name, told in self.steps.items() if told.is_outstanding]

    def _wrong(self, rule: str, text: str) -> None:
        self._found.append(f"{rule}: entry {self.sequence}: {text}")

    def _require(self, holds: object, rule: str, text: str) -> None:
        if not holds:
            self._wrong(rule, text)

    def _told(self, entry: Any) -> StepTold:
        told = self.steps.get(entry.step_id)
        if told is None:
            self._wrong("A1", f"{type(entry).__name__} names {entry.step_id}, which is no step")
            told = self.steps[entry.step_id] = StepTold(_nobody(entry.step_id), ())
        return told

    def _behind_the_end(self, entry: Entry) -> None:
        kind = type(entry)
        self._require(kind not in _ENDS, "I2", f"{kind.__name__} behind {self.ended}")
        if kind in _FACTS:
            return
        told = self.steps.get(getattr(entry, "step_id", ""))
        is_again = told is not None and (told.undo_asked or told.acted_late)
        allowed = self.ended != "committed" or kind is kinds.StepOutstanding
        self._require(
            kind in _UNDOES and is_again and allowed,
            "I2",
            f"{kind.__name__} behind the end, which nobody asked for",
        )

    # --------------------------------------------------------------------------- the whole

    def _plan(self, entry: kinds.PlanRecorded) -> None:
        self._require(self.was_pending, "D6", "the plan is replaced behind its beginning")
        self._require(not self.commit_wanted, "D21", "what was submitted is replaced")
        definition = self.definition = entry.definition
        self.steps = {
            step.step_id: StepTold(step, needs)
            for step, needs in zip(definition.steps, needs_of(definition), strict=True)
        }

    def _added(self, entry: kinds.StepAdded) -> None:
        self._require(not self.goes_back, "I4", f"{entry.step.step_id} is added while going back")
        references = [item.step_id for item in entry.step.references]
        needs = tuple(dict.fromkeys((*(entry.step.after or ()), *references)))
        self.steps[entry.step.step_id] = StepTold(entry.step, needs)

    def _claimed(self, entry: kinds.Claimed) -> None:
        self._require(entry.token == self.token + 1, "I6", f"token {entry.token} by {self.token}")
        dead, self.driver_id = self.driver_id, entry.driver_id
        self.token = entry.token
        if entry.takeover:
            # What the dead driver had begun to undo is called again, with the same key (C6), and
            # nobody waits for its calls (C5).
            for told in self.steps.values():
                told.undo_running = False
                if dead != entry.driver_id:
                    told.left = {n: who for n, who in told.left.items() if who != dead}

    def _activated(self, _entry: kinds.TransactionActivated) -> None:
        self._require(not self.goes_back, "I4", "it begins while going back")
        self.was_pending = False

    def _commit_requested(self, _entry: kinds.CommitRequested) -> None:
        self.commit_wanted = True

    def _rollback_requested(self, _entry: kinds.RollbackRequested) -> None:
        self.rollback_wanted = True

    def _rollback_started(self, _entry: kinds.RollbackStarted) -> None:
        self._require(not self.is_decided, "I8", "it goes back behind the commit point")
        running = [name for name, told in self.steps.items() if told.state == "running"]
        self._require(not running, "D5", f"it goes back while {running} run")
        self.goes_back = True
        for told in self.steps.values():
            self._take_late(told)
        if self.was_pending:
            # Nothing of it ever ran, and every undo is called all the same (D4).
            for told in self.steps.values():
                told.acted = True

    def _revoked(self, entry: kinds.RollbackRevoked) -> None:
        self._require(self.goes_back, "C12", "a rollback is revoked that has not begun")
        self._require(not self.rollback_wanted, "C12", "a rollback is revoked that was asked for")
        told = self._told(entry)
        self.goes_back = False
        told.undo_running = False
        told.state, told.acted = "succeeded", True

    def _part(self, entry: kinds.PartialRollbackStarted) -> None:
        self._require(not self.is_decided, "I8", "a part goes back behind the commit point")
        self.going_back.update(entry.step_ids)
        for name in entry.step_ids:
            self._take_late(self.steps[name])

    def _decided(self, _entry: kinds.CommitDecided) -> None:
        self._require(not self.goes_back, "I2", "it is decided to commit while going back")
        unsure = [
            name
            for name, told in self.steps.items()
            if not told.definition.on_commit and not self._is_well(told)
        ]
        self._require(not unsure, "I2", f"it is decided to commit over {unsure}")
        self.is_decided = True

    def _committed(self, _entry: kinds.TransactionCommitted) -> None:
        self._require(not self.goes_back, "I2", "it commits while going back")
        unsure = [name for name, told in self.steps.items() if not self._is_well(told)]
        self._require(not unsure, "I2", f"it commits over {unsure}")
        unconfirmed = [
            name
            for name, told in self.steps.items()
            if told.definition.confirming_action is not None
            and told.state == "succeeded"
            and not (told.confirmed or told.is_closed)
        ]
        self._require(not unconfirmed, "D15", f"it commits, and {unconfirmed} are not confirmed")
        self.ended = "committed"

    def _is_well(self, told: StepTold) -> bool:
        """Tell whether the commit may go over a step (D2)."""
        if told.is_outstanding and not told.acted_late:
            return False
        if told.state == "succeeded" or told.is_closed or told.left_in_place:
            return not told.undo_running
        if told.definition.on_commit and told.by_person and told.confirmed:
            return True  # A person says that it happened.
        if told.definition.compensating_action is None and (
            told.definition.step_id in self.going_back
        ):
            return told.state != "running"  # It was given up, and nothing undoes it (D2).
        plan = self.definition
        is_planned = plan is not None and plan.shape == "planned"
        return not is_planned and told.state in ("new", "failed") and not told.acted

    def _rolled_back(self, _entry: kinds.TransactionRolledBack) -> None:
        self._require(self.goes_back, "I2", "it has ended as rolled back, and never went back")
        standing = [name for name, told in self.steps.items() if told.is_open or told.undo_running]
        self._require(not standing, "I2", f"it has ended as rolled back, and {standing} stand")
        silent = [
            name
            for name, told in self.steps.items()
            if told.state == "doubt"
            and not (told.is_closed or told.is_outstanding or told.left_in_place)
            and told.definition.effect != "none"
        ]
        self._require(not silent, "I13", f"it has ended, and nobody knows what {silent} did")
        halts = self.definition is not None and (
            self.definition.on_compensation_failure == "halt" and not self.was_pending
        )
        left = [name for name, told in self.steps.items() if told.is_outstanding]
        undoable = [n for n in left if self.steps[n].definition.compensating_action is not None]
        self._require(not (halts and undoable), "D7", f"it has ended over {undoable}, and halts")
        self.ended = "rolled_back"

    def _expired(self, _entry: kinds.TransactionExpired) -> None:
        started = [name for name, told in self.steps.items() if told.attempts]
        self._require(not started, "D1", f"it has failed at the start, and {started} ran")
        self.ended = "failed"

    # --------------------------------------------------------------------------- one step

    def _started(self, entry: kinds.StepStarted) -> None:
        told, name = self._told(entry), entry.step_id
        self.was_pending = False
        self._require(not self.goes_back, "I4", f"{name} starts while going back")
        self._require(name not in self.going_back, "I4", f"{name} starts, and is being undone")
        self._require(told.state != "running", "I5", f"{name} starts while it runs")
        self._require(told.state != "succeeded", "I5", f"{name} starts, and has succeeded")
        self._require(
            entry.attempt == told.attempts + 1, "I5", f"{name}: attempt {entry.attempt} is next to "
            f"{told.attempts}",
        )  # fmt: skip
        if told.acted:
            safe = told.definition.idempotent or told.wanted
            self._require(safe, "I5", f"{name} starts again, and may have had its effect")
            asked = told.asked or not told.definition.policy.has_probe
            self._require(asked, "C4", f"{name} starts again before its probe was asked")
        unmet = [other for other in told.needs if self.steps[other].state != "succeeded"]
        unmet = [other for other in unmet if not self.steps[other].left_in_place]
        self._require(not unmet, "I3", f"{name} starts before {unmet}")
        self._require(
            told.due_at is None or entry.at >= told.due_at, "C8", f"{name} starts too early"
        )
        self._require(
            told.definition.on_commit == self.is_decided, "D15",
            f"{name} starts on the wrong side of the commit point",
        )  # fmt: skip
        self._allowed(told, name)
        told.attempts += 1
        told.state = "running"
        told.due_at = None
        told.wanted = False

    def _allowed(self, told: StepTold, name: str) -> None:
        definition = told.definition
        if definition.requires_approval:
            self._require(told.approved, "D18", f"{name} starts, and nobody has allowed it")
        plan = self.definition
        if plan is not None and plan.isolation != "none":
            for use in definition.resources:
                needs = use.mode == "exclusive" or plan.isolation == "exclusive"
                has = self.held.get(use.name)
                holds = has == "exclusive" or has == use.mode
                self._require(holds or not needs, "I10", f"{name} starts without {use.name}")
        if definition.pivot:
            busy = [
                other
                for other, one in self.steps.items()
                if one is not told and one.state in ("running", "doubt")
            ]
            self._require(not busy, "D14", f"the pivot {name} starts while {busy} are not settled")

    def _succeeded(self, entry: kinds.StepSucceeded) -> None:
        told, name = self._told(entry), entry.step_id
        runs = told.state == "running" or (entry.simulated and told.state == "new")
        self._require(runs, "I13", f"{name} has succeeded, and did not run")
        self._require(not self.goes_back, "I4", f"{name} has succeeded while going back")
        told.simulated = entry.simulated
        self._known_done(told)

    def _known_done(self, told: StepTold) -> None:
        told.state, told.acted, told.due_at = "succeeded", True, None
        if told.definition.pivot:
            self.is_decided = True

    def _failed(self, entry: kinds.StepFailed) -> None:
        told, name = self._told(entry), entry.step_id
        runs = told.state == "running" or entry.attempt == 0
        self._require(runs, "I13", f"{name} has failed, and did not run")
        if told.acted:
            self._require(
                told.definition.idempotent, "I13", f"{name} has failed, and was in doubt before"
            )
        told.state, told.acted, told.asked = "failed", False, False

    def _in_doubt(self, entry: kinds.StepInDoubt) -> None:
        told = self._told(entry)
        self._require(told.state == "running", "I13", f"{entry.step_id} is in doubt, and idle")
        told.state, told.acted, told.asked = "doubt", True, False
        if entry.left_behind:
            told.left[entry.attempt] = self.driver_id

    def _due(self, entry: kinds.RetryScheduled) -> None:
        self._told(entry).due_at = entry.due_at

    def _probe(self, entry: kinds.ProbeStarted) -> None:
        told = self._told(entry)
        self._require(told.state == "doubt", "C4", f"{entry.step_id} is asked about, and is sure")
        self._not_early(told, entry)

    def _not_early(self, told: StepTold, entry: Any) -> None:
        early = told.due_at is not None and entry.at < told.due_at
        self._require(not early, "C8", f"{type(entry).__name__} of {entry.step_id} is too early")
        told.due_at = None

    def _probed(self, entry: kinds.ProbeAnswered) -> None:
        told = self._told(entry)
        if entry.answer == "done":
            self._known_done(told)
        elif entry.answer == "not_done":
            told.state, told.acted = "failed", False
        else:
            told.asked = not entry.will_retry

    def _late(self, entry: kinds.CallReturnedLate) -> None:
        told = self._told(entry)
        if entry.operation != "action":
            return
        told.left.pop(entry.attempt, None)
        if entry.outcome == "succeeded":
            self._late_success(entry.step_id, told)
        elif entry.outcome == "not_done" and entry.attempt == told.attempts == 1:
            told.late_not_done = True
            if told.state == "doubt" and not told.undo_attempts and self.ended is None:
                told.state, told.acted = "failed", False
            elif told.is_closed:
                told.is_outstanding = False

    def _late_success(self, name: str, told: StepTold) -> None:
        """Take in that a call which had been given up has acted after all (the table of C5)."""
        goes_back = self.goes_back or name in self.going_back
        if told.undo_attempts or told.is_closed or told.state == "failed":
            told.acted_late = told.acted = True
            told.is_outstanding = told.is_closed or goes_back or self.is_final
        elif told.state == "doubt" and goes_back:
            told.state, told.due_at = "succeeded", None
        elif told.state in ("doubt", "running"):
            told.late_success = True

    def _take_late(self, told: StepTold) -> None:
        """Let what is undone begin with an answer that came late and was kept."""
        told.due_at = None
        if told.state == "doubt" and told.late_success:
            told.state = "succeeded"
        if told.state == "failed" and told.acted_late:
            told.is_outstanding = True

    def _person_retries(self, entry: kinds.RetryRequested) -> None:
        told = self._told(entry)
        if told.due_at is not None:
            told.due_at = entry.at
            return
        told.wanted, told.asked = True, False
        told.acted_late = False
        if told.undo_attempts or told.is_outstanding:
            told.undo_asked = True
            if told.definition.compensating_action is not None and self.goes_back:
                told.is_outstanding = False
                told.is_closed = False
                told.acted = True

    def _person_says(self, entry: kinds.ResolutionGiven) -> None:
        told = self._told(entry)
        told.by_person, told.due_at = True, None
        told.is_outstanding = False
        if entry.answer == "happened":
            if told.state == "doubt":
                self._known_done(told)
            told.confirmed = True
        elif entry.answer == "did_not_happen":
            told.state, told.acted = "failed", False
        else:
            told.is_closed = True
            told.left_in_place = entry.answer == "left_in_place"

    def _approval(self, entry: kinds.ApprovalGiven) -> None:
        self._told(entry).approved = True

    # --------------------------------------------------------------------------- the undo

    def _undo_started(self, entry: kinds.CompensationStarted) -> None:
        told, name = self._told(entry), entry.step_id
        goes_back = self.goes_back or name in self.going_back
        self._require(goes_back, "I3", f"{name} is undone, and nothing goes back")
        self._require(not self.is_decided, "I8", f"{name} is undone behind the commit point")
        self._require(not told.undo_running, "I5", f"{name} is undone while it is being undone")
        self._require(
            told.acted or told.acted_late, "I3", f"{name} is undone, and is known not to have acted"
        )
        self._require(not told.is_closed or told.undo_asked, "I5", f"{name} is undone twice")
        before = [other for other in self._behind(name) if self.steps[other].is_open]
        self._require(not before, "I3", f"{name} is undone before {before}")
        if told.state == "doubt" and told.definition.policy.has_probe and not told.undo_attempts:
            self._require(told.asked, "C4", f"{name} is undone before its probe was asked")
        in_doubt = told.state == "doubt"
        self._require(entry.in_doubt == in_doubt, "I13", f"{name}: in_doubt is {entry.in_doubt}")
        self._not_early(told, entry)
        told.undo_running = True
        told.undo_attempts += 1
        told.is_outstanding = False

    def _behind(self, name: str) -> Iterator[str]:
        """Yield every step that depends on this one, directly or through others."""
        known = {name}
        is_new = True
        while is_new:
            is_new = False
            for other, told in self.steps.items():
                if other not in known and not known.isdisjoint(told.needs):
                    known.add(other)
                    is_new = True
                    yield other

    def _undone(self, entry: kinds.CompensationSucceeded) -> None:
        told = self._told(entry)
        runs = told.undo_running or entry.simulated
        self._require(runs, "I13", f"{entry.step_id} is undone, and its undo did not run")
        told.undo_running = False
        if told.definition.policy.has_verify and not self.was_pending and not entry.simulated:
            told.verifying = True
        else:
            self._close(told)

    def _close(self, told: StepTold) -> None:
        told.is_closed, told.verifying, told.undo_asked = True, False, False
        told.is_outstanding = bool(told.left) or told.acted_late

    def _undo_failed(self, entry: kinds.CompensationFailed) -> None:
        told = self._told(entry)
        runs = told.undo_running or entry.attempt == 0
        self._require(runs, "I13", f"the undo of {entry.step_id} has failed, and did not run")
        told.undo_running = False
        if not entry.will_retry:
            told.undo_asked = False
            if self.was_pending:
                told.is_closed = True
            else:
                told.is_outstanding = True

    def _verifying(self, entry: kinds.VerificationStarted) -> None:
        told = self._told(entry)
        self._require(told.verifying, "C13", f"{entry.step_id} is verified, and was not undone")
        self._not_early(told, entry)

    def _verified(self, entry: kinds.VerificationAnswered) -> None:
        told = self._told(entry)
        if entry.answer == "residue":
            told.verifying, told.is_outstanding = False, True
        elif not entry.will_retry:
            told.unverified = entry.answer == "unknown"
            self._close(told)

    def _outstanding(self, entry: kinds.StepOutstanding) -> None:
        told = self._told(entry)
        told.is_outstanding = True
        told.undo_running = False  # It had no handler here.

    # --------------------------------------------------------------------------- confirming, locks

    def _confirming(self, entry: kinds.ConfirmationStarted) -> None:
        told = self._told(entry)
        self._require(self.is_decided, "D15", f"{entry.step_id} is confirmed before the decision")
        done = told.state == "succeeded"
        self._require(done, "D15", f"{entry.step_id} is confirmed, and did not succeed")
        self._not_early(told, entry)

    def _confirmed(self, entry: kinds.ConfirmationSucceeded) -> None:
        self._told(entry).confirmed = True

    def _granted(self, entry: LocksGranted) -> None:
        late = self.goes_back or self.is_decided
        self._require(not late, "G2", "it claims resources behind its decision")
        for grant in entry.grants:
            if self.held.get(grant.name) != "exclusive":
                self.held[grant.name] = grant.mode


def _nobody(step_id: str) -> StepDefinition:
    from aumai_transactions.core.definition import StepDefinition

    return StepDefinition(step_id, "", "", {})


_METHODS: dict[type, Callable[[JournalRules, Any], None]] = {
    kinds.PlanRecorded: JournalRules._plan,  # noqa: SLF001 (this table is a part of it)
    kinds.StepAdded: JournalRules._added,  # noqa: SLF001
    kinds.Claimed: JournalRules._claimed,  # noqa: SLF001
    kinds.TransactionActivated: JournalRules._activated,  # noqa: SLF001
    kinds.CommitRequested: JournalRules._commit_requested,  # noqa: SLF001
    kinds.RollbackRequested: JournalRules._rollback_requested,  # noqa: SLF001
    kinds.RollbackStarted: JournalRules._rollback_started,  # noqa: SLF001
    kinds.RollbackRevoked: JournalRules._revoked,  # noqa: SLF001
    kinds.PartialRollbackStarted: JournalRules._part,  # noqa: SLF001
    kinds.CommitDecided: JournalRules._decided,  # noqa: SLF001
    kinds.TransactionCommitted: JournalRules._committed,  # noqa: SLF001
    kinds.TransactionRolledBack: JournalRules._rolled_back,  # noqa: SLF001
    kinds.TransactionExpired: JournalRules._expired,  # noqa: SLF001
    kinds.StepStarted: JournalRules._started,  # noqa: SLF001
    kinds.StepSucceeded: JournalRules._succeeded,  # noqa: SLF001
    kinds.StepFailed: JournalRules._failed,  # noqa: SLF001
    kinds.StepInDoubt: JournalRules._in_doubt,  # noqa: SLF001
    kinds.RetryScheduled: JournalRules._due,  # noqa: SLF001
    kinds.ProbeStarted: JournalRules._probe,  # noqa: SLF001
    kinds.ProbeAnswered: JournalRules._probed,  # noqa: SLF001
    kinds.CallReturnedLate: JournalRules._late,  # noqa: SLF001
    kinds.RetryRequested: JournalRules._person_retries,  # noqa: SLF001
    kinds.ResolutionGiven: JournalRules._person_says,  # noqa: SLF001
    kinds.ApprovalGiven: JournalRules._approval,  # noqa: SLF001
    kinds.CompensationStarted: JournalRules._undo_started,  # noqa: SLF001
    kinds.CompensationSucceeded: JournalRules._undone,  # noqa: SLF001
    kinds.CompensationFailed: JournalRules._undo_failed,  # noqa: SLF001
    kinds.VerificationStarted: JournalRules._verifying,  # noqa: SLF001
    kinds.VerificationAnswered: JournalRules._verified,  # noqa: SLF001
    kinds.StepOutstanding: JournalRules._outstanding,  # noqa: SLF001
    kinds.ConfirmationStarted: JournalRules._confirming,  # noqa: SLF001
    kinds.ConfirmationSucceeded: JournalRules._confirmed,  # noqa: SLF001
    LocksGranted: JournalRules._granted,  # noqa: SLF001
}
