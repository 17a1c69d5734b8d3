"""The names that transactions and steps get where nobody names them.

Owns: how such a name is drawn.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aumai_transactions.models import Transaction

_ids = random.Random(os.urandom(32))  # noqa: S311 (an id is a name, it opens nothing)
if hasattr(os, "register_at_fork"):
    # Why: parent and child would otherwise draw the same ids from here on.
    os.register_at_fork(after_in_child=lambda: _ids.seed(os.urandom(32)))

# RFC 9562: four bits of a UUID say its version, and two its variant.
_VERSION_4 = 0x4 << 76 | 0b10 << 62
_RANDOM_BITS = ~(0xF << 76 | 0b11 << 62)


def new_id() -> str:
    """Return a random UUID (version 4) as text, without asking the kernel for each."""
    digits = f"{_ids.getrandbits(128) & _RANDOM_BITS | _VERSION_4:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def free_step_id(tx: Transaction) -> str:
    """Return the next name s1, s2, … that no step of the transaction has yet."""
    number = len(tx.steps) + 1
    # Why not look whenever: it would make adding n steps take n² time; ids clash only where the
    # last one is not the one that this function gave.
    if number == 1 or tx.steps[-1].step_id == f"s{number - 1}":
        return f"s{number}"
    taken = {step.step_id for step in tx.steps}
    while f"s{number}" in taken:
        number += 1
    return f"s{number}"
