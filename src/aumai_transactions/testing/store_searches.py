"""What a store must find, count and tally.

Owns: the searching part of `aumai_transactions.testing.store_contract`, which lists all checks.
Rules:
  1. What a store must find is what `queries.fits` says of the lines that were given to it.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from aumai_transactions.models import TransactionState
from aumai_transactions.queries import Query, fits
from aumai_transactions.testing.journals import StoreFactory, claim, opened, plan, request, same

if TYPE_CHECKING:
    from aumai_transactions.core.outcome import Summary
    from aumai_transactions.store import Store

PENDING = TransactionState.pending
COMMITTED = TransactionState.committed
COMPENSATING = TransactionState.compensating

# Names that a search must not take for anything but names.
_ODD = ("Büro%_", "a_b", 'say "hi"', "x,y", ",", "[", "back\\slash", "two\nlines", "\u2028", "ẞ")
_SUMMARIES: tuple[dict[str, Any], ...] = (
    {"agents": ("flights", "Hotels"), "actions": ("book", "pay"), "metadata": {"tenant": "acme"}},
    {"agents": ("flight",), "actions": ("pay",), "metadata": {"tenant": "acme", "team": "red"}},
    {"agents": ("hotels",), "actions": ("book it",), "metadata": {"team": "red, blue"}},
    {"agents": _ODD[:5], "actions": _ODD[5:], "name": "Reise nach München"},
    {"agents": _ODD[5:], "actions": _ODD[:5], "metadata": dict.fromkeys(_ODD, "x")},
    {"agents": (), "actions": (), "metadata": {odd: odd for odd in _ODD}, "name": "100%"},
    {"agents": ("flights",), "actions": ("pay",), "state": COMMITTED},
    {"agents": ("flights",), "actions": ("pay",), "state": COMPENSATING, "attention": "halted"},
    {"agents": ("x",), "actions": ("pay",), "state": COMMITTED, "attention": "outstanding"},
    {"agents": ("x",), "actions": ("book",), "state": PENDING, "attention": "approval"},
)


def _summaries(store: Store) -> list[Summary]:
    """Append a transaction for each line, and return the lines, in order of arrival."""
    appends = []
    for number, fields in enumerate(_SUMMARIES):
        begun = plan(f"Trip-{number}")
        tenant = (fields.get("metadata") or {}).get("tenant")
        summary = begun.summary._replace(
            created_at=100 - number, updated_at=100 + number, tenant=tenant, **fields
        )
        appends.append(begun._replace(summary=summary))
    store.append(appends)
    return [append.summary for append in appends]


def _queries() -> list[Query]:
    odd: list[Query] = []
    for name in _ODD:
        odd += [Query(agents=(name,)), Query(actions=(name,)), Query(text=name)]
        odd += [Query(metadata=((name, "x"),)), Query(metadata=((name, name),))]
    return [
        *odd,
        Query(agents=("flights",)),
        Query(agents=("flights", "hotels")),
        Query(agents=("FLIGHTS",)),
        Query(agents=("nobody",)),
        Query(agents=("pay",)),
        Query(actions=("pay",)),
        Query(actions=("book", "pay")),
        Query(actions=("flights",)),
        Query(agents=("flights",), actions=("pay",), states=(COMMITTED,)),
        Query(metadata=(("tenant", "acme"),)),
        Query(metadata=(("tenant", "acme"), ("team", "red"))),
        Query(metadata=(("team", "red"),)),
        Query(metadata=(("acme", "tenant"),)),
        Query(tenant="acme"),
        Query(tenant="nobody"),
        Query(text="HOTEL"),
        Query(text="trip-1"),
        Query(text="münchen"),
        Query(text="MÜNCHEN"),
        Query(text="ss"),
        Query(text="%"),
        Query(text="_"),
        Query(text="red"),
        Query(text="flights\nhotels"),
        Query(created_from=95),
        Query(created_before=95),
        Query(created_from=93, created_before=95),
        Query(updated_before=103),
        Query(updated_before=103, agents=("flights",)),
        Query(attention=("halted",)),
        Query(attention=("halted", "approval")),
        Query(attention=("poisoned",)),
        Query(attention=("outstanding", "halted"), actions=("pay",)),
        Query(attention=True, text="x"),
        Query(prefix="Trip-1", actions=("pay",)),
        Query(prefix="Trip", actions=("pay",), states=(COMMITTED, PENDING)),
    ]


def check_a_search_finds_what_fits(make_store: StoreFactory) -> None:
    """By agents, actions, metadata, tenant, text, times and reasons; counts agree with lists."""
    with opened(make_store) as store:
        given = _summaries(store)
        same([line.summary for line in store.find(Query())], given, "every line comes back")
        for query in _queries():
            wanted = [line.transaction_id for line in given if fits(query, line)]
            found = [line.summary.transaction_id for line in store.find(query)]
            same(found, wanted, f"{query}")
            turned = store.find(query._replace(newest_first=True))
            found = [line.summary.transaction_id for line in turned]
            same(found, wanted[::-1], f"{query}, the newest first")
            same(store.count(query), len(wanted), f"the count of {query}")


def check_a_search_can_be_walked_through(make_store: StoreFactory) -> None:
    """However short the pages and the looks, and whatever is appended, each comes exactly once."""
    with opened(make_store) as store:
        given = _summaries(store)
        pages = list(product((False, True), (1, 2, 3), (None, 1, 4)))
        for base in (Query(), Query(actions=("pay",)), Query(actions=("pay",), attention=True)):
            wanted = [line.transaction_id for line in given if fits(base, line)]
            for newest_first, limit, looks_max in pages:
                query = base._replace(newest_first=newest_first, limit=limit, looks_max=looks_max)
                found = _walked(store, query)
                same(len(found), len(set(found)), f"{query}: nothing comes twice")
                found = [name for name in found if name.startswith("Trip")]
                same(found, wanted[:: -1 if newest_first else 1], f"{query}")
            query = base._replace(offset=1, limit=2)
            found = [line.summary.transaction_id for line in store.find(query)]
            same(found, wanted[1:3], f"{query}")


def _walked(store: Store, query: Query) -> list[str]:
    """Return all that a walk through the pages shows, while others go on."""
    found: list[str] = []
    for step in range(1_000):
        page = store.find(query)
        found += [line.summary.transaction_id for line in page]
        if page.goes_on_after is None:
            break
        if step < 3:
            # What is touched meanwhile keeps its place, and what is new comes behind.
            touched = store.find(Query(limit=1))[0].summary
            sequence = getattr(store.read(touched.transaction_id), "head_sequence", 0)
            asked = request(touched.transaction_id, sequence)
            store.append([asked._replace(summary=touched), plan(f"late-{sequence}")])
        query = query._replace(after=page.goes_on_after)
    return found


def check_a_search_looks_at_no_more_than_it_is_told(make_store: StoreFactory) -> None:
    """A search that finds nothing says where to go on, and ends where the list does."""
    with opened(make_store) as store:
        given = _summaries(store)
        query = Query(agents=("nobody",), looks_max=4)
        pages = 0
        while (page := store.find(query)).goes_on_after is not None:
            same(list(page), [], "nothing fits")
            query = query._replace(after=page.goes_on_after)
            pages += 1
            if pages > len(given):
                break
        if pages:
            same(pages, 2, "it goes on behind four lines, and behind four more")
        last = store.find(Query(limit=len(given)))
        behind = store.find(Query(after=last.goes_on_after)) if last.goes_on_after else []
        same(list(behind), [], "nothing is behind a page that holds all")


def check_what_is_searched_follows_the_last_append(make_store: StoreFactory) -> None:
    """A step that is added brings its agent and its action; what was there stays."""
    with opened(make_store) as store:
        begun = plan("t")
        summary = begun.summary._replace(actions=("act",), metadata={"team": "red"})
        store.append([begun._replace(summary=summary), plan("u")])
        more = summary._replace(agents=("agent-1", "late"), actions=("act", "later"), steps=2)
        store.append([request("t", 2)._replace(summary=more)])
        store.append([request("t", 3)._replace(summary=more._replace(completed=1))])
        for query in (
            Query(agents=("late",)),
            Query(actions=("later",)),
            Query(text="LATER"),
            Query(metadata=(("team", "red"),), agents=("agent-1",)),
        ):
            found = [line.summary.transaction_id for line in store.find(query)]
            same(found, ["t"], f"{query}")
        same(store.find(Query())[0].summary, more._replace(completed=1), "the line says all of it")


def check_a_tally_counts_states_and_reasons(make_store: StoreFactory) -> None:
    """How many there are of each; those that there are none of are left out."""
    with opened(make_store) as store:
        same(tuple(store.tally()), ({}, {}), "an empty store")
        _summaries(store)
        tally = store.tally()
        same(tally.states, {PENDING: 7, COMMITTED: 2, COMPENSATING: 1}, "of each state")
        reasons = {"halted": 1, "outstanding": 1, "approval": 1}
        same(tally.attention, reasons, "of each reason")


def check_drivers_are_listed_with_what_they_hold(make_store: StoreFactory) -> None:
    """Whoever has a transaction is there, and what it has; what it lets go of is not any more."""
    with opened(make_store) as store:
        driver_id = store.join()
        for name in ("a", "b"):
            store.append([plan(name), claim(name, 2, 1, driver_id)])
        (found,) = [one for one in store.drivers() if one.driver_id == driver_id]
        same((found.is_alive, found.holds), (True, ("a", "b")), "it lives, and has both")
        store.leave(driver_id)
        living = [one for one in store.drivers() if one.driver_id == driver_id and one.is_alive]
        same(living, [], "once it has left")


def check_the_change_counter_grows_with_every_append(make_store: StoreFactory) -> None:
    """And it is the one that `info` tells."""
    with opened(make_store) as store:
        seen = [store.changes()]
        for name in ("a", "b"):
            store.append([plan(name)])
            seen.append(store.changes())
        store.append([request("a", 2)])
        seen.append(store.changes())
        same(seen, sorted(set(seen)), "each append is counted")
        store.find(Query())
        same(store.changes(), seen[-1], "looking changes nothing")
        same(store.info().changes, seen[-1], "and as it is told elsewhere")


SEARCH_CHECKS = (
    check_drivers_are_listed_with_what_they_hold,
    check_the_change_counter_grows_with_every_append,
    check_a_search_finds_what_fits,
    check_a_search_can_be_walked_through,
    check_a_search_looks_at_no_more_than_it_is_told,
    check_what_is_searched_follows_the_last_append,
    check_a_tally_counts_states_and_reasons,
)
