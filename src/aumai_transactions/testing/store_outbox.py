"""What a store with an outbox must promise.

Owns: the checks of `outbox.Outbox`, which `aumai_transactions.testing.store_contract` lists too.
Rules:
  1. They are for stores that have one; another one need not pass them.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aumai_transactions.core.entries import (
    ApprovalRequested,
    StepOutstanding,
    TransactionCommitted,
)
from aumai_transactions.core.happenings import EVENT_NAMES, USUAL_EVENTS
from aumai_transactions.models import TransactionState
from aumai_transactions.outbox import Delivery, Outbox, Settled, Webhook
from aumai_transactions.testing.journals import (
    ALREADY_OURS,
    APPENDED,
    MOVED,
    ContractBroken,
    StoreFactory,
    act,
    claim,
    opened,
    plan,
    request,
    same,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aumai_transactions.store import Append, Store

    class _Both(Store, Outbox): ...


HOOK = Webhook("hook", "https://example.com/a?b=c", "env:SECRET", USUAL_EVENTS, created_at=7)
DELIVERED = Settled("delivered")


@contextmanager
def _opened(make_store: StoreFactory) -> Iterator[_Both]:
    with opened(make_store) as store:
        if not isinstance(store, Outbox):
            raise ContractBroken("the store has no outbox")
        yield store  # type: ignore[misc]


def _told(store: Outbox) -> list[tuple[str, str, str, int, int]]:
    found = store.deliveries(only_failed=False, limit=99)
    return [(one.webhook, one.transaction_id, one.event, one.first, one.last) for one in found]


def _acts(store: _Both, name: str, *entries: Any, **summary: Any) -> Append:
    """Begin and claim a transaction, and return an act of these entries."""
    driver = store.join()
    same(store.append([plan(name), claim(name, 2, 1, driver)]), [APPENDED] * 2, "it is begun")
    acting = act(name, 3, 1)
    return acting._replace(entries=list(entries), summary=acting.summary._replace(**summary))


def check_an_append_tells_what_it_has_brought_about(make_store: StoreFactory) -> None:
    """Each webhook is told of what it asked for, in order, and of nothing else."""
    with _opened(make_store) as store:
        everything = HOOK._replace(name="all", events=EVENT_NAMES)
        ended = HOOK._replace(name="ended", events=("finished",))
        for webhook in (everything, ended):
            same(store.add_webhook(webhook), True, "it is added")  # noqa: FBT003
        acting = _acts(
            store,
            "t",
            ApprovalRequested(4, "step-1", "digest"),
            StepOutstanding(5, "step-1", "failed"),
            TransactionCommitted(6),
            state=TransactionState.committed,
            runnable=False,
            attention="outstanding",
        )
        same(store.append([acting]), [APPENDED], "it is appended")
        wanted = [
            ("all", "t", "entries", 1, 2),
            ("all", "t", "entries", 3, 3),
            ("all", "t", "entries", 4, 6),
            ("all", "t", "approval", 4, 4),
            ("all", "t", "outstanding", 5, 5),
            ("all", "t", "finished", 6, 6),
            ("ended", "t", "finished", 6, 6),
            ("all", "t", "attention", 6, 6),
        ]
        same(_told(store), wanted, "all of it, in order")
        later = request("t", 6)
        store.append([later._replace(summary=acting.summary)])
        same(_told(store)[8:], [("all", "t", "entries", 7, 7)], "a reason is told once")


def check_what_is_not_appended_is_not_told(make_store: StoreFactory) -> None:
    """A refused append tells nothing, and a repeated one nothing twice."""
    with _opened(make_store) as store:
        store.append([plan("before")])
        store.add_webhook(HOOK._replace(events=("entries",)))
        begun = plan("t")
        same(store.append([begun]), [APPENDED], "it is appended")
        same(store.append([begun]), [ALREADY_OURS], "it is there")
        same(store.append([request("t", 9)]), [MOVED], "it is refused")
        same(_told(store), [("hook", "t", "entries", 1, 2)], "once, and only that")


def check_what_is_lent_is_lent_once_and_in_order(make_store: StoreFactory) -> None:
    """Of a transaction the first, of several senders one; who is silent too long loses it."""
    with _opened(make_store) as store:
        store.add_webhook(HOOK._replace(events=("entries",)))
        store.append([plan("t"), request("t", 2), plan("u")])
        first = store.lend_deliveries("me", 10, 20, 9)
        same([one.transaction_id for one in first], ["t", "u"], "the first of each")
        same(store.lend_deliveries("other", 10, 20, 9), [], "nobody else is lent the same")
        again = store.lend_deliveries("other", 20, 30, 9)
        names = [one.delivery_id for one in first]
        same([one.delivery_id for one in again], names, "until its time is over; same names")
        same(store.settle_delivery("me", names[0], DELIVERED), False, "it is not lent to me")  # noqa: FBT003
        same(store.settle_delivery("other", names[0], DELIVERED), True, "but to the other")  # noqa: FBT003
        [following] = store.lend_deliveries("me", 21, 30, 9)
        same((following.transaction_id, following.first), ("t", 3), "then what stood behind it")


def check_what_fails_is_tried_again_or_given_up(make_store: StoreFactory) -> None:
    """At its time and not before; a dead one is listed, and stands in nobody's way."""
    with _opened(make_store) as store:
        store.add_webhook(HOOK._replace(events=("entries",)))
        store.append([plan("t"), request("t", 2)])
        [one] = store.lend_deliveries("me", 10, 20, 9)
        store.settle_delivery("me", one.delivery_id, Settled("again", 50, "no"))
        same(store.lend_deliveries("me", 49, 60, 9), [], "not before its time, nor what follows")
        [again] = store.lend_deliveries("me", 50, 60, 9)
        wanted = one._replace(attempts=1, due_at=50, error="no")
        same(again, wanted, "the same one")
        same(store.deliveries(only_failed=True, limit=9), [wanted], "it is listed as failed")
        store.settle_delivery("me", one.delivery_id, Settled("dead", 50, "never"))
        [dead] = store.deliveries(only_failed=True, limit=9)
        same((dead.is_dead, dead.attempts, dead.error), (True, 2, "never"), "it is given up")
        [behind] = store.lend_deliveries("me", 60, 70, 9)
        same(behind.first, 3, "what stood behind it goes on")
        same(store.retry_delivery(one.delivery_id, 61), True, "a person tries it again")  # noqa: FBT003
        [alive] = store.lend_deliveries("me", 61, 70, 9)
        same((alive.delivery_id, alive.attempts), (one.delivery_id, 0), "from the beginning")
        same(store.retry_delivery("nothing", 61), False, "there is none of this name")  # noqa: FBT003


def check_a_webhook_stops_and_goes(make_store: StoreFactory) -> None:
    """A stopped one is lent nothing and told nothing new; a removed one leaves nothing."""
    with _opened(make_store) as store:
        other = HOOK._replace(name="other", events=("entries",))
        hook = HOOK._replace(events=("entries",))
        same(store.add_webhook(hook), True, "it is added")  # noqa: FBT003
        same(store.add_webhook(hook._replace(url="x")), False, "once")  # noqa: FBT003
        store.add_webhook(other)
        same(store.webhooks(), [hook, other], "both are there, as they were given")
        store.append([plan("t")])
        lent = {one.webhook: one for one in store.lend_deliveries("me", 10, 20, 9)}
        name = lent["hook"].delivery_id
        store.settle_delivery("me", name, Settled("stopped", 30, "410 Gone"))
        same(store.webhooks()[0].stopped, "410 Gone", "it is stopped, and says why")
        store.append([plan("u")])
        found = [one.webhook for one in store.deliveries(only_failed=False, limit=9)]
        same(sorted(found), ["hook", "other", "other"], "it is told nothing new")
        found = [one.webhook for one in store.lend_deliveries("you", 90, 99, 9)]
        same(found, ["other", "other"], "and lent nothing")
        store.retry_delivery(name, 99)
        same(store.webhooks()[0].stopped, None, "a person lets it go on")
        same(store.remove_webhook("hook"), True, "it is removed")  # noqa: FBT003
        same(store.remove_webhook("hook"), False, "once")  # noqa: FBT003
        left = {one.webhook for one in store.deliveries(only_failed=False, limit=9)}
        same(left, {"other"}, "and leaves nothing")


def check_a_purge_leaves_what_is_not_delivered(make_store: StoreFactory) -> None:
    """A transaction stays until all of it is delivered or given up."""
    with _opened(make_store) as store:
        store.add_webhook(HOOK)
        for name in ("told", "untold", "dead"):
            ended = _acts(
                store,
                name,
                TransactionCommitted(4),
                state=TransactionState.committed,
                runnable=False,
            )
            store.append([ended])
        lent = {one.transaction_id: one for one in store.lend_deliveries("me", 10, 20, 9)}
        store.settle_delivery("me", lent["told"].delivery_id, DELIVERED)
        store.settle_delivery("me", lent["dead"].delivery_id, Settled("dead", 0, "no"))
        same(store.purge(99, 9), 2, "what is told and what is given up go")
        same(store.read("untold") is None, False, "the other one stays")  # noqa: FBT003
        left: list[Delivery] = store.deliveries(only_failed=False, limit=9)
        same([one.transaction_id for one in left], ["untold"], "with what is to be told of it")


OUTBOX_CHECKS = (
    check_an_append_tells_what_it_has_brought_about,
    check_what_is_not_appended_is_not_told,
    check_what_is_lent_is_lent_once_and_in_order,
    check_what_fails_is_tried_again_or_given_up,
    check_a_webhook_stops_and_goes,
    check_a_purge_leaves_what_is_not_delivered,
)
