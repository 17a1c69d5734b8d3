"""What goes into a check, and what comes out.

Owns: `Access`, one line of what a participant has recorded; `Problem`, one thing that must not be;
and how lines are read from a file.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from aumai_transactions.errors import InvalidData

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Kind = Literal["read", "write", "undo"]

_KINDS = get_args(Kind)


class Access(NamedTuple):
    """Say that a participant has let a transaction at a resource, as its own database has it.

    Args:
        position: Its place in the order in which the participant committed; over all resources.
        resource: The resource's canonical name; None for an effect on nothing that is locked.
        transaction_id: On behalf of which transaction.
        step_id: Of which of its steps.
        kind: `read`, `write`, or `undo` of what the step has written.
        token: The fencing token that came with the call; None where none did.
        key: The idempotency key that came with the call; None where it was not recorded.
        attempt: Which attempt of the call it was; None where it was not recorded.
    """

    position: int
    resource: str | None
    transaction_id: str
    step_id: str
    kind: Kind
    token: int | None = None
    key: str | None = None
    attempt: int | None = None


class Problem(NamedTuple):
    """Name one thing that must not be.

    Args:
        invariant: Which one it breaks, as in docs/design.md: `I1` to `I13`; `L1` for what has not
            ended.
        transaction_ids: Whom it is about.
        text: A sentence that names the step and the resource.
    """

    invariant: str
    transaction_ids: tuple[str, ...]
    text: str


_FIELDS: dict[str, tuple[type, bool]] = {
    "position": (int, True),
    "resource": (str, False),
    "transaction_id": (str, True),
    "step_id": (str, True),
    "kind": (str, True),
    "token": (int, False),
    "key": (str, False),
    "attempt": (int, False),
}


def read_accesses(lines: Iterable[str], name: str) -> Iterator[Access]:
    """Yield the accesses that a file of JSON objects holds, one a line; empty lines count not.

    Args:
        lines: The file's.
        name: What it is called, for an error.

    Raises:
        InvalidData: A line is no access; names the line and what is wrong with it.
    """
    for number, found in read_objects(lines, name):
        place = f"{name}, line {number}"
        strange = sorted(found.keys() - _FIELDS.keys())
        if strange:
            known = ", ".join(_FIELDS)
            raise InvalidData(place, f"there is no field {strange[0]!r:.40}; there are {known}.")
        for field, (kind, is_needed) in _FIELDS.items():
            value = found.get(field)
            if value is None and not is_needed:
                continue
            if type(value) is not kind:
                wanted = "a whole number" if kind is int else "text"
                raise InvalidData(place, f"{field} must be {wanted}, not {value!r:.40}.")
        if found["kind"] not in _KINDS:
            kinds = ", ".join(_KINDS)
            raise InvalidData(place, f"kind must be one of {kinds}, not {found['kind']!r:.40}.")
        yield Access(**{"resource": None, **found})


def read_objects(lines: Iterable[str], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield number and object of each line that is not empty.

    Raises:
        InvalidData: A line is not a JSON object; names it.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidData(f"{name}, line {number}", f"it is not JSON ({error}).") from error
        if not isinstance(found, dict):
            raise InvalidData(f"{name}, line {number}", "it must be a JSON object.")
        yield number, found
