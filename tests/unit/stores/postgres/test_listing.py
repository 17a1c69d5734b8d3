"""Lists stay fast however much is stored: what PostgreSQL plans for each statement."""

import itertools
import json
from contextlib import closing

import psycopg
import pytest
from psycopg._queries import PostgresQuery
from psycopg.adapt import Transformer

from aumai_transactions.models import TransactionState
from aumai_transactions.store import AppendAnswer, Query
from aumai_transactions.stores.postgres import PostgresStore, listing, writing
from aumai_transactions.stores.postgres.appending import Change, Head
from aumai_transactions.stores.postgres.statements import directed, statement
from aumai_transactions.testing.journals import act, claim, plan

MANY = 30_000
PAGE = 100
NUMBERS = itertools.count()
# Nine of ten have committed, one of fifty needs a person, three of a hundred are in flight.
FILL = b"""
INSERT INTO transactions (
    transaction_id, sequence, head_hash, token, change, created_at, updated_at, purgeable_at,
    due_at, steps, completed, runnable, state, driver_id, attention, timeout_seconds, agents
)
SELECT 'trip-' || lpad(i::text, 8, '0'), 4, 'x', 1, 1, i, i,
    CASE WHEN i % 10 > 0 AND i % 50 <> 1 THEN i END, CASE WHEN i % 100 = 30 THEN i END, 3, 3,
    i % 100 IN (10, 20, 30),
    CASE WHEN i % 100 IN (10, 20, 30) THEN 'active' WHEN i % 10 = 0 THEN 'pending'
        ELSE 'committed' END,
    CASE WHEN i % 100 = 20 THEN 'driver-' || i % 7 END,
    CASE WHEN i % 50 = 1 THEN 'outstanding' END, 60, '[]'
FROM generate_series(1, MANY) AS i
"""
COMMITTED = TransactionState.committed
VALUES = {
    "tenants": ["", "a"],
    "agents": None,
    "after": "",
    "ordinals": [1, 2, 3],
    "driver_id": "driver-1",
    "holders": ["driver-1", "driver-2"],
    "limit": PAGE,
    "now": MANY,
    "seconds": 60,
    "before": MANY // 2,
    "id": "trip-00000007",
    "ids": ["trip-00000007", "trip-00000009"],
    "ordinal": 7,
    "first": 0,
    "last": 4,
}


@pytest.fixture(scope="module")
def filled(postgres16):
    """A store in which there is much; nothing of these tests changes it."""
    with closing(PostgresStore(postgres16.store())) as opened:
        fill = FILL.replace(b"MANY", str(MANY).encode())
        opened._pool.run(lambda lent: lent.read(fill))
        opened._pool.run(lambda lent: lent.read(b"ANALYZE transactions"))
        yield opened


def plan_of(store, text, values):
    """Return the nodes of the plan that a session keeps, as it was really carried out."""

    def work(lent):
        prepared = PostgresQuery(Transformer(lent.connection))
        prepared.convert(text, values)
        arguments = [values[name] for name in prepared._order or ()]
        marks = "(" + ", ".join(["%s"] * len(arguments)) + ")" if arguments else ""
        name = f"probe_{next(NUMBERS)}"
        lent.read(b"BEGIN")
        lent.read(f"PREPARE {name} AS ".encode() + prepared.query)
        with psycopg.ClientCursor(lent.connection) as cursor:
            execute = f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE {name} {marks}"
            rows = cursor.execute(execute.encode(), arguments).fetchall()
        lent.read(b"ROLLBACK")
        return rows

    [(found,)] = store._pool.run(work)
    found = json.loads(found) if isinstance(found, str) else found

    def nodes(node):
        yield node
        for child in node.get("Plans", ()):
            yield from nodes(child)

    return list(nodes(found[0]["Plan"]))


def check(nodes, rows_max):
    """No node goes through the table, and none touches or sorts more rows than a few pages."""
    for node in nodes:
        rows = node["Actual Rows"] * node["Actual Loops"]
        removed = node.get("Rows Removed by Filter", 0) * node["Actual Loops"]
        assert node["Node Type"] != "Seq Scan" or rows + removed <= PAGE, node
        assert rows + removed <= rows_max, node


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize(
    "query",
    [
        Query(),
        Query(after=MANY // 2),
        Query(states=(COMMITTED,)),
        Query(states=(TransactionState.active, COMMITTED)),
        Query(states=(TransactionState.rolled_back,)),
        Query(attention=True),
        Query(prefix="trip-0000001"),
        Query(prefix="trip-00000017"),
        Query(prefix="trip-"),
        Query(prefix="nothing"),
        Query(prefix="trip-0000001", states=(COMMITTED,)),
    ],
    ids=str,
)
def test_a_page_of_a_list_touches_no_more_than_a_few_pages(filled, query, newest_first):
    values = listing._values(query)
    if query.attention:
        name = "find_attention"
    elif query.prefix and query.prefix != "trip-":
        name = "find_narrow"
    else:
        name = "find_states" if query.states else "find_every"
    check(plan_of(filled, directed(name, downwards=newest_first), values), 4 * PAGE)
    assert len(filled.find(query._replace(newest_first=newest_first))) <= PAGE


@pytest.mark.parametrize(
    "name",
    [
        "due",
        "reservable",
        "reserve",
        "tenants",
        "holders",
        "journal",
        "heads",
        "bodies",
        "purge",
        "probe_prefix",
    ],
)
def test_what_drivers_ask_touches_no_more_than_a_few_pages(filled, name):
    values = {**listing._values(Query(prefix="trip-0000001")), **VALUES}
    check(plan_of(filled, statement(name), values), 6 * PAGE)


@pytest.mark.parametrize("many", [1, 3, 64])
def test_an_append_touches_the_rows_that_it_changes(filled, many):
    summary = plan("t").summary
    changes = []
    for ordinal in range(1, many + 1):
        was = Head(ordinal, 4, b"x", 1, None)
        head = was._replace(sequence=5, hash=b"y")
        name = f"trip-{ordinal:08}"
        changes.append(Change(name, was, head, summary, [b"{}"], [b"y"]))
    new = Change("new", Head(), Head(None, 1, b"y", 0, None), summary, [b"{}"], [b"y"])
    check(plan_of(filled, statement("append_one"), writing._values(changes[0])), 2)
    nodes = plan_of(filled, statement("append_many"), writing._columns([*changes, new]))
    check(nodes, 2 * (many + 1))


def test_what_needs_a_person_is_counted_by_its_index(filled):
    nodes = plan_of(filled, statement("count_attention"), listing._values(Query(attention=True)))
    check(nodes, MANY // 50)
    assert filled.count(Query(attention=True)) == MANY // 50


def test_states_are_counted_in_an_index_alone(filled):
    filled._pool.run(lambda lent: lent.read(b"VACUUM (INDEX_CLEANUP ON) transactions"))
    query = Query(states=(TransactionState.pending, COMMITTED))
    nodes = plan_of(filled, statement("count_states"), listing._values(query))
    [scan] = [
        node for node in nodes if "Scan" in node["Node Type"] and "Index" in node["Node Type"]
    ]
    # Why not how many rows it fetches: that is a matter of what VACUUM was allowed to clean up.
    assert (scan["Node Type"], scan["Index Name"]) == ("Index Only Scan", "transactions_state")
    assert filled.count(query) == MANY - 3 * MANY // 100


def test_an_append_of_one_who_drives_rewrites_no_index(store, database):
    """A HOT update: no column that is in an index, or chooses its rows, has changed."""
    count = (
        b"SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables "
        b"WHERE relid = 'transactions'::regclass"
    )
    driver = store.join()
    store.append([plan("t"), claim("t", 2, 1, driver)])
    for sequence in range(3, 23):
        assert store.append([act("t", sequence, 1)]) == [AppendAnswer.appended]
    # Of the session that has appended: there is one, for one thread has used the handle.
    store._pool.run(lambda lent: lent.read(b"SELECT pg_stat_force_next_flush()"))
    store._pool.run(lambda lent: lent.read(b"SELECT 1"))
    updates, hot = database.execute(count).fetchone()
    assert updates == 20
    assert hot >= 18
