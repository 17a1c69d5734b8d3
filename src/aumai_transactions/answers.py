"""What a handler may answer besides "done": the words of probes, verifications and undos.

Owns: those words, as values. What they mean for a transaction is decided in the core.
Rules:
  1. An answer is given by returning one of these; anything else that a probe or a verification
     returns is no answer, and counts as `Unknown`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, frozen=True)
class Done:
    """Answer of a probe: the action took effect.

    Args:
        output: What the action returned, or would have; JSON.
    """

    output: Any = None


@dataclass(slots=True, frozen=True)
class NotDone:
    """Answer of a probe: the action did not take effect, and what was sent so far never can.

    A participant that merely does not know the key yet is no reason for this answer, for the
    call may still be on its way: then the answer is `Unknown`. After this answer the step may be
    run again, under the same key, with a higher attempt (`StepContext.attempt`).

    Args:
        why: A sentence for people.
    """

    why: str = ""


@dataclass(slots=True, frozen=True)
class Unknown:
    """Answer of a probe or a verification: it cannot be told now.

    Args:
        why: A sentence for people.
    """

    why: str = ""


@dataclass(slots=True, frozen=True)
class Clean:
    """Answer of a verification: nothing of the effect is left."""


@dataclass(slots=True, frozen=True)
class Residue:
    """Answer of a verification: something of the effect is still there; a person has to look.

    Args:
        left: What is left; JSON.
    """

    left: Any = None


@dataclass(slots=True, frozen=True)
class NothingToUndo:
    """Answer of a compensating action: there was no effect, so nothing was undone.

    Args:
        why: A sentence for people; it stands in the journal.
    """

    why: str = ""


@dataclass(slots=True, frozen=True)
class Continue:
    """Answer of a compensating action: do not go back; this is the step's output, go on.

    It is heard only while no other step's undo has begun; `StepContext.can_continue` tells.
    Source: the circuit breaker of Sage (Elixir).

    Args:
        output: What the step is taken to have returned; JSON.
    """

    output: Any = None
