"""What a journal has said, as far as the rules ask for it.

Owns: that memory, of a step and of the whole; who else is behind what; and how a violation is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aumai_transactions.core.definition import StepDefinition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aumai_transactions.core.definition import Definition


class StepTold:
    """Hold what a journal has said about one step, as far as the rules ask for it.

    Attributes:
        acted: It may have had an effect: not every attempt is known not to have.
        state: `new`, `running`, `succeeded`, `failed`, `doubt`.
        by_person: A person has said what it is.
        is_closed: Its undo has ended well, or a person has said so.
        is_outstanding: An effect may stand, and a person has to look.
        refused: The attempts that are known not to have done it, by their own answers.
        accounted: The attempts that a probe or a person has said to have done it.
        revoked_undos: How many undos there had been when one of them revoked the rollback.
    """

    __slots__ = (
        "accounted", "acted", "acted_late", "approved", "asked", "attempts", "by_person",
        "confirmed", "definition", "due_at", "is_closed", "is_outstanding", "late_success", "left",
        "left_in_place", "needs", "refused", "returned_late", "revoked_undos", "simulated", "state",
        "undo_asked", "undo_attempts", "undo_running", "unverified", "verifying", "wanted",
    )  # fmt: skip

    def __init__(self, definition: StepDefinition, needs: tuple[str, ...]) -> None:
        self.definition = definition
        self.needs = needs
        self.state = "new"
        self.attempts = 0
        self.undo_attempts = 0
        self.revoked_undos = 0
        self.accounted: set[int] = set()
        self.acted = False
        self.acted_late = False
        self.late_success = False
        self.left: dict[int, str | None] = {}
        self.refused: set[int] = set()
        self.returned_late: set[int] = set()
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


class Told:
    """Hold what one transaction's journal has said.

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
            told = self.steps[entry.step_id] = StepTold(
                StepDefinition(entry.step_id, "", "", {}), ()
            )
        return told

    def behind(self, name: str) -> Iterator[str]:
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

    def _not_early(self, told: StepTold, entry: Any) -> None:
        early = told.due_at is not None and entry.at < told.due_at
        self._require(not early, "C8", f"{type(entry).__name__} of {entry.step_id} is too early")
        told.due_at = None

    def _known_done(self, told: StepTold) -> None:
        told.state, told.acted, told.due_at = "succeeded", True, None
        if told.definition.pivot:
            self.is_decided = True

    def _said_done(self, told: StepTold) -> None:
        """Let a probe or a person have said it; that is the answer of an only call too (C5)."""
        if told.attempts == 1:
            told.accounted.add(1)
            told.left.clear()
        self._known_done(told)

    def _take_late(self, told: StepTold) -> None:
        """Let what is undone begin with an answer that came late and was kept."""
        told.due_at = None
        if told.state == "doubt" and told.late_success:
            told.state = "succeeded"
        if told.state == "failed" and told.acted_late:
            told.is_outstanding = True
