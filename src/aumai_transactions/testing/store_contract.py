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

or, without a test runner, all of them: `check_store`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from aumai_transactions.core.entries import Claimed, TransactionActivated
from aumai_transactions.errors import InternalError, StoreError
from aumai_transactions.models import TransactionState
from aumai_transactions.store import Query
from aumai_transactions.testing.journals import (
    ALREADY_OURS,
    APPENDED,
    FENCED,
    HELD,
    MOVED,
    NOW,
    THREADS,
    ContractBroken,
    StoreFactory,
    act,
    check_race,
    claim,
    in_threads,
    loaded,
    opened,
    plan,
    race,
    refused,
    request,
    same,
)
from aumai_transactions.testing.store_keeping import KEEPING_CHECKS, SHARED_KEEPING_CHECKS
from aumai_transactions.testing.store_lists import LIST_CHECKS
from aumai_transactions.testing.store_locks import LOCK_CHECKS, SHARED_LOCK_CHECKS
from aumai_transactions.testing.store_searches import SEARCH_CHECKS

StoreCheck = Callable[[StoreFactory], None]

__all__ = ["CHECKS", "SHARED_CHECKS", "ContractBroken", "StoreCheck", "StoreFactory", "check_store"]


def check_store(new_store: Callable[[], StoreFactory], *, is_shared: bool) -> dict[str, str]:
    """Run every check, each with a store of its own, and return what is broken.

    Args:
        new_store: Makes a new and empty store, and returns what opens another handle of it.
        is_shared: True where processes share such a store, so that `SHARED_CHECKS` hold as well.

    Returns:
        What each broken check found, by the name of the check; empty where the store keeps the
        contract. What a store raises that it should not stands there as well.
    """
    broken = {}
    for check in (*CHECKS, *(SHARED_CHECKS if is_shared else ())):
        try:
            check(new_store())
        except Exception as error:  # noqa: BLE001 (a broken store may raise anything)
            broken[check.__name__] = f"{type(error).__name__}: {error}"
    return broken


# --------------------------------------------------------------------------------- the answers


def check_a_new_transaction_is_kept_and_read_back(make_store: StoreFactory) -> None:
    """A request creates a transaction; reading it verifies."""
    with opened(make_store) as store:
        same(store.read("t"), None, "a transaction that nobody appended to is not there")
        same(store.append([plan("t")]), [APPENDED], "a new transaction is appended")
        saga = loaded(store, "t")
        same(saga.sequence, 2, "both of its entries are there")
        same((saga.token, saga.driver_id), (0, None), "nobody drives it yet")


def check_an_append_that_is_repeated_is_recognised(make_store: StoreFactory) -> None:
    """The same entry ids at the same sequences: already ours, for each of the three kinds."""
    with opened(make_store) as store:
        driver = store.join()
        for append in (plan("t"), claim("t", 2, 1, driver), act("t", 3, 1), request("t", 4)):
            same(store.append([append]), [APPENDED], f"{append.append_id} is new")
            same(store.append([append]), [ALREADY_OURS], f"{append.append_id} is a repeat")
        again = [plan("t"), claim("t", 2, 1, driver), act("t", 3, 1), act("t", 5, 1)]
        wanted = [ALREADY_OURS, ALREADY_OURS, ALREADY_OURS, APPENDED]
        same(store.append(again), wanted, "in one call too, and what follows is appended")
        same(loaded(store, "t").sequence, 6, "a repeat adds nothing")


def check_a_writer_who_missed_news_is_told(make_store: StoreFactory) -> None:
    """Another last sequence: moved, and nothing is written."""
    with opened(make_store) as store:
        driver = store.join()
        store.append([plan("t"), claim("t", 2, 1, driver)])
        for append in (
            request("t", 2, "late"),
            request("t", 4, "early"),
            act("t", 2, 1, "late-act"),
            claim("t", 2, 2, driver, "late-claim"),
            claim("t", 3, 3, driver, "token-too-high"),
            claim("t", 3, 1, driver, "token-too-low"),
            plan("t", "second"),
            request("new", 1),
        ):
            same(store.append([append]), [MOVED], f"{append.append_id} builds on something else")
        same(loaded(store, "t").sequence, 3, "what was refused is not there")
        same(store.read("new"), None, "nor is a transaction that was never begun")


def check_a_stale_driver_is_fenced(make_store: StoreFactory) -> None:
    """Another token in force: fenced, even where it had appended the very same before."""
    with opened(make_store) as store:
        old, new = store.join(), store.join()
        store.append([plan("t"), claim("t", 2, 1, old)])
        worked = act("t", 3, 1)
        same(store.append([worked]), [APPENDED], "the holder acts")
        store.leave(old)
        same(store.append([claim("t", 4, 2, new)]), [APPENDED], "another takes over")
        same(store.append([worked]), [FENCED], "fenced comes before already_ours")
        same(store.append([act("t", 5, 1, "stale")]), [FENCED], "a lower token is fenced")
        same(store.append([act("t", 5, 3, "high")]), [FENCED], "so is one never given")
        same(store.append([act("new", 0, 1)]), [FENCED], "nothing is in force without a claim")
        same(store.append([act("t", 5, 2)]), [APPENDED], "the new holder acts")
        same(loaded(store, "t").token, 2, "the token is the new holder's")


def check_a_claim_raises_the_token_and_names_the_holder(make_store: StoreFactory) -> None:
    """The token grows by one with each claiming, also with one's own."""
    with opened(make_store) as store:
        driver = store.join()
        store.append([plan("t")])
        for token in (1, 2, 3):
            claiming = claim("t", token + 1, token, driver)
            same(store.append([claiming]), [APPENDED], f"claim {token} is granted")
            saga = loaded(store, "t")
            same((saga.token, saga.driver_id), (token, driver), "and in force")
        same(store.find(Query())[0].driver_id, driver, "a list names the holder")


def check_a_new_transaction_can_be_claimed_at_once(make_store: StoreFactory) -> None:
    """The first append may carry begun, request and claim together."""
    with opened(make_store) as store:
        driver = store.join()
        first = plan("t")
        claiming = first._replace(
            entries=[*first.entries, Claimed(3, 1, driver)], token=1, driver_id=driver
        )
        same(store.append([claiming]), [APPENDED], "it is granted")
        same(store.append([claiming]), [ALREADY_OURS], "and recognised")
        same(store.append([act("t", 3, 1)]), [APPENDED], "and acted on")
        same(loaded(store, "t").driver_id, driver, "the driver holds it")


def check_a_living_holder_keeps_its_transaction(make_store: StoreFactory) -> None:
    """A claim is refused while the holder lives, and granted after it left."""
    with opened(make_store) as store:
        holder, other = store.join(), store.join()
        store.append([plan("t"), claim("t", 2, 1, holder)])
        same(store.append([claim("t", 3, 2, other)]), [HELD], "a living driver holds it")
        same(loaded(store, "t").sequence, 3, "a refused claim adds nothing")
        store.renew(holder)
        same(store.append([claim("t", 3, 2, other)]), [HELD], "still")
        store.leave(holder)
        same(store.append([claim("t", 3, 2, other)]), [APPENDED], "now it is free")
        store.leave(holder)


def check_a_request_needs_no_token(make_store: StoreFactory) -> None:
    """Anybody may ask for something while a driver lives; the driver then has to read again."""
    with opened(make_store) as store:
        driver = store.join()
        store.append([plan("t"), claim("t", 2, 1, driver)])
        same(store.append([request("t", 3)]), [APPENDED], "a request is appended")
        same(store.append([act("t", 3, 1)]), [MOVED], "the driver learns that there is news")
        same(store.append([act("t", 4, 1)]), [APPENDED], "it keeps its token")
        same(loaded(store, "t").driver_id, driver, "and its transaction")


def check_an_act_without_a_token_is_refused(make_store: StoreFactory) -> None:
    """Who has no token may ask, never act; the store itself sees to it (invariant I6)."""
    with opened(make_store) as store:
        driver = store.join()
        store.append([plan("t"), claim("t", 2, 1, driver)])
        act_of_nobody = request("t", 3)._replace(entries=[TransactionActivated(4)])
        claim_for_nobody = claim("t", 3, 2, driver)._replace(driver_id=None, token=None)
        for wrong in (act_of_nobody, claim_for_nobody):
            try:
                store.append([wrong])
            except InternalError:
                continue
            raise ContractBroken(f"an append was not refused: {wrong}")
        same(loaded(store, "t").sequence, 3, "a refused append adds nothing")


def check_letting_go_frees_the_transaction(make_store: StoreFactory) -> None:
    """A release or an end clears the holder; the token stays in force."""
    with opened(make_store) as store:
        holder, other = store.join(), store.join()
        store.append([plan("t"), claim("t", 2, 1, holder)])
        released = act("t", 3, 1)._replace(release=True)
        same(store.append([released]), [APPENDED], "it lets go")
        saga = loaded(store, "t")
        same((saga.token, saga.driver_id), (1, None), "nobody holds it, the token stays")
        same(store.append([claim("t", 4, 2, other)]), [APPENDED], "another may claim it")
        same(store.append([claim("t", 2, 1, holder)]), [MOVED], "the old claim is worth nothing")
        done = act("t", 5, 2, state=TransactionState.committed, runnable=False)
        same(store.append([done]), [APPENDED], "it ends")
        same(store.find(Query())[0].driver_id, None, "nobody holds what has ended")


def check_a_holder_keeps_what_is_tried_again(make_store: StoreFactory) -> None:
    """A final transaction with something to do (a compensation tried again) has its holder."""
    with opened(make_store) as store:
        holder, other = store.join(), store.join()
        claiming = claim("t", 2, 1, holder)
        again = claiming.summary._replace(state=TransactionState.rolled_back, runnable=True)
        claiming = claiming._replace(summary=again)
        same(store.append([plan("t"), claiming])[1], APPENDED, "it is claimed")
        same(store.due(other, 9, NOW), [], "nobody else is told to drive it")
        same(store.append([claim("t", 3, 2, other)]), [HELD], "nor may")


def check_only_those_who_joined_may_claim(make_store: StoreFactory) -> None:
    """A driver that never joined this handle, or has left it, is an error, and writes nothing."""
    with opened(make_store) as store:
        driver = store.join()
        store.append([plan("t")])
        store.leave(driver)
        for stranger in ("nobody", driver):
            refused(store, [plan("u"), claim("t", 2, 1, stranger)])
        same(store.read("u"), None, "nothing of the call was written")
        try:
            store.renew(driver)
        except StoreError:
            return
        raise ContractBroken("a driver that has left was renewed")


# ----------------------------------------------------------------------------------- one call


def check_appends_of_a_call_stand_in_order(make_store: StoreFactory) -> None:
    """Appends to one transaction build on each other within a call."""
    with opened(make_store) as store:
        driver = store.join()
        call = [plan("t"), claim("t", 2, 1, driver), act("t", 3, 1), request("t", 4)]
        same(store.append(call), [APPENDED] * 4, "each builds on the one before")
        same(loaded(store, "t").sequence, 5, "all are there")
        same(store.append([]), [], "an empty call is answered emptily")


def check_appends_of_a_call_do_not_hurt_each_other(make_store: StoreFactory) -> None:
    """A refused append drops itself and those of its transaction behind it, and no other."""
    with opened(make_store) as store:
        store.append([plan("a"), plan("b")])
        call = [
            request("a", 2),
            request("b", 9),
            request("a", 3),
            request("b", 2),
            plan("c"),
            act("a", 4, 7),
            request("a", 4),
        ]
        wanted = [APPENDED, MOVED, APPENDED, MOVED, APPENDED, FENCED, MOVED]
        same(store.append(call), wanted, "each has its own answer")
        found = [loaded(store, name).sequence for name in "abc"]
        same(found, [4, 2, 2], "and exactly the appended ones are there")


def check_a_repeat_behind_a_refused_append_is_recognised(make_store: StoreFactory) -> None:
    """What is there already is already ours, whatever was refused before it in the same call."""
    with opened(make_store) as store:
        driver = store.join()
        worked = act("t", 3, 1)
        store.append([plan("t"), claim("t", 2, 1, driver), worked, request("t", 4, "news")])
        call = [request("t", 4, "late"), worked, claim("t", 2, 1, driver), act("t", 5, 1)]
        wanted = [MOVED, ALREADY_OURS, ALREADY_OURS, MOVED]
        same(store.append(call), wanted, "a repeat is recognised, what is new is dropped")
        call = [act("t", 5, 1), request("t", 5, "late"), act("t", 5, 1), request("t", 6)]
        wanted = [APPENDED, MOVED, ALREADY_OURS, MOVED]
        same(store.append(call), wanted, "so is a repeat of the same call")
        same(loaded(store, "t").sequence, 6, "a repeat adds nothing")


def check_appends_from_many_threads_lose_nothing(make_store: StoreFactory) -> None:
    """Eight threads append to one transaction and to their own; every sequence is there once."""
    with opened(make_store) as store:
        store.append([plan("shared")])
        names = [f"own-{number}" for number in range(THREADS)]
        in_threads([partial(race, store, name) for name in names])
        check_race(store, names)


# ------------------------------------------------------------------------------------ lifetime


def check_the_counter_grows_with_each_change(make_store: StoreFactory) -> None:
    """A change counts, a refusal or a look does not; the store's name stays."""
    with opened(make_store) as store:
        before = store.info()
        store.append([plan("t")])
        after = store.info(thorough=True)
        if after.changes <= before.changes:
            raise ContractBroken("an append did not raise the change counter")
        store.append([request("t", 9)])
        store.read("t")
        store.find(Query())
        same(store.info().changes, after.changes, "nothing else raises it")
        same(after.store_id, before.store_id, "the store's name stays")
        same(after.durable, store.is_durable, "info and property agree")


def check_a_closed_store_says_so(make_store: StoreFactory) -> None:
    """Closing twice is fine; using it afterwards is a StoreError."""
    store = make_store()
    store.close()
    store.close()
    for call in (
        store.join,
        lambda: store.append([plan("t")]),
        lambda: store.read("t"),
        lambda: store.find(Query()),
        lambda: store.count(Query()),
        lambda: store.due("d", 1, NOW),
        lambda: store.wait_for_news(0),
        lambda: store.purge(NOW, 1),
        lambda: store.locks(None),
    ):
        try:
            call()
        except StoreError:
            continue
        raise ContractBroken("a closed store answered")


# ------------------------------------------------------------------------ stores that are shared


def check_another_handle_sees_the_same(make_store: StoreFactory) -> None:
    """What one handle appended, the other reads, lists and recognises."""
    with opened(make_store) as one, opened(make_store) as other:
        one.append([plan("t")])
        same(other.read("t"), one.read("t"), "the journal is the same")
        same(other.find(Query()), one.find(Query()), "so is the list")
        same(other.append([plan("t")]), [ALREADY_OURS], "a repeat is recognised there too")
        same(other.append([request("t", 2)]), [APPENDED], "and can be built on")
        same(one.append([request("t", 2, "late")]), [MOVED], "which the first one learns")
        same(one.info().store_id, other.info().store_id, "it is one store")


def check_a_holder_behind_another_handle_is_alive(make_store: StoreFactory) -> None:
    """Until it leaves, or its handle is closed."""
    with opened(make_store) as mine:
        me = mine.join()
        theirs = make_store()
        leaving, staying = theirs.join(), theirs.join()
        theirs.append([plan("a"), claim("a", 2, 1, leaving)])
        theirs.append([plan("b"), claim("b", 2, 1, staying)])
        same(mine.due(me, 9, NOW), [], "both are driven")
        same(mine.append([claim("a", 3, 2, me)]), [HELD], "and held")
        theirs.leave(leaving)
        same(mine.due(me, 9, NOW), ["a"], "one of them has left")
        same(mine.append([claim("a", 3, 2, me)]), [APPENDED], "so it can be claimed")
        same(mine.append([claim("b", 3, 2, me)]), [HELD], "the other one not")
        theirs.close()
        same(mine.due(me, 9, NOW), ["a", "b"], "a closed handle drives nothing")
        same(mine.append([claim("b", 3, 2, me)]), [APPENDED], "and holds nothing")


def check_handles_in_many_threads_lose_nothing(make_store: StoreFactory) -> None:
    """Each thread with a handle of its own; every sequence is there once."""
    with opened(make_store) as store:
        store.append([plan("shared")])
        names = [f"own-{number}" for number in range(THREADS // 2)]

        def run(name: str) -> None:
            with opened(make_store) as own:
                race(own, name)

        in_threads([partial(run, name) for name in names])
        check_race(store, names)


def check_a_store_outlives_its_handles(make_store: StoreFactory) -> None:
    """What was acknowledged is there for the next handle."""
    with opened(make_store) as store:
        driver = store.join()
        store.append([plan("t"), claim("t", 2, 1, driver)])
        journal, listed, before = store.read("t"), store.find(Query()), store.info()
    with opened(make_store) as store:
        same(store.read("t"), journal, "the journal is there")
        same(store.find(Query()), listed, "so is the summary")
        same(store.info().store_id, before.store_id, "it is the same store")
        same(store.due(store.join(), 9, NOW), ["t"], "its driver is dead")


CHECKS: tuple[StoreCheck, ...] = (
    check_a_new_transaction_is_kept_and_read_back,
    check_an_append_that_is_repeated_is_recognised,
    check_a_writer_who_missed_news_is_told,
    check_a_stale_driver_is_fenced,
    check_a_claim_raises_the_token_and_names_the_holder,
    check_a_new_transaction_can_be_claimed_at_once,
    check_a_living_holder_keeps_its_transaction,
    check_a_request_needs_no_token,
    check_an_act_without_a_token_is_refused,
    check_letting_go_frees_the_transaction,
    check_a_holder_keeps_what_is_tried_again,
    check_only_those_who_joined_may_claim,
    check_appends_of_a_call_stand_in_order,
    check_appends_of_a_call_do_not_hurt_each_other,
    check_a_repeat_behind_a_refused_append_is_recognised,
    check_appends_from_many_threads_lose_nothing,
    check_the_counter_grows_with_each_change,
    check_a_closed_store_says_so,
    *LIST_CHECKS,
    *SEARCH_CHECKS,
    *KEEPING_CHECKS,
    *LOCK_CHECKS,
)
SHARED_CHECKS: tuple[StoreCheck, ...] = (
    check_another_handle_sees_the_same,
    check_a_holder_behind_another_handle_is_alive,
    check_handles_in_many_threads_lose_nothing,
    check_a_store_outlives_its_handles,
    *SHARED_KEEPING_CHECKS,
    *SHARED_LOCK_CHECKS,
)
