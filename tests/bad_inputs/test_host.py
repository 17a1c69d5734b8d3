"""Row 72: odd machines. It works, or it says by name what is missing."""

import os
import resource
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

import aumai_transactions
from aumai_transactions import DefinitionError, TransactionManager
from aumai_transactions.testing.clock import ManualClock

HANDLERS = {"do": lambda action, data: {"did": 1}, "undo": lambda action, data: None}
STORY = """
import sys
from aumai_transactions import StepRejected, TransactionManager
def refuse(action, data):
    raise StepRejected("declined é")
with TransactionManager({"do": lambda a, d: d, "undo": lambda a, d: None, "no": refuse},
                        store="s.db") as manager:
    tx = manager.begin(name="trip é")
    manager.add_step(tx, "agent", "do", {"text": "é"}, "undo")
    manager.add_step(tx, "agent", "no", {})
    result = manager.commit(tx)
    assert_ = (result.state.value, result.compensated_steps) == ("rolled_back", ["s1"])
    if not assert_ or not manager.verify().is_intact:
        sys.exit("wrong: " + str(result).encode("ascii", "backslashreplace").decode())
    try:
        manager.commit(tx)
    except Exception as error:
        if type(error).__name__ != "InvalidTransactionState":
            raise
    else:
        sys.exit("it was committed twice")
"""


@pytest.mark.parametrize("year", [1970, 1971, 2100, 9998])
@pytest.mark.parametrize("store", [None, "s.db"])
def test_row_72_a_clock_that_is_far_off_changes_no_outcome(tmp_path, store, year):
    clock = ManualClock(datetime(year, 1, 1, tzinfo=UTC))
    place = store and tmp_path / store
    with TransactionManager(HANDLERS, store=place, clock=clock) as manager:
        tx = manager.begin(timeout_seconds=10)
        manager.add_step(tx, "agent", "do", {}, "undo")
        result = manager.commit(tx)
        assert (result.state.value, tx.created_at.year) == ("committed", year)
        assert str(year) in result.model_dump_json()
        assert manager.verify().is_intact


@pytest.mark.parametrize("years", [[2026, 1970], [1970, 2100], [2100, 2026, 2100]])
def test_row_72_a_clock_that_jumps_leaves_a_sound_journal(tmp_path, years):
    clock = ManualClock(datetime(years[0], 1, 1, tzinfo=UTC))

    def jump(action, data):
        there = datetime(data["to"], 1, 1, tzinfo=UTC).timestamp()
        clock.advance(there - clock.now() / 1_000_000)

    with TransactionManager(HANDLERS | {"jump": jump}, store=tmp_path / "s.db", clock=clock) as one:
        tx = one.begin(timeout_seconds=60)
        one.add_step(tx, "agent", "do", {}, "undo")
        for year in years[1:]:
            one.add_step(tx, "agent", "jump", {"to": year}, "undo")
        assert one.commit(tx).state.value == "committed"
        assert one.verify().is_intact


def test_row_72_a_clock_before_every_calendar_is_shown_as_its_first_day(tmp_path):
    clock = ManualClock(datetime(1970, 1, 1, tzinfo=UTC))
    with TransactionManager(HANDLERS, clock=clock) as manager:
        tx = manager.begin()
        tx.created_at = datetime.max.replace(tzinfo=UTC)
        assert manager.commit(tx).state.value == "committed"
        other = manager.begin()
        other.__dict__["created_at"] = datetime(2026, 1, 1)  # noqa: DTZ001 (that is the point)
        with pytest.raises(DefinitionError, match="time zone"):
            manager.commit(other)


ENVIRONMENTS = [
    pytest.param({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, [], id="row 72 C"),
    pytest.param({"TZ": "Pacific/Kiritimati"}, ["-X", "dev"], id="row 72 TZ and -X dev"),
    pytest.param({"TZ": "no/such zone"}, ["-O"], id="row 72 no such zone and -O"),
    pytest.param(
        {"PYTHONHASHSEED": "0"}, ["-OO", "-W", "error"], id="row 72 seed 0, -OO, -W error"
    ),
    pytest.param({"PYTHONINTMAXSTRDIGITS": "0"}, ["-I"], id="row 72 isolated"),
]


@pytest.mark.parametrize("changed,python", ENVIRONMENTS)
def test_row_72_the_library_works_in_an_odd_process(here, changed, python):
    source = str(Path(aumai_transactions.__file__).resolve().parents[1])
    story = f"import sys; sys.path.insert(0, {source!r})\n{STORY}"
    (here / "story.py").write_text(story, "utf-8")
    ran = subprocess.run(
        [sys.executable, *python, "story.py"],
        capture_output=True,
        check=False,
        cwd=here,
        env=os.environ | changed,
    )
    assert ran.returncode == 0, ran.stderr.decode()
    assert ran.stderr == b""


@pytest.mark.parametrize("changed,python", ENVIRONMENTS[:4:3])
def test_row_72_so_does_a_command_that_is_refused(process, here, changed, python):
    (here / "fails.toml").write_text('name = "é"\n' + (here / "plan.toml").read_text())
    process(
        "--store", ".", "list", code=1, named=["is a directory"], changed=changed, python=python
    )
    told = process("run", "fails.toml", "--store", "s.db", changed=changed, python=python)
    assert "committed" in told.out


@pytest.mark.parametrize("files_max", [16, 6])
def test_row_72_few_descriptors_are_enough_or_are_named(here, files_max):
    """With 16 the store works; whatever has no room left rolls back, or ends with an error."""
    source = str(Path(aumai_transactions.__file__).resolve().parents[1])
    ran = subprocess.run(
        [sys.executable, "-m", "aumai_transactions", "--store", "s.db", "run", "plan.toml"],
        capture_output=True,
        check=False,
        cwd=here,
        text=True,
        env=os.environ | {"PYTHONPATH": source},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max)),
    )
    assert ran.returncode in (0, 1, 3), ran
    assert "Traceback" not in ran.stdout + ran.stderr
    assert "bug in" not in ran.stderr
    if ran.returncode:
        assert "Too many open files" in ran.stdout + ran.stderr
    if (here / "s.db").exists():
        with TransactionManager(store=here / "s.db") as manager:
            assert manager.verify().is_intact


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_row_72_a_home_that_is_read_only_is_named(cli, home):
    home.chmod(0o500)
    try:
        cli("create", code=1, named=[str(home), "Permission denied"])
    finally:
        home.chmod(0o700)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc here")
def test_row_72_a_home_in_which_not_even_root_can_write_is_named(cli, monkeypatch):
    monkeypatch.setenv("HOME", "/proc")
    cli("create", code=1, named=["/proc/.aumai", "cannot be made"])
    cli("list", code=6, named=["/proc/.aumai/transactions/transactions.db"])


def test_row_72_a_folder_that_was_removed_meanwhile_is_no_bug(cli, here, store):
    here.joinpath("gone").mkdir()
    os.chdir(here / "gone")
    here.joinpath("gone").rmdir()
    cli("--store", store[0], "list")
    cli("run", "plan.toml", "--store", store[0], code=2, named=["plan.toml", "does not exist"])
