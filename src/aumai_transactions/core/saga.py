"""What the journal says about one transaction, folded into one object.

Owns: the shape of that object; what each entry does to it is in `evolution.py`.
Rules:
  1. A saga changes only through `evolve`.
  2. No query here is slower for a longer history than for a short one.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from aumai_transactions.core.entries import (
    ErrorRecord,
    InDoubtCause,
    OutstandingReason,
)
from aumai_transactions.core.states import (
    PENDING,
    STEP_PENDING,
)
from aumai_transactions.models import RollbackReason, StepState, TransactionState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aumai_transactions.core.definition import Definition, ScopeDefinition, StepDefinition
    from aumai_transactions.core.entries import ApprovalRequested, StepRequested
    from aumai_transactions.core.isolation import Locks


class IllegalEntry(Exception):
    """Say that an entry cannot follow what the journal says before it."""


ScopeState = Literal["open", "released", "rolled_back"]
Restored = Literal["held", "trusted"]


class SagaStep:
    """Hold what the journal says about one step.

    `unrecorded` says that what it returned is no JSON, so that its output is not known.
    `due_at` is when its next call may begin, whichever that is, where it has to wait. `probe_base`
    and `verify_base` are how many such calls had been made before the present question came up.
    `left_behind` holds the attempts that were given up and may act or answer yet, with the driver
    in whose threads they go on; `late_attempts` those that have answered since, `late_output` what
    one of them returned; `accounted` those that a probe or a person has said to be done, so that
    their answer is no news; `refused` those that are known not to have
    acted. `abandoned` says that somebody does not want the undo to wait for such calls any longer.
    `undo_left_behind` holds the attempts of the undo that were given up. `effect_order` counts the
    effects of the transaction in the order in which they took place. `undo_wanted` says that it is
    to be undone as soon as it has ended; `approval` what a person was asked to allow, `approved`
    that it was allowed. `undo_until` is until when it can be undone. `withdrawn` says that it was
    taken back although nothing was to be called for that. `rereading` is known here alone: what it
    had read is being looked at again. `traceparent` names the span of its last attempt, which began
    at `attempt_at`, where somebody watched it.
    """

    # Why class attributes: a step sets few of them, and a transaction makes many steps.
    state: StepState = STEP_PENDING
    attempt: int = 0
    undo_attempt: int = 0
    undo_running: bool = False
    to_undo: bool = False
    data: dict[str, Any] | None = None
    output: Any = None
    unrecorded: bool = False
    simulated: bool = False
    doubt: InDoubtCause | None = None
    error: ErrorRecord | None = None
    undo_error: ErrorRecord | None = None
    outstanding: OutstandingReason | None = None
    retry_requested: bool = False
    due_at: int | None = None
    first_at: int = 0
    undo_first_at: int = 0
    doubt_at: int = 0
    probing: bool = False
    probe_attempt: int = 0
    probe_base: int = 0
    probe_first_at: int = 0
    probe_spent: bool = False
    to_verify: bool = False
    verifying: bool = False
    verify_attempt: int = 0
    verify_base: int = 0
    verify_first_at: int = 0
    unverified: bool = False
    left_behind: Mapping[int, str | None] = MappingProxyType({})
    late_attempts: frozenset[int] = frozenset()
    refused: frozenset[int] = frozenset()
    late_output: tuple[Any] | None = None
    accounted: frozenset[int] = frozenset()
    acted_late: bool = False
    undo_left_behind: frozenset[int] = frozenset()
    revoked: bool = False
    abandoned: bool = False
    left_in_place: bool = False
    effect_order: int = 0
    undo_wanted: bool = False
    approval: ApprovalRequested | None = None
    approved: bool = False
    undo_until: int | None = None
    confirm_attempt: int = 0
    confirm_first_at: int = 0
    confirming: bool = False
    confirmed: bool = False
    rereading: bool = False
    scope: Scope | None = None
    fork: str | None = None
    request_id: str | None = None
    withdrawn: bool = False
    traceparent: str | None = None
    attempt_at: int = 0

    def __init__(self, index: int, definition: StepDefinition, unmet: int) -> None:
        self.index = index
        self.definition = definition
        self.dependents: list[int] = []
        self.unmet = unmet

    @property
    def step_id(self) -> str:
        """The step's name within its transaction."""
        return self.definition.step_id

    @property
    def resolved_data(self) -> dict[str, Any]:
        """The step's data, references filled in where they have been."""
        return self.definition.data if self.data is None else self.data


class Scope:
    """Hold a group of steps that can be undone without the rest.

    `state` is `open`; of a nested transaction also `released`, once it has committed into what it
    stands in, and `rolled_back`.
    """

    state: ScopeState = "open"
    reason: RollbackReason | None = None

    def __init__(self, definition: ScopeDefinition, parent: Scope | None) -> None:
        self.definition = definition
        self.parent = parent
        self.children: list[Scope] = []
        self.steps: list[int] = []
        if parent is not None:
            parent.children.append(self)

    def all_steps(self) -> list[int]:
        """Return the indexes of all steps in it and in what stands in it."""
        found = list(self.steps)
        for child in self.children:
            found += child.all_steps()
        return found

    def chain(self) -> list[Scope]:
        """Return it and all that it stands in, the innermost first."""
        found: list[Scope] = [self]
        while found[-1].parent is not None:
            found.append(found[-1].parent)
        return found


class Saga:
    """Hold what the journal says about one transaction.

    `undo` is a stack of step indexes still to be undone, the next one last; `undo_begun` holds
    those whose undo has begun since the rollback began. `waiting` holds, by step index, when its
    next call may begin. `unsettled` counts the steps on which the commit depends and that have not
    ended well, or been dealt with, yet; `undoing` the undos that are under way, `undo_awaits` the
    steps that run and are to be undone once they have ended. `stuck` holds the steps that need a
    person before it can go on, `going_back` the groups that are being undone, `irreversible` the
    added steps before the commit point that nothing undoes. `touched` collects
    the steps that changed since somebody last looked, for whoever keeps a projection. `locks` is
    there only where steps use resources that have to be isolated. `crashes` counts the processes
    that have died of it in a row. `restored` is `held` from when it came out of a backup until a
    person lets it go on, and `trusted` from then until a driver takes it.
    """

    # Why slots: with so many attributes an instance dict is no longer shared, and slow.
    __slots__ = (
        "actions",
        "agents",
        "approvals",
        "awaiting_since",
        "blocked",
        "by_id",
        "by_intent",
        "closing",
        "commit_requested",
        "completed",
        "conflict",
        "crashes",
        "decided_at",
        "deferred",
        "definition",
        "denied",
        "doubtful",
        "driver_id",
        "edges",
        "effect_count",
        "effects",
        "error",
        "failed",
        "failed_step",
        "finished_at",
        "going_back",
        "halted",
        "has_reads",
        "has_tries",
        "irreversible",
        "is_interactive",
        "left_out",
        "locks",
        "named",
        "pivot",
        "ran",
        "ready",
        "reason",
        "refused",
        "rereads",
        "restored",
        "rollback_error",
        "rollback_requested",
        "running",
        "scopes",
        "sequence",
        "started_at",
        "state",
        "step_requests",
        "steps",
        "stuck",
        "taken_over_at",
        "to_confirm",
        "token",
        "touched",
        "transaction_id",
        "undo",
        "undo_awaits",
        "undo_begun",
        "undo_requests",
        "undoing",
        "undone",
        "unsettled",
        "updated_at",
        "waiting",
        "warnings",
        "windows",
    )

    def __init__(self, transaction_id: str) -> None:
        self.transaction_id = transaction_id
        self.definition: Definition | None = None
        self.state: TransactionState = PENDING
        self.sequence: int = 0
        self.token: int = 0
        self.driver_id: str | None = None
        self.agents: tuple[str, ...] = ()
        self.actions: tuple[str, ...] = ()
        self.commit_requested: bool = False
        self.rollback_requested: RollbackReason | None = None
        self.rollback_error: ErrorRecord | None = None
        self.taken_over_at: int | None = None
        self.ran: bool = True
        self.running: int = 0
        self.unsettled: int = 0
        self.undoing: int = 0
        self.undo_awaits: int = 0
        self.effect_count: int = 0
        self.crashes: int = 0
        self.restored: Restored | None = None
        self.is_interactive: bool = False
        self.has_reads: bool = False
        self.has_tries: bool = False
        self.locks: Locks | None = None
        self.pivot: int | None = None
        self.decided_at: int | None = None
        self.denied: tuple[str, str] | None = None
        self.conflict: tuple[str, ErrorRecord | None] | None = None
        self.awaiting_since: int | None = None
        self.reason: RollbackReason | None = None
        self.failed_step: str | None = None
        self.error: ErrorRecord | None = None
        self.started_at: int | None = None
        self.finished_at: int | None = None
        self.updated_at: int = 0
        self._nothing_yet()

    def _nothing_yet(self) -> None:
        """Let there be no step, and nothing to be done."""
        self.steps: list[SagaStep] = []
        self.by_id: dict[str, SagaStep] = {}
        self.edges: list[tuple[int, ...]] = []
        self.ready: list[int] = []
        self.doubtful: dict[int, None] = {}
        self.waiting: dict[int, int] = {}
        self.failed: list[int] = []
        self.effects: list[int] = []
        self.completed: list[int] = []
        self.undo: list[int] = []
        self.undone: list[int] = []
        self.undo_begun: set[int] = set()
        self.halted: set[int] = set()
        self.blocked: set[int] = set()
        self.warnings: list[str] = []
        self.touched: list[int] = []
        self.scopes: dict[str, Scope] = {}
        self.named: dict[str, str] = {}
        self.by_intent: dict[str, list[SagaStep]] = {}
        self.deferred: list[int] = []
        self.left_out: set[int] = set()
        self.irreversible: list[int] = []
        self.to_confirm: list[int] = []
        self.approvals: dict[int, int | None] = {}
        self.windows: dict[int, int] = {}
        self.rereads: dict[int, bool] = {}
        self.stuck: dict[int, None] = {}
        self.closing: dict[int, int] = {}
        self.going_back: set[str] = set()
        self.undo_requests: dict[str, str] = {}
        self.step_requests: dict[str, StepRequested] = {}
        self.refused: dict[str, ErrorRecord] = {}

    def step(self, step_id: str) -> SagaStep:
        """Return the step of this id; refuse one that the plan does not hold."""
        try:
            return self.by_id[step_id]
        except KeyError:
            message = f"it names step {step_id!r}, which the plan does not hold"
            raise IllegalEntry(message) from None

    @property
    def plan(self) -> Definition:
        """The definition; a saga without one has no entries yet."""
        if self.definition is None:
            message = "the journal does not begin with a plan"
            raise IllegalEntry(message)
        return self.definition
