"""Backups: a file made of a store, and a store made of a file.

Owns: how a backup comes into being whole or not at all, and what is checked before a store is made
of one. What stands in it is `core/backups.py`'s business.
Rules:
  1. A backup is complete before it has its name: it is written under a temporary name beside its
     place, synced, and then linked; a file that is there is never replaced.
  2. A file is taken for hostile: nothing in it is a name of a file or of code, every line has a
     limit, every hash is computed again, every journal is read as any other, and the store appears
     when all of it was found sound.
  3. What was not finished in it is held back from everybody, in the store's first moment.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final
from uuid import uuid4

from aumai_transactions.clock import Clock, SystemClock
from aumai_transactions.core import backups as lines
from aumai_transactions.core.codec import encode
from aumai_transactions.core.entries import RestoredFromBackup
from aumai_transactions.core.evolution import evolve
from aumai_transactions.core.isolation import holdings_of
from aumai_transactions.core.journal import Journal, StoredEntry, chain_hash, load
from aumai_transactions.core.locking import Fence, Holding
from aumai_transactions.core.outcome import is_runnable, summary_of
from aumai_transactions.core.times import instant
from aumai_transactions.core.values import checked_name, checked_note
from aumai_transactions.errors import (
    BackupError,
    InvalidData,
    JournalCorrupt,
    JournalTooNew,
    StoreError,
)
from aumai_transactions.models import BackupReport
from aumai_transactions.store import Filled, Keeping
from aumai_transactions.stores import new_store, shown_url

if TYPE_CHECKING:
    from aumai_transactions.core.saga import Saga
    from aumai_transactions.store import Snapshot, Store

try:
    import fcntl
except ImportError:  # Windows: what a killed backup has left stays there.
    fcntl = None  # type: ignore[assignment]

_SUFFIX: Final = ".unfinished-backup"
_UNREADABLE = (JournalCorrupt, JournalTooNew)


def back_up(
    store: Store, path: str | os.PathLike[str], *, clock: Clock | None = None
) -> BackupReport:
    """Write a whole store into a new file, as it is at one moment; others go on meanwhile.

    A journal that is damaged, or was written by a newer release, is left out, and named.

    Args:
        store: The store.
        path: The file; must not exist.
        clock: What tells the time.

    Raises:
        BackupError: The store has nothing that lasts, or the file is there or cannot be written.
        StoreError: The store cannot be read.
    """
    if not isinstance(store, Keeping):
        raise BackupError("a store in memory ends with its process, and has no backup.")
    place = Path(os.path.abspath(path))  # noqa: PTH100 (a symbolic link stays what it is)
    now = (clock or SystemClock()).now()
    try:
        with _new_file(place) as file, store.snapshot() as snapshot:
            return _Writing(file, snapshot, place, now).run()
    except OSError as error:
        raise BackupError(f"{place} cannot be written: {error.strerror}.") from error


class _Writing:
    """Write one backup.

    Args:
        file: Where to.
        snapshot: The store.
        place: The name that the file will have.
        now: Microseconds since 1970 UTC.
    """

    def __init__(self, file: BinaryIO, snapshot: Snapshot, place: Path, now: int) -> None:
        self._file = file
        self._snapshot = snapshot
        self._digest = hashlib.sha256()
        self._report = BackupReport(
            path=str(place),
            store_id=snapshot.store_id,
            changes=snapshot.changes,
            made_at=instant(now),
        )
        self._now = now

    def run(self) -> BackupReport:
        """Write all of it."""
        from aumai_transactions import __version__

        snapshot, report = self._snapshot, self._report
        self._say(lines.Head(snapshot.store_id, snapshot.changes, self._now, __version__))
        for name in snapshot.names():
            self._transaction(name)
        for resource, fence in snapshot.fences():
            report.resources += 1
            self._say(lines.FenceLine(resource, *fence))
        for resource, name in snapshot.waiting():
            if name not in report.damaged:
                self._say(lines.WaitLine(resource, name))
        counts = (report.transactions, report.entries, report.resources)
        report.sha256 = self._digest.hexdigest()
        self._file.write(lines.written(lines.End(*counts, report.sha256)))
        return report

    def _transaction(self, name: str) -> None:
        report = self._report
        journal: Journal | None = None
        try:
            journal = self._snapshot.read(name)
            if journal is None:
                raise JournalCorrupt(name, 0, "it is listed, and is not there")
            load(journal)
            problem = lines.why_not(journal)
        except _UNREADABLE as error:
            problem = str(error)
        if problem is not None or journal is None:
            # Why: an id that is damaged may be no text.
            shown = name.encode("utf-8", "backslashreplace").decode()
            problem = (problem or "").encode("utf-8", "backslashreplace").decode()
            report.damaged[shown] = problem
            self._say(lines.Damaged(shown, problem))
            return
        report.transactions += 1
        report.entries += len(journal.entries)
        driver_id = journal.driver_id
        self._say(lines.Begun(name, len(journal.entries), journal.head_hash, driver_id))
        for entry in journal.entries:
            self._write(entry.body + b"\n")

    def _say(self, line: lines.Line) -> None:
        self._write(lines.written(line))

    def _write(self, line: bytes) -> None:
        self._digest.update(line)
        self._file.write(line)


@contextlib.contextmanager
def _new_file(place: Path) -> Iterator[BinaryIO]:
    """Give a file that has its name at the end of the block, complete, or never."""
    if os.path.lexists(place):
        raise BackupError(
            f"{place} is there already, and a backup replaces nothing. Name a file that is new, "
            "such as one with today's date in its name. Nothing was changed."
        )
    temporary = place.with_name(f".{uuid4().hex}{_SUFFIX}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if fcntl is not None:
                with contextlib.suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file
            # Order matters: the content is durable before the name is.
            file.flush()
            os.fsync(file.fileno())
            _give_name(temporary, place)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    _sync_names(place.parent)
    _sweep(place.parent)


def _give_name(temporary: Path, place: Path) -> None:
    try:
        os.link(temporary, place)
    except FileExistsError:
        raise BackupError(f"{place} has come into being meanwhile. Nothing was changed.") from None
    except OSError:
        # A file system without links. Why the look: rename replaces what is there.
        if place.exists():
            raise
        os.rename(temporary, place)  # noqa: PTH104 (as above)


def _sync_names(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Remove what killed backups have left in a folder."""
    if fcntl is None:
        return
    for left in folder.glob(f".*{_SUFFIX}"):
        with contextlib.suppress(OSError), left.open("rb") as file:
            # Why the lock: one that is being written is held.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()


def restore(
    path: str | os.PathLike[str],
    store: str | os.PathLike[str],
    *,
    by: str = "",
    note: str = "",
    clock: Clock | None = None,
) -> BackupReport:
    """Make a new store of a backup, or nothing at all.

    The store keeps its id: it is the same store, as it was. What was not finished in it waits for a
    person's word (`trust`, or `rollback`), for the world may be ahead of it.

    Args:
        path: The backup.
        store: A URL or a path, as for `open_store`; there must be no store yet.
        by: Who restores it; stands in the journals of what waits.
        note: Why.
        clock: What tells the time.

    Returns:
        What was restored; `waiting` names what waits for a person.

    Raises:
        BackupError: The file is no backup, or is not as it was written.
        StoreError: There is a store already, or it cannot be made.
    """
    now = (clock or SystemClock()).now()
    try:
        with Path(path).open("rb") as file:
            contents = _Reading(
                file, Path(path), (now, checked_note(by, "by"), checked_note(note, "note"))
            )
            new_store(store, contents, make_parent=False)
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror or error}.") from error
    report = contents.report
    report.path = shown_url(store)
    return report


class _Reading:
    """Be what a new store begins with: what a backup says, every line of it checked.

    Args:
        file: The backup, at its beginning.
        place: Its name, for errors.
        said: When it is restored, by whom and why.
    """

    def __init__(self, file: BinaryIO, place: Path, said: tuple[int, str, str]) -> None:
        self._file = file
        self._place = place
        self._said = said
        self._digest = hashlib.sha256()
        self._number = 0
        self._fences: dict[str, Fence] = {}
        self._held: list[tuple[str, Holding]] = []
        self._waits: list[tuple[str, str]] = []
        self._seen: set[str] = set()
        head = self._next()
        if not isinstance(head, lines.Head):
            raise self._wrong("it does not begin as a backup does")
        self.store_id = self._checked(head.store_id, "store_id")
        self.changes = head.changes
        self._made_at = min(head.made_at, said[0])
        self.report = BackupReport(
            path=str(place),
            store_id=head.store_id,
            changes=head.changes,
            made_at=instant(self._made_at),
        )

    def transactions(self) -> Iterator[Filled]:
        """Yield each transaction, in order of arrival."""
        line = self._next()
        while isinstance(line, lines.Begun | lines.Damaged):
            name = self._checked(line.transaction_id, "a transaction's id")
            if name in self._seen:
                raise self._wrong(f"transaction {name} stands there twice")
            self._seen.add(name)
            if isinstance(line, lines.Damaged):
                self.report.damaged[name] = line.problem
            else:
                yield self._transaction(line)
            line = self._next()
        while isinstance(line, lines.FenceLine):
            self._fence(line)
            line = self._next()
        while isinstance(line, lines.WaitLine):
            self._waits.append((line.resource, line.transaction_id))
            line = self._next()
        self._end(line)

    def fences(self) -> Mapping[str, Fence]:
        """Return what is remembered about each resource."""
        return self._fences

    def holdings(self) -> Sequence[tuple[str, Holding]]:
        """Return transaction and holding for each line of the table of locks, first come first."""
        order = {wait: place for place, wait in enumerate(self._waits)}
        last = len(order)

        def place(held: tuple[str, Holding]) -> int:
            name, holding = held
            return -1 if holding.token is not None else order.get((holding.resource, name), last)

        return sorted(self._held, key=place)

    def _transaction(self, line: lines.Begun) -> Filled:
        bodies, size = [], 0
        for _ in range(line.entries):
            body = self._read_line()
            size += len(body)
            if size > lines.JOURNAL_BYTES_MAX:
                raise self._wrong(f"the journal of {line.transaction_id} is too long")
            bodies.append(body)
        try:
            journal = lines.chained(line, bodies)
            saga = load(journal)
        except lines.Malformed as problem:
            raise self._wrong(str(problem)) from None
        except _UNREADABLE as error:
            raise self._wrong(str(error)) from error
        self.report.transactions += 1
        self.report.entries += len(bodies)
        journal = journal._replace(token=saga.token)
        if not saga.state.is_final or is_runnable(saga):
            journal = self._held_back(journal, saga)
        summary = summary_of(saga)
        holdings = holdings_of(saga)
        self._held += [(journal.transaction_id, holding) for holding in holdings]
        return Filled(journal, summary, holdings)

    def _held_back(self, journal: Journal, saga: Saga) -> Journal:
        """Let nobody act on a transaction before a person says so."""
        now, by, note = self._said
        entry = RestoredFromBackup(max(now, saga.updated_at), self._made_at, by, note)
        evolve(saga, entry)
        body = encode(entry, f"restore.{uuid4().hex}.0")
        sequence = journal.head_sequence + 1
        digest = chain_hash(journal.transaction_id, sequence, journal.head_hash, body)
        self.report.waiting.append(journal.transaction_id)
        return journal._replace(
            entries=(*journal.entries, StoredEntry(sequence, body, digest)),
            head_sequence=sequence,
            head_hash=digest,
        )

    def _fence(self, line: lines.FenceLine) -> None:
        name = self._checked(line.resource, "a resource's name")
        if name in self._fences or line.version > line.token:
            raise self._wrong(f"it contradicts itself about the resource {name}")
        self._fences[name] = Fence(line.token, line.version)
        self.report.resources += 1

    def _end(self, line: lines.Line | None) -> None:
        report = self.report
        if not isinstance(line, lines.End):
            raise self._wrong("it is not complete: its last line is missing, or out of place")
        counts = (report.transactions, report.entries, report.resources)
        if line[:3] != counts or line.sha256 != report.sha256:
            raise self._wrong("it is not as it was written: its last line says otherwise")
        if self._file.read(1):
            raise self._wrong("something stands behind its last line")
        for name, holding in self._held:
            fence = self._fences.get(holding.resource, Fence())
            if holding.token is not None and holding.token > fence.token:
                raise self._wrong(
                    f"transaction {name} holds {holding.resource} with a token that was never given"
                )

    def _next(self) -> lines.Line:
        # The end says what the hash of all before it has to be.
        before = self._digest.hexdigest()
        line = self._read_line()
        try:
            found = lines.read(line)
        except lines.Malformed as problem:
            raise self._wrong(str(problem)) from None
        if isinstance(found, lines.End):
            self.report.sha256 = before
        return found

    def _read_line(self) -> bytes:
        line = self._file.readline(lines.LINE_BYTES_MAX + 1)
        self._number += 1
        if not line:
            raise self._wrong("it is not complete: it ends here")
        if not line.endswith(b"\n"):
            is_long = len(line) > lines.LINE_BYTES_MAX
            what = f"it is longer than {lines.LINE_BYTES_MAX:,} bytes" if is_long else "it is cut"
            raise self._wrong(what)
        self._digest.update(line)
        return line[:-1]

    def _checked(self, name: str, what: str) -> str:
        try:
            return checked_name(name, what)
        except InvalidData as error:
            raise self._wrong(str(error)) from None

    def _wrong(self, problem: str) -> StoreError:
        return BackupError(
            f"{self._place} is not a backup that can be restored: line {self._number}: {problem}. "
            "Use another backup. Nothing was changed."
        )
