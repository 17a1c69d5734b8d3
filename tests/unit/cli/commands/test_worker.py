"""`worker`: what it says, does and leaves."""
# mypy: disable-error-code="method-assign"

import json

import pytest

from aumai_transactions import TransactionManager


@pytest.fixture
def submitted(cli, made):
    def make(*steps):
        name = made(*steps)
        cli(f"submit --tx-id {name}")
        return name

    return make


def test_it_says_what_it_serves_and_lacks_and_what_became_of_each(cli, app, submitted):
    name = submitted(("pay", "refund"))
    lost = submitted(("nobody_has_it", None))
    ran = cli(f"worker --until-idle --concurrency 3 {app.option}")
    assert ran.out == ""
    assert "all agents, 3 at a time" in ran.err
    # Why not the whole: what other modules of this process have decorated is served as well.
    (actions,) = [line for line in ran.err.splitlines() if "actions: " in line]
    assert {"asked_briefly", "book", "charge", "pay", "refund"} <= set(
        actions.partition("actions: ")[2].split(", ")
    )
    assert "no handler for nobody_has_it, which 1 transaction may need" in ran.err
    assert f"{name}  finished: committed" in ran.err
    assert f"{lost}  parked: missing handler nobody_has_it" in ran.err
    assert "stopped; everything is handed back" in ran.err
    assert app.calls == ["pay"]


def test_json_is_one_report_a_line(cli, app, submitted):
    names = [submitted(("pay", "refund")) for _ in range(3)]
    ran = cli(f"worker --until-idle --json -q {app.option}")
    told = [json.loads(line) for line in ran.out.splitlines()]
    assert sorted(report["transaction_id"] for report in told) == sorted(names)
    assert {report["outcome"] for report in told} == {"finished"}
    assert {report["result"]["state"] for report in told} == {"committed"}
    assert ran.err == ""


def test_it_serves_the_agents_that_it_is_told(cli, app, submitted):
    name = submitted(("pay", "refund"))
    cli(f"worker --until-idle -q --agents somebody,else {app.option}")
    assert app.calls == []
    ran = cli(f"worker --until-idle --agents ' an_agent ,else' {app.option}")
    assert "an_agent, else, 8 at a time" in ran.err
    assert cli(f"status {name}").json["state"] == "committed"


def test_an_end_without_a_person_is_0_whatever_became_of_the_transactions(cli, app, submitted):
    submitted(("pay", "refund"), ("send", None))
    app.fails("send")
    assert "finished: rolled back" in cli(f"worker --until-idle {app.option}").err


@pytest.mark.parametrize(
    "words",
    [
        "--concurrency 0",
        "--agents ''",
        "--agents a,,b",
        "--poll 0",
        "--drain 0",
        "--drain nan",
    ],
)
def test_what_cannot_be_is_refused(cli, made, words):
    made()
    cli(f"worker --until-idle {words}", code=2)


def test_a_worker_makes_no_store(cli):
    cli("worker --until-idle", code=6)


# ---------------------------------------------------------------------------------------- poison


@pytest.fixture
def poisoned(cli, app, submitted, folder):
    """A transaction in whose step a process has died, which was one too many."""
    name = cli("create --crashes-max 1").json["transaction_id"]
    cli(f"add-step {name} --agent a --action post {app.option}")
    cli(f"submit --tx-id {name} {app.option}")
    manager = TransactionManager(store=folder / "transactions.db")

    class Died(BaseException):
        pass

    def die(action, data):
        manager._desk().store.append = refuse
        raise Died

    def refuse(appends):
        raise Died

    manager.action("post", idempotent=True)(die)
    with pytest.raises(Died):
        manager.wait(name)
    manager.close()
    cli(f"worker --until-idle -q {app.option}")
    assert app.calls == []
    return name


def test_what_kills_its_driver_is_told_with_the_way_out(cli, poisoned):
    assert "a person: kills its driver" in cli("list").out
    told = cli("outstanding --exit-status", code=4).out
    assert "a process has died of it, in a call of s1, so nobody takes it" in told
    assert f"aumai-transactions retry {poisoned} s1" in told
    assert f"aumai-transactions rollback {poisoned}" in told
    assert "needs a person" in cli(f"show {poisoned} --exit-status", code=4).out
    cli(f"watch {poisoned} --wait", code=4)
    cli(f"wait {poisoned}", code=4)


def test_a_person_without_handlers_can_give_it_back_to_workers(cli, app, poisoned):
    ran = cli(f"retry {poisoned} s1 --note repaired", code=5)
    assert "recorded, but not carried out yet" in ran.err
    cli(f"worker --until-idle -q {app.option}")
    assert app.calls == ["post"]
    assert cli(f"status {poisoned}").json["state"] == "committed"


def test_a_person_can_let_it_go_back(cli, app, poisoned):
    cli(f"rollback {poisoned} {app.option}", code=4)
    assert cli(f"status {poisoned}").json["state"] == "rolled_back"
