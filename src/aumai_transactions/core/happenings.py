"""What of an append is told to webhooks.

Owns: which entries make which event.
Rules:
  1. It depends on nothing but the entries of one append, and on why a person had to look before it
     and has to look after it: so every store writes the same, in the write that it tells of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from aumai_transactions.core.entries import (
    ApprovalRequested,
    Entry,
    StepOutstanding,
    TransactionCommitted,
    TransactionExpired,
    TransactionRolledBack,
)

if TYPE_CHECKING:
    from aumai_transactions.core.outcome import Attention

EventName = Literal["finished", "attention", "approval", "outstanding", "entries"]
EVENT_NAMES: tuple[EventName, ...] = get_args(EventName)
USUAL_EVENTS: tuple[EventName, ...] = ("finished", "attention", "approval", "outstanding")
"""All but `entries`, which is as much as the journal."""

_EVENT_OF: dict[type, EventName] = {
    TransactionCommitted: "finished",
    TransactionRolledBack: "finished",
    TransactionExpired: "finished",
    ApprovalRequested: "approval",
    StepOutstanding: "outstanding",
}


class Happening(NamedTuple):
    """Name something that may be told.

    Args:
        event: What.
        first: The sequence of the first entry that it is about.
        last: The sequence of the last one; what is told is how things stood then.
    """

    event: EventName
    first: int
    last: int


def happenings(
    entries: Sequence[Entry], before: int, was: Attention | None, now: Attention | None
) -> list[Happening]:
    """Return what an append has brought about, in order.

    Args:
        entries: What was appended.
        before: The sequence of the last entry before them.
        was: Why a person had to look before.
        now: Why one has to look afterwards.
    """
    last = before + len(entries)
    found = [Happening("entries", before + 1, last)] if entries else []
    for sequence, entry in enumerate(entries, before + 1):
        event = _EVENT_OF.get(type(entry))
        if event is not None:
            found.append(Happening(event, sequence, sequence))
    if now is not None and now != was:
        found.append(Happening("attention", last, last))
    return found
