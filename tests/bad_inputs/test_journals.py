"""Rows 60 to 65: a store whose rows, or whose bytes, were changed behind its back.

What is looked at is what a person sees: `verify` names transaction and entry, the transaction
stops, every other one goes on, and nothing is repaired in silence.
"""

import contextlib
import io
import json
import sqlite3

import pytest

from aumai_transactions import StoreError, TransactionManager
from aumai_transactions.cli import main
from aumai_transactions.core.journal import NO_HASH, chain_hash

HANDLERS = {"do": lambda action, data: {"did": 1}, "undo": lambda action, data: None}


@pytest.fixture
def two(here):
    """A store with two finished transactions, and one that is pending; their ids."""
    names = []
    with TransactionManager(HANDLERS, store=here / "s.db") as manager:
        for _ in range(2):
            tx = manager.begin()
            manager.add_step(tx, "agent", "do", {"n": 1}, "undo")
            manager.commit(tx)
            names.append(tx.transaction_id)
        tx = manager.begin()
        manager.add_step(tx, "agent", "do", {}, "undo")
        manager.save(tx)
    return [*names, tx.transaction_id]


def execute(here, *statements):
    connection = sqlite3.connect(here / "s.db", isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


@pytest.fixture
def tell(here):
    """Run `verify` or the like, whose finding is its result; return all that it says."""

    def run(*words, code):
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as left,
        ):
            main(["--store", "s.db", *words])
        told = out.getvalue() + err.getvalue()
        assert (left.value.code or 0) == code, told
        assert "bug in" not in told
        assert "Traceback" not in told
        return told

    return run


@pytest.fixture
def stops_alone(cli, tell, unchanged, two):
    """Check that the first transaction is named and stopped, and that no other one is."""

    def check(*named):
        bad, good, pending = two
        with unchanged():
            told = tell("verify", bad, code=1)
            for text in (bad, *named):
                assert text in told
            cli("--store", "s.db", "show", bad, code=1, named=[bad])
            assert "intact" in tell("verify", good, code=0)
            assert tell("show", good, code=0)
        told = tell("verify", code=1)
        assert bad in told
        assert good not in told
        cli("--store", "s.db", "rollback", bad, code=1, named=[bad])
        with TransactionManager(HANDLERS, store="s.db") as manager:
            assert manager.commit(manager.get_transaction(pending)).state.value == "committed"

    return check


OF_FIRST = "WHERE transaction_ordinal = 1"
SWAP = (
    f"UPDATE entries SET sequence = -sequence {OF_FIRST} AND sequence IN (3, 4)",  # noqa: S608
    f"UPDATE entries SET sequence = 7 + sequence {OF_FIRST} AND sequence < 0",  # noqa: S608
)
STEAL = (
    "DELETE FROM entries WHERE transaction_ordinal = 1",
    (
        "INSERT INTO entries SELECT 1, sequence, body, hash FROM entries "
        "WHERE transaction_ordinal = 2"
    ),
    (
        "UPDATE transactions SET head_hash = (SELECT head_hash FROM transactions "
        "WHERE ordinal = 2) WHERE ordinal = 1"
    ),
)


@pytest.mark.parametrize(
    "statements,named",
    [
        pytest.param(["UPDATE entries SET hash = zeroblob(32) {} AND sequence = 2"],
                     ["entry 2", "hash"], id="row 60 another hash"),
        pytest.param(["UPDATE entries SET body = CAST('{{}}' AS BLOB) {} AND sequence = 4"],
                     ["entry 4", "hash"], id="row 60 another body"),
        pytest.param(["DELETE FROM entries {} AND sequence = 3"],
                     ["entry 3", "expected entry 3, found 4"], id="row 61 a gap"),
        pytest.param(["DELETE FROM entries {} AND sequence > 3"],
                     ["the summary says", "found 3"], id="row 61 a cut tail"),
        pytest.param(["DELETE FROM entries {}"], ["found 0"], id="row 61 nothing left"),
        pytest.param(SWAP, ["entry 3", "hash"], id="row 61 two that changed places"),
        pytest.param(STEAL, ["entry 1", "hash"], id="row 61 the entries of another one"),
        pytest.param(["UPDATE entries SET body = zeroblob(50000000) {} AND sequence = 4"],
                     ["entry 4", "hash"], id="row 63 a body of 50 MB"),
        pytest.param(["UPDATE entries SET body = x'fffe00' {} AND sequence = 4"],
                     ["entry 4", "hash"], id="row 63 no text"),
    ],
)  # fmt: skip
def test_a_row_that_was_changed_is_named_and_stops_its_transaction(
    here, stops_alone, statements, named
):
    execute(here, *(statement.format(OF_FIRST) for statement in statements))
    stops_alone(*named)


def forge(here, change):
    """Write another journal for the first transaction, its chain and its summary sound."""
    connection = sqlite3.connect(here / "s.db", isolation_level=None)
    query = "SELECT body FROM entries WHERE transaction_ordinal = 1 ORDER BY sequence"
    bodies = [json.loads(row[0]) for row in connection.execute(query)]
    (name,) = connection.execute(
        "SELECT transaction_id FROM transactions WHERE ordinal = 1"
    ).fetchone()
    bodies = change(bodies)
    connection.execute("DELETE FROM entries WHERE transaction_ordinal = 1")
    before = NO_HASH
    for sequence, body in enumerate(bodies, 1):
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        before = chain_hash(name, sequence, before, text)
        values = (1, sequence, text, before)
        connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?)", values)
    head = (len(bodies), before)
    connection.execute(
        "UPDATE transactions SET sequence = ?, head_hash = ? WHERE ordinal = 1", head
    )
    connection.close()


def kinds(bodies):
    return [body["kind"] for body in bodies]


def entry(bodies, kind):
    return next(body for body in bodies if body["kind"] == kind)


def behind(kind, *more):
    """Put entries behind the first one of a kind."""

    def change(bodies):
        at = kinds(bodies).index(kind) + 1
        return [*bodies[:at], *(dict(one, at=1, v=1, id="x") for one in more), *bodies[at:]]

    return change


def without(kind):
    return lambda bodies: [body for body in bodies if body["kind"] != kind]


def with_field(of, /, **fields):
    def change(bodies):
        entry(bodies, of).update(fields)
        return bodies

    return change


def raw(kind, old, new):
    """Replace bytes in the first entry of a kind."""

    def change(bodies):
        at = kinds(bodies).index(kind)
        bodies[at] = json.dumps(bodies[at]).encode().replace(old, new)
        return bodies

    return change


LAST = {"kind": "transaction_committed"}
STARTED = {"kind": "step_started", "step_id": "s1", "attempt": 1}


@pytest.mark.parametrize(
    "change,told",
    [
        pytest.param(lambda b: [*b, dict(b[-1])], ["at entry 8"], id="row 62 two ends"),
        pytest.param(
            lambda b: [*b, {**b[0], **STARTED, "definition": None}],
            [],
            id="row 62 an act behind the end",
        ),
        pytest.param(behind("transaction_activated", LAST), [], id="row 62 an end too early"),
        pytest.param(without("step_started"), ["does not run"], id="row 62 success without intent"),
        pytest.param(without("plan_recorded"), ["entry 1"], id="row 62 no plan"),
        pytest.param(behind("step_started", STARTED), [], id="row 62 two intents"),
        pytest.param(
            behind("step_succeeded", {"kind": "rollback_started", "reason": "requested"},
                   {**STARTED, "attempt": 2}),
            [],
            id="row 62 forward after back",
        ),
        pytest.param(
            behind("step_succeeded", {"kind": "claimed", "token": 0, "driver_id": "d"}),
            ["token"],
            id="row 62 a token that goes back",
        ),
        pytest.param(with_field("step_started", step_id="s9"), ["s9"], id="row 62 unknown step"),
        pytest.param(
            with_field("step_succeeded", attempt=2), [], id="row 62 another attempt's success"
        ),
        pytest.param(
            with_field("step_started", kind="step_teleported"),
            ["newer release", "step_teleported"],
            id="row 62 unknown kind",
        ),
        pytest.param(with_field("step_started", v=2), ["version 2"], id="row 62 version 2"),
        pytest.param(
            with_field("step_started", colour="red"), ["newer", "colour"], id="row 62 a new field"
        ),
        pytest.param(with_field("step_started", at="x"), ["at:"], id="row 63 a text for a time"),
        pytest.param(with_field("step_started", step_id=None), ["step_id"], id="row 63 null"),
        pytest.param(
            with_field("step_succeeded", output=float("nan")), ["NaN"], id="row 63 NaN in a body"
        ),
        pytest.param(
            raw("step_succeeded", b'{"did": 1}', b"1e999"), ["too large"], id="row 63 1e999"
        ),
        pytest.param(
            raw("step_succeeded", b'{"did": 1}', b'"\\ud800"'), ["surrogate"], id="row 63 surrogate"
        ),
        pytest.param(
            raw("step_succeeded", b'{"did": 1}', b'"\xff"'), ["not JSON"], id="row 63 not UTF-8"
        ),
        pytest.param(
            raw("step_succeeded", b'{"did": 1}', b"[" * 500 + b"]" * 500),
            ["128 deep"],
            id="row 63 depth 500",
        ),
        pytest.param(
            raw("step_succeeded", b'{"did": 1}', b"[" * 100_000), ["not JSON"], id="row 63 brackets"
        ),
        pytest.param(
            raw("step_succeeded", b'{"did": 1}', b"9" * 5_000), ["not JSON"], id="row 63 digits"
        ),
        pytest.param(lambda b: [b"", *b[1:]], ["not JSON"], id="row 63 an empty body"),
        pytest.param(lambda b: [b"[]", *b[1:]], ["not an object"], id="row 63 a list"),
    ],
)  # fmt: skip
def test_a_journal_that_cannot_have_happened_is_refused_though_its_chain_is_sound(
    here, stops_alone, change, told
):
    forge(here, change)
    stops_alone(*told)


def loosen(here, *statements):
    """Write into columns what their types do not allow, as a damaged page may hold."""
    connection = sqlite3.connect(here / "s.db", isolation_level=None)
    connection.execute("PRAGMA writable_schema = ON")
    schema = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'")
    tables = schema.fetchall()
    connection.execute(
        "UPDATE sqlite_schema SET sql = replace(replace(sql, ' NOT NULL', ''), ' STRICT', '') "
        "WHERE name IN ('entries', 'transactions')"
    )
    connection.execute("PRAGMA writable_schema = RESET")
    for statement in statements:
        connection.execute(statement)
    connection.execute("PRAGMA writable_schema = ON")
    for name, sql in tables:
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (sql, name))
    connection.execute("PRAGMA writable_schema = RESET")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("UPDATE entries SET body = NULL ", id="row 63 body NULL"),
        pytest.param("UPDATE entries SET body = 'text' ", id="row 63 body text"),
        pytest.param("UPDATE entries SET body = 7 ", id="row 63 body a number"),
        pytest.param("UPDATE entries SET hash = NULL ", id="row 63 hash NULL"),
        pytest.param("UPDATE entries SET hash = 'text' ", id="row 63 hash text"),
        pytest.param("UPDATE transactions SET sequence = 'x' ", id="row 63 sequence text"),
        pytest.param("UPDATE transactions SET head_hash = NULL ", id="row 63 head NULL"),
        pytest.param("UPDATE transactions SET token = 'x' ", id="row 63 token text"),
        pytest.param("UPDATE transactions SET created_at = 'x' ", id="row 63 time text"),
    ],
)
def test_a_column_of_another_type_is_damage_and_no_bug(here, tell, two, statement):
    where = OF_FIRST + " AND sequence = 2" if "entries" in statement else "WHERE ordinal = 1"
    loosen(here, statement + where)
    for words in (["verify"], ["list"], ["show", two[0]], ["recover"], ["outstanding"]):
        with contextlib.suppress(AssertionError):
            tell(*words, code=0)
            continue
        told = tell(*words, code=1 if words != ["recover"] else 4)
        assert two[0] in told
    assert "intact" in tell("verify", two[1], code=0)


TOLD = ("state", "outputs", "completed_steps", "failed_step", "outstanding")


@pytest.mark.parametrize("place", range(0, 4_096, 512), ids=lambda place: f"row 65 byte {place}")
def test_a_flipped_bit_in_a_page_is_found_or_changes_nothing(here, tell, two, place):
    """In every page of the file, at one offset: never a bug, never another story."""
    path = here / "s.db"
    sound = path.read_bytes()
    stories = {name: json.loads(tell("--json", "show", name, code=0))["result"] for name in two}
    for page in range(len(sound) // 4_096):
        content = bytearray(sound)
        content[page * 4_096 + place] ^= 1
        path.write_bytes(content)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        for name in two:
            with contextlib.suppress(StoreError), TransactionManager(store=path) as manager:
                found = json.loads(manager.get_result(name).model_dump_json())
                assert {key: found[key] for key in TOLD} == {
                    key: stories[name][key] for key in TOLD
                }


def test_row_65_a_header_that_was_overwritten_is_no_store(cli, here, unchanged, two):
    content = bytearray((here / "s.db").read_bytes())
    content[:100] = b"\0" * 100
    (here / "s.db").write_bytes(content)
    with unchanged():
        cli("--store", "s.db", "list", code=1, named=["not a store", "Nothing was changed"])


def test_row_64_a_plan_whose_handlers_are_not_here_is_left_alone(here, tell):
    with TransactionManager({"do": lambda action, data: None}, store=here / "s.db") as manager:
        tx = manager.begin()
        manager.add_step(tx, "agent", "do", {})
        manager.submit(tx)
    told = tell("recover", "--wait-max", "0", code=5)
    assert "parked" in told
    assert "do" in told
    assert json.loads(tell("status", tx.transaction_id, code=0))["state"] == "pending"
