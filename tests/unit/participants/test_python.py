import sys

import pytest
from pydantic import ValidationError

from aumai_transactions.actions import ActionRegistry
from aumai_transactions.errors import DefinitionError
from aumai_transactions.models import RetryPolicy
from aumai_transactions.participants.python import PythonDefinition


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module that no other test has, and forget it afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    names = []

    def write(name, text, folder=tmp_path):
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(text)
        names.append(name)
        return folder

    yield write
    for name in names:
        sys.modules.pop(name, None)


def handler_of(call, path=None):
    return PythonDefinition.model_validate({"kind": "python", "call": call, "path": path}).handler()


def test_the_function_itself_is_the_handler(module, tmp_path):
    module("trip_one", "def act(action, data):\n    return [action, data]\n")
    assert handler_of("trip_one:act", str(tmp_path))("a", {"x": 1}) == ["a", {"x": 1}]


def test_a_function_may_take_the_context_and_be_async(module, tmp_path):
    text = "async def act(action, data, *, context):\n    return context.step_id\n"
    module("trip_async", text)
    definition = PythonDefinition(kind="python", call="trip_async:act", path=str(tmp_path))
    registry = ActionRegistry()
    registry.add(definition.action("act"))
    callee = registry.get("act")
    assert callee is not None
    assert (callee.is_async, callee.context_parameter) == (True, "context")


def test_an_installed_module_needs_no_path():
    assert handler_of("json.decoder:JSONDecodeError") is not None


def test_a_relative_path_belongs_to_the_plan_file(tmp_path):
    definition = PythonDefinition(kind="python", call="a:b")
    assert definition.located(tmp_path).path == str(tmp_path)
    lib = definition.model_copy(update={"path": "lib"})
    assert lib.located(tmp_path).path == str(tmp_path / "lib")


@pytest.mark.parametrize(
    "text,call,told",
    [
        ("", "trip_bad:act", "has no function named 'act'"),
        ("act = 5", "trip_bad:act", "has no function, but something else, named 'act'"),
        ("import nothing_like_it", "trip_bad:act", "ModuleNotFoundError: No module named 'noth"),
        ("def act(:", "trip_bad:act", "SyntaxError"),
        ("raise RuntimeError('no')", "trip_bad:act", "RuntimeError: no"),
        ("raise SystemExit(0)", "trip_bad:act", "SystemExit"),
        ("", "trip_nowhere:act", "module trip_nowhere cannot be imported from"),
    ],
)
def test_a_function_that_cannot_be_had_is_named(text, call, told, module, tmp_path):
    module("trip_bad", text)
    with pytest.raises(DefinitionError) as caught:
        handler_of(call, str(tmp_path))
    assert told in str(caught.value)
    assert call in str(caught.value)


def test_a_path_that_is_no_folder_is_named(tmp_path):
    with pytest.raises(DefinitionError, match="gone is not a folder"):
        handler_of("trip_gone:act", str(tmp_path / "gone"))


def test_a_module_of_the_same_name_from_elsewhere_is_refused(module, tmp_path):
    one = module("trip_same", "def act(action, data):\n    return 1\n", tmp_path / "one")
    two = module("trip_same", "def act(action, data):\n    return 2\n", tmp_path / "two")
    assert handler_of("trip_same:act", str(one))("a", {}) == 1
    with pytest.raises(DefinitionError, match="already imported another module trip_same"):
        handler_of("trip_same:act", str(two))
    assert handler_of("trip_same:act", str(one))("a", {}) == 1


@pytest.mark.parametrize(
    "call", ["", "a", "a:", ":b", "a:b:c", "a:b()", "a b:c", "a/../b:c", ".a:b", "a:b.c", "a:b\n"]
)
def test_a_call_is_a_module_and_a_function_and_nothing_else(call):
    with pytest.raises(ValidationError):
        PythonDefinition.model_validate({"kind": "python", "call": call})


QUESTIONS = """
from aumai_transactions.answers import Clean, Done

def act(action, data):
    return action

def ask(data, context):
    return Done([data, context.operation])

def look(data):
    return Clean()
"""


def test_the_functions_of_a_probe_and_a_verification_are_handed_on(module, tmp_path):
    folder = str(module("trip_asked", QUESTIONS))
    action = PythonDefinition.model_validate(
        {
            "kind": "python",
            "call": "trip_asked:act",
            "path": folder,
            "timeout_seconds": 5,
            "abandon_after_seconds": 7.5,
            "probe": {"call": "trip_asked:ask", "retry": {"attempts_max": 2}},
            "verify": {"call": "trip_asked:look", "path": folder},
        }
    ).action("act")
    assert (action.timeout_seconds, action.abandon_after_seconds) == (5, 7.5)
    assert action.probe is not None
    assert action.verify is not None
    assert (action.probe.__name__, action.verify.__name__) == ("ask", "look")
    assert action.probe_retry == RetryPolicy(attempts_max=2)
    assert action.verify_retry is None


def test_without_a_limit_there_is_none(module):
    folder = str(module("trip_free", QUESTIONS))
    definition = PythonDefinition(kind="python", call="trip_free:act", path=folder)
    action = definition.action("act")
    assert (action.timeout_seconds, action.abandon_after_seconds) == (None, None)
    assert (action.probe, action.verify) == (None, None)


@pytest.mark.parametrize("key", ["probe", "verify"])
def test_a_question_that_cannot_be_had_is_named_by_its_key(key, module):
    folder = str(module("trip_half", "def act(action, data): ..."))
    definition = PythonDefinition.model_validate(
        {"kind": "python", "call": "trip_half:act", "path": folder, key: {"call": "trip_half:no"}}
    )
    with pytest.raises(DefinitionError, match=f"^{key}: call = 'trip_half:no': .*no function"):
        definition.action("act")


def test_the_folder_of_a_question_is_its_own_or_that_of_its_action(tmp_path):
    definition = PythonDefinition.model_validate(
        {
            "kind": "python",
            "call": "a:b",
            "path": "lib",
            "probe": {"call": "a:c"},
            "verify": {"call": "a:d", "path": "other"},
        }
    ).located(tmp_path)
    assert definition.probe is not None
    assert definition.verify is not None
    assert definition.path == definition.probe.path == str(tmp_path / "lib")
    assert definition.verify.path == str(tmp_path / "other")
