"""Whether a fact about a store is fine.

Owns: that judgement; who asks for the facts is the command line, or the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from aumai_transactions.store import Listed, StoreInfo
from aumai_transactions.wording.words import duration

CLOCK_BEHIND_SECONDS_MAX = 60

Verdict = Literal["ok", "note", "wrong"]


class Finding(NamedTuple):
    """Hold one fact and what to think of it."""

    name: str
    verdict: Verdict
    value: str


def facts_of(info: StoreInfo) -> Iterator[Finding]:
    """Yield what a store tells of itself, each with what to think of it."""
    yield Finding("store id", "ok", info.store_id)
    for name, value in info.checks.items():
        yield Finding(name.replace("_", " "), verdict_of(name, value), value)


def verdict_of(name: str, value: str) -> Verdict:
    """Return what to think of a fact that a store tells of itself."""
    if name == "integrity" and value != "ok":
        return "note" if value.startswith("not checked") else "wrong"
    if name == "last_checkpoint" and value != "ok":
        return "wrong"
    if name == "synchronous" and value not in ("FULL", "EXTRA"):
        return "wrong"
    # Of PostgreSQL: without these, what it acknowledged can be lost in a power cut.
    if name in ("fsync", "full_page_writes") and value != "on":
        return "wrong"
    if name == "synchronous_commit" and value not in ("on", "remote_apply"):
        return "wrong"
    if name == "server_clock" and not value.startswith("agrees"):
        return "note"
    if name == "file_system" and "network" in value:
        return "wrong"
    if name == "file_mode" and "others" in value:
        return "wrong"
    return "ok"


def clock_of(newest: Sequence[Listed], now: int) -> Finding:
    """Return whether this machine's clock agrees with what was written last.

    Args:
        newest: The newest transaction, if there is any.
        now: Microseconds since 1970 UTC.
    """
    behind = (newest[0].summary.updated_at - now) / 1_000_000 if newest else 0.0
    if behind > CLOCK_BEHIND_SECONDS_MAX:
        text = f"{duration(behind)} behind the newest entry; deadlines are judged wrongly"
        return Finding("clock and journal", "wrong", text)
    return Finding("clock and journal", "ok", "the newest entry is not in the future")
