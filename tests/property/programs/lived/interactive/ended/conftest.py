"""How a random program ends, or dies, and how it goes on.

After each rule the world must hold what the model says, and nothing else; the journal is held
against the law by the judge, at each call and after each rule. After a death the model is what the
journal says: a step that was under way is settled first. A program that is resumed does everything
that it had done once more, and is answered.
"""
# mypy: disable-error-code="arg-type, attr-defined, has-type, operator, union-attr"

import contextvars

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from aumai_transactions.errors import (
    CommitPointPassed,
    InvalidTransactionState,
    TransactionNotActive,
    TransactionNotFinal,
    TransactionNotFound,
    TransactionRolledBack,
)

STATES = {
    "on": {"done"},
    "off": {"failed", "undone", "skipped", "left", "pending", "done", None},
    "doubt": {"doubt"},
    "held": {"pending"},
    "stuck": {"failed"},
    "left": {"left", "done"},
    "outstanding": {"outstanding"},
}


def is_open(self):
    return self.tx is not None and not self.process.is_dead and not self.model.is_over


def has_begun(self):
    """Whether enough has been done for the end to be worth looking at."""
    return is_open(self) and len(self.program) > 3


class Ends:
    """What random programs have in common: how they are called, how they end, and how they die."""

    def require(self, holds, invariant, what):
        self.life.require(holds, invariant, what)

    def do(self, function, *, context=None):
        """Call what a program calls; return its value and what it raised, None where it died."""
        return self.life.carried_out(function, context=context or self.context)()

    def did(self, function, *expected):
        """Call it; it must raise one of these, or nothing if none is named. False if it died."""
        value, error = self.do(function)
        if self.process.is_dead:
            return False
        self.expect(error, expected)
        return value if value is not None else True

    def expect(self, error, expected):
        if not expected:
            if error is not None:
                raise self.life.violation(f"A: it raises {error!r}") from error
            return
        names = " or ".join(kind.__name__ for kind in expected)
        fits = type(error) in expected
        if not fits:
            message = f"A: it raises {error!r}, not {names}"
            raise self.life.violation(message) from error

    def follow(self):
        if self.life.judge is not None and not self.process.is_dead:
            self.life.judge.follow(self.process.read)

    def note(self, *what):
        if not self.is_replaying:
            self.program.append(what)

    @property
    def block(self):
        """The innermost block: of a nested transaction, or the root's."""
        children = [one.handle for one in self.model.stack if one.kind == "child"]
        return children[-1] if children else self.tx

    def group_now(self):
        children = [one for one in self.model.stack if one.kind == "child"]
        current = self.model.current
        if not children or (current is not None and children[-1] in current.chain()):
            return current
        return children[-1]

    def is_open(self):
        return is_open(self)

    def has_begun(self):
        return has_begun(self)

    def leave_all(self, error):
        """Let an exception leave every block."""
        for group in reversed(self.model.stack):
            self.do(lambda group=group: group.handle.__exit__(type(error), error, None))
        self.model.stack = []
        if not self.process.is_dead:
            self.finish(error)

    def finish(self, error):
        """Leave the root's block, and see that what it tells is so."""
        kind = type(error) if error is not None else None
        went_back, self.model.is_over = self.model.is_over, True
        _value, raised = self.do(lambda: self.tx.__exit__(kind, error, None))
        if self.process.is_dead:
            return
        end = self.end_of(went_back=went_back)
        self.follow()
        state = self.life.judge.state
        fits = state == end or (end == "open" and state not in ("committed", "rolled_back"))
        self.require(fits, "I2", f"it is {state}, and should be {end}: {self.tx.result}")
        if error is None:
            told = {"committed": (), "rolled_back": (TransactionRolledBack,)}
            unsettled = (TransactionNotFinal, TransactionNotActive, CommitPointPassed)
            self.expect(raised, told.get(end, unsettled))
        self.check()
        self.see_through()

    def end_of(self, *, went_back):
        """Let the model come to its end; return how it stands then."""
        made = self.model.made
        pivot = next((one for one in made if one.is_pivot and one.status != "off"), None)
        if any(one.status == "doubt" for one in made):
            return "open"
        if went_back and pivot is None:
            halts = self.model.halts and any(one.status == "outstanding" for one in made)
            return "open" if halts else "rolled_back"
        for one in made:
            if one.status != "held":
                continue
            if one.spec["forward"][0] == "reject":
                one.status = "stuck"
                return "open"
            one.status, one.stands = "on", True
        return "committed"

    def see_through(self):
        """Let a person settle what nobody else can; then hold the end against the world."""
        result = None
        for _round in range(30):
            result, error = self.do(lambda: self.process.manager.get_result(self.transaction_id))
            if self.process.is_dead:
                return
            if isinstance(error, TransactionNotFound):
                self.require(not self.life.world.total, "I1", "something ran without a journal")
                break
            self.expect(error, ())
            wish = self.answer_to(result)
            if wish is None:
                self.ended_well(result)
                break
            _value, error = self.do(wish)
            if self.process.is_dead:
                return
            self.expect(error, ())
        else:
            self.require(False, "I2", f"it never ends: {result}")
        self.tx = self.model = None

    def answer_to(self, result):
        """What a person does next; None where nothing is left to be done."""
        manager, world = self.process.manager, self.life.world
        waiting = result.waiting
        doubts = (
            waiting.step_ids if waiting and waiting.reason in ("in_doubt", "committing") else []
        )
        if waiting is not None and not doubts and waiting.reason not in ("halted", "resume"):
            return lambda: manager.wait(self.transaction_id)
        if waiting is not None and waiting.reason == "resume":
            self.life.clock.advance(120)
            return manager.recover
        self.follow()
        if doubts:
            told = self.life.judge.steps[doubts[0]]
            happened = self.life.judge.keys.get(("action", told.step_id)) in world.standing
            answer = "happened" if happened else "did_not_happen"
            if told.state != "doubt":
                answer = "happened" if told.state == "done" else "left_in_place"
            return lambda: manager.resolve(self.transaction_id, doubts[0], answer, note="looked")
        if not result.outstanding:
            return None
        step_id = result.outstanding[0].step_id
        answer = "left_in_place" if self.life.judge.steps[step_id].tag % 2 else "undone"
        if answer == "undone":
            world.undo(self.life.judge.keys.get(("action", step_id)))
        return lambda: manager.resolve(self.transaction_id, step_id, answer, note="by hand")

    def ended_well(self, result):
        """Hold the end against the world: what the journal calls done stands, and nothing else."""
        self.follow()
        judge, world = self.life.judge, self.life.world
        self.require(result.is_final, "I2", f"nothing is left to be done, and it is {result.state}")
        self.require(result.state.value == judge.state, "I7", f"{result.state} is not recorded")
        standing = [
            told.tag
            for told in judge.steps.values()
            if (told.state == "done" and told.action != "read")
            or (told.state == "left" and told.action != "read" and not told.is_held)
        ]
        left = [
            told.tag
            for told in judge.steps.values()
            if told.state == "left" and told.tag not in world.in_force()
        ]
        expected = sorted(tag for tag in standing if tag not in left)
        found = world.in_force()
        self.require(found == expected, "I2", f"{found} are in force instead of {expected}")
        if judge.state == "committed":
            reserved = {
                judge.keys[("action", told.step_id)]
                for told in judge.steps.values()
                if told.action == "reserve" and told.state == "done"
            }
            self.require(reserved <= world.confirmed, "I2", "it commits without confirmations")
        verification, error = self.do(lambda: self.process.manager.verify(self.transaction_id))
        if not self.process.is_dead:
            self.expect(error, ())
            self.require(verification.is_intact, "I11", str(verification.problems))

    # ------------------------------------------------------------------------------- death, and on

    @precondition(lambda self: self.is_open() and self.process.store.doom is None)
    @rule(number=st.integers(1, 16), before=st.booleans())
    def doom(self, number, before):
        self.process.store.doom = number, before

    @precondition(has_begun)
    @rule()
    def crash(self):
        self.process.store.is_dead = True

    @precondition(has_begun)
    @rule(how=st.sampled_from(["recover", "resume"]))
    def rival(self, how):
        """Another process reaches for what a living one has, and gets nothing."""
        self.follow()
        before = len(self.life.judge.bodies)
        other = self.living.Process(self.life)
        manager, context = other.manager, contextvars.Context()
        wish = manager.recover if how == "recover" else lambda: manager.resume(self.transaction_id)
        _value, error = self.life.carried_out(wish, context=context)()
        other.die()
        refused = (InvalidTransactionState, TransactionNotFound)
        self.require(error is None or isinstance(error, refused), "A", f"it raises {error!r}")
        self.follow()
        more = [self.life.judge.entries[at] for at in range(before, len(self.life.judge.bodies))]
        self.require(not more, "I6", f"a rival adds {more} to what a living process has")

    @precondition(lambda self: self.process.is_dead)
    @rule(how=st.sampled_from(["resume", "resume", "recover", "late"]))
    def go_on(self, how):
        """Another process goes on; on SQLite it opens the file anew."""
        for gate in self.life.gates.values():
            gate.may_go.set()
        self.process.die()
        self.context = contextvars.Context()
        self.process = self.living.Process(self.life)
        if self.tx is None:
            return
        self.follow()
        judge = self.life.judge
        decided, wanted = judge.state in ("committing", "committed"), judge.commit_requested
        if how == "late":
            self.life.clock.advance(120)
        if how != "resume":
            self.did(self.process.manager.recover)
            if self.process.is_dead:
                return
            self.follow()
        can_resume = judge.state == "active" and not judge.back_requested and judge.bodies
        if can_resume and self.on_crash == "wait" and how != "late":
            self.resume()
            return
        self.did(self.process.manager.recover)
        if self.process.is_dead:
            return
        self.follow()
        if decided:
            forward = judge.state in ("committing", "committed")
            self.require(forward, "I8", f"its commit was decided, and it is {judge.state}")
        elif not wanted:
            back = judge.state not in ("committing", "committed")
            self.require(back, "I2", "it commits, and nobody asked for that")
        self.model.is_over = True
        self.see_through()

    def resume(self):
        value, error = self.do(lambda: self.process.manager.resume(self.transaction_id))
        if self.process.is_dead:
            return
        self.expect(error, ())
        self.tx = value
        self.did(self.tx.__enter__)
        self.follow()
        self.remember()
        if self.life.judge.state != "active":
            self.model.is_over = True
            self.leave_all(self.plain.Thrown("it has gone back"))
            return
        self.check()
        if any(one.is_pivot and one.status == "doubt" for one in self.model.made):
            self.finish(None)
            return
        if not self.replays_what_was_undone and self.was_undone_in_a_group():
            self.rollback("leave")
            return
        self.is_replaying = True
        for what, *arguments in self.program:
            if self.is_open():
                getattr(self, what)(*arguments)
                self.check()
        self.is_replaying = False

    def was_undone_in_a_group(self):
        judge = self.life.judge
        inside = [one for one in judge.steps.values() if one.groups]
        undone = [one for one in inside if one.state not in ("done", "doubt", "pending")]
        empty = set(judge.groups) - {name for one in inside for name in one.groups}
        return bool(undone or empty)

    def remember(self):
        """Let the model be what the journal says, once everything is settled."""
        model = self.model = self.plain.Model(halts=self.model.halts)
        for told in self.life.judge.steps.values():
            made = self.asked_for[told.tag]
            made.group = None if not told.groups else made.group
            made.status = {
                "done": "on",
                "doubt": "doubt",
                "pending": "held" if told.is_held else "off",
                "left": "off" if told.action == "read" else "left",
                "outstanding": "outstanding",
            }.get(told.state, "off")
            made.stands = made.status in ("on", "left") and made.kind != "read"
            if made.status in ("doubt", "outstanding"):
                key = self.life.judge.keys.get(("action", told.step_id))
                made.stands = key in self.life.world.standing
            model.made.append(made)
            if made.is_live:
                model.recorded.setdefault(made.intent, []).append(made)

    @invariant()
    def check(self):
        """What the model says is in force is in force, and nothing else; and durable."""
        if self.life.violations:
            raise self.life.violations[0]
        if self.process.is_dead or self.model is None:
            return
        self.follow()
        told = {one.tag: one.state for one in self.life.judge.steps.values()}
        for made in self.model.made:
            fits = told.get(made.tag) in STATES[made.status] or made.kind == "read"
            what = f"{made.tag} is {made.status}, and recorded as {told.get(made.tag)}"
            self.require(fits, "I7", what)
        expected = self.model.standing()
        found = self.life.world.in_force()
        self.require(found == expected, "I2", f"{found} are in force instead of {expected}")

    def teardown(self):
        for gate in self.life.gates.values():
            gate.may_go.set()
        self.process.die()
        self.life.close()


@pytest.fixture(scope="session")
def endings():
    return Ends
