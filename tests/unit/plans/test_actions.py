import sys
from typing import Any

import pytest

from aumai_transactions.actions import ActionRegistry, StepContext
from aumai_transactions.errors import DefinitionError
from aumai_transactions.plans import actions_for, check_environment, load_plan

PLAN = """
[actions.write]
kind = "command"
argv = ["sh", "-c", "cat > written.json"]
compensating_action = "erase"
idempotent = true
on_unknown = "ask"
[actions.erase]
kind = "python"
call = "trip_erasing:erase"
[actions.look]
kind = "http"
url = "http://127.0.0.1:1/"
effect = "none"
[[steps]]
agent = "a"
action = "write"
"""


@pytest.fixture
def plan(plan_file, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "trip_erasing.py").write_text("def erase(action, data):\n    return action\n")
    yield load_plan(plan_file(PLAN))
    sys.modules.pop("trip_erasing", None)


def test_actions_need_nothing_but_their_definitions(plan, tmp_path, monkeypatch):
    (tmp_path / "plan.toml").unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    actions = {action.name: action for action in actions_for(plan.actions)}
    write, erase, look = actions["write"], actions["erase"], actions["look"]
    assert (write.compensating_action, write.idempotent, write.on_unknown) == ("erase", True, "ask")
    assert (look.effect, look.is_plain) == ("none", False)
    context = StepContext("tx", "s1", "a", "write", "action", 1, "tx/s1/action")
    write.handler("write", {"x": 1}, context)
    assert (tmp_path / "written.json").read_text() == '{"x":1}'
    assert erase.handler("erase", {}) == "erase"


def test_every_kind_of_handler_can_be_registered_and_gets_its_context(plan):
    registry = ActionRegistry()
    for action in actions_for(plan.actions):
        registry.add(action)
    parameters = {
        name: callee.context_parameter
        for name in ("write", "erase", "look")
        if (callee := registry.get(name))
    }
    assert parameters == {"write": "context", "erase": None, "look": "context"}


def test_a_function_that_cannot_be_imported_is_named_with_its_action(plan, tmp_path):
    (tmp_path / "trip_erasing.py").write_text("import nothing_like_it")
    with pytest.raises(DefinitionError, match=r"action 'erase': call = 'trip_erasing:erase': .*No"):
        actions_for(plan.actions)


@pytest.mark.parametrize(
    "definition,told",
    [
        ({"kind": "pigeon"}, "pigeon"),
        ({}, "kind"),
        ({"kind": "http", "url": "http://h/", "later": 1}, "later: Extra inputs"),
        ({"kind": "http"}, "url: Field required"),
    ],
)
def test_a_definition_that_this_release_does_not_know_is_refused(definition, told):
    with pytest.raises(DefinitionError, match=f"the definition of action 'x' cannot be.*{told}"):
        actions_for({"x": definition})


def test_what_is_missing_here_is_said_at_once_before_anything_runs(monkeypatch, tmp_path):
    monkeypatch.delenv("TRIP_TOKEN", raising=False)
    definitions: dict[str, dict[str, Any]] = {
        "ask": {"kind": "http", "url": "http://h/", "headers": {"X": {"env": "TRIP_TOKEN"}}},
        "run": {"kind": "command", "argv": ["no-such-program"], "cwd": str(tmp_path)},
        "fine": {"kind": "command", "argv": ["sh"]},
    }
    with pytest.raises(DefinitionError) as caught:
        check_environment(definitions)
    assert str(caught.value).splitlines() == [
        "Nothing was run, for something is missing here:",
        "action 'ask': header X: environment variable TRIP_TOKEN is not set.",
        "action 'run': argv: the program 'no-such-program' was not found, or cannot be executed.",
    ]
    monkeypatch.setenv("TRIP_TOKEN", "x")
    check_environment({"ask": definitions["ask"], "fine": definitions["fine"]})
