"""What can be declared about an action, and which handlers can be called."""
# mypy: disable-error-code="arg-type, attr-defined, operator, union-attr, valid-type"

import functools
from unittest.mock import MagicMock, Mock, create_autospec

import pytest

from aumai_transactions import (
    Action,
    Clean,
    DefinitionError,
    Done,
    InvalidData,
    RetryPolicy,
    StepContext,
)
from aumai_transactions.actions import (
    ActionRegistry,
    RegisteredAction,
    checked_retry,
    checked_seconds,
    journaled_retry,
    plain_actions,
    policy_of,
)
from aumai_transactions.core.definition import NO_POLICY, Policy, Retry, StepDefinition


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


# --------------------------------------------------------------------------------------- registry


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


@pytest.mark.parametrize(
    "option,value", [("on_unknown", "guess"), ("effect", "some"), ("effect", True)]
)
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


def test_the_handlers_of_the_seed_are_plain():
    (action,) = plain_actions({"act": lambda action, data: None})
    assert action.is_plain


# ------------------------------------------------------------------------------------- policies


CAREFUL = Action(
    "act",
    print,
    retry=RetryPolicy(attempts_max=3, jitter=0.5, budget_seconds=60),
    timeout_seconds=5,
    abandon_after_seconds=7,
    probe=lambda data: Done(),
    probe_retry=RetryPolicy(attempts_max=2),
    verify=lambda data, context: Clean(),
    verify_retry=RetryPolicy(attempts_max=4),
)
TRY = Action(
    "try", print, confirming_action="confirm", reread=lambda data, context: True, identity=("id",)
)
CONFIRM = Action(
    "confirm", print, idempotent=True, retry=RetryPolicy(attempts_max=7), timeout_seconds=3
)
UNDO = Action("undo", print, idempotent=True, retry=RetryPolicy(attempts_max=9), timeout_seconds=2)


def test_what_an_action_and_its_undo_declare_is_journaled_as_one_policy():
    assert policy_of(CAREFUL, UNDO) == Policy(
        retry=Retry(3, jitter=0.5, budget_seconds=60),
        timeout_seconds=5,
        abandon_after_seconds=7,
        has_probe=True,
        probe_retry=Retry(2),
        has_verify=True,
        verify_retry=Retry(4),
        undo_idempotent=True,
        undo_retry=Retry(9),
        undo_timeout_seconds=2,
    )


def test_what_confirms_and_rereads_an_action_is_journaled_with_it():
    assert policy_of(TRY, UNDO, CONFIRM) == Policy(
        has_reread=True,
        undo_idempotent=True,
        undo_retry=Retry(9),
        undo_timeout_seconds=2,
        confirm_retry=Retry(7),
        confirm_timeout_seconds=3,
    )
    registry = ActionRegistry()
    for action in (TRY, UNDO, CONFIRM):
        registry.add(action)
    assert registry.policy("try", "undo", "confirm") == policy_of(TRY, UNDO, CONFIRM)
    assert registry.policy("try", "undo").confirm_retry is None


@pytest.mark.parametrize("action", [None, Action("act", print)])
@pytest.mark.parametrize("undo", [None, Action("undo", print)])
def test_what_declares_nothing_has_the_one_policy_that_is_not_written(action, undo):
    assert policy_of(action, undo) is NO_POLICY


@pytest.mark.parametrize("option", ["timeout_seconds", "undo_timeout_seconds"])
def test_the_timeout_of_an_operation_is_that_of_its_own_action(option):
    policy = Policy(**{option: 3.0})
    is_undo = option == "undo_timeout_seconds"
    assert policy.timeout_of("compensation") == (3.0 if is_undo else None)
    for operation in ("action", "probe", "verification"):
        assert policy.timeout_of(operation) == (None if is_undo else 3.0)


def test_the_timeout_of_a_confirmation_is_that_of_its_own_action():
    policy = Policy(timeout_seconds=1.0, undo_timeout_seconds=2.0, confirm_timeout_seconds=3.0)
    wanted = {"action": 1, "probe": 1, "verification": 1, "reread": 1, "compensation": 2}
    for operation, seconds in (wanted | {"confirmation": 3}).items():
        assert policy.timeout_of(operation) == seconds


def test_a_retry_policy_is_journaled_field_by_field():
    policy = RetryPolicy(
        attempts_max=2,
        first_delay_seconds=3,
        delay_factor=4,
        delay_seconds_max=5,
        jitter=0.6,
        budget_seconds=7,
    )
    assert journaled_retry(policy)._asdict() == policy.model_dump()
    assert journaled_retry(RetryPolicy()) == Retry()


def test_the_policy_of_a_pair_of_names_follows_what_is_registered():
    registry = ActionRegistry()
    assert registry.policy("act", "undo") is NO_POLICY
    registry.add(CAREFUL)
    assert registry.policy("act", "undo").timeout_seconds == 5
    registry.add(UNDO)
    assert registry.policy("act", "undo").undo_timeout_seconds == 2
    registry.add(Action("act", print, timeout_seconds=6))
    assert registry.policy("act", "undo").timeout_seconds == 6
    assert not registry.policy("act", "undo").has_probe


def test_each_of_the_four_calls_is_found_by_the_step(make_sync):
    registry = ActionRegistry()
    registry.add(CAREFUL)
    registry.add(UNDO)
    step = StepDefinition("s", "a", "act", {}, "undo")
    assert registry.find("action", step).handler is print
    assert registry.find("compensation", step).action is UNDO
    assert registry.find("probe", step).handler is CAREFUL.probe
    assert registry.find("verification", step).context_parameter == "context"
    assert not registry.find("probe", step).takes_name
    bare = StepDefinition("s", "a", "undo", {})
    for operation in ("compensation", "probe", "verification"):
        assert registry.find(operation, bare) is None


def test_the_confirmation_and_the_reread_are_found_by_the_step():
    registry = ActionRegistry()
    registry.add(TRY)
    registry.add(CONFIRM)
    step = StepDefinition("s", "a", "try", {}, confirming_action="confirm")
    assert registry.find("confirmation", step).action is CONFIRM
    assert registry.find("reread", step).handler is TRY.reread
    assert not registry.find("reread", step).takes_name
    bare = StepDefinition("s", "a", "confirm", {})
    assert registry.find("confirmation", bare) is None
    assert registry.find("reread", bare) is None
    registry.add(Action("try", print))
    assert registry.find("reread", step) is None


def test_what_a_registry_does_not_have_is_found_in_the_one_behind_it():
    behind = ActionRegistry()
    for action in (TRY, CONFIRM):
        behind.add(action)
    registry = ActionRegistry(behind)
    step = StepDefinition("s", "a", "try", {}, confirming_action="confirm")
    assert registry.find("action", step).action is TRY
    assert registry.find("reread", step).handler is TRY.reread
    assert registry.find("confirmation", step).action is CONFIRM
    assert registry.missing(["try", "confirm", "other"]) == ["other"]
    assert "try" in registry
    own = Action("try", print)
    registry.add(own)
    assert registry.find("action", step).action is own
    assert registry.find("reread", step) is None
    assert [action.name for action in registry] == ["try", "confirm"]
    assert registry.policy("try", None, "confirm").confirm_timeout_seconds == 3


def test_whether_an_action_is_idempotent_is_known_only_where_it_is_here():
    registry = ActionRegistry()
    registry.add(CONFIRM)
    registry.add(TRY)
    assert [registry.is_idempotent(name) for name in ("confirm", "try", "zzz")] == [
        True,
        False,
        None,
    ]


@pytest.mark.parametrize(
    "option,value,named",
    [
        ("requires_approval", "yes", "True, False, or a function"),
        ("requires_approval", None, "True, False, or a function"),
        ("identity", "id", "a tuple of keys"),
        ("identity", ["id"], "a tuple of keys"),
        ("identity", (1,), "a tuple of keys"),
    ],
)
def test_an_option_of_another_kind_is_refused_by_name(option, value, named):
    with pytest.raises(DefinitionError, match=f"{option} of action 'act'.*{named}"):
        ActionRegistry().add(Action("act", print, **{option: value}))


def test_a_confirming_action_needs_a_name():
    with pytest.raises(InvalidData, match="confirming_action of 'act'"):
        ActionRegistry().add(Action("act", print, confirming_action=" "))


def test_an_approval_may_be_a_function_of_the_data():
    registry = ActionRegistry()
    registry.add(Action("act", print, requires_approval=lambda data: data["amount"] > 1))
    assert registry.get("act").action.requires_approval({"amount": 2})


def test_an_action_that_is_replaced_loses_its_probe_and_its_verification():
    registry = ActionRegistry()
    step = StepDefinition("s", "a", "act", {})
    registry.add(CAREFUL)
    registry.add(Action("act", print))
    assert registry.find("probe", step) is None
    assert registry.find("verification", step) is None


@pytest.mark.parametrize("option", ["retry", "probe_retry", "verify_retry"])
@pytest.mark.parametrize("value", [3, True, {"attempts_max": 3}, Retry()], ids=repr)
def test_what_is_no_retry_policy_is_refused_by_name(option, value):
    with pytest.raises(DefinitionError, match=f"{option} of action 'act'.*RetryPolicy"):
        ActionRegistry().add(Action("act", print, **{option: value}))


@pytest.mark.parametrize(
    "option",
    [
        "timeout_seconds",
        "abandon_after_seconds",
        "approval_timeout_seconds",
        "undo_within_seconds",
    ],
)
@pytest.mark.parametrize("value", [0, -1, True, "5", float("nan"), float("inf"), 1e12], ids=repr)
def test_what_is_no_time_is_refused_by_name(option, value):
    with pytest.raises(DefinitionError, match=f"{option} of action 'act'.*positive number"):
        ActionRegistry().add(Action("act", print, **{option: value}))


def test_what_is_a_time_or_a_policy_is_returned_as_it_is():
    assert (checked_seconds(None, "x"), checked_seconds(0.5, "x")) == (None, 0.5)
    policy = RetryPolicy()
    assert checked_retry(None, "x") is None
    assert checked_retry(policy, "x") is policy


@pytest.mark.parametrize("option", ["in_doubt_on", "retry_on"])
@pytest.mark.parametrize("value", [ValueError, [ValueError], (ValueError(),), ("x",), (int,)])
def test_what_is_no_tuple_of_exceptions_is_refused_by_name(option, value):
    with pytest.raises(DefinitionError, match=f"{option} of action 'act'.*tuple of"):
        ActionRegistry().add(Action("act", print, **{option: value}))


# ------------------------------------------------------------------ probes and verifications


@pytest.mark.parametrize("kind", ["probe", "verify", "reread"])
@pytest.mark.parametrize(
    "handler",
    [7, lambda: None, lambda data, context, more: None, lambda data, more: None],
    ids=["no function", "nothing", "three", "another name"],
)
def test_what_cannot_be_asked_is_refused_with_its_signature(kind, handler):
    named = {"verify": "verification"}.get(kind, kind)
    with pytest.raises(DefinitionError, match=f"the {named} of action 'act'.*data"):
        ActionRegistry().add(Action("act", print, **{kind: handler}))


def test_a_registered_action_is_called_as_the_function_that_it_is(make_sync):
    @make_sync().action("act")
    def handler(action, data):
        """Say hello."""
        return (action, data)

    assert isinstance(handler, RegisteredAction)
    assert handler("act", {"x": 1}) == ("act", {"x": 1})
    assert (handler.name, handler.__name__, handler.__doc__) == ("act", "handler", "Say hello.")


def test_a_registered_action_takes_a_probe_and_a_verification(make_sync):
    manager = make_sync()

    @manager.action("act", timeout_seconds=3)
    def handler(action, data): ...

    @handler.probe
    def probe(data):
        return Done()

    @handler.verify
    def verify(data, context):
        return Clean()

    action = manager.actions.get("act").action
    assert (action.probe, action.verify, action.timeout_seconds) == (probe, verify, 3)
    assert isinstance(probe({}), Done)
    with pytest.raises(DefinitionError, match="the probe of action 'act'"):
        handler.probe(lambda: None)
    assert manager.actions.get("act").action.probe is probe
