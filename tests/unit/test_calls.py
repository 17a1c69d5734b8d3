"""How a handler is called, and what its answer means."""
# mypy: disable-error-code="arg-type, list-item, operator, union-attr"

import math
from unittest.mock import Mock

import pytest

from aumai_transactions import (
    Action,
    Clean,
    Continue,
    Done,
    NotDelivered,
    NotDone,
    NothingToUndo,
    OutcomeUnknown,
    Residue,
    RetryLater,
    StepContext,
    StepRejected,
    Unknown,
)
from aumai_transactions.calls import (
    ERROR_CHARACTERS_MAX,
    error_record,
    late,
    outcome_of,
    raised,
    returned,
    timed_out,
)
from aumai_transactions.core.definition import StepDefinition
from aumai_transactions.core.entries import ErrorRecord
from aumai_transactions.core.observations import (
    HandlerRaised,
    HandlerReturned,
    LateReturn,
    ProbeReturned,
    VerificationReturned,
)
from aumai_transactions.core.saga import SagaStep
from aumai_transactions.models import SECONDS_MAX


def run(make_sync, handler, **options):
    """Commit one step whose handler this is."""
    manager = make_sync(**options)
    manager.action("act")(handler)
    tx = manager.begin()
    manager.add_step(tx, "agent", "act", {"x": 1})
    return manager.commit(tx)


# -------------------------------------------------------------------------- what the context says


def test_the_context_of_an_action_and_of_its_undo(make_sync):
    seen = {}

    def handler(action, data, context):
        seen[action] = context
        if action == "fail":
            raise ValueError("declined")
        return {"by": action}

    manager = make_sync(dict.fromkeys(("first", "second", "fail", "undo_second"), handler))
    tx = manager.begin()
    manager.add_step(tx, "agent-1", "first", {})
    manager.add_step(tx, "agent-2", "second", {}, "undo_second")
    manager.add_step(tx, "agent-3", "fail", {})
    manager.commit(tx)
    name = tx.transaction_id
    assert seen["second"] == StepContext(
        transaction_id=name,
        step_id="s2",
        agent_id="agent-2",
        action="second",
        operation="action",
        attempt=1,
        idempotency_key=f"{name}/s2/action",
        forward_key=f"{name}/s2/action",
        forward_attempt=1,
        token=1,
        outputs={"s1": {"by": "first"}},
    )
    assert seen["undo_second"] == StepContext(
        transaction_id=name,
        step_id="s2",
        agent_id="agent-2",
        action="undo_second",
        operation="compensation",
        attempt=1,
        idempotency_key=f"{name}/s2/compensation",
        forward_key=f"{name}/s2/action",
        forward_attempt=1,
        token=1,
        outputs={"s1": {"by": "first"}},
        output={"by": "second"},
        error="ValueError: declined",
        can_continue=True,
    )


def test_what_a_handler_does_to_its_data_and_context_stays_with_it(make_sync):
    def greedy(action, data, context):
        data["list"].append("mine")
        for output in context.outputs.values():
            output.clear()
        if action == "fail":
            raise ValueError("no")
        return {"list": data["list"]}

    undone = []

    def undo(action, data, context):
        undone.append((data, context.output))

    manager = make_sync({"act": greedy, "fail": greedy, "undo": undo})
    tx = manager.begin()
    manager.add_step(tx, "a", "act", {"list": []}, "undo")
    manager.add_step(tx, "a", "fail", {"list": []})
    manager.commit(tx)
    assert undone == [({"list": []}, {"list": ["mine"]})]


# ---------------------------------------------------------------------------------- return values


@pytest.mark.parametrize("value", [0, False, "", [], {}, 1.5, "text", {"deep": [1, {"x": None}]}])
def test_a_json_value_becomes_the_output(make_sync, value):
    result = run(make_sync, lambda action, data: value)
    assert result.outputs == {"s1": value}
    assert result.warnings == []


class Hostile:
    def __repr__(self):
        raise RuntimeError("not even this")

    __str__ = __repr__

    def __hash__(self):
        return 1


class HostileDict(dict):
    def keys(self):
        raise RuntimeError("no keys")

    __iter__ = items = keys


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        float("nan"),
        {"\ud800": float("nan")},
        {"\0": {1}},
        {10**5_000: 1},
        {Hostile(): 1},
        Hostile(),
        HostileDict(a=1),
        10**5_000,
        "x" * 3_000_000,
        {"k" * 3_000_000: float("nan")},
        Mock(),
    ],
    ids=[
        "object",
        "set",
        "nan",
        "surrogate key",
        "nul key",
        "huge key",
        "hostile key",
        "hostile",
        "hostile dict",
        "huge",
        "long",
        "long key",
        "mock",
    ],
)
@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_what_is_not_json_never_changes_the_outcome_and_is_named(make_sync, value, store, tmp_path):
    options = {"store": f"sqlite:///{tmp_path}/journal.db"} if store == "sqlite" else {}
    manager = make_sync({"act": lambda action, data: value}, **options)
    tx = manager.begin()
    manager.add_step(tx, "agent", "act", {})
    result = manager.commit(tx)
    assert result.state.value == "committed"
    assert result.outputs == {}
    (warning,) = result.warnings
    assert warning.startswith("step s1 succeeded, but what 'act' returned could not be recorded")
    assert len(warning) < 5_000
    assert manager.verify().is_intact
    assert manager.get_result(tx.transaction_id) == result


def test_what_an_undo_returns_is_not_recorded(make_sync):
    def handler(action, data):
        if action == "fail":
            raise ValueError("no")
        return object() if action == "undo" else 1

    manager = make_sync(dict.fromkeys(("act", "undo", "fail"), handler))
    tx = manager.begin()
    manager.add_step(tx, "a", "act", {}, "undo")
    manager.add_step(tx, "a", "fail", {})
    result = manager.commit(tx)
    assert (result.clean, result.warnings) == (True, [])


# --------------------------------------------------------------------------------------- outcomes


class Declined(Exception):
    pass


PLAIN = Action("act", print, is_plain=True)
REGISTERED = Action("act", print, in_doubt_on=(Declined,))


@pytest.mark.parametrize(
    "error,plain,registered",
    [
        (ValueError(), "not_done", "not_done"),
        (Declined(), "not_done", "in_doubt"),
        (StepRejected(), "not_done", "not_done"),
        (RetryLater(3), "not_done", "not_done"),
        (OutcomeUnknown(), "in_doubt", "in_doubt"),
        (TimeoutError(), "not_done", "in_doubt"),
        (OSError(), "not_done", "in_doubt"),
        (ConnectionResetError(), "not_done", "in_doubt"),
        (BrokenPipeError(), "not_done", "in_doubt"),
        (ConnectionRefusedError(), "not_done", "not_done"),
        (KeyboardInterrupt(), "cancelled", "cancelled"),
        (SystemExit(), "cancelled", "cancelled"),
        (GeneratorExit(), "cancelled", "cancelled"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_an_exception_means_for_the_world(error, plain, registered):
    assert outcome_of(PLAIN, error) == plain
    assert outcome_of(REGISTERED, error) == registered


def test_a_rejection_wins_over_what_the_action_says_is_in_doubt():
    action = Action("act", print, in_doubt_on=(Exception,))
    assert outcome_of(action, StepRejected()) == "not_done"


# ------------------------------------------------------------------------------------- as records


def test_an_exception_becomes_its_type_and_its_text():
    assert str(error_record(ValueError("declined"))) == "ValueError: declined"
    assert str(error_record(ValueError())) == "ValueError"


def test_the_text_of_an_exception_is_bounded_and_fit_for_every_store():
    record = error_record(ValueError("\ud800\0" + "x" * 1_000_000))
    assert len(record.message) <= ERROR_CHARACTERS_MAX + 1
    assert record.message.startswith("\\ud800\\0xxx")
    record.message.encode()


def test_an_exception_that_cannot_be_read_is_still_recorded():
    class Hidden(Exception):
        def __str__(self):
            raise RuntimeError

    record = error_record(Hidden())
    assert record.type.endswith("Hidden")
    assert "cannot be read: RuntimeError" in record.message


# -------------------------------------------------------------------------------- observations


STEP = SagaStep(0, StepDefinition("s1", "agent", "act", {"x": 1}, "undo"), 0)
ERROR = ValueError("declined")


def test_what_a_probe_returns_is_its_answer():
    assert returned(STEP, "probe", Done({"id": 7})) == ProbeReturned("s1", "done", {"id": 7})
    no = returned(STEP, "probe", NotDone("no such key"))
    assert (no.answer, no.error) == ("not_done", ErrorRecord("NotDone", "no such key"))
    maybe = returned(STEP, "probe", Unknown("busy"))
    assert (maybe.answer, maybe.error) == ("unknown", ErrorRecord("Unknown", "busy"))


@pytest.mark.parametrize(
    "value", [None, True, False, "done", {}, Done, Clean(), Residue()], ids=repr
)
def test_what_is_no_answer_of_a_probe_is_unknown(value):
    seen = returned(STEP, "probe", value)
    assert (seen.answer, seen.error.type) == ("unknown", "NoAnswer")
    assert "Done(output), NotDone() or Unknown()" in seen.error.message


def test_an_output_of_a_probe_that_is_not_json_is_done_all_the_same():
    seen = returned(STEP, "probe", Done(object()))
    assert (seen.answer, seen.output) == ("done", None)
    assert "could not be recorded" in seen.warning


def test_what_a_verification_returns_is_its_answer():
    assert returned(STEP, "verification", Clean()) == VerificationReturned("s1", "clean")
    left = returned(STEP, "verification", Residue(["row 7"]))
    assert (left.answer, left.left, left.error.type) == ("residue", ["row 7"], "Residue")
    assert '["row 7"]' in left.error.message
    assert returned(STEP, "verification", Unknown()).answer == "unknown"


def test_a_residue_that_is_not_json_is_a_residue_all_the_same():
    seen = returned(STEP, "verification", Residue(object()))
    assert (seen.answer, seen.left) == ("residue", None)
    assert "could not be recorded" in seen.error.message


@pytest.mark.parametrize("value", [None, True, "clean", Clean, Done(), NotDone()], ids=repr)
def test_what_is_no_answer_of_a_verification_is_unknown(value):
    seen = returned(STEP, "verification", value)
    assert (seen.answer, seen.error.type) == ("unknown", "NoAnswer")


def test_what_an_undo_returns_means_that_it_worked_unless_it_says_more():
    for value in (None, object(), False, "failed", Done(), Unknown()):
        assert returned(STEP, "compensation", value) == HandlerReturned("s1", "compensation")
    nothing = returned(STEP, "compensation", NothingToUndo("there is no booking"))
    assert (nothing.note, nothing.continues) == ("there is no booking", False)
    assert returned(STEP, "compensation", NothingToUndo()).note == "there was nothing to undo"
    on = returned(STEP, "compensation", Continue({"id": 8}))
    assert (on.continues, on.output, on.warning) == (True, {"id": 8}, None)
    odd = returned(STEP, "compensation", Continue(object()))
    assert (odd.continues, odd.output) == (True, None)
    assert "could not be recorded" in odd.warning


@pytest.mark.parametrize("answer", [NotDone, NothingToUndo, Unknown])
def test_the_reason_of_an_answer_is_bounded_and_may_be_anything(answer):
    operation = "compensation" if answer is NothingToUndo else "probe"
    for why in ("x" * 100_000, "\ud800\0", 7):
        seen = returned(STEP, operation, answer(why))
        told = seen.note if operation == "compensation" else seen.error.message
        assert 0 < len(told) <= ERROR_CHARACTERS_MAX + 1
        told.encode()


@pytest.mark.parametrize("operation", ["probe", "verification"])
def test_whatever_a_question_raises_is_unknown(operation):
    action = Action("act", print, is_plain=True)
    for error in (ERROR, StepRejected(), KeyboardInterrupt(), ConnectionRefusedError()):
        assert raised(STEP, operation, action, error).answer == "unknown"
    assert raised(STEP, operation, action, RetryLater(3)).after_seconds == 3


@pytest.mark.parametrize(
    "error,may_retry,is_answer",
    [
        (ERROR, True, False),
        (KeyError("before anybody was asked"), True, False),
        (StepRejected(), False, True),
        (RetryLater(3), True, False),
        (NotDelivered(), True, False),
        (ConnectionRefusedError(), True, False),
        (OutcomeUnknown(), True, False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_exception_says_whether_another_try_helps_and_what_it_says_of_earlier_ones(
    error, may_retry, is_answer
):
    seen = raised(STEP, "action", Action("act", print), error)
    assert (seen.may_retry, seen.is_answer) == (may_retry, is_answer)


def test_only_what_an_action_names_is_worth_another_try():
    action = Action("act", print, retry_on=(KeyError,))
    assert raised(STEP, "action", action, KeyError()).may_retry
    assert not raised(STEP, "action", action, ERROR).may_retry
    assert raised(STEP, "action", action, RetryLater(1)).may_retry


@pytest.mark.parametrize(
    "seconds,later,maybe",
    [
        (3, 3.0, 3.0),
        (0, 0.0, 0.0),
        (-5, 0.0, 0.0),
        (math.inf, SECONDS_MAX, SECONDS_MAX),
        (10**400, SECONDS_MAX, SECONDS_MAX),
        (math.nan, 0.0, None),
        ("soon", 0.0, None),
        (True, 0.0, None),
        (None, 0.0, None),
    ],
)
def test_a_wait_that_a_handler_asks_for_is_bounded_and_may_be_anything(seconds, later, maybe):
    action = Action("act", print)
    assert raised(STEP, "action", action, RetryLater(seconds)).after_seconds == later
    unknown = OutcomeUnknown("who knows", seconds)
    assert raised(STEP, "action", action, unknown).after_seconds == maybe


def test_what_was_never_delivered_is_not_done_whatever_the_action_says():
    action = Action("act", print, in_doubt_on=(Exception,))
    for error in (NotDelivered(), RetryLater(1), StepRejected()):
        assert outcome_of(action, error) == "not_done"


@pytest.mark.parametrize("left_behind", [True, False])
def test_a_call_that_took_too_long_is_in_doubt_and_says_whether_it_goes_on(left_behind):
    seen, error = timed_out(STEP, "action", 1.5, left_behind=left_behind)
    assert isinstance(seen, HandlerRaised)
    assert (seen.outcome, seen.left_behind) == ("timeout", left_behind)
    assert str(error).startswith("no answer within 1.5 s")
    assert ("may act yet" in str(error)) is left_behind
    for operation in ("probe", "verification"):
        asked, _error = timed_out(STEP, operation, 1.5, left_behind=left_behind)
        assert asked.answer == "unknown"
    asked, _error = timed_out(STEP, "reread", 1.5, left_behind=left_behind)
    assert (asked.holds, asked.error.type) == (False, "TimeoutError")


def test_a_late_answer_says_what_it_means_for_an_effect():
    action = Action("act", print)
    done = late(returned(STEP, "action", {"id": 7}), 2)
    assert done == LateReturn("s1", "action", 2, "succeeded", {"id": 7})
    no = late(raised(STEP, "action", action, ERROR), 1)
    assert (no.outcome, no.error) == ("not_done", error_record(ERROR))
    maybe = late(raised(STEP, "compensation", action, OutcomeUnknown()), 1)
    assert (maybe.operation, maybe.outcome) == ("compensation", "in_doubt")
    assert late(raised(STEP, "action", action, KeyboardInterrupt()), 1).outcome == "in_doubt"
    assert late(returned(STEP, "probe", Done()), 1) is None
    assert late(returned(STEP, "verification", Clean()), 1) is None
    assert late(returned(STEP, "reread", True), 1) is None
    confirmed = late(returned(STEP, "confirmation", 7), 1)
    assert (confirmed.operation, confirmed.output) == ("confirmation", None)


@pytest.mark.parametrize(
    "value,holds,error",
    [
        (True, True, None),
        (False, False, "ReadConflict"),
        (None, False, "NoAnswer"),
        (1, False, "NoAnswer"),
        ("yes", False, "NoAnswer"),
    ],
)
def test_a_reread_holds_only_where_it_says_so(value, holds, error):
    found = returned(STEP, "reread", value)
    assert (found.step_id, found.holds) == ("s1", holds)
    assert (found.error and found.error.type) == error


def test_a_reread_that_raises_does_not_hold():
    found = raised(STEP, "reread", Action("act", print), ERROR)
    assert (found.holds, found.error) == (False, error_record(ERROR))


def test_a_confirmation_that_raises_is_told_like_an_action():
    found = raised(STEP, "confirmation", Action("act", print), StepRejected("no"))
    assert (found.operation, found.outcome, found.may_retry) == ("confirmation", "not_done", False)
