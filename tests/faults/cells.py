"""What the fault matrix consists of: kinds of actions, faults, directions.

Owns: their names and what each one means. What must follow from them is in `law.py`.
"""

from typing import Literal, NamedTuple

Operation = Literal["action", "undo"]
Direction = Literal["forward", "backward"]


class Kind(NamedTuple):
    """How an action is declared, and what its participant does for it."""

    name: str
    title: str
    idempotent: bool = False
    undo_idempotent: bool = False
    has_probe: bool = False
    has_barrier: bool = False
    keeps_keys: bool = False
    probe_can_tell: bool = True


KINDS = {
    kind.name: kind
    for kind in (
        Kind("nothing", "nothing"),
        Kind(
            "idempotent",
            "idempotent",
            idempotent=True,
            undo_idempotent=True,
            keeps_keys=True,
        ),
        Kind("probe", "probe", has_probe=True),
        Kind("vain_probe", "probe that cannot tell", has_probe=True, probe_can_tell=False),
        Kind("barrier", "barrier", idempotent=True, undo_idempotent=True, has_barrier=True),
        Kind(
            "barrier_probe",
            "barrier, and its probe",
            undo_idempotent=True,
            has_probe=True,
            has_barrier=True,
        ),
    )
}

Happening = Literal[
    "error",  # it answers with an error, and has done nothing
    "refusal",  # it answers no, for good, and has done nothing
    "request_lost",  # nothing arrives, and nobody can know
    "answer_lost",  # it acts, and nobody can know
    "twice",  # the network delivers the call two times
    "silent",  # nothing arrives, and no answer comes: the call times out
    "acts_silent",  # it acts, and the answer does not come in time
    "delayed",  # the call is on its way when it times out, and arrives later
]


class Fault(NamedTuple):
    """What goes wrong with the calls of one operation.

    `always` means every call of it, otherwise the first one; `then` happens to the second one.
    `arrives` is when a delayed call
    arrives: before whatever is sent next, or when everything is over. `again_later` delivers the
    first call of the action once more when everything is over.
    """

    name: str
    column: str
    title: str
    direction: Direction
    happening: Happening | None
    always: bool = False
    then: Happening | None = None
    arrives: Literal["before_next", "at_end"] = "at_end"
    undo_fails: bool = False
    again_later: bool = False

    @property
    def operation(self) -> Operation:
        return "action" if self.direction == "forward" else "undo"

    @property
    def times_out(self) -> bool:
        return self.happening in ("silent", "acts_silent", "delayed")


BEFORE = "fails before the effect"
AFTER = "fails after the effect, before the answer"
IN_UNDO = "fails in the compensation"
TWICE = "delivered twice"
TIMEOUT = "times out"
COLUMNS = (BEFORE, AFTER, IN_UNDO, TWICE, TIMEOUT)


def _forward(name, column, title, happening, **more):
    return Fault(f"forward_{name}", column, title, "forward", happening, **more)


def _backward(name, column, title, happening, **more):
    return Fault(f"backward_{name}", column, title, "backward", happening, **more)


FAULTS = {
    fault.name: fault
    for fault in (
        _forward("error", BEFORE, "it answers with an error", "error"),
        _forward("request_lost", BEFORE, "nobody knows, once", "request_lost"),
        _forward("requests_lost", BEFORE, "nobody knows, each time", "request_lost", always=True),
        _forward(
            "request_lost_refusal",
            BEFORE,
            "nobody knows; called again, it refuses",
            "request_lost",
            then="refusal",
        ),
        _forward("answer_lost", AFTER, "nobody knows, once", "answer_lost"),
        _forward("answers_lost", AFTER, "nobody knows, each time", "answer_lost", always=True),
        _forward(
            "undo_fails",
            IN_UNDO,
            "no answer comes through, and each undo fails",
            "answer_lost",
            always=True,
            undo_fails=True,
        ),
        _forward("twice", TWICE, "at once", "twice"),
        _forward("twice_late", TWICE, "again when all is over", None, again_later=True),
        _forward("silent", TIMEOUT, "it never arrives", "silent"),
        _forward("acts_silent", TIMEOUT, "it acts, the answer is late", "acts_silent"),
        _forward(
            "delayed_little",
            TIMEOUT,
            "it arrives before whatever is sent next",
            "delayed",
            arrives="before_next",
        ),
        _forward("delayed", TIMEOUT, "it arrives when all is over", "delayed"),
        _forward("delayed_all", TIMEOUT, "each arrives when all is over", "delayed", always=True),
        _backward("error", BEFORE, "the undo answers with an error, once", "error"),
        _backward("request_lost", BEFORE, "nobody knows, once", "request_lost"),
        _backward("answer_lost", AFTER, "nobody knows, once", "answer_lost"),
        _backward("undo_fails", IN_UNDO, "each undo fails", "error", always=True),
        _backward("twice", TWICE, "the undo, at once", "twice"),
        _backward("twice_late", TWICE, "the action, after its undo", None, again_later=True),
        _backward("silent", TIMEOUT, "the undo never arrives", "silent"),
        _backward("acts_silent", TIMEOUT, "the undo acts, the answer is late", "acts_silent"),
        _backward("delayed", TIMEOUT, "the undo arrives when all is over", "delayed"),
    )
}


class Cell(NamedTuple):
    """One kind of action under one fault."""

    kind: Kind
    fault: Fault

    @property
    def name(self) -> str:
        return f"{self.fault.name}-{self.kind.name}"

    @classmethod
    def named(cls, name: str) -> "Cell":
        fault, _, kind = name.partition("-")
        return cls(KINDS[kind], FAULTS[fault])


CELLS = {cell.name: cell for cell in (Cell(k, f) for f in FAULTS.values() for k in KINDS.values())}
