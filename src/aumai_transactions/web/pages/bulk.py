"""The same for several transactions at once.

Owns: what is asked before it is done, and what is told behind it.
Rules:
  1. Nothing is done for several before it was shown for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import unquote

from aumai_transactions.core.observations import RetryAsked, RollbackCalled
from aumai_transactions.errors import JournalCorrupt, JournalTooNew, TransactionNotFound
from aumai_transactions.web.pages.asking import ask_and_tell
from aumai_transactions.web.pages.forms import back, own_form, tell
from aumai_transactions.web.pages.rendering import page
from aumai_transactions.web.pages.story import LABELS, story_of
from aumai_transactions.web.problems import Problem
from aumai_transactions.web.routing import principal_of, service_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

TOGETHER_MAX = 100
Verb = Literal["retry", "roll_back"]
_VERBS: dict[str, Verb] = {"retry": "retry", "roll_back": "roll_back"}


class Item(NamedTuple):
    """Hold one transaction, and what would be done with it.

    Args:
        name: Its id.
        title: What people call it.
        sequence: Of what was shown.
        outcome: How it stands.
        steps: What is tried again, or undone, in order.
        why_not: Why nothing would be done; None where something would.
    """

    name: str
    title: str
    sequence: int
    outcome: str
    steps: list[str]
    why_not: str | None


async def act(request: Request) -> Response:
    """Show what would be done with each, or do it."""
    form = await own_form(request)
    verb = _VERBS.get(form.one("do"))
    if verb is None:
        raise Problem(400, "bad-request", "This form asks for nothing that there is.")
    names = list(dict.fromkeys(map(unquote, form.several("tx"))))
    if not names:
        tell(request, f"{LABELS[verb]}: tick some transactions first.", is_bad=True)
        return back("/")
    if len(names) > TOGETHER_MAX:
        raise Problem(400, "bad-request", f"At most {TOGETHER_MAX} at once.")
    items = [await _item(request, verb, name) for name in names]
    if form.one("confirm") != "1":
        values = {"verb": verb, "label": LABELS[verb], "items": items}
        return page(request, "bulk.html", values)
    shown = dict(zip(names, form.several("sequence"), strict=False))
    await _do(request, verb, items, shown, form.one("note").strip())
    return back("/")


async def _do(
    request: Request, verb: Verb, items: list[Item], shown: dict[str, str], note: str
) -> None:
    who, label = principal_of(request), LABELS[verb]
    done, moved = 0, []
    for item in items:
        if item.why_not is not None:
            continue
        if shown.get(item.name) != str(item.sequence):
            moved.append(item.title or item.name)
            continue
        heard = True
        if verb == "roll_back":
            heard = await ask_and_tell(request, item.name, label, RollbackCalled(who.name, note))
        for step_id in item.steps if verb == "retry" else ():
            wish = RetryAsked(step_id, who.name, note)
            heard = await ask_and_tell(request, item.name, label, wish)
        done += heard
    if moved:
        names = ", ".join(moved)
        tell(request, f"{label}: changed since it was shown, and left alone: {names}", is_bad=True)
    count = f"{done} transaction{'' if done == 1 else 's'}"
    tell(request, f"{label}: it stands in the journal of {count}, by {who.name}.")


async def _item(request: Request, verb: Verb, name: str) -> Item:
    service = service_of(request)
    try:
        look = await service.transactions.look(principal_of(request), name)
    except (TransactionNotFound, JournalCorrupt, JournalTooNew) as error:
        return Item(name, "", 0, str(error), [], "It cannot be read.")
    story = story_of(service, look)
    if verb == "roll_back":
        steps = [step.step_id for step in story["undo_order"]]
        why_not = story["no_rollback"]
    else:
        asks = [*story["asks"], *story["retries"]]
        steps = [a.step_id for a in asks if any(b.do == "retry" for b in a.buttons)]
        why_not = None if steps else "Nothing of it can be tried again."
    title = look.transaction.name or ""
    return Item(name, title, look.sequence, story["outcome"], list(steps), why_not)
