"""Random plans: a graph whose steps run at the same time, each when its turn has come.

No handler ends by itself while all goes well: the one who drew the plan lets one go after the
other, in any order, and waits in between until everything is under way that may be. So what runs
at the same time is known, and is held against the graph.
"""
# mypy: disable-error-code="arg-type, attr-defined, union-attr, var-annotated"

import contextvars
import threading
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st

KINDS = ["plain", "plain", "idempotent", "probe", "ask", "bare", "read", "reserve"]
FORWARD = [["ok"]] * 10 + [["reject"], ["lost"], ["void"], ["lost", "ok"], ["void", "reject"]]
BACK = [["ok"]] * 6 + [["fail", "ok"], ["lost", "ok"], ["fail"]]


@dataclass(frozen=True)
class Plan:
    """A graph, its options, and what befalls it."""

    steps: tuple
    parallel_max: int
    is_parallel_back: bool
    halts: bool
    on_crash: str | None
    order: tuple
    doom: tuple | None
    again: tuple | None


@st.composite
def some_plan(draw):
    steps = []
    for index in range(draw(st.integers(1, 5))):
        before = draw(st.sets(st.integers(0, index - 1), max_size=2)) if index else set()
        steps.append(
            {
                "kind": draw(st.sampled_from(KINDS)),
                "forward": draw(st.sampled_from(FORWARD)),
                "back": draw(st.sampled_from(BACK)),
                "after": tuple(sorted(before)),
            }
        )
    death = st.none() | st.tuples(st.integers(1, 12), st.booleans())
    return Plan(
        steps=tuple(steps),
        parallel_max=draw(st.integers(1, 4)),
        is_parallel_back=draw(st.booleans()),
        halts=draw(st.booleans()),
        on_crash=draw(st.sampled_from([None, "resume", "roll_back"])),
        order=tuple(draw(st.lists(st.integers(0, 4), min_size=5, max_size=5))),
        doom=draw(death),
        again=draw(death),
    )


class Carried:
    """Carry out one plan, and hold it against the law at every step."""

    def __init__(self, living, plan, path=None, patience=None):
        self.plan = plan
        self.living = living
        self.life = living.Life(path)
        self.life.patience = patience or self.life.patience
        self.life.look = self.follow
        self.require = self.life.require
        self.order = list(plan.order)
        self.news = threading.Event()

    def run(self):
        self.process = self.process_with(self.plan.doom)
        try:
            self.lived()
        finally:
            for gate in self.life.gates.values():
                gate.may_go.set()
            self.process.die()
            self.life.close()

    def process_with(self, doom):
        process = self.living.Process(self.life, parallel_max=self.plan.parallel_max)
        process.store.doom = doom
        return process

    def lived(self):
        self.tx = self.begun()
        self.process.store.watchers.append(lambda _append: self.news.set())
        ended = self.life.carried_out(
            lambda: self.process.manager.commit(self.tx), context=contextvars.Context()
        )
        self.let_go_in_order()
        _result, error = ended()
        if self.process.is_dead:
            self.go_on()
        else:
            self.require(error is None, "A", f"it raises {error!r}")
        self.see_through()

    def begun(self):
        manager = self.process.manager
        policy = "halt" if self.plan.halts else "continue"
        options = {"on_compensation_failure": policy, "on_crash": self.plan.on_crash}
        tx = manager.begin(60, parallel_compensation=self.plan.is_parallel_back, **options)
        self.transaction_id = tx.transaction_id
        self.life.judged(tx.transaction_id)
        self.life.judge.parallel_max = self.plan.parallel_max
        made = []
        for tag, step in enumerate(self.plan.steps, 1):
            name = f"g{tag}"
            self.life.gates[name] = self.living.Gate()
            data = {"n": tag, "tag": tag, "gate": name}
            data |= {"forward": step["forward"], "back": step["back"]}
            after = [made[index] for index in step["after"]]
            made.append(manager.add_step(tx, "agent", step["kind"], data, after=after))
        return tx

    def let_go_in_order(self):
        """Let handlers end one by one, while as many are under way as may be.

        Once a step has not simply succeeded, no other begins; what is under way ends.
        """
        steps, gates = self.plan.steps, self.life.gates
        done, under_way, goes_well = set(), [], True
        while not self.process.is_dead:
            ready = [
                index
                for index, step in enumerate(steps)
                if index not in done and index not in under_way and done.issuperset(step["after"])
            ]
            new = ready[: self.plan.parallel_max - len(under_way)] if goes_well else []
            self.until(lambda: all(gates[f"g{index + 1}"].has_come.is_set() for index in new))  # noqa: B023
            under_way += new
            if not under_way or self.process.is_dead:
                break
            index = under_way.pop(self.order[len(done) % 5] % len(under_way))
            goes_well = goes_well and steps[index]["forward"][0] == "ok"
            gates[f"g{index + 1}"].may_go.set()
            done.add(index)
            self.until(lambda: self.is_quiet(done))
        for gate in gates.values():
            gate.may_go.set()

    def is_quiet(self, done):
        """Whether all that was let go has ended; or whether it goes back."""
        self.follow()
        told = self.life.judge.steps
        return self.life.judge.state != "active" or not any(
            told[f"s{index + 1}"].is_busy for index in done
        )

    def until(self, holds):
        for _moment in range(int(self.life.patience * 100)):
            if self.process.is_dead or holds():
                return
            if self.life.violations:
                raise self.life.violations[0]
            self.news.wait(0.01)
            self.news.clear()
        self.follow()
        self.require(False, "A", "a step does not run, or end, whose turn has come")

    def go_on(self):
        """Let other processes recover it, until one lives long enough."""
        for doom in (self.plan.again, None):
            self.process.die()
            self.process = self.process_with(doom)
            self.follow()
            _value, error = self.life.carried_out(
                self.process.manager.recover, context=contextvars.Context()
            )()
            if not self.process.is_dead:
                self.require(error is None, "A", f"recover() raises {error!r}")
                return

    def follow(self):
        self.life.judge.follow(self.process.read)

    def see_through(self):
        """Let a person settle what nobody else can; then hold the end against the world."""
        self.process.store.doom, result = None, None
        for _round in range(20):
            self.follow()
            judge = self.life.judge
            if not judge.bodies:
                self.require(not self.life.world.total, "I1", "something ran without a journal")
                return
            manager = self.process.manager
            result = manager.get_result(self.transaction_id)
            waiting = result.waiting
            if waiting is not None and waiting.reason == "in_doubt":
                key = judge.keys.get(("action", waiting.step_ids[0]))
                happened = key in self.life.world.standing
                answer = "happened" if happened else "did_not_happen"
                manager.resolve(self.transaction_id, waiting.step_ids[0], answer, note="looked")
            elif result.outstanding:
                step_id = result.outstanding[0].step_id
                self.life.world.undo(judge.keys.get(("action", step_id)))
                manager.resolve(self.transaction_id, step_id, "undone", note="by hand")
            elif waiting is not None:
                manager.wait(self.transaction_id)
            else:
                self.ended(result)
                return
        self.require(False, "I2", f"it never ends: {result}")

    def ended(self, result):
        self.follow()
        judge = self.life.judge
        self.require(result.state.value == judge.state, "I7", f"{result.state} is not recorded")
        told = judge.steps.values()
        expected = sorted(one.tag for one in told if one.state == "done" and one.action != "read")
        found = self.life.world.in_force()
        self.require(found == expected, "I2", f"{found} are in force instead of {expected}")
        if judge.state == "committed":
            wanted = [i for i, step in enumerate(self.plan.steps, 1) if step["kind"] != "read"]
            self.require(found == wanted, "I2", f"it is committed, and {found} are in force")
        else:
            silent = set(found) - {int(name[1:]) for name in result.uncompensated}
            self.require(not silent, "I12", f"{silent} are in force, and nobody says so")
        verification = self.process.manager.verify(self.transaction_id)
        self.require(verification.is_intact, "I11", str(verification.problems))


@pytest.fixture(scope="session")
def plans():
    return some_plan()


@pytest.fixture(scope="session")
def carry_out(living):
    """Carry out a plan; raise `Violation` where an invariant breaks."""

    def run(plan, path=None, *, patience=None):
        Carried(living, plan, path, patience).run()

    return run
