"""What a program declares, what really happens outside, and any program at all."""
# mypy: disable-error-code="arg-type, attr-defined, union-attr, var-annotated"

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from hypothesis import strategies as st

from aumai_transactions import RetryPolicy

T0 = 1_772_193_600_000_000


@dataclass(frozen=True)
class Step:
    """What is declared about a step, and what its handlers do at each call; the last is repeated.

    forward: `ok`; `fail` (rejected), `error` (not done, another try may help), `later`, `refused`
    (never left the house); `lost` and `late` (done, and the answer is lost), `void` (not done, and
    the answer is lost), `cut` and `cut_void` (likewise, cancelled after a timeout); and calls that
    are left behind after a timeout: `slow` (acts when it returns), `slow_early` (has acted),
    `slow_fail` (never acts, and says so), `slow_lost` (acts, and does not know it), `slow_never`
    (acts at the end of all days, and never returns).
    back: `ok`, `fail`, `later`, `nothing` (says so where nothing stands), `continue`, `slow`,
    `slow_fail`, `lost`, and `residue` (it says that it worked, and it has not).
    probe: None for no probe; `truth`, `unknown`, `error`. verify: likewise.
    """

    after: tuple[int, ...] | None = None
    idempotent: bool = False
    undo: bool = True
    undo_idempotent: bool = True
    on_unknown: str | None = None
    effect: str | None = None
    forward: tuple[str, ...] = ("ok",)
    back: tuple[str, ...] = ("ok",)
    probe: tuple[str, ...] | None = None
    verify: tuple[str, ...] | None = None
    retry: RetryPolicy | None = None
    undo_retry: RetryPolicy | None = None
    asks_retry: RetryPolicy | None = None
    abandon_after_seconds: float = 5.0


@dataclass(frozen=True)
class Program:
    """A plan, and what befalls it.

    `lag` says after how many operations a call that was left behind returns.
    """

    steps: tuple[Step, ...]
    start: str = "commit"
    timeout_scope: str = "start"
    on_crash: str | None = None
    on_compensation_failure: str = "continue"
    kills: tuple[int, ...] = ()
    jumps: tuple[int, ...] = (0,)
    wish: int | None = None
    person: str = "retry"
    lag: int = 5
    draw: float = 0.5
    keyed: bool = False

    def before(self, index):
        """All steps that this one depends on, directly or not."""
        after = self.steps[index].after
        direct = range(index) if after is None else after
        return {*direct, *(far for near in direct for far in self.before(near))}

    def behind(self, index):
        return {other for other in range(len(self.steps)) if index in self.before(other)}


@dataclass
class World:
    """What really happened outside.

    A participant honours the key of an idempotent step: a repeat changes nothing, not even after
    the undo; and once it has rejected a key, or was asked for it by a probe, calls of before
    cannot act any more.
    """

    program: Program
    standing: set = field(default_factory=set)
    applied: set = field(default_factory=set)
    left: set = field(default_factory=set)
    calls: list = field(default_factory=list)
    keys: dict = field(default_factory=dict)
    rejected: set = field(default_factory=set)
    wished: set = field(default_factory=set)
    pending: list = field(default_factory=list)

    def count(self, operation, index):
        return sum(1 for call in self.calls if call == (operation, index))

    def apply(self, index):
        """Let an action have its effect."""
        if not (self.program.steps[index].idempotent and index in self.applied):
            self.standing.add(index)
        self.applied.add(index)

    def tombstone(self, index):
        for call in self.pending:
            if call.index == index and call.operation == "action":
                call.is_dead = True

    def may_act_yet(self, index):
        return any(
            call.index == index and call.operation == "action" and not call.is_dead
            for call in self.pending
        )


FORWARD = ["ok"] * 6 + ["fail", "error", "error", "later", "refused", "lost", "late", "void"]
FORWARD += ["cut", "cut_void", "slow", "slow_early", "slow_fail", "slow_lost", "slow_never"]
BACK = ["ok"] * 5 + ["fail", "later", "nothing", "continue", "slow", "slow_fail", "lost", "residue"]
ANSWERS = ["truth", "truth", "unknown", "error"]
POLICIES = [
    None,
    None,
    RetryPolicy(attempts_max=3, first_delay_seconds=0),
    RetryPolicy(attempts_max=3, first_delay_seconds=0.5),
    RetryPolicy(attempts_max=4, first_delay_seconds=5, delay_factor=1, budget_seconds=8),
    RetryPolicy(attempts_max=2, first_delay_seconds=40, jitter=0),
]


STEPS = {
    "idempotent": [True, False],
    "undo": [True, True, True, False],
    "undo_idempotent": [True, False],
    "on_unknown": [None, None, "ask", "compensate"],
    "effect": [None, None, "none"],
    "forward": FORWARD,
    "back": BACK,
    "probe": ANSWERS,
    "verify": ANSWERS,
    "has_probe": [True, False, False],
    "has_verify": [True, False, False, False],
    "retry": POLICIES,
    "undo_retry": POLICIES,
    "asks_retry": POLICIES,
    "abandon_after_seconds": [0.001, 5, 60],
}
BEHAVIOURS = ("forward", "back", "probe", "verify")


def some_step(draw, index, focus):
    """Draw what is declared about a step; `focus` narrows the choices."""
    after = None
    if not draw(st.booleans()):
        before = st.sets(st.integers(0, index - 1), max_size=2) if index else st.just(())
        after = tuple(sorted(draw(before)))
    found = {"after": after}
    for name, choices in (STEPS | focus).items():
        one = st.sampled_from(choices)
        found[name] = draw(one if name not in BEHAVIOURS else st.lists(one, min_size=1, max_size=3))
    for name in BEHAVIOURS:
        found[name] = tuple(found[name])
    if not found.pop("has_probe"):
        found["probe"] = None
    if not found.pop("has_verify") or not found["undo"]:
        found["verify"] = None
    if found["undo"]:
        found["effect"] = None
    if found["verify"] is None:
        # Why not otherwise: an undo that lies can be found out by nobody else.
        found["back"] = tuple("ok" if one == "residue" else one for one in found["back"])
    return found


@pytest.fixture(scope="session")
def programs():
    """Any program; or one of a narrower choice, so that a mutant is caught sooner."""

    @st.composite
    def some(draw, size_max=4, *, kills_max=4, **focus):
        sizes = st.integers(1, size_max)
        steps = [Step(**some_step(draw, index, focus)) for index in range(draw(sizes))]
        return Program(
            steps=tuple(steps),
            start=draw(st.sampled_from(["commit"] * 9 + ["rollback"])),
            timeout_scope=draw(st.sampled_from(["start", "transaction"])),
            on_crash=draw(st.sampled_from([None, None, "resume", "roll_back"])),
            on_compensation_failure=draw(st.sampled_from(["continue", "halt"])),
            kills=tuple(draw(st.lists(st.integers(1, 40), max_size=kills_max))),
            jumps=tuple(draw(st.lists(st.sampled_from([0, 0, 1, 100]), max_size=kills_max))),
            wish=draw(st.none() | st.integers(2, 60)),
            person=draw(st.sampled_from(["retry", "undone", "left_in_place", "leave"])),
            lag=draw(st.integers(1, 30)),
            draw=draw(st.sampled_from([0.0, 0.5, 1.0])),
            keyed=draw(st.integers(0, 3)) == 0,
        )

    return some


@pytest.fixture(scope="session")
def outside():
    """What a program and its world are made of."""
    return SimpleNamespace(Program=Program, Step=Step, World=World, T0=T0)
