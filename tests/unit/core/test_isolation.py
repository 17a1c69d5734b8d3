"""How a transaction comes to hold what its steps use, and when it lets go."""

# mypy: disable-error-code="arg-type, assignment, attr-defined, misc"
# mypy: disable-error-code="union-attr, valid-type, var-annotated"

import pytest

from aumai_transactions.core.decider import advance
from aumai_transactions.core.definition import ResourceUse
from aumai_transactions.core.entries import (
    Grant,
    LocksAwaited,
    LocksGranted,
    StepStarted,
    VersionsRead,
)
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.isolation import (
    PARKED_LOOK_SECONDS,
    cost_of,
    fencing_tokens,
    holdings_of,
    reads_in_force,
    reads_to_check,
    waits_of,
)
from aumai_transactions.core.locking import (
    Fence,
    Holding,
    Lock,
    LockTable,
    change_of,
    is_refused,
)
from aumai_transactions.core.observations import LocksSeen
from aumai_transactions.core.outcome import summary_of
from aumai_transactions.core.planning import wake_at
from aumai_transactions.core.saga import IllegalEntry

X, S = "exclusive", "shared"


def uses(*names):
    """Uses as `r` (exclusive) or `+r` (shared)."""
    return tuple(ResourceUse(name.lstrip("+"), S if name[0] == "+" else X) for name in names)


class Shelf:
    """The table of locks, as a store keeps it."""

    def __init__(self):
        self.locks = []
        self.fences = {}
        self._tickets = 0

    def shown(self, names):
        return LockTable(list(self.locks), {name: self.fences.get(name, Fence()) for name in names})

    def refuses(self, name, holdings, reads=()):
        seen = LockTable(self.locks, self.fences)
        return is_refused(seen, name, holdings, reads)

    def put(self, name, holdings):
        change = change_of(LockTable(self.locks), name, holdings)
        self.locks = [lock for lock in self.locks if lock not in change.gone]
        for holding in (*change.granted, *change.queued):
            self._tickets += 1
            self.locks.append(
                Lock(holding[0], holding[1], name, holding[2], self._tickets, holding[3])
            )
        for holding in change.granted:
            version = self.fences.get(holding.resource, Fence()).version
            version = holding.token if holding.mode == X else version
            self.fences[holding.resource] = Fence(holding.token, version)

    def other(self, name, *taken, wants=()):
        """Let another transaction hold, and wait for, all this."""
        holdings = [
            (use.name, use.mode, self.fences.get(use.name, Fence()).token + 1, 0)
            for use in uses(*taken)
        ]
        made = [Holding(*holding) for holding in holdings]
        made += [Holding(use.name, use.mode, None, 5) for use in uses(*wants)]
        self.put(name, made)


def on(base):
    """Return a play of this kind whose store keeps locks."""

    class Locked(base):
        def __init__(self, *steps, shelf=None, **options):
            self.shelf = shelf or Shelf()
            super().__init__(*steps, **options)

        def see(self, *seen):
            saga = self.saga
            entries, calls = advance(saga, seen, self.now, self.parallel_max)
            self.is_in_line = False
            if saga.locks is not None and saga.locks.look:
                table = self.shelf.shown(saga.locks.look)
                more, further = advance(saga, [LocksSeen(table)], self.now, self.parallel_max)
                entries, calls = [*entries, *more], [*calls, *further]
                self.is_in_line = bool(saga.locks.look)
                saga.locks.look.clear()
                saga.locks.checked = False
            holdings = holdings_of(saga)
            reads = reads_to_check(saga, entries)
            assert not self.shelf.refuses("tx", holdings, reads), "a store would refuse that"
            self.shelf.put("tx", holdings)
            self.recorded = [self._short(entry) for entry in entries]
            self.entries += entries
            self.calls = [f"{call.operation}:{call.step.step_id}" for call in calls]
            self.made += self.calls
            self._check_replay()
            if not self.is_in_line:
                self._check_not_stuck()
            return self

        @property
        def holds(self):
            return {lock.resource: lock.mode for lock in self._lines if lock.token is not None}

        @property
        def wants(self):
            return {lock.resource for lock in self._lines if lock.token is None}

        @property
        def _lines(self):
            return [lock for lock in self.shelf.locks if lock.transaction_id == "tx"]

        @property
        def waits_for(self):
            waiting = self.result.waiting
            return None if waiting is None else waiting.reason

    return Locked


@pytest.fixture
def planned(play, make_step):
    """Play a plan: `planned(a=["r"], b=["+s"])`, one step for each name, with what it uses."""

    def make(shelf=None, plan=(), **steps):
        made = [make_step(name, resources=uses(*used)) for name, used in steps.items()]
        return on(play)(*made, shelf=shelf, **dict(plan))

    return make


@pytest.fixture
def interactive(program):
    return on(program)


# ------------------------------------------------------------------------------------- claiming


def test_a_plan_claims_all_that_it_uses_in_order_before_its_first_step(planned):
    it = planned(a=["t"], b=["s", "+r"], c=[]).commit()
    assert it.recorded[-2:] == ["locks_granted", "step_started:a"]
    (granted,) = [entry for entry in it.entries if isinstance(entry, LocksGranted)]
    assert granted.grants == (Grant("r", 1, S), Grant("s", 1), Grant("t", 1))
    assert it.returned("a").recorded == ["step_succeeded:a", "step_started:b"]


def test_of_one_resource_used_in_both_ways_a_plan_holds_the_stronger(planned):
    it = planned(a=["+r"], b=["r"]).commit()
    assert it.holds == {"r": X}
    assert it.calls == ["action:a"]


def test_a_plan_that_uses_nothing_says_nothing_of_locks(planned):
    it = planned(a=[]).commit()
    assert it.saga.locks is None
    assert holdings_of(it.saga) == ()


def test_without_isolation_nothing_is_claimed(planned):
    it = planned(plan={"isolation": "none"}, a=["r"]).commit()
    assert it.calls == ["action:a"]
    assert it.holds == {}


def test_a_plan_waits_until_it_can_have_all_at_once(planned):
    shelf = Shelf()
    shelf.other("b", "s")
    it = planned(shelf, a=["r"], b=["s"]).commit()
    assert it.recorded[-1] == "locks_awaited"
    assert it.calls == []
    assert (it.holds, it.wants) == ({}, {"r", "s"})
    assert it.waits_for == "lock"
    assert it.see().recorded == [], "it has said so already"
    shelf.put("b", ())
    assert it.see().recorded == ["locks_granted", "step_started:a"]
    assert (it.holds, it.wants) == ({"r": X, "s": X}, set())


def test_a_parked_plan_is_due_again_soon(planned):
    shelf = Shelf()
    shelf.other("b", "r")
    it = planned(shelf, a=["r"]).commit()
    due = wake_at(it.saga)
    assert 0 < due - it.now <= PARKED_LOOK_SECONDS * 1_000_000
    assert summary_of(it.saga).due_at == due


def test_a_program_claims_what_a_step_uses_when_that_has_its_turn(interactive):
    it = interactive()
    assert it.did("a", resources=uses("r")).holds == {"r": X}
    assert it.ask("b", resources=uses("s", "r")).recorded == [
        "step_added",
        "locks_granted:b",
        "step_started:b",
    ]
    assert it.entries[-2].grants == (Grant("s", 1),), "what it has is not granted again"
    assert it.returned("b").did("c").holds == {"r": X, "s": X}


def test_a_reader_that_wants_to_write_gets_a_new_token(interactive):
    it = interactive()
    it.did("a", resources=uses("+r"))
    assert fencing_tokens(it.saga, it.saga.step("a")) == {"r": 1}
    it.did("b", resources=uses("r"))
    assert it.holds == {"r": X}
    assert fencing_tokens(it.saga, it.saga.step("b")) == {"r": 2}
    it.did("c", resources=uses("+r"))
    assert fencing_tokens(it.saga, it.saga.step("c")) == {"r": 2}


def test_two_steps_that_want_one_thing_are_granted_it_once(interactive):
    shelf = Shelf()
    shelf.other("b", "r", "s")
    it = interactive(shelf=shelf)
    it.ask("a", resources=uses("r"))
    it.ask("b", resources=uses("r", "s"))
    shelf.other("b", "s")
    it.see()
    assert it.recorded == ["locks_granted:a", "locks_awaited:b", "step_started:a"]
    assert (it.holds, it.wants) == ({"r": X}, {"s"})
    assert it.see().recorded == [], "what it waits for has not changed"
    shelf.put("b", ())
    assert it.see().calls == ["action:b"]


def test_two_steps_that_want_one_thing_in_both_ways_get_it_one_after_the_other(interactive):
    shelf = Shelf()
    shelf.other("b", "r")
    it = interactive(shelf=shelf)
    it.ask("a", resources=uses("+r"))
    it.ask("b", resources=uses("r"))
    shelf.put("b", ())
    assert it.see().recorded == ["locks_granted:a", "step_started:a"]
    assert it.holds == {"r": S}
    assert it.see().recorded == ["locks_granted:b", "step_started:b"]
    assert it.holds == {"r": X}
    assert fencing_tokens(it.saga, it.saga.step("b")) == {"r": 3}


def test_who_waits_in_an_interactive_one_hinders_no_other_step(interactive):
    shelf = Shelf()
    shelf.other("b", "r")
    it = interactive(shelf=shelf)
    assert it.ask("a", resources=uses("r")).calls == []
    assert it.ask("b").calls == ["action:b"]
    it.returned("b")
    assert it.state == "active"
    shelf.put("b", ())
    assert it.see().calls == ["action:a"]


def test_an_approval_comes_before_the_claim(interactive):
    it = interactive()
    it.ask("a", resources=uses("r"), requires_approval=True)
    assert (it.holds, it.wants) == ({}, set())
    assert it.approve("a").recorded == [
        "approval_given:a",
        "locks_granted:a",
        "step_started:a",
    ]


def test_a_plan_holds_what_it_uses_while_a_person_is_asked(planned, play, make_step):
    it = on(play)(make_step("a", resources=uses("r"), requires_approval=True)).commit()
    assert it.waits_for == "approval"
    assert it.holds == {"r": X}


def test_a_held_step_is_claimed_for_before_the_commit_is_decided(interactive):
    shelf = Shelf()
    shelf.other("b", "r")
    it = interactive(shelf=shelf)
    it.did("a")
    it.ask("mail", on_commit=True, resources=uses("r"), compensating_action=None)
    assert it.commit().recorded[-1] == "locks_awaited:mail"
    assert it.state == "active"
    shelf.put("b", ())
    assert it.see().recorded == ["locks_granted:mail", "commit_decided", "step_started:mail"]


def test_a_pivot_waits_for_what_it_and_the_held_ones_use(interactive):
    shelf = Shelf()
    shelf.other("b", "r")
    it = interactive(shelf=shelf)
    it.ask("mail", on_commit=True, resources=uses("r"), compensating_action=None)
    it.ask("pay", pivot=True, resources=uses("s"), compensating_action=None)
    assert it.calls == []
    shelf.put("b", ())
    assert "action:pay" in it.see().calls


# ----------------------------------------------------------------------------------- letting go


def test_nothing_is_let_go_of_before_the_end(planned):
    it = planned(a=["r"], b=["s"]).commit()
    assert it.returned("a").holds == {"r": X, "s": X}
    assert it.raised("b").calls == ["compensation:a"]
    assert it.holds == {"r": X, "s": X}
    assert it.returned("a").state == "rolled_back"
    assert it.holds == {}


def test_a_commit_lets_go_of_everything(planned):
    it = planned(a=["r"], b=["+s"]).commit().returned("a").returned("b")
    assert it.state == "committed"
    assert it.holds == {}


def test_a_step_that_is_undone_alone_lets_go_of_nothing(interactive):
    it = interactive()
    it.did("a", resources=uses("r"))
    it.undo("a").returned("a")
    assert it.states == {"a": "compensated"}
    assert it.holds == {"r": X}
    assert it.commit().holds == {}


def test_a_nested_transaction_claims_for_the_whole(interactive, make_scope):
    it, child = interactive(), make_scope("c1", "child")
    it.did("a", child, resources=uses("r"))
    it.release(child)
    assert it.holds == {"r": X}
    it.did("b", resources=uses("r"))
    other = make_scope("c2", "child")
    it.did("c", other, resources=uses("s")).undo_scope(other).returned("c")
    assert it.holds == {"r": X, "s": X}
    assert it.commit().holds == {}


def test_what_is_outstanding_keeps_what_it_used_until_it_is_resolved(planned):
    it = planned(a=["r", "s"], b=["t"]).commit().returned("a").raised("b").raised("a")
    assert it.state == "rolled_back"
    assert it.holds == {"r": X, "s": X}
    it.retry("a")
    assert it.holds == {"r": X, "s": X}
    assert fencing_tokens(it.saga, it.saga.step("a")) == {"r": 1, "s": 1}
    it.raised("a")
    assert it.holds == {"r": X, "s": X}
    assert it.resolve("a", "undone").holds == {}


def test_what_is_undone_at_last_lets_go_of_what_it_used(planned):
    it = planned(a=["r"], b=[]).commit().returned("a").raised("b").raised("a")
    assert it.retry("a").returned("a").holds == {}


def test_who_wants_to_lets_go_of_what_is_outstanding_as_well(planned):
    options = {"release_outstanding_locks": True}
    it = planned(plan=options, a=["r"], b=[]).commit().returned("a").raised("b").raised("a")
    assert it.result.outstanding
    assert it.holds == {}
    it.retry("a")
    assert it.holds == {}
    assert fencing_tokens(it.saga, it.saga.step("a")) == {}, "it has no token that it may show"


def test_recovery_goes_on_with_what_is_held_and_claims_nothing(planned, interactive):
    it = planned(a=["r"], b=["s"]).commit().returned("a")
    assert it.crash().holds == {"r": X, "s": X}
    back = interactive()
    back.did("a", resources=uses("r")).ask("b", resources=uses("s"))
    back.crash()
    assert back.holds == {"r": X, "s": X}
    while back.state != "rolled_back":
        back.returned(back.calls[0].partition(":")[2])
    assert back.holds == {}
    assert len([entry for entry in back.entries if isinstance(entry, LocksGranted)]) == 2


# -------------------------------------------------------------------------- leaving the line


def test_who_is_rolled_back_while_it_waits_leaves_the_line(planned, interactive):
    shelf = Shelf()
    shelf.other("b", "r")
    it = planned(shelf, a=["r"]).commit()
    assert it.rollback().state == "rolled_back"
    assert it.wants == set()
    other = interactive(shelf=shelf)
    other.did("a", resources=uses("s")).ask("b", resources=uses("r"))
    assert other.rollback().calls == ["compensation:a"]
    assert (other.holds, other.wants) == ({"s": X}, set())


def test_a_wish_to_roll_back_takes_it_out_of_the_line_before_anybody_hears_of_it(interactive):
    shelf = Shelf()
    shelf.other("b", "r")
    it = interactive(shelf=shelf)
    it.ask("slow").ask("b", resources=uses("r"))
    it.rollback()
    assert it.state == "active", "a step still runs"
    assert it.wants == set()
    assert waits_of(it.saga) == []
    assert it.waits_for == "running"


def test_a_denial_takes_it_out_of_the_line_too(interactive):
    shelf = Shelf()
    shelf.other("b", "r")
    it = interactive(shelf=shelf)
    it.ask("asked", requires_approval=True).ask("slow").ask("b", resources=uses("r"))
    assert it.wants == {"r"}
    it.deny("asked")
    assert it.state == "active", "a step still runs"
    assert it.wants == set()


def test_who_waits_too_long_fails_alone_and_leaves_the_line(interactive):
    shelf = Shelf()
    shelf.other("b", "r")
    it = interactive(shelf=shelf, lock_timeout_seconds=5)
    it.ask("a", resources=uses("r"))
    assert it.wait(4.9).recorded == []
    assert it.wait(0.2).recorded == ["step_failed:a"]
    assert it.saga.step("a").error.type == "LockTimeout"
    assert "b has" in it.saga.step("a").error.message
    assert it.wants == set()
    assert it.waits_for != "lock"
    assert it.did("c").commit().state == "committed"


def test_a_plan_that_waits_too_long_goes_back(planned):
    shelf = Shelf()
    shelf.other("b", "r")
    it = planned(shelf, plan={"lock_timeout_seconds": 5}, a=["r"]).commit()
    it.wait(5)
    assert (it.state, it.result.reason) == ("rolled_back", "deadline")
    assert "LockTimeout" in it.result.error
    assert it.wants == set()


def test_a_held_step_that_waits_too_long_makes_the_whole_go_back(interactive):
    shelf = Shelf()
    shelf.other("b", "r")
    it = interactive(shelf=shelf, lock_timeout_seconds=5)
    it.did("a")
    it.ask("mail", on_commit=True, resources=uses("r"), compensating_action=None)
    it.commit().wait(5)
    assert it.calls == ["compensation:a"]
    assert it.returned("a").result.reason == "deadline"


def test_the_deadline_ends_a_wait(planned, interactive):
    shelf = Shelf()
    shelf.other("b", "r")
    it = interactive(shelf=shelf, lock_timeout_seconds=1_000)
    it.did("a", resources=uses("s")).ask("b", resources=uses("r"))
    assert it.wait(61).calls == ["compensation:a"]
    assert it.wants == set()
    options = {"timeout_scope": "transaction", "lock_timeout_seconds": 1_000}
    plan = planned(shelf, plan=options, a=["r"]).commit().wait(61)
    assert (plan.state, plan.result.reason) == ("rolled_back", "deadline")
    patient = planned(shelf, plan={"lock_timeout_seconds": 1_000}, a=["r"]).commit().wait(61)
    assert patient.waits_for == "lock", "the seed's deadline is about the start alone"


# ------------------------------------------------------------------------------------- circles


def test_who_is_cheapest_in_a_circle_gives_way_as_a_whole(interactive):
    shelf = Shelf()
    it = interactive(shelf=shelf)
    it.did("a", resources=uses("s"))
    shelf.other("b", "r", wants=["s"])
    shelf.locks = [lock._replace(cost=9_999) for lock in shelf.locks]
    it.ask("b", resources=uses("r"))
    assert it.calls == ["compensation:a"]
    assert (it.holds, it.wants) == ({"s": X}, set())
    it.returned("a")
    assert (it.state, it.result.reason) == ("rolled_back", "deadlock")
    assert "b" in it.result.error
    assert it.result.clean


def test_who_is_dearer_waits_for_the_other_to_give_way(interactive):
    shelf = Shelf()
    it = interactive(shelf=shelf)
    it.did("a", resources=uses("s"))
    shelf.other("b", "r", wants=["s"])
    it.ask("b", resources=uses("r"))
    assert it.recorded[-1] == "locks_awaited:b"
    assert it.see().recorded == []


def test_what_has_an_effect_costs_more_than_what_was_only_tried(interactive):
    it = interactive()
    it.ask("a").raised("a")
    tried = cost_of(it.saga)
    it.did("b")
    assert cost_of(it.saga) > 100 * tried > 0


# ----------------------------------------------------------------------------------- validated

READS = {"isolation": "validated"}


def test_what_is_only_read_is_not_locked_but_remembered(planned):
    it = planned(plan=READS, a=["+r"], b=["s"]).commit()
    assert it.holds == {"s": X}
    assert it.saga.locks.reads == {"r": 0}
    assert it.returned("a").returned("b").state == "committed"


def test_what_has_changed_since_it_was_read_makes_it_go_back(planned):
    it = planned(plan=READS, a=["+r"], b=[]).commit().returned("a")
    it.shelf.other("b", "r")
    it.returned("b")
    assert it.calls == ["compensation:b"]
    it.returned("b").returned("a")
    assert it.result.reason == "conflict"
    assert "r may have changed" in it.result.error


def test_a_reader_begins_only_where_nobody_writes(planned):
    shelf = Shelf()
    shelf.other("b", "r")
    it = planned(shelf, plan=READS, a=["+r"]).commit()
    assert (it.calls, it.wants) == ([], {"r"})
    shelf.put("b", ())
    assert it.see().calls == ["action:a"]
    assert it.saga.locks.reads == {"r": 1}
    assert it.returned("a").state == "committed"


def test_ones_own_writing_is_no_change(interactive):
    it = interactive(**READS)
    it.did("a", resources=uses("+r")).did("b", resources=uses("r"))
    it.did("c", resources=uses("+r"))
    assert it.saga.locks.reads == {}
    assert it.commit().state == "committed"


def test_who_writes_what_had_changed_since_it_was_read_goes_back(interactive):
    it = interactive(**READS)
    it.did("a", resources=uses("+r"))
    it.shelf.other("b", "r")
    it.shelf.put("b", ())
    it.ask("b", resources=uses("r"))
    assert it.calls == ["compensation:a"]
    assert it.returned("a").result.reason == "conflict"


def test_a_pivot_is_called_only_while_what_was_read_still_holds(planned, play, make_step):
    pivot = make_step("pay", pivot=True, compensating_action=None)
    it = on(play)(make_step("a", resources=uses("+r")), pivot, **READS).commit()
    it.returned("a")
    assert it.calls == ["action:pay"]
    last = it.entries[-1]
    assert reads_to_check(it.saga, [last]) == (("r", 0),)
    changed = on(play)(make_step("a", resources=uses("+r")), pivot, **READS).commit()
    changed.shelf.other("b", "r")
    assert changed.returned("a").calls == ["compensation:a"]


# --------------------------------------------------------------------------------- reading again

GONE = {"effect": "none", "compensating_action": None}


def changed_meanwhile(it, name="r"):
    it.shelf.other("b", name)
    it.shelf.put("b", ())


def test_what_was_undone_and_read_again_counts_in_its_new_version(interactive):
    it = interactive(**READS)
    it.did("a", resources=uses("+r"))
    changed_meanwhile(it)
    it.undo("a").returned("a").did("again", resources=uses("+r"))
    assert it.saga.locks.reads == {"r": 1}
    assert it.commit().state == "committed"


def test_what_only_an_undone_step_had_read_hinders_no_commit(interactive):
    it = interactive(**READS)
    it.did("a", resources=uses("+r")).did("b", resources=uses("+s"))
    changed_meanwhile(it)
    it.undo("a").returned("a")
    assert reads_in_force(it.saga) == {"s": 0}
    assert it.commit().state == "committed"


def test_what_is_taken_back_without_a_call_is_undone_as_well(interactive):
    it = interactive(**READS)
    it.did("a", resources=uses("+r"), **GONE)
    changed_meanwhile(it)
    assert it.undo("a").did("again", resources=uses("+r"), **GONE).commit().state == "committed"


def test_what_was_read_again_and_has_changed_again_makes_it_go_back(interactive):
    it = interactive(**READS)
    it.did("a", resources=uses("+r"), **GONE)
    changed_meanwhile(it)
    it.undo("a").did("again", resources=uses("+r"), **GONE)
    changed_meanwhile(it)
    assert it.commit().result.reason == "conflict"


def test_of_two_that_have_read_the_one_that_is_not_undone_still_counts(interactive):
    it = interactive(**READS)
    it.did("a", resources=uses("+r"), **GONE).did("b", resources=uses("+r"), **GONE)
    changed_meanwhile(it)
    it.undo("a").did("again", resources=uses("+r"), **GONE)
    assert reads_in_force(it.saga) == {"r": 0}
    assert it.commit().result.reason == "conflict"


def test_reading_again_alone_does_not_make_the_older_reading_good(interactive):
    it = interactive(**READS)
    it.did("a", resources=uses("+r"), **GONE)
    changed_meanwhile(it)
    it.did("again", resources=uses("+r"), **GONE)
    assert it.commit().result.reason == "conflict"


@pytest.mark.parametrize("outcome", ["failed", "in_doubt"])
def test_a_step_that_was_called_and_did_not_succeed_has_read(interactive, outcome):
    it = interactive(**READS)
    it.ask("a", resources=uses("+r"), on_unknown="ask")
    it.raised("a", "in_doubt" if outcome == "in_doubt" else "not_done")
    assert it.states["a"] == outcome
    assert reads_in_force(it.saga) == {"r": 0}


def test_a_step_that_was_undone_in_vain_has_read(interactive):
    it = interactive(**READS)
    it.did("a", resources=uses("+r"), compensating_action=None).undo("a")
    changed_meanwhile(it)
    assert it.commit().result.reason == "conflict"


def test_while_an_undo_is_under_way_its_step_still_counts(interactive):
    it = interactive(**READS)
    it.did("a", resources=uses("+r")).undo("a")
    assert reads_in_force(it.saga) == {"r": 0}
    assert reads_in_force(it.returned("a").saga) == {}


def test_who_writes_what_only_an_undone_step_had_read_goes_on(interactive):
    it = interactive(**READS)
    it.did("a", resources=uses("+r"), **GONE)
    changed_meanwhile(it)
    it.undo("a").did("b", resources=uses("r"))
    assert it.holds == {"r": X}
    assert it.commit().state == "committed"


def test_no_step_starts_on_what_only_an_undone_step_had_read(interactive):
    it = interactive(**READS)
    it.did("a", resources=uses("+r"), **GONE).undo("a")
    it.shelf.other("b", "r")
    it.ask("again", resources=uses("+r"), **GONE)
    with pytest.raises(IllegalEntry, match="without what it uses"):
        evolve(it.saga, StepStarted(it.now, "again", 1))


# ---------------------------------------------------------------------------------- what is law


def test_no_step_starts_while_its_transaction_does_not_hold_what_it_uses(planned):
    shelf = Shelf()
    shelf.other("b", "r")
    it = planned(shelf, a=["r"]).commit()
    with pytest.raises(IllegalEntry, match="without what it uses"):
        evolve(it.saga, StepStarted(it.now, "a", 1))


def test_no_shared_hold_is_enough_for_a_step_that_writes(interactive):
    it = interactive()
    it.did("a", resources=uses("+r"))
    it.shelf.other("b", "+r")
    it.ask("b", resources=uses("r"))
    with pytest.raises(IllegalEntry, match="without what it uses"):
        evolve(it.saga, StepStarted(it.now, "b", 1))


def test_a_token_never_becomes_smaller(interactive):
    it = interactive()
    it.did("a", resources=uses("r"))
    for token in (0, 1):
        with pytest.raises(IllegalEntry, match="does not grow"):
            evolve(it.saga, LocksGranted(it.now, (Grant("r", token),)))


@pytest.mark.parametrize(
    "entry",
    [LocksGranted(1, (Grant("r", 9),)), LocksAwaited(1, uses("r")), VersionsRead(1, ())],
    ids=lambda entry: type(entry).__name__,
)
def test_nothing_is_claimed_once_it_goes_back_or_has_ended(planned, entry):
    back = planned(a=["r"], b=[]).commit().returned("a").raised("b")
    assert back.state == "compensating"
    ended = planned(a=["r"]).commit().returned("a")
    for it in (back, ended):
        with pytest.raises(IllegalEntry, match="not active"):
            evolve(it.saga, entry)


def test_who_uses_nothing_claims_nothing(planned):
    it = planned(a=[]).commit()
    with pytest.raises(IllegalEntry, match="uses none"):
        evolve(it.saga, LocksGranted(it.now, (Grant("r", 1),)))


def test_what_is_seen_while_it_goes_back_changes_nothing(planned):
    it = planned(a=["r"], b=[]).commit().returned("a").raised("b")
    seen = LocksSeen(it.shelf.shown(["r"]))
    assert advance(it.saga, [seen], it.now)[0] == []
