"""`run` with an idempotency key: the same command again does nothing twice."""

import pytest

PLAN = """
name = "{name}"
[actions.note]
kind = "command"
argv = ["sh", "-c", 'echo "$AUMAI_STEP" >> notes; echo {{\\"id\\": 7}}']
[actions.refuse]
kind = "command"
argv = ["sh", "-c", "echo too expensive >&2; exit 1"]
[[steps]]
name = "first"
agent = "buyer"
action = "note"
data = {{ amount = {amount}, rate = 1.0 }}
[[steps]]
name = "second"
agent = "buyer"
action = "{second}"
data = {{ of = {{ "$output" = "first", at = "/id" }}, z = 1, a = 2 }}
"""


@pytest.fixture
def plan(tmp_path, home):
    """Write a plan file and return the command that runs it under a key."""

    def write(*, name="purchase", amount=5, second="note"):
        text = PLAN.format(name=name, amount=amount, second=second)
        (tmp_path / "here" / "plan.toml").write_text(text)
        return "run plan.toml --idempotency-key order-4711"

    return write


@pytest.fixture
def notes(tmp_path):
    def read():
        path = tmp_path / "here" / "notes"
        return path.read_text().split() if path.exists() else []

    return read


def test_the_outcome_of_the_first_is_told_and_nothing_is_done_twice(cli, plan, notes):
    first = cli(plan())
    again = cli(plan())
    assert again.out == first.out
    assert "the key belongs to transaction" in again.err
    assert notes() == ["first", "second"]
    assert cli("list --json").json["total"] == 1
    assert cli(f"{plan()} --json").json["state"] == "committed"


def test_a_rolled_back_one_stays_rolled_back_and_ends_with_its_code(cli, plan, notes):
    cli(plan(second="refuse"), code=3)
    assert "too expensive" in cli(plan(second="refuse"), code=3).out
    assert notes() == ["first"]


@pytest.mark.parametrize("change", [{"amount": 6}, {"name": "other"}, {"second": "refuse"}])
def test_another_plan_under_the_same_key_is_refused(cli, plan, notes, change):
    cli(plan(amount=1))
    ran = cli(plan(**({"amount": 1} | change)), code=2)
    assert "the idempotency key 'order-4711' belongs to transaction" in ran.err
    assert not ran.out
    assert notes() == ["first", "second"]


def test_one_that_was_put_together_by_hand_is_not_run_over(cli, plan, notes, app):
    name = cli("create --idempotency-key order-4711 --timeout 60").json["transaction_id"]
    cli("add-step", name, "--agent", "a", "--action", "pay")
    assert "belongs to transaction" in cli(plan(), code=2).err
    assert notes() == []
    assert cli(f"status {name}").json["steps"] == 1


def test_a_key_is_refused_where_it_would_be_forgotten(cli, plan, notes):
    assert "forgets" in cli(f"{plan()} --store memory:", code=2).err
    assert notes() == []


WAITING = """
[actions.later]
kind = "python"
call = "{module}:note"
idempotent = true
[[steps]]
agent = "buyer"
action = "later"
retry = {{ attempts_max = 3 }}
timeout_seconds = 20
"""


def test_a_parked_one_is_told_and_goes_on_when_it_is_asked_to(cli, app, tmp_path):
    (tmp_path / "here" / "wait.toml").write_text(WAITING.format(module=app.module))
    app.says("later", "later")
    command = "run wait.toml --idempotency-key k"
    name = cli(f"{command} --json", code=5).json["transaction_id"]
    ran = cli(command, code=5)
    assert "next try" in ran.out
    assert f"aumai-transactions wait {name}\n" in ran.out
    assert app.calls == ["later"]
    (step,) = cli(f"show {name} --json").json["transaction"]["steps"]
    assert (step["retry"]["attempts_max"], step["timeout_seconds"]) == (3, 20)
    app.no_longer("later", "later")
    cli(f"retry {name} s1")
    assert "committed" in cli(command).out
    assert app.calls == ["later", "later"]
