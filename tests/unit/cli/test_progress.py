import io
from datetime import UTC, datetime, timedelta

import pytest

from aumai_transactions.cli.progress import Progress, block_lines
from aumai_transactions.cli.screen import Screen, columns_of
from aumai_transactions.core.times import instant
from aumai_transactions.models import TransactionState
from aumai_transactions.timelines.lines import Call, StepLine
from aumai_transactions.timelines.timeline import Timeline

START = datetime(2026, 2, 27, 12, tzinfo=UTC)
NOW = int((START.timestamp() + 60) * 1_000_000)


def timeline(count, running, **fields):
    steps = {}
    for number in range(count):
        call = Call(attempt=1 if number <= running else 0, started_at=START)
        call.outcome = "done" if number < running else "running" if number == running else "pending"
        steps[f"step-{number}"] = StepLine(
            f"step-{number}", "an_agent_with_a_name", "an_action", "an_undo", {}, call
        )
    return Timeline("t", "trip", TransactionState.active, steps=steps, **fields)


@pytest.fixture
def screen():
    return Screen(io.StringIO())


@pytest.mark.parametrize("columns", [20, 40, 80, 120])
@pytest.mark.parametrize("rows", [3, 8, 24])
@pytest.mark.parametrize("running", [0, 20, 39])
def test_a_block_fits_the_terminal_and_shows_what_runs(screen, columns, rows, running):
    lines = block_lines(screen, timeline(40, running), columns, rows, NOW)
    assert len(lines) <= max(rows, 3)
    assert any("running" in line for line in lines) or columns == 20
    assert any(line.strip().startswith(f"step-{running}"[:7]) for line in lines)
    if columns >= 40:
        assert max(columns_of(line) for line in lines) < columns


def test_a_running_step_counts_up(screen):
    assert any(
        "running 1 min 0 s" in line for line in block_lines(screen, timeline(1, 0), 80, 24, NOW)
    )


def test_a_hostile_name_cannot_move_the_cursor(screen):
    found = timeline(1, 0, cause="\x1b[2J\n\n\n")
    found.name = "\x1b[10A"
    assert "\x1b" not in "".join(block_lines(screen, found, 80, 24, NOW))
    assert len(block_lines(screen, found, 80, 24, NOW)) == 3


def test_a_line_is_written_for_each_event_and_the_id_comes_first(events):
    stream = io.StringIO()
    progress = Progress(Screen(stream))
    for event in events(
        ("step_started", "a", {"attempt": 1}),
        (
            "step_in_doubt",
            "a",
            {"attempt": 1, "cause": "unknown", "error": {"type": "X", "message": "\n"}},
        ),
    ):
        progress(event)
    assert stream.getvalue().splitlines() == [
        "transaction t",
        "12:00:01.000  recorded: trip, 2 steps",
        "12:00:02.000  a: x starts do",
        r"12:00:03.000  a: in doubt 1.0 s: X: \n",
    ]


ERROR = {"type": "X", "message": "no"}
DUE = (START + timedelta(seconds=200)).isoformat()


@pytest.mark.parametrize(
    "kind,fields,said",
    [
        (
            "retry_scheduled",
            {"operation": "action", "attempt": 3, "due_at": DUE},
            "next try 12:03:20Z, attempt 3, in 3 min 18 s",
        ),
        (
            "retry_scheduled",
            {"operation": "probe", "attempt": 2, "due_at": DUE},
            "in doubt, next probe 12:03:20Z, attempt 2, in 3 min 18 s",
        ),
        ("probe_started", {"attempt": 2}, "asking what became of it, attempt 2"),
        (
            "probe_answered",
            {"attempt": 1, "answer": "not_done", "error": ERROR},
            "the probe says: not done: X: no",
        ),
        ("verification_started", {"attempt": 1}, "looking whether anything is left"),
        ("verification_answered", {"attempt": 1, "answer": "clean"}, "verified: nothing is left"),
        (
            "call_returned_late",
            {"operation": "compensation", "attempt": 1, "outcome": "not_done"},
            "a compensation that had been given up (attempt 1) returned later, and had not done it",
        ),
        ("compensation_succeeded", {"attempt": 1, "note": "404"}, "nothing to undo: 404"),
        (
            "rollback_revoked",
            {"attempt": 1, "output": 7},
            "its undo answered with an output; the transaction goes on",
        ),
        ("retry_requested", {"by": "me", "note": "now"}, "me says: try again (now)"),
        (
            "resolution_given",
            {"by": "me", "note": "saw", "answer": "did_not_happen"},
            "me says: did not happen (saw)",
        ),
    ],
)
def test_every_kind_of_event_has_a_line(events, kind, fields, said):
    stream = io.StringIO()
    progress = Progress(Screen(stream))
    for event in events((kind, "a", fields)):
        progress(event)
    assert stream.getvalue().splitlines()[-1] == f"12:00:02.000  a: {said}"


def test_a_wait_counts_down(events, screen):
    fields = {"operation": "action", "attempt": 2, "due_at": instant(NOW + 1_200_000).isoformat()}
    failed = ("step_failed", "a", {"attempt": 1})
    found = Timeline.of("t", events(failed, ("retry_scheduled", "a", fields)))
    lines = block_lines(screen, found, 80, 24, NOW)
    assert any(line.endswith("next try 12:01:01Z, attempt 2, in 1.2 s") for line in lines)


def test_a_transaction_without_steps_yet_is_not_announced(events):
    (event,) = events()
    event.fields = {"definition": {"steps": []}}
    stream = io.StringIO()
    Progress(Screen(stream))(event)
    assert stream.getvalue() == "transaction t\n"


def test_progress_reads_what_came_before_it(events):
    told = events(("claimed", None, {}), ("step_started", "a", {"attempt": 2}))
    stream = io.StringIO()
    progress = Progress(Screen(stream))
    progress.read = lambda _: told
    progress(told[2])
    assert "a: x starts do, attempt 2" in stream.getvalue()


def test_a_closed_stream_stops_nothing(events):
    stream = io.StringIO()
    stream.close()
    progress = Progress(Screen(stream))
    for event in events(("transaction_committed", None, {})):
        progress(event)


@pytest.mark.parametrize("rows", [8, 12, 24])
def test_what_runs_is_never_hidden_by_what_does_not(screen, rows):
    found = timeline(40, 0)
    for number in (0, 20, 39):
        found.steps[f"step-{number}"].call.outcome = "running"
    lines = block_lines(screen, found, 100, rows, NOW)
    assert len(lines) <= rows
    shown = [line.split()[0] for line in lines if "running" in line]
    assert shown == ["step-0", "step-20", "step-39"]


def test_what_runs_and_has_no_room_is_counted(screen):
    found = timeline(12, 0)
    for step in found.steps.values():
        step.call.outcome = "running"
    lines = block_lines(screen, found, 100, 8, NOW)
    assert lines[-1] == "  … 6 more steps, 6 of them running"


def test_an_approval_counts_down_and_says_how_to_allow_it(events, screen):
    until = instant(NOW + 1_200_000).isoformat()
    asked = ("approval_requested", "a", {"digest": "d", "until": until})
    lines = block_lines(screen, Timeline.of("t", events(asked)), 80, 24, NOW)
    assert any(line.endswith("waits for an approval until 12:01:01Z, 1.2 s left") for line in lines)
    stream = io.StringIO()
    progress = Progress(Screen(stream))
    progress.approve = lambda name, step: f"approve {name} {step}"
    for event in events(asked):
        progress(event)
    assert stream.getvalue().splitlines()[-2:] == [
        "12:00:02.000  a: a person must allow it until 12:01:01Z",
        "allow it with: approve t a",
    ]


def test_what_others_have_journaled_meanwhile_is_told_in_its_place(events):
    told = events(
        ("approval_requested", "a", {"digest": "d"}),
        ("approval_given", "a", {"digest": "d", "by": "bob"}),
        ("step_started", "a", {"attempt": 1}),
    )
    stream = io.StringIO()
    progress = Progress(Screen(stream))
    progress.read = lambda _: told
    for event in (told[0], told[1], told[3], told[2]):
        progress(event)
    progress.catch_up("t")
    assert [line.split("  ")[1] for line in stream.getvalue().splitlines()[2:]] == [
        "a: a person must allow it",
        "a: allowed, by bob",
        "a: x starts do",
    ]
