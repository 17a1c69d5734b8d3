"""Damage to a store, of every kind: named, with the transaction, or everything is as before.

The exhaustive run is `pytest -m deep tests/faults/test_damage.py`; AUMAI_FLIP_BITS says how many
bits of each byte are tried there, 1 to 8, and AUMAI_FLIP_SEED which come first.
"""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, nullcontext

import psycopg
import pytest
from tests.faults.damage import Image, Judge, WronglyBelieved, made, named, seen, verified
from tests.reliability.share import some

from aumai_transactions import TransactionManager
from aumai_transactions.core.journal import NO_HASH, chain_hash
from aumai_transactions.errors import StoreError, StoreFormatError
from aumai_transactions.models import TransactionState
from aumai_transactions.stores.sqlite import SqliteStore

FLIPS = 150
SEED = int(os.environ.get("AUMAI_FLIP_SEED", "1"))
BITS = int(os.environ.get("AUMAI_FLIP_BITS", "1"))
COMPACT = 1024
FRAME_HEADER = 24
LOG_HEADER = 32
PARTS = [("checkpointed", "main"), ("logged", "main"), ("logged", "log")]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Stores that killed processes have left, by kind and size of page; made when asked for."""
    folder = tmp_path_factory.mktemp("images")
    known: dict[tuple[str, int], Image] = {}

    def get(kind: str, page_bytes: int = 4096) -> Image:
        if (kind, page_bytes) not in known:
            known[kind, page_bytes] = made(folder, kind, page_bytes)
        return known[kind, page_bytes]

    return get


@pytest.fixture
def path(memory_folder):
    return memory_folder / "store.db"


# ---------------------------------------------------------------------------------- flipped bits


def classes(kind: str, part: str, image: Image) -> list[range]:
    """The kinds of places in a file, each of which is tried by itself."""
    text = getattr(image, part)
    if part == "log":
        frame = FRAME_HEADER + 4096
        frames = range(LOG_HEADER, len(text) - frame + 1, frame)
        last = frames[-1]
        return [
            range(LOG_HEADER),
            *(range(at, at + FRAME_HEADER) for at in (frames[0], frames[len(frames) // 2], last)),
            range(LOG_HEADER, len(text)),
            range(last, len(text)),
        ]
    pages = [range(at, at + 4096) for at in range(0, len(text), 4096)]
    heads = [range(page.start, page.start + 16) for page in pages]
    return [range(100), *heads, *pages]


@pytest.mark.parametrize("kind,part", PARTS)
def test_after_a_flipped_bit_all_reads_as_before_or_is_named(
    images, kind, part, memory_folder, record_property
):
    image = images(kind)
    judge = Judge(image, memory_folder)
    dice = random.Random(SEED)
    places = classes(kind, part, image)
    for number in range(FLIPS):
        place = places[number % len(places)]
        position, bit = dice.choice(place), dice.randrange(8)
        what = f"seed {SEED}: {kind}, {part} byte {position} bit {bit}"
        judge.judge(image.flipped(part, position, bit), what)
    record_property("flips", dict(judge.counted))
    # It reaches both: what nobody uses, and what somebody does.
    # Why fewer there: of most pages of a store whose log is full, nobody reads the older text.
    is_behind_log = (kind, part) == ("logged", "main")
    assert judge.counted["named"] > (0 if is_behind_log else FLIPS / 20)
    assert judge.counted["unchanged"] > 0 or part == "log"


@pytest.mark.parametrize("part", ["main", "log"])
def test_a_flip_that_nobody_would_name_is_found_by_the_law(images, part, memory_folder):
    """The judge itself: a store whose text was changed soundly is not believed to be as before."""
    image = images("logged")
    judge = Judge(image, memory_folder)
    other = memory_folder / "other.db"
    image.write(other)
    with TransactionManager({"book": lambda name, data: None}, store=str(other)) as manager:
        manager.commit(manager.begin())
    with pytest.raises(WronglyBelieved, match="lines was"):
        judge.judge(Image(other.read_bytes(), b""), part)


@pytest.mark.deep
@pytest.mark.parametrize("place", PARTS, ids="-".join)
@pytest.mark.parametrize("eighth", range(8))
def test_every_byte_of_a_small_store(images, place, eighth, memory_folder, figures):
    kind, part = place
    image = images(kind, COMPACT)
    judge = Judge(image, memory_folder)
    text = getattr(image, part)
    wrong = []
    for position in list(some(range(len(text))))[eighth::8]:
        dice = random.Random(SEED * 1_000_003 + position)
        for bit in dice.sample(range(8), BITS):
            what = f"{kind}, {part} byte {position} bit {bit}"
            try:
                judge.judge(image.flipped(part, position, bit), what)
            except WronglyBelieved as error:
                wrong.append(str(error))
    assert wrong == []
    counts = {"flips": judge.counted.total(), **judge.counted}
    figures("flipped bits", **counts, wrongly_believed=0)


# ------------------------------------------------------------------------------- whole files


def test_a_page_of_zeros_is_named(images, path):
    image = images("checkpointed")
    for page in range(1, len(image.main) // 4096):
        text = bytearray(image.main)
        text[page * 4096 : (page + 1) * 4096] = bytes(4096)
        Image(bytes(text), b"").write(path)
        assert named(path) != []


@pytest.mark.parametrize("header", [bytes(100), b"#!/bin/sh\n" + bytes(90), b"SQLite format 2\0"])
def test_an_overwritten_header_says_that_it_is_no_store_and_what_to_do(images, path, header):
    image = images("checkpointed")
    text = header + image.main[len(header) :]
    Image(text, b"").write(path)
    with pytest.raises(StoreFormatError, match="damaged"):
        verified(path)
    assert path.read_bytes() == text


@pytest.mark.parametrize("size", [0, 1, 100, 4095, 4096, 3 * 4096, -1, -4096])
def test_a_file_that_was_cut_is_named(images, path, size):
    image = images("checkpointed")
    Image(image.main[:size], b"").write(path)
    assert named(path) != []


def witnessed(image, folder):
    """A witness of a store, kept elsewhere, as it stood in full."""
    place, witness = folder / "witnessed.db", folder / "witness"
    image.write(place)
    with TransactionManager(store=str(place)) as manager:
        manager.write_witness(witness)
    return witness


def told(path, witness):
    with TransactionManager(store=str(path)) as manager:
        return manager.verify(witness=witness)


@pytest.mark.parametrize("rest", [0, LOG_HEADER, 5_000, 120_000, -1, -4_120])
def test_a_log_that_is_missing_or_cut_is_found_by_the_witness(images, path, tmp_path, rest):
    image = images("logged")
    witness = witnessed(image, tmp_path)
    Image(image.main, image.log[:rest]).write(path)
    found = told(path, witness)
    assert not found.is_intact
    assert found.problems, "the transactions are named"
    assert all(name in text for name, text in found.problems.items())


def test_a_whole_log_fits_the_witness(images, path, tmp_path):
    image = images("logged")
    witness = witnessed(image, tmp_path)
    image.write(path)
    assert told(path, witness).is_intact


def test_an_older_copy_of_a_store_is_found_by_the_witness_alone(images, path, tmp_path):
    image = images("checkpointed")
    image.write(path)
    older = tmp_path / "older.db"
    shutil.copyfile(path, older)
    with TransactionManager({"book": lambda name, data: None}, store=str(path)) as manager:
        tx = manager.begin()
        manager.add_step(tx, "agent", "book", {"seat": 9})
        manager.commit(tx)
        manager.write_witness(tmp_path / "witness")
    shutil.copyfile(older, path)
    assert verified(path) == []
    found = told(path, tmp_path / "witness")
    assert list(found.problems) == [tx.transaction_id]
    assert "older copy" in found.store_problems[0]


def test_another_store_in_its_place_is_found_by_the_witness(images, path, tmp_path):
    witness = witnessed(images("checkpointed"), tmp_path)
    with TransactionManager(store=str(path)) as manager:
        manager.save(manager.begin())
    found = told(path, witness)
    assert "another" in found.store_problems[0]
    assert found.problems


def test_two_stores_whose_files_were_swapped_are_refused_while_one_is_in_use(images, path):
    images("checkpointed").write(path)
    other = path.with_name("other.db")
    with TransactionManager(store=str(other)) as manager:
        manager.save(manager.begin())
    with SqliteStore(path, create=False) as store:
        saved = path.with_name("saved.db")
        path.rename(saved)
        other.rename(path)
        with pytest.raises(StoreError, match="replaced"):
            store.purge(2**62, 10)


def test_a_main_file_over_which_an_older_one_was_copied_is_never_believed(images, path):
    """The log is of the newer file, and belongs to the same store by its id."""
    older, newer = images("logged"), images("logged")
    text = bytearray(newer.main)
    # An older state of one page, as a copy of a part of the file would leave it.
    text[4096 : 2 * 4096] = bytes(4096)
    Image(bytes(text), older.log).write(path)
    judge_me = path.with_name("before.db")
    newer.write(judge_me)
    before = seen(judge_me)
    assert named(path) != [] or seen(path) == before


# -------------------------------------------------------------------------------- edited rows

EDITS = {
    "a body": ("UPDATE entries SET body = hash WHERE {one} AND sequence = 4", 4),
    "a hash": ("UPDATE entries SET hash = body WHERE {one} AND sequence = 4", 4),
    "one removed": ("DELETE FROM entries WHERE {one} AND sequence = 4", 4),
    "the last removed": ("DELETE FROM entries WHERE {one} AND sequence = 7", 7),
    "two swapped": (
        """
        UPDATE entries SET sequence = CASE sequence WHEN 4 THEN 1005 ELSE 1004 END
        WHERE {one} AND sequence IN (4, 5);
        UPDATE entries SET sequence = sequence - 1000 WHERE sequence > 1000
        """,
        4,
    ),
    "one twice": (
        """
        UPDATE entries SET sequence = sequence + 1000 WHERE {one} AND sequence > 4;
        UPDATE entries SET sequence = sequence - 999 WHERE sequence > 1000;
        INSERT INTO entries SELECT transaction_ordinal, 5, body, hash FROM entries
        WHERE {one} AND sequence = 4
        """,
        5,
    ),
    "one more": (
        """
        INSERT INTO entries SELECT transaction_ordinal, 8, body, hash FROM entries
        WHERE {one} AND sequence = 7
        """,
        8,
    ),
    "all removed": ("DELETE FROM entries WHERE {one}", 1),
}
BESIDE = {
    "state": "'rolled_back'",
    "sequence": "6",
    "token": "9",
    "created_at": "5",
    "updated_at": "5",
    "steps": "2",
    "completed": "0",
    "timeout_seconds": "61",
    "agents": "'[\"x\"]'",
    "name": "'other'",
    "tenant": "'other'",
    "due_at": "5",
    "attention": "'halted'",
    "driver_id": "'nobody'",
    "next_agent": "'other'",
}


class Edited:
    """A store with two transactions, and a way to write into its tables past everybody."""

    def __init__(self, url, edit):
        self.url = url
        self.edit = edit
        with TransactionManager(self.handlers, store=url) as manager:
            self.names = []
            for _ in range(2):
                tx = manager.begin()
                manager.add_step(tx, "agent", "book", {}, "cancel")
                assert manager.commit(tx).state is TransactionState.committed
                self.names.append(tx.transaction_id)

    handlers = {"book": lambda name, data: 1, "cancel": lambda name, data: None}  # noqa: RUF012

    def verified(self):
        with TransactionManager(self.handlers, store=self.url) as manager:
            return manager.verify()

    def others_go_on(self):
        with TransactionManager(self.handlers, store=self.url) as manager:
            assert manager.get_result(self.names[1]).state is TransactionState.committed
            assert len(manager.find()) == 2
            tx = manager.begin()
            manager.add_step(tx, "agent", "book", {})
            assert manager.commit(tx).state is TransactionState.committed


@pytest.fixture(params=["sqlite", "postgres"])
def edited(request, tmp_path):
    if request.param == "sqlite":
        path = tmp_path / "edited.db"

        def edit(script):
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.executescript(script)

        return Edited(str(path), edit)
    server = request.getfixturevalue("postgres16")
    url = server.store()

    def edit_there(script):
        schema = url.rpartition("=")[2]
        options = f"-c search_path={schema}"
        with psycopg.connect(server.url, options=options, autocommit=True) as connection:
            connection.execute(script)

    return Edited(url, edit_there)


ONE = "transaction_ordinal = (SELECT min(ordinal) FROM transactions)"


@pytest.mark.parametrize("case", EDITS)
def test_an_edited_journal_is_named_with_its_entry_and_no_other(edited, case):
    script, entry = EDITS[case]
    edited.edit(script.format(one=ONE))
    found = edited.verified()
    assert list(found.problems) == [edited.names[0]]
    assert f"at entry {entry}:" in found.problems[edited.names[0]]
    edited.others_go_on()


@pytest.mark.parametrize("column", BESIDE)
def test_an_edited_summary_is_named_with_its_field_and_no_other(edited, column):
    edited.edit(
        f"UPDATE transactions SET {column} = {BESIDE[column]}"  # noqa: S608 (constants)
        " WHERE ordinal = (SELECT min(ordinal) FROM transactions)"
    )
    found = edited.verified()
    assert list(found.problems) == [edited.names[0]]
    word = {"driver_id": "driver", "sequence": "summary says 6"}.get(column, column)
    assert word in found.problems[edited.names[0]]
    edited.others_go_on()


def test_a_head_that_was_removed_leaves_entries_that_are_named(edited):
    edited.edit("DELETE FROM transactions WHERE ordinal = (SELECT min(ordinal) FROM transactions)")
    found = edited.verified()
    assert "belong to no" in found.store_problems[0]
    assert found.problems == {}


def test_a_transaction_that_was_removed_whole_is_found_by_the_witness(edited, tmp_path):
    witness = tmp_path / "witness"
    with TransactionManager(store=edited.url) as manager:
        manager.write_witness(witness)
    edited.edit(
        f"DELETE FROM entries WHERE {ONE};"  # noqa: S608 (constants)
        "DELETE FROM transactions WHERE ordinal = (SELECT min(ordinal) FROM transactions)"
    )
    assert edited.verified().is_intact
    with TransactionManager(store=edited.url) as manager:
        found = manager.verify(witness=witness)
    assert list(found.problems) == [edited.names[0]]
    assert "is not there" in found.problems[edited.names[0]]


def test_a_chain_that_was_written_anew_is_found_by_the_witness(edited, tmp_path):
    """An attacker who computes every hash again, and the head as well."""
    witness = tmp_path / "witness"
    with TransactionManager(store=edited.url) as manager:
        manager.write_witness(witness)
        journal = manager._desk().store.read(edited.names[0])
        assert journal is not None
    before, script, values = NO_HASH, "", [""]
    for entry in journal.entries:
        body = entry.body.replace(b'"agent"', b'"egant"')
        before = chain_hash(edited.names[0], entry.sequence, before, body)
        values = [
            f"'\\x{item.hex()}'" if edited.url.startswith("p") else f"x'{item.hex()}'"
            for item in (body, before)
        ]
        script += (
            f"UPDATE entries SET body = {values[0]}, hash = {values[1]}"  # noqa: S608
            f" WHERE {ONE} AND sequence = {entry.sequence};"
        )
    script += (
        f"UPDATE transactions SET head_hash = {values[1]}, agents = '[\"egant\"]'"  # noqa: S608
        " WHERE ordinal = (SELECT min(ordinal) FROM transactions)"
    )
    edited.edit(script)
    assert edited.verified().is_intact
    with TransactionManager(store=edited.url) as manager:
        found = manager.verify(witness=witness)
    assert "has another hash" in found.problems[edited.names[0]]


def test_a_counter_of_sqlites_own_that_became_a_text_is_named(tmp_path):
    """The flip of byte 10,232, bit 2 of a small store: no table of SQLite's own is strict."""
    path = tmp_path / "counted.db"
    store = Edited(str(path), None)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE sqlite_sequence SET seq = 'two' WHERE name = 'transactions'")
    found = store.verified()
    assert found.problems == {}
    (problem,) = found.store_problems
    assert "the counter of transactions stands at 'two', and has been at 2" in problem


@pytest.mark.parametrize(
    "table,change",
    [
        ("resources", "token = 'two'"),
        ("resources", "version = x'00'"),
        ("locks", "token = 'two'"),
        ("locks", "cost = 0.5"),
        ("locks", "mode = 'exclusife'"),
    ],
)
def test_a_damaged_line_about_a_resource_is_named_and_decides_nothing(tmp_path, table, change):
    """The flip of byte 10,232, bit 2 of another small store; it was a TypeError of `verify`."""
    path = tmp_path / "locked.db"
    handlers = {"book": lambda name, data: 1, "cancel": lambda name, data: None}
    # Whoever holds it asks for no fence to let go of it.
    ends = pytest.raises(StoreFormatError, match="seat:7") if table == "locks" else nullcontext()
    with (
        TransactionManager(handlers, store=str(path)) as manager,
        ends,
        manager.transaction() as tx,
    ):
        tx.execute("agent", "book", {}, "cancel", resources=["seat:7"])
        unstrict(path, f"UPDATE {table} SET {change}")  # noqa: S608 (constants)
        with pytest.raises(StoreFormatError, match="nobody can know who has it"):
            manager.locks()
        other = manager.begin()
        manager.add_step(other, "agent", "book", {}, resources=["seat:7"])
        with pytest.raises(StoreFormatError, match="seat:7"):
            manager.commit(other, wait_max_seconds=0)
        found = manager.verify()
        named = [*found.store_problems, *found.problems.values()]
        assert any("the table of locks" in text and "'seat:7'" in text for text in named)


def unstrict(path, statement):
    """Write what STRICT would not let anybody write; a damaged record can say it all the same."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = replace(sql, 'STRICT, ', '')")
        connection.execute("UPDATE sqlite_schema SET sql = replace(sql, ' STRICT', '')")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


def test_a_column_of_another_type_is_named_and_never_a_traceback(tmp_path):
    """STRICT keeps it from being written; a damaged record can say it all the same."""
    path = tmp_path / "typed.db"
    store = Edited(str(path), None)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, ' STRICT', '') WHERE name = 'transactions'"
        )
        connection.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, 'STRICT, ', '') WHERE name = 'entries'"
        )
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE transactions SET name = x'00ff' WHERE ordinal = 1")
        connection.execute(f"UPDATE entries SET body = 7 WHERE {ONE} AND sequence = 3")  # noqa: S608
    found = store.verified()
    assert "at entry 3" in found.problems[store.names[0]]
    assert any("another transactions" in problem for problem in found.store_problems)
    ran = subprocess.run(
        [sys.executable, "-m", "aumai_transactions", "list", "--store", str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0
    assert "damaged" in ran.stdout
    store.others_go_on()
