"""That no list reads everything there is."""

import re

import pytest

from aumai_transactions.models import TransactionState
from aumai_transactions.store import Query
from aumai_transactions.stores.sqlite import listing, statements
from aumai_transactions.testing.journals import NOW, plan, request

# A walk along an index of the few that are in flight is none.
WALKS = re.compile(r"SCAN transactions(?! USING INDEX transactions_(free|attention)\b)")
SORTS = "TEMP B-TREE"


def plan_of(store, statement, values):
    rows = store._database.connection().execute("EXPLAIN QUERY PLAN " + statement, values)
    return "\n".join(row[3] for row in rows.fetchall())


@pytest.mark.parametrize("direction", [0, 1])
@pytest.mark.parametrize(
    "pair,index",
    [
        (statements.FIND_ATTENTION, "transactions_attention"),
        (statements.FIND_STATES, "transactions_state (state=? AND"),
        (statements.FIND_EVERY, "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
    ],
)
def test_a_page_is_read_from_an_index_in_order(store, pair, index, direction):
    found = plan_of(store, pair[direction], listing._values(Query(prefix="x")))
    assert index in found
    assert not WALKS.search(found)
    assert SORTS not in found


def test_few_ids_with_a_prefix_are_looked_up(store):
    for statement in (*statements.FIND_NARROW, statements.COUNT_NARROW):
        found = plan_of(store, statement, listing._values(Query(prefix="x")))
        assert "sqlite_autoindex_transactions_1 (transaction_id>? AND transaction_id<?)" in found
    probe = plan_of(store, statements.PREFIX_PROBE, listing._values(Query(prefix="x")))
    assert "COVERING INDEX sqlite_autoindex_transactions_1" in probe


def test_states_are_counted_without_a_look_at_a_single_row(store):
    values = listing._values(Query(states=(TransactionState.committed,)))
    found = plan_of(store, statements.COUNT_STATES, values)
    assert found.count("USING COVERING INDEX transactions_state (state=? AND") == 7
    assert not WALKS.search(found)


DUE = {"driver_id": "d", "tenant": "a", "limit": 9, "now": 9, "agents": None}


@pytest.mark.parametrize(
    "statement,values,index",
    [
        (statements.DUE_OF_TENANT, DUE, "transactions_free (tenant=?)"),
        (statements.NEXT_TENANT, ("a",), "transactions_free (tenant>?)"),
        (statements.FIRST_TENANT, (), "transactions_free"),
        (
            statements.DUE_OF_DRIVER,
            DUE,
            "transactions_held (driver_id=? AND runnable=?)",
        ),
        (statements.PARKED_AND_DUE, DUE, "transactions_parked (due_at>? AND due_at<?)"),
        (statements.NEXT_HOLDER, ("",), "transactions_held (driver_id>?)"),
        (statements.IDLE_DRIVERS, (), "transactions_held (driver_id=?)"),
        (statements.HEAD, ("t",), "sqlite_autoindex_transactions_1 (transaction_id=?)"),
        (statements.READ, ("t",), "PRIMARY KEY (transaction_ordinal=?)"),
        (statements.BODIES, (1, 2, 3), "PRIMARY KEY (transaction_ordinal=? AND sequence>?"),
    ],
)
def test_what_drivers_ask_all_the_time_is_looked_up(store, statement, values, index):
    found = plan_of(store, statement, values)
    assert index in found
    assert not WALKS.search(found)
    assert SORTS not in found


def test_a_prefix_of_many_ids_gives_the_same_as_one_of_few(store, monkeypatch):
    names = [f"{letter}{number}" for number in range(6) for letter in "ab"]
    store.append([plan(name) for name in names])
    queries = [
        Query(prefix="a"),
        Query(prefix="a", newest_first=True, limit=2, offset=1),
        Query(prefix="b", after=4),
        Query(prefix="a", states=(TransactionState.pending,)),
        Query(prefix="a", states=(TransactionState.active,)),
    ]
    few = [(store.find(query), store.count(query)) for query in queries]
    monkeypatch.setattr(listing, "_NARROW_MAX", 1)
    assert [(store.find(query), store.count(query)) for query in queries] == few
    assert [len(found) for found, _ in few] == [6, 2, 4, 6, 0]


def test_limits_below_zero_are_zero(store):
    store.append([plan("t")])
    assert store.find(Query(limit=-1)) == []
    assert len(store.find(Query(offset=-5))) == 1
    assert store.due(store.join(), -1, NOW) == []


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize(
    "query,index",
    [
        (Query(text="x"), "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (Query(text="x", states=(TransactionState.committed,)), "transactions_state (state=? AND"),
        (Query(text="x", attention=("halted",)), "transactions_attention"),
    ],
)
def test_a_search_reads_one_piece_in_order(store, query, index, newest_first):
    query = query._replace(newest_first=newest_first, agents=("a", "b"), looks_max=9)
    connection = store._database.connection()
    kind, looked_at, values, _ = listing._piece(connection, query)
    found = plan_of(store, statements.search(kind, looked_at, downwards=newest_first), values)
    assert index in found
    assert SORTS not in found
    bound = plan_of(store, statements.bound(kind, downwards=newest_first), values)
    assert "SCAN transactions\n" not in bound + "\n"


def test_a_tally_reads_indexes_and_no_lines(store):
    assert "COVERING INDEX transactions_state" in plan_of(store, statements.TALLY, ())
    reasons = plan_of(store, statements.TALLY_OF_REASONS, ())
    assert "USING COVERING INDEX transactions_attention" in reasons


def test_a_line_is_searched_no_more_often_than_it_changes(store):
    """What a transaction is searched by is written when it begins and where a step is added."""
    written: list[str] = []
    store._database.connection().set_trace_callback(written.append)
    begun = plan("t")
    store.append([begun])
    store.append([request("t", 2)])
    added = request("t", 3)
    summary = added.summary._replace(actions=("act", "more"))
    store.append([added._replace(summary=summary)])
    store.append([request("t", 4)._replace(summary=summary)])
    found = [one for one in written if "words = " in one]
    assert len(found) == 1
    assert "more" in found[0]
