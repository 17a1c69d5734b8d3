"""Who takes part in a transaction, and how long they wait.

Owns: what is known about one of them while they wait.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(slots=True, eq=False)
class Part:
    """Hold what is known about one who takes part, while they wait.

    Args:
        transaction_id: In which transaction.
        interrupt: A cancellation that arrived meanwhile.
        is_callers: True where a cancellation means that their call is not wanted any more.
        goes_back: True where a cancellation means that the whole is not wanted any more.
        causes: What the last call of a step's action raised, itself, by step id.
    """

    transaction_id: str
    interrupt: BaseException | None = None
    is_callers: bool = True
    goes_back: bool = False
    causes: dict[str, BaseException] = field(default_factory=dict)


class Patience(NamedTuple):
    """Say how long somebody waits, and for what.

    Args:
        until: For times and people; microseconds since 1970 UTC, None for ever.
        polls: True to look as well for what others append.
        gives_up: True where a cancellation ends a wait in which nothing is under way.
    """

    until: int | None = None
    polls: bool = False
    gives_up: bool = False


ENDLESS = Patience()
