"""`submit`: what it prints, what it leaves, and what it refuses."""

import pytest

PLAN = """
name = "trip"
crashes_max = 7
[metadata]
tenant = "acme"
[[steps]]
agent = "a"
action = "pay"
compensating_action = "refund"
[[steps]]
agent = "b"
action = "send"
compensating_action = "unsend"
"""


@pytest.fixture
def plan(cli, tmp_path):
    file = tmp_path / "here" / "trip.toml"
    file.write_text(PLAN)
    return "trip.toml"


def test_a_plan_is_recorded_and_its_id_printed_and_nothing_runs(cli, app, plan):
    ran = cli(f"submit {plan} {app.option}")
    name = ran.out.strip()
    assert cli(f"status {name}").json["state"] == "pending"
    assert app.calls == []
    row = cli("list").out.splitlines()[1]
    assert name in row
    assert row.endswith("a worker")
    shown = cli(f"show {name}").out
    assert "tenant=acme" in shown
    assert "submitted: it waits for a worker, or for: aumai-transactions recover" in shown
    transaction = cli(f"show {name} --json").json["transaction"]
    assert (transaction["metadata"], transaction["crashes_max"]) == ({"tenant": "acme"}, 7)
    assert cli("list --json").json["items"][0]["tenant"] == "acme"


def test_json_is_what_create_prints(cli, app, plan):
    told = cli(f"submit {plan} {app.option} --json").json
    assert list(told) == ["transaction_id", "state", "created_at", "timeout_seconds"]
    assert told["state"] == "pending"


def test_what_is_said_on_the_line_counts_more_than_what_the_plan_says(cli, app, plan):
    words = f"submit {plan} {app.option} --metadata tenant=other --metadata by=me --crashes-max 2"
    name = cli(words).out.strip()
    transaction = cli(f"show {name} --json").json["transaction"]
    assert transaction["metadata"] == {"tenant": "other", "by": "me"}
    assert transaction["crashes_max"] == 2


def test_twice_under_one_key_is_once(cli, app, plan):
    words = f"submit {plan} {app.option} --idempotency-key k"
    first = cli(words).out
    assert cli(words).out == first
    assert cli("list --json").json["total"] == 1
    cli(f"worker --until-idle -q {app.option}")
    assert cli(words).out == first
    assert app.calls == ["pay", "send"]
    cli(f"{words} --metadata x=y", code=2)


def test_a_key_that_was_submitted_can_be_run(cli, app, plan):
    cli(f"submit {plan} {app.option} --idempotency-key k")
    cli(f"run {plan} {app.option} --idempotency-key k")
    assert app.calls == ["pay", "send"]


def test_what_was_put_together_by_hand_is_submitted_by_its_id(cli, made, app):
    name = made(("pay", "refund"))
    assert cli(f"submit --tx-id {name[:8]}").out.strip() == name
    assert "it is submitted" in cli(f"submit --tx-id {name}", code=7).err
    add = f"add-step {name} --agent a --action send"
    assert "it is submitted" in cli(add, code=7).err
    assert "it is submitted" in cli(f"commit {name} {app.option}", code=7).err
    cli(f"worker --until-idle -q {app.option}")
    assert app.calls == ["pay"]


def test_what_was_submitted_can_be_rolled_back(cli, made, app):
    name = made(("pay", "refund"))
    cli(f"submit --tx-id {name}")
    cli(f"rollback {name} {app.option}")
    assert cli(f"status {name}").json["state"] == "rolled_back"
    assert app.calls == ["refund"]


def test_waiting_carries_nothing_out_and_ends_when_the_time_is_over(cli, app, plan):
    ran = cli(f"submit {plan} {app.option} --wait --timeout 0", code=5)
    assert "submitted: it waits for a worker" in ran.out
    assert app.calls == []


def test_waiting_ends_with_the_code_of_the_outcome(cli, app, plan):
    words = f"submit {plan} {app.option} --idempotency-key k"
    app.fails("send")
    cli(words)
    cli(f"worker --until-idle -q {app.option}")
    ran = cli(f"{words} --wait", code=3)
    assert "rolled_back" in ran.out
    assert cli(f"{words} --wait --json", code=3).json["state"] == "rolled_back"


@pytest.mark.parametrize(
    "words,said",
    [
        ("submit", "name a plan file, or a pending transaction with --tx-id"),
        ("submit trip.toml --tx-id 1", "name a plan file, or a pending transaction"),
        ("submit trip.toml --timeout 3", "--timeout says how long to --wait"),
        ("submit --tx-id 1 --metadata a=b", "belong to its `create`"),
        ("submit trip.toml --metadata tenant", "write it as NAME=TEXT"),
        ("submit trip.toml --metadata =x", "write it as NAME=TEXT"),
        ("submit trip.toml --metadata a=b --metadata a=c", "is given twice"),
        ("submit trip.toml --crashes-max 0", "--crashes-max"),
        ("submit trip.toml", 'names the action "pay", which is not defined'),
    ],
)
def test_what_cannot_be_meant_is_refused(cli, plan, words, said):
    assert said in cli(words, code=2).err
    cli("list", code=6)


def test_create_takes_metadata_as_well(cli):
    name = cli("create --metadata tenant=acme --crashes-max 3").json["transaction_id"]
    transaction = cli(f"show {name} --json").json["transaction"]
    assert (transaction["metadata"], transaction["crashes_max"]) == ({"tenant": "acme"}, 3)
