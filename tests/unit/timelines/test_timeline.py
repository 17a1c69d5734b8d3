from datetime import UTC, datetime, timedelta

import pytest

from aumai_transactions.models import (
    OutstandingCompensation,
    TransactionResult,
    TransactionState,
    Waiting,
)
from aumai_transactions.timelines.lines import Asked
from aumai_transactions.timelines.timeline import Timeline
from aumai_transactions.wording.words import call_cell, step_cell

NOON = datetime(2026, 2, 27, 12, tzinfo=UTC)


def due(seconds):
    return (NOON + timedelta(seconds=seconds)).isoformat()


ERROR = {"type": "ValueError", "message": "no"}


def test_a_timeline_joins_each_step_with_its_undo(events):
    timeline = Timeline.of(
        "t",
        events(
            ("transaction_activated", None, {}),
            ("step_started", "a", {"attempt": 1}),
            ("step_succeeded", "a", {"attempt": 1, "output": 7}),
            ("step_started", "b", {"attempt": 1}),
            ("step_failed", "b", {"attempt": 1, "error": ERROR}),
            ("rollback_started", "b", {"reason": "step_failed", "error": ERROR}),
            ("compensation_started", "a", {"attempt": 1}),
            ("compensation_succeeded", "a", {"attempt": 1}),
        ),
    )
    a, b = timeline.steps.values()
    assert (a.call.outcome, a.call.seconds, a.output) == ("done", 1.0, 7)
    assert (a.undo.outcome, a.undo.seconds) == ("undone", 1.0)
    assert (b.call.outcome, b.call.error) == ("failed", "ValueError: no")
    assert timeline.cause == "b: ValueError: no"


def test_an_event_that_is_known_changes_nothing(events):
    told = events(("step_started", "a", {"attempt": 1}))
    timeline = Timeline.of("t", told)
    timeline.add(told[0])
    assert timeline.steps["a"].call.outcome == "running"


def test_a_step_whose_data_could_not_be_filled_in_was_never_called(events):
    timeline = Timeline.of(
        "t",
        events(("step_failed", "b", {"attempt": 0, "error": ERROR})),
    )
    assert timeline.steps["b"].call.outcome == "never called"
    assert timeline.steps["b"].call.seconds is None


def test_an_entry_of_a_later_release_is_passed_over(events):
    told = events(("step_teleported", "a", {"to": "mars"}))
    assert Timeline.of("t", told).steps["a"].call.outcome == "pending"


def told(events, *entries, step="a"):
    """How a step's action and its undo read in a table after these entries."""
    found = Timeline.of("t", events(*((kind, step, fields) for kind, fields in entries)))
    line = found.steps[step]
    return call_cell(line.call).text, call_cell(line.undo).text, list(line.told.values())


RUN = ("step_started", {"attempt": 1})
DOUBT = ("step_in_doubt", {"attempt": 1, "cause": "unknown", "error": ERROR})
LEFT = ("step_in_doubt", {"attempt": 1, "cause": "timeout", "error": ERROR, "left_behind": True})
DONE = ("step_succeeded", {"attempt": 1})
UNDO = ("compensation_started", {"attempt": 1})
UNDONE = ("compensation_succeeded", {"attempt": 1})
LATE = {"operation": "action", "attempt": 1}


@pytest.mark.parametrize(
    "entries,call,undo,notes",
    [
        (
            [
                RUN,
                ("step_failed", {"attempt": 1, "error": ERROR, "will_retry": True}),
                ("retry_scheduled", {"operation": "action", "attempt": 2, "due_at": due(200)}),
            ],
            "next try 12:03:20Z, attempt 2",
            "-",
            [],
        ),
        (
            [
                RUN,
                DOUBT,
                ("retry_scheduled", {"operation": "action", "attempt": 2, "due_at": due(86_400)}),
            ],
            "in doubt, next try 2026-02-28 12:00:00Z, attempt 2",
            "-",
            [],
        ),
        ([RUN, DOUBT, ("probe_started", {"attempt": 1})], "in doubt, probing", "-", []),
        (
            [
                RUN,
                DOUBT,
                ("probe_started", {"attempt": 1}),
                ("probe_answered", {"attempt": 1, "answer": "unknown", "will_retry": True}),
                ("retry_scheduled", {"operation": "probe", "attempt": 2, "due_at": due(200)}),
            ],
            "in doubt, next probe 12:03:20Z, attempt 2",
            "-",
            ["the probe says: it cannot tell"],
        ),
        (
            [
                RUN,
                DOUBT,
                ("probe_started", {"attempt": 3}),
                ("probe_answered", {"attempt": 3, "answer": "done", "output": 7}),
            ],
            "done 1.0 s",
            "-",
            ["the probe says: done (asked 3 times)"],
        ),
        (
            [
                RUN,
                DOUBT,
                ("probe_started", {"attempt": 1}),
                ("probe_answered", {"attempt": 1, "answer": "not_done", "error": ERROR}),
            ],
            "failed 1.0 s",
            "-",
            ["the probe says: not done: ValueError: no"],
        ),
        ([RUN, LEFT], "given up after 1.0 s, may still act", "-", []),
        (
            [RUN, LEFT, ("call_returned_late", LATE | {"outcome": "succeeded"})],
            "given up after 1.0 s, returned later",
            "-",
            ["a call that had been given up (attempt 1) returned later, and succeeded"],
        ),
        (
            [RUN, LEFT, ("claimed", {"token": 2, "driver_id": "e", "takeover": True})],
            "in doubt 1.0 s",
            "-",
            [],
        ),
        (
            [RUN, DONE, UNDO, ("compensation_succeeded", {"attempt": 1, "note": "answered 404"})],
            "done 1.0 s",
            "nothing to undo 1.0 s",
            ["nothing to undo: answered 404"],
        ),
        (
            [
                RUN,
                DONE,
                UNDO,
                ("compensation_failed", {"attempt": 1, "error": ERROR, "will_retry": True}),
                ("retry_scheduled", {"operation": "compensation", "attempt": 2, "due_at": due(9)}),
            ],
            "done 1.0 s",
            "next try 12:00:09Z, attempt 2",
            [],
        ),
        (
            [RUN, DONE, UNDO, UNDONE, ("verification_started", {"attempt": 1})],
            "done 1.0 s",
            "undone 1.0 s, verifying",
            [],
        ),
        (
            [
                RUN,
                DONE,
                UNDO,
                UNDONE,
                ("verification_started", {"attempt": 1}),
                ("verification_answered", {"attempt": 1, "answer": "residue", "left": {"rows": 2}}),
            ],
            "done 1.0 s",
            "undone 1.0 s, left something",
            ['verified: something is left: {"rows": 2}'],
        ),
        (
            [
                RUN,
                DONE,
                UNDO,
                UNDONE,
                ("verification_started", {"attempt": 1}),
                ("verification_answered", {"attempt": 1, "answer": "unknown", "error": ERROR}),
            ],
            "done 1.0 s",
            "undone 1.0 s, not verified",
            ["not verified: it cannot be told whether anything is left: ValueError: no"],
        ),
        (
            [
                RUN,
                DOUBT,
                ("rollback_started", {"reason": "in_doubt", "error": ERROR}),
                UNDO,
                ("rollback_revoked", {"attempt": 1, "output": 7}),
            ],
            "done 1.0 s",
            "went on instead 1.0 s",
            ["its undo answered with an output, and the transaction went on"],
        ),
    ],
)
def test_every_kind_of_entry_is_told(events, entries, call, undo, notes):
    assert told(events, *entries) == (call, undo, notes)


def test_a_revoked_rollback_forgets_why_it_went_back_and_runs_what_had_failed(events):
    timeline = Timeline.of(
        "t",
        events(
            ("step_started", "a", {"attempt": 1}),
            ("step_succeeded", "a", {"attempt": 1}),
            ("step_started", "b", {"attempt": 1}),
            ("step_failed", "b", {"attempt": 1, "error": ERROR}),
            ("rollback_started", "b", {"reason": "step_failed", "error": ERROR}),
            ("compensation_started", "a", {"attempt": 1}),
            ("rollback_revoked", "a", {"attempt": 1, "output": 7}),
        ),
    )
    assert (timeline.reason, timeline.cause) == ("", "")
    assert timeline.steps["b"].call.outcome == "pending"
    assert timeline.steps["a"].output == 7


def test_what_was_waited_for_has_failed_once_it_goes_back(events):
    scheduled = {"operation": "action", "attempt": 2, "due_at": due(200)}
    waiting = [RUN, ("step_failed", {"attempt": 1, "error": ERROR}), ("retry_scheduled", scheduled)]
    back = ("rollback_started", {"reason": "requested"})
    assert told(events, *waiting, back)[0] == "failed 1.0 s"
    assert told(events, RUN, DOUBT, ("retry_scheduled", scheduled), back)[0] == "in doubt 1.0 s"


def test_a_retry_that_a_person_asks_for_is_due_at_once(events):
    scheduled = {"operation": "action", "attempt": 2, "due_at": due(3600)}
    asked = ("retry_requested", {"by": "me"})
    text = told(events, RUN, DOUBT, ("retry_scheduled", scheduled), asked)[0]
    assert text == "in doubt, next try 12:00:05Z, attempt 2"


@pytest.mark.parametrize(
    "reason,undo",
    [
        ("residue", "undone 1.0 s, left something"),
        ("may_still_act", "undone 1.0 s, may still act"),
        ("acted_late", "undone 1.0 s, acted late"),
        ("failed", "undone 1.0 s"),
    ],
)
def test_why_an_effect_may_stand_is_taken_from_the_outcome(events, reason, undo):
    entries = [("step_started", "a", {"attempt": 1}), ("step_in_doubt", "a", LEFT[1])]
    entries += [("compensation_started", "a", {}), ("compensation_succeeded", "a", {})]
    timeline = Timeline.of("t", events(*entries))
    left = OutstandingCompensation(step_id="a", agent_id="x", action="do", reason=reason)
    timeline.take(
        TransactionResult(
            transaction_id="t", state=TransactionState.rolled_back, outstanding=[left]
        )
    )
    assert call_cell(timeline.steps["a"].undo).text == undo


def test_an_undo_that_waits_for_a_call_says_until_when(events):
    timeline = Timeline.of("t", events(("step_in_doubt", "a", LEFT[1])))
    waiting = Waiting(reason="left_behind", detail="", step_ids=["a"], until=NOON)
    state = TransactionState.compensating
    timeline.take(TransactionResult(transaction_id="t", state=state, waiting=waiting))
    assert call_cell(timeline.steps["a"].undo).text == "waits until 2026-02-27 12:00:00Z"


def test_the_last_errors_are_kept_with_their_attempts(events):
    entries = []
    for attempt in range(1, 9):
        entries += [
            ("step_started", "a", {"attempt": attempt}),
            ("step_failed", "a", {"attempt": attempt, "error": ERROR}),
        ]
    call = Timeline.of("t", events(*entries)).steps["a"].call
    assert [attempt for attempt, _ in call.errors] == [4, 5, 6, 7, 8]


def column(events, *entries):
    """How a step's action reads in a table after these entries, its confirmation behind it."""
    found = Timeline.of("t", events(*((kind, "a", fields) for kind, fields in entries)))
    return step_cell(found.steps["a"]).text


ASKED = ("approval_requested", {"digest": "d", "data": {"n": 1}})
CONFIRM = ("confirmation_started", {"attempt": 1})
NOT_CONFIRMED = ("confirmation_failed", {"attempt": 1, "error": ERROR})


@pytest.mark.parametrize(
    "entries,text",
    [
        ([ASKED], "waits for an approval"),
        (
            [("approval_requested", {"digest": "d", "until": due(200)})],
            "waits for an approval until 12:03:20Z",
        ),
        ([ASKED, ("approval_given", {"digest": "d", "by": "b"})], "allowed"),
        ([ASKED, ("approval_denied", {"by": "b"})], "denied"),
        (
            [
                ASKED,
                ("approval_denied", {"by": "b"}),
                ("rollback_started", {"reason": "denied"}),
            ],
            "denied",
        ),
        ([ASKED, ("rollback_started", {"reason": "requested"})], "-"),
        ([RUN, DONE, CONFIRM], "done 1.0 s, confirming"),
        (
            [RUN, DONE, CONFIRM, ("confirmation_succeeded", {"attempt": 1})],
            "done 1.0 s, confirmed 1",
        ),
        ([RUN, DONE, CONFIRM, NOT_CONFIRMED], "done 1.0 s, not confirmed 1.0 s"),
        (
            [
                RUN,
                DONE,
                CONFIRM,
                NOT_CONFIRMED,
                (
                    "retry_scheduled",
                    {"operation": "confirmation", "attempt": 2, "due_at": due(200)},
                ),
            ],
            "done 1.0 s, next confirmation 12:03:20Z, attempt 2",
        ),
    ],
)
def test_approvals_and_confirmations_stand_with_the_action(events, entries, text):
    assert column(events, *entries).startswith(text)


def test_what_a_person_is_asked_to_allow_has_its_references_filled_in(events):
    timeline = Timeline.of("t", events(("approval_requested", "a", ASKED[1])))
    (step,) = timeline.waiting_for_approval()
    assert (step.step_id, step.data, step.asked) == ("a", {"n": 1}, Asked("d", None))


def test_a_step_that_is_taken_back_before_it_began_is_left_out(events):
    timeline = Timeline.of(
        "t", events(("partial_rollback_started", None, {"step_ids": ["a"], "reason": "requested"}))
    )
    assert step_cell(timeline.steps["a"]).text == "left out"


def test_a_held_step_reads_so_until_its_turn_and_after_a_revoked_rollback(events):
    held = {"step_id": "c", "agent_id": "x", "action": "mail", "on_commit": True}
    told = [("step_added", None, {"step": held}), ("rollback_started", "a", {"reason": "in_doubt"})]
    timeline = Timeline.of("t", events(*told[:1]))
    assert step_cell(timeline.steps["c"]).text == "held until the commit"
    assert step_cell(Timeline.of("t", events(*told)).steps["c"]).text == "-"
    revoked = Timeline.of("t", events(*told, ("rollback_revoked", "a", {"attempt": 1})))
    assert step_cell(revoked.steps["c"]).text == "held until the commit"


def test_a_nested_transaction_ends_and_a_savepoint_goes_on(events):
    timeline = Timeline.of(
        "t",
        events(
            ("scope_opened", None, {"scope": {"scope_id": "s"}}),
            ("scope_opened", None, {"scope": {"scope_id": "n", "kind": "child"}}),
            ("partial_rollback_started", None, {"step_ids": [], "scope_id": "s"}),
            ("partial_rollback_started", None, {"step_ids": [], "scope_id": "n"}),
        ),
    )
    assert {name: group.state for name, group in timeline.groups.items()} == {
        "s": "open",
        "n": "rolled_back",
    }
