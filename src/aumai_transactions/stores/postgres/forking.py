"""What becomes of an open store in a child of `fork`.

Owns: the hook behind fork, registered once, when the first store is opened.
Rules:
  1. A child never says anything on its parent's sessions, not even goodbye; it closes its copies of
     the sockets, so that a session ends when the parent does.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """Be told of a fork."""

    def after_fork_in_child(self) -> None:
        """Let go of what belongs to the parent."""


_stores: WeakSet[Forkable] = WeakSet()
_is_registered = False


def watch(store: Forkable) -> None:
    """Tell a store of every fork from now on."""
    global _is_registered  # noqa: PLW0603 (the hook is the process's, so is this)
    if not _is_registered and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_in_child)
        _is_registered = True
    _stores.add(store)


def _after_in_child() -> None:
    for store in list(_stores):
        store.after_fork_in_child()
