"""What a person has to look at, and every way on from there.

Owns: which ways there are, as a command line and as what a page's button asks for: both are made
here, so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from aumai_transactions.core.entries import Answer
from aumai_transactions.models import TransactionResult, TransactionState
from aumai_transactions.timelines.lines import StepLine
from aumai_transactions.timelines.outcome import without_advice
from aumai_transactions.wording.characters import shown
from aumai_transactions.wording.words import left_text, stuck_text

Command = Callable[..., str]
"""Return a command line on the store that is meant: words, and `app=True` where handlers are
needed too."""

Verb = Literal["retry", "resolve", "approve", "deny", "trust", "roll_back"]

_STUCK: tuple[Answer, ...] = ("happened", "left_in_place")
_LEFT: tuple[Answer, ...] = ("undone", "left_in_place")
_DOUBTED: tuple[Answer, ...] = ("happened", "did_not_happen")


class Way(NamedTuple):
    """Hold one way on.

    Args:
        verb: What is asked for.
        line: The command line that asks for it.
        step_id: Of which step; empty for the whole.
        answer: What a resolution says.
        digest: What an approval allows.
    """

    verb: Verb
    line: str
    step_id: str = ""
    answer: Answer | None = None
    digest: str = ""


class Need(NamedTuple):
    """Hold what a person has to look at, in words, and the ways on from there.

    Args:
        what: In words.
        ways: At least one.
        step_id: Which step it is about; empty for the whole.
    """

    what: str
    ways: list[Way]
    step_id: str = ""


def needs_of(
    command: Command, result: TransactionResult, steps: Mapping[str, StepLine], *, app: bool
) -> list[Need]:
    """Return what a person has to look at, and for each the ways on.

    Args:
        command: Return a command line.
        result: The outcome so far.
        steps: What is known of the steps, by id.
        app: True where handlers in Python are needed to go on.
    """
    name = result.transaction_id
    found = []
    for item in result.outstanding:
        ways = []
        # Why not without an undo: there is nothing that could be tried again.
        if item.compensating_action is not None and item.reason != "no_compensation":
            ways = [_retry(command, name, item.step_id, app=app)]
        ways += [_resolve(command, name, item.step_id, answer) for answer in _LEFT]
        found.append(Need(left_text(item), ways, item.step_id))
    waiting = result.waiting
    if waiting is None:
        return found
    for step_id in waiting.step_ids:
        if waiting.reason == "in_doubt":
            ways = [_resolve(command, name, step_id, way, app=app) for way in _DOUBTED]
            what = f"{shown(step_id)}: nobody knows whether it happened"
            found.append(Need(what, ways, step_id))
        elif waiting.reason == "committing":
            ways = [_retry(command, name, step_id, app=app)]
            ways += [_resolve(command, name, step_id, way, app=app) for way in _STUCK]
            found.append(Need(stuck_text(step_id, steps.get(step_id)), ways, step_id))
    if waiting.reason == "restored":
        line = command("recover", "--trust", name, "--note", "how you know")
        ways = [Way("trust", line), *_rollback(command, result)]
        found.append(Need(shown(without_advice(waiting.detail)), ways))
    if waiting.reason == "poisoned":
        # Why without an app: it is for those who have the handlers, once they are repaired.
        ways = [_retry(command, name, step_id, app=False) for step_id in waiting.step_ids[:1]]
        found.append(
            Need(shown(without_advice(waiting.detail)), [*ways, *_rollback(command, result)])
        )
    return found


def approval_ways(command: Command, name: str, step: StepLine, *, app: bool) -> list[Way]:
    """Return how a person answers for a step that waits for one.

    Args:
        command: Return a command line.
        name: The transaction.
        step: Which waits.
        app: True where handlers in Python are needed to go on.
    """
    digest = step.asked.digest if step.asked is not None else ""
    given = command("approve", name, step.step_id, "--digest", digest, app=app)
    denied = command("deny", name, step.step_id, "--note", "why not", app=app)
    return [
        Way("approve", given, step.step_id, digest=digest),
        Way("deny", denied, step.step_id),
    ]


def _retry(command: Command, name: str, step_id: str, *, app: bool) -> Way:
    return Way("retry", command("retry", name, step_id, app=app), step_id)


def _rollback(command: Command, result: TransactionResult) -> list[Way]:
    """Return how everything is undone, where that can be asked for."""
    if result.state in (TransactionState.pending, TransactionState.active):
        return [Way("roll_back", command("rollback", result.transaction_id))]
    return []


def _resolve(
    command: Command, name: str, step_id: str, answer: Answer, *, app: bool = False
) -> Way:
    option = "--" + answer.replace("_", "-")
    line = command("resolve", name, step_id, option, "--note", "how you know", app=app)
    return Way("resolve", line, step_id, answer)
