"""Files as they were before a call, and how they come to be that again.

Owns: reading files and folders into JSON, writing them back byte for byte, and which paths a server
may be trusted with.
Rules:
  1. Nothing outside of the folders that the operator named is read or written, wherever a link
     leads.
  2. What is put back is on the disk before it is said to be: the file, and its name.
  3. Putting back twice is putting back once, and where nothing has changed nothing is written.
  4. What would be lost by going back, because somebody else has put it there, is not removed: it
     is said instead.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import secrets
import stat
import unicodedata
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from aumai_transactions.errors import StepRejected
from aumai_transactions.models import Resource

BYTES_MAX = 64 * 2**20
PACKED_BYTES_MAX = 1_400_000
ENTRIES_MAX = 10_000
NAME_BYTES_MAX = 255

_LEFTOVER = re.compile(r"\.[0-9a-f]{32}\.tmp")
"""What servers that replace a file at once leave beside it where they are killed meanwhile."""


class NotKept(StepRejected):
    """Say that files cannot be kept, so that a call must not be made."""


class Folders:
    """Know which paths are inside the folders that an operator named.

    Args:
        folders: Absolute paths of them.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        self.folders = tuple(Path(os.path.realpath(folder)) for folder in folders)

    def path(self, given: object) -> Path:
        """Return where a path leads, as long as that is inside.

        Raises:
            NotKept: It is no absolute path, or leads outside.
        """
        if not isinstance(given, str) or "\0" in given or not Path(given).is_absolute():
            message = f"{_shown(given)} is no absolute path, so it cannot be told what to keep."
            raise NotKept(message)
        path = Path(os.path.realpath(given))
        self._refuse_outside(path, given)
        # Why: servers differ in whether .. goes back from a link, or from where it leads.
        if str(path) != os.path.realpath(os.path.normpath(given)):
            raise NotKept(f"{_shown(given)} goes back (..) from a link; name it without that.")
        _refuse_alike(path)
        return path

    def path_in(self, given: object, name: str) -> Path:
        """Return where a name in a folder leads.

        Raises:
            NotKept: It leads outside; or the folder lacks what the name takes for granted, so that
                a server would mean another one.
        """
        folder = self.path(given)
        top, *below = Path(name).parts
        if below and not (folder / top).is_dir():
            raise NotKept(f"there is no folder {folder / top}, so it cannot be told what to keep.")
        return self.path(str(folder / name))

    def recorded(self, kept_as: str) -> Path:
        """Return a path that was kept, as long as it leads to the same place.

        Raises:
            NotKept: It leads elsewhere by now.
        """
        path = Path(kept_as)
        self._refuse_outside(path, kept_as)
        if os.path.realpath(path.parent) != str(path.parent):
            raise NotKept(f"{path} leads elsewhere by now; nothing is put back through a link.")
        return path

    def _refuse_outside(self, path: Path, given: object) -> None:
        if not any(path == one or one in path.parents for one in self.folders):
            named = ", ".join(str(one) for one in self.folders) or "none"
            message = f"{_shown(given)} is in none of the folders that may be kept ({named})."
            raise NotKept(message)

    def uses(self, paths: Sequence[Path]) -> list[Resource]:
        """Return what a change of these paths claims: each alone, the folders around together.

        Why the folders: who moves or makes a folder must not do it under somebody who writes in it.
        """
        alone = {f"file:{path}" for path in paths}
        around = {
            f"file:{parent}"
            for path in paths
            for parent in path.parents
            if any(parent == one or one in parent.parents for one in self.folders)
        }
        return [
            *(Resource(name=name) for name in sorted(alone)),
            *(Resource.shared(name) for name in sorted(around - alone)),
        ]


def _refuse_alike(path: Path) -> None:
    """Refuse a name that is not there, where another one looks the same.

    Why: there are servers that take the one for the other.

    Raises:
        NotKept: There is one that is made of other Unicode characters.
    """
    if os.path.lexists(path):
        return
    while not os.path.lexists(path.parent):
        path = path.parent
    wanted = unicodedata.normalize("NFC", path.name)
    with contextlib.suppress(OSError):
        for one in path.parent.iterdir():
            if unicodedata.normalize("NFC", one.name) == wanted:
                message = (
                    f"{path} is not there, and what is there looks the same: it is made of other "
                    f"Unicode characters ({one.name!a}). Name it as it is."
                )
                raise NotKept(message)


def kept(paths: Sequence[Path], made: Collection[Path] = ()) -> dict[str, Any]:
    """Return files and folders as they are, as JSON.

    Args:
        paths: Which.
        made: Those that are made where nothing is, and left alone where something is.

    Raises:
        NotKept: They are too large, or of a kind that cannot be put back.
    """
    room = [BYTES_MAX, ENTRIES_MAX]
    entries = [
        {"path": str(path), "kind": "there"}
        if path in made and os.path.lexists(path)
        else _entry(path, room)
        for path in paths
    ]
    packed = sum(len(one.get("data", "")) for entry in entries for one in _all(entry))
    if packed > PACKED_BYTES_MAX:
        named = ", ".join(str(path) for path in paths)
        message = (
            f"{named} is too large to be kept: {packed:,} bytes when packed, of "
            f"{PACKED_BYTES_MAX:,}. Without being kept it cannot be changed in a transaction."
        )
        raise NotKept(message)
    return {"files": entries}


def put_back(record: dict[str, Any], folders: Folders) -> None:
    """Make files and folders what they were.

    Raises:
        NotKept: A path leads outside by now.
        OSError: It could not be written; or a folder that was not there holds something now.
    """
    for entry in reversed(record["files"]):
        folders.recorded(entry["path"])
        _put_back(entry)
        for name in reversed(entry.get("missing", ())):
            folder = Path(name)
            if os.path.lexists(folder):
                _remove_empty(folder)


def seen_of_move(source: Path, destination: Path) -> dict[str, Any]:
    """Return what tells later whether something was moved.

    Raises:
        NotKept: There is something at its destination already.
    """
    if os.path.lexists(destination):
        raise NotKept(f"{destination} is there already; moving onto it could not be undone.")
    there = os.path.lexists(source)
    return {"moved": {"source": str(source), "destination": str(destination), "there": there}}


def move_back(record: dict[str, Any], folders: Folders) -> None:
    """Move back what was moved; nothing is done where nothing was.

    Raises:
        NotKept: A path leads outside by now.
        FileExistsError: There is something at both places.
        FileNotFoundError: It is at neither place.
    """
    told = record["moved"]
    if not told["there"]:
        return
    source, destination = folders.recorded(told["source"]), folders.recorded(told["destination"])
    is_there, is_away = os.path.lexists(source), os.path.lexists(destination)
    # Why not by what it is: a server that writes to a file may put another one in its place.
    if is_there and is_away:
        message = f"{source} and {destination} are both there; one of them somebody else has made"
        raise FileExistsError(message)
    if not is_there and not is_away:
        raise FileNotFoundError(f"neither {source} nor {destination} is there any more")
    if is_away:
        destination.rename(source)
        _sync_folder(source.parent)
        _sync_folder(destination.parent)


def _entry(path: Path, room: list[int]) -> dict[str, Any]:
    room[1] -= 1
    if room[1] < 0:
        raise NotKept(f"{path} holds more than {ENTRIES_MAX:,} files, which is too much to keep.")
    entry: dict[str, Any] = {"path": str(path)}
    try:
        found = path.lstat()
    except FileNotFoundError:
        missing = [one for one in path.parents if not os.path.lexists(one)]
        return entry | {"kind": "absent", "missing": [str(one) for one in reversed(missing)]}
    except OSError as error:
        raise NotKept(f"{path} cannot be kept: {error.strerror}.") from error
    entry["mode"] = stat.S_IMODE(found.st_mode)
    if stat.S_ISLNK(found.st_mode):
        return entry | {"kind": "link", "to": str(path.readlink())}
    if stat.S_ISDIR(found.st_mode):
        inside = [_entry(one, room) for one in sorted(path.iterdir())]
        return entry | {"kind": "folder", "inside": inside}
    if not stat.S_ISREG(found.st_mode):
        raise NotKept(f"{path} is neither a file nor a folder, and cannot be put back.")
    room[0] -= found.st_size
    if room[0] < 0:
        raise NotKept(f"{path} is more than {BYTES_MAX:,} bytes, which is too much to keep.")
    try:
        data = _read(path)
    except OSError as error:
        raise NotKept(f"{path} cannot be kept: {error.strerror}.") from error
    packed = base64.b64encode(zlib.compress(data, 1)).decode()
    return entry | {"kind": "file", "data": packed, "mtime": found.st_mtime_ns}


def _read(path: Path) -> bytes:
    """Read a file; through no link that was put there meanwhile, and without waiting for a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(BYTES_MAX + 1)


def _all(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield entry
    for one in entry.get("inside", ()):
        yield from _all(one)


def _put_back(entry: dict[str, Any]) -> None:
    path, kind = Path(entry["path"]), entry["kind"]
    if kind == "there":
        return
    if kind == "absent":
        if path.is_dir() and not path.is_symlink():
            _remove_empty(path)
        else:
            path.unlink(missing_ok=True)
        _sync_folder(path.parent)
    elif kind == "link":
        if not path.is_symlink() or str(path.readlink()) != entry["to"]:
            _clear(path)
            path.symlink_to(entry["to"])
            _sync_folder(path.parent)
    elif kind == "folder":
        _put_folder_back(path, entry)
    else:
        _put_file_back(path, entry)
    _remove_leftovers(path)


def _put_folder_back(path: Path, entry: dict[str, Any]) -> None:
    if not path.is_dir() or path.is_symlink():
        _clear(path)
        path.mkdir(parents=True)
    inside = {Path(one["path"]).name for one in entry["inside"]}
    for found in list(path.iterdir()):
        if found.name not in inside:
            _clear(found)
    for one in entry["inside"]:
        _put_back(one)
    path.chmod(entry["mode"])
    _sync_folder(path)
    _sync_folder(path.parent)


def _put_file_back(path: Path, entry: dict[str, Any]) -> None:
    data = zlib.decompress(base64.b64decode(entry["data"]))
    with contextlib.suppress(OSError):
        found = path.lstat()
        same = stat.S_ISREG(found.st_mode) and stat.S_IMODE(found.st_mode) == entry["mode"]
        if same and found.st_size == len(data) and path.read_bytes() == data:
            os.utime(path, ns=(found.st_atime_ns, entry["mtime"]))
            return
    if path.is_dir() and not path.is_symlink():
        _remove_empty(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{_start_of(path)}.{secrets.token_hex(16)}.tmp")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), entry["mode"])
            file.flush()
            os.utime(file.fileno(), ns=(entry["mtime"], entry["mtime"]))
            os.fsync(file.fileno())
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _remove_leftovers(path: Path) -> None:
    """Remove what a server that was killed while it replaced a file has left beside it."""
    with contextlib.suppress(OSError):
        for one in list(path.parent.iterdir()):
            for start in {path.name, _start_of(path)}:
                if one.name.startswith(start) and _LEFTOVER.fullmatch(one.name[len(start) :]):
                    one.unlink(missing_ok=True)


def _start_of(path: Path) -> str:
    """Return a name, or as much of it as leaves room for what comes behind that of a new file."""
    return os.fsdecode(os.fsencode(path.name)[: NAME_BYTES_MAX - 40])


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for one in list(path.iterdir()):
            _clear(one)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        message = f"{folder} was not there before, and holds something now; it is left as it is"
        raise OSError(error.errno, message) from error


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _shown(given: object) -> str:
    return repr(given)[:200]
