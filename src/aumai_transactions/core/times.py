"""Instants, as the journal has them and as people read them.

Owns: the way from microseconds since 1970 UTC to a datetime.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(microseconds: int) -> datetime:
    """Return an aware UTC datetime."""
    # Why in two parts: many microseconds alone are taken apart slowly.
    seconds, rest = divmod(microseconds, 1_000_000)
    return _EPOCH + timedelta(0, seconds, rest)
