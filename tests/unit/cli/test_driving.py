import contextlib
import io
import signal

import pytest

from aumai_transactions.cli import main


class Interrupting(io.StringIO):
    """A terminal at which somebody presses Ctrl-C when a certain text appears."""

    def __init__(self, text):
        super().__init__()
        self._text = text

    def write(self, text):
        written = super().write(text)
        if self._text in text:
            self._text = "\0"
            signal.raise_signal(signal.SIGINT)
        return written


@pytest.fixture
def interrupted(home):
    def run(text, *words):
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        out, err = io.StringIO(), Interrupting(text)
        try:
            with (
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
                pytest.raises(SystemExit) as left,
            ):
                main(list(words))
        finally:
            signal.signal(signal.SIGINT, before)
        assert "Traceback" not in out.getvalue() + err.getvalue()
        return left.value.code, out.getvalue(), err.getvalue()

    return run


@pytest.mark.parametrize(
    "text,calls",
    [
        ("transaction ", ["refund"]),
        ("s1: done", ["pay", "unsend", "refund"]),
        ("s2: done", ["pay", "send", "unsend", "refund"]),
    ],
)
def test_an_interrupt_between_two_calls_undoes_all_that_may_have_happened(  # noqa: PLR0917
    cli, made, app, interrupted, text, calls
):
    """The next intent is journaled already, so its step is undone as one in doubt."""
    name = made(("pay", "refund"), ("send", "unsend"), ("mail", None))
    code, out, _ = interrupted(text, "commit", name, *app.option.split())
    assert code == 130
    assert [call for call in app.calls if call != "mail"] == calls
    assert "Transaction " in out
    cli("verify")
    assert "nothing to recover" in cli("recover").err


def test_an_interrupt_while_it_is_undone_does_not_stop_the_undoing(cli, made, app, interrupted):
    name = made(("pay", "refund"), ("send", "unsend"), ("mail", None))
    app.fails("mail")
    code, _, _ = interrupted("s2: undoing it", "commit", name, *app.option.split())
    assert code == 130
    assert app.calls[-1] == "refund"
    assert cli(f"status {name}").json["state"] == "rolled_back"


def test_an_interrupt_before_anything_runs_leaves_a_pending_transaction_pending(
    cli, made, app, interrupted, tmp_path
):
    name = made(("pay", "refund"))
    module = tmp_path / "here" / f"stopping_{app.module}.py"
    module.write_text(
        "import signal\n"
        "from aumai_transactions import TransactionManager\n"
        "def stop(step):\n    signal.raise_signal(signal.SIGINT)\n"
        "handlers = {'pay': print, 'refund': print}\n"
        "manager = TransactionManager(handlers, before_record=stop)\n"
    )
    code, _, _ = interrupted("\0", "commit", name, "--app", f"{module.stem}:manager")
    assert code == 130
    assert cli(f"status {name}").json["state"] == "pending"


def test_a_handler_that_leaves_the_program_is_in_doubt_and_undone(cli, made, app, tmp_path):
    name = made(("pay", "refund"))
    module = tmp_path / "here" / f"leaving_{app.module}.py"
    module.write_text(
        "import sys\nfrom pathlib import Path\n"
        "def pay(action, data):\n    sys.exit(0)\n"
        "def refund(action, data):\n    Path('refunded').touch()\n"
        "handlers = {'pay': pay, 'refund': refund}\n"
    )
    ran = cli(f"commit {name} --app {module.stem}:handlers", code=3)
    assert "rolled_back" in ran.out
    assert (tmp_path / "here" / "refunded").exists()
    assert cli(f"status {name}").json["state"] == "rolled_back"


def test_an_interrupt_behind_the_commit_point_undoes_nothing(cli, made, app, interrupted):
    name = made(("pay", "refund"), ("post", None, "--on-commit"), ("settle", None, "--on-commit"))
    code, _, err = interrupted("s2: done", "commit", name, *app.option.split())
    assert code == 130
    assert "refund" not in app.calls
    assert "interrupted" in err
    assert cli(f"status {name}").json["state"] in ("committing", "committed")
    cli(f"recover {app.option}")
    assert cli(f"status {name}").json["state"] == "committed"
    assert "settle" in app.calls


def test_an_interrupt_while_an_approval_is_waited_for_undoes_what_was_done(
    cli, made, app, interrupted
):
    name = made(("pay", "refund"), ("send", None, "--requires-approval"))
    words = ("commit", name, *app.option.split())
    code, out, _ = interrupted("allow it with", *words)
    assert code == 130
    assert app.calls == ["pay", "refund"]
    assert f"Transaction {name}: rolled_back" in out
