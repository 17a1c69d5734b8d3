import click
import pytest

from aumai_transactions.cli.group import SECTIONS, main


def test_no_arguments_print_help_and_end_with_2(cli):
    ran = cli("", code=2)
    assert ran.out.startswith("Usage: aumai-transactions")
    assert not ran.err


def test_help_groups_the_commands(cli):
    lines = cli("--help").out.splitlines()
    places = [lines.index(f"{title}:") for title in SECTIONS]
    assert places == sorted(places)
    named = [line.split()[0] for line in lines if line.startswith("  ") and line[2].isalpha()]
    for names in SECTIONS.values():
        assert set(names) <= set(named)


@pytest.mark.parametrize("name", [name for names in SECTIONS.values() for name in names])
def test_every_command_has_help(cli, name):
    told = cli(f"{name} --help").out
    assert told.startswith(f"Usage: aumai-transactions {name}")
    # Examples stand on lines of their own, and no mark for that is seen.
    assert "\\b" not in told
    examples = [line for line in told.splitlines()[1:] if "aumai-transactions " in line]
    assert all(line.count("aumai-transactions ") == 1 for line in examples)


def test_a_misspelt_command_is_answered_with_the_right_one(cli):
    ran = cli("comit", code=2)
    assert "there is no command 'comit'. Did you mean commit?" in ran.err
    assert not ran.out


def test_escape_sequences_in_an_argument_are_not_echoed(cli):
    assert "\x1b" not in cli("\x1b[2J", code=2).err
    assert "\x1b" not in cli("status", "\x1b[2J", "--store", "\x1b]0;x\x07.db", code=6).err


def test_an_unknown_option_is_refused(cli):
    assert "--nope" in cli("list --nope", code=2).err


def test_a_bug_of_ours_is_told_without_a_traceback(cli, monkeypatch):
    def broken(**_):
        message = "unforeseen"
        raise ZeroDivisionError(message)

    monkeypatch.setattr(main.get_command(click.Context(main), "list"), "callback", broken)
    ran = cli("list", code=1)
    assert "bug in aumai-transactions: ZeroDivisionError: unforeseen" in ran.err
    assert "test_group.py:" in ran.err


def test_an_interrupt_ends_with_130(cli, monkeypatch):
    def interrupted(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(main.get_command(click.Context(main), "list"), "callback", interrupted)
    assert cli("list", code=130).err == "interrupted\n"


def test_the_version_is_told(cli):
    assert cli("--version").out.startswith("aumai-transactions, version ")
