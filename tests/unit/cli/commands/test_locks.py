"""`locks`: who holds what, who waits, and what to do about it."""

# mypy: disable-error-code="attr-defined"

import json
from contextvars import copy_context

import pytest

from aumai_transactions import Resource, TransactionManager


@pytest.fixture
def program(folder):
    """A program that holds account:42 and reads rate:usd, and goes on when the block is left."""
    folder.mkdir(parents=True)
    manager = TransactionManager(store=str(folder / "transactions.db"))
    uses: list[str | Resource] = ["account:42", Resource.shared("rate:usd")]
    manager.action("pay", compensating_action="refund", resources=uses)(lambda *_: None)
    manager.action("refund")(lambda *_: None)
    block = manager.transaction()

    def begin():
        block.__enter__()
        block.execute("billing", "pay", {})

    # Why in a context of its own: the tests do not stand in its block.
    copy_context().run(begin)
    block.dies = manager.close
    yield block
    manager.close()


def add(cli, *options):
    name = cli("create").json["transaction_id"]
    words = ("add-step", name, "--agent", "clerk", "--action", "pay", *options)
    cli(*words)
    return name


def test_locks_tells_who_holds_what_and_who_waits_behind_whom(cli, app, program):
    holder = program.transaction_id
    waiter = add(cli, "--resource", "Account:42")
    cli("commit", waiter, "--app", f"{app.module}:manager", "--wait-max", "0", code=5)
    ran = cli("locks")
    lines = [line.split(maxsplit=2) for line in ran.out.splitlines()]
    assert [line[:2] for line in lines[1:]] == [
        ["account:42", holder],
        ["account:42", waiter],
        ["rate:usd", holder],
    ]
    assert "exclusive, token 1" in lines[1][2]
    assert "a living process" in lines[1][2]
    assert f"behind {holder}" in lines[2][2]
    assert "waits, place 1 (exclusive)" in lines[2][2]
    assert "shared, token 1" in lines[3][2]
    assert ran.err == ""


def test_locks_of_one_resource_are_found_by_any_of_its_names(cli, program):
    found = cli("locks", " ACCOUNT:42", "--json").json
    (lock,) = found["items"]
    assert found["total"] == 1
    assert lock["resource"] == "account:42"
    assert (lock["mode"], lock["token"], lock["place"]) == ("exclusive", 1, None)
    assert lock["transaction"]["agents"] == ["billing"]
    assert lock["is_alive"] is True
    assert "nobody holds or wants it" in cli("locks account:43").err


def test_locks_names_what_finishes_a_dead_holder(cli, program):
    program.dies()
    ran = cli("locks")
    assert "no living process has it" in ran.out
    assert f"{program.transaction_id}: no living process has it; finish it with" in ran.err
    assert "aumai-transactions recover --app module:attribute" in ran.err
    assert ran.err.count("recover") == 1, "once for each holder"
    assert [item["is_alive"] for item in cli("locks --json").json["items"]] == [False, False]


def test_locks_where_nobody_has_any_says_so(cli):
    cli("create")
    ran = cli("locks")
    assert ran.out == ""
    assert "nobody holds or wants anything" in ran.err
    assert cli("locks --json").json == {"items": [], "total": 0}


def test_a_commit_that_only_waits_for_a_lock_ends_with_5_and_names_who_has_it(cli, app, program):
    waiter = add(cli, "--resource", "account:42", "--shared-resource", "rate:usd")
    ran = cli(
        "commit", waiter, "--app", f"{app.module}:manager", "--wait-max", "0", "--json", code=5
    )
    waiting = ran.json["waiting"]
    assert waiting["reason"] == "lock"
    assert program.transaction_id in waiting["detail"]
    ran = cli("show", waiter)
    assert "it stands in line for what others use" in ran.out
    assert "aumai-transactions locks" in ran.out
    assert f"waits for account:42, rate:usd (shared), behind {program.transaction_id}" in ran.out
    assert "uses account:42, rate:usd (shared)" in ran.out


def test_a_killed_holder_is_recovered_and_who_waited_goes_on(cli, app, program):
    waiter = add(cli, "--resource", "account:42")
    cli("commit", waiter, "--app", f"{app.module}:manager", "--wait-max", "0", code=5)
    program.dies()
    cli("rollback", program.transaction_id, "--app", f"{app.module}:manager")
    assert (
        cli("wait", waiter, "--app", f"{app.module}:manager", "--json").json["state"] == "committed"
    )
    assert "locks_granted" in cli("show", waiter, "--events").out


def test_create_and_add_step_say_what_is_done_about_resources(cli):
    ran = cli("create --isolation validated --lock-timeout 5 --release-outstanding-locks")
    name = ran.json["transaction_id"]
    words = ["--resource", "B:1", "--shared-resource", "a:2", "--json"]
    step = cli("add-step", name, "--agent", "x", "--action", "pay", *words).json
    assert step["resources"] == [
        {"name": "b:1", "mode": "exclusive"},
        {"name": "a:2", "mode": "shared"},
    ]
    found = json.loads(cli("show", name, "--json").out)["transaction"]
    assert found["isolation"] == "validated"
    assert found["lock_timeout_seconds"] == 5
    assert found["release_outstanding_locks"] is True


@pytest.mark.parametrize("words", ["--lock-timeout 0", "--lock-timeout nan", "--isolation some"])
def test_what_cannot_be_is_refused(cli, words):
    cli(f"create {words}", code=2)


def test_a_resource_that_names_nothing_is_refused(cli):
    name = cli("create").json["transaction_id"]
    cli("add-step", name, "--agent", "x", "--action", "pay", "--resource", " ", code=2)
    assert "a non-empty text" in cli("locks", " ", code=2).err
