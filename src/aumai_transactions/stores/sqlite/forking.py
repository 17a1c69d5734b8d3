"""What becomes of an open store in a child of `fork`.

Owns: the hooks around fork, registered once, when the first store is opened.
Rules:
  1. No write transaction is in flight at the moment of the fork.
  2. A child closes its copies of our lock files, so that it does not keep its parent's drivers
     alive, and never unlocks them: the lock belongs to both.
  3. A child never touches nor closes its copy of a SQLite connection.
"""

from __future__ import annotations

import os
from threading import Lock
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """Be told of a fork."""

    def before_fork(self) -> None:
        """Wait until no call is inside."""

    def after_fork_in_parent(self) -> None:
        """Let calls in again."""

    def after_fork_in_child(self) -> object:
        """Close lock files; return what must never be closed."""


_stores: WeakSet[Forkable] = WeakSet()
_guard = Lock()
_forking: list[Forkable] = []
_is_registered = False


def watch(store: Forkable) -> None:
    """Tell a store of every fork from now on."""
    global _is_registered  # noqa: PLW0603 (the hooks are the process's, so is this)
    with _guard:
        if not _is_registered and hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
            )
            _is_registered = True
        _stores.add(store)


def _before() -> None:
    import ctypes  # noqa: F401 (a child must not be the first to import it)

    _guard.acquire()
    # Order matters: always the same one, so that two forks at once cannot wait for each other.
    _forking[:] = sorted(_stores, key=id)
    for store in _forking:
        store.before_fork()


def _after_in_parent() -> None:
    for store in reversed(_forking):
        store.after_fork_in_parent()
    _forking.clear()
    _guard.release()


def _after_in_child() -> None:
    for store in reversed(_forking):
        _never_free(store.after_fork_in_child())
    _forking.clear()
    _guard.release()


def _never_free(kept: object) -> None:
    """Keep an object to the very end of the process.

    SQLite forbids any use of a connection across a fork, closing it included ("How To Corrupt
    An SQLite Database File", 2.6). A list in this module would be emptied when the interpreter
    shuts down, and that would close it.
    """
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
