"""What becomes of what a process has open in a child of `fork`.

Owns: the hook behind fork, registered once, when something first asks to be told.
Rules:
  1. A child waits for no lock that it has inherited: who held it is a thread of its parent.
  2. A child never says anything on its parent's sessions, not even goodbye.
  3. Who is told first is not said: nobody relies on what another has let go of.

SQLite asks for more, before the fork and in the parent: see `stores/sqlite/forking.py`.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """Be told of a fork."""

    def after_fork_in_child(self) -> None:
        """Let go of what belongs to the parent, and of every lock that may have been held."""


_told: WeakSet[Forkable] = WeakSet()
_is_registered = False


def watch(one: Forkable) -> None:
    """Tell it of every fork from now on, for as long as anybody holds it."""
    global _is_registered  # noqa: PLW0603 (the hook is the process's, so is this)
    if not _is_registered and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_in_child)
        _is_registered = True
    _told.add(one)


def _after_in_child() -> None:
    for one in list(_told):
        one.after_fork_in_child()
