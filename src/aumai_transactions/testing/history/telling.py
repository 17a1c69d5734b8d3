"""What one journal says, as far as a check asks for it; told without the core's own folding.

Owns: `told_by`, and the rules about one journal alone.
Rules:
  1. Only entries are read, in order. What the core makes of them is what is being checked, so it
     is not asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from aumai_transactions.core import entries as kinds
from aumai_transactions.core.journal import entries
from aumai_transactions.core.lock_entries import Grant, LocksGranted
from aumai_transactions.testing.history.records import Problem

if TYPE_CHECKING:
    from aumai_transactions.core.definition import StepDefinition
    from aumai_transactions.core.entries import Entry
    from aumai_transactions.core.journal import Journal


class JournalRules(Protocol):
    """Judge one journal, append by append, by rules that are finer than these.

    For `told_by`: a function from a transaction id to one of these.
    """

    def append(self, entries: Sequence[Entry], token: int | None) -> list[str]:
        """Take in what was appended; return what is wrong with it.

        Args:
            entries: In order.
            token: The fencing token under which they were appended; None for requests.
        """


class StepTold:
    """Hold what a journal says about one step.

    Attributes:
        definition: How it was declared.
        before: The places of the steps that it depends on, near and far, as a set of bits.
        attempts: The attempts of its action that were announced.
        undo_attempts: Those of its undo.
        is_done: It has succeeded, and nothing has taken that back.
        is_simulated: Nothing was called for it.
        is_undone: Its undo has ended well, and had something to undo.
        is_admitted: That its effect may stand is said openly: it is outstanding, nothing undoes
            it, or a person has answered for it.
    """

    __slots__ = (
        *("attempts", "before", "definition", "is_admitted", "is_done", "is_simulated"),
        *("is_undone", "undo_attempts"),
    )

    def __init__(self, definition: StepDefinition, before: int) -> None:
        self.definition = definition
        self.before = before
        self.attempts: set[int] = set()
        self.undo_attempts: set[int] = set()
        self.is_done = False
        self.is_simulated = False
        self.is_undone = False
        self.is_admitted = definition.compensating_action is None


class JournalTold:
    """Hold what one journal says.

    Attributes:
        transaction_id: Whose it is.
        state: `pending`, `active`, `compensating`, `committing`; in the end `committed`,
            `rolled_back` or `failed`.
        steps: By id, in order.
        grants: The resources that it was granted.
        in_parts: Some of it went back alone, or its way back was revoked.
        entries: How many entries it has.
        problems: What its entries alone show to be wrong.
    """

    __slots__ = (
        *("_token", "entries", "grants", "in_parts", "problems", "state", "steps"),
        "transaction_id",
    )

    def __init__(self, transaction_id: str) -> None:
        self.transaction_id = transaction_id
        self.state = "pending"
        self.steps: dict[str, StepTold] = {}
        self.grants: list[Grant] = []
        self.in_parts = False
        self.entries = 0
        self.problems: list[Problem] = []
        self._token = 0

    @property
    def is_final(self) -> bool:
        """True once it has ended."""
        return self.state in _FINAL

    def tell(self, entry: Entry) -> None:
        """Take in the next entry."""
        self.entries += 1
        kind = type(entry)
        state = _STATES.get(kind)
        if state is not None:
            self._turn(kind, state)
        method = _METHODS.get(kind)
        if method is not None:
            method(self, entry)

    def wrong(self, invariant: str, text: str) -> None:
        """Note something that must not be."""
        place = f"{self.transaction_id}: entry {self.entries}: {text}"
        self.problems.append(Problem(invariant, (self.transaction_id,), place))

    def _turn(self, kind: type[Entry], state: str) -> None:
        if self.state in _FINAL:
            self.wrong("I2", f"it is {state} behind its end, {self.state}")
        if self.state == "committing" and state not in ("committed", "committing"):
            self.wrong("I8", f"it is {state} behind its commit point")
        if self.state == "compensating" and state in ("committed", "committing"):
            self.wrong("I4", f"it is {state} while it goes back")
        if kind is kinds.RollbackRevoked:
            self.in_parts = True
        self.state = state

    def step(self, step_id: str) -> StepTold:
        """Return a step; one that the plan does not hold is a problem, and is made up."""
        found = self.steps.get(step_id)
        if found is None:
            self.wrong("I11", f"it names step {step_id}, which the plan does not hold")
            found = self.steps[step_id] = StepTold(_nobody(step_id), 0)
        return found

    def _plan(self, entry: kinds.PlanRecorded | kinds.TransactionImported) -> None:
        self.steps = {}
        is_planned = entry.definition.shape == "planned"
        for definition in entry.definition.steps:
            self._add(definition, is_planned=is_planned)
        if isinstance(entry, kinds.TransactionImported):
            self.state = entry.state.value
            for told in self.steps.values():
                told.is_admitted = True

    def _add(self, definition: StepDefinition, *, is_planned: bool = False) -> None:
        before = 0
        if definition.after is None and is_planned:
            before = (1 << len(self.steps)) - 1
        else:
            wanted = {*(definition.after or ()), *(item.step_id for item in definition.references)}
            for place, (name, told) in enumerate(self.steps.items()):
                if name in wanted:
                    before |= told.before | 1 << place
        self.steps[definition.step_id] = StepTold(definition, before)

    def _added(self, entry: kinds.StepAdded) -> None:
        self._add(entry.step)

    def _claimed(self, entry: kinds.Claimed) -> None:
        if entry.token != self._token + 1:
            self.wrong("I6", f"token {entry.token} was given after {self._token}")
        self._token = entry.token

    def _started(self, entry: kinds.StepStarted) -> None:
        if self.state in ("compensating", *_FINAL):
            self.wrong("I4", f"{entry.step_id} is begun while it is {self.state}")
        told = self.step(entry.step_id)
        if entry.attempt in told.attempts:
            self.wrong("I5", f"attempt {entry.attempt} of {entry.step_id} is begun twice")
        told.attempts.add(entry.attempt)

    def _succeeded(self, entry: kinds.StepSucceeded) -> None:
        told = self.step(entry.step_id)
        told.is_done, told.is_simulated = True, entry.simulated
        if not entry.simulated and entry.attempt not in told.attempts:
            self.wrong("I13", f"{entry.step_id} has succeeded, and was never begun")

    def _probed(self, entry: kinds.ProbeAnswered) -> None:
        self.step(entry.step_id).is_done |= entry.answer == "done"

    def _revoked(self, entry: kinds.RollbackRevoked) -> None:
        # Why admitted: its undo has answered what is to be taken for its output, whatever stands.
        self.step(entry.step_id).is_admitted = True

    def _part(self, _entry: kinds.PartialRollbackStarted) -> None:
        self.in_parts = True

    def _undo_started(self, entry: kinds.CompensationStarted) -> None:
        if self.state == "active" and not self.in_parts:
            self.wrong("I3", f"{entry.step_id} is undone, and nothing goes back")
        self.step(entry.step_id).undo_attempts.add(entry.attempt)

    def _undone(self, entry: kinds.CompensationSucceeded) -> None:
        told = self.step(entry.step_id)
        told.is_done = False
        told.is_undone = not entry.simulated and entry.note is None

    def _outstanding(self, entry: kinds.StepOutstanding) -> None:
        self.step(entry.step_id).is_admitted = True

    def _answered(self, entry: kinds.ResolutionGiven) -> None:
        told = self.step(entry.step_id)
        told.is_admitted = told.is_admitted or entry.answer != "happened"

    def _undo_failed(self, entry: kinds.CompensationFailed) -> None:
        told = self.step(entry.step_id)
        told.is_admitted = told.is_admitted or not entry.will_retry

    def _verified(self, entry: kinds.VerificationAnswered) -> None:
        told = self.step(entry.step_id)
        told.is_admitted = told.is_admitted or entry.answer != "clean"

    def _late(self, entry: kinds.CallReturnedLate) -> None:
        # Why: what acts after it was given up is put on the operator's list, never undone unasked.
        told = self.step(entry.step_id)
        told.is_admitted = told.is_admitted or entry.outcome != "not_done"

    def _granted(self, entry: LocksGranted) -> None:
        if self.state not in ("pending", "active"):
            self.wrong("I10", f"it is granted resources while it is {self.state}")
        self.grants += entry.grants


def told_by(journal: Journal, rules: Callable[[str], JournalRules] | None = None) -> JournalTold:
    """Return what a journal says, its chain checked.

    Args:
        journal: As the store keeps it.
        rules: Makes finer rules for a transaction, which see the same entries.

    Raises:
        JournalCorrupt: It is damaged; names the entry.
        JournalTooNew: A newer release wrote an entry.
    """
    told = JournalTold(journal.transaction_id)
    if rules is None:
        for _entry_id, entry in entries(journal):
            told.tell(entry)
        return told
    judge = rules(journal.transaction_id)
    token = 0
    for written in _appends(journal):
        for entry in written:
            told.tell(entry)
            if isinstance(entry, kinds.Claimed):
                token = entry.token
        if isinstance(written[0], kinds.TransactionImported):
            continue  # Nothing of it ran here, and there is nothing to judge.
        is_request = all(isinstance(entry, kinds.WITHOUT_TOKEN) for entry in written)
        for text in judge.append(written, None if is_request else token):
            told.problems.append(Problem(_invariant_in(text), (journal.transaction_id,), text))
    return told


def _invariant_in(text: str) -> str:
    """Return the invariant that a sentence like `tx: I5: …` names."""
    parts = text.split(": ", 2)
    return parts[1] if len(parts) == 3 else "I11"


def _appends(journal: Journal) -> Iterator[list[Entry]]:
    """Yield the entries of each append; entry i of it is called `append_id.i`."""
    written: list[Entry] = []
    last = None
    for entry_id, entry in entries(journal):
        name = entry_id.rpartition(".")[0]
        if name != last and written:
            yield written
            written = []
        last = name
        written.append(entry)
    yield written


def _nobody(step_id: str) -> StepDefinition:
    from aumai_transactions.core.definition import StepDefinition

    return StepDefinition(step_id, "", "", {})


_FINAL = ("committed", "rolled_back", "failed")

_STATES: dict[type[Entry], str] = {
    kinds.TransactionActivated: "active",
    kinds.RollbackStarted: "compensating",
    kinds.RollbackRevoked: "active",
    kinds.CommitDecided: "committing",
    kinds.TransactionCommitted: "committed",
    kinds.TransactionRolledBack: "rolled_back",
    kinds.TransactionExpired: "failed",
}

_METHODS: dict[type[Entry], Callable[[JournalTold, Any], None]] = {
    kinds.PlanRecorded: JournalTold._plan,  # noqa: SLF001 (this table is a part of it)
    kinds.TransactionImported: JournalTold._plan,  # noqa: SLF001
    kinds.StepAdded: JournalTold._added,  # noqa: SLF001
    kinds.Claimed: JournalTold._claimed,  # noqa: SLF001
    kinds.StepStarted: JournalTold._started,  # noqa: SLF001
    kinds.StepSucceeded: JournalTold._succeeded,  # noqa: SLF001
    kinds.ProbeAnswered: JournalTold._probed,  # noqa: SLF001
    kinds.RollbackRevoked: JournalTold._revoked,  # noqa: SLF001
    kinds.PartialRollbackStarted: JournalTold._part,  # noqa: SLF001
    kinds.CompensationStarted: JournalTold._undo_started,  # noqa: SLF001
    kinds.CompensationSucceeded: JournalTold._undone,  # noqa: SLF001
    kinds.CompensationFailed: JournalTold._undo_failed,  # noqa: SLF001
    kinds.StepOutstanding: JournalTold._outstanding,  # noqa: SLF001
    kinds.ResolutionGiven: JournalTold._answered,  # noqa: SLF001
    kinds.VerificationAnswered: JournalTold._verified,  # noqa: SLF001
    kinds.CallReturnedLate: JournalTold._late,  # noqa: SLF001
    LocksGranted: JournalTold._granted,  # noqa: SLF001
}
