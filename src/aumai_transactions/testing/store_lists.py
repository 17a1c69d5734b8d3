"""What a store must give back: journals, summaries, lists, and what is due.

Owns: the reading half of `aumai_transactions.testing.store_contract`, which lists all checks.
"""

from __future__ import annotations

from aumai_transactions.core.journal import entries
from aumai_transactions.core.outcome import Attention, Summary
from aumai_transactions.models import TransactionState
from aumai_transactions.store import Append, Query, Store
from aumai_transactions.testing.journals import (
    APPENDED,
    NOW,
    ContractBroken,
    StoreFactory,
    act,
    claim,
    definition_of,
    loaded,
    opened,
    plan,
    request,
    same,
    waiting,
)

_NAMES = ["trip-0", "tour-0", "trip-1", "tour-1", "trip-2", "tour-2"]


# ------------------------------------------------------------------------------------- reading


def check_a_journal_verifies_and_names_its_entries(make_store: StoreFactory) -> None:
    """Every entry comes back equal, in order, under its entry id, chained."""
    with opened(make_store) as store:
        appends = [plan("t"), request("t", 2), request("t", 3)]
        for append in appends:
            store.append([append])
        journal = store.read("t")
        if journal is None:
            raise ContractBroken("the journal is not there")
        # Why with the class: entries of two kinds may be equal as tuples.
        found = [(entry_id, type(entry), entry) for entry_id, entry in entries(journal)]
        wanted = [
            (f"{append.append_id}.{index}", type(entry), entry)
            for append in appends
            for index, entry in enumerate(append.entries)
        ]
        same(found, wanted, "ids and entries come back as they were given")
        same([entry.sequence for entry in journal.entries], [1, 2, 3, 4], "in sequence")
        again = store.read("t")
        same(again, journal, "reading again gives the same")


def check_every_text_survives(make_store: StoreFactory) -> None:
    """Ids, names and data come back letter by letter."""
    odd = "tränsaction 電車 \U0001f682 ' \" % _ \\ ; -- e\u0301"
    with opened(make_store) as store:
        begun = plan(odd, data={odd: [odd, 1, 1.5, None, True, {"": "\u2028"}]})
        begun = begun._replace(summary=begun.summary._replace(name=odd, agents=(odd, "b", "")))
        same(store.append([begun]), [APPENDED], "it is appended")
        same(loaded(store, odd).plan, definition_of(begun), "the plan is the same")
        same(store.find(Query(prefix=odd[:9]))[0].summary, begun.summary, "so is the summary")


def check_a_big_entry_survives(make_store: StoreFactory) -> None:
    """Two megabytes of data come back as they were."""
    with opened(make_store) as store:
        begun = plan("t", data={"big": "x" * 2_000_000})
        same(store.append([begun, plan("u")]), [APPENDED] * 2, "it is appended")
        same(loaded(store, "t").plan, definition_of(begun), "it is the same")


def check_a_summary_comes_back_as_it_was(make_store: StoreFactory) -> None:
    """Every field, with its type; a later append replaces it."""
    with opened(make_store) as store:
        first = plan("t")
        store.append([first])
        same(store.find(Query())[0].summary, first.summary, "the first one")
        second = Summary(
            transaction_id="t",
            state=TransactionState.compensating,
            created_at=2**60,
            updated_at=2**60 + 1,
            timeout_seconds=0.25,
            steps=3,
            completed=2,
            agents=("b", "a"),
            attention="halted",
            runnable=False,
            name="a name",
            tenant="a tenant",
            next_agent="b",
        )
        store.append([request("t", 2)._replace(summary=second)])
        found = store.find(Query())[0].summary
        same(found, second, "the later one")
        store.append([request("t", 3)._replace(summary=second._replace(timeout_seconds=60))])
        kind = type(store.find(Query())[0].summary.timeout_seconds)
        same(kind, int, "a whole number of seconds stays one")


# ------------------------------------------------------------------------------------- listing


def check_a_list_is_in_order_of_arrival(make_store: StoreFactory) -> None:
    """Positions grow; limit, offset, after and direction do what they say."""
    with opened(make_store) as store:
        names = ["m", "z", "a", "q", "b"]
        for name in names:
            store.append([plan(name)])
        store.append([request("m", 2)])
        everything = store.find(Query())
        same([item.summary.transaction_id for item in everything], names, "oldest first")
        positions = [item.position for item in everything]
        same(positions, sorted(set(positions)), "positions grow")
        for query, wanted in (
            (Query(newest_first=True), names[::-1]),
            (Query(limit=2), names[:2]),
            (Query(limit=2, offset=1), names[1:3]),
            (Query(limit=2, offset=9), []),
            (Query(limit=0), []),
            (Query(after=positions[1]), names[2:]),
            (Query(after=positions[-1]), []),
            (Query(after=positions[2], newest_first=True), ["z", "m"]),
            (Query(after=positions[0], offset=1, limit=1), ["a"]),
        ):
            found = [item.summary.transaction_id for item in store.find(query)]
            same(found, wanted, f"{query}")
        same(store.count(Query(limit=1, offset=3)), 5, "a count knows no limit and no offset")


def check_a_list_can_be_narrowed(make_store: StoreFactory) -> None:
    """By states, attention and prefix, and by all of them; counts agree with lists."""
    with opened(make_store) as store:
        _fill(store)
        states = tuple(TransactionState)
        for query, wanted in (
            (Query(states=(TransactionState.committed,)), ["trip-2", "tour-2"]),
            (
                Query(states=(TransactionState.committed, TransactionState.pending)),
                ["trip-0", "tour-0", "trip-2", "tour-2"],
            ),
            (Query(states=states), _NAMES),
            (Query(attention=True), ["trip-1", "tour-1"]),
            (Query(attention=True, states=(TransactionState.committed,)), []),
            (Query(attention=True, prefix="tr"), ["trip-1"]),
            (Query(prefix="tr"), ["trip-0", "trip-1", "trip-2"]),
            (Query(prefix="trip-1"), ["trip-1"]),
            (Query(prefix="trip-10"), []),
            (Query(prefix="TR"), []),
            (Query(prefix="t%"), []),
            (Query(prefix="t_"), []),
            (Query(prefix="tr", states=(TransactionState.committed,)), ["trip-2"]),
            (Query(prefix="t", newest_first=True, limit=2), ["tour-2", "trip-2"]),
            (
                Query(states=(TransactionState.committed, TransactionState.active), limit=3),
                ["trip-1", "tour-1", "trip-2"],
            ),
        ):
            found = [item.summary.transaction_id for item in store.find(query)]
            same(found, wanted, f"{query}")
            if query.limit == Query().limit:
                same(store.count(query), len(wanted), f"the count of {query}")


def check_a_prefix_ends_where_unicode_does(make_store: StoreFactory) -> None:
    """The last characters there are do not end a search too early."""
    with opened(make_store) as store:
        names = ["\ud7ff", "\ud7ffx", "\ue000", "\U0010ffff", "\U0010ffffx", "z\U0010ffff", "{"]
        store.append([plan(name) for name in names])
        for prefix in ("\ud7ff", "\U0010ffff", "z", "z\U0010ffff"):
            found = [item.summary.transaction_id for item in store.find(Query(prefix=prefix))]
            wanted = [name for name in names if name.startswith(prefix)]
            same(found, wanted, f"prefix {prefix!r}")


# ----------------------------------------------------------------------------------------- due


def check_what_is_due_can_be_driven(make_store: StoreFactory) -> None:
    """Runnable ones whose driver is dead, is nobody or is the one who asks; oldest first."""
    with opened(make_store) as store:
        me, alive, dead = store.join(), store.join(), store.join()
        store.append([plan("dead"), claim("dead", 2, 1, dead)])
        store.append([plan("alive"), claim("alive", 2, 1, alive)])
        store.append([plan("mine"), claim("mine", 2, 1, me)])
        store.append([plan("free")])
        store.append([plan("idle", runnable=False)])
        same(store.due(me, 9, NOW), ["mine", "free"], "not what a living driver holds")
        store.leave(dead)
        same(store.due(me, 9, NOW), ["dead", "mine", "free"], "and what a dead one held")
        same(store.due(me, 2, NOW), ["dead", "mine"], "no more than asked for")
        same(store.due(me, 0, NOW), [], "not even one")
        same(store.due(alive, 9, NOW), ["dead", "alive", "free"], "each asks for itself")
        same(store.append([claim("dead", 3, 2, me)]), [APPENDED], "what is due can be claimed")
        done = act("mine", 3, 1, state=TransactionState.committed, runnable=False)
        store.append([done])
        same(store.due(me, 9, NOW), ["dead", "free"], "what has ended is not due")


def check_what_waits_for_a_time_is_not_due_before_it(make_store: StoreFactory) -> None:
    """`due_at` holds back what nobody drives and what a dead driver held; then it is due."""
    with opened(make_store) as store:
        me, dead = store.join(), store.join()
        store.append([waiting("late", NOW + 2)])
        store.append([waiting("soon", NOW + 1)])
        store.append([plan("now")])
        store.append([plan("held"), claim("held", 2, 1, dead)])
        store.append([act("held", 3, 1, due_at=NOW + 2)])
        store.leave(dead)
        same(store.due(me, 9, NOW), ["now"], "the others wait")
        same(store.due(me, 9, NOW + 1), ["soon", "now"], "the time of one has come")
        same(store.due(me, 9, NOW + 2), ["late", "soon", "now", "held"], "and of all")
        same(len(store.due(me, 1, NOW + 2)), 1, "no more than asked for")
        kept = store.find(Query(prefix="late"))[0].summary.due_at
        same(kept, NOW + 2, "a list tells the time")
        store.append([request("late", 2)])
        same(store.due(me, 9, NOW), ["late", "now"], "a request ended the wait")


def check_what_is_due_can_be_narrowed_to_agents(make_store: StoreFactory) -> None:
    """Those of other agents are left out, however many stand in front, and whoever had them."""
    with opened(make_store) as store:
        me, dead = store.join(), store.join()
        for name in ("x-1", "x-2", "x-3"):
            store.append([_of(name, agent="x")])
        store.append([_of("y-1", agent="y")])
        store.append([_of("anybody's")])
        store.append([_of("x-held", agent="x"), _claimed("x-held", dead, agent="x")])
        store.append([_of("y-held", agent="y"), _claimed("y-held", dead, agent="y")])
        store.append([_of("y-late", agent="y", due_at=NOW), _of("x-late", agent="x", due_at=NOW)])
        store.leave(dead)
        mine = ["y-1", "anybody's", "y-held", "y-late"]
        same(store.due(me, 9, NOW, agents=["y"]), mine, "those of one agent, and those of nobody")
        same(store.due(me, 1, NOW, agents=["y"]), mine[:1], "others do not stand in front of them")
        same(len(store.due(me, 20, NOW, agents=["y", "x"])), 9, "those of several")
        same(len(store.due(me, 20, NOW, agents=None)), 9, "those of all")
        same(store.due(me, 9, NOW, agents=["z"]), ["anybody's"], "none of an agent that has none")


def check_tenants_take_turns(make_store: StoreFactory) -> None:
    """One of each after the other, the oldest first, whoever has filled the store."""
    with opened(make_store) as store:
        me, dead = store.join(), store.join()
        store.append([_of(f"a-{number}", tenant="a") for number in range(4)])
        store.append([_of("free-0"), _of("b-0", tenant="b"), _of("b-1", tenant="b")])
        store.append([_of("c-0", tenant="c"), _claimed("c-0", dead, tenant="c")])
        store.append([_of("d-0", tenant="d", due_at=NOW), _of("e-0", tenant="e", due_at=NOW + 1)])
        store.leave(dead)
        everything = store.due(me, 20, NOW)
        turns = ["a-0", "b-0", "c-0", "d-0", "free-0", "a-1", "b-1", "a-2", "a-3"]
        same(sorted(everything), sorted(turns), "nobody is left out")
        # Why turned round: whom a store begins with is its own business.
        begin = everything.index("a-0")
        same(everything[:5], (turns[:5] * 2)[5 - begin : 10 - begin], "one of each comes first")
        same(everything[5:], turns[5:], "then one more of each that has more")


def check_turns_go_on_from_call_to_call(make_store: StoreFactory) -> None:
    """Who takes only the first of each call serves everybody, however many it asks for."""
    with opened(make_store) as store:
        me = store.join()
        for tenant in ("a", "b", "c"):
            store.append([_of(f"{tenant}-{number}", tenant=tenant) for number in range(9)])
        for limit in (1, 2, 3, 7):
            first = [store.due(me, limit, NOW)[0] for _ in range(6)]
            same(sorted(first[:3]), ["a-0", "b-0", "c-0"], f"each is first once, of {limit}")
            same(first[3:], first[:3], f"and again, of {limit}")


def _of(
    name: str, *, tenant: str | None = None, agent: str | None = None, due_at: int | None = None
) -> Append:
    begun = plan(name)
    summary = begun.summary._replace(tenant=tenant, next_agent=agent, due_at=due_at)
    return begun._replace(summary=summary)


def _claimed(
    name: str, driver_id: str, *, tenant: str | None = None, agent: str | None = None
) -> Append:
    claimed = claim(name, 2, 1, driver_id)
    return claimed._replace(summary=claimed.summary._replace(tenant=tenant, next_agent=agent))


def _fill(store: Store) -> None:
    states = (TransactionState.pending, TransactionState.active, TransactionState.committed)
    for name in _NAMES:
        kind = int(name[-1])
        begun = plan(name)
        attention: Attention | None = "in_doubt" if kind == 1 else None
        shown = begun.summary._replace(state=states[kind], attention=attention)
        store.append([begun._replace(summary=shown)])


LIST_CHECKS = (
    check_a_journal_verifies_and_names_its_entries,
    check_every_text_survives,
    check_a_big_entry_survives,
    check_a_summary_comes_back_as_it_was,
    check_a_list_is_in_order_of_arrival,
    check_a_list_can_be_narrowed,
    check_a_prefix_ends_where_unicode_does,
    check_what_is_due_can_be_driven,
    check_what_waits_for_a_time_is_not_due_before_it,
    check_what_is_due_can_be_narrowed_to_agents,
    check_tenants_take_turns,
    check_turns_go_on_from_call_to_call,
)
