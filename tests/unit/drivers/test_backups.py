"""A backup is whole or not there, says what the store said, and is believed in nothing."""

import contextvars
import hashlib
import itertools
import json
import sqlite3
import threading
from contextlib import closing

import pytest

from aumai_transactions import TransactionManager, restore
from aumai_transactions.core import backups as lines
from aumai_transactions.errors import BackupError, InvalidTransactionState, StoreError
from aumai_transactions.models import TransactionState
from aumai_transactions.store import Keeping, Query
from aumai_transactions.stores import open_store


class World:
    """What handlers have done."""

    def __init__(self):
        self.calls: list[str] = []
        self.handlers = {
            "book": self._book,
            "cancel": lambda name, data: self.calls.append(name),
            "refuse": self._refuse,
        }

    def _book(self, name, data):
        self.calls.append(f"{name} {data.get('seat')}")
        return {"seat": data.get("seat")}

    def _refuse(self, name, data):
        raise ValueError(data)


@pytest.fixture
def world():
    return World()


def planned(manager, *actions, **options):
    tx = manager.begin(**options)
    for seat, action in enumerate(actions):
        manager.add_step(tx, "agent", action, {"seat": seat}, "cancel")
    return tx


def filled(url, world):
    """A store with something ended, saved, submitted, open with a lock, and waiting for it."""
    manager = TransactionManager(world.handlers, store=url)
    names = {}
    names["committed"] = manager.commit(planned(manager, "book", name="trip")).transaction_id
    names["back"] = manager.commit(planned(manager, "book", "refuse")).transaction_id
    saved = planned(manager, "book", idempotency_key="order-7")
    names["saved"] = saved.transaction_id
    later = planned(manager, "book", metadata={"tenant": "acme"})
    manager.submit(later)
    names["later"] = later.transaction_id
    names["open"] = contextvars.copy_context().run(left_open, manager)
    waiting = manager.begin(lock_timeout_seconds=3_600)
    manager.add_step(waiting, "agent", "book", {"seat": 8}, "cancel", resources=["seat:7"])
    manager.commit(waiting, wait_max_seconds=0)
    names["waiting"] = waiting.transaction_id
    return manager, names


def left_open(manager):
    """Begin a transaction whose program is never heard of again."""
    tx = manager.transaction(on_crash="wait", resume_within_seconds=3_600).__enter__()
    tx.execute("agent", "book", {"seat": 7}, "cancel", resources=["seat:7"])
    return tx.transaction_id


HELD = ("saved", "later", "open", "waiting")


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def shown(url):
    """What a store holds, entry by entry and beside that, but for who drives."""
    with closing(open_store(url, create=False)) as store:
        found = store.find(Query(limit=100))
        return (
            [line.summary for line in found],
            {
                line.summary.transaction_id: store.read(line.summary.transaction_id)
                for line in found
            },
            [lock[:4] for lock in store.locks(None).locks],
            store.locks(None).fences,
        )


@pytest.fixture
def urls(tmp_path, request):
    """Names of stores that do not exist, of both kinds."""

    numbers = itertools.count()

    def make(kind):
        if kind == "sqlite":
            return str(tmp_path / f"{next(numbers)}.db")
        return request.getfixturevalue("postgres16").store()

    return make


@pytest.mark.parametrize("target", ["sqlite", "postgres"])
@pytest.mark.parametrize("source", ["sqlite", "postgres"])
def test_what_was_backed_up_is_there_again_in_either_kind_of_store(
    source, target, urls, world, tmp_path
):
    first, second = urls(source), urls(target)
    manager, names = filled(first, world)
    report = manager.back_up(tmp_path / "backup")
    before = shown(first)
    made = restore(tmp_path / "backup", second, by="ann", note="the disk died")
    assert (report.store_id, report.transactions) == (made.store_id, 6)
    assert report.entries == made.entries == sum(len(j.entries) for j in before[1].values())
    assert set(made.waiting) == {names[name] for name in HELD}
    assert report.damaged == made.damaged == {}
    after = shown(second)
    # In order of arrival; each journal as it was, and one more entry where it waits.
    assert [line.transaction_id for line in after[0]] == [line.transaction_id for line in before[0]]
    for name, journal in before[1].items():
        told = after[1][name].entries
        assert told[: len(journal.entries)] == journal.entries
        extra = [json.loads(entry.body)["kind"] for entry in told[len(journal.entries) :]]
        assert extra == (["restored_from_backup"] if name in made.waiting else [])
        assert after[1][name].token == journal.token
    assert after[2:] == before[2:]
    with TransactionManager(world.handlers, store=second) as again:
        assert again.verify().is_intact
        assert again.get_store_info().store_id == made.store_id
    manager.close()


@pytest.fixture
def restored(urls, world, tmp_path):
    """A manager of a restored store, and the names of its transactions."""
    manager, names = filled(urls("sqlite"), world)
    manager.back_up(tmp_path / "backup")
    manager.close()
    url = urls("sqlite")
    restore(tmp_path / "backup", url, by="ann", note="the disk died")
    world.calls.clear()
    with TransactionManager(world.handlers, store=url) as again:
        yield again, names


def test_nobody_acts_on_what_was_not_finished(restored, world):
    manager, names = restored
    assert manager.recover(wait_max_seconds=0) == []
    listed = {line.summary.transaction_id: line.summary for line in manager.find()}
    for name in HELD:
        result = manager.wait(names[name], timeout_seconds=0)
        assert result.waiting.reason == "restored"
        assert "restored by ann from a backup of" in result.warnings[-1]
        summary = listed[names[name]]
        assert (summary.attention, summary.runnable) == ("restored", False)
    with pytest.raises(InvalidTransactionState, match="recover --trust"):
        manager.commit(manager.get_transaction(names["saved"]))
    with pytest.raises(InvalidTransactionState, match="recover --trust"):
        manager.submit(manager.get_transaction(names["saved"]))
    with pytest.raises(InvalidTransactionState, match="recover --trust"):
        manager.resume(names["open"])
    again = manager.begin(idempotency_key="order-7")
    assert again.transaction_id == names["saved"]
    assert world.calls == []
    assert manager.get_result(names["committed"]).waiting is None


def test_a_person_lets_each_go_on_or_back(restored, world):
    manager, names = restored
    assert manager.trust(names["later"], by="ann", note="no booking").state == "committed"
    assert world.calls == ["book 0"]
    assert manager.rollback(names["open"]).state is TransactionState.rolled_back
    assert world.calls == ["book 0", "cancel"]
    manager.trust(names["waiting"], by="ann", wait_max_seconds=0)
    assert manager.wait(names["waiting"], timeout_seconds=30).state == "committed"
    kinds = [event.kind for event in manager.get_events(names["later"])]
    assert kinds.index("trust_given") == kinds.index("restored_from_backup") + 1
    assert manager.verify().is_intact


def test_a_program_goes_on_with_its_own_once_it_is_trusted(restored, world):
    manager, names = restored
    manager.trust(names["open"], by="ann", wait_max_seconds=0)
    with manager.resume(names["open"]) as tx:
        assert tx.execute("agent", "book", {"seat": 7}, "cancel", resources=["seat:7"]) == {
            "seat": 7
        }
    assert world.calls == []
    assert manager.get_result(names["open"]).state == "committed"


def test_a_restored_store_can_be_backed_up_and_restored_again(restored, world, tmp_path, urls):
    manager, names = restored
    manager.trust(names["later"], by="ann")
    manager.back_up(tmp_path / "second")
    made = restore(tmp_path / "second", urls("sqlite"))
    assert set(made.waiting) == {names[name] for name in HELD if name != "later"}


def test_a_backup_is_of_one_moment_while_others_write(urls, world, tmp_path):
    url = urls("sqlite")
    stop = threading.Event()

    def write(manager):
        while not stop.is_set():
            manager.commit(planned(manager, "book", "book"))

    with TransactionManager(world.handlers, store=url) as manager:
        manager.commit(planned(manager, "book"))
        writers = [threading.Thread(target=write, args=(manager,)) for _ in range(3)]
        for writer in writers:
            writer.start()
        try:
            reports = [manager.back_up(tmp_path / f"backup-{number}") for number in range(5)]
        finally:
            stop.set()
            for writer in writers:
                writer.join()
    for number, report in enumerate(reports):
        made = restore(tmp_path / f"backup-{number}", urls("sqlite"))
        assert (made.transactions, made.entries) == (report.transactions, report.entries)
    assert reports[-1].transactions >= reports[0].transactions >= 1


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_snapshot_shows_one_moment_whatever_is_written_meanwhile(kind, urls, world):
    with TransactionManager(world.handlers, store=urls(kind)) as manager:
        first = planned(manager, "book")
        manager.save(first)
        store = manager._desk().store
        assert isinstance(store, Keeping)
        with store.snapshot() as snapshot:
            before = snapshot.read(first.transaction_id)
            assert before is not None
            manager.commit(first)
            manager.commit(planned(manager, "book"))
            assert list(snapshot.names()) == [first.transaction_id]
            assert snapshot.read(first.transaction_id) == before
            assert [head.sequence for head in snapshot.heads()] == [len(before.entries)]
        with store.snapshot() as snapshot:
            assert len(list(snapshot.names())) == 2


def test_a_damaged_transaction_is_left_out_by_name_and_the_others_are_not(urls, world, tmp_path):
    url = urls("sqlite")
    manager, names = filled(url, world)
    manager.close()
    with closing(sqlite3.connect(url, isolation_level=None)) as connection:
        connection.execute(
            "UPDATE entries SET body = hash WHERE transaction_ordinal = 1 AND sequence = 2"
        )
    with TransactionManager(store=url) as again:
        report = again.back_up(tmp_path / "backup")
    assert list(report.damaged) == [names["committed"]]
    made = restore(tmp_path / "backup", urls("sqlite"))
    assert (made.damaged, made.transactions) == (report.damaged, 5)


def test_an_id_that_is_no_text_any_more_keeps_nobody_from_a_backup(urls, world, tmp_path):
    url = urls("sqlite")
    manager, names = filled(url, world)
    manager.close()
    with closing(sqlite3.connect(url, isolation_level=None)) as connection:
        connection.execute(
            "UPDATE transactions SET transaction_id = CAST(x'ff41' AS TEXT) WHERE ordinal = 1"
        )
    with TransactionManager(world.handlers, store=url) as again:
        found = again.verify()
        assert list(found.problems) == ["\\udcffA"]
        assert next(line.summary.attention for line in again.find()) == "damaged"
        assert again.get_result(names["back"]).state == "rolled_back"
        assert names["later"] in {item.transaction_id for item in again.recover(wait_max_seconds=0)}
        report = again.back_up(tmp_path / "backup")
    assert list(report.damaged) == ["\\udcffA"]
    assert restore(tmp_path / "backup", urls("sqlite")).transactions == 5


# --------------------------------------------------------------------------- places and names


def test_a_file_that_is_there_is_never_replaced(restored, tmp_path):
    manager, _ = restored
    before = (tmp_path / "backup").read_bytes()
    with pytest.raises(BackupError, match="replaces nothing"):
        manager.back_up(tmp_path / "backup")
    assert (tmp_path / "backup").read_bytes() == before


@pytest.mark.parametrize("name", ["no/such/folder/backup", "."])
def test_a_place_that_cannot_be_written_is_named(restored, tmp_path, name):
    with pytest.raises(BackupError, match=r"cannot be written|there already"):
        restored[0].back_up(tmp_path / name)


def test_a_backup_is_for_its_owner_and_leaves_nothing_beside_it(restored, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    left = folder / ".0123.unfinished-backup"
    left.write_text("somebody was killed here")
    restored[0].back_up(folder / "backup")
    assert names_in(folder) == ["backup"]
    assert (folder / "backup").stat().st_mode & 0o777 == 0o600


def test_a_store_in_memory_has_no_backup(tmp_path):
    with TransactionManager() as manager, pytest.raises(BackupError, match="in memory"):
        manager.back_up(tmp_path / "backup")
    with pytest.raises(BackupError):
        restore(tmp_path / "backup", "memory:")


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_a_place_with_anything_of_a_store_is_refused_and_stays(restored, tmp_path, suffix):
    there = tmp_path / f"there.db{suffix}"
    there.write_bytes(b"something")
    with pytest.raises(StoreError, match="new place"):
        restore(tmp_path / "backup", tmp_path / "there.db")
    assert there.read_bytes() == b"something"
    assert [name for name in names_in(tmp_path) if "there" in name] == [there.name]


def test_a_database_with_a_store_is_refused_and_stays(restored, tmp_path, urls, world):
    url = urls("postgres")
    with TransactionManager(world.handlers, store=url) as manager:
        name = manager.commit(planned(manager, "book")).transaction_id
        with pytest.raises(StoreError, match="new place"):
            restore(tmp_path / "backup", url)
        assert [line.summary.transaction_id for line in manager.find()] == [name]


# --------------------------------------------------------------------------------- hostile files


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The lines of a backup."""
    folder = tmp_path_factory.mktemp("good")
    manager, _ = filled(str(folder / "good.db"), World())
    manager.back_up(folder / "backup")
    manager.close()
    return (folder / "backup").read_bytes().splitlines(keepends=True)


def sealed(made):
    """A file whose last line fits what stands above it, as an attacker would write it."""
    head, body = made[0], made[1:-1]
    end = json.loads(made[-1])
    text = b"".join([head, *body])
    end["sha256"] = hashlib.sha256(text).hexdigest()
    return [head, *body, json.dumps(end).encode() + b"\n"]


def changed(made, number, **fields):
    line = json.loads(made[number]) | fields
    return [*made[:number], json.dumps(line).encode() + b"\n", *made[number + 1 :]]


LINE_MAX = lines.LINE_BYTES_MAX

HOSTILE = {
    "empty": lambda made: [],
    "text": lambda made: [b"Dear restorer\n"],
    "sqlite": lambda made: [b"SQLite format 3\0" + bytes(4_000)],
    "deep": lambda made: [b"[" * 1_000_000 + b"\n"],
    "digits": lambda made: [b'{"backup":' + b"1" * 10_000 + b"}\n"],
    "newer": lambda made: changed(made, 0, backup=2),
    "no store id": lambda made: changed(made, 0, store_id=None),
    "a path as id": lambda made: changed(made, 0, store_id="\0../../etc"),
    "negative": lambda made: sealed(changed(made, 0, changes=-1)),
    "huge": lambda made: sealed(changed(made, 0, changes=2**70)),
    "true for a number": lambda made: sealed(changed(made, 0, changes=True)),
    "no end": lambda made: made[:-1],
    "an end too early": lambda made: [*made[:9], made[-1]],
    "more behind the end": lambda made: [*made, made[1]],
    "a head edited": lambda made: changed(made, 0, changes=3),
    "a line removed": lambda made: [*made[:2], *made[3:]],
    "a line removed, sealed": lambda made: sealed([*made[:2], *made[3:]]),
    "a line edited, sealed": lambda made: sealed(
        [*made[:2], made[2].replace(b'"agent_id":"agent"', b'"agent_id":"egant"'), *made[3:]]
    ),
    "two lines swapped, sealed": lambda made: sealed([*made[:2], made[3], made[2], *made[4:]]),
    "a transaction twice": lambda made: sealed([*made[:9], *made[1:9], *made[9:]]),
    "an empty journal": lambda made: sealed(changed([*made[:1], *made[8:]], 1, entries=0)),
    "entries without end": lambda made: sealed(changed(made, 1, entries=10**9)),
    "a hash that is none": lambda made: sealed(changed(made, 1, hash="../../etc/passwd")),
    "an id that is a path to NUL": lambda made: sealed(changed(made, 1, transaction="a\0b")),
    "a surrogate": lambda made: sealed(changed(made, 1, transaction="\ud800")),
    "an id too long": lambda made: sealed(changed(made, 1, transaction="x" * 5_000)),
    "a fence that contradicts": lambda made: sealed(
        [
            line if b'"fence"' not in line else b'{"fence":"seat:7","token":1,"version":5}\n'
            for line in made
        ]
    ),
    "a fence that went back": lambda made: sealed(
        [
            line if b'"fence"' not in line else b'{"fence":"seat:7","token":0,"version":0}\n'
            for line in made
        ]
    ),
    "a long line": lambda made: [*made[:-1], b"x" * (LINE_MAX + 1)],
    "a line without end": lambda made: [*made[:-1], made[-1][:-1]],
}


# Why so few of PostgreSQL: the reader is the same, and what was written before it differs.
HALF_WRITTEN = ("no end", "a transaction twice", "a fence that went back")
CASES = [*((case, "sqlite") for case in HOSTILE), *((case, "postgres") for case in HALF_WRITTEN)]


@pytest.mark.parametrize("case,target", CASES)
def test_a_file_that_is_no_sound_backup_makes_no_store(good, case, target, tmp_path, urls):
    place = tmp_path / "backup"
    place.write_bytes(b"".join(HOSTILE[case](good)))
    url = urls(target)
    with pytest.raises(BackupError, match=r"not a backup that can be restored: line \d+"):
        restore(place, url)
    assert names_in(tmp_path) == ["backup"]
    with pytest.raises(StoreError, match="no store"):
        open_store(url, create=False)


def test_every_flipped_bit_of_a_backup_is_refused(good, tmp_path):
    text = b"".join(good)
    place = tmp_path / "backup"
    for position in range(7, len(text), 499):
        turned = bytearray(text)
        turned[position] ^= 1 << position % 8
        place.write_bytes(turned)
        with pytest.raises(BackupError):
            restore(place, tmp_path / "new.db")
    place.write_bytes(text)
    assert restore(place, tmp_path / "new.db").transactions == 6


def test_no_backup_is_said_to_be_missing(tmp_path):
    with pytest.raises(BackupError, match="cannot be read"):
        restore(tmp_path / "nothing", tmp_path / "new.db")
