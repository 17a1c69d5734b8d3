"""How often somebody may ask.

Owns: the rate limits of tokens and sessions, and of failed log-ins.
Source: token bucket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from aumai_transactions.web.problems import Problem

if TYPE_CHECKING:
    from aumai_transactions.clock import Clock

K = TypeVar("K")

READS_PER_SECOND = 1_000
CHANGES_PER_SECOND = 200
FAILURES_PER_MINUTE = 10
LINKS_PER_MINUTE = 3
REMEMBERED_MAX = 10_000


class _Bucket:
    """Hold what is left; it fills up again as time passes."""

    __slots__ = ("at", "left")

    def __init__(self, left: float, at: int) -> None:
        self.left = left
        self.at = at

    def fill(self, size: float, per_second: float, now: int) -> None:
        self.left = min(size, self.left + max(now - self.at, 0) * per_second / 1_000_000)
        self.at = now


class Rates:
    """Count what is asked for.

    Args:
        clock: What time it is.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asked: dict[tuple[str, bool], _Bucket] = {}
        self._failed: dict[str, _Bucket] = {}
        self._links: dict[str, _Bucket] = {}

    def count(self, name: str, *, is_change: bool) -> None:
        """Count one request.

        Raises:
            Problem: There were too many.
        """
        most = CHANGES_PER_SECOND if is_change else READS_PER_SECOND
        # Why twice: who has been quiet may ask for much at once.
        bucket = self._bucket(self._asked, (name, is_change), 2 * most, most)
        if bucket.left < 1:
            detail = f"More than {most} requests a second; ask again in a second."
            raise Problem(429, "too-many-requests", detail, headers={"retry-after": "1"})
        bucket.left -= 1

    def count_failure(self, client: str) -> None:
        """Count a log-in that failed, or a token that is nobody's.

        Raises:
            Problem: There were too many from this address.
        """
        most = FAILURES_PER_MINUTE
        bucket = self._bucket(self._failed, client, most, most / 60)
        if bucket.left < 1:
            detail = "Too many wrong tokens from this address; try again in a minute."
            raise Problem(429, "too-many-failures", detail, headers={"retry-after": "60"})
        bucket.left -= 1

    def count_link(self) -> None:
        """Count a login link that is asked for; whoever asks has no name yet.

        Raises:
            Problem: There were too many.
        """
        bucket = self._bucket(self._links, "", LINKS_PER_MINUTE, LINKS_PER_MINUTE / 60)
        if bucket.left < 1:
            detail = "Several links were printed already; use the last one, or wait a minute."
            raise Problem(429, "too-many-links", detail, headers={"retry-after": "60"})
        bucket.left -= 1

    def _bucket(self, buckets: dict[K, _Bucket], key: K, size: float, rate: float) -> _Bucket:
        now = self._clock.now()
        found = buckets.get(key)
        if found is None:
            if len(buckets) >= REMEMBERED_MAX:
                buckets.pop(next(iter(buckets)))
            found = buckets[key] = _Bucket(size, now)
        found.fill(size, rate, now)
        return found
