"""The contract of a participant, as calls that a saga may make.

Owns: which calls are made, in which order, and what the answers and effects must be. The contract
is that of section 2.5 of the reliability research, P1 to P6, and F4 for fencing tokens.
Rules:
  1. What cannot be seen is said to be unchecked, and never counted as kept.
  2. Each check undoes in the end what it has done.
Source: dtm's sub-transaction barrier (empty compensation, hanging), and the draft standard of the
header Idempotency-Key for what a key with another body should be answered.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from aumai_transactions.testing.participant.bench import (
    Bench,
    CannotCheck,
    Participant,
    Said,
    Trial,
)
from aumai_transactions.testing.participant.report import Line, ParticipantReport, Verdict

NOBODY_COUNTS = "nobody tells what stands: give --state and --count, or --count-command"
REPEATS = (2, 3)

Check = Callable[[Bench], Iterator[Line]]


def check_participant(participant: Participant | str, **options: Any) -> ParticipantReport:
    """Check a participant over HTTP against the contract that makes effects happen once.

    Args:
        participant: Which one and with what; or its URL.
        **options: What `Participant` takes, where only a URL is given.

    Returns:
        A line for each thing that was tried; `is_sound` tells whether nothing is broken.

    Raises:
        CannotCheck: It cannot be reached, or its action is not even done once.
    """
    given = Participant(participant, **options) if isinstance(participant, str) else participant
    bench = Bench(given)
    report = ParticipantReport(given.url)
    for check in CHECKS:
        report.lines += check(bench)
    return report


def _line(promise: str, what: str, problem: str, detail: str = "") -> Line:
    return Line(promise, what, "broken" if problem else "kept", problem or detail)


def _effects(promise: str, what: str, trial: Trial, wanted: float) -> Line:
    """Return the verdict on how many effects stand."""
    found = trial.stands()
    if found is None:
        return Line(promise, what, "unchecked", NOBODY_COUNTS)
    return _line(promise, what, _wrong(found, wanted))


def _wrong(found: float, wanted: float) -> str:
    return "" if found == wanted else f"{found:g} effects stand; it should be {wanted:g}"


def _is_final_no(said: Said) -> bool:
    return said.meaning == "not_done"


# ------------------------------------------------------------------------------------ the checks


def a_call_is_done(bench: Bench) -> Iterator[Line]:
    """Learn what one effect is."""
    trial = bench.trial()
    said = trial.settled(trial.act)
    if not said.is_done:
        raise CannotCheck(
            f"the action is not done even once: it {said.text}. Give with --data a body that it "
            "can carry out, and with --header what it needs to know who calls."
        )
    moved = trial.moved()
    if moved == 0:
        trial.settled(trial.undo)
        raise CannotCheck(
            "the action is done, and the count does not change. Give with --count what counts "
            "its effects."
        )
    bench.unit = moved
    yield Line("P1", "a call is done", "kept", said.text)
    trial.settled(trial.undo)


def a_repeat_is_answered_alike(bench: Bench) -> Iterator[Line]:
    """P1: the same key, the same outcome, and one effect."""
    trial = bench.trial()
    first = trial.settled(trial.act)
    again = [trial.act(attempt) for attempt in REPEATS]
    strange = next((said for said in again if said.meaning != first.meaning), None)
    other = next((said for said in again if said.value != first.value), None)
    problem = ""
    if strange is not None:
        problem = f"first it {first.text}, then it {strange.text}"
    elif other is not None:
        problem = f"it answers {other.value!r:.80} instead of {first.value!r:.80}"
    yield _line("P1", "the same key again: the same answer", problem)
    yield _effects("P1", "the same key again: one effect", trial, 1)
    trial.settled(trial.undo)


def an_undo_undoes_once(bench: Bench) -> Iterator[Line]:
    """P4: an undo undoes, and its repeat is answered ok and does nothing."""
    trial = bench.trial()
    trial.settled(trial.act)
    said = trial.settled(trial.undo)
    problem = "" if said.meaning == "done" else f"the undo of what was done {said.text}"
    yield _line("P4", "an undo is done", problem)
    yield _effects("P4", "an undo leaves nothing", trial, 0)
    again = [trial.undo(attempt) for attempt in REPEATS]
    strange = next((said for said in again if not said.is_done), None)
    yield _line("P4", "an undo again: ok", f"it {strange.text}" if strange else "")
    yield _effects("P4", "an undo again: does nothing", trial, 0)


def a_repeat_after_the_undo_does_nothing(bench: Bench) -> Iterator[Line]:
    """P3: a delivery of the call that comes after its undo."""
    trial = bench.trial()
    trial.settled(trial.act)
    trial.settled(trial.undo)
    said = trial.act(2)
    yield _effects("P3", "the call again, after its undo: does nothing", trial, 0)
    if said.meaning in ("later", "in_doubt"):
        problem = f"it {said.text}, so that nobody knows"
        yield Line("P3", "the call again, after its undo: a clear answer", "weak", problem)
    trial.settled(trial.undo)


def an_undo_of_nothing_is_done(bench: Bench) -> Iterator[Line]:
    """P2 and P3: an undo whose call never came, and the call that comes late."""
    trial = bench.trial()
    said = trial.settled(trial.undo)
    yield _line("P2", "an undo of nothing: ok", "" if said.is_done else f"it {said.text}")
    yield _effects("P2", "an undo of nothing: does nothing", trial, 0)
    late = trial.settled(trial.act)
    problem = "" if _is_final_no(late) else f"it {late.text}; it must be refused for good"
    yield _line("P3", "a call that comes after its undo: refused", problem)
    yield _effects("P3", "a call that comes after its undo: does nothing", trial, 0)
    trial.settled(partial(_undo_again, trial))


def _undo_again(trial: Trial, attempt: int) -> Said:
    return trial.undo(attempt + 1)


def rivals_make_one_effect(bench: Bench) -> Iterator[Line]:
    """P1: many deliveries of one call at once."""
    trial, rivals = bench.trial(), bench.participant.rivals
    answers = _at_once([partial(trial.act, number + 1) for number in range(rivals)])
    settled = trial.settled(lambda attempt: trial.act(rivals + attempt))
    problem = ""
    if not settled.is_done:
        problem = f"afterwards it {settled.text}"
    for said in answers:
        if said.is_done and said.value != settled.value:
            problem = f"one was answered {said.value!r:.60}, another {settled.value!r:.60}"
        elif _is_final_no(said):
            problem = f"one was refused ({said.text}), although it is done"
    what = f"the same key, {rivals} at once"
    yield _line("P1", f"{what}: one answer", problem)
    yield _effects("P1", f"{what}: one effect", trial, 1)
    trial.settled(trial.undo)


def a_call_and_its_undo_at_once_leave_nothing(bench: Bench) -> Iterator[Line]:
    """P2 and P3: whichever comes first."""
    trial = bench.trial()
    _at_once([partial(trial.act, 1), partial(trial.undo, 1)])
    said = trial.settled(partial(_undo_again, trial))
    problem = "" if said.is_done else f"the undo {said.text}"
    yield _line("P3", "a call and its undo at once: undone", problem)
    yield _effects("P3", "a call and its undo at once: nothing stands", trial, 0)


def a_refusal_stays_one(bench: Bench) -> Iterator[Line]:
    """P1: a definite no is an outcome as well."""
    what = "a refusal again"
    body = bench.participant.rejected
    if body is None:
        why = "give with --rejected a body that is refused, such as one that is sold out"
        yield Line("P1", f"{what}: still a refusal", "unchecked", why)
        return
    trial = bench.trial()
    first = trial.settled(lambda attempt: trial.act(attempt, body=body))
    if not _is_final_no(first):
        yield Line("P1", f"{what}: still a refusal", "broken", f"it is not refused: {first.text}")
        trial.settled(trial.undo)
        return
    again = [trial.act(attempt, body=body) for attempt in REPEATS]
    strange = next((said for said in again if said.meaning != first.meaning), None)
    problem = f"first it {first.text}, then it {strange.text}" if strange else ""
    yield _line("P1", f"{what}: still a refusal", problem, first.text)
    yield _effects("P1", f"{what}: no effect", trial, 0)
    undone = trial.settled(trial.undo)
    problem = "" if undone.is_done else f"it {undone.text}"
    yield _line("P2", "an undo of what was refused: ok", problem)
    yield _effects("P2", "an undo of what was refused: does nothing", trial, 0)


def a_key_with_another_body_is_refused(bench: Bench) -> Iterator[Line]:
    """P1: whoever uses a key for something else must not be told that this is done."""
    trial, given = bench.trial(), bench.participant
    other = given.other
    if other is None:
        other = {**given.data, "aumai_check": 1} if isinstance(given.data, dict) else [given.data]
    first = trial.settled(trial.act)
    said = trial.settled(lambda attempt: trial.act(attempt + 1, body=other))
    verdict: Verdict = "kept" if _is_final_no(said) else "weak"
    if said.is_done and said.value != first.value:
        verdict = "broken"
    told = {"kept": said.text, "weak": f"it {said.text}; it should be refused, with 422"}
    detail = told.get(verdict, f"it is done as well: {said.value!r:.80}")
    yield Line("P1", "the same key, another body: refused", verdict, detail)
    yield _effects("P1", "the same key, another body: one effect", trial, 1)
    trial.settled(trial.undo)


def a_stale_driver_is_refused(bench: Bench) -> Iterator[Line]:
    """F4: the token of a driver that was replaced."""
    trial = bench.trial()
    trial.settled(lambda attempt: trial.act(attempt, token=2))
    stale = trial.settled(lambda attempt: trial.act(attempt, token=1, step_id="s2"))
    what = "a lower fencing token: refused"
    if _is_final_no(stale):
        yield Line("F4", what, "kept", stale.text)
    else:
        detail = f"it {stale.text}: a driver that was replaced can still act"
        yield Line("F4", what, "weak", detail)
    trial.settled(lambda attempt: trial.undo(attempt, token=2))
    trial.settled(lambda attempt: trial.undo(attempt, token=2, step_id="s2"))


def what_only_its_own_tests_can_tell(_bench: Bench) -> Iterator[Line]:
    """P5 and P6, which nobody can see from outside."""
    yield Line(
        "P5",
        "what is recorded is kept long enough",
        "unchecked",
        "nobody can wait that long here; see how rows are purged",
    )
    yield Line(
        "P6",
        "record and effect are one database transaction",
        "unchecked",
        "kill it between the two in a test of its own; with the barrier it holds",
    )


def _at_once(calls: list[Callable[[], Said]]) -> list[Said]:
    """Make calls from threads that begin together, and return their answers."""
    ready = threading.Barrier(len(calls))
    answers: list[Said] = []
    problems: list[BaseException] = []

    def run(call: Callable[[], Said]) -> None:
        try:
            ready.wait()
            answers.append(call())
        except BaseException as error:  # noqa: BLE001 (raised again below)
            problems.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]
    return answers


CHECKS: tuple[Check, ...] = (
    a_call_is_done,
    a_repeat_is_answered_alike,
    rivals_make_one_effect,
    an_undo_undoes_once,
    a_repeat_after_the_undo_does_nothing,
    an_undo_of_nothing_is_done,
    a_call_and_its_undo_at_once_leave_nothing,
    a_refusal_stays_one,
    a_key_with_another_body_is_refused,
    a_stale_driver_is_refused,
    what_only_its_own_tests_can_tell,
)
