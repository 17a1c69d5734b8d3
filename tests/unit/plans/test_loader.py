import json
import os
import tomllib
from pathlib import Path

import pytest

from aumai_transactions.core.codec import decode, encode
from aumai_transactions.core.definition import Definition, Reference
from aumai_transactions.core.entries import PlanRecorded
from aumai_transactions.errors import DefinitionError
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
    deep = { list = [1, { x = { "$output" = "a", at = "/rooms/0/a~1b~0" } }, { "$output" = "a", at = "" }] }
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


# ------------------------------------------------------------------------------------- mistakes


def step(**lines):
    return "\n".join(["[[steps]]", *(f"{key} = {text}" for key, text in lines.items())]) + "\n"


OK = step(name='"a"', agent='"x"', action='"do"')
HTTP = '[actions.do]\nkind = "http"\nurl = "http://h/"\n'

MISTAKES = [
    # shape: unknown keys, missing keys, wrong kinds of value
    ("timeout_secnds = 3\n" + OK, 'timeout_secnds: is not a key of a plan. Did you mean "timeout_s'),
    ("zzz = 3\n" + OK, "zzz: is not a key of a plan. Known are: $schema, name, timeout_seconds"),
    (step(agnt='"x"', action='"do"'), 'steps[1].agnt: is not a key of a step. Did you mean "agent"'),
    (OK + step(name='"hotel"', action='"do"'), 'steps[2].agent: is missing. (step "hotel")'),
    (OK + step(agent="3", action='"do"'), "steps[2].agent: must be text in quotes, not a number."),
    (step(agent='" "', action='"do"'), "steps[1].agent: must match pattern"),
    (step(agent='"x"', action='"do"', data="3"), "steps[1].data: must be a table, not a number."),
    (step(agent='"x"', action='"do"', after='"a"'), "steps[1].after: must be a list, not text."),
    (step(agent='"x"', action='"do"', after="[1]"), "steps[1].after[1]: must be text in quotes"),
    ('[steps]\nagent = "x"\n', "steps: must be a list of at least one step; in TOML, each begins"),
    ("steps = []\n", "steps: must be a list of at least one step"),
    ('name = "x"\n', "steps: is missing."),
    ("name = 3\n" + OK, "name: must be text in quotes, not a number."),
    ("timeout_seconds = 0\n" + OK, "timeout_seconds: must be greater than 0."),
    ("timeout_seconds = -1\n" + OK, "timeout_seconds: must be greater than 0."),
    ("timeout_seconds = inf\n" + OK, "timeout_seconds: must be a finite number."),
    ("timeout_seconds = nan\n" + OK, "timeout_seconds: must be"),
    ("timeout_seconds = true\n" + OK, "timeout_seconds: must be a number, not true or false."),
    ('timeout_seconds = "60"\n' + OK, "timeout_seconds: must be a number, not text."),
    ('timeout_scope = "all"\n' + OK, 'timeout_scope: must be "start" or "transaction".'),
    ('on_crash = "forward"\n' + OK, 'on_crash: must be "resume" or "roll_back".'),
    ('on_compensation_failure = "stop"\n' + OK, 'on_compensation_failure: must be "continue" or'),
    ("actions = 3\n" + OK, "actions: must be a table, not a number."),
    # actions
    ('[actions.do]\nurl = "http://h/"\n' + OK, "actions.do: has no kind. Add kind = one of"),
    ('[actions.do]\nkind = "htp"\n' + OK, 'actions.do: has the unknown kind "htp"; known are'),
    ('[actions.do]\nkind = "htp"\n' + OK, 'Did you mean "http"?'),
    ('[actions.do]\nkind = "http"\n' + OK, "actions.do.url: is missing."),
    (HTTP + 'retrys = 3\nidempotnt = true\n' + OK, "actions.do.retrys: is not a key of an action of"),
    (HTTP + "idempotnt = true\n" + OK, 'actions.do.idempotnt: is not a key of an action of kind "h'),
    (HTTP + "idempotnt = true\n" + OK, 'Did you mean "idempotent"?'),
    (HTTP + "argv = []\n" + OK, "actions.do.argv: is not a key of an action of kind"),
    (HTTP + "http = 3\n" + OK, "actions.do.http: is not a key of an action of kind"),
    (HTTP + "idempotent = 1\n" + OK, "actions.do.idempotent: must be true or false, not a number."),
    (HTTP + 'method = "post"\n' + OK, 'actions.do.method: must be "GET", "POST", "PUT", "PATCH" or'),
    (HTTP + "timeout_seconds = 0\n" + OK, "actions.do.timeout_seconds: must be greater than 0."),
    (HTTP + "timeout_seconds = 86401\n" + OK, "actions.do.timeout_seconds: must be less than or"),
    (HTTP + "response_bytes_max = 1.5\n" + OK, "actions.do.response_bytes_max: must be a whole"),
    (HTTP + "headers = { Host = 'x' }\n" + OK, "actions.do.headers: header Host is set by every"),
    (HTTP + "headers = { X = 3 }\n" + OK, 'actions.do.headers.X: must be text, or { env = "NAME" }'),
    (HTTP + "headers = { X = { env = 'A-B' } }\n" + OK, "actions.do.headers.X.env: must match"),
    (HTTP + "headers = { X = { evn = 'A' } }\n" + OK, 'actions.do.headers.X.evn: is not a key of a v'),
    (HTTP + "headers = { env = { evn = 'A' } }\n" + OK, "actions.do.headers.env.evn: is not a key"),
    (HTTP + 'effect = "none"\ncompensating_action = "do"\n' + OK, "actions.do: effect ="),
    ('[actions.do]\nkind = "http"\nurl = "file:///etc/passwd"\n' + OK, "actions.do.url: must begin"),
    ('[actions.do]\nkind = "http"\nurl = "http://u:p@h/"\n' + OK, "actions.do.url: must not hold a u"),
    ('[actions.do]\nkind = "command"\nargv = "rm -rf"\n' + OK, "actions.do.argv: must be a list, not"),
    ('[actions.do]\nkind = "command"\nargv = []\n' + OK, "actions.do.argv: list should have at least"),
    ('[actions.do]\nkind = "command"\nargv = ["a", 3]\n' + OK, "actions.do.argv[2]: must be text in"),
    ('[actions.do]\nkind = "python"\ncall = "os.system"\n' + OK, "actions.do.call: must match"),
    ('[actions."a b"]\nkind = "http"\n' + OK, 'actions."a b".url: is missing.'),
    # names that must exist
    (step(agent='"x"', action='"dp"'), 'steps[1].action: names the action "dp", which is not defi'),
    (step(agent='"x"', action='"dp"'), 'Did you mean "do"?'),
    (step(agent='"x"', action='"do"', compensating_action='"undo"'), "steps[1].compensating_action"),
    (HTTP + 'compensating_action = "zzz"\n' + OK, "actions.do.compensating_action: names the action"),
    (OK + step(name='"b"', agent='"x"', action='"do"', after='["a", "c"]'), "steps[2].after[2]: nam"),
    (OK + step(name='"b"', agent='"x"', action='"do"', after='["aa"]'), 'Did you mean "a"?'),
    (OK + OK, 'steps[2].name: is "a", and so is the name of steps[1].'),
    (step(name='"s2"', agent='"x"', action='"do"') + step(agent='"x"', action='"do"'), "steps[2].na"),
    (step(name='"a"', agent='"x"', action='"do"', after='["a"]'), 'steps[1]: waits for itself: "a" →'),
    (
        step(name='"a"', agent='"x"', action='"do"', after='["b"]') + step(name='"b"', agent='"x"',
        action='"do"'),
        "waits for itself:",
    ),
    # data and references
    (step(agent='"x"', action='"do"', data="{ n = nan }"), "steps[1].data.n: nan is not a JSON numb"),
    (OK + step(agent='"x"', action='"do"', data="{ l = [1, inf] }"), "steps[2].data.l[2]: inf is not"),
    (step(agent='"x"', action='"do"', data="{ n = 99999999999999999999 }"), "steps[1].data.n: does"),
    (step(agent='"x"', action='"do"', data="{ d = 1979-05-27 }"), "steps[1].data.d: is a date or"),
    (step(agent='"x"', action='"do"', data='{ t = "\\u0000" }'), "steps[1].data.t: holds a NUL"),
    (step(agent='"x"', action='"do"', data='{ "$output" = "a" }'), "steps[1].data: cannot be a refer"),
    (OK + step(agent='"x"', action='"do"', data='{ r = { "$output" = "q" } }'), "steps[2].data.r.$o"),
    (OK + step(agent='"x"', action='"do"', data='{ r = { "$output" = 3 } }'), "steps[2].data.r.$outpu"),
    (
        OK + step(agent='"x"', action='"do"', data='{ r = [{ "$output" = "a", att = "/x" }] }'),
        "steps[2].data.r[1].att: is not a key of a reference",
    ),
    (
        OK + step(agent='"x"', action='"do"', data='{ r = { "$output" = "a", at = "id" } }'),
        'steps[2].data.r.at: "id" is not a JSON pointer',
    ),
    (
        OK + step(agent='"x"', action='"do"', data='{ r = { "$output" = "a", at = "/~2" } }'),
        'steps[2].data.r.at: "/~2" is not a JSON pointer',
    ),
    (
        step(name='"a"', agent='"x"', action='"do"', data='{ r = { "$output" = "b" } }')
        + step(name='"b"', agent='"x"', action='"do"'),
        "waits for itself:",
    ),
]  # fmt: skip


@pytest.mark.parametrize("text,message", MISTAKES)
def test_a_mistake_is_named_by_file_table_and_key(text, message, plan_file):
    path = plan_file(text)
    with pytest.raises(DefinitionError) as caught:
        load_plan(path, known_actions=["do"])
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
    assert "pydantic" not in str(caught.value)


def test_a_mistake_does_not_quote_what_may_be_a_secret(plan_file):
    text = HTTP + 'headers = { Authorization = ["Bearer s3cret"] }\n' + OK
    with pytest.raises(DefinitionError) as caught:
        load_plan(plan_file(text), known_actions=["do"])
    assert "s3cret" not in str(caught.value)


def test_the_most_telling_mistake_comes_first_and_the_others_are_counted(plan_file):
    text = step(agnt='"x"', action="3")
    with pytest.raises(DefinitionError, match=r"agnt: is not a key .* \(2 more problems in this"):
        load_plan(plan_file(text))
