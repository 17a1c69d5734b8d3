"""What `doctor` wants to know about a PostgreSQL store.

Owns: facts, as text. Nothing here changes anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from aumai_transactions.stores.postgres.statements import statement

if TYPE_CHECKING:
    from aumai_transactions.clock import Clock
    from aumai_transactions.stores.postgres.pool import Lent
    from aumai_transactions.stores.postgres.schema import StoreRow

CLOCK_SECONDS_MAX = 5.0


def checks(lent: Lent, row: StoreRow, known: int, clock: Clock) -> dict[str, str]:
    """Return name and value of each fact.

    Args:
        lent: A connection.
        row: What the store says about itself.
        known: The schema version of this release.
        clock: This machine's time.
    """
    before = clock.now()
    server = lent.read(statement("server")).fetchone() or ("",) * 6
    middle = (before + clock.now()) // 2
    version, fsync, full_page_writes, synchronous_commit, instant, _zone = server
    sizes = lent.read(statement("sizes")).fetchone() or (0, 0)
    usable = "" if row.usable_from == row.schema_version else f", usable from {row.usable_from}"
    return {
        "postgresql_version": str(version),
        "psycopg_version": f"{psycopg.__version__} ({psycopg.pq.__impl__})",
        "fsync": str(fsync),
        "full_page_writes": str(full_page_writes),
        "synchronous_commit": str(synchronous_commit),
        "server_clock": _difference((int(instant) - middle) / 1_000_000),
        "schema_version": f"{row.schema_version} of {known}{usable}",
        "transactions_bytes": f"{sizes[0]:,}",
        "entries_bytes": f"{sizes[1]:,}",
    }


def _difference(seconds: float) -> str:
    """Say by how much the server's clock is before or behind ours."""
    if abs(seconds) <= CLOCK_SECONDS_MAX:
        return "agrees with this machine's"
    side = "ahead of" if seconds > 0 else "behind"
    return (
        f"{abs(seconds):,.0f} s {side} this machine's; deadlines and due times are judged by ours"
    )
