import json
import os
import tomllib
from pathlib import Path

from aumai_transactions.core.codec import decode, encode
from aumai_transactions.core.definition import Definition, Reference
from aumai_transactions.core.entries import PlanRecorded
from aumai_transactions.plans import load_plan


def test_a_plan_has_everything_that_a_transaction_needs(plan_file, trip, tmp_path):
    plan = load_plan(plan_file(trip))
    assert (plan.name, plan.timeout_seconds, plan.timeout_scope) == ("trip", 60, "start")
    assert (plan.on_crash, plan.on_compensation_failure) == (None, "continue")
    flight, card = plan.steps
    assert (flight.step_id, flight.agent_id, flight.action) == ("flight", "flight_agent", "reserve")
    assert flight.data == {"flight_id": "F123"}
    assert flight.compensating_action == "cancel"
    assert (flight.idempotent, card.idempotent) == (True, False)
    assert card.data == {"amount": 850.5, "flight": None}
    assert card.references == (Reference(("flight",), "flight", "/id"),)
    assert card.after is None
    assert list(plan.actions) == ["reserve", "cancel", "charge", "refund"]
    assert plan.actions["charge"] == {
        "compensating_action": "refund",
        "idempotent": False,
        "kind": "command",
        "argv": ["charge-card"],
        "cwd": str(tmp_path),
        "env": {},
        "input": "data",
        "timeout_seconds": 30.0,
    }
    assert plan.actions["refund"]["path"] == str(tmp_path)


def test_json_says_the_same(plan_file, trip):
    as_json = json.dumps({"$schema": "plan.schema.json", **tomllib.loads(trip)})
    assert load_plan(plan_file(as_json, "plan.json")) == load_plan(plan_file(trip))


def test_a_plan_can_be_journaled(plan_file, trip):
    plan = load_plan(plan_file(trip))
    definition = Definition(
        0, plan.timeout_seconds, plan.steps, actions=dict(plan.actions), name=plan.name
    )
    body = encode(PlanRecorded(1, definition), "e1")
    assert decode(body, "tx", 1) == ("e1", PlanRecorded(1, definition))


def test_every_option_arrives(plan_file):
    text = """
    name = "night run"
    timeout_seconds = 1.5
    timeout_scope = "transaction"
    on_crash = "roll_back"
    on_compensation_failure = "halt"
    [actions.look]
    kind = "http"
    url = "http://localhost:1/x?y=z"
    method = "GET"
    headers = { Authorization = { env = "TRIP_TOKEN", prefix = "Bearer " }, X-Plain = "a" }
    timeout_seconds = 5
    effect = "none"
    on_unknown = "ask"
    missing = "fail"
    response_bytes_max = 10
    [[steps]]
    agent = "a"
    action = "look"
    [[steps]]
    agent = "b"
    action = "look"
    after = []
    compensating_action = "look"
    """
    plan = load_plan(plan_file(text))
    assert (plan.name, plan.timeout_seconds, plan.timeout_scope) == (
        "night run",
        1.5,
        "transaction",
    )
    assert (plan.on_crash, plan.on_compensation_failure) == ("roll_back", "halt")
    assert plan.actions["look"] == {
        "kind": "http",
        "url": "http://localhost:1/x?y=z",
        "method": "GET",
        "headers": {
            "Authorization": {"env": "TRIP_TOKEN", "prefix": "Bearer "},
            "X-Plain": "a",
        },
        "timeout_seconds": 5.0,
        "idempotent": False,
        "effect": "none",
        "on_unknown": "ask",
        "missing": "fail",
        "response_bytes_max": 10,
    }
    first, second = plan.steps
    assert (first.step_id, second.step_id) == ("s1", "s2")
    assert (first.effect, first.on_unknown) == ("none", "ask")
    assert (second.after, second.compensating_action) == ((), "look")


def test_names_and_numbers_have_sensible_defaults(plan_file):
    text = '[[steps]]\nagent = "a"\naction = "x"\n'
    plan = load_plan(plan_file(text, "night-run.toml"), known_actions=["x"])
    assert plan.name == "night-run"
    assert plan.timeout_seconds == 60
    assert isinstance(plan.timeout_seconds, int)
    assert plan.steps[0].data == {}
    assert plan.actions == {}


def test_references_are_found_anywhere_in_the_data(plan_file):
    text = """
    [[steps]]
    name = "a"
    agent = "x"
    action = "do"
    [[steps]]
    name = "b"
    agent = "x"
    action = "do"
    [steps.data]
    whole = { "$output" = "a" }
    [steps.data.deep]
    list = [
      1,
      { x = { "$output" = "a", at = "/rooms/0/a~1b~0" } },
      { "$output" = "a", at = "" },
    ]
    """
    (_, step) = load_plan(plan_file(text), known_actions={"do"}).steps
    assert step.references == (
        Reference(("whole",), "a", ""),
        Reference(("deep", "list", 1, "x"), "a", "/rooms/0/a~1b~0"),
        Reference(("deep", "list", 2), "a", ""),
    )
    assert step.data == {"whole": None, "deep": {"list": [1, {"x": None}, None]}}


def test_a_step_may_refer_to_a_later_one_where_that_is_no_circle(plan_file):
    text = """
    [[steps]]
    name = "a"
    agent = "x"
    action = "do"
    after = []
    data = { b = { "$output" = "b" } }
    [[steps]]
    name = "b"
    agent = "x"
    action = "do"
    after = []
    """
    plan = load_plan(plan_file(text), known_actions={"do"})
    assert plan.steps[0].references[0].step_id == "b"


def test_relative_paths_belong_to_the_plan_file_wherever_it_is_read_from(tmp_path, monkeypatch):
    folder = tmp_path / "plans"
    folder.mkdir()
    (folder / "p.toml").write_text("""
    [actions.a]
    kind = "command"
    argv = ["./run.sh"]
    cwd = "bin"
    [actions.b]
    kind = "python"
    call = "m:f"
    path = "/elsewhere"
    [[steps]]
    agent = "x"
    action = "a"
    compensating_action = "b"
    """)
    monkeypatch.chdir(tmp_path)
    plan = load_plan(Path("plans") / "p.toml")
    assert plan.actions["a"]["cwd"] == os.fspath(folder / "bin")
    assert plan.actions["b"]["path"] == "/elsewhere"


def test_reading_a_plan_imports_and_runs_nothing(plan_file, tmp_path):
    (tmp_path / "billing.py").write_text("raise RuntimeError('imported')")
    text = """
    [actions.a]
    kind = "python"
    call = "billing:refund"
    [[steps]]
    agent = "x"
    action = "a"
    """
    assert load_plan(plan_file(text)).actions["a"]["call"] == "billing:refund"
