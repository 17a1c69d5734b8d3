"""Whether a run has left the world whole, and what to do where it has not.

Owns: the one rule (committed, and the world is as after a clean run; or rolled back or failed, and
the world is as before), and the advice that fits what was left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from aumai_transactions.models import StepState, TransactionState
from aumai_transactions.testing.atomic.faults import FaultKind
from aumai_transactions.testing.worlds import differences

if TYPE_CHECKING:
    from aumai_transactions.core.saga import SagaStep
    from aumai_transactions.testing.atomic.faults import Fault
    from aumai_transactions.testing.atomic.lives import Ended

Whole = Callable[[Any, Any], bool]
"""Given the world before and after, tell whether a committed transaction has done all of it."""

NEVER_BEGUN = "never begun"


class Rule(NamedTuple):
    """Hold what a run is judged by.

    Args:
        before: The world at the beginning.
        after: The world after a run without faults.
        whole: What is asked instead of comparing with `after`; None to compare.
        allow_outstanding: True where a person may be needed at the end.
    """

    before: Any
    after: Any
    whole: Whole | None = None
    allow_outstanding: bool = False


class Verdict(NamedTuple):
    """Hold what a run came to.

    Args:
        outcome: The state of its transaction.
        problem: What is wrong, in a sentence; empty where nothing is.
        left: How the world differs from what it should be, a line each.
        advice: What to do about it, a sentence each.
        needs_a_person: True where the world was not compared, because a person has to look.
    """

    outcome: str
    problem: str = ""
    left: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    needs_a_person: bool = False


def judged(ended: Ended, now: Any, rule: Rule) -> Verdict:
    """Return the verdict on a run.

    Args:
        ended: The run.
        now: The world after it.
        rule: What it is judged by.
    """
    outcome = outcome_of(ended)
    open_ends = [result for result in ended.results if not result.is_final]
    outstanding = [item for result in ended.results for item in result.outstanding]
    if open_ends and not (rule.allow_outstanding and _waits_for_a_person(ended)):
        return Verdict(outcome, _unfinished(ended), (), tuple(_advice(ended, outcome)))
    if outstanding and not rule.allow_outstanding:
        steps = ", ".join(item.step_id for item in outstanding)
        problem = f"the transaction is {outcome}, and {steps} needs a person."
        left = tuple(differences(rule.before, now))
        return Verdict(outcome, problem, left, tuple(_advice(ended, outcome)))
    if open_ends or outstanding:
        return Verdict(outcome, needs_a_person=True)
    if outcome == TransactionState.committed.value:
        if now == rule.after or (rule.whole is not None and rule.whole(rule.before, now)):
            return Verdict(outcome)
        problem = "the transaction is committed, and the world is not as after a clean run."
        left = tuple(differences(rule.after, now))
    elif now == rule.before:
        return Verdict(outcome)
    else:
        problem = f"the transaction is {outcome.replace('_', ' ')}, and something is left behind."
        left = tuple(differences(rule.before, now))
    return Verdict(outcome, problem, left, tuple(_advice(ended, outcome)))


def outcome_of(ended: Ended) -> str:
    """Return the state that a run came to: committed, where one of its transactions is."""
    states = [result.state for result in ended.results]
    if not states:
        return NEVER_BEGUN
    for state in states:
        if state is TransactionState.committed:
            return state.value
    return states[-1].value


def _waits_for_a_person(ended: Ended) -> bool:
    reasons = {
        result.waiting.reason
        for result in ended.results
        if not result.is_final and result.waiting is not None
    }
    return bool(reasons) and reasons <= {"in_doubt", "halted", "committing", "approval", "poisoned"}


def _unfinished(ended: Ended) -> str:
    parked = [
        line.text.removeprefix("parked: ")
        for line in ended.record.happenings
        if line.what == "recovered" and line.text.startswith("parked: ")
    ]
    result = next(result for result in ended.results if not result.is_final)
    why = parked[-1] if parked else ""
    if not why and result.waiting is not None:
        why = result.waiting.detail
    return f"the transaction is not finished: it is {result.state.value}. {why}".rstrip()


def _advice(ended: Ended, outcome: str) -> Iterator[str]:
    """Yield what may be wrong with the user's handlers; the likeliest comes first."""
    found = list(dict.fromkeys(_found(ended, outcome)))
    if found:
        yield from found
        return
    yield (
        "Every handler returned as it should, so what one of them does is not what it says, or the "
        "program changes the world outside of its steps. Compare what is left behind with the "
        "story above."
    )


def _found(ended: Ended, outcome: str) -> Iterator[str]:
    faults = ended.record.struck
    if any("missing handler" in line.text for line in ended.record.happenings):
        yield (
            "After the crash nobody could go on: register every handler in what manager= returns, "
            "not in the saga, as an application does before it calls recover(). A @step function "
            "that is nested, or stands in the main program, can be found again only by a name: "
            "@step(name=...)."
        )
    for saga, result in zip(ended.sagas, ended.results, strict=True):
        for item in result.outstanding:
            yield from _of_outstanding(saga.by_id[item.step_id], item.reason, ended)
        if result.waiting is not None and result.waiting.reason == "in_doubt":
            yield (
                "Nobody knows whether the step happened, and a person is asked. Give it a probe, "
                "or declare it idempotent, or give it a compensating action; or pass "
                "allow_outstanding=True where a person is to decide."
            )
        if result.waiting is not None and result.waiting.reason == "resume":
            yield "It waits for its program: pass recover=, which resumes it with manager.resume()."
        for step in saga.steps:
            yield from _of_step(step, result.uncompensated, faults, ended, outcome)


def _of_outstanding(step: SagaStep, reason: str, ended: Ended) -> Iterator[str]:
    what, undo = step.definition.action, step.definition.compensating_action
    person = "or pass allow_outstanding=True where a person is to deal with it."
    if reason == "no_handler":
        yield f"The compensating action {undo!r} of {what!r} has no handler: register it."
    elif reason == "no_compensation":
        yield (
            f"Nothing undoes {what!r} ({step.step_id}), and nobody knows whether it happened: give "
            f"it a compensating action or a probe, or declare it idempotent; {person}"
        )
    elif reason == "failed" and not step.definition.policy.undo_idempotent:
        yield (
            f"{undo!r} of {step.step_id} is called once, because nothing says that it may be "
            "called again. Where that is safe, declare it with idempotent=True (or retry=); "
            f"{person}"
        )
    else:
        times = ended.record.times(step.step_id, "compensation")
        yield (
            f"{undo!r} of {step.step_id} did not succeed ({reason}), and it acted {times} times; "
            f"{person}"
        )


def _of_step(
    step: SagaStep,
    uncompensated: list[str],
    faults: list[Fault],
    ended: Ended,
    outcome: str,
) -> Iterator[str]:
    definition, name = step.definition, step.step_id
    action, undo = definition.action, definition.compensating_action
    is_committed = outcome == TransactionState.committed.value
    acted, undone = ended.record.times(name, "action"), ended.record.times(name, "compensation")
    if name in uncompensated:
        yield (
            f"{action!r} ({name}) has no compensating action, and so its effect stays. Give it "
            "one; or let it come last, with pivot=True or on_commit=True; or say effect='none' "
            "where it changes nothing."
        )
    lost = [f for f in faults if f.kind is FaultKind.lost_answer and f.moment.what == name]
    is_lost_action = any(fault.moment.operation == "action" for fault in lost)
    if is_lost_action and step.state is StepState.failed:
        yield (
            f"{action!r} ({name}) did its work and then raised a TimeoutError, which its "
            "registration calls 'not done', so nobody undoes it. A handler in action_handlers "
            "says 'not done' with every exception but OutcomeUnknown: register it with "
            "@manager.action, or name the exception in in_doubt_on=(...)."
        )
    if acted > 1 and is_committed:
        yield (
            f"{action!r} ({name}) was called {acted} times with the same idempotency key, because "
            "it is declared idempotent or a retry is declared, and acted each time. Let it look up "
            "context.idempotency_key first, or take the declaration back."
        )
    if undone > 1:
        yield (
            f"{undo!r} ({name}) was called {undone} times, as after a crash it must be, and acted "
            "each time. Undoing what is undone must do nothing: look up context.forward_key first."
        )
    if not is_committed and undone and step.state is StepState.compensated:
        if acted == 0:
            yield (
                f"{action!r} ({name}) never acted, and {undo!r} undid it all the same, because "
                "nobody could know. Undoing nothing must do nothing: look first whether there is "
                "something to undo (context.in_doubt says that nobody knows)."
            )
        elif undone == 1:
            yield (
                f"{undo!r} ({name}) returned as if it had undone everything. Compare what it does "
                f"with what {action!r} does; where the answer was lost, context.output is empty."
            )
