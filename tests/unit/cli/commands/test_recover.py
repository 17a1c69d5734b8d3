import re


def test_nothing_to_recover_is_said_on_stderr(cli, made):
    made()
    ran = cli("recover")
    assert "nothing to recover" in ran.err
    assert not ran.out
    assert cli("recover --json").json == []


def test_what_cannot_be_carried_out_here_is_parked_with_5(cli, made, app):
    name = made(("pay", "refund"), ("mail", None))
    app.unknown("mail")
    cli(f"commit {name} {app.option}", code=4)
    cli(f"resolve {name} s2 --did-not-happen --note x", code=5)
    ran = cli("recover", code=5)
    assert name in ran.out
    assert "parked" in ran.out
    assert "refund" in ran.out
    assert cli("recover --json", code=5).json[0]["outcome"] == "parked"


def test_what_still_needs_a_person_after_recovery_ends_with_4(cli, made, app):
    name = made(("pay", "refund"), ("mail", None))
    app.unknown("mail")
    cli(f"commit {name} {app.option}", code=4)
    cli(f"resolve {name} s2 --did-not-happen --note x", code=5)
    app.fails("refund")
    ran = cli(f"recover {app.option}", code=4)
    assert f"aumai-transactions retry {name} s1" in ran.out
    assert "1 needs a person" in ran.err


def test_what_is_not_due_yet_is_reported_as_waiting_with_5(cli, made, app):
    name = made(("pay", "refund"), ("send", None))
    app.says("later", "send")
    cli(f"commit {name} {app.option}", code=5)
    ran = cli(f"recover {app.option}", code=5)
    row = next(line for line in ran.out.splitlines() if line.startswith(name))
    assert row.split()[1:3] == ["waiting", "active"]
    assert row.endswith("Z: s2")
    assert f"aumai-transactions retry {name} s2 --app" in ran.out
    (item,) = cli("recover --json", code=5).json
    assert (item["outcome"], item["result"]["waiting"]["reason"]) == ("waiting", "retry")
    assert app.calls == ["pay", "send"]


def test_what_becomes_due_soon_is_waited_for(cli, made, app):
    """The second attempt is due after 0.2 seconds, and recovery waits two."""
    name = made(("flaky", None))
    ran = cli(f"commit {name} {app.option} --wait-max 0", code=5)
    assert "next try" in ran.out
    ran = cli(f"recover {app.option}")
    assert re.search(rf"{name} +finished +committed", ran.out)


def test_what_waits_and_has_no_handler_here_is_reported_once(cli, made, app):
    name = made(("flaky", None))
    cli(f"commit {name} {app.option} --wait-max 0", code=5)
    ran = cli("recover --json", code=5)
    (item,) = ran.json
    assert (item["transaction_id"], item["outcome"]) == (name, "parked")
