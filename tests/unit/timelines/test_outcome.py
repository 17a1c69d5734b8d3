"""Tests of what became of a transaction, in one sentence."""

from __future__ import annotations

import pytest

from aumai_transactions.models import (
    OutstandingCompensation,
    TransactionResult,
    TransactionState,
    Waiting,
)
from aumai_transactions.timelines.outcome import outcome_sentence
from aumai_transactions.timelines.timeline import Timeline

STATE = TransactionState


@pytest.mark.parametrize(
    "fields, sentence",
    [
        ({"state": STATE.committed, "completed_steps": ["s1"]}, "Committed: 1 step took effect."),
        ({"state": STATE.failed}, "Failed: its time was over before anything ran."),
        (
            {"state": STATE.rolled_back, "reason": "deadline", "compensated_steps": ["s2", "s1"]},
            "Rolled back because its time was over: 2 steps undone.",
        ),
        (
            {"state": STATE.rolled_back, "reason": "requested", "uncompensated": ["s1"]},
            "Rolled back because somebody asked for it: there was nothing to undo, 1 step stays.",
        ),
        ({"state": STATE.pending}, "It has not begun."),
        (
            {
                "state": STATE.active,
                "waiting": Waiting(reason="approval", detail="s1 waits for an approval"),
            },
            "It is under way; s1 waits for an approval.",
        ),
        (
            {"state": STATE.compensating, "reason": "crash"},
            "It is being undone because its process died.",
        ),
    ],
)
def test_it_says_what_became_of_it_and_why(fields, sentence):
    result = TransactionResult(transaction_id="t", **fields)
    assert outcome_sentence(Timeline("t"), result) == sentence


def test_it_names_what_is_left_for_a_person_and_the_cause():
    left = OutstandingCompensation(
        step_id="s1", agent_id="a", action="x", compensating_action="y", reason="failed", error="no"
    )
    result = TransactionResult(
        transaction_id="t", state=STATE.rolled_back, reason="step_failed", outstanding=[left]
    )
    timeline = Timeline("t")
    timeline.cause = "s2: ValueError: full"
    said = outcome_sentence(timeline, result)
    assert said == (
        "Rolled back because a step failed (s2: ValueError: full): there was nothing to undo; "
        "1 step needs a person."
    )
