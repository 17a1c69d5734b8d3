"""What a person sees at a terminal: the block that is drawn over, and what is left of it."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
PATHS = os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")])
SECONDS_MAX = 60
PLAN = """
name = "trip"
[actions.go]
kind = "command"
argv = ["true"]
[actions.back]
kind = "command"
argv = ["true"]
[actions.refuse]
kind = "command"
argv = ["sh", "-c", "echo declined >&2; exit 1"]
[[steps]]
name = "flight"
agent = "flight_agent"
action = "go"
compensating_action = "back"
[[steps]]
name = "charge"
agent = "billing_agent"
action = "refuse"
compensating_action = "back"
"""
LATER_PLAN = """
name = "trip"
[actions.go]
kind = "command"
argv = ["true"]
compensating_action = "go"
idempotent = true
[actions.charge]
kind = "python"
call = "bank:charge"
idempotent = true
[[steps]]
name = "flight"
agent = "flight_agent"
action = "go"
[[steps]]
name = "charge"
agent = "billing_agent"
action = "charge"
"""
BANK = """
from aumai_transactions import RetryLater
def charge(action, data):
    raise RetryLater(3600, "closed")
"""
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def terminal(tmp_path):
    """Run a command at a terminal of a certain size; give everything it wrote there."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    (here / "plan.toml").write_text(PLAN)
    (here / "later.toml").write_text(LATER_PLAN)
    (here / "bank.py").write_text(BANK)

    def run(*words, columns=100, code=0, piped=False, **variables):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("AUMAI_")
            and name not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"}
        }
        environment |= {"HOME": str(home), "PYTHONPATH": PATHS, "TERM": "xterm-256color"}
        process = subprocess.Popen(
            [sys.executable, "-m", "aumai_transactions", *words],
            stdin=theirs,
            stdout=subprocess.PIPE if piped else theirs,
            stderr=theirs,
            env=environment | variables,
            cwd=here,
        )
        os.close(theirs)
        seen = b""
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # Linux says so when the other side is closed.
                break
            if not chunk:
                break
            seen += chunk
        os.close(ours)
        out, _ = process.communicate(timeout=SECONDS_MAX)
        assert process.returncode == code, seen.decode()
        text = seen.decode().replace("\r\n", "\n")
        return (text, out.decode()) if piped else text

    return run


def screen(text):
    """What stands on an endless screen after all that was written, without colours."""
    lines, row = [""], 0
    for part in re.split(r"(\x1b\[\??\d*[A-Za-z]|\n|\r)", COLOUR.sub("", text)):
        if part == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif up := re.fullmatch(r"\x1b\[(\d+)A", part):
            row -= int(up[1])
        elif part == "\x1b[J":
            lines[row:] = [""]
        elif part == "\x1b[K":
            continue
        elif part and not part.startswith("\x1b") and part != "\r":
            lines[row] = part
    return [line.rstrip() for line in lines]


def test_progress_is_drawn_over_and_gives_way_to_the_result(terminal):
    text = terminal("run", "plan.toml", code=3)
    assert re.search(r"\x1b\[\d+A", text)
    left = screen(text)
    assert re.fullmatch(rf"transaction {UUID}", left[0])
    assert re.fullmatch(rf"Transaction {UUID}: rolled_back \(step failed\)", left[1])
    assert sum("flight_agent" in line for line in left) == 1
    assert COLOUR.search(text)


def test_the_last_picture_stays_where_the_result_goes_elsewhere(terminal):
    text, out = terminal("run", "plan.toml", code=3, piped=True)
    left = screen(text)
    assert left[1].startswith("rolled_back (step failed)")
    assert any("undo" in line and "flight_agent" in line for line in left)
    assert "\x1b" not in out
    assert "rolled_back" in out


def test_no_color_takes_the_colours_and_leaves_the_drawing(terminal):
    text = terminal("run", "plan.toml", code=3, NO_COLOR="1")
    assert not COLOUR.search(text)
    assert re.search(r"\x1b\[\d+A", text)


def test_a_dumb_terminal_gets_lines(terminal):
    text = terminal("run", "plan.toml", code=3, TERM="dumb")
    assert "\x1b" not in text
    assert "flight: flight_agent starts go" in text


def test_quiet_draws_nothing(terminal):
    text = terminal("run", "-q", "plan.toml", code=3)
    assert not re.search(r"\x1b\[\d+A", text)


def test_tables_fit_the_terminal_and_no_id_is_shortened_however_narrow_it_is(terminal):
    terminal("run", "plan.toml", code=3)
    (name,) = re.findall(UUID, terminal("list", columns=200))
    for columns in (20, 80, 120):
        for command in (["list"], ["show", name]):
            shown = screen(terminal(*command, columns=columns))
            assert any(name in line for line in shown)
            assert not any("…" in line for line in shown)
            assert columns == 20 or max(map(len, shown)) <= columns


def test_the_cursor_wraps_again_after_the_last_picture(terminal):
    text = terminal("run", "plan.toml", code=3)
    assert text.rfind("\x1b[?7h") > text.rfind("\x1b[?7l")


def test_a_transaction_that_waits_fits_80_columns(terminal):
    text = terminal("run", "later.toml", code=5, columns=80, NO_COLOR="1")
    # Why no more: in the hour before midnight the time has its date, and the table other columns.
    assert re.search(r"next\s+try", text)
    (name,) = set(re.findall(UUID, text))
    left = screen(text)
    assert left[1] == f"Transaction {name}: active"
    assert f"      aumai-transactions retry {name} charge" in left
    (item,) = [line for line in screen(terminal("list", columns=80)) if name in line]
    assert re.search(r"active +1/2 +\d{4}-\d\d-\d\d \S+Z$", item)
    for command in (["list"], ["show", name]):
        assert max(map(len, screen(terminal(*command, columns=80)))) <= 80
