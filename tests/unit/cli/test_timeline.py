from aumai_transactions.cli.timeline import Timeline

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
