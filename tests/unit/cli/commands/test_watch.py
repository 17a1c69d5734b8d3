"""`watch`: the journal as it grows, and when that ends."""

import json

import pytest


def test_a_finished_one_is_told_and_that_is_all(cli, made, app):
    name = made(("pay", "refund"))
    cli(f"commit {name} {app.option}")
    lines = cli(f"watch {name}").out.splitlines()
    said = [line.split("  ", 1)[1] for line in lines]
    assert said[0] == "recorded: 0 steps"
    assert "commit requested" in said
    assert "somebody has taken it, and carries it out" in said
    assert "s1: an_agent starts pay" in said
    assert said[-1] == "committed"


def test_json_has_one_entry_a_line(cli, made, app):
    name = made(("pay", "refund"))
    cli(f"commit {name} {app.option}")
    told = [json.loads(line) for line in cli(f"watch {name} --json").out.splitlines()]
    assert [event["sequence"] for event in told] == list(range(1, len(told) + 1))
    assert told == cli(f"show {name} --events --json").json


@pytest.mark.parametrize("fails,code", [("", 0), ("send", 3)])
def test_with_wait_the_exit_code_tells_the_outcome(cli, made, app, fails, code):
    name = made(("pay", "refund"), ("send", None))
    if fails:
        app.fails(fails)
    cli(f"commit {name} {app.option}", code=code)
    cli(f"watch {name} --wait", code=code)
    cli(f"watch {name}")


def test_it_ends_where_a_person_is_needed(cli, made, app):
    name = made(("mail", None))
    app.unknown("mail")
    cli(f"commit {name} {app.option}", code=4)
    assert "nobody knows whether s1 happened" in cli(f"watch {name}").err
    cli(f"watch {name} --wait", code=4)


def test_an_approval_ends_it_unless_it_is_to_wait(cli, made, app):
    name = made(("pay", None, "--requires-approval"))
    cli(f"submit --tx-id {name}")
    cli(f"worker --until-idle -q {app.option}")
    assert "a person must allow s1" in cli(f"watch {name}").err
    cli(f"watch {name} --wait --timeout 0", code=5)


def test_it_ends_when_the_time_is_over(cli, made):
    name = made(("pay", None))
    cli(f"submit --tx-id {name}")
    assert "no worker has taken it yet" in cli(f"watch {name} --timeout 0").err
    cli(f"watch {name} --timeout 0 --wait", code=5)


def test_what_is_not_there_is_not_watched(cli, made):
    made()
    cli("watch nonsense", code=6)
