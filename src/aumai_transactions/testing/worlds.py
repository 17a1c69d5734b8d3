"""Pictures of what a transaction changes outside of its journal.

Owns: the worlds that `assert_atomic` can look at and put back: Python containers, a folder, an
SQLite database, and whatever the user has a function for.
Rules:
  1. A picture is a value: it compares by `==`, and nothing changes it any more.
  2. What the barrier keeps beside a participant's own tables is no part of the world.
"""

from __future__ import annotations

import copy
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

Container = dict[Any, Any] | list[Any] | set[Any]

_NOT_THE_WORLD = ("aumai_barrier", "aumai_fences")


@runtime_checkable
class World(Protocol):
    """Be whatever a transaction changes.

    `snapshot()` returns a picture of it, `reset()` makes it what it was at the beginning.
    """

    def snapshot(self) -> Any:
        """Return a picture that compares by `==`."""

    def reset(self) -> None:
        """Make it what it was at the beginning."""


class ContainerWorld:
    """Look at a dict, a list or a set that handlers change, with all containers inside of it.

    Args:
        container: The container; what it holds now is what it is put back to.
    """

    def __init__(self, container: Container) -> None:
        self._container = container
        self._first: list[tuple[Container, Any]] = []
        self._remember(container)

    def snapshot(self) -> Any:
        """Return a deep copy."""
        return copy.deepcopy(self._container)

    def reset(self) -> None:
        """Put back what it held at first; a container inside of it stays the same object."""
        for container, content in self._first:
            fresh = _copied(content)
            container.clear()
            if isinstance(container, list):
                container.extend(fresh)
            else:
                container.update(fresh)

    def _remember(self, container: Container) -> None:
        if any(container is known for known, _ in self._first):
            return
        values = container.values() if isinstance(container, dict) else container
        self._first.append((container, _copied(container)))
        for value in values:
            if isinstance(value, (dict, list, set)):
                self._remember(value)


def _copied(content: Any) -> Any:
    """Return what a container holds: its containers themselves, of all else a copy."""
    if isinstance(content, dict):
        return {key: _leaf(value) for key, value in content.items()}
    return [_leaf(value) for value in content]


def _leaf(value: Any) -> Any:
    return value if isinstance(value, (dict, list, set)) else copy.deepcopy(value)


class FunctionWorld:
    """Look with one function, and put back with another.

    Args:
        snapshot: Returns a picture.
        reset: Puts the world back; None where nothing needs to be put back.
    """

    def __init__(self, snapshot: Callable[[], Any], reset: Callable[[], object] | None) -> None:
        self._snapshot = snapshot
        self._reset = reset

    def snapshot(self) -> Any:
        """Return what the function returns, copied."""
        return copy.deepcopy(self._snapshot())

    def reset(self) -> None:
        """Call the other function."""
        if self._reset is not None:
            self._reset()


class FolderWorld:
    """Look at the files below a folder.

    Args:
        folder: The folder; what stands in it now is what it is put back to.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._first = self._read()

    def snapshot(self) -> dict[str, str | bytes]:
        """Return each file's content, by its path: text where it is text."""
        return {path: _text(content) for path, content in self._read().items()}

    def reset(self) -> None:
        """Write back what has changed, and remove what is new."""
        now = self._read()
        for path in now.keys() - self._first.keys():
            (self._folder / path).unlink()
        for path, content in self._first.items():
            if now.get(path) != content:
                target = self._folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)

    def _read(self) -> dict[str, bytes]:
        return {
            path.relative_to(self._folder).as_posix(): path.read_bytes()
            for path in sorted(self._folder.rglob("*"))
            if path.is_file()
        }


class SqliteWorld:
    """Look at the rows of an SQLite database, but for those of the barrier.

    Args:
        path: The database; what it holds now is what it is put back to.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._first = sqlite3.connect(":memory:", check_same_thread=False)
        with closing(sqlite3.connect(self._path)) as database:
            database.backup(self._first)

    def snapshot(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return each table's rows, sorted."""
        with closing(sqlite3.connect(self._path)) as database:
            listed = database.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            )
            names = [name for (name,) in listed if name not in _NOT_THE_WORLD]
            return {name: _rows(database, name) for name in sorted(names)}

    def reset(self) -> None:
        """Put the whole database back, the barrier's rows included."""
        with closing(sqlite3.connect(self._path)) as database:
            self._first.backup(database)


def _rows(database: sqlite3.Connection, table: str) -> list[tuple[Any, ...]]:
    quoted = table.replace('"', '""')
    query = f'SELECT * FROM "{quoted}"'  # noqa: S608 (the name of a table of the user's own)
    return sorted(database.execute(query).fetchall(), key=repr)


def _text(content: bytes) -> str | bytes:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content


def world_of(given: Any, reset: Callable[[], object] | None = None) -> World:
    """Return the world that a user means.

    Args:
        given: A world; a dict, list or set; or a function that returns a picture.
        reset: Puts it back, where `given` is a function.

    Raises:
        TypeError: It is none of these.
    """
    if isinstance(given, (dict, list, set)):
        return ContainerWorld(given)
    if isinstance(given, World):
        return given
    if callable(given):
        return FunctionWorld(given, reset)
    message = (
        "world= must be a dict, a list or a set that the handlers change, an object with "
        f"snapshot() and reset(), or a function that returns a picture; not {type(given).__name__}."
    )
    raise TypeError(message)


def without_ids(picture: Any, ids: Mapping[str, str]) -> Any:
    """Return a picture in which the names that are new in each run are replaced.

    Args:
        picture: What a world has returned.
        ids: What to put in the place of what.
    """
    if isinstance(picture, str):
        for name, other in ids.items():
            picture = picture.replace(name, other)
        return picture
    if isinstance(picture, bytes):
        for name, other in ids.items():
            picture = picture.replace(name.encode(), other.encode())
        return picture
    if isinstance(picture, dict):
        return {without_ids(k, ids): without_ids(v, ids) for k, v in picture.items()}
    if isinstance(picture, (list, set, frozenset)):
        return type(picture)(without_ids(item, ids) for item in picture)
    if isinstance(picture, tuple):
        items = [without_ids(item, ids) for item in picture]
        return type(picture)(*items) if hasattr(picture, "_fields") else tuple(items)
    return picture


def differences(before: Any, after: Any, place: str = "world") -> list[str]:
    """Return what has changed between two pictures, a line each.

    Args:
        before: What it should be.
        after: What it is.
        place: What the lines call it.
    """
    if before == after:
        return []
    if isinstance(before, dict) and isinstance(after, dict):
        found = []
        for key in [*before, *(key for key in after if key not in before)]:
            where = f"{place}[{key!r}]"
            if key not in after:
                found.append(f"{where} is gone; it should be {before[key]!r:.200}")
            elif key not in before:
                found.append(f"{where} should not be there; it is {after[key]!r:.200}")
            else:
                found += differences(before[key], after[key], where)
        return found
    if isinstance(before, (set, frozenset)) and isinstance(after, (set, frozenset)):
        missing = [f"{place} lacks {item!r:.200}" for item in sorted(before - after, key=repr)]
        return missing + [
            f"{place} should not hold {item!r:.200}" for item in sorted(after - before, key=repr)
        ]
    if isinstance(before, list) and isinstance(after, list):
        return _list_differences(before, after, place)
    return [f"{place} is {after!r:.200}; it should be {before!r:.200}"]


def _list_differences(before: list[Any], after: list[Any], place: str) -> list[str]:
    left, found = list(before), []
    for item in after:
        if item in left:
            left.remove(item)
        else:
            found.append(f"{place} should not hold {item!r:.200}")
    found += [f"{place} lacks {item!r:.200}" for item in left]
    return found or [f"{place} is in another order: {after!r:.200}; should be {before!r:.200}"]
