"""The plain model of a program: its steps, its groups, and what has to be in force because of them.

It knows what the law says becomes of a step, and nothing of how the product does it.
"""
# mypy: disable-error-code="arg-type, attr-defined, union-attr, var-annotated"

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from aumai_transactions.errors import OutcomeUnknown, StepInDoubt, StepRejected

WITHOUT_UNDO = {"bare", "read"}


class Thrown(Exception):
    """What a program raises to leave a block."""


@dataclass(eq=False)
class Group:
    """A savepoint or a nested transaction, as the program sees it."""

    kind: str
    name: str
    parent: "Group | None"
    handle: object = None
    is_over: bool = False

    def chain(self):
        return [self, *(self.parent.chain() if self.parent else [])]


@dataclass(eq=False)
class Made:
    """A step as the program sees it: whether it is on, off, in doubt, held or outstanding."""

    spec: dict
    tag: int
    group: Group | None
    before: list = field(default_factory=list)
    status: str = "on"
    stands: bool = True
    is_pivot: bool = False

    @property
    def kind(self):
        return self.spec["kind"]

    @property
    def intent(self):
        names = [group.name for group in reversed(self.group.chain())] if self.group else []
        return self.spec["agent"], tuple(names), self.kind, self.spec["n"]

    @property
    def is_live(self):
        return self.status in ("on", "doubt", "held")


def outcome_of(spec):
    """What becomes of a step: (status, exception, whether it stands) before any undo."""
    kind, forward = spec["kind"], spec["forward"]
    first, second = forward[0], forward[min(1, len(forward) - 1)]
    acted = first == "lost" and kind != "read"
    if first == "ok":
        return "on", None, kind != "read"
    if first in ("reject", "error"):
        return "off", StepRejected if first == "reject" else ValueError, False
    if kind == "read":
        return "off", OutcomeUnknown, False
    if kind == "probe":
        return ("on", None, True) if acted else ("off", OutcomeUnknown, False)
    if kind in ("ask", "bare"):
        return "doubt", StepInDoubt, acted
    if kind == "idempotent":
        if second == "ok" or (second == "reject" and acted):
            return "on", None, True
        if second == "reject":
            return "off", StepRejected, False
        acted = acted or second == "lost"
    return "undone", StepInDoubt, acted


def undo_of(spec):
    """Whether the undo of a step succeeds, and whether its effect is gone then."""
    calls = (spec["back"] * 2)[:2] if len(spec["back"]) == 1 else spec["back"][:2]
    gone = False
    for call in calls:
        gone = gone or call in ("ok", "lost")
        if call == "ok":
            return True, gone
    return False, gone


class Model:
    """What a program has done, and what has to be in force because of it."""

    def __init__(self, *, halts):
        self.made = []
        self.current = None
        self.stack = []
        self.savepoints = []
        self.halts = halts
        self.recorded = {}
        self.is_over = False

    def standing(self):
        return sorted(one.tag for one in self.made if one.stands)

    def live_dependants(self, named):
        """The live steps that depend on these, directly or not, themselves included."""
        found = list(named)
        for one in self.made:
            if one.is_live and one not in found and any(other in found for other in one.before):
                found.append(one)
        return found

    def inside(self, group):
        return [
            one
            for one in self.made
            if one.is_live and one.group is not None and group in one.group.chain()
        ]

    def known(self, made, *, once):
        """The step that answers for an equal one; None where it is carried out."""
        queue = self.recorded.get(made.intent, [])
        while queue:
            one = queue.pop(0)
            if one.is_live:
                return one
        equal = [one for one in self.made if one.is_live and one.intent == made.intent]
        equal = [one for one in equal if once or one.status == "doubt"]
        return equal[-1] if equal else None

    def undo(self, steps):
        """Take steps back; return whether every undo worked."""
        works = True
        for one in reversed(self.made):
            if one not in steps or not one.is_live or one in self.blocked():
                continue
            if one.kind == "read" or one.status == "held":
                one.status, one.stands = "off", False
            elif one.kind in WITHOUT_UNDO and one.status == "on":
                one.status = "left"
            elif one.kind in WITHOUT_UNDO:
                one.status, works = "outstanding", False
            else:
                is_undone, is_gone = undo_of(one.spec)
                works = works and is_undone
                one.status = "off" if is_undone else "outstanding"
                one.stands = one.stands and not (is_undone or is_gone)
        return works

    def whole_back(self):
        """Take everything back; return whether it is final, or halts."""
        self.is_over = True
        while True:
            blocked = self.blocked()
            due = [one for one in self.made if one.is_live and one not in blocked]
            if not due:
                return not blocked
            self.undo(due[-1:])

    def blocked(self):
        """The steps whose undo failed, and what they depend on, where that halts."""
        found = [one for one in self.made if one.status == "outstanding" and self.halts]
        for one in found:
            found += [other for other in one.before if other not in found]
        return found


@pytest.fixture(scope="session")
def plain():
    """What a program is, as its model sees it."""
    return SimpleNamespace(
        Group=Group,
        Made=Made,
        Model=Model,
        Thrown=Thrown,
        outcome_of=outcome_of,
        undo_of=undo_of,
    )
