"""What a store must do for those who wait, who share work, and who clean up.

Owns: that part of `aumai_transactions.testing.store_contract`, which lists all checks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aumai_transactions.models import TransactionState
from aumai_transactions.store import Append, Query, Store
from aumai_transactions.testing.journals import (
    APPENDED,
    FENCED,
    HELD,
    MOVED,
    NOW,
    ContractBroken,
    StoreFactory,
    act,
    claim,
    in_threads,
    loaded,
    opened,
    plan,
    request,
    same,
)

if TYPE_CHECKING:
    from aumai_transactions.core.outcome import Attention

_COMMITTED = TransactionState.committed
# Longer than any machine needs; nobody waits for so long unless the promise is broken.
_LONG_SECONDS = 60
_LOOKS_MAX = 1_000


# --------------------------------------------------------------------------------------- purging


def check_what_has_ended_can_be_purged(make_store: StoreFactory) -> None:
    """Journal and summary are gone, as if they had never been; the others are untouched."""
    with opened(make_store) as store:
        driver = store.join()
        _end(store, driver, "old", at=10)
        _end(store, driver, "young", at=20)
        store.append([plan("open")])
        before = store.info().changes
        same(store.purge(20, 9), 1, "one changed last before that time")
        if store.info().changes <= before:
            raise ContractBroken("a purge did not raise the change counter")
        same(store.read("old"), None, "its journal is gone")
        same(_names(store), ["young", "open"], "and it is in no list")
        same(store.count(Query()), 2, "nor counted")
        same(loaded(store, "young").sequence, 4, "the others have their journals")
        same(store.purge(20, 9), 0, "there is nothing left to purge")
        same(store.append([act("old", 4, 1)]), [FENCED], "nobody drives it")
        same(store.append([request("old", 4)]), [MOVED], "nothing can be asked of it")
        same(store.append([plan("old", "again")]), [APPENDED], "its id is free")
        same(_names(store), ["young", "open", "old"], "a new one is the newest")


def check_a_purge_keeps_what_is_not_over(make_store: StoreFactory) -> None:
    """Not what runs, not what is to be driven, not what needs a person; and no more than asked."""
    with opened(make_store) as store:
        driver = store.join()
        _end(store, driver, "attention", at=1, attention="outstanding")
        _end(store, driver, "again", at=1, runnable=True)
        store.append([plan("open")])
        for number in range(3):
            _end(store, driver, f"over-{number}", at=1)
        same(store.purge(NOW, 0), 0, "no more than asked for, and that is nothing")
        same(store.purge(NOW, 2), 2, "no more than asked for")
        same(store.purge(NOW, 9), 1, "the rest")
        same(sorted(_names(store)), ["again", "attention", "open"], "these are not over")
        done = act("attention", 4, 1)
        over = done.summary._replace(state=_COMMITTED, runnable=False, updated_at=5)
        same(store.append([done._replace(summary=over)]), [APPENDED], "a person has looked")
        same(store.purge(NOW, 9), 1, "so it may go")


def check_positions_outlive_a_purge(make_store: StoreFactory) -> None:
    """A list that is being read goes on behind a purged place; no place is given twice."""
    with opened(make_store) as store:
        driver = store.join()
        for name in ("a", "b", "c"):
            _end(store, driver, name, at=1 if name != "b" else 50)
        places = [item.position for item in store.find(Query())]
        same(store.purge(20, 9), 2, "the first and the last go")
        store.append([plan("d")])
        found = store.find(Query(after=places[0]))
        same([item.summary.transaction_id for item in found], ["b", "d"], "what is behind it")
        if found[-1].position <= places[-1]:
            raise ContractBroken("a purged position was given again")
        newest = store.find(Query(newest_first=True, limit=1))[0]
        same(newest.summary.transaction_id, "d", "from the other end too")


# ------------------------------------------------------------------------------------ reserving


def check_a_reservation_holds_back_no_claim(make_store: StoreFactory) -> None:
    """It is a hint: whoever does not reserve is told of everything, and anybody may claim."""
    with opened(make_store) as store:
        one, other = store.join(), store.join()
        store.append([plan("a"), plan("b")])
        same(store.due(one, 1, NOW, reserve_seconds=60), ["a"], "the oldest is told of")
        same(store.due(one, 9, NOW, reserve_seconds=60), ["a", "b"], "again, to who has it")
        same(store.due(other, 9, NOW), ["a", "b"], "who does not reserve is told of all")
        same(store.append([claim("a", 2, 1, other)]), [APPENDED], "and may claim")
        same(store.append([claim("b", 2, 1, one)]), [APPENDED], "so may who reserved")
        same(store.append([claim("b", 3, 2, other)]), [HELD], "what is held is held")
        same(store.due(one, 0, NOW, reserve_seconds=60), [], "not even one")


# --------------------------------------------------------------------------------------- waiting


def check_who_waits_is_told_of_news(make_store: StoreFactory) -> None:
    """An append by another thread ends the wait; without one, the time does."""
    with opened(make_store) as store:
        _check_news(store, store)


def check_news_come_through_another_handle(make_store: StoreFactory) -> None:
    """What one handle appends, whoever waits at another one is told of."""
    with opened(make_store) as store, opened(make_store) as other:
        _check_news(store, other)


def _check_news(store: Store, other: Store) -> None:
    """Let one thread wait at a store, and another one append through a handle."""
    _wait_until_quiet(store)
    told: list[bool] = []

    def wait() -> None:
        told.append(store.wait_for_news(_LONG_SECONDS))

    def append() -> None:
        number = 0
        # Why again and again: nobody knows when the other thread begins to wait.
        while not told and number < _LOOKS_MAX:
            other.append([plan(f"t-{number}")])
            number += 1

    in_threads([wait, append])
    same(told, [True], "there was news")


def _wait_until_quiet(store: Store) -> None:
    for _ in range(_LOOKS_MAX):
        if not store.wait_for_news(0.01):
            return
    raise ContractBroken("there is always news, though nobody appends")


def _end(
    store: Store,
    driver: str,
    name: str,
    *,
    at: int,
    attention: Attention | None = None,
    runnable: bool = False,
) -> None:
    """Let a transaction be begun, claimed and committed."""
    done: Append = act(name, 3, 1)
    over = done.summary._replace(
        state=_COMMITTED, updated_at=at, attention=attention, runnable=runnable
    )
    store.append([plan(name), claim(name, 2, 1, driver), done._replace(summary=over)])


def _names(store: Store) -> list[str]:
    return [item.summary.transaction_id for item in store.find(Query())]


KEEPING_CHECKS = (
    check_what_has_ended_can_be_purged,
    check_a_purge_keeps_what_is_not_over,
    check_positions_outlive_a_purge,
    check_a_reservation_holds_back_no_claim,
    check_who_waits_is_told_of_news,
)
SHARED_KEEPING_CHECKS = (check_news_come_through_another_handle,)
