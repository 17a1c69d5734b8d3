"""What is stuck behind the commit point: it only goes forward, and a person helps."""

import re

import pytest


@pytest.fixture
def stuck(cli, made, app):
    """A transaction whose commit is decided, and whose held step fails."""
    name = made(("pay", "refund"), ("post", None, "--on-commit"))
    app.fails("post", "no mail server")
    ran = cli(f"commit {name} {app.option}", code=4)
    assert f"Transaction {name}: committing" in ran.out
    return name


def test_it_is_listed_with_the_commands_that_go_on(cli, stuck):
    said = cli("outstanding").out
    assert f"{stuck}  commit stuck" in said
    assert "s2: the commit is decided, and post failed: RuntimeError: no mail server" in said
    assert f"aumai-transactions retry {stuck} s2 --app module:attribute" in said
    for answer in ("--happened", "--left-in-place"):
        assert f"aumai-transactions resolve {stuck} s2 {answer} --note 'how you know'" in said
    assert re.search(r"committing +1/2 .*a person: commit stuck", cli("list").out)
    assert stuck in cli("list --state committing --attention").out
    for command in (f"show {stuck}", "outstanding", "list"):
        cli(f"{command} --exit-status", code=4)


def test_it_can_not_be_rolled_back(cli, stuck, app):
    ran = cli(f"rollback {stuck} {app.option}", code=7)
    assert "it is committing. Its commit point is passed, and nothing was changed" in ran.err
    assert "asked it to go back" not in ran.err
    assert app.calls == ["pay", "post"]


def test_a_retry_needs_its_handler_and_ends_the_commit(cli, stuck, app):
    assert "'post'" in cli(f"retry {stuck} s2", code=2).err
    cli(f"retry {stuck} s2 {app.option}", code=4)
    app.works("post")
    ran = cli(f"retry {stuck} s2 {app.option}")
    assert ": committed" in ran.out
    assert re.search(r"post +done .*, attempt 3\n", ran.out)


def test_a_person_may_say_that_it_has_happened_or_is_left_out(cli, stuck, app, made):
    ran = cli(f"resolve {stuck} s2 --undone --note x", code=7)
    assert "happened or left-in-place" in ran.err
    ran = cli(f"resolve {stuck} s2 --happened --note 'sent by hand' {app.option}")
    assert re.search(r"post +decided done\n", ran.out)
    other = made(("pay", "refund"), ("post", None, "--on-commit"))
    cli(f"commit {other} {app.option}", code=4)
    ran = cli(f"resolve {other} s2 --left-in-place --note 'not needed' {app.option}")
    assert re.search(r"post +decided left out\n", ran.out)
    assert "committed" in ran.out


def test_a_confirmation_that_fails_is_tried_again(cli, made, app):
    name = made(("pay", "refund", "--confirming-action", "settle"))
    app.fails("settle", "the bank is closed")
    ran = cli(f"commit {name} {app.option}", code=4)
    assert re.search(r"pay +done \d+ ms, not confirmed", ran.out)
    said = "s1: the commit is decided, and settle could not confirm pay: RuntimeError: the bank"
    assert said in ran.out
    assert "confirmation: RuntimeError: the bank is closed" in cli(f"show {name}").out
    assert "'settle'" in cli(f"retry {name} s1", code=2).err
    app.works("settle")
    ran = cli(f"retry {name} s1 {app.option}")
    assert re.search(r"pay +done \d+ ms, confirmed \d+ ms, attempt 2", ran.out)
    assert "s1: confirmed, attempt 2" in ran.err


def test_a_person_may_confirm_by_hand(cli, made, app):
    name = made(("pay", "refund", "--confirming-action", "settle"))
    app.fails("settle")
    cli(f"commit {name} {app.option}", code=4)
    ran = cli(f"resolve {name} s1 --happened --note 'by phone' {app.option}")
    assert re.search(r"pay +done \d+ ms, confirmed by hand", ran.out)


def test_the_course_of_a_commit_is_told(cli, made, app):
    name = made(
        ("pay", "refund", "--confirming-action", "settle"),
        ("send", None, "--pivot"),
        ("post", None, "--on-commit"),
    )
    ran = cli(f"commit {name} {app.option}")
    assert app.calls == ["pay", "send", "settle", "post"]
    said = [line.partition("  ")[2] for line in ran.err.splitlines()]
    decided = said.index("the commit is decided: from here on it only goes forward")
    assert said.index("s1: confirming it") > decided
    assert said.index("s1: confirmed") < said.index("s3: an_agent starts post")
    shown = cli(f"show {name}").out
    assert re.search(r"course\n    \S+ \S+  the commit is decided", shown)
    assert "s2  the pivot: its success is the commit" in shown
