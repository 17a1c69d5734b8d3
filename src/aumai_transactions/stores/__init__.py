"""Which store a name stands for.

Owns: the forms of a store's name, and how a name is shown.
Rules:
  1. The module of a store, and what it imports, is loaded when such a store is opened.
  2. A password never leaves this module in clear.
"""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from aumai_transactions.core.values import shown
from aumai_transactions.errors import StoreError

if TYPE_CHECKING:
    from types import ModuleType

    from aumai_transactions.clock import Clock
    from aumai_transactions.store import Contents, Store

STORE_VARIABLE = "AUMAI_TRANSACTIONS_STORE"
"""The environment variable that names the store where nobody names one."""

# Why two letters at least: `c:/stores/x.db` is a path.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_FORMS = (
    "Use sqlite:///relative.db, sqlite:////absolute.db, a plain path, "
    "postgresql://user@host/database, or memory:"
)


def open_store(
    url_or_path: str | os.PathLike[str],
    *,
    create: bool,
    make_parent: bool = False,
    clock: Clock | None = None,
) -> Store:
    """Open the store that a URL or a path names.

    Args:
        url_or_path: `sqlite:///rel.db`, `sqlite:////abs.db`, a plain path,
            `postgresql://user:password@host/database`, or `memory:`.
        create: True where a store that does not exist is to be made.
        make_parent: True where its folder is to be made too.
        clock: What tells the time; the machine's own clock by default.

    Raises:
        StoreNotFound: There is no such store, or its folder does not exist.
        StoreFormatError: What stands there is not a store of ours.
        StoreUnavailable: It cannot be read or written for now.
        StoreError: The name has no form that this release knows.
    """
    name = _name(url_or_path)
    if name in ("memory:", "memory://"):
        from aumai_transactions.stores.memory import MemoryStore

        return MemoryStore()
    if _is_postgres(name):
        return _postgres(name, create=create, clock=clock)
    path = _sqlite_path(name)
    from aumai_transactions.clock import SystemClock
    from aumai_transactions.stores.sqlite import SqliteStore

    return SqliteStore(path, create=create, make_parent=make_parent, clock=clock or SystemClock())


def new_store(
    url_or_path: str | os.PathLike[str], contents: Contents, *, make_parent: bool = False
) -> None:
    """Make the store that a URL or a path names, with these contents, or nothing at all.

    Args:
        url_or_path: As for `open_store`, but not `memory:`.
        contents: What it begins with.
        make_parent: True where its folder is to be made too.

    Raises:
        StoreNotFound: Its folder, or its database, does not exist.
        StoreError: There is a store already, or the contents cannot be had.
    """
    name = os.fspath(url_or_path)
    if name in ("memory:", "memory://"):
        raise StoreError("a store in memory begins empty. Name a file or a database.")
    if _is_postgres(name):
        _postgres_module(name).fill_new(name, contents)
        return
    from aumai_transactions.stores.sqlite import creation

    path = Path(os.path.realpath(_sqlite_path(name)))
    creation.create(path, make_parent=make_parent, contents=contents)


def default_path() -> Path:
    """Return where the store is when nobody, and no variable, names one.

    Raises:
        StoreError: There is no home folder.
    """
    try:
        return Path.home() / ".aumai" / "transactions" / "transactions.db"
    except RuntimeError:
        message = f"there is no home folder here for a store. Name one with {STORE_VARIABLE}."
        raise StoreError(message) from None


def default_store() -> str:
    """Return the name of the store that is meant where nobody names one."""
    return os.environ.get(STORE_VARIABLE) or str(default_path())


def shown_url(url_or_path: str | os.PathLike[str]) -> str:
    """Return a store's name as it may be shown: every password as •••."""
    name = os.fspath(url_or_path)
    if not _SCHEME.match(name):
        return name
    # Why up to the last @: a password may hold one.
    name = re.sub(r"(?<=://)([^/:@]*):.*@", r"\1:•••@", name, count=1)
    return re.sub(r"(?i)([?&][^=&]*(?:password|passwd|secret|token)[^=&]*=)[^&]*", r"\1•••", name)


def _name(url_or_path: object) -> str:
    """Return a store's name as text that a file system can take."""
    try:
        name = os.fspath(url_or_path)  # type: ignore[call-overload]
        if isinstance(name, str):
            os.fsencode(name)
            return name
    except (TypeError, UnicodeEncodeError):
        name = url_or_path
    raise StoreError(f"{shown(name)} does not name a store. {_FORMS}.")


def _is_postgres(name: str) -> bool:
    scheme = _SCHEME.match(name)
    return scheme is not None and scheme[1].lower() in ("postgres", "postgresql")


def _postgres(url: str, *, create: bool, clock: Clock | None) -> Store:
    store: Store = _postgres_module(url).PostgresStore(url, create=create, clock=clock)
    return store


def _postgres_module(url: str) -> ModuleType:
    try:
        return import_module("aumai_transactions.stores.postgres")
    except ImportError as error:
        raise StoreError(
            f"{shown_url(url)}: the PostgreSQL store needs psycopg ({error}). "
            "Run: pip install 'aumai-transactions[postgres]'"
        ) from error


def _sqlite_path(name: str) -> Path:
    scheme = _SCHEME.match(name)
    if scheme is None:
        if not name or "\0" in name or name == ":memory:":
            raise StoreError(f"{shown(name)} does not name a store. {_FORMS}.")
        return Path(name).expanduser()
    kind = scheme[1].lower()
    if kind != "sqlite":
        raise StoreError(f"{shown_url(name)}: there is no store of the kind {kind!r}. {_FORMS}.")
    rest = name[scheme.end() :]
    path = rest[1:]
    if not rest.startswith("/") or not path or set("\0?#") & set(path):
        raise StoreError(
            f"{shown_url(name)} does not name a file: three slashes and a relative path, or four "
            f"and an absolute one, without ? and #. {_FORMS}."
        )
    return Path(path).expanduser()
