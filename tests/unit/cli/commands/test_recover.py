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
