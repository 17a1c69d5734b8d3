"""What a handler is given, and what its answer means."""
# mypy: disable-error-code="union-attr, valid-type"

import functools
from unittest.mock import MagicMock, Mock, create_autospec

import pytest

from aumai_transactions import (
    Action,
    DefinitionError,
    InvalidData,
    OutcomeUnknown,
    RetryLater,
    StepContext,
    StepRejected,
)
from aumai_transactions.actions import (
    ERROR_CHARACTERS_MAX,
    ActionRegistry,
    error_record,
    outcome_of,
    plain_actions,
)


def boom():
    raise ValueError("it was given what it did not ask for")


def run(make_sync, handler, **options):
    """Commit one step whose handler this is."""
    manager = make_sync(**options)
    manager.action("act")(handler)
    tx = manager.begin()
    manager.add_step(tx, "agent", "act", {"x": 1})
    return manager.commit(tx)


# ---------------------------------------------------------------------------- passing the context


class Recorder:
    def __init__(self):
        self.seen = None

    def by_name(self, action, data, context):
        self.seen = context

    def by_keyword(self, action, data, *, context):
        self.seen = context

    def by_annotation(self, action, data, about: StepContext):
        self.seen = about

    def by_written_annotation(self, action, data, about: "StepContext"):
        self.seen = about

    def by_name_with_default(self, action, data, context=None):
        self.seen = context

    async def by_name_async(self, action, data, context):
        self.seen = context

    def __call__(self, action, data, context):
        self.seen = context


@pytest.mark.parametrize(
    "name",
    [
        "by_name",
        "by_keyword",
        "by_annotation",
        "by_written_annotation",
        "by_name_with_default",
        "by_name_async",
        "__call__",
    ],
)
def test_a_parameter_that_asks_for_the_context_gets_it(make_sync, name):
    recorder = Recorder()
    handler = recorder if name == "__call__" else getattr(recorder, name)
    result = run(make_sync, handler)
    assert result.state.value == "committed"
    assert isinstance(recorder.seen, StepContext)
    assert recorder.seen.transaction_id == result.transaction_id


def test_a_partial_that_leaves_the_context_open_gets_it(make_sync):
    seen = []

    def handler(prefix, action, data, context):
        seen.append((prefix, context.step_id))

    run(make_sync, functools.partial(handler, "p"))
    assert seen == [("p", "s1")]


@pytest.mark.parametrize(
    "handler",
    [
        lambda action, data: None,
        lambda action, data, verbose=False: boom() if verbose else None,
        lambda action, data, third=None: boom() if third else None,
        lambda *args: boom() if len(args) != 2 else None,
        lambda *args, **kwargs: boom() if len(args) != 2 or kwargs else None,
        lambda action, data, *context: boom() if context else None,
        lambda action, data, **context: boom() if context else None,
    ],
    ids=["two", "default", "third", "args", "args and kwargs", "*context", "**context"],
)
def test_nobody_else_gets_it_however_many_parameters_there_are(make_sync, handler):
    assert run(make_sync, handler).state.value == "committed"


@pytest.mark.parametrize("mock", [Mock, MagicMock])
def test_a_mock_is_called_as_the_seed_calls_a_handler(make_sync, mock):
    handler = mock(return_value=None)
    assert run(make_sync, handler).state.value == "committed"
    handler.assert_called_once_with("act", {"x": 1})


def test_a_mock_with_a_signature_is_called_by_it(make_sync):
    def shape(action, data, context): ...

    handler = create_autospec(shape, return_value=None)
    assert run(make_sync, handler).state.value == "committed"
    assert handler.call_args.args == ("act", {"x": 1})
    assert list(handler.call_args.kwargs) == ["context"]


@pytest.mark.parametrize(
    "handler",
    [
        lambda: None,
        lambda action: None,
        lambda action, data, needed: None,
        lambda action, data, *, needed: None,
        lambda context, data: None,
    ],
)
def test_a_handler_that_cannot_be_called_is_refused_with_its_signature(handler):
    with pytest.raises(DefinitionError, match=r"'act'.*\(action, data\)"):
        ActionRegistry().add(Action("act", handler))


# ---------------------------------------------------------------------------- what the context says


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
        token=1,
        outputs={"s1": {"by": "first"}},
        output={"by": "second"},
        error="ValueError: declined",
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


# -------------------------------------------------------------------------------------- outcomes


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


def test_the_handlers_of_the_seed_are_plain():
    (action,) = plain_actions({"act": lambda action, data: None})
    assert action.is_plain


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


# -------------------------------------------------------------------------------------- registry


def test_an_action_of_the_same_name_replaces_the_first():
    registry = ActionRegistry()
    for handler in (print, lambda action, data: 2):
        registry.add(Action("act", handler))
    assert len(list(registry)) == 1
    assert registry.get("act").action.handler("a", {}) == 2


def test_missing_names_are_named_once_in_order():
    registry = ActionRegistry()
    registry.add(Action("known", print))
    assert registry.missing(["b", "known", "a", "b"]) == ["b", "a"]
    assert registry.get(None) is None
    assert registry.get("a") is None


@pytest.mark.parametrize("option,value", [("on_unknown", "guess"), ("effect", "some")])
def test_an_option_that_cannot_be_is_refused_with_the_choices(option, value):
    with pytest.raises(DefinitionError, match=f"{option} of action 'act'.*must be one of"):
        ActionRegistry().add(Action("act", print, **{option: value}))


@pytest.mark.parametrize("name", ["", " ", None, 7])
def test_an_action_needs_a_name(name):
    with pytest.raises(InvalidData, match="action name"):
        ActionRegistry().add(Action(name, print))


def test_an_annotation_that_cannot_be_read_does_not_matter(make_sync):
    def handler(action, data: "Nonsense[", context): ...  # noqa: F722

    assert run(make_sync, handler).state.value == "committed"
