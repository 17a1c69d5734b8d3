"""How the write-ahead log is kept small."""

import ast
import sqlite3
from pathlib import Path

from aumai_transactions.store import AppendAnswer
from aumai_transactions.stores.sqlite import SqliteStore, checkpoint
from aumai_transactions.stores.sqlite.connection import WAL_BYTES_MAX
from aumai_transactions.testing.journals import loaded, plan, request

APPENDED = [AppendAnswer.appended]
PIECE = 500_000


def log_bytes(path):
    return path.with_name("store.db-wal").stat().st_size


def write_pieces(store, numbers):
    sizes = []
    for number in numbers:
        assert store.append([plan(f"t{number}", data={"big": "x" * PIECE})]) == APPENDED
        sizes.append(log_bytes(store.path))
    return sizes


def test_the_log_stays_small_and_nothing_is_lost(store, path):
    sizes = write_pieces(store, range(60))
    assert max(sizes) < WAL_BYTES_MAX + 2 * PIECE
    assert sizes[-1] >= PIECE
    assert path.stat().st_size > 50 * PIECE
    assert all(loaded(store, f"t{number}").sequence == 2 for number in range(60))


def test_a_reader_holds_the_log_back_but_no_writer(store, path):
    write_pieces(store, range(1))
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM entries").fetchall()
    sizes = write_pieces(store, range(1, 30))
    assert sizes[-1] > 3 * WAL_BYTES_MAX
    reader.close()
    write_pieces(store, range(30, 40))
    assert log_bytes(path) < 2 * WAL_BYTES_MAX


def test_no_checkpoint_runs_without_the_write_lock(store, path):
    seen = []

    class Witness(sqlite3.Connection):
        """Tries to write at the moment when the checkpoint begins."""

        def execute(self, sql, *arguments):
            if "wal_checkpoint" in sql:
                blocked = sqlite3.connect(path, isolation_level=None, timeout=0)
                try:
                    blocked.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError as error:
                    seen.append(str(error))
                blocked.close()
            return super().execute(sql, *arguments)

    store.append([plan("t")])
    own = sqlite3.connect(path, isolation_level=None, factory=Witness)
    own.execute("PRAGMA wal_autocheckpoint = 0")
    checkpoints = checkpoint.Checkpoints(path)
    checkpoints.run(own)
    assert seen == ["database is locked"]
    assert checkpoints.problem == ""
    own.close()


def test_a_checkpoint_that_cannot_run_is_remembered_and_harms_nothing(store, path):
    store.append([plan("t")])
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    store._database._checkpoint(store._database.connection())
    assert store.info().checks["last_checkpoint"] == "database is locked"
    blocker.execute("ROLLBACK")
    blocker.close()
    store._database._checkpoint(store._database.connection())
    assert store.info().checks["last_checkpoint"] == "ok"
    assert store.append([request("t", 2)]) == APPENDED


def test_a_checkpoint_that_fails_takes_nothing_back(store, path):
    class Failing(sqlite3.Connection):
        def execute(self, sql, *arguments):
            if "wal_checkpoint" in sql:
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
                raise error
            return super().execute(sql, *arguments)

    store.append([plan("t")])
    database = store._database
    database._connection.close()
    database._connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, factory=Failing
    )
    database._checkpoint(database._connection)
    assert database.checkpoints.problem == "disk I/O error"
    assert loaded(store, "t").sequence == 2


def test_closing_leaves_no_log_behind(path):
    store = SqliteStore(path)
    store.append([plan("t")])
    assert log_bytes(path) > 0
    store.close()
    assert not path.with_name("store.db-wal").exists()


def test_closing_one_of_two_handles_brings_its_log_home(path):
    with SqliteStore(path) as staying:
        leaving = SqliteStore(path)
        leaving.append([plan("t", data={"big": "x" * PIECE})])
        assert path.stat().st_size < PIECE
        leaving.close()
        assert path.stat().st_size > PIECE
        assert loaded(staying, "t").sequence == 2


def test_nothing_else_checkpoints_or_opens_the_database_by_itself():
    package = Path(checkpoint.__file__).parent
    opening, checkpointing = set(), set()
    for file in package.glob("*.py"):
        text = file.read_text("utf-8")
        if "wal_checkpoint" in text:
            checkpointing.add(file.name)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "open",
                "os.open",
                "log.open",
            ):
                opening.add(file.name)
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "sqlite3.connect":
                opening.add(file.name + ": sqlite3")
    assert checkpointing == {"checkpoint.py"}
    # creation.py opens a file that no connection knows yet, names.py that one and folders; two more
    # open lock files. What damage.py connects to is in memory. log.py reads the log, which SQLite
    # does not lock.
    own = {"creation.py", "liveness.py", "log.py", "names.py", "writer.py"}
    assert opening == {"connection.py: sqlite3", "damage.py: sqlite3", *own}
