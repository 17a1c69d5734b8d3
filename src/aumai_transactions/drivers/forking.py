"""What becomes of a manager in a child of `fork`.

Owns: the hook behind fork, registered once, when the first desk is made.
Rules:
  1. A child waits for no lock that it has inherited: who held it is a thread of its parent.
  2. What it may not do is for the store to say, which belongs to the process that opened it.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """Be told of a fork."""

    def after_fork_in_child(self) -> None:
        """Let go of every lock that may have been held."""


_desks: WeakSet[Forkable] = WeakSet()
_is_registered = False


def watch(desk: Forkable) -> None:
    """Tell a desk of every fork from now on."""
    global _is_registered  # noqa: PLW0603 (the hook is the process's, so is this)
    if not _is_registered and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_in_child)
        _is_registered = True
    _desks.add(desk)


def _after_in_child() -> None:
    for desk in list(_desks):
        desk.after_fork_in_child()
