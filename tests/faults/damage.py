"""Damage to a store's files, and the law for it: as before, or named, and never believed.

Owns: a small store that holds something of everything, what a reader sees of it, and the judgement
about one damage.
"""

import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from aumai_transactions import TransactionManager
from aumai_transactions.core.journal import Journal, load
from aumai_transactions.core.outcome import summary_of
from aumai_transactions.errors import JournalCorrupt, StoreError
from aumai_transactions.models import TransactionState
from aumai_transactions.store import Listed, Query
from aumai_transactions.stores.sqlite import SqliteStore

PROGRAM = Path(__file__).with_name("damage_program.py")
TABLES = ("store", "drivers", "resources", "locks")
EVERYTHING = Query(limit=1_000)
SECONDS_MAX = 60


class WronglyBelieved(AssertionError):
    """A reader was told something else than before, and nobody named the damage."""


class Image(NamedTuple):
    """The bytes of a store: its file, and its log."""

    main: bytes
    log: bytes

    def write(self, path: Path) -> None:
        path.write_bytes(self.main)
        log = path.with_name(path.name + "-wal")
        if self.log:
            log.write_bytes(self.log)
        else:
            log.unlink(missing_ok=True)
        path.with_name(path.name + "-shm").unlink(missing_ok=True)

    def flipped(self, part: str, position: int, bit: int) -> "Image":
        text = bytearray(getattr(self, part))
        text[position] ^= 1 << bit
        return self._replace(**{part: bytes(text)})


class Seen(NamedTuple):
    """All that a store shows: lines, journals, and the tables beside them."""

    lines: list[Listed]
    journals: dict[str, Journal | None]
    tables: dict[str, list[tuple]]
    counts: dict[str, int]


def made(folder: Path, kind: str, page_bytes: int = 4096) -> Image:
    """A store as a killed process has left it; `checkpointed` or `logged`."""
    path = folder / f"{kind}-{page_bytes}.db"
    command = [sys.executable, str(PROGRAM), str(path), kind, str(page_bytes)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    log = path.with_name(path.name + "-wal")
    return Image(path.read_bytes(), log.read_bytes() if log.exists() else b"")


def seen(path: Path) -> Seen:
    with SqliteStore(path, create=False) as store:
        lines = store.find(EVERYTHING)
        names = [line.summary.transaction_id for line in lines]
        journals = {name: store.read(name) for name in names}
        counts = {str(query.states): store.count(query) for query in _queries()}
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        # Order matters: by the primary key, as whoever reads one row finds it.
        tables = {
            name: connection.execute(f"SELECT * FROM {name}").fetchall()  # noqa: S608 (constants)
            for name in TABLES
        }
    return Seen(lines, journals, tables, counts)


def _queries() -> list[Query]:
    return [Query(), Query(attention=True), *(Query(states=(one,)) for one in TransactionState)]


class Judge:
    """Judge what readers say of a damaged store.

    Args:
        image: The store as it was.
        folder: Where to work.
    """

    def __init__(self, image: Image, folder: Path) -> None:
        self._path = folder / "judged.db"
        image.write(self._path)
        assert verified(self._path) == []
        self._before = seen(self._path)
        self._sagas = {
            name: summary_of(load(journal))
            for name, journal in self._before.journals.items()
            if journal is not None
        }
        assert len(self._sagas) == len(self._before.lines)
        self.counted: Counter[str] = Counter()

    def judge(self, image: Image, what: str) -> str:
        """Return `named` or `unchanged`; raise where a reader believes something wrong."""
        image.write(self._path)
        try:
            verdict = self._verdict(what)
        except WronglyBelieved:
            raise
        except Exception as error:
            raise WronglyBelieved(f"{what}: {type(error).__name__}: {error}") from error
        self.counted[verdict] += 1
        return verdict

    def _verdict(self, what: str) -> str:
        try:
            problems = verified(self._path)
        except StoreError:
            return "named"
        self._read_each(what)
        if problems:
            return "named"
        now = seen(self._path)
        if now != self._before:
            raise WronglyBelieved(f"{what}: {_difference(self._before, now)}")
        return "unchanged"

    def _read_each(self, what: str) -> None:
        """What a driver goes by is the journal: it is as it was, a beginning of it, or refused."""
        try:
            with SqliteStore(self._path, create=False) as store:
                for name, summary in self._sagas.items():
                    try:
                        journal = store.read(name)
                        if journal is None:
                            continue  # Nothing is believed of it; that it is gone was named.
                        found = summary_of(load(journal))
                    except JournalCorrupt:
                        continue
                    if found != summary:
                        raise WronglyBelieved(f"{what}: {name} reads as {found}, was {summary}")
        except StoreError:
            return


def verified(path: Path) -> list[str]:
    """What `verify` says of a whole store."""
    with TransactionManager(store=str(path)) as manager:
        found = manager.verify()
    assert found.is_intact == (not found.problems and not found.store_problems)
    return [*found.store_problems, *found.problems.values()]


def named(path: Path) -> list[str]:
    """What `verify` says of a store, or why it cannot be opened."""
    try:
        return verified(path)
    except StoreError as error:
        return [str(error)]


def _difference(before: Seen, now: Seen) -> str:
    for name in before._fields:
        one, other = getattr(before, name), getattr(now, name)
        if one != other:
            return f"{name} was {str(one)[:600]} and is {str(other)[:600]}"
    return "nothing"
