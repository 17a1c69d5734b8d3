"""Every page, and the static files.

Owns: the list of endpoints that are for people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.web.routing import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable


def static_paths() -> Iterable[str]:
    """Return the exact paths of the static files, which are open to all."""
    return ()


def endpoints() -> list[Endpoint]:
    """Return what serves each page."""
    return []
