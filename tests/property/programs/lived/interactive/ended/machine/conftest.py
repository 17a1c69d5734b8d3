"""Random programs: a state machine that does what a program in a block may do.

Each rule does one thing to the real transaction and to a plain model of it: a list of steps and
whether their effects are in force.
"""
# mypy: disable-error-code="arg-type, attr-defined, redundant-expr, union-attr, var-annotated"

import contextvars

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from aumai_transactions.errors import (
    InvalidTransactionState,
    StepInDoubt,
    StepRejected,
    TransactionNotFinal,
    TransactionRolledBack,
    UndoRefused,
)

KINDS = ["plain", "plain", "idempotent", "probe", "ask", "bare", "read", "reserve"]
FORWARD = [["ok"]] * 6 + [["reject"], ["error"], ["lost"], ["void"]]
FORWARD += [["lost", "ok"], ["void", "ok"], ["void", "reject"], ["lost", "reject"]]
BACK = [["ok"]] * 6 + [["fail", "ok"], ["lost", "ok"], ["fail"]]
SPECS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(KINDS),
        "forward": st.sampled_from(FORWARD),
        "back": st.sampled_from(BACK),
        "n": st.integers(0, 2),
        "agent": st.sampled_from(["ann", "bob"]),
    }
)
NAMES = st.sampled_from(["", "a", "b"])
INDEX = st.integers(0, 9)


def is_open(self):
    return self.is_open()


def has_begun(self):
    return self.has_begun()


class Rules:
    """What a random program may do next."""

    living = None
    plain = None
    path = None
    patience = None
    replays_what_was_undone = False
    """Not yet: a resumed program does not find its steps again in a group of which a part was
    undone or failed, or behind one that was empty."""

    def __init__(self):
        super().__init__()
        self.life = self.living.Life(self.path() if self.path else None)
        self.life.patience = self.patience or self.life.patience
        self.life.look = self.follow
        self.process = self.living.Process(self.life)
        self.context = contextvars.Context()
        self.tx = None
        self.model = None
        self.program = []
        self.asked_for = {}
        self.transaction_id = None
        self.tags = 0
        self.is_replaying = False

    @initialize(on_crash=st.sampled_from(["wait", "wait", None]), halts=st.booleans())
    def begin_first(self, on_crash, halts):
        self.begin(on_crash, halts)

    @precondition(lambda self: self.tx is None and not self.process.is_dead)
    @rule(on_crash=st.sampled_from(["wait", "wait", None]), halts=st.booleans())
    def begin_again(self, on_crash, halts):
        self.begin(on_crash, halts)

    def begin(self, on_crash, halts):
        self.life.forget()
        self.program, self.asked_for = [], {}
        options = {"on_crash": on_crash, "on_compensation_failure": "continue"}
        if on_crash == "wait":
            options["resume_within_seconds"] = 60
        if halts:
            options["on_compensation_failure"] = "halt"
        self.tx = self.process.manager.transaction(**options)
        self.on_crash = on_crash
        self.model = self.plain.Model(halts=halts)
        self.transaction_id = self.tx.transaction_id
        self.life.judged(self.transaction_id)
        self.did(self.tx.__enter__)

    @precondition(is_open)
    @rule(specs=st.tuples(SPECS, SPECS), index=INDEX)
    def execute_behind(self, specs, index):
        """Execute a step that succeeds, and one that depends on a step that has succeeded."""
        self.execute({**specs[0], "forward": ["ok"]}, once=False, after=None)
        if self.is_open():
            self.execute(specs[1], once=False, after=index)

    @precondition(is_open)
    @rule(spec=SPECS, once=st.booleans(), after=st.none() | INDEX)
    def execute(self, spec, once, after):
        self.note("execute", spec, once, after)
        made = self.asked(spec, after)
        known = self.model.known(made, once=once)
        value, error = self.do(lambda: self.call(made, once=once))
        if not self.process.is_dead:
            self.came_of(made, known, value, error)

    def asked(self, spec, after):
        self.tags += 1
        before = [one for one in self.model.made if one.status == "on"]
        before = [before[after % len(before)]] if before and after is not None else []
        made = self.asked_for[self.tags] = self.plain.Made(
            spec, self.tags, self.group_now(), before
        )
        return made

    def call(self, made, *, once=False, gate=None, **options):
        spec = made.spec
        data = {**{name: spec[name] for name in ("n", "forward", "back")}, "tag": made.tag}
        data["gate"] = gate
        after = [self.step_id(one) for one in made.before]
        return self.block.execute(spec["agent"], made.kind, data, once=once, after=after, **options)

    def step_id(self, made):
        self.follow()
        named = [one.step_id for one in self.life.judge.steps.values() if one.tag == made.tag]
        return named[-1]

    def came_of(self, made, known, value, error):
        """Let the model say what became of a step, and see that its program was told so."""
        if known is not None:
            known.group = made.group
            self.expect(error, (StepInDoubt,) if known.status == "doubt" else ())
            if known.status == "doubt" or made.kind == "read":
                return
            by_person = value is None and self.life.judge.has("ResolutionGiven")
            right = by_person or (value is not None and value["tag"] == known.tag)
            self.require(right, "E4", f"the recorded output of {known.tag} is {value}")
            return
        status, raised, stands = self.plain.outcome_of(made.spec)
        made.stands = stands
        self.model.made.append(made)
        if status == "undone":
            self.undone_at_once(made, error)
            return
        made.status = status
        self.expect(error, () if raised is None else (raised,))
        if raised is None:
            self.require(value["tag"] == made.tag, "E4", f"the output of {made.tag} is {value}")
        if raised is StepInDoubt:
            self.require(not error.undone, "I12", f"{error!r} says that it was undone")

    def undone_at_once(self, made, error):
        made.status = "doubt"
        if self.model.undo([made]):
            self.expect(error, (StepInDoubt,))
            self.require(error.undone, "I12", f"{error!r} says that it was not undone")
            return
        self.whole_goes_back(error)

    def whole_goes_back(self, error):
        """A part could not be undone: the whole goes back, and its program is told so."""
        is_final = self.model.whole_back()
        told = (TransactionRolledBack,)
        self.expect(error, told if is_final else (*told, TransactionNotFinal))
        self.leave_all(error)

    @precondition(is_open)
    @rule(name=NAMES, as_block=st.booleans())
    def savepoint(self, name, as_block):
        self.note("savepoint", name, as_block)
        group = self.plain.Group("savepoint", name, self.group_now())
        group.handle = self.did(lambda: self.block.savepoint(name))
        self.model.current = group
        self.model.savepoints.append(group)
        if as_block:
            self.did(group.handle.__enter__)
            self.model.stack.append(group)

    @precondition(is_open)
    @rule(name=NAMES)
    def nest(self, name):
        self.note("nest", name)
        group = self.plain.Group("child", name, self.group_now())
        group.outside = self.model.current
        group.handle = self.did(lambda: self.block.transaction(name))
        self.did(group.handle.__enter__)
        self.model.current = group
        self.model.stack.append(group)

    @precondition(lambda self: self.is_open() and self.model.stack)
    @rule(fails=st.booleans())
    def leave(self, fails):
        self.note("leave", fails)
        group = self.model.stack[-1]
        steps = self.model.inside(group) if fails else []
        refused = set(self.model.live_dependants(steps)) - set(steps)
        error = self.plain.Thrown("it failed") if fails else None
        kind = type(error) if error else None
        _value, raised = self.do(lambda: group.handle.__exit__(kind, error, None))
        if self.process.is_dead:
            return
        is_child = group.kind == "child"
        if is_child and not fails and self.has_doubts(group):
            self.expect(raised, (InvalidTransactionState,))
            self.model.whole_back()
            self.leave_all(raised)
            return
        self.model.stack.pop()
        self.model.current = group.outside if is_child else group.parent
        group.is_over = True
        if refused:
            self.expect(raised, (UndoRefused,))
            return
        if self.model.undo(steps):
            self.expect(raised, ())
            return
        if not self.model.whole_back() and raised is not None:
            self.expect(raised, (TransactionNotFinal,))
        self.leave_all(error)

    def has_doubts(self, group):
        return any(one.status == "doubt" for one in self.model.inside(group))

    @precondition(lambda self: self.is_open() and self.model.savepoints)
    @rule(index=INDEX)
    def rollback_to(self, index):
        self.note("rollback_to", index)
        group = self.model.savepoints[index % len(self.model.savepoints)]
        blocks = [one for one in self.model.stack if one.kind == "child"]
        if any(one.is_over for one in group.chain()) or any(group in one.chain() for one in blocks):
            return  # Why not from inside a nested block: that is over then.
        if any(one.kind == "child" and group in one.chain() for one in self.model.stack):
            return  # It would be over with that, and the program still stands in it.
        if self.waits_for_more(group):
            # Not yet: what was recorded behind it, and is not asked for again yet, is not spared.
            self.rollback("leave")
            return
        self.undo_part(
            self.model.inside(group),
            lambda: self.block.rollback_to(group.handle),
            all_inside=True,
            into=group,
        )

    def waits_for_more(self, group):
        """Whether a resumed program has yet to ask for what it had done in such a group."""
        names = [one.name for one in group.chain()]
        return any(
            one.is_live and one.group is not None and names == self.names_in(one.group, names)
            for queue in self.model.recorded.values()
            for one in queue
        )

    @staticmethod
    def names_in(group, names):
        return [one.name for one in group.chain()][-len(names) :]

    @precondition(lambda self: self.is_open() and self.model.made)
    @rule(index=INDEX, with_dependents=st.booleans())
    def undo(self, index, with_dependents):
        self.note("undo", index, with_dependents)
        live = [one for one in self.model.made if one.is_live]
        if not live:
            return
        step_id = self.step_id(live[index % len(live)])
        self.undo_part(
            [live[index % len(live)]],
            lambda: self.block.undo(step_id, with_dependents=with_dependents),
            all_inside=not with_dependents,
        )

    def undo_part(self, steps, function, *, all_inside, into=None):
        whole = self.model.live_dependants(steps)
        _value, error = self.do(function)
        if self.process.is_dead:
            return
        if all_inside and len(whole) > len(steps):
            self.expect(error, (UndoRefused,))
            return
        if not self.model.undo(whole):
            self.whole_goes_back(error)
            return
        self.expect(error, ())
        if into is not None:
            self.model.current = into

    @precondition(is_open)
    @rule(specs=st.tuples(SPECS, SPECS), swap=st.booleans())
    def parallel(self, specs, swap):
        """Let two agents execute at the same time: both handlers have begun before one ends."""
        first, second = ({**spec, "agent": who} for spec, who in zip(specs, "xy", strict=True))
        if self.is_replaying or any(
            self.plain.outcome_of(one)[0] == "undone" for one in (first, second)
        ):
            self.execute(first, once=False, after=None)
            if self.is_open():
                self.execute(second, once=False, after=None)
            return
        self.note("execute", first, False, None)
        self.note("execute", second, False, None)
        made = [self.asked(first, None), self.asked(second, None)]
        knowns = [self.model.known(one, once=False) for one in made]
        begun = [self.begun(one, known) for one, known in zip(made, knowns, strict=True)]
        for position in (1, 0) if swap else (0, 1):
            gate, ended = begun[position]
            gate.may_go.set()
            value, error = ended()
            if not self.process.is_dead:
                self.came_of(made[position], knowns[position], value, error)

    def begun(self, made, known=None):
        """Let an agent begin a step in its own thread; return its gate, and how to wait for it."""
        gate = self.life.gates[f"g{made.tag}"] = self.living.Gate()
        bound = self.context.run(lambda: self.block.bind(lambda: self.call(made, gate=name)))
        name = f"g{made.tag}"
        ended = self.life.carried_out(bound, context=self.context.copy())
        if known is None and not self.process.is_dead:
            gate.has_come.wait(0 if self.process.is_dead else 5)
            came = gate.has_come.is_set() or self.process.is_dead
            self.require(came, "A", "two steps do not run at the same time")
        return gate, ended

    @precondition(lambda self: self.has_begun() and not self.model.stack)
    @rule(spec=SPECS, wish=st.sampled_from(["savepoint", "commit", "rollback"]))
    def goes_on_under_way(self, spec, wish):
        """Somebody wants to go back, or to commit, while the handler of another agent runs."""
        made = self.asked({**spec, "agent": "x", "forward": spec["forward"][:1]}, None)
        if self.is_replaying or self.model.known(made, once=False):
            return
        if wish == "savepoint":
            self.note("savepoint", "way", False)
        self.note("execute", made.spec, False, None)
        if wish == "savepoint":
            self.note("rollback_to", len(self.model.savepoints))
        watched = {
            "savepoint": "PartialRollbackStarted",
            "commit": "CommitRequested",
            "rollback": "RollbackRequested",
        }[wish]
        savepoint = self.plain.Group("savepoint", "way", self.group_now())
        if wish == "savepoint":
            savepoint.handle = self.did(lambda: self.block.savepoint("way"))
            self.model.current = made.group = savepoint
            self.model.savepoints.append(savepoint)
        gate, ended = self.begun(made)

        def let_go(append):
            if any(type(entry).__name__ == watched for entry in append.entries):
                gate.may_go.set()

        self.process.store.watchers.append(let_go)
        if wish == "savepoint":
            self.undone_under_way(made, savepoint, gate, ended)
            return
        function = self.tx.commit if wish == "commit" else self.tx.rollback
        _value, error = self.do(function)
        gate.may_go.set()
        _other, told = ended()
        if self.process.is_dead:
            return
        self.ended_under_way(made, wish, error, told)

    def undone_under_way(self, made, savepoint, gate, ended):
        _value, error = self.do(savepoint.handle.rollback)
        gate.may_go.set()
        _other, told = ended()
        if self.process.is_dead:
            return
        status, _raised, stands = self.plain.outcome_of(made.spec)
        made.status, made.stands = ("on" if status == "on" else "doubt"), stands
        self.model.made.append(made)
        if status == "off":
            made.status = "off"
            self.expect(error, ())
            self.require(told is not None, "I12", "a step failed, and its program was not told")
        elif self.model.undo([made]):
            self.expect(error, ())
            self.require(told is not None, "I12", "a step was undone, and its program was not told")
        else:
            self.whole_goes_back(error)

    def ended_under_way(self, made, wish, error, told):
        """Commit or roll back was called while a step ran: it is settled first."""
        self.expect(error, ())
        status, _raised, stands = self.plain.outcome_of(made.spec)
        made.status, made.stands = status, stands
        self.model.made.append(made)
        works = True
        if status == "undone":
            made.status = "doubt"
            if wish == "commit":
                works = self.model.undo([made])
        if wish == "rollback" or not works:
            self.model.whole_back()
        went_well = made.status in ("on", "left") or (made.kind == "read" and status == "on")
        self.require(went_well or told is not None, "I12", "its program was told nothing")
        if wish == "commit" and went_well:
            self.expect(told, ())
        self.finish(None if wish == "commit" else self.plain.Thrown("it was rolled back"))

    @precondition(lambda self: self.has_begun() and not self.model.stack)
    @rule(spec=SPECS, forward=st.sampled_from([["ok"], ["reject"], ["lost"], ["void"]]))
    def pivot(self, spec, forward):
        if any(one.status == "doubt" for one in self.model.made) or self.is_replaying:
            return
        made = self.asked({**spec, "kind": "plain", "forward": forward, "n": 9}, None)
        made.is_pivot = True
        _value, error = self.do(lambda: self.call(made, pivot=True))
        if self.process.is_dead:
            return
        self.model.made.append(made)
        raised = {"ok": (), "reject": (StepRejected,)}.get(forward[0], (StepInDoubt,))
        self.expect(error, raised)
        made.status = {"ok": "on", "reject": "off"}.get(forward[0], "doubt")
        made.stands = forward[0] in ("ok", "lost")
        if forward[0] != "reject":
            self.finish(None)

    @precondition(is_open)
    @rule(forward=st.sampled_from([["ok"], ["ok"], ["lost", "ok"], ["error", "ok"], ["reject"]]))
    def hold(self, forward):
        self.held(forward, 100 + len(self.program))

    def held(self, forward, n):
        spec = {"kind": "hold", "forward": forward, "back": ["ok"], "n": n, "agent": "ann"}
        self.note("held", forward, n)
        made = self.asked(spec, None)
        known = self.model.known(made, once=False)
        _value, error = self.do(lambda: self.call(made, on_commit=True))
        if self.process.is_dead:
            return
        self.expect(error, ())
        if known is not None:
            known.group = made.group
            return
        made.status, made.stands = "held", False
        self.model.made.append(made)

    @precondition(has_begun)
    @rule(how=st.sampled_from(["leave", "leave", "call"]))
    def commit(self, how):
        while self.model.stack:
            self.leave(fails=False)
            if not self.is_open():
                return
        if how == "call":
            _value, error = self.do(self.tx.commit)
            if self.process.is_dead:
                return
            self.expect(error, ())
        self.finish(None)

    @precondition(has_begun)
    @rule(how=st.sampled_from(["leave", "call"]))
    def rollback(self, how):
        if how == "call":
            _value, error = self.do(self.tx.rollback)
            if self.process.is_dead:
                return
            self.expect(error, ())
        self.model.whole_back()
        self.leave_all(self.plain.Thrown("it failed"))


@pytest.fixture(scope="session")
def programs_of(living, plain, endings):
    """Make the machine, on memory or in files that a function names."""

    def made(path=None, patience=None):
        found = {"living": living, "plain": plain, "patience": patience}
        found["path"] = path and staticmethod(path)
        return type("Programs", (Rules, endings, RuleBasedStateMachine), found)

    return made
