"""What a person asks for with a button.

Owns: how a form becomes a wish, and what is told where it cannot be granted.
Rules:
  1. A wish stands in the journal with who and why, before anybody is told that it was heard.
  2. What has moved since the page was shown is told first; nothing is done that was not looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aumai_transactions.core.observations import (
    ApprovalAnswered,
    Observation,
    ResolutionAnswered,
    RetryAsked,
    RollbackCalled,
    TrustAnswered,
)
from aumai_transactions.drivers.terms import ANY, SequenceMoved, Terms
from aumai_transactions.errors import StoreError, TransactionError
from aumai_transactions.timelines.outcome import outcome_sentence
from aumai_transactions.timelines.timeline import Timeline
from aumai_transactions.web.pages import one
from aumai_transactions.web.pages.forms import back, own_form, tell
from aumai_transactions.web.pages.rendering import page, path_of
from aumai_transactions.web.pages.story import ANSWERS, LABELS, NOTED, journal_lines
from aumai_transactions.web.problems import Problem
from aumai_transactions.web.routing import principal_of, service_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from aumai_transactions.drivers.overview import Look
    from aumai_transactions.web.pages.forms import Form

TOLD_MAX = 12


class Conflict(NamedTuple):
    """Hold what has changed since a page was shown.

    Args:
        label: What was asked for.
        happened: What the journal says has happened since.
        fields: What a form says that asks for it all the same.
    """

    label: str
    happened: list[str]
    fields: list[tuple[str, str]]


async def act(request: Request) -> Response:
    """Do what a button says."""
    form = await own_form(request)
    who, name = principal_of(request), one.name_of(request)
    label, wish = wish_of(form, who.name)
    path = "/attention" if form.one("from") == "attention" else path_of(name)
    if form.one("do").partition(".")[0] in NOTED and not form.one("note").strip():
        tell(
            request,
            f"{label}: say how you know, or why, in the note. Nothing was done.",
            is_bad=True,
        )
        return back(path)
    terms = ANY if form.one("anyway") == "1" else Terms(if_sequence=_shown(form))
    try:
        await ask_and_tell(request, name, label, wish, terms)
    except SequenceMoved:
        look = await one.look_of(request)
        conflict = _conflict(form, look, label)
        return page(request, "one.html", await one.values_of(request, look, conflict), 409)
    return back(path)


async def ask_and_tell(
    request: Request, name: str, label: str, wish: Observation, terms: Terms = ANY
) -> bool:
    """Ask for something, have told what became of that, and tell whether it was heard.

    Raises:
        SequenceMoved: The journal has gone on; nothing was done.
        TransactionNotFound: There is none that this person may see.
        StoreError: The store cannot be reached.
    """
    who = principal_of(request)
    try:
        look = (await service_of(request).transactions.request(who, name, wish, terms)).look
    except (SequenceMoved, StoreError):
        raise
    except TransactionError as error:
        tell(request, f"{label}: not done. {error}", is_bad=True)
        return False
    timeline = Timeline.of(name, look.events)
    timeline.take(look.result)
    said = outcome_sentence(timeline, look.result)
    tell(request, f"{label}: it stands in the journal, by {who.name}. {said}")
    return True


def wish_of(form: Form, by: str) -> tuple[str, Observation]:
    """Return what a form asks for, in words and as an observation.

    Raises:
        Problem: It asks for nothing that there is.
    """
    verb, _, answer = form.one("do").partition(".")
    step_id, note = form.name("step"), form.one("note").strip()
    match verb, answer:
        case "retry", "":
            return LABELS["retry"], RetryAsked(step_id, by, note)
        case "resolve", "happened" | "did_not_happen" | "undone" | "left_in_place":
            return ANSWERS[answer], ResolutionAnswered(step_id, answer, by, note)
        case "approve", "":
            # Why the digest: something else may wait by the time that it is recorded.
            digest = form.one("digest")
            return LABELS["approve"], ApprovalAnswered(step_id, True, by, note, digest)  # noqa: FBT003
        case "deny", "":
            return LABELS["deny"], ApprovalAnswered(step_id, False, by, note)  # noqa: FBT003
        case "trust", "":
            return LABELS["trust"], TrustAnswered(by, note)
        case "roll_back", "":
            return LABELS["roll_back"], RollbackCalled(by, note)
        case _:
            raise Problem(400, "bad-request", "This form asks for nothing that there is.")


def _shown(form: Form) -> int:
    """Return the sequence of what somebody looked at; 0 where the form is damaged."""
    shown = form.one("sequence")
    return int(shown) if shown.isdecimal() and len(shown) < 12 else 0


def _conflict(form: Form, look: Look, label: str) -> Conflict:
    """Return what has changed since a page was shown."""
    since = _shown(form)
    happened = [line.text for line in journal_lines(look) if line.event.sequence > since]
    names = ("do", "step", "digest", "note", "from")
    fields = [(name, form.one(name)) for name in names if form.one(name)]
    return Conflict(label, happened[-TOLD_MAX:], fields)
