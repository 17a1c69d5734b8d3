"""A transaction as it is told to a model."""
# mypy: disable-error-code="union-attr"

from datetime import UTC, datetime, timedelta

import pytest

from aumai_transactions.core.description import DATA_CHARACTERS_MAX, describe

BEGUN = datetime(2026, 2, 27, 12, tzinfo=UTC)


def told(tx):
    return describe(tx.saga, tx.now)


def names(tx):
    """The steps in each list that is not empty."""
    found = told(tx).model_dump()
    return {
        key: [step["step_id"] for step in value]
        for key, value in found.items()
        if isinstance(value, list) and value
    }


def test_each_step_stands_where_it_belongs(program):
    tx = program(name="trip").did("done").ask("no").raised("no").did("gone").undo("gone")
    tx.returned("gone").ask("late", on_commit=True).ask("allow", requires_approval=True)
    tx.ask("doubt", on_unknown="ask").raised("doubt", "in_doubt").ask("now")
    assert names(tx) == {
        "done": ["done"],
        "failed": ["no"],
        "undone": ["gone"],
        "held": ["late"],
        "waiting_for_approval": ["allow"],
        "in_doubt": ["doubt"],
        "running": ["now"],
    }
    found = told(tx)
    assert (found.name, found.state.value, found.can_be_rolled_back) == ("trip", "active", True)
    assert found.deadline == BEGUN + timedelta(seconds=60)


def test_an_undo_that_failed_needs_a_person(program):
    tx = program().did("a").undo("a").raised("a")
    assert names(tx) == {"needs_a_person": ["a"]}
    assert not told(tx).can_be_rolled_back


def test_what_was_to_be_undone_and_stays_is_done(program):
    tx = program().did("a", compensating_action=None).undo("a")
    assert names(tx) == {"done": ["a"]}


def test_what_was_taken_back_without_a_call_is_undone(program):
    tx = program().did("a", compensating_action=None, effect="none").undo("a")
    assert names(tx) == {"undone": ["a"]}


def test_why_a_step_failed_is_told(program):
    tx = program().ask("a").raised("a")
    assert told(tx).failed[0].error == "Problem: a raised"


@pytest.mark.parametrize(
    "after,can",
    [(0, True), (10, True), (10.1, False)],
)
def test_a_step_can_be_undone_while_its_window_is_open(program, after, can):
    tx = program().did("a", undo_within_seconds=10)
    tx.now += round(after * 1_000_000)
    (step,) = told(tx).done
    assert (step.can_be_undone, step.undo) == (can, "undo_a")
    assert step.undo_before == BEGUN + timedelta(seconds=10)


def test_a_step_that_nothing_undoes_cannot_be_undone(program):
    (step,) = told(program().did("a", compensating_action=None)).done
    assert (step.can_be_undone, step.undo, step.undo_before) == (False, None, None)


def test_nothing_can_be_undone_behind_the_commit_point(program):
    tx = program().did("a").ask("h", on_commit=True).commit()
    found = told(tx)
    assert (found.done[0].can_be_undone, found.can_be_rolled_back) == (False, False)
    assert names(tx) == {"done": ["a"], "running": ["h"]}


def test_data_is_shown_as_it_is_called_and_cut_where_it_is_long(program):
    tx = program().did("a", data={"b": 1, "a": "é"}).did("l", data={"x": "y" * 1_000})
    short, long = told(tx).done
    assert short.data == '{"a":"é","b":1}'
    assert len(long.data) == DATA_CHARACTERS_MAX + 1
    assert long.data.endswith("…")


def test_the_same_journal_gives_the_same_text(program):
    one, other = (program().did("a").ask("b").raised("b") for _ in range(2))
    assert str(told(one)) == str(told(other))
    assert str(told(one)).splitlines() == [
        "Transaction tx: active, can still be rolled back",
        "done:",
        "- a agent: do_a {} (can be undone)",
        "failed, did not happen:",
        "- b agent: do_b {} (Problem: b raised)",
    ]


def test_a_planned_transaction_can_be_described_too(play, make_step):
    tx = play(make_step("a"), make_step("b")).commit().returned("a").raised("b").returned("a")
    assert names(tx) == {"undone": ["a"], "failed": ["b"]}
