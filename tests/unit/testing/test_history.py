"""Each kind of violation, planted into a history that is sound without it."""
# mypy: disable-error-code="assignment, attr-defined, var-annotated"

import contextlib

import pytest

from aumai_transactions import Resource, TransactionManager
from aumai_transactions.core import entries as kinds
from aumai_transactions.core.definition import Definition, StepDefinition
from aumai_transactions.core.lock_entries import Grant, LocksGranted
from aumai_transactions.stores.memory import MemoryStore
from aumai_transactions.testing.history import (
    Access,
    HistoryChecker,
    JournalTold,
    check,
    problems_of,
    told_by,
)


@pytest.fixture
def story():
    """Two transactions, one after the other, on one account; and what the participant recorded."""
    store = MemoryStore()
    accesses: list[Access] = []
    manager = TransactionManager(store=store)

    def record(context, kind):
        for resource, token in context.resources.items():
            place = (context.transaction_id, context.step_id, kind, token)
            call = (context.idempotency_key, context.attempt)
            accesses.append(Access(len(accesses), resource, *place, *call))

    @manager.action("write", compensating_action="undo", resources=["account:{on}"])
    def write(action, data, context):
        record(context, "write")

    @manager.action("undo", idempotent=True)
    def undo(action, data, context):
        record(context, "undo")

    @manager.action("read", effect="none", resources=[Resource.shared("account:{on}")])
    def read(action, data, context):
        record(context, "read")

    @manager.action("fail")
    def fail(action, data):
        raise ZeroDivisionError

    def run(*steps, fails=False, planned=False):
        if planned:
            tx = manager.begin()
            for action, on in (*steps, *([("fail", "-")] if fails else [])):
                manager.add_step(tx, "agent", action, {"on": on})
            manager.commit(tx)
            return tx.transaction_id
        block = manager.transaction()
        with contextlib.suppress(ZeroDivisionError), block as tx:
            for action, on in steps:
                if action == "taken_back":
                    with contextlib.suppress(ZeroDivisionError), tx.savepoint():
                        tx.execute("agent", "write", {"on": on})
                        raise ZeroDivisionError
                else:
                    tx.execute("agent", action, {"on": on})
            if fails:
                raise ZeroDivisionError
        return block.transaction_id

    yield store, accesses, run
    manager.close()


def problems(story, accesses=None):
    store, recorded, _run = story
    return problems_of(store, recorded if accesses is None else accesses)


def test_a_sound_history_has_no_problems(story):
    _store, accesses, run = story
    run(("write", "a"), ("read", "b"), ("write", "b"))
    run(("read", "a"), ("read", "b"))
    run(("write", "b"), ("write", "a"), fails=True)
    assert len(accesses) == 9
    assert problems(story) == []


def test_an_access_without_a_grant_is_found(story):
    _store, accesses, run = story
    run(("write", "a"))
    accesses[0] = accesses[0]._replace(token=None)
    (found,) = problems(story)
    assert "never granted" in found


def test_a_write_under_a_shared_lock_is_found(story):
    _store, accesses, run = story
    run(("read", "a"))
    accesses[0] = accesses[0]._replace(kind="write")
    assert any("never granted for that" in found for found in problems(story))


def test_an_older_token_after_a_newer_one_is_found(story):
    _store, accesses, run = story
    run(("write", "a"))
    run(("write", "a"))
    first, second = accesses
    swapped = [second._replace(position=0), first._replace(position=1)]
    assert any("with a newer one" in found for found in problems(story, swapped))


def test_who_comes_in_between_is_found(story):
    _store, accesses, run = story
    run(("write", "a"), ("write", "a"))
    run(("write", "a"))
    first, again, other = accesses
    order = [first, other._replace(position=1), again._replace(position=2)]
    assert any("in between" in found for found in problems(story, order))


def test_readers_side_by_side_are_no_problem(story):
    _store, accesses, run = story
    run(("read", "a"), ("read", "a"))
    run(("read", "a"))
    first, again, other = accesses
    order = [first, other._replace(position=1), again._replace(position=2)]
    assert problems(story, order) == []


def test_two_that_each_came_before_the_other_are_found(story):
    _store, accesses, run = story
    one = run(("write", "a"), ("write", "b"))
    two = run(("write", "a"), ("write", "b"))
    at_a, at_b, then_a, then_b = accesses
    order = [at_a, then_b._replace(position=1), at_b._replace(position=2), then_a]
    (found,) = [text for text in problems(story, order) if "no order" in text]
    assert one in found
    assert two in found


@pytest.mark.parametrize("kind", ["write", "undo"])
def test_what_was_done_twice_is_found(story, kind):
    _store, accesses, run = story
    run(("write", "a"), fails=True)
    again = next(access for access in accesses if access.kind == kind)
    found = problems(story, [*accesses, again._replace(position=9)])
    assert any("once, and did 2 times" in text for text in found)


def test_what_was_rolled_back_and_stands_is_found(story):
    _store, accesses, run = story
    run(("write", "a"), fails=True)
    found = problems(story, [access for access in accesses if access.kind != "undo"])
    assert any("still stands" in text for text in found)


def test_what_was_undone_and_never_done_is_found(story):
    _store, accesses, run = story
    run(("write", "a"), fails=True)
    found = problems(story, [access for access in accesses if access.kind == "undo"])
    assert any("never done" in text for text in found)


def test_what_is_not_over_is_found(story):
    _store, _accesses, run = story
    run(("write", "a"))
    stranger = Access(9, "account:b", "nobody", "s1", "write", 1)
    assert any("nobody is unknown" in text for text in problems(story, [stranger]))


# -------------------------------------------------------------------- the journal and the effects


def found_in(story, accesses=None, **options):
    """The invariants that a history breaks, each with the sentences that say so."""
    store, recorded, _run = story
    found = {}
    for problem in check(store, recorded if accesses is None else accesses, **options).problems:
        found.setdefault(problem.invariant, []).append(problem.text)
    return found


def moved(accesses, *order):
    """The same accesses in another order."""
    return [accesses[old]._replace(position=new) for new, old in enumerate(order)]


def test_a_whole_and_sound_history_has_nothing_found_whatever_is_asked(story):
    store, accesses, run = story
    names = [run(("write", "a"), ("taken_back", "b"), ("read", "a")), run(planned=True)]
    names.append(run(("write", "b"), ("write", "a"), planned=True, fails=True))
    names.append(run(("write", "b"), ("write", "a"), planned=True))
    told = dict(zip(names, ["committed", "committed", "rolled_back", "committed"], strict=True))
    report = check(store, accesses, outcomes=told, is_complete=True)
    assert report.problems == []
    assert dict(report.states) == {"committed": 3, "rolled_back": 1}
    assert (report.transactions, report.accesses) == (4, 10)
    assert "nothing found" in str(report)


@pytest.mark.parametrize("change", [{"attempt": 9}, {"step_id": "s9"}])
def test_an_effect_without_an_intent_is_found(story, change):
    _store, accesses, run = story
    run(("write", "a"))
    accesses[0] = accesses[0]._replace(**change, key=None)
    assert "without a durable intent" in found_in(story)["I1"][0]


def test_an_undo_without_an_intent_is_found(story):
    _store, accesses, run = story
    run(("write", "a"))
    accesses.append(accesses[0]._replace(position=1, kind="undo", key=None))
    assert "without a durable intent" in found_in(story)["I1"][0]


def test_another_key_for_another_attempt_is_found(story):
    _store, accesses, run = story
    run(("write", "a"))
    accesses[0] = accesses[0]._replace(key=f"{accesses[0].key}/2")
    assert set(found_in(story)) == {"I9"}


def test_what_is_committed_and_was_never_done_is_found_where_all_is_known(story):
    _store, _accesses, run = story
    run(("write", "a"), ("read", "a"))
    assert found_in(story, []) == {}
    (text,) = found_in(story, [], is_complete=True)["I2"]
    assert "s1 never took effect" in text


def test_what_a_journal_says_was_undone_and_stands_is_found(story):
    _store, accesses, run = story
    run(("taken_back", "a"), ("write", "b"))
    stands = [access for access in accesses if access.kind != "undo"]
    assert "s1 was undone, and it still stands" in found_in(story, stands)["I2"][0]


def test_an_effect_before_what_it_depends_on_is_found(story):
    _store, accesses, run = story
    run(("write", "a"), ("write", "b"), planned=True)
    assert "took effect before s1" in found_in(story, moved(accesses, 1, 0))["I3"][0]


def test_an_undo_before_that_of_what_depends_on_it_is_found(story):
    _store, accesses, run = story
    run(("write", "a"), ("write", "b"), fails=True, planned=True)
    kinds_of = [access.kind for access in accesses]
    assert kinds_of == ["write", "write", "undo", "undo"]
    assert "s1 was undone before s2" in found_in(story, moved(accesses, 0, 1, 3, 2))["I3"][0]


def test_steps_that_do_not_depend_on_each_other_may_come_in_any_order(story):
    _store, accesses, run = story
    run(("write", "a"), ("write", "b"))
    assert found_in(story, moved(accesses, 1, 0)) == {}


def test_an_effect_after_the_way_back_has_begun_is_found(story):
    _store, accesses, run = story
    run(("write", "a"), ("write", "b"), fails=True, planned=True)
    assert "after an undo" in found_in(story, moved(accesses, 0, 2, 1, 3))["I4"][0]


@pytest.mark.parametrize(
    "outcomes,text",
    [
        ({"nobody": "committed"}, "acknowledged as committed, and gone"),
        ({"": "rolled_back"}, "acknowledged as rolled_back, is committed"),
    ],
)
def test_what_was_acknowledged_and_is_lost_is_found(story, outcomes, text):
    _store, _accesses, run = story
    name = run(("write", "a"))
    told = {key or name: state for key, state in outcomes.items()}
    assert text in found_in(story, outcomes=told)["I7"][0]


def test_what_has_not_ended_is_found(story):
    store, accesses, _run = story
    manager = TransactionManager(store=store)

    @manager.action("write", compensating_action="undo", on_unknown="ask")
    def write(action, data, context):
        accesses.append(Access(0, None, context.transaction_id, context.step_id, "write"))
        raise TimeoutError

    manager.action("undo")(lambda action, data: None)
    tx = manager.begin()
    manager.add_step(tx, "agent", "write", {"on": "a"}, "undo")
    manager.commit(tx)
    manager.close()
    assert f"{tx.transaction_id} is active, and has had s1" in found_in(story)["L1"]


def test_a_token_that_was_granted_twice_is_found():
    one, other = JournalTold("one"), JournalTold("other")
    for told in (one, other):
        told.tell(PLAN)
        told.tell(LocksGranted(1, (Grant("account:a", 7),)))
    checker = HistoryChecker()
    checker.take(one)
    checker.take(other)
    assert [problem.invariant for problem in checker.report().problems] == ["I10"]


STEPS = tuple(StepDefinition(name, "agent", "act", {}, "undo") for name in ("s1", "s2"))
PLAN = kinds.PlanRecorded(1, Definition(1, 60, STEPS))
CLAIM, ACTIVE = kinds.Claimed(1, 1, "d"), kinds.TransactionActivated(1)
BEGUN = (CLAIM, ACTIVE, kinds.StepStarted(1, "s1", 1), kinds.StepSucceeded(1, "s1", 1))
BACK = kinds.RollbackStarted(1, "requested")
ERROR = kinds.ErrorRecord("ValueError", "no")
WRONG = {
    "a step is begun while it goes back": ("I4", [BACK, kinds.StepStarted(1, "s2", 1)]),
    "it commits while it goes back": ("I4", [BACK, kinds.TransactionCommitted(1)]),
    "it ends twice": ("I2", [kinds.TransactionCommitted(1), kinds.TransactionCommitted(1)]),
    "it goes back behind the commit point": ("I8", [kinds.CommitDecided(1), BACK]),
    "an attempt is begun twice": ("I5", [kinds.StepStarted(1, "s1", 1)]),
    "a token is left out": ("I6", [kinds.Claimed(1, 3, "e")]),
    "a token is given twice": ("I6", [kinds.Claimed(1, 1, "e")]),
    "what never began succeeds": ("I13", [kinds.StepSucceeded(1, "s2", 1)]),
    "it is undone, and nothing goes back": ("I3", [kinds.CompensationStarted(1, "s1", 1)]),
    "it names a step that is not there": ("I11", [kinds.StepStarted(1, "s7", 1)]),
    "it is granted something on its way back": (
        "I10",
        [BACK, LocksGranted(1, (Grant("account:a", 1),))],
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_a_journal_alone_shows_to_be_wrong_is_found(what):
    invariant, written = WRONG[what]
    told = JournalTold("tx")
    for entry in (PLAN, *BEGUN):
        told.tell(entry)
    assert told.problems == []
    for entry in written:
        told.tell(entry)
    assert [problem.invariant for problem in told.problems] == [invariant]


def test_finer_rules_see_every_append_with_its_token(story):
    store, _accesses, run = story
    name = run(("write", "a"))
    seen = []

    class Rules:
        def __init__(self, transaction_id):
            self.transaction_id = transaction_id

        def append(self, entries, token):
            seen.append(([type(entry).__name__ for entry in entries], token))
            is_last = type(entries[-1]) is kinds.TransactionCommitted
            return [f"{self.transaction_id}: I5: entry 9: too much"] if is_last else []

    journal = store.read(name)
    told = told_by(journal, Rules)
    assert told.entries == len(journal.entries) == sum(len(names) for names, _token in seen)
    assert seen[0][0][0] == "PlanRecorded"
    assert {token for _names, token in seen} == {1}
    assert [problem.invariant for problem in told.problems] == ["I5"]
    assert "too much" in check(store, rules=Rules).problems[0].text
