"""The law, written a second time: what must become of one step, and of the world.

It shares no code with the core. A transaction has one step under observation; in the direction
`backward` a second one follows that always refuses. The model walks through it call by call and
append by append, can be killed at each of them, and then goes on as recovery must.

Sources: SEMANTICS B1, B2, C1 to C6, E; DESIGN 2 (I1 to I5, I9) and 3; RELIABILITY 2.5 (P1 to P4).
"""

from copy import deepcopy
from dataclasses import dataclass, field

from tests.faults.cells import Cell, Kind, Operation

RERUNS_MAX = 2  # One call, and one more with the same key (C4), where no retry policy is declared.
IDEMPOTENT_UNDOS_MAX = 5  # C6
PROBES_MAX = 2  # As the kinds that ask in vain declare it.


# What the caller makes of a call that never arrives.
LOST = {"error": "error", "refusal": "no", "request_lost": "unknown", "silent": "timeout"}


class Killed(Exception):
    """The process is dead."""


@dataclass
class Seen:
    """What is compared: the outcome, the attempts in the journal, and the participant's database.

    `arrived` holds the calls in the order in which they reached the participant; `undo?` is an
    undo that was told that nobody knows whether there is anything to undo.
    """

    state: str = "unknown transaction"
    clean: bool | None = None
    outstanding: str | None = None
    actions: int = 0
    undos: int = 0
    probes: int = 0
    arrived: list[str] = field(default_factory=list)
    applied: int = 0
    undone: int = 0

    @property
    def standing(self) -> int:
        return self.applied - self.undone


@dataclass
class Participant:
    """The other side, as a few numbers (RELIABILITY P1 to P4)."""

    kind: Kind
    applied: int = 0
    undone: int = 0
    known: bool = False
    closed: bool = False
    closed_until: int = 0

    def act(self, attempt: int) -> str:
        if self.closed:
            return "no"  # P3
        if self.known and (self.kind.keeps_keys or self.kind.has_barrier):
            return "done"  # P1
        if attempt <= self.closed_until:
            return "no"  # B2
        self.known = True
        self.applied += 1
        return "done"

    def undo(self) -> str:
        if self.kind.has_barrier:
            self.closed = True  # P2: whether or not there was anything to undo.
        if self.applied > self.undone:
            self.undone += 1
        return "done"

    def ask(self, attempt: int) -> str:
        if not self.kind.probe_can_tell:
            return "unknown"
        if self.applied > self.undone:
            return "done"
        self.closed_until = attempt  # B2: what has been sent so far can never act any more.
        return "not done"


@dataclass
class Progress:
    """What the journal says."""

    state: str = "unknown transaction"
    now: str = ""  # The call whose intent is durable, or what is waited for.
    actions: int = 0
    undos: int = 0
    probes: int = 0
    asked: int = 0
    doubt: str | None = None
    has_output: bool = False
    left_behind: int = 0
    late_success: bool = False
    outstanding: str | None = None


class Law:
    """Walk through one cell.

    Args:
        cell: What goes wrong with what.
        leaves_behind: True where a call that times out goes on in its thread (sync handlers).
        kill_at: The process dies at this point, counted from 1; None for never.
        threads_answer: True where left-behind calls are let go on, so that they answer late.
    """

    def __init__(
        self,
        cell: Cell,
        *,
        leaves_behind: bool,
        kill_at: int | None = None,
        threads_answer: bool = True,
    ):
        self.cell, self.kind, self.fault = cell, cell.kind, cell.fault
        self.leaves_behind = leaves_behind
        self.kill_at = kill_at
        self.threads_answer = threads_answer and leaves_behind
        self.points: list[str] = []
        self.left_by: list[str] = []
        self.is_dead = False
        self.world = Participant(cell.kind)
        self.arrived: list[str] = []
        self.sent: list[Operation] = []
        self.first_attempt = 0
        self.refused_late = 0
        self.in_transit: list[tuple[str, int]] = []
        self.s = Progress()
        self.durable = Progress()

    # ------------------------------------------------------------------------------ the whole

    def seen(self) -> Seen:
        try:
            self.carry_out()
        except Killed:
            self.is_dead = True
            self.s = deepcopy(self.durable)
            if self.fault.arrives == "before_next":
                self.deliver()
            self.recover()
        self.end_of_story()
        s = self.s
        final = s.state in ("committed", "rolled_back")
        return Seen(
            state=s.state,
            clean=(final and s.outstanding is None) if s.state != "unknown transaction" else None,
            outstanding=s.outstanding,
            actions=s.actions,
            undos=s.undos,
            probes=s.probes,
            arrived=self.arrived,
            applied=self.world.applied,
            undone=self.world.undone,
        )

    def carry_out(self) -> None:
        self.intent("act")
        self.go_on()

    def go_on(self) -> None:
        while self.s.state == "under way":
            getattr(self, self.s.now)()

    def point(self, name: str) -> None:
        if self.is_dead:
            return
        self.points.append(name)
        left = (self.durable, self.world, self.arrived, self.sent, self.in_transit)
        self.left_by.append(repr(left))
        if len(self.points) == self.kill_at:
            raise Killed

    def append(self, last: str) -> None:
        self.point(f"before {last}")
        self.durable = deepcopy(self.s)
        self.point(f"after {last}")

    def intent(self, now: str) -> None:
        """Journal before act: the intent is durable, with the result of what came before."""
        s = self.s
        s.state, s.now = "under way", now
        if now == "act":
            s.actions += 1
        elif now == "undo":
            s.undos += 1
        elif now == "ask":
            s.probes += 1
            s.asked += 1
        entry = {
            "act": "step_started s1",
            "refuse": "step_started s2",
            "undo": "compensation_started s1",
            "ask": "probe_started s1",
            "wait_for_call": "rollback_started",
            "pause_undo": "retry_scheduled s1",
            "pause_ask": "retry_scheduled s1",
        }[now]
        self.append(entry)

    def end(self, state: str) -> None:
        self.s.state, self.s.now = state, ""
        self.append(f"transaction_{state}")

    def distinct_points(self) -> list[int]:
        """The points to be killed at: of those in a row that leave the same behind, the last."""
        following = [*self.left_by[1:], ""]
        pairs = enumerate(zip(self.left_by, following, strict=True), start=1)
        return [number for number, (left, next_left) in pairs if left != next_left]

    # ------------------------------------------------------------------------------ the calls

    def arrives(self, label: str, attempt: int) -> str:
        self.arrived.append(label)
        if label == "action":
            return self.world.act(attempt)
        return self.world.ask(attempt) if label == "probe" else self.world.undo()

    def deliver(self) -> list[str]:
        waiting, self.in_transit = self.in_transit, []
        return [self.arrives(label, attempt) for label, attempt in waiting]

    def call(self, operation: Operation) -> str:
        """Send a call; return done, no, unknown or timeout."""
        if self.fault.arrives == "before_next":
            self.deliver()
        label, attempt = str(operation), self.s.actions
        if operation == "undo" and self.s.doubt is not None:
            label = "undo?"
        happening = self.happening(operation)
        self.sent.append(operation)
        if operation == "action":
            self.first_attempt = self.first_attempt or attempt
        if self.fault.again_later:
            self.point(f"reached {operation}")
        if happening in LOST:
            return LOST[happening]
        if happening == "delayed":
            self.in_transit.append((label, attempt))
            return "timeout"
        answer = self.arrives(label, attempt)
        if happening == "twice":
            answer = self.arrives(label, attempt)
        return {"answer_lost": "unknown", "acts_silent": "timeout"}.get(happening, answer)

    def happening(self, operation: Operation) -> str:
        if operation == "undo" and self.fault.undo_fails:
            return "error"
        if operation != self.fault.operation or self.fault.happening is None:
            return "well"
        is_first = operation not in self.sent
        if self.fault.then and self.sent.count(operation) == 1:
            return self.fault.then
        return self.fault.happening if is_first or self.fault.always else "well"

    def act(self) -> None:
        answer = self.call("action")
        if answer == "done":
            self.succeeded()
        elif answer in ("no", "error") and self.s.doubt is None:
            self.go_back()
        elif answer == "no" and self.kind.idempotent:
            self.s.doubt = None  # C2: only the participant's own word clears a doubt.
            self.go_back()
        else:
            if answer == "timeout" and self.leaves_behind:
                self.s.left_behind += 1
            self.doubtful("unknown")

    def refuse(self) -> None:
        self.go_back()

    def succeeded(self) -> None:
        self.s.doubt, self.s.has_output = None, True
        if self.fault.direction == "backward":
            self.intent("refuse")
        else:
            self.end("committed")

    # -------------------------------------------------------------------------------- C4

    def doubtful(self, cause: str) -> None:
        self.s.doubt, self.s.asked = cause, 0
        if self.kind.has_probe:
            self.intent("ask")
        else:
            self.run_again_or_go_back()

    def ask(self) -> None:
        if self.fault.arrives == "before_next":
            self.deliver()
        answer = self.arrives("probe", self.s.actions)
        if answer == "done":
            self.succeeded()
        elif answer == "not done":
            crashed = self.s.doubt == "crash"
            self.s.doubt = None
            if crashed:
                self.intent("act")
            else:
                self.go_back()
        elif self.s.asked < PROBES_MAX:
            self.intent("pause_ask")
        else:
            self.run_again_or_go_back()

    def pause_ask(self) -> None:
        self.time_passes()
        self.intent("ask")

    def run_again_or_go_back(self) -> None:
        again = self.s.doubt == "crash" or self.s.actions < RERUNS_MAX
        if self.kind.idempotent and again:
            self.intent("act")
        else:
            self.go_back()

    # ------------------------------------------------------------------------- going back, C5, C6

    def go_back(self) -> None:
        s = self.s
        if s.late_success:
            s.doubt, s.has_output = None, True
        if not s.has_output and s.doubt is None:
            self.end("rolled_back")
        elif s.left_behind:
            self.intent("wait_for_call")
        else:
            self.intent("undo")

    def wait_for_call(self) -> None:
        self.time_passes()
        if self.s.late_success:
            self.s.doubt, self.s.has_output = None, True
        self.intent("undo")

    def time_passes(self) -> None:
        """Where calls that were left behind go on, and were only a little late, they answer now."""
        little = self.fault.arrives == "before_next"
        if not (self.threads_answer and little and self.s.left_behind):
            return
        self.deliver()
        self.s.left_behind = 0
        self.s.late_success = True

    def undo(self) -> None:
        s = self.s
        if self.call("undo") == "done":
            if s.left_behind:
                s.outstanding = "may_still_act"  # C5
            self.end("rolled_back")
        elif s.undos < (IDEMPOTENT_UNDOS_MAX if self.kind.undo_idempotent else 1):
            self.intent("pause_undo")
        else:
            s.outstanding = "failed"
            self.end("rolled_back")

    def pause_undo(self) -> None:
        self.intent("undo")

    # -------------------------------------------------------------------------------- recovery

    def recover(self) -> None:
        s = self.s
        if s.state != "under way":
            return
        if s.now in ("wait_for_call", "pause_ask", "pause_undo"):
            # Its driver had let go of it, so nobody knows that it is dead: its threads may live.
            self.go_on()
            return
        s.left_behind = 0  # The threads died with their process.
        if s.now == "act":
            self.doubtful("crash")
        else:
            self.intent(s.now)  # An undo, a probe, and a step without effect are called again.
        self.go_on()

    # --------------------------------------------------------------------------- when all is over

    def end_of_story(self) -> None:
        if self.fault.again_later and self.first_attempt:
            self.arrives("action", self.first_attempt)
        answers = self.deliver()
        if self.fault.happening == "acts_silent":
            answers = ["done"] * self.s.left_behind
        if self.is_dead or not self.threads_answer or self.fault.operation == "undo":
            return
        for answer in answers:
            self.answers_late(answer)

    def answers_late(self, answer: str) -> None:
        """C5: a late success is never counted; it goes on the operator's list."""
        s = self.s
        if s.state == "committed" or s.undos == 0:
            return
        if answer == "done":
            s.outstanding = "acted_late"
        else:
            self.refused_late += 1
            if s.outstanding == "may_still_act" and self.refused_late == s.actions:
                s.outstanding = None
