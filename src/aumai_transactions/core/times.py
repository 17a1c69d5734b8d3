"""Instants, as the journal has them and as people read them.

Owns: the way from microseconds since 1970 UTC to a datetime.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = datetime.min.replace(tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)


def instant(microseconds: int) -> datetime:
    """Return an aware UTC datetime; the calendar's last or first one for what is beyond it.

    Why no error: a deadline may be later than every calendar, and it is only shown.
    """
    # Why in two parts: many microseconds alone are taken apart slowly.
    seconds, rest = divmod(microseconds, 1_000_000)
    try:
        return _EPOCH + timedelta(0, seconds, rest)
    except OverflowError:
        return _LAST if microseconds > 0 else _FIRST
