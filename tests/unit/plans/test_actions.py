import json
import sys
from functools import partial
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


HOSTED = """
http_hosts = ["127.0.0.1", "api.example.com:443"]
[actions.reserve]
kind = "http"
url = "http://127.0.0.1:8101/seats/{data.id}"
compensating_action = "cancel"
[actions.reserve.probe]
url = "https://api.example.com/calls?key={forward_key}"
[actions.cancel]
kind = "http"
url = "https://api.example.com/cancel"
hosts = ["api.example.com"]
[actions.tidy]
kind = "command"
argv = ["true"]
[[steps]]
agent = "a"
action = "reserve"
[[steps]]
agent = "a"
action = "tidy"
"""


def test_the_hosts_of_a_plan_travel_with_each_of_its_http_actions(plan_file):
    plan = load_plan(plan_file(HOSTED))
    assert plan.actions["reserve"]["hosts"] == ["127.0.0.1", "api.example.com:443"]
    assert plan.actions["cancel"]["hosts"] == ["api.example.com"]
    assert "hosts" not in plan.actions["tidy"]
    assert len(actions_for(plan.actions)) == 3


@pytest.mark.parametrize("key", ["url", "probe"])
def test_a_journaled_definition_that_calls_another_host_becomes_no_handler(key, plan_file):
    journaled = json.loads(json.dumps(load_plan(plan_file(HOSTED)).actions))
    evil = "http://evil.example/"
    journaled["reserve"][key] = evil if key == "url" else {**journaled["reserve"][key], "url": evil}
    with pytest.raises(DefinitionError, match=r"calls evil\.example, which hosts does not name"):
        actions_for(journaled)


def test_whoever_runs_journaled_definitions_sets_a_limit_of_their_own(plan_file):
    definitions = load_plan(plan_file(HOSTED)).actions
    source = partial(actions_for, http_hosts=["127.0.0.1:8101", "api.example.com"])
    assert [action.name for action in source(definitions)] == ["reserve", "cancel", "tidy"]
    with pytest.raises(DefinitionError) as caught:
        actions_for(definitions, http_hosts={"127.0.0.1"})
    assert str(caught.value) == (
        "action 'reserve': probe.url calls api.example.com, which http_hosts does not name. Add it "
        "there if it may be called."
    )
    with pytest.raises(DefinitionError, match=r"url calls 127\.0\.0\.1:8101"):
        actions_for(definitions, http_hosts=[])
    assert actions_for({"tidy": definitions["tidy"]}, http_hosts=[])


@pytest.mark.parametrize("hosts", ["api.example.com", ["http://h/"], ["*"]])
def test_a_limit_that_is_none_is_refused(hosts):
    with pytest.raises(DefinitionError, match=r"^http_hosts"):
        actions_for({}, http_hosts=hosts)
