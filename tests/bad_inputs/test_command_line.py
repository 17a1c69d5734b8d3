"""Rows 1 to 16: words on a command line that cannot be meant."""

import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import aumai_transactions
from aumai_transactions.stores.sqlite import SqliteStore

_SOURCE = str(Path(aumai_transactions.__file__).resolve().parents[1])


def _python(*words):
    return [sys.executable, "-m", "aumai_transactions", *words]


def text_file(path):
    path.write_text("Dear diary,\n" * 100)


def foreign_database(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE books (title)")
    connection.close()


def newer_store(path):
    SqliteStore(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9")
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def cut_store(path):
    SqliteStore(path).close()
    path.write_bytes(path.read_bytes()[:5_000])


def without_its_tables(path):
    SqliteStore(path).close()
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE transactions")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


# ---------------------------------------------------------------------------------- words, rows 1-2


def test_row_01_no_arguments_show_help_and_end_with_2(home):
    ended = subprocess.run(
        _python(),
        capture_output=True,
        check=False,
        text=True,
        env=os.environ | {"PYTHONPATH": _SOURCE},
    )
    assert (ended.returncode, ended.stderr) == (2, "")
    assert "Usage: aumai-transactions" in ended.stdout
    assert "recover" in ended.stdout


@pytest.mark.parametrize(
    "words,named",
    [
        pytest.param(["comit"], ["no command 'comit'", "Did you mean commit?"], id="row 02 comit"),
        pytest.param([""], ["no command ''"], id="row 02 an empty command"),
        pytest.param(["\x1b[2Jlist"], ["\\x1b[2Jlist"], id="row 02 an escape sequence"),
        pytest.param(["--strore", "x", "list"], ["--strore"], id="row 02 unknown option"),
        pytest.param(["list", "--limit"], ["--limit", "argument"], id="row 02 no value"),
        pytest.param(["list", "--limit", "x"], ["--limit", "'x'"], id="row 02 text for a number"),
        pytest.param(["list", "--limit", "-1"], ["--limit", "x>=0"], id="row 02 negative limit"),
        pytest.param(["list", "--state", "done"], ["--state", "'committed'"], id="row 02 state"),
        pytest.param(["show"], ["TX is missing", "by its id"], id="row 02 no id"),
        pytest.param(["show", ""], ["TX is empty"], id="row 02 empty id"),
        pytest.param(["show", "a", "b"], ["unexpected: 'b'"], id="row 02 one word too many"),
        pytest.param(["completion", "tcsh"], ["'tcsh'", "'bash'"], id="row 02 unknown shell"),
        pytest.param(["create", "--timeout", "nan"], ["timeout_seconds"], id="row 30 timeout nan"),
        pytest.param(["create", "--timeout", "-1"], ["positive"], id="row 30 negative timeout"),
        pytest.param(["create", "--metadata", "x"], ["NAME=TEXT"], id="row 02 metadata"),
        pytest.param(["create", "--crashes-max", "0"], ["--crashes-max"], id="row 02 crashes"),
        pytest.param(["create", "--lock-timeout", "inf"], ["at most"], id="row 30 lock timeout"),
        pytest.param(["run", "plan.toml", "--wait-max", "nan"], ["how long"], id="row 30 wait nan"),
        pytest.param(["run", "plan.toml", "--wait-max", "-1"], ["--wait-max"], id="row 30 wait -1"),
        pytest.param(["purge", "--older-than", "x"], ["30d"], id="row 02 age"),
        pytest.param(["purge", "--older-than", "1d"], ["--yes", "--dry-run"], id="row 02 nobody"),
        pytest.param(["worker", "--concurrency", "0"], ["--concurrency"], id="row 02 no threads"),
        pytest.param(["worker", "--poll", "nan"], ["poll_seconds"], id="row 30 poll nan"),
        pytest.param(["run", "nope.toml"], ["nope.toml", "does not exist"], id="row 54 no plan"),
        pytest.param(["run", "store.db"], [".toml", "rename it"], id="row 54 another file"),
        pytest.param(["run", "plan.toml", "--app", "x"], ["module:attribute"], id="row 23 app"),
        pytest.param(
            ["run", "plan.toml", "--app", "nope:x"],
            ["there is no module 'nope'"],
            id="row 23 no module",
        ),
        pytest.param(
            ["run", "plan.toml", "--app", "os:path"],
            ["os:path", "not a TransactionManager"],
            id="row 23 no handlers",
        ),
        pytest.param(
            ["run", "plan.toml", "--app", "os:nope"],
            ["there is no 'nope' in it"],
            id="row 23 no attribute",
        ),
        pytest.param(
            ["run", "plan.toml", "--idempotency-key", ""], ["is empty"], id="row 02 empty key"
        ),
        pytest.param(["list", "--store", "memory:"], ["name a file"], id="row 03 memory"),
    ],
)
def test_a_word_that_cannot_be_meant_is_a_usage_error(cli, store, unchanged, words, named):
    place, _ = store
    chosen = [] if words[:2] == ["list", "--store"] else ["--store", place]
    with unchanged():
        cli(*chosen, *words, code=2, named=named)


# -------------------------------------------------------------------------------- stores, rows 3-8


@pytest.mark.parametrize("words", [["list"], ["create"], ["recover"]], ids=" ".join)
@pytest.mark.parametrize(
    "make,named",
    [
        pytest.param(Path.mkdir, ["is a directory", "Name a file in it"], id="row 03 directory"),
        pytest.param(os.mkfifo, ["not a regular file"], id="row 03 pipe"),
        pytest.param(text_file, ["not a store", "Nothing was changed"], id="row 05 text"),
        pytest.param(foreign_database, ["of another program", "application id"], id="row 05 db"),
        pytest.param(Path.touch, ["is empty", "backup"], id="row 06 empty file"),
        pytest.param(newer_store, ["schema version 9", "Install a newer"], id="row 08 newer"),
        pytest.param(cut_store, ["damaged", "backup"], id="row 65 short file"),
        pytest.param(
            without_its_tables,
            ["does not have the tables", "backup"],
            id="row 65 no table",
        ),
    ],
)
def test_what_is_no_store_is_refused_and_left_alone(cli, unchanged, words, make, named):
    place = Path.cwd() / "it.db"
    make(place)
    if make is os.mkfifo:
        ran = cli(*words, "--store", str(place), code=1, named=[str(place), *named])
        assert ran.err.count("error:") == 1
        return
    with unchanged():
        cli(*words, "--store", str(place), code=1, named=[str(place), *named])


def test_row_03_doctor_finds_what_is_no_store(here):
    ended = subprocess.run(
        _python("doctor", "--store", str(here)),
        capture_output=True,
        check=False,
        text=True,
        env=os.environ | {"PYTHONPATH": _SOURCE},
    )
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "is a directory, not a store. Name a file in it" in ended.stdout


def test_row_04_a_missing_folder_is_named_and_not_made(cli, here, unchanged):
    with unchanged():
        place = str(here / "nope" / "x.db")
        cli("--store", place, "create", code=6, named=[str(here / "nope"), "Create it first"])
        cli("--store", place, "list", code=6, named=[str(here / "nope"), place])
    assert not (here / "nope").exists()


@pytest.mark.parametrize(
    "words", [["list"], ["show", "x"], ["verify"], ["worker", "--until-idle"], ["wait", "x"]]
)
def test_row_06_a_store_that_is_not_there_is_not_made_by_a_look(cli, here, unchanged, words):
    with unchanged():
        named = [str(here / "gone.db"), "aumai-transactions create"]
        cli(*words, "--store", "gone.db", code=6, named=named)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_row_07_a_read_only_store_and_folder_are_named(cli, here, store):
    place, _ = store
    Path(place).chmod(0o400)
    cli("list", "--store", place, code=1, named=[place, "cannot be written", "Grant that"])
    Path(place).chmod(0o600)
    here.chmod(0o500)
    try:
        cli("list", "--store", place, code=1, named=[place, "or its folder", "Grant that"])
    finally:
        here.chmod(0o700)


def test_row_07_a_folder_in_which_nothing_can_be_made_is_named(cli, here, monkeypatch):
    (here / "file").touch()
    monkeypatch.setenv("HOME", str(here / "file"))
    cli("create", code=1, named=[str(here / "file"), "cannot be made", os.strerror(errno.ENOTDIR)])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="row 67 empty"),
        pytest.param("mysql://u:hush@h/db", id="row 67 unknown scheme"),
        pytest.param("sqlite://x", id="row 67 two slashes"),
        pytest.param("sqlite:///x?mode=ro", id="row 67 a query"),
        pytest.param(":memory:", id="row 67 SQLite's own memory"),
        pytest.param("a\0b", id="row 67 NUL"),
        pytest.param("a\ud800b", id="row 67 a lone surrogate"),
    ],
)
def test_a_name_that_names_no_store_is_refused_with_the_forms_there_are(cli, unchanged, name):
    with unchanged():
        ran = cli("create", "--store", name, code=1, named=["sqlite:///relative.db"])
    assert "hush" not in ran.err


# -------------------------------------------------------------------- streams and bytes, rows 10-11


@pytest.mark.parametrize(
    "closing",
    [
        pytest.param("<&-", id="row 10 stdin closed"),
        pytest.param("2>&-", id="row 10 stderr closed"),
        pytest.param("<&- 2>&-", id="row 10 stdin and stderr closed"),
        pytest.param("| true", id="row 10 a reader that never reads"),
        pytest.param("| head -c 1", id="row 10 a reader that leaves"),
        pytest.param(">&- <&- 2>&-", id="row 10 no stream at all"),
    ],
)
def test_row_10_a_stream_that_is_not_there_is_no_error(here, store, closing):
    place, _ = store
    script = f'set -o pipefail; "$@" {closing}'
    command = ["bash", "-c", script, "bash"]
    ended = subprocess.run(
        [*command, *_python("list", "--store", place)],
        capture_output=True,
        check=False,
        text=True,
        env=os.environ | {"PYTHONPATH": _SOURCE},
        stdin=subprocess.DEVNULL,
    )
    assert ended.returncode == 0, ended
    assert ended.stderr == ""


def test_row_10_a_result_that_cannot_be_written_is_an_error(here, store):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            _python("list", "--store", store[0]),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            text=True,
            env=os.environ | {"PYTHONPATH": _SOURCE},
        )
    assert ended.returncode == 1
    assert "could not be written: No space left on device" in ended.stderr


@pytest.mark.parametrize(
    "words,code,named",
    [
        pytest.param(["show", b"\xff\xfe"], 6, ["\\udcff\\udcfe"], id="row 11 an id"),
        pytest.param(["--store", b"no\xff.db", "list"], 6, ["no\\udcff.db"], id="row 11 a path"),
        pytest.param(["create", "--metadata", b"a=\xff"], 2, ["U+DCFF"], id="row 11 metadata"),
        pytest.param([b"\xffist"], 2, ["\\udcffist"], id="row 11 a command"),
    ],
)
def test_row_11_bytes_that_are_no_text_are_shown_escaped(process, store, words, code, named):
    process(*words, code=code, named=named, changed={"AUMAI_TRANSACTIONS_STORE": store[0]})


@pytest.mark.parametrize(
    "words,code,named",
    [
        pytest.param(["show", "a\x1b[31m"], 6, ["a\\x1b[31m"], id="row 11 ESC in an id"),
        pytest.param(
            ["--store", "a\x1b]0;x\x07", "list"], 6, ["a\\x1b]0;x\\x07"], id="row 11 a path"
        ),
        pytest.param(["show", "a\u202e\x00b"], 6, ["\\u202e"], id="row 11 a direction mark"),
        pytest.param(["show", "%"], 6, ["no transaction '%'"], id="row 11 a wildcard"),
        pytest.param(["show", "x" * 100_000], 6, ["no transaction"], id="row 11 a very long id"),
        pytest.param(["locks", ""], 2, ["resource", "non-empty"], id="row 37 empty resource"),
        pytest.param(["locks", "x" * 10_000], 2, ["1,000 characters"], id="row 37 long resource"),
    ],
)
def test_row_11_an_id_that_cannot_be_is_not_found_and_shown_escaped(cli, store, words, code, named):
    cli("--store", store[0], *words, code=code, named=named)


# ------------------------------------------------------------------- the wrong moment, rows 12-14


def test_row_12_an_unknown_transaction_is_not_found_and_says_how_to_look(cli, store):
    cli("show", "zzz", "--store", store[0], code=6, named=["'zzz'", "aumai-transactions list"])


def test_row_13_what_is_finished_cannot_be_begun_retried_or_resolved(cli, here):
    ran = cli("--store", "s.db", "--json", "run", "plan.toml")
    name = ran.json["transaction_id"]
    for words in (
        ["commit", name],
        ["submit", "--tx-id", name],
        ["retry", name, "s1"],
        ["resolve", name, "s1", "--undone", "--note", "n"],
        ["approve", name, "s1"],
        ["deny", name, "s1", "--note", "n"],
        ["add-step", name, "--agent", "a", "--action", "b"],
        ["rollback", name],
    ):
        cli("--store", "s.db", *words, code=7, named=[name])
    assert cli("--store", "s.db", "status", name).json["state"] == "committed"
    assert "intact" in cli("--store", "s.db", "verify").out


@pytest.mark.parametrize("words", [["resolve"], ["deny"]])
def test_row_14_a_decision_without_a_reason_is_refused(cli, store, unchanged, words):
    place, name = store
    answer = ["--undone"] if words == ["resolve"] else []
    with unchanged():
        cli("--store", place, *words, name, "s1", *answer, code=2, named=["'--note'"])


@pytest.mark.parametrize("words", [["retry"], ["resolve", "--undone", "--note", "n"]])
def test_row_12_an_unknown_step_is_named_with_those_there_are(cli, store, words):
    place, name = store
    cli("--store", place, "add-step", name, "--agent", "a", "--action", "b", "--name", "flight")
    command, *more = words
    cli("--store", place, command, name, "hotel", *more, code=6, named=["'hotel'", "flight"])


@pytest.mark.parametrize(
    "data,named",
    [
        pytest.param("nope", ["not JSON", "column 1", "Quote it"], id="row 38 not JSON"),
        pytest.param("", ["not JSON"], id="row 38 empty"),
        pytest.param("[1]", ["must be a JSON object"], id="row 38 a list"),
        pytest.param('{"a": 1, "a": 2}', ["'a' stands twice"], id="row 39 a key twice"),
        pytest.param('{"a": ' + "9" * 5_000 + "}", ["4,300 digits"], id="row 42 a huge number"),
        pytest.param("[" * 100_000, ["nested too deep"], id="row 43 brackets"),
        pytest.param('{"a": ' + "[" * 70 + "]" * 70 + "}", ["64 deep"], id="row 28 depth 71"),
        pytest.param('{"a": NaN}', ["data.a", "not a JSON number"], id="row 25 NaN"),
        pytest.param('{"a": 1e999}', ["data.a", "not a JSON number"], id="row 25 infinity"),
        pytest.param('{"a": 9223372036854775808}', ["64 bits"], id="row 26 2^63"),
        pytest.param('{"a": "\\ud800"}', ["data.a", "U+D800"], id="row 27 a lone surrogate"),
        pytest.param('{"a": "\\u0000"}', ["data.a", "NUL"], id="row 27 NUL"),
        pytest.param('{"$output": "s1"}', ["as a whole"], id="row 59 a whole reference"),
        pytest.param('{"a": {"$output": 3}}', ["must be text"], id="row 59 a numbered step"),
        pytest.param('{"a": {"$output": "x", "at": "y"}}', ["JSON pointer"], id="row 59 pointer"),
        pytest.param('{"a": {"$output": "x", "typ": "y"}}', ['"type"'], id="row 59 unknown key"),
    ],
)
def test_data_that_no_step_can_have_is_a_usage_error(cli, store, unchanged, data, named):
    place, name = store
    words = ["add-step", name, "--agent", "a", "--action", "b", "--data", data]
    with unchanged():
        cli("--store", place, *words, code=2, named=["data", *named])


def test_row_67_the_variable_that_names_a_store_is_named_where_that_is_none(cli, monkeypatch):
    monkeypatch.setenv("AUMAI_TRANSACTIONS_STORE", "mysql://u:hush@h/db")
    ran = cli("list", code=1, named=["AUMAI_TRANSACTIONS_STORE names", "'mysql'", "sqlite:///"])
    assert "hush" not in ran.err
    monkeypatch.setenv("AUMAI_TRANSACTIONS_STORE", "gone.db")
    cli("list", code=6, named=["AUMAI_TRANSACTIONS_STORE names", "gone.db"])


def test_a_limit_beyond_every_number_lists_everything(cli, store):
    ran = cli("--store", store[0], "--json", "list", "--limit", "9" * 30)
    assert ran.json["total"] == 1


# --------------------------------------------------------------- each exit code, as a real process


def test_each_exit_code_for_once_as_a_real_process(process, here):
    """0, 1, 2, 3, 5, 6 and 7; 4 is below, and 130 in tests/e2e."""
    (here / "fails.toml").write_text(_plan("false", "true"))
    name = process("--json", "--store", "s.db", "create").json["transaction_id"]
    process("--store", ".", "list", code=1, named=["is a directory"])
    process("--store", "s.db", "comit", code=2, named=["Did you mean commit?"])
    cases = [
        (3, ["run", "fails.toml", "--idempotency-key", "key"]),
        (5, ["wait", name, "--timeout", "0"]),
        (6, ["show", "zzz"]),
        (0, ["rollback", name]),
        (7, ["commit", name]),
    ]
    for code, words in cases:
        ended = subprocess.run(
            _python("--store", "s.db", *words),
            capture_output=True,
            check=False,
            text=True,
            env=os.environ | {"PYTHONPATH": _SOURCE},
            cwd=here,
        )
        assert ended.returncode == code, ended
        assert "Traceback" not in ended.stdout + ended.stderr


def test_exit_code_4_as_a_real_process(here):
    (here / "stays.toml").write_text(_plan("true", "false") + _STEP)
    ended = subprocess.run(
        _python("--store", "s.db", "run", "stays.toml"),
        capture_output=True,
        check=False,
        text=True,
        env=os.environ | {"PYTHONPATH": _SOURCE},
        cwd=here,
    )
    assert ended.returncode == 4, ended
    assert "aumai-transactions retry" in ended.stdout


_STEP = """
[actions.fail]
kind = "command"
argv = ["false"]
[[steps]]
agent = "an_agent"
action = "fail"
"""


def _plan(program, undo):
    return f"""
[actions.do]
kind = "command"
argv = ["{program}"]
compensating_action = "undo"
[actions.undo]
kind = "command"
argv = ["{undo}"]
[[steps]]
agent = "an_agent"
action = "do"
"""
