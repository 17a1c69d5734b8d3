"""What every store must do, as checks that any test runner can run.

Owns: the contract of `aumai_transactions.store`, in executable form.
Rules:
  1. Each check is a function that takes a `StoreFactory` and raises `ContractBroken`. It needs
     no test runner and closes what it opens.
  2. The factory returns a handle. Within one check every call of it must return another handle
     of the same store, which is empty at first. For a store that lives in one handle, run
     `CHECKS`; for one that processes share, `SHARED_CHECKS` too.
  3. Nothing here sleeps, and no check depends on the machine's speed.

Use it so:

    @pytest.mark.parametrize("check", store_contract.CHECKS, ids=lambda check: check.__name__)
    def test_my_store_keeps_the_contract(check, tmp_path):
        check(lambda: MyStore(tmp_path / "store"))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Thread
from typing import TYPE_CHECKING

from aumai_transactions.core.definition import Definition, StepDefinition
from aumai_transactions.core.entries import (
    Claimed,
    CommitRequested,
    Entry,
    PlanRecorded,
    RollbackRequested,
)
from aumai_transactions.core.journal import entries, load
from aumai_transactions.core.outcome import Summary
from aumai_transactions.errors import StoreError
from aumai_transactions.models import TransactionState
from aumai_transactions.store import Append, AppendAnswer, Query, Store

if TYPE_CHECKING:
    from aumai_transactions.core.saga import Saga

StoreFactory = Callable[[], Store]
StoreCheck = Callable[[StoreFactory], None]

_APPENDED = AppendAnswer.appended
_ALREADY_OURS = AppendAnswer.already_ours
_MOVED = AppendAnswer.moved
_FENCED = AppendAnswer.fenced
_HELD = AppendAnswer.held
_THREADS = 8
_APPENDS_EACH = 12


class ContractBroken(AssertionError):
    """Say which promise a store does not keep."""


# --------------------------------------------------------------------------------- the answers


def check_a_new_transaction_is_kept_and_read_back(make_store: StoreFactory) -> None:
    """A request creates a transaction; reading it verifies."""
    with _opened(make_store) as store:
        _same(store.read("t"), None, "a transaction that nobody appended to is not there")
        _same(store.append([_plan("t")]), [_APPENDED], "a new transaction is appended")
        saga = _loaded(store, "t")
        _same(saga.sequence, 2, "both of its entries are there")
        _same((saga.token, saga.driver_id), (0, None), "nobody drives it yet")


def check_an_append_that_is_repeated_is_recognised(make_store: StoreFactory) -> None:
    """The same entry ids at the same sequences: already ours, for each of the three kinds."""
    with _opened(make_store) as store:
        driver = store.join()
        for append in (_plan("t"), _claim("t", 2, 1, driver), _act("t", 3, 1), _request("t", 4)):
            _same(store.append([append]), [_APPENDED], f"{append.append_id} is new")
            _same(store.append([append]), [_ALREADY_OURS], f"{append.append_id} is a repeat")
        again = [_plan("t"), _claim("t", 2, 1, driver), _act("t", 3, 1), _act("t", 5, 1)]
        wanted = [_ALREADY_OURS, _ALREADY_OURS, _ALREADY_OURS, _APPENDED]
        _same(store.append(again), wanted, "in one call too, and what follows is appended")
        _same(_loaded(store, "t").sequence, 6, "a repeat adds nothing")


def check_a_writer_who_missed_news_is_told(make_store: StoreFactory) -> None:
    """Another last sequence: moved, and nothing is written."""
    with _opened(make_store) as store:
        driver = store.join()
        store.append([_plan("t"), _claim("t", 2, 1, driver)])
        for append in (
            _request("t", 2, "late"),
            _request("t", 4, "early"),
            _act("t", 2, 1, "late-act"),
            _claim("t", 2, 2, driver, "late-claim"),
            _claim("t", 3, 3, driver, "token-too-high"),
            _claim("t", 3, 1, driver, "token-too-low"),
            _plan("t", "second"),
            _request("new", 1),
        ):
            _same(store.append([append]), [_MOVED], f"{append.append_id} builds on something else")
        _same(_loaded(store, "t").sequence, 3, "what was refused is not there")
        _same(store.read("new"), None, "nor is a transaction that was never begun")


def check_a_stale_driver_is_fenced(make_store: StoreFactory) -> None:
    """Another token in force: fenced, even where it had appended the very same before."""
    with _opened(make_store) as store:
        old, new = store.join(), store.join()
        store.append([_plan("t"), _claim("t", 2, 1, old)])
        worked = _act("t", 3, 1)
        _same(store.append([worked]), [_APPENDED], "the holder acts")
        store.leave(old)
        _same(store.append([_claim("t", 4, 2, new)]), [_APPENDED], "another takes over")
        _same(store.append([worked]), [_FENCED], "fenced comes before already_ours")
        _same(store.append([_act("t", 5, 1, "stale")]), [_FENCED], "a lower token is fenced")
        _same(store.append([_act("t", 5, 3, "high")]), [_FENCED], "so is one never given")
        _same(store.append([_act("new", 0, 1)]), [_FENCED], "nothing is in force without a claim")
        _same(store.append([_act("t", 5, 2)]), [_APPENDED], "the new holder acts")
        _same(_loaded(store, "t").token, 2, "the token is the new holder's")


def check_a_claim_raises_the_token_and_names_the_holder(make_store: StoreFactory) -> None:
    """The token grows by one with each claim, also with one's own."""
    with _opened(make_store) as store:
        driver = store.join()
        store.append([_plan("t")])
        for token in (1, 2, 3):
            claim = _claim("t", token + 1, token, driver)
            _same(store.append([claim]), [_APPENDED], f"claim {token} is granted")
            saga = _loaded(store, "t")
            _same((saga.token, saga.driver_id), (token, driver), "and in force")
        _same(store.find(Query())[0].driver_id, driver, "a list names the holder")


def check_a_new_transaction_can_be_claimed_at_once(make_store: StoreFactory) -> None:
    """The first append may carry plan, request and claim together."""
    with _opened(make_store) as store:
        driver = store.join()
        first = _plan("t")
        claim = replace(
            first, entries=[*first.entries, Claimed(3, 1, driver)], token=1, driver_id=driver
        )
        _same(store.append([claim]), [_APPENDED], "it is granted")
        _same(store.append([claim]), [_ALREADY_OURS], "and recognised")
        _same(store.append([_act("t", 3, 1)]), [_APPENDED], "and acted on")
        _same(_loaded(store, "t").driver_id, driver, "the driver holds it")


def check_a_living_holder_keeps_its_transaction(make_store: StoreFactory) -> None:
    """A claim is refused while the holder lives, and granted after it left."""
    with _opened(make_store) as store:
        holder, other = store.join(), store.join()
        store.append([_plan("t"), _claim("t", 2, 1, holder)])
        _same(store.append([_claim("t", 3, 2, other)]), [_HELD], "a living driver holds it")
        _same(_loaded(store, "t").sequence, 3, "a refused claim adds nothing")
        store.renew(holder)
        _same(store.append([_claim("t", 3, 2, other)]), [_HELD], "still")
        store.leave(holder)
        _same(store.append([_claim("t", 3, 2, other)]), [_APPENDED], "now it is free")
        store.leave(holder)


def check_a_request_needs_no_token(make_store: StoreFactory) -> None:
    """Anybody may ask for something while a driver lives; the driver then has to read again."""
    with _opened(make_store) as store:
        driver = store.join()
        store.append([_plan("t"), _claim("t", 2, 1, driver)])
        _same(store.append([_request("t", 3)]), [_APPENDED], "a request is appended")
        _same(store.append([_act("t", 3, 1)]), [_MOVED], "the driver learns that there is news")
        _same(store.append([_act("t", 4, 1)]), [_APPENDED], "it keeps its token")
        _same(_loaded(store, "t").driver_id, driver, "and its transaction")


def check_letting_go_frees_the_transaction(make_store: StoreFactory) -> None:
    """A release or an end clears the holder; the token stays in force."""
    with _opened(make_store) as store:
        holder, other = store.join(), store.join()
        store.append([_plan("t"), _claim("t", 2, 1, holder)])
        released = replace(_act("t", 3, 1), release=True)
        _same(store.append([released]), [_APPENDED], "it lets go")
        saga = _loaded(store, "t")
        _same((saga.token, saga.driver_id), (1, None), "nobody holds it, the token stays")
        _same(store.append([_claim("t", 4, 2, other)]), [_APPENDED], "another may claim it")
        done = _act("t", 5, 2, state=TransactionState.committed, runnable=False)
        _same(store.append([done]), [_APPENDED], "it ends")
        _same(store.find(Query())[0].driver_id, None, "nobody holds what has ended")


def check_a_holder_keeps_what_is_tried_again(make_store: StoreFactory) -> None:
    """A final transaction with something to do (a compensation tried again) has its holder."""
    with _opened(make_store) as store:
        holder, other = store.join(), store.join()
        again = {"state": TransactionState.rolled_back, "runnable": True}
        claim = _claim("t", 2, 1, holder)
        claim = replace(claim, summary=replace(claim.summary, **again))
        _same(store.append([_plan("t"), claim])[1], _APPENDED, "it is claimed")
        _same(store.due(other, 9), [], "nobody else is told to drive it")
        _same(store.append([_claim("t", 3, 2, other)]), [_HELD], "nor may")


def check_only_those_who_joined_may_claim(make_store: StoreFactory) -> None:
    """A driver that never joined this handle, or has left it, is an error, and writes nothing."""
    with _opened(make_store) as store:
        driver = store.join()
        store.append([_plan("t")])
        store.leave(driver)
        for stranger in ("nobody", driver):
            _refused(store, [_plan("u"), _claim("t", 2, 1, stranger)])
        _same(store.read("u"), None, "nothing of the call was written")
        try:
            store.renew(driver)
        except StoreError:
            return
        raise ContractBroken("a driver that has left was renewed")


# ----------------------------------------------------------------------------------- one call


def check_appends_of_a_call_stand_in_order(make_store: StoreFactory) -> None:
    """Appends to one transaction build on each other within a call."""
    with _opened(make_store) as store:
        driver = store.join()
        call = [_plan("t"), _claim("t", 2, 1, driver), _act("t", 3, 1), _request("t", 4)]
        _same(store.append(call), [_APPENDED] * 4, "each builds on the one before")
        _same(_loaded(store, "t").sequence, 5, "all are there")
        _same(store.append([]), [], "an empty call is answered emptily")


def check_appends_of_a_call_do_not_hurt_each_other(make_store: StoreFactory) -> None:
    """A refused append drops itself and those of its transaction behind it, and no other."""
    with _opened(make_store) as store:
        store.append([_plan("a"), _plan("b")])
        call = [
            _request("a", 2),
            _request("b", 9),
            _request("a", 3),
            _request("b", 2),
            _plan("c"),
            _act("a", 4, 7),
            _request("a", 4),
        ]
        wanted = [_APPENDED, _MOVED, _APPENDED, _MOVED, _APPENDED, _FENCED, _MOVED]
        _same(store.append(call), wanted, "each has its own answer")
        found = [_loaded(store, name).sequence for name in "abc"]
        _same(found, [4, 2, 2], "and exactly the appended ones are there")


def check_appends_from_many_threads_lose_nothing(make_store: StoreFactory) -> None:
    """Eight threads append to one transaction and to their own; every sequence is there once."""
    with _opened(make_store) as store:
        store.append([_plan("shared")])
        names = [f"own-{number}" for number in range(_THREADS)]
        _in_threads([lambda name=name: _race(store, name) for name in names])
        _check_race(store, names)


# ------------------------------------------------------------------------------------- reading


def check_a_journal_verifies_and_names_its_entries(make_store: StoreFactory) -> None:
    """Every entry comes back equal, in order, under its entry id, chained."""
    with _opened(make_store) as store:
        appends = [_plan("t"), _request("t", 2), _request("t", 3)]
        for append in appends:
            store.append([append])
        journal = store.read("t")
        if journal is None:
            raise ContractBroken("the journal is not there")
        found = list(entries(journal))
        wanted = [
            (f"{append.append_id}.{index}", entry)
            for append in appends
            for index, entry in enumerate(append.entries)
        ]
        _same(found, wanted, "ids and entries come back as they were given")
        _same([entry.sequence for entry in journal.entries], [1, 2, 3, 4], "in sequence")
        again = store.read("t")
        _same(again, journal, "reading again gives the same")


def check_every_text_survives(make_store: StoreFactory) -> None:
    """Ids, names and data come back letter by letter."""
    odd = "tränsaction 電車 \U0001f682 ' \" % _ \\ ; -- e\u0301"
    with _opened(make_store) as store:
        plan = _plan(odd, data={odd: [odd, 1, 1.5, None, True, {"": "\u2028"}]})
        plan = replace(plan, summary=replace(plan.summary, name=odd, agents=(odd, "b", "")))
        _same(store.append([plan]), [_APPENDED], "it is appended")
        _same(_loaded(store, odd).plan, _definition(plan), "the plan is the same")
        _same(store.find(Query(prefix=odd[:9]))[0].summary, plan.summary, "so is the summary")


def check_a_big_entry_survives(make_store: StoreFactory) -> None:
    """Two megabytes of data come back as they were."""
    with _opened(make_store) as store:
        plan = _plan("t", data={"big": "x" * 2_000_000})
        _same(store.append([plan, _plan("u")]), [_APPENDED] * 2, "it is appended")
        _same(_loaded(store, "t").plan, _definition(plan), "it is the same")


def check_a_summary_comes_back_as_it_was(make_store: StoreFactory) -> None:
    """Every field, with its type; a later append replaces it."""
    with _opened(make_store) as store:
        first = _plan("t")
        store.append([first])
        _same(store.find(Query())[0].summary, first.summary, "the first one")
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
        )
        store.append([replace(_request("t", 2), summary=second)])
        found = store.find(Query())[0].summary
        _same(found, second, "the later one")
        store.append([replace(_request("t", 3), summary=replace(second, timeout_seconds=60))])
        kind = type(store.find(Query())[0].summary.timeout_seconds)
        _same(kind, int, "a whole number of seconds stays one")


# ------------------------------------------------------------------------------------- listing


def check_a_list_is_in_order_of_arrival(make_store: StoreFactory) -> None:
    """Positions grow; limit, offset, after and direction do what they say."""
    with _opened(make_store) as store:
        names = ["m", "z", "a", "q", "b"]
        for name in names:
            store.append([_plan(name)])
        store.append([_request("m", 2)])
        everything = store.find(Query())
        _same([item.summary.transaction_id for item in everything], names, "oldest first")
        positions = [item.position for item in everything]
        _same(positions, sorted(set(positions)), "positions grow")
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
            _same(found, wanted, f"{query}")
        _same(store.count(Query(limit=1, offset=3)), 5, "a count knows no limit and no offset")


def check_a_list_can_be_narrowed(make_store: StoreFactory) -> None:
    """By states, attention and prefix, and by all of them; counts agree with lists."""
    with _opened(make_store) as store:
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
            _same(found, wanted, f"{query}")
            if query.limit == Query().limit:
                _same(store.count(query), len(wanted), f"the count of {query}")


def check_a_prefix_ends_where_unicode_does(make_store: StoreFactory) -> None:
    """The last characters there are do not end a search too early."""
    with _opened(make_store) as store:
        names = ["\ud7ff", "\ud7ffx", "\ue000", "\U0010ffff", "\U0010ffffx", "z\U0010ffff", "{"]
        store.append([_plan(name) for name in names])
        for prefix in ("\ud7ff", "\U0010ffff", "z", "z\U0010ffff"):
            found = [item.summary.transaction_id for item in store.find(Query(prefix=prefix))]
            wanted = [name for name in names if name.startswith(prefix)]
            _same(found, wanted, f"prefix {prefix!r}")


# ----------------------------------------------------------------------------------------- due


def check_what_is_due_can_be_driven(make_store: StoreFactory) -> None:
    """Runnable ones whose driver is dead, is nobody or is the one who asks; oldest first."""
    with _opened(make_store) as store:
        me, alive, dead = store.join(), store.join(), store.join()
        store.append([_plan("dead"), _claim("dead", 2, 1, dead)])
        store.append([_plan("alive"), _claim("alive", 2, 1, alive)])
        store.append([_plan("mine"), _claim("mine", 2, 1, me)])
        store.append([_plan("free")])
        store.append([_plan("idle", runnable=False)])
        _same(store.due(me, 9), ["mine", "free"], "not what a living driver holds")
        store.leave(dead)
        _same(store.due(me, 9), ["dead", "mine", "free"], "and what a dead one held")
        _same(store.due(me, 2), ["dead", "mine"], "no more than asked for")
        _same(store.due(me, 0), [], "not even one")
        _same(store.due(alive, 9), ["dead", "alive", "free"], "each asks for itself")
        _same(store.append([_claim("dead", 3, 2, me)]), [_APPENDED], "what is due can be claimed")
        done = _act("mine", 3, 1, state=TransactionState.committed, runnable=False)
        store.append([done])
        _same(store.due(me, 9), ["dead", "free"], "what has ended is not due")


# ------------------------------------------------------------------------------------ lifetime


def check_the_counter_grows_with_each_change(make_store: StoreFactory) -> None:
    """A change counts, a refusal or a look does not; the store's name stays."""
    with _opened(make_store) as store:
        before = store.info()
        store.append([_plan("t")])
        after = store.info(thorough=True)
        if after.changes <= before.changes:
            raise ContractBroken("an append did not raise the change counter")
        store.append([_request("t", 9)])
        store.read("t")
        store.find(Query())
        _same(store.info().changes, after.changes, "nothing else raises it")
        _same(after.store_id, before.store_id, "the store's name stays")
        _same(after.durable, store.is_durable, "info and property agree")


def check_a_closed_store_says_so(make_store: StoreFactory) -> None:
    """Closing twice is fine; using it afterwards is a StoreError."""
    store = make_store()
    store.close()
    store.close()
    for call in (
        store.join,
        lambda: store.append([_plan("t")]),
        lambda: store.read("t"),
        lambda: store.find(Query()),
        lambda: store.count(Query()),
        lambda: store.due("d", 1),
    ):
        try:
            call()
        except StoreError:
            continue
        raise ContractBroken("a closed store answered")


# ------------------------------------------------------------------------ stores that are shared


def check_another_handle_sees_the_same(make_store: StoreFactory) -> None:
    """What one handle appended, the other reads, lists and recognises."""
    with _opened(make_store) as one, _opened(make_store) as other:
        one.append([_plan("t")])
        _same(other.read("t"), one.read("t"), "the journal is the same")
        _same(other.find(Query()), one.find(Query()), "so is the list")
        _same(other.append([_plan("t")]), [_ALREADY_OURS], "a repeat is recognised there too")
        _same(other.append([_request("t", 2)]), [_APPENDED], "and can be built on")
        _same(one.append([_request("t", 2, "late")]), [_MOVED], "which the first one learns")
        _same(one.info().store_id, other.info().store_id, "it is one store")


def check_a_holder_behind_another_handle_is_alive(make_store: StoreFactory) -> None:
    """Until it leaves, or its handle is closed."""
    with _opened(make_store) as mine:
        me = mine.join()
        theirs = make_store()
        leaving, staying = theirs.join(), theirs.join()
        theirs.append([_plan("a"), _claim("a", 2, 1, leaving)])
        theirs.append([_plan("b"), _claim("b", 2, 1, staying)])
        _same(mine.due(me, 9), [], "both are driven")
        _same(mine.append([_claim("a", 3, 2, me)]), [_HELD], "and held")
        theirs.leave(leaving)
        _same(mine.due(me, 9), ["a"], "one of them has left")
        _same(mine.append([_claim("a", 3, 2, me)]), [_APPENDED], "so it can be claimed")
        _same(mine.append([_claim("b", 3, 2, me)]), [_HELD], "the other one not")
        theirs.close()
        _same(mine.due(me, 9), ["a", "b"], "a closed handle drives nothing")
        _same(mine.append([_claim("b", 3, 2, me)]), [_APPENDED], "and holds nothing")


def check_handles_in_many_threads_lose_nothing(make_store: StoreFactory) -> None:
    """Each thread with a handle of its own; every sequence is there once."""
    with _opened(make_store) as store:
        store.append([_plan("shared")])
        names = [f"own-{number}" for number in range(_THREADS // 2)]

        def run(name: str) -> None:
            with _opened(make_store) as own:
                _race(own, name)

        _in_threads([lambda name=name: run(name) for name in names])
        _check_race(store, names)


def check_a_store_outlives_its_handles(make_store: StoreFactory) -> None:
    """What was acknowledged is there for the next handle."""
    with _opened(make_store) as store:
        driver = store.join()
        store.append([_plan("t"), _claim("t", 2, 1, driver)])
        journal, listed, before = store.read("t"), store.find(Query()), store.info()
    with _opened(make_store) as store:
        _same(store.read("t"), journal, "the journal is there")
        _same(store.find(Query()), listed, "so is the summary")
        _same(store.info().store_id, before.store_id, "it is the same store")
        _same(store.due(store.join(), 9), ["t"], "its driver is dead")


CHECKS: tuple[StoreCheck, ...] = (
    check_a_new_transaction_is_kept_and_read_back,
    check_an_append_that_is_repeated_is_recognised,
    check_a_writer_who_missed_news_is_told,
    check_a_stale_driver_is_fenced,
    check_a_claim_raises_the_token_and_names_the_holder,
    check_a_new_transaction_can_be_claimed_at_once,
    check_a_living_holder_keeps_its_transaction,
    check_a_request_needs_no_token,
    check_letting_go_frees_the_transaction,
    check_a_holder_keeps_what_is_tried_again,
    check_only_those_who_joined_may_claim,
    check_appends_of_a_call_stand_in_order,
    check_appends_of_a_call_do_not_hurt_each_other,
    check_appends_from_many_threads_lose_nothing,
    check_a_journal_verifies_and_names_its_entries,
    check_every_text_survives,
    check_a_big_entry_survives,
    check_a_summary_comes_back_as_it_was,
    check_a_list_is_in_order_of_arrival,
    check_a_list_can_be_narrowed,
    check_a_prefix_ends_where_unicode_does,
    check_what_is_due_can_be_driven,
    check_the_counter_grows_with_each_change,
    check_a_closed_store_says_so,
)
SHARED_CHECKS: tuple[StoreCheck, ...] = (
    check_another_handle_sees_the_same,
    check_a_holder_behind_another_handle_is_alive,
    check_handles_in_many_threads_lose_nothing,
    check_a_store_outlives_its_handles,
)
