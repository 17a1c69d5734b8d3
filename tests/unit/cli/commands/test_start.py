import json
from datetime import datetime, timedelta

import pytest


def test_create_prints_what_the_seed_prints(cli, folder):
    ran = cli("create --timeout 120")
    found = ran.json
    assert list(found) == ["transaction_id", "state", "created_at", "timeout_seconds"]
    assert found["state"] == "pending"
    assert found["created_at"].endswith("+00:00")
    assert datetime.fromisoformat(found["created_at"]).utcoffset() == timedelta(0)
    assert '"timeout_seconds": 120\n' in ran.out
    assert not ran.err
    assert (folder / "transactions.json").exists()


def test_the_timeout_is_60_seconds_unless_said_otherwise(cli):
    assert '"timeout_seconds": 60\n' in cli("create").out


def test_a_timeout_with_a_fraction_stays_one(cli):
    name = cli("create --timeout 1.5").json["transaction_id"]
    assert cli(f"status {name}").json["timeout_seconds"] == 1.5


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "inf", "abc", ""])
def test_a_timeout_that_is_no_positive_number_is_refused(cli, timeout, folder):
    ran = cli("create", "--timeout", timeout, code=2)
    assert "timeout" in ran.err
    assert not ran.out


def test_the_default_folder_is_private(cli, folder):
    cli("create")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "transactions.db").stat().st_mode & 0o777 == 0o600
    assert (folder / "transactions.json").stat().st_mode & 0o777 == 0o600


def test_a_store_in_memory_is_refused(cli):
    assert "ends with this command" in cli("create --store memory:", code=2).err


def test_a_step_is_added_and_told(cli, made):
    name = made()
    ran = cli("add-step", name, "--agent", "a", "--action", "b", "--data", '{"c": 1}', "--json")
    assert ran.json["transaction_id"] == name
    assert ran.json["data"] == {"c": 1}
    plain = cli("add-step", name, "--agent", "a", "--action", "d", "--compensating-action", "e")
    assert plain.out == f"{name}: step s2, a does d, undone by e\n"
    assert cli(f"status {name}").json["steps"] == 2


@pytest.mark.parametrize(
    "data,said",
    [
        ("{", "not JSON"),
        ("[1]", "JSON object"),
        ('{"a": 1, "a": 2}', "stands twice"),
        ('{"a": NaN}', "data.a"),
        ('{"a": 1e999}', "data.a"),
        ('{"a": ' + "9" * 5000 + "}", "--data"),
        ('{"a": "\\ud800"}', "data.a"),
        ('{"a": ' + "[" * 200 + "]" * 200 + "}", "nested"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_data_that_is_no_json_object_is_refused_by_place(cli, made, data, said):
    name = made()
    ran = cli("add-step", name, "--agent", "a", "--action", "b", "--data", data, code=2)
    assert said in ran.err
    assert cli(f"status {name}").json["steps"] == 0


def test_an_empty_agent_is_refused(cli, made):
    assert "agent_id" in cli("add-step", made(), "--agent", " ", "--action", "b", code=2).err


def test_no_step_is_added_to_a_finished_transaction(cli, made):
    name = made()
    cli(f"commit {name}")
    assert "it is committed" in cli(f"add-step {name} --agent a --action b", code=7).err


def test_json_output_is_ascii_and_escapes_stay_json(cli, made):
    name = made()
    ran = cli("add-step", name, "--agent", "\x1b[2Jé\u202e", "--action", "b", "--json")
    assert ran.out.isascii()
    assert "\x1b" not in ran.out
    assert json.loads(ran.out)["agent_id"] == "\x1b[2Jé\u202e"


def test_create_with_a_key_makes_one_transaction(cli):
    first = cli("create --timeout 120 --idempotency-key order-4711").json
    assert cli("create --timeout 120 --idempotency-key order-4711").json == first
    assert cli("list --json").json["total"] == 1
    ran = cli("create --timeout 60 --idempotency-key order-4711", code=2)
    assert "begun with another timeout_seconds" in ran.err
    cli("create --idempotency-key ' '", code=2)


def test_create_with_a_key_shows_how_far_the_first_one_has_come(cli, app):
    name = cli("create --idempotency-key k").json["transaction_id"]
    cli("add-step", name, "--agent", "a", "--action", "pay")
    for _ in range(2):  # A keyed commit may be repeated, too.
        assert "committed" in cli(f"commit {name} {app.option}").out
    assert cli("create --idempotency-key k").json["state"] == "committed"
    assert app.calls == ["pay"]


def test_a_step_says_what_it_waits_for_and_where_the_commit_stands(cli, app):
    name = cli("create --parallel-compensation --on-undo-window roll_back").json["transaction_id"]
    add = f"add-step {name} --agent a --action"
    cli(f"{add} pay --after '' --confirming-action settle")
    cli(f"{add} pay --after ''")
    said = cli(f"{add} send --after s1 --after s2 --requires-approval").out
    assert said.endswith("a does send (after s1, s2; a person must allow it)\n")
    cli(f"{add} wire --pivot {app.option}")
    cli(f"{add} post --on-commit")
    found = cli(f"show {name} --json").json["transaction"]
    assert (found["parallel_compensation"], found["on_undo_window"]) == (True, "roll_back")
    told = [
        (step["after"], step["requires_approval"], step["pivot"], step["on_commit"])
        for step in found["steps"]
    ]
    assert told == [
        ([], None, False, False),
        ([], None, False, False),
        (["s1", "s2"], True, False, False),
        (None, None, True, False),
        (None, None, False, True),
    ]
    assert found["steps"][0]["confirming_action"] == "settle"


def test_a_step_that_the_commit_point_cannot_stand_before_is_refused_and_not_added(cli):
    name = cli("create").json["transaction_id"]
    add = f"add-step {name} --agent a --action"
    cli(f"{add} pay --pivot")
    assert "stands behind its pivot 's1'" in cli(f"{add} send", code=2).err
    assert "can be only one of them" in cli(f"{add} send --pivot --on-commit", code=2).err
    assert cli(f"status {name}").json["steps"] == 1
    assert "'s9', which does not exist" in cli(f"{add} send --on-commit --after s9", code=6).err


def test_what_cannot_be_undone_comes_first_only_where_somebody_insists(cli, app):
    for option, code in (("", 2), ("--allow-irreversible-first", 0)):
        name = cli(f"create {option}").json["transaction_id"]
        cli(f"add-step {name} --agent a --action wire {app.option}")
        ran = cli(
            f"add-step {name} --agent a --action pay --compensating-action refund {app.option}",
            code=code,
        )
        assert ("cannot be undone" in ran.err) is (code == 2)


def test_a_step_has_the_name_it_is_given_and_takes_what_an_earlier_one_returned(cli, app):
    name = cli("create").json["transaction_id"]
    add = ("add-step", name, "--agent", "a", "--action")
    said = cli(*add, "pay", "--name", "flight", "--data", '{"what": "seat"}').out
    assert "step flight, a does pay" in said
    data = '{"deep": [{"$output": "flight", "at": "/did"}], "all": {"$output": "flight"}}'
    said = cli(*add, "send", "--name", "mail", "--after", "", "--data", data).out
    assert said.endswith("step mail, a does send (after flight)\n")
    found = cli(f"show {name} --json").json["transaction"]["steps"]
    assert [step["step_id"] for step in found] == ["flight", "mail"]
    assert found[1]["references"] == [
        {"into": ["deep", 0], "step_id": "flight", "at": "/did", "type": None},
        {"into": ["all"], "step_id": "flight", "at": "", "type": None},
    ]
    assert "committed" in cli(f"commit {name} {app.option}").out
    mail = cli(f"show {name} --json").json["transaction"]["steps"][1]
    assert mail["data"] == {"deep": ["pay"], "all": {"did": "pay"}}


@pytest.mark.parametrize(
    "extra,said",
    [
        (["--data", '{"x": {"$output": "s9"}}'], "'s9', which does not exist"),
        (["--data", '{"x": {"$output": "s1", "at": "y"}}'], "--data: data.x.at: "),
        (["--data", '{"x": {"$output": "s1", "type": "text"}}'], "is not a JSON type"),
        (["--data", '{"$output": "s1"}'], "cannot be a reference as a whole"),
        (["--name", "s1"], "s1"),
        (["--name", " "], "--name"),
        (["--attempts-max", "0"], "--attempts-max must be"),
        (["--timeout", "-1"], "timeout_seconds"),
        (["--undo-within", "nan"], "undo_within_seconds"),
        (["--approval-timeout", "5"], "approval_timeout_seconds"),
    ],
)
def test_a_name_an_option_or_a_reference_that_cannot_be_adds_no_step(cli, extra, said):
    name = cli("create").json["transaction_id"]
    cli(f"add-step {name} --agent a --action b")
    code = 6 if "does not exist" in said else 2
    ran = cli("add-step", name, "--agent", "a", "--action", "b", *extra, code=code)
    assert said in ran.err
    assert cli(f"status {name}").json["steps"] == 1


def test_a_step_takes_from_the_command_line_what_add_step_takes(cli):
    name = cli("create").json["transaction_id"]
    cli(
        f"add-step {name} --agent a --action b --timeout 5 --attempts-max 3 --undo-within 60 "
        "--requires-approval --approval-timeout 30"
    )
    (step,) = cli(f"show {name} --json").json["transaction"]["steps"]
    assert (step["timeout_seconds"], step["retry"]["attempts_max"]) == (5, 3)
    assert (step["undo_within_seconds"], step["approval_timeout_seconds"]) == (60, 30)
