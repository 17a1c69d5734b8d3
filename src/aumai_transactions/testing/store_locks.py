"""What a store must do with locks: grant them, refuse them, keep the lines of those who wait.

Owns: the half of `aumai_transactions.testing.store_contract` that is about resources; that module
lists all checks.
"""

from __future__ import annotations

from functools import partial
from threading import Barrier

from aumai_transactions.core.entries import ReadVersion
from aumai_transactions.core.locking import Fence, Holding, Lock
from aumai_transactions.models import TransactionState
from aumai_transactions.store import Append, AppendAnswer, Store
from aumai_transactions.testing.journals import (
    ALREADY_OURS,
    APPENDED,
    FENCED,
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

BLOCKED = AppendAnswer.blocked
_RIVALS = 8
_ROUNDS = 10
_GUARD_SECONDS = 60


def held(resource: str, token: int, mode: str = "exclusive") -> Holding:
    """Return what a transaction holds."""
    return Holding(resource, mode, token)  # type: ignore[arg-type]


def waits(resource: str, cost: int = 0, mode: str = "exclusive") -> Holding:
    """Return what a transaction waits for."""
    return Holding(resource, mode, None, cost)  # type: ignore[arg-type]


def _begun(store: Store, *names: str) -> None:
    """Begin transactions, and take them, so that their next entry is the fourth."""
    driver = store.join()
    for name in names:
        same(store.append([plan(name), claim(name, 2, 1, driver)]), [APPENDED] * 2, "it is taken")


def _take(store: Store, name: str, expected: int, *holdings: Holding) -> AppendAnswer:
    return store.append([act(name, expected, 1)._replace(holdings=holdings)])[0]


def _lines(store: Store, *resources: str) -> list[tuple[str, str, str, int | None, int]]:
    """Return the table of locks without tickets: resource, who, mode, token and cost, in order."""
    table = store.locks(resources or None)
    in_order = sorted(table.locks, key=lambda lock: (lock.resource, lock.ticket))
    return [(one.resource, one.transaction_id, one.mode, one.token, one.cost) for one in in_order]


def _line(table: list[Lock], transaction_id: str, *, is_waiting: bool) -> Lock:
    for lock in table:
        if lock.transaction_id == transaction_id and (lock.token is None) == is_waiting:
            return lock
    raise ContractBroken(f"{transaction_id} has no such line in {table}")


# -------------------------------------------------------------------------------------- grants


def check_a_grant_is_kept_with_its_append(make_store: StoreFactory) -> None:
    """A resource that nobody holds is granted; table and fence tell."""
    with opened(make_store) as store:
        _begun(store, "a")
        same(store.locks(["r"]).fences, {"r": Fence()}, "what was never granted has an empty fence")
        same(_take(store, "a", 3, held("r", 1), held("s", 1, "shared")), APPENDED, "it is granted")
        wanted = [("r", "a", "exclusive", 1, 0), ("s", "a", "shared", 1, 0)]
        same(_lines(store), wanted, "the table says so")
        same(_lines(store, "r"), wanted[:1], "and of one resource alone")
        fences = dict(store.locks(["r", "s", "t"]).fences)
        same(fences, {"r": Fence(1, 1), "s": Fence(1, 0), "t": Fence()}, "shared is no new version")
        same(loaded(store, "a").sequence, 4, "the entries are there")


def check_a_held_resource_is_refused_to_others(make_store: StoreFactory) -> None:
    """Exclusive beside anything: blocked, and nothing of the append is written."""
    with opened(make_store) as store:
        _begun(store, "a", "b", "c")
        same(_take(store, "a", 3, held("r", 1), held("s", 1, "shared")), APPENDED, "a has both")
        before = store.info().changes
        for holding in (
            held("r", 2),
            held("r", 2, "shared"),
            held("s", 2),
        ):
            same(_take(store, "b", 3, held("free", 1), holding), BLOCKED, f"{holding} is refused")
        same(_lines(store, "free"), [], "what could be granted is not, either")
        same(dict(store.locks(["free"]).fences), {"free": Fence()}, "and its fence is as it was")
        same(loaded(store, "b").sequence, 3, "nor are there entries")
        same(store.info().changes, before, "nor is it a change")
        same(_take(store, "b", 3, held("s", 2, "shared")), APPENDED, "both may share")
        same(_take(store, "c", 3, held("s", 3, "shared")), APPENDED, "or three")
        same(_take(store, "a", 4, held("r", 1), held("s", 4)), BLOCKED, "so it cannot be upgraded")


def check_a_grant_names_the_next_token(make_store: StoreFactory) -> None:
    """Another token than the next one: blocked, for what the writer saw is old."""
    with opened(make_store) as store:
        _begun(store, "a", "b")
        for wrong in (0, 2, 7):
            same(_take(store, "a", 3, held("r", wrong)), BLOCKED, f"{wrong} is not the next token")
        same(_take(store, "a", 3, held("r", 1)), APPENDED, "1 is")
        same(_take(store, "a", 4), APPENDED, "it lets go")
        same(_take(store, "b", 3, held("r", 1)), BLOCKED, "1 was given before")
        same(_take(store, "b", 3, held("r", 2)), APPENDED, "2 is the next one")


def check_a_holder_may_change_how_it_holds(make_store: StoreFactory) -> None:
    """Alone, shared becomes exclusive under a new token; it waits beside what it holds."""
    with opened(make_store) as store:
        _begun(store, "a", "b")
        same(_take(store, "a", 3, held("r", 1, "shared")), APPENDED, "it reads")
        both = (held("r", 1, "shared"), waits("r", 3))
        same(_take(store, "a", 4, *both), APPENDED, "it holds, and waits for more")
        wanted = [("r", "a", "shared", 1, 0), ("r", "a", "exclusive", None, 3)]
        same(_lines(store, "r"), wanted, "both lines are there")
        same(_take(store, "a", 5, held("r", 2)), APPENDED, "it has it alone")
        same(_lines(store, "r"), [("r", "a", "exclusive", 2, 0)], "one line is left")
        same(dict(store.locks(["r"]).fences), {"r": Fence(2, 2)}, "and a new version begins")


def check_what_an_append_does_not_name_is_let_go(make_store: StoreFactory) -> None:
    """Holdings are all of a transaction's; None changes nothing, an empty list lets all go."""
    with opened(make_store) as store:
        _begun(store, "a", "b")
        same(_take(store, "a", 3, held("r", 1), held("s", 1)), APPENDED, "both are granted")
        same(store.append([act("a", 4, 1)]), [APPENDED], "it goes on")
        same(len(_lines(store)), 2, "and still has both")
        same(_take(store, "a", 5, held("s", 1)), APPENDED, "it lets go of one")
        same(_lines(store), [("s", "a", "exclusive", 1, 0)], "and keeps the other")
        same(_take(store, "b", 3, held("r", 2)), APPENDED, "somebody else takes that")
        done = act("a", 6, 1, state=TransactionState.committed, runnable=False)
        same(store.append([done._replace(holdings=())]), [APPENDED], "it ends")
        same(_lines(store), [("r", "b", "exclusive", 2, 0)], "and has nothing")


def check_fences_stay(make_store: StoreFactory) -> None:
    """A resource that nobody holds any more remembers its last token and version."""
    with opened(make_store) as store:
        _begun(store, "a")
        sequence = 3
        for token, mode in enumerate(("exclusive", "shared", "exclusive", "shared"), 1):
            same(_take(store, "a", sequence, held("r", token, mode)), APPENDED, f"{token} is next")
            same(_take(store, "a", sequence + 1), APPENDED, "it lets go")
            sequence += 2
        same(_lines(store), [], "nobody has it")
        same(dict(store.locks(["r"]).fences), {"r": Fence(4, 3)}, "token and version are known")
        same(dict(store.locks(None).fences), {}, "of all locks, there are none")


# ----------------------------------------------------------------------- answers and their order


def check_a_grant_that_is_repeated_is_recognised(make_store: StoreFactory) -> None:
    """The same append again is already ours, even once the resource is somebody else's."""
    with opened(make_store) as store:
        _begun(store, "a", "b")
        grant = act("a", 3, 1)._replace(holdings=[held("r", 1)])
        same(store.append([grant]), [APPENDED], "it is granted")
        same(store.append([grant]), [ALREADY_OURS], "a repeat is recognised")
        same(_lines(store), [("r", "a", "exclusive", 1, 0)], "and changes nothing")
        same(_take(store, "a", 4), APPENDED, "it lets go")
        same(_take(store, "b", 3, held("r", 2)), APPENDED, "another takes it")
        same(store.append([grant]), [ALREADY_OURS], "the repeat is still only a repeat")
        same(_lines(store), [("r", "b", "exclusive", 2, 0)], "and takes nothing back")


def check_blocked_comes_behind_the_other_refusals(make_store: StoreFactory) -> None:
    """Who is fenced, or has missed news, is told that, whatever it wanted to hold."""
    with opened(make_store) as store:
        _begun(store, "a", "b")
        same(_take(store, "a", 3, held("r", 1)), APPENDED, "a has it")
        mine = [held("r", 2)]
        same(store.append([act("b", 3, 7)._replace(holdings=mine)]), [FENCED], "fenced first")
        same(store.append([act("b", 9, 1)._replace(holdings=mine)]), [MOVED], "moved as well")
        call = [act("b", 3, 1)._replace(holdings=mine), request("b", 4), request("a", 4)]
        answers = store.append(call)
        same(answers, [BLOCKED, MOVED, APPENDED], "behind a blocked one of its own, none follows")


def check_the_first_append_may_take_locks(make_store: StoreFactory) -> None:
    """A new transaction is granted what is free, or is not there at all."""
    with opened(make_store) as store:
        first = plan("a")._replace(holdings=[held("r", 1)])
        same(store.append([first]), [APPENDED], "it begins with a lock")
        second = plan("b")._replace(holdings=[held("r", 2)])
        same(store.append([second]), [BLOCKED], "which the next one cannot have")
        same(store.read("b"), None, "so that it is not there")
        both: list[Append] = [
            request("a", 2)._replace(holdings=()),
            second,
        ]
        same(store.append(both), [APPENDED, APPENDED], "once it is free, even in one call")


def check_a_changed_read_is_refused(make_store: StoreFactory) -> None:
    """What was read in a version that is not the last one blocks; one's own writing does not."""
    with opened(make_store) as store:
        _begun(store, "a", "b")
        read = [ReadVersion("r", 0)]
        same(store.append([act("b", 3, 1)._replace(reads=read)]), [APPENDED], "nothing changed")
        same(_take(store, "a", 3, held("r", 1, "shared")), APPENDED, "somebody reads it too")
        same(store.append([act("b", 4, 1)._replace(reads=read)]), [APPENDED], "which is no change")
        same(_take(store, "a", 4, held("r", 2)), APPENDED, "somebody takes it to write")
        late = act("b", 5, 1)._replace(reads=read, holdings=[held("free", 1)])
        same(store.append([late]), [BLOCKED], "so that it may have changed")
        same(_lines(store, "free"), [], "and nothing of that append is done")
        same(store.append([act("a", 5, 1)._replace(reads=read)]), [APPENDED], "it was its own")
        again = [ReadVersion("r", 2), ReadVersion("never", 0)]
        same(store.append([act("b", 5, 1)._replace(reads=again)]), [APPENDED], "2 is the last one")
        wrong = [ReadVersion("r", 2), ReadVersion("never", 1)]
        same(store.append([act("b", 6, 1)._replace(reads=wrong)]), [BLOCKED], "each must be")


# ------------------------------------------------------------------------------------- the lines


def check_who_waits_keeps_place_and_cost(make_store: StoreFactory) -> None:
    """Tickets grow in order of arrival; a later append moves nobody who waits already."""
    with opened(make_store) as store:
        _begun(store, "a", "b", "c")
        same(_take(store, "a", 3, held("r", 1)), APPENDED, "a has it")
        same(_take(store, "b", 3, waits("r", 5)), APPENDED, "b waits")
        same(_take(store, "c", 3, waits("r", 1, "shared")), APPENDED, "c waits behind it")
        before = list(store.locks(["r"]).locks)
        same(_take(store, "b", 4, waits("r", 9), waits("s", 9)), APPENDED, "b wants more")
        after = list(store.locks(["r"]).locks)
        for name in "bc":
            mine = _line(before, name, is_waiting=True)
            same(_line(after, name, is_waiting=True), mine, f"{name} has its ticket and its cost")
        tickets = [_line(after, name, is_waiting=True).ticket for name in "bc"]
        same(tickets, sorted(set(tickets)), "first come, first in line")
        same(_take(store, "b", 5, waits("s", 9)), APPENDED, "b leaves the line")
        same(_take(store, "b", 6, waits("r", 2), waits("s", 9)), APPENDED, "and comes back")
        last = _line(list(store.locks(["r"]).locks), "b", is_waiting=True)
        if last.ticket <= tickets[1]:
            raise ContractBroken("who comes back stands behind everybody")
        same(last.cost, 2, "with what it costs now")
        same(_take(store, "c", 4, waits("r", 1)), APPENDED, "c wants it alone now")
        modes = [lock.mode for lock in store.locks(["r"]).locks if lock.transaction_id == "c"]
        same(modes, ["exclusive"], "and its line says so")


def check_a_line_ends_with_its_grant(make_store: StoreFactory) -> None:
    """Who is granted what it waited for does not wait any more; the others still do."""
    with opened(make_store) as store:
        _begun(store, "a", "b", "c")
        same(_take(store, "a", 3, held("r", 1)), APPENDED, "a has it")
        same(_take(store, "b", 3, waits("r")), APPENDED, "b waits")
        same(_take(store, "c", 3, waits("r")), APPENDED, "c waits")
        same(_take(store, "a", 4), APPENDED, "a lets go")
        same(_take(store, "b", 4, held("r", 2)), APPENDED, "b has it")
        wanted = [("r", "b", "exclusive", 2, 0), ("r", "c", "exclusive", None, 0)]
        lines = sorted(_lines(store, "r"), key=lambda line: line[1])
        same(lines, wanted, "and only c waits")


def check_all_that_is_waited_for_is_shown(make_store: StoreFactory) -> None:
    """Whoever looks at one resource sees the whole of every line, to find circles."""
    with opened(make_store) as store:
        _begun(store, "a", "b", "c")
        same(_take(store, "a", 3, held("r", 1), waits("s")), APPENDED, "a has r and wants s")
        same(_take(store, "b", 3, held("s", 1), waits("r")), APPENDED, "b has s and wants r")
        same(_take(store, "c", 3, held("quiet", 1), held("t", 1)), APPENDED, "nobody waits for c")
        shown = {(lock.resource, lock.transaction_id) for lock in store.locks(["t"]).locks}
        wanted = {("t", "c"), ("r", "a"), ("r", "b"), ("s", "a"), ("s", "b")}
        same(shown, wanted, "t itself, and what is waited for; not what nobody wants")
        same(set(store.locks(["t"]).fences), {"t"}, "with the fence of what was asked for")
        same(set(store.locks([]).fences), set(), "of nothing, none")
        everything = {(lock.resource, lock.transaction_id) for lock in store.locks(None).locks}
        same(everything, wanted | {("quiet", "c")}, "all is all")
        fences = dict(store.locks(None).fences)
        same(set(fences), {"r", "s", "t", "quiet"}, "with the fences of what is locked")
        odd = "ein ' \" % _ \\ ; -- e\u0301 \U0001f682"
        same(_take(store, "c", 4, held(odd, 1)), APPENDED, "any name will do")
        same(_lines(store, odd)[0][0], odd, "and comes back letter by letter")


# ------------------------------------------------------------------------ stores that are shared


def check_one_of_many_handles_gets_a_resource(make_store: StoreFactory) -> None:
    """Threads with a handle each want one resource at once, again and again: one wins each time."""
    names = [f"t{number}" for number in range(_RIVALS)]
    winners: list[tuple[int, str]] = []
    start = Barrier(_RIVALS, timeout=_GUARD_SECONDS)

    def rival(name: str) -> None:
        with opened(make_store) as own:
            _begun(own, name)
            sequence = 3
            for turn in range(1, _ROUNDS + 1):
                start.wait()
                answer = _take(own, name, sequence, held("r", turn))
                start.wait()
                if answer is APPENDED:
                    winners.append((turn, name))
                    same(_take(own, name, sequence + 1), APPENDED, "the winner lets go")
                    sequence += 2
                else:
                    same(answer, BLOCKED, "the others are told")
                start.wait()

    with opened(make_store) as store:
        in_threads([partial(rival, name) for name in names])
        turns = sorted(turn for turn, _name in winners)
        same(turns, list(range(1, _ROUNDS + 1)), "each turn has one winner")
        same(dict(store.locks(["r"]).fences), {"r": Fence(_ROUNDS, _ROUNDS)}, "no token is lost")
        same(_lines(store), [], "and nobody has it in the end")


def check_locks_outlive_handles(make_store: StoreFactory) -> None:
    """Who dies with its handle still holds what it held, until somebody finishes it."""
    with opened(make_store) as store:
        _begun(store, "a")
        same(_take(store, "a", 3, held("r", 1)), APPENDED, "a has it")
    with opened(make_store) as store:
        same(_lines(store, "r"), [("r", "a", "exclusive", 1, 0)], "a hold outlives a handle")
        _begun(store, "b")
        same(_take(store, "b", 3, held("r", 2)), BLOCKED, "so nobody else can have it")
        taken = claim("a", 4, 2, store.join())
        same(store.append([taken]), [APPENDED], "who finishes it takes it over")
        same(store.append([act("a", 5, 2)._replace(holdings=())]), [APPENDED], "and lets go")
        same(_take(store, "b", 3, held("r", 2)), APPENDED, "now it is free")


def _park(store: Store, name: str, expected: int, *lines: Holding) -> AppendAnswer:
    """Let a transaction stand in line, and let go of it until a time that is far away."""
    append = act(name, expected, 1)._replace(holdings=lines, release=True)
    summary = append.summary._replace(runnable=True, due_at=NOW + 1_000)
    return store.append([append._replace(summary=summary)])[0]


def check_whose_turn_it_is_is_due(make_store: StoreFactory) -> None:
    """What is let go of makes the first in line due at once, and nobody behind it."""
    with opened(make_store) as store:
        me = store.join()
        _begun(store, "a", "b", "c")
        same(_take(store, "a", 3, held("r", 1)), APPENDED, "a has it")
        same(_park(store, "b", 3, waits("r")), APPENDED, "b stands in line")
        same(_park(store, "c", 3, waits("r")), APPENDED, "and c")
        same(store.due(me, 9, NOW), [], "it is nobody's turn")
        same(_take(store, "a", 4), APPENDED, "a lets go")
        same(store.due(me, 9, NOW), ["b"], "it is b's turn, whatever time it waits for")


def check_who_stands_in_line_for_nothing_is_due(make_store: StoreFactory) -> None:
    """It may have become free between the look and the line; else nobody would ever tell."""
    with opened(make_store) as store:
        me = store.join()
        _begun(store, "a", "b", "c")
        same(_park(store, "b", 3, waits("r")), APPENDED, "it stands in line, and nobody has it")
        same(store.due(me, 9, NOW), ["b"], "so it is its turn")
        same(_take(store, "a", 3, held("s", 1)), APPENDED, "another one is taken")
        same(_park(store, "c", 3, waits("s"), waits("t")), APPENDED, "it waits for two")
        same(store.due(me, 9, NOW), ["b"], "one of them is not enough")


def check_readers_in_line_have_their_turn_together(make_store: StoreFactory) -> None:
    """All that may share it, up to the first that may not."""
    with opened(make_store) as store:
        me = store.join()
        _begun(store, "a", "b", "c", "d", "e")
        same(_take(store, "a", 3, held("r", 1)), APPENDED, "a has it")
        for name, mode in (("b", "shared"), ("c", "shared"), ("d", "exclusive"), ("e", "shared")):
            same(_park(store, name, 3, waits("r", mode=mode)), APPENDED, f"{name} stands in line")
        same(_take(store, "a", 4), APPENDED, "a lets go")
        same(store.due(me, 9, NOW), ["b", "c"], "those before the writer")


LOCK_CHECKS = (
    check_whose_turn_it_is_is_due,
    check_who_stands_in_line_for_nothing_is_due,
    check_readers_in_line_have_their_turn_together,
    check_a_grant_is_kept_with_its_append,
    check_a_held_resource_is_refused_to_others,
    check_a_grant_names_the_next_token,
    check_a_holder_may_change_how_it_holds,
    check_what_an_append_does_not_name_is_let_go,
    check_fences_stay,
    check_a_grant_that_is_repeated_is_recognised,
    check_blocked_comes_behind_the_other_refusals,
    check_the_first_append_may_take_locks,
    check_a_changed_read_is_refused,
    check_who_waits_keeps_place_and_cost,
    check_a_line_ends_with_its_grant,
    check_all_that_is_waited_for_is_shown,
)
SHARED_LOCK_CHECKS = (
    check_one_of_many_handles_gets_a_resource,
    check_locks_outlive_handles,
)
