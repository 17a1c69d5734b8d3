"""What it means that a participant was asked what became of a call, and what it answered.

Owns: the part of `evolve` that is about probes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.core import undoing
from aumai_transactions.core.states import STEP_IN_DOUBT
from aumai_transactions.core.transitions import known_done, no_longer_waiting, not_done, require

if TYPE_CHECKING:
    from aumai_transactions.core.entries import ProbeAnswered, ProbeStarted
    from aumai_transactions.core.saga import Saga


def probe_started(saga: Saga, entry: ProbeStarted) -> None:
    """Let a participant be asked about a step in doubt."""
    step = saga.step(entry.step_id)
    asked = step.state is STEP_IN_DOUBT and not step.probing
    require(asked, "a probe is asked about a step that is not in doubt")
    require(entry.attempt == step.probe_attempt + 1, undoing.ATTEMPTS)
    if step.probe_attempt == step.probe_base:
        step.probe_first_at = entry.at
    step.probe_attempt = entry.attempt
    step.probing = True
    no_longer_waiting(saga, step)


def probe_answered(saga: Saga, entry: ProbeAnswered) -> None:
    """Let it be known what a participant said."""
    step = saga.step(entry.step_id)
    require(step.probing, "a probe answers that was not asked")
    step.probing = False
    if entry.warning:
        saga.warnings.append(entry.warning)
    if entry.answer == "unknown":
        step.probe_spent = not entry.will_retry
        return
    # Order matters: whether there is anything to undo is known only now.
    if entry.answer == "done":
        step.output = entry.output
        step.unrecorded = entry.warning is not None
        known_done(saga, step)
    else:
        not_done(saga, step, entry.error or step.error, entry.will_retry)
    undoing.settled(saga, step)
