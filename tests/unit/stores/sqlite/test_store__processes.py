"""Several processes on one store: real ones, with real signals."""

import os
import signal
from pathlib import Path

import pytest

from aumai_transactions.errors import StoreUnavailable
from aumai_transactions.store import AppendAnswer, Query
from aumai_transactions.stores.sqlite import SqliteStore
from aumai_transactions.testing.journals import NOW, check_race, claim, loaded, plan, request

HOLDER = """
store = SqliteStore(path)
driver = store.join()
print(store.append([plan("t"), claim("t", 2, 1, driver)])[1])
sys.stdin.readline()
store.close()
"""


def test_processes_that_append_to_one_store_lose_nothing(path, start):
    with SqliteStore(path) as store:
        store.append([plan("shared")])
        code = "store = SqliteStore(path, create=False)\nrace(store, sys.argv[2])\nstore.close()"
        names = ["own-0", "own-1", "own-2"]
        children = [start(code, name) for name in names]
        assert [child.end() for child in children] == [0, 0, 0]
        check_race(store, names)


@pytest.mark.crash
def test_what_a_killed_process_held_can_be_claimed_at_once(store, start):
    holder = start(HOLDER)
    assert holder.hear() == "appended"
    me = store.join()
    assert store.due(me, 9, NOW) == []
    assert store.append([claim("t", 3, 2, me)]) == [AppendAnswer.held]
    holder.kill()
    assert store.due(me, 9, NOW) == ["t"]
    assert store.append([claim("t", 3, 2, me)]) == [AppendAnswer.appended]


def test_a_stopped_process_keeps_what_it_holds_though_its_lease_is_over(store, start, clock):
    holder = start(HOLDER)
    assert holder.hear() == "appended"
    os.kill(holder.process.pid, signal.SIGSTOP)
    # Far behind the child's lease, which is by the machine's own clock.
    clock.advance(10**9)
    me = store.join()
    assert store.due(me, 9, NOW) == []
    assert store.append([claim("t", 3, 2, me)]) == [AppendAnswer.held]
    os.kill(holder.process.pid, signal.SIGCONT)
    holder.say()
    assert holder.end() == 0
    assert store.due(me, 9, NOW) == ["t"]


@pytest.mark.crash
def test_a_child_of_fork_does_not_keep_its_dead_parents_drivers_alive(store, start):
    holder = start("""
store = SqliteStore(path)
driver = store.join()
store.append([plan("t"), claim("t", 2, 1, driver)])
if os.fork() == 0:
    # Its hooks have run by now, and its parent may die.
    print(os.getpid())
signal.pause()
""")
    orphan = int(holder.hear())
    try:
        me = store.join()
        assert store.append([claim("t", 3, 2, me)]) == [AppendAnswer.held]
        os.kill(holder.process.pid, signal.SIGKILL)
        holder.process.wait()
        os.kill(orphan, 0)
        assert store.append([claim("t", 3, 2, me)]) == [AppendAnswer.appended]
    finally:
        os.kill(orphan, signal.SIGKILL)


@pytest.mark.crash
def test_a_child_of_fork_that_ends_last_removes_no_log_of_others(path, start):
    # SQLite's last connection to close removes the -wal by its name; a child must not do that.
    parent = start("""
store = SqliteStore(path)
store.append([plan("t")])
if os.fork() == 0:
    print(os.getpid())
    sys.stdin.readline()
    sys.exit(0)
os.wait()
""")
    assert parent.hear().isdigit()
    os.kill(parent.process.pid, signal.SIGKILL)
    SqliteStore(path).close()
    writer = start("""
store = SqliteStore(path)
store.append([plan("u")])
os.kill(os.getpid(), signal.SIGKILL)
""")
    assert writer.end() == -signal.SIGKILL
    parent.say()
    # Its end closes the pipe that it has from its parent.
    assert parent.process.stdout.read() == ""
    with SqliteStore(path, create=False) as store:
        assert loaded(store, "u").sequence == 2


def test_a_child_of_fork_is_told_to_open_its_own_store(start):
    parent = start("""
from aumai_transactions.errors import StoreError
store = SqliteStore(path)
store.append([plan("t")])
child = os.fork()
if child == 0:
    for call in (lambda: store.read("t"), lambda: store.append([plan("u")]), store.join):
        try:
            call()
        except StoreError as error:
            assert "Open a new store in the child" in str(error), error
        else:
            os._exit(3)
    store.close()
    own = SqliteStore(path, create=False)
    own.append([request("t", 2)])
    own.close()
    # The interpreter ends in the usual way, and must not close the parent's connection.
    sys.exit(7)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
print(store.append([request("t", 3)])[0], store.read("t").head_sequence)
store.close()
""")
    assert parent.hear() == "7"
    assert parent.hear() == "appended 4"
    assert parent.end() == 0


@pytest.mark.crash
@pytest.mark.parametrize(
    "function,after,exists",
    [
        ("sqlite3.connect", False, False),
        ("sqlite3.connect", True, False),
        ("os.fsync", False, False),
        ("os.link", False, False),
        ("os.link", True, True),
    ],
)
def test_a_crash_while_a_store_is_made_leaves_a_store_or_none(path, start, function, after, exists):
    maker = start(f"""
real = {function}
def deadly(*arguments, **options):
    if {after}:
        real(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)
{function} = deadly
SqliteStore(path)
""")
    assert maker.end() == -signal.SIGKILL
    assert path.exists() is exists
    with SqliteStore(path) as store:
        assert store.append([plan("t")]) == [AppendAnswer.appended]
    assert list(path.parent.glob(".*.new")) == []
    assert path.stat().st_nlink == 1


def test_of_several_creators_all_use_one_store(path, start):
    code = """
print("ready")
sys.stdin.readline()
with SqliteStore(path) as store:
    store.append([plan(sys.argv[2])])
    print(store.info().store_id)
"""
    children = [start(code, f"t{number}") for number in range(4)]
    assert [child.hear() for child in children] == ["ready"] * 4
    for child in children:
        child.say()
    identities = {child.hear() for child in children}
    assert [child.end() for child in children] == [0] * 4
    assert len(identities) == 1
    with SqliteStore(path, create=False) as store:
        assert store.count(Query()) == 4
    assert list(path.parent.glob(".*.new")) == []


def test_a_stopped_writer_is_named_after_a_bounded_wait(path, start):
    with SqliteStore(path, writer_wait_seconds=0.01) as store:
        writer = start("""
from pathlib import Path
from aumai_transactions.stores.sqlite.writer import WriterLock
lock = WriterLock(Path(path), 5)
lock.acquire()
print("writing")
sys.stdin.readline()
lock.release()
print("done")
sys.stdin.readline()
""")
        assert writer.hear() == "writing"
        os.kill(writer.process.pid, signal.SIGSTOP)
        with pytest.raises(StoreUnavailable, match=f"process {writer.process.pid}\\b") as caught:
            store.append([plan("t")])
        assert not caught.value.outcome_unknown
        assert store.read("t") is None
        os.kill(writer.process.pid, signal.SIGCONT)
        writer.say()
        assert writer.hear() == "done"
        assert store.append([plan("t")]) == [AppendAnswer.appended]


def test_another_program_that_locks_the_database_is_named(path, start):
    with SqliteStore(path, writer_wait_seconds=0.01) as store:
        program = start("""
connection = sqlite3.connect(path, isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked")
sys.stdin.readline()
""")
        assert program.hear() == "locked"
        named = str(program.process.pid) if Path("/proc/locks").exists() else "another program"
        with pytest.raises(StoreUnavailable, match=named) as caught:
            store.append([plan("t")])
        assert not caught.value.outcome_unknown
        assert store.read("t") is None
        program.kill()
        assert store.append([plan("t")]) == [AppendAnswer.appended]


def test_looking_at_a_store_does_not_drop_the_locks_that_this_process_holds(store, path, start):
    # Why: POSIX locks belong to the process, and closing any descriptor of a file drops them.
    store.append([plan("t")])
    connection = store._database.connection()
    connection.execute("BEGIN IMMEDIATE")
    store.info(thorough=True)
    with SqliteStore(path, create=False) as second:
        second.read("t")
    other = start("""
connection = sqlite3.connect(path, isolation_level=None, timeout=0)
try:
    connection.execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError as error:
    print(error)
""")
    assert other.hear() == "database is locked"
    connection.execute("ROLLBACK")


def test_a_write_that_fails_has_an_unknown_outcome_and_can_be_repeated(path, start):
    writer = start("""
import resource
from aumai_transactions.errors import StoreUnavailable
store = SqliteStore(path)
store.append([plan("t")])
small = os.stat(path + "-wal").st_size + 100
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (small, hard))
try:
    store.append([request("t", 2)])
except StoreUnavailable as error:
    print(error.outcome_unknown, type(error.__cause__).__name__)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
print(store.append([request("t", 2)])[0], store.append([request("t", 2)])[0])
store.close()
""")
    assert writer.hear() == "True OperationalError"
    assert writer.hear() == "appended already_ours"
    assert writer.end() == 0
    with SqliteStore(path, create=False) as store:
        assert loaded(store, "t").sequence == 3


def test_a_file_that_may_not_be_written_is_refused_and_left_alone(tmp_path, start):
    reader = start(
        """
import tempfile
from aumai_transactions.errors import StoreUnavailable
with tempfile.TemporaryDirectory() as folder:
    os.chmod(folder, 0o755)
    path = folder + "/store.db"
    SqliteStore(path).close()
    os.chmod(path, 0o644)
    before = open(path, "rb").read()
    # Root may write everything, so it gives that up; everybody else takes the right away.
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    else:
        os.chmod(path, 0o444)
        os.chmod(folder, 0o555)
    for create in (False, True):
        try:
            SqliteStore(path, create=create)
        except StoreUnavailable as error:
            print(os.path.realpath(path) in str(error))
    try:
        SqliteStore(folder + "/new.db")
    except StoreUnavailable as error:
        print(os.path.realpath(folder) in str(error))
    if is_root:
        os.seteuid(0)
    else:
        os.chmod(folder, 0o755)
    print(open(path, "rb").read() == before)
"""
    )
    assert [reader.hear() for _ in range(4)] == ["True"] * 4
    assert reader.end() == 0


def test_processes_see_what_others_append_at_once(store, start):
    other = start("""
store = SqliteStore(path, create=False)
for line in sys.stdin:
    print(store.append([request("t", int(line))])[0])
""")
    store.append([plan("t")])
    for sequence in (2, 4, 6):
        other.say(str(sequence))
        assert other.hear() == "appended"
        assert store.append([request("t", sequence + 1)]) == [AppendAnswer.appended]
    assert loaded(store, "t").sequence == 8
