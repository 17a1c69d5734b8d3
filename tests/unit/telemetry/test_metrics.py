"""Metrics count what the journal says, with attributes that have an end."""

import pytest

from aumai_transactions import Action, OutcomeUnknown, TransactionManager
from aumai_transactions.telemetry.names import NAMES_MAX, OTHER


def nothing(action, data):
    pass


def refuse(action, data):
    raise ValueError("sold out")


def ask(action, data):
    raise OutcomeUnknown("no answer")


ACTIONS = {"book": nothing, "unbook": nothing, "stay": refuse, "stuck": refuse}


def run(manager, *steps, name="trip", **options):
    tx = manager.begin(name=name)
    for action, undo in steps:
        manager.add_step(tx, "a", action, {}, undo, **options)
    return manager.commit(tx)


@pytest.fixture
def manager(seen, clock):
    with TransactionManager(ACTIONS, telemetry=seen.telemetry, clock=clock) as made:
        yield made


def told(point):
    return point.count, round(point.sum, 6)


def test_how_long_transactions_take_is_counted_by_outcome_and_name(seen, clock):
    def slow(action, data):
        clock.advance(2)

    with TransactionManager(
        ACTIONS | {"slow": slow}, telemetry=seen.telemetry, clock=clock
    ) as manager:
        run(manager, ("slow", None))
        run(manager, ("slow", None), ("stay", None), name=None)
    found = seen.points("aumai.transaction.duration")
    assert {key: told(point) for key, point in found.items()} == {
        (("name", "trip"), ("outcome", "committed")): (1, 2.0),
        (("name", ""), ("outcome", "rolled_back")): (1, 2.0),
    }
    steps = seen.points("aumai.transaction.step.duration")
    key = (("name", "trip"), ("operation", "action"), ("outcome", "succeeded"), ("tool", "slow"))
    assert told(steps[key]) == (1, 2.0)


def test_failed_compensations_and_steps_that_need_a_person_are_counted(manager, seen):
    manager.actions.add(Action("ask", ask, on_unknown="ask"))
    run(manager, ("book", "stuck"), ("stay", None))
    run(manager, ("ask", None))
    run(manager, ("book", None), requires_approval=True)
    failures = seen.points("aumai.transaction.compensation.failures")
    assert {key: point.value for key, point in failures.items()} == {
        (("name", "trip"), ("tool", "stuck")): 1
    }
    attention = seen.points("aumai.transaction.attention")
    assert {dict(key)["reason"]: point.value for key, point in attention.items()} == {
        "outstanding": 1,
        "in_doubt": 1,
        "approval": 1,
    }


def test_every_append_is_timed(manager, seen):
    run(manager, ("book", None), ("book", None))
    (point,) = seen.points("aumai.transaction.journal.append.duration").values()
    assert point.count >= 3


def test_what_is_driven_now_is_counted_while_it_is(seen):
    counts = []

    def look(action, data):
        (point,) = seen.points("aumai.transaction.active").values()
        counts.append(point.value)

    with TransactionManager({"look": look}, telemetry=seen.telemetry) as manager:
        run(manager, ("look", None))
    look("", {})
    assert counts == [1, 0]


def test_names_without_end_are_counted_as_one(seen):
    with TransactionManager(ACTIONS, telemetry=seen.telemetry) as manager:
        for number in range(NAMES_MAX + 20):
            run(manager, ("book", None), name=f"agent's name {number}")
    names = {dict(key)["name"] for key in seen.points("aumai.transaction.duration")}
    assert len(names) == NAMES_MAX + 1
    assert OTHER in names


def test_an_action_that_nobody_has_is_counted_as_another(manager, seen):
    run(manager, ("made-up-by-an-agent", None))
    tools = {dict(key)["tool"] for key in seen.points("aumai.transaction.step.duration")}
    assert tools == {OTHER}


def test_only_the_names_that_were_given_are_told_apart(make_seen):
    seen = make_seen(names=["trip", "book"])
    with TransactionManager(ACTIONS, telemetry=seen.telemetry) as manager:
        run(manager, ("book", None))
        run(manager, ("unbook", None), name="another")
    found = seen.points("aumai.transaction.step.duration")
    assert {(dict(key)["name"], dict(key)["tool"]) for key in found} == {
        ("trip", "book"),
        (OTHER, OTHER),
    }


def test_no_metric_has_an_id(manager, seen):
    result = run(manager, ("book", "stuck"), ("stay", None))
    seen.telemetry.flush(30)
    assert result.transaction_id not in seen.reader.get_metrics_data().to_json()
