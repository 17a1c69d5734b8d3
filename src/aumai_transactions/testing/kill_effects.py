"""What the world saw: a file to which handlers append one line for each effect.

Owns: the form of that file. It stands for the services that a transaction calls.
Rules:
  1. A line is one `write()` to a file opened with O_APPEND: lines of all processes stand in the
     order in which the effects happened, and no two are mixed.
  2. Every line has the same length, a divisor of the page size: a process that is killed inside
     of the write leaves either the whole line or nothing of it.
  3. A line holds no time: what is checked is order and number.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from aumai_transactions.actions import StepContext
    from aumai_transactions.core.definition import Operation

LINE_BYTES = 256

Mark = Literal["effect", "return"]
"""`effect`: the outside world changed. `return`: the handler did the last thing it does."""


class Effect(NamedTuple):
    """Hold one line.

    Args:
        mark: What happened.
        transaction_id: In which transaction.
        step_id: In which step.
        operation: By its action or by its compensating action.
        attempt: By which call of it.
        key: The idempotency key that the call carried.
    """

    mark: Mark
    transaction_id: str
    step_id: str
    operation: Operation
    attempt: int
    key: str


class EffectFile:
    """Write effects; every process opens its own.

    Args:
        path: The file; made where it does not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)

    def write(self, mark: Mark, context: StepContext) -> None:
        """Append one line, with one system call.

        Raises:
            ValueError: The names in it are too long for a line.
        """
        effect = Effect(
            mark,
            context.transaction_id,
            context.step_id,
            context.operation,
            context.attempt,
            context.idempotency_key,
        )
        line = json.dumps(effect).encode("ascii").ljust(LINE_BYTES - 1) + b"\n"
        if len(line) != LINE_BYTES:
            message = f"{line!r} is longer than {LINE_BYTES} bytes"
            raise ValueError(message)
        os.write(self._descriptor, line)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_effects(path: str | os.PathLike[str], first: int = 0) -> list[Effect]:
    """Return the lines in the order in which they were written.

    Args:
        path: The file; one that does not exist holds nothing.
        first: How many lines to leave out at the beginning.

    Raises:
        ValueError: A line is torn, which rule 2 excludes.
    """
    try:
        with Path(path).open("rb") as file:
            file.seek(first * LINE_BYTES)
            content = file.read()
    except FileNotFoundError:
        return []
    if len(content) % LINE_BYTES:
        message = f"{path} ends in the middle of a line"
        raise ValueError(message)
    return [Effect(*json.loads(line)) for line in content.splitlines()]
