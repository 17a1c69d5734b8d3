"""Recorded journals against code that is as it was, and code that has changed in one way each."""

import json
import subprocess
import sys

import pytest

from aumai_transactions import AsyncTransactionManager, Done, TransactionManager, open_store, step
from aumai_transactions.actions import ActionRegistry
from aumai_transactions.store import Query
from aumai_transactions.stores.memory import MemoryStore
from aumai_transactions.testing import check_replay
from aumai_transactions.testing.replay import CannotRead
from aumai_transactions.testing.replay.__main__ import main

CALLS: list = []


def book(action, data):
    CALLS.append(data)
    if data["seat"] == 13:
        raise ValueError("there is no row 13")
    return {"seat": data["seat"]}


def cancel(action, data):
    CALLS.append("cancelled")


def code(store=None, *, book=book, cancel=cancel, kind=TransactionManager, probe=True, **declared):
    manager = kind(store=store)
    if book is not None:
        given = {"compensating_action": "cancel", "idempotent": True} | declared
        registered = manager.action("book", **given)(book)
        if probe:
            registered.probe(lambda data: Done())
    if cancel is not None:
        manager.action("cancel", idempotent=True)(cancel)
    return manager


def trip(tx):
    first = tx.execute("ada", "book", {"seat": 1})
    try:
        tx.execute("bob", "book", {"seat": 13})
    except ValueError:
        tx.execute("bob", "book", {"seat": 14})
    with tx.savepoint("back"):
        tx.execute("ada", "book", {"seat": first["seat"] + 1})


@pytest.fixture
def recorded():
    store = MemoryStore()
    manager = code(store)
    with manager.transaction(name="trip") as tx:
        trip(tx)
    plan = manager.begin(name="plan")
    manager.add_step(plan, "ada", "book", {"seat": 7})
    manager.commit(plan)
    CALLS.clear()
    return store


def only(report):
    """The one difference that there is."""
    (difference,) = report.differences
    return difference


def test_code_that_is_as_it_was_carries_on_and_nothing_is_called(recorded):
    report = check_replay(recorded, code(), program=trip)
    assert report.differences == []
    assert [(one.name, one.steps) for one in report.transactions] == [("trip", 4), ("plan", 1)]
    assert [one.is_program_checked for one in report.transactions] == [True, False]
    assert CALLS == []
    assert "5 steps, 1 of them run through a program: today's code carries on all" in str(report)


def test_an_asynchronous_program_is_run_too(recorded):
    async def trip_async(tx):
        await tx.execute("ada", "book", {"seat": 1})
        await tx.execute("bob", "book", {"seat": 15})

    now = code(kind=AsyncTransactionManager)
    told = only(check_replay(recorded, now, programs={"trip": trip_async}))
    assert told.step_id == "s3"
    assert "asks for 'book' by bob with {\"seat\":15} where 'book' by bob" in told.text
    assert CALLS == []


@pytest.mark.parametrize(
    "changes,weight,told",
    [
        ({"book": None}, "stops", "its action 'book' has no handler now"),
        ({"cancel": None}, "stops", "its compensating action 'cancel' has no handler now"),
        ({"probe": False}, "stops", "had a probe and has none now"),
        ({"idempotent": False}, "differs", "was recorded as idempotent"),
        ({"effect": "irreversible"}, "differs", "was None, and is irreversible now"),
        ({"compensating_action": "refund"}, "differs", "is registered with 'refund' now"),
        ({"abandon_after_seconds": 5}, "differs", "carried on as recorded: abandon_after_seconds"),
    ],
)
def test_what_is_declared_otherwise_is_told_by_transaction_and_step(
    recorded, changes, weight, told
):
    report = check_replay(recorded, code(**changes))
    plan = report.transactions[1]
    (difference,) = [each for each in plan.differences if told in each.text]
    assert (difference.step_id, difference.weight) == ("s1", weight)
    assert report.fits == plan.fits == (weight == "differs")
    assert f"s1: {difference.text}" in str(report)


@pytest.mark.parametrize(
    "program,step_id,told",
    [
        (lambda tx: tx.execute("ada", "book", {"seat": 1}), "s3", "does not ask for 'book' by bob"),
        (lambda tx: (trip(tx), tx.execute("eve", "book", {"seat": 9})), "", "was not recorded"),
        (lambda tx: tx.execute("ada", "book", {"seat": 1})["row"], "", "raises KeyError: 'row'"),
        (lambda tx: tx.execute("ada", "fly", {}), "", "raises UnknownAction"),
    ],
    ids=["less", "more", "raises", "unknown"],
)
def test_a_program_that_goes_another_way_is_told_where(recorded, program, step_id, told):
    report = check_replay(recorded, code(), program=program)
    first = report.differences[0]
    assert told in first.text
    assert (first.step_id, first.weight) == (step_id, "stops")
    assert not report.fits
    assert CALLS == []


def test_a_program_may_go_on_where_the_record_ends():
    store = MemoryStore()
    manager = code(store)
    block = manager.transaction(name="trip")
    block.__enter__().execute("ada", "book", {"seat": 1})
    CALLS.clear()
    assert check_replay(store, code(), program=trip).differences == []
    assert CALLS == []
    block.__exit__(None, None, None)


def test_what_show_prints_is_a_journal_again(recorded, tmp_path):
    manager = code(recorded)
    shown = []
    for listed in manager.find():
        events = manager.get_events(listed.summary.transaction_id)
        shown.append({"events": [event.model_dump(mode="json") for event in events]})
    assert check_replay(shown, code(), program=trip).differences == []
    (tmp_path / "one.json").write_text(json.dumps(shown[0]))
    (tmp_path / "two.json").write_text(json.dumps(shown[1]["events"]))
    (tmp_path / "both.jsonl").write_text("\n".join(map(json.dumps, shown)))
    report = check_replay(tmp_path, code(cancel=None), program=trip)
    assert len(report.transactions) == 4
    assert len([one for one in report.transactions if not one.fits]) == 4


@pytest.mark.parametrize(
    "wrong,told",
    [
        (7, "int is no recorded journal"),
        ({"transaction": {}}, "has no list of events"),
        ({"events": [{"sequence": 2, "transaction_id": "t"}]}, "is not entry 1"),
        ({"events": [{"sequence": 1, "transaction_id": "t", "kind": "x"}]}, "of no kind"),
        ({"events": ["x"]}, "is no object"),
    ],
)
def test_what_is_no_journal_is_refused_by_name(wrong, told):
    with pytest.raises(CannotRead, match=told):
        check_replay(wrong, code())


def test_an_entry_that_cannot_be_is_told_and_others_are_checked(recorded):
    journal = recorded.read(recorded.find(Query())[0].summary.transaction_id)
    torn = journal._replace(head_sequence=journal.head_sequence + 1)
    report = check_replay([torn, recorded], code())
    assert "the summary says" in report.transactions[0].differences[0].text
    assert [one.fits for one in report.transactions] == [False, True, True]


def test_recorded_data_must_still_fit_a_typed_function():
    store = MemoryStore()

    @step(name="replay.reserve")
    def as_it_was(seat: str) -> None:
        """Reserve a seat."""

    with TransactionManager(store=store).transaction():
        as_it_was("17A")
    assert check_replay(store, TransactionManager()).differences == []
    del as_it_was

    @step(name="replay.reserve")
    def reserve(seat: str, passenger: str) -> None:
        """Reserve it, with one more argument that has no default."""

    told = only(check_replay(store, TransactionManager()))
    assert told.weight == "stops"
    assert "passenger" in told.text


def test_what_is_no_manager_is_refused():
    with pytest.raises(TypeError, match="manager must be a manager"):
        check_replay(MemoryStore(), {})  # type: ignore[arg-type]
    assert check_replay(MemoryStore(), ActionRegistry()).fits


APP = """
from aumai_transactions import TransactionManager

def trip(tx):
    tx.execute("ada", "book", {"seat": 2})

def manager():
    return TransactionManager({"book": print, "cancel": print})

nothing = 7
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "trips_app.py").write_text(APP)
    store = open_store(tmp_path / "trips.db", create=True)
    manager = TransactionManager({"book": book, "cancel": cancel}, store=store)
    with manager, manager.transaction(name="trip") as tx:
        tx.execute("ada", "book", {"seat": 1}, "cancel")
    store.close()
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("trips_app", None)


def test_a_shell_is_told_the_same(folder, capsys):
    assert main(["trips.db", "--app", "trips_app:manager"]) == 0
    assert "today's code carries on all" in capsys.readouterr().out
    code = main(["trips.db", "--app", "trips_app:manager", "--program", "trips_app:trip", "--json"])
    assert code == 1
    assert json.loads(capsys.readouterr().out)["transactions"][0]["is_program_checked"]


@pytest.mark.parametrize(
    "arguments,code",
    [
        (["nothing.db", "--app", "trips_app:manager"], 3),
        (["trips.db", "--app", "trips_app:nothing"], 2),
        (["trips.db", "--app", "trips_app:missing"], 2),
        (["trips.db", "--app", "trips_app"], 2),
    ],
)
def test_a_shell_gets_an_exit_code(folder, arguments, code, capsys):
    found: object
    try:
        found = main(arguments)
    except SystemExit as ended:
        found = ended.code
    assert found == code
    assert capsys.readouterr().err


def test_it_runs_as_a_module(folder):
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "aumai_transactions.testing.replay"),
            *("trips.db", "--app", "trips_app:manager"),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
