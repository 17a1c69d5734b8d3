"""Who gets a resource, who waits for whom, and who gives way."""

# mypy: disable-error-code="arg-type, var-annotated, assignment, attr-defined, type-var"

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aumai_transactions.core.definition import ResourceUse
from aumai_transactions.core.locking import (
    Fence,
    Holding,
    Lock,
    LockTable,
    change_of,
    holders_in_the_way,
    in_the_way,
    is_refused,
    place_in_queue,
    victim_of,
)

X, S = "exclusive", "shared"


def table(*lines, fences=None):
    """A table of lines such as `a has r`, `b reads r`, `c wants r`, `d wants to read r`, in order.

    A number behind it is what there is to undo of the transaction.
    """
    locks = []
    for ticket, line in enumerate(lines, 1):
        who, rest = line.split(" ", 1)
        *verb, resource = rest.split(" ")
        cost = 0
        if resource.isdigit():
            cost, resource = int(resource), verb.pop()
        words = " ".join(verb)
        mode = S if "read" in words else X
        token = None if words.startswith("wants") else ticket
        locks.append(Lock(resource, mode, who, token, ticket, cost))
    return LockTable(locks, fences or {})


def uses(*names):
    return [ResourceUse(name, X) for name in names]


def behind(seen, who, *names, mode=X):
    return set(in_the_way(seen, who, [ResourceUse(name, mode) for name in names]))


def victims(seen, **costs):
    """Who gives way, as everybody who waits sees it."""
    wanted = {}
    for lock in seen.locks:
        if lock.token is None:
            wanted.setdefault(lock.transaction_id, []).append(ResourceUse(lock.resource, lock.mode))
    return {who: victim_of(seen, who, names, costs.get(who, 0)) for who, names in wanted.items()}


# ---------------------------------------------------------------------------------- who is first


def test_what_nobody_holds_and_nobody_wants_is_free():
    assert behind(table(), "a", "r") == set()


@pytest.mark.parametrize(
    "line,mode,is_in_the_way",
    [("b has r", X, True), ("b has r", S, True), ("b reads r", X, True), ("b reads r", S, False)],
)
def test_only_readers_hold_a_resource_together(line, mode, is_in_the_way):
    seen = table(line)
    assert behind(seen, "a", "r", mode=mode) == ({"b"} if is_in_the_way else set())
    assert holders_in_the_way(seen.locks, "a", "r", mode) == (["b"] if is_in_the_way else [])


def test_ones_own_hold_is_not_in_the_way():
    assert behind(table("a has r"), "a", "r") == set()
    assert behind(table("a reads r"), "a", "r") == set()
    assert behind(table("a reads r", "b reads r"), "a", "r") == {"b"}


def test_first_come_first_served():
    seen = table("x has r", "b wants r", "a wants r", "c wants r")
    assert behind(seen, "b", "r") == {"x"}
    assert "b" in behind(seen, "a", "r")
    freed = table("b wants r", "a wants r", "c wants r")
    assert behind(freed, "b", "r") == set()
    assert behind(freed, "a", "r") == {"b"}
    assert behind(freed, "c", "r") == {"a"}
    assert behind(freed, "newcomer", "r") == {"c"}


def test_of_a_long_line_only_who_stands_directly_before_is_named():
    line = [f"t{number} wants {name}" for number in range(9) for name in "rs"]
    seen = table("x has r", "x has s", *line)
    assert behind(seen, "t5", "r", "s") == {"x", "t4"}


def test_readers_do_not_starve_who_waits_to_write():
    seen = table("x reads r", "w wants r")
    assert behind(seen, "late", "r", mode=S) == {"w"}
    assert behind(seen, "w", "r") == {"x"}


def test_readers_pass_in_together():
    seen = table("x has r", "a wants to read r", "b wants to read r", "w wants r")
    assert behind(seen, "b", "r", mode=S) == {"x"}
    freed = table("a wants to read r", "b wants to read r", "w wants r")
    assert behind(freed, "a", "r", mode=S) == set()
    assert behind(freed, "b", "r", mode=S) == set()
    assert behind(freed, "w", "r") == {"a", "b"}


def test_of_several_resources_each_has_to_be_free():
    seen = table("x has r", "y has s")
    assert behind(seen, "a", "r", "s", "t") == {"x", "y"}


def test_nobody_waits_behind_one_who_waits_for_them():
    seen = table("a has r", "b wants r", "b wants s")
    assert behind(seen, "a", "s") == set()
    assert behind(seen, "c", "s") == {"b"}


def test_nobody_waits_behind_one_who_waits_for_them_through_others():
    seen = table("a has r", "y has t", "y wants r", "p wants s", "p wants t")
    assert behind(seen, "a", "s") == set()


def test_nobody_waits_behind_one_who_stands_in_line_behind_one_who_waits_for_them():
    """Planned p holds nothing, so that it cannot go on before q, which waits for a."""
    seen = table("a has r", "q wants r", "q wants t", "p wants s", "p wants t")
    assert behind(seen, "a", "s") == set()
    assert behind(seen, "c", "s") == {"p"}


def test_an_upgrade_passes_who_waits_for_it():
    seen = table("a reads r", "w wants r")
    assert behind(seen, "a", "r") == set()


def test_a_place_in_the_line_counts_who_stands_before():
    seen = table("x has r", "a wants r", "b wants s", "b wants r", "c wants r")
    assert [place_in_queue(seen, who, uses("r", "s")) for who in "abcd"] == [1, 1, 2, 3]
    assert place_in_queue(seen, "a", uses("r")) == 0
    assert place_in_queue(seen, "a", []) == 0


# ------------------------------------------------------------------------------------- circles


def circle(size, costs=None):
    names = [f"t{number}" for number in range(size)]
    lines = [f"{name} has r{number}" for number, name in enumerate(names)]
    for number, name in enumerate(names):
        cost = "" if costs is None else f" {costs[number]}"
        lines.append(f"{name} wants r{(number + 1) % size}{cost}")
    return table(*lines)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_of_a_circle_everybody_names_the_same_one(size):
    found = victims(circle(size))
    assert len(found) == size
    assert set(found.values()) == {f"t{size - 1}"}, "all cost the same, so it is the latest"


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("cheapest", [0, 1])
def test_of_a_circle_the_cheapest_gives_way(size, cheapest):
    costs = [1_000] * size
    costs[cheapest] = 7
    assert set(victims(circle(size, costs)).values()) == {f"t{cheapest}"}


def test_who_closes_a_circle_is_judged_by_what_it_costs_before_it_stands_in_line():
    seen = table("a has r", "b has s", "b wants r 50")
    assert victim_of(seen, "a", uses("s"), 10) == "a"
    assert victim_of(seen, "a", uses("s"), 90) == "b"
    assert victim_of(seen, "a", uses("s"), 50) == "a", "it came last"


def test_who_waits_outside_of_a_circle_is_no_victim_and_names_none():
    seen = table(
        "a has r", "b has s", "b wants r", "a wants s", "c wants r", "d has t", "c wants t"
    )
    found = victims(seen)
    assert found["c"] is None
    assert found["a"] == found["b"] == "a"


def test_a_long_line_is_no_circle():
    seen = table("x has r", *(f"t{number} wants r" for number in range(50)), "y wants s", "x has s")
    assert set(victims(seen).values()) == {None}


def test_two_readers_who_both_want_to_write_are_a_circle():
    seen = table("a reads r", "b reads r", "a wants r 3", "b wants r 2")
    assert victims(seen) == {"a": "b", "b": "b"}


def test_a_planned_one_that_holds_nothing_is_never_the_victim():
    """Whoever holds something passes it in the line instead."""
    seen = table(
        "a has r 9000",
        "q wants r",
        "q wants t",
        "p wants s",
        "p wants t",
        "a wants s 9000",
    )
    assert set(victims(seen).values()) == {None}
    assert behind(seen, "a", "s") == set()


def test_a_circle_over_several_lines_of_one_transaction_is_found():
    seen = table("a has r", "b has s", "c has t", "a wants t", "a wants s", "b wants r")
    assert set(victims(seen).values()) == {"b"}


NAMES = ["t0", "t1", "t2", "t3", "t4"]
WISH = st.tuples(st.sampled_from(NAMES), st.sampled_from("rstu"), st.sampled_from([X, S]))


@given(st.lists(WISH, max_size=14), st.lists(WISH, max_size=10))
def test_whoever_waits_there_is_always_one_who_can_go_on_or_give_way(grants, wishes):
    """No table, however it came about, leaves everybody waiting for ever."""
    locks, tickets = [], itertools.count(1)
    for who, resource, mode in grants:
        mine = any(lock.transaction_id == who and lock.resource == resource for lock in locks)
        if not mine and not holders_in_the_way(locks, who, resource, mode):
            locks.append(Lock(resource, mode, who, next(tickets), next(tickets)))
    for who, resource, mode in wishes:
        known = {lock.resource for lock in locks if lock.transaction_id == who}
        if resource not in known:
            locks.append(Lock(resource, mode, who, None, next(tickets), len(who)))
    while waiting := {lock.transaction_id for lock in locks if lock.token is None}:
        seen = LockTable(locks)
        named = set()
        for who in sorted(waiting):
            mine = [lock for lock in locks if lock.transaction_id == who and lock.token is None]
            wanted = [ResourceUse(lock.resource, lock.mode) for lock in mine]
            way = in_the_way(seen, who, wanted)
            assert who not in way
            if not way:
                break
            named.add(victim_of(seen, who, wanted, 0))
        else:
            # Nobody who waits can go on: one who does not wait ends, or one gives way.
            running = {lock.transaction_id for lock in locks} - waiting
            who = min(running) if running else min(named - {None})
        locks = [lock for lock in locks if lock.transaction_id != who]


@given(st.lists(WISH, max_size=14), st.lists(WISH, max_size=10))
def test_everybody_in_a_circle_names_the_same_victim(grants, wishes):
    locks, tickets = [], itertools.count(1)
    for who, resource, mode in grants:
        mine = any(lock.transaction_id == who and lock.resource == resource for lock in locks)
        if not mine and not holders_in_the_way(locks, who, resource, mode):
            locks.append(Lock(resource, mode, who, next(tickets), next(tickets)))
    for who, resource, mode in wishes:
        if not any(lock[:3] == (resource, mode, who) for lock in locks):
            locks.append(Lock(resource, mode, who, None, next(tickets), ord(who[1]) % 3))
    found = victims(LockTable(locks))
    for victim in set(found.values()) - {None}:
        # Order matters: who is named must find it out itself, or nobody ever gives way.
        assert found[victim] == victim


# ---------------------------------------------------------------------------- what a store checks


@pytest.mark.parametrize(
    "holding,refused",
    [
        (Holding("r", X, 4), False),
        (Holding("r", X, 3), True),
        (Holding("r", X, 5), True),
        (Holding("r", X, None), False),
        (Holding("new", S, 1), False),
        (Holding("new", S, 2), True),
    ],
)
def test_only_the_next_token_is_granted(holding, refused):
    seen = LockTable((), {"r": Fence(3, 2)})
    assert is_refused(seen, "a", [holding], []) is refused


def test_what_is_held_already_is_not_checked_again():
    seen = table("a has r", "b reads s", fences={"r": Fence(1, 1)})
    assert not is_refused(seen, "a", [Holding("r", X, 1)], [])
    assert is_refused(seen, "b", [Holding("r", X, 1)], [])


def test_who_waits_is_never_refused():
    seen = table("a has r", fences={"r": Fence(1, 1)})
    assert not is_refused(seen, "b", [Holding("r", X, None)], [])


@pytest.mark.parametrize("version,refused", [(2, False), (1, True), (3, True)])
def test_a_read_must_be_of_the_last_version(version, refused):
    seen = LockTable((), {"r": Fence(3, 2)})
    assert is_refused(seen, "a", [], [("r", version)]) is refused


def test_ones_own_writing_does_not_spoil_what_one_has_read():
    seen = table("a has r", fences={"r": Fence(1, 1)})
    assert not is_refused(seen, "a", [], [("r", 0)])
    assert is_refused(seen, "b", [], [("r", 0)])


def test_a_change_names_only_what_is_new_or_gone():
    seen = table("a has r", "a wants s", "a reads t", "b wants r")
    wanted = [Holding("r", X, 1), Holding("s", X, None), Holding("t", X, 9), Holding("u", S, None)]
    change = change_of(seen, "a", wanted)
    assert [lock.resource for lock in change.gone] == ["t"]
    assert change.granted == [Holding("t", X, 9)]
    assert change.queued == [Holding("u", S, None)]
    assert [lock.resource for lock in change_of(seen, "a", []).gone] == ["r", "s", "t"]
