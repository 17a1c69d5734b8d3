"""Head witnesses: what stands outside of a store and tells what it must hold.

Owns: how a witness is read and written. What it says is `core/witnesses.py`'s business.
Rules:
  1. A look is appended and synced as a whole; nothing that was written is ever changed.
  2. Nobody writes a look that contradicts those before it: that is what a witness is for.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aumai_transactions.clock import Clock, SystemClock
from aumai_transactions.core.witnesses import LINE_BYTES_MAX, Malformed, Reader, Witness, look
from aumai_transactions.errors import BackupError
from aumai_transactions.models import WitnessReport
from aumai_transactions.store import Keeping

if TYPE_CHECKING:
    from aumai_transactions.core.witnesses import Head
    from aumai_transactions.store import Store

try:
    import fcntl
except ImportError:  # Windows: one at a time is up to whoever writes.
    fcntl = None  # type: ignore[assignment]

_NEXT: Final = "See what it is with: aumai-transactions verify --witness"


def read_witness(path: str | os.PathLike[str]) -> Witness:
    """Return what a witness says.

    Raises:
        BackupError: There is none, or it is damaged.
    """
    reader = Reader()
    try:
        with Path(path).open("rb") as file:
            while line := file.readline(LINE_BYTES_MAX):
                reader.take(line)
    except Malformed as problem:
        raise BackupError(
            f"{path} cannot be taken for a witness: {problem}. Use another copy of it."
        ) from None
    except OSError as error:
        raise BackupError(f"the witness {path} cannot be read: {error.strerror}.") from error
    if not reader.witness.store_id:
        raise BackupError(
            f"{path} holds no finished look at a store. Make one with: aumai-transactions witness"
        )
    return reader.witness


def write_witness(
    store: Store, path: str | os.PathLike[str], *, clock: Clock | None = None
) -> WitnessReport:
    """Append to a witness where the journals of a store end now.

    Only what has moved since the last look is written, so that it costs little to look often.

    Args:
        store: The store.
        path: The file; made where it does not exist. It belongs on another disk, or machine.
        clock: What tells the time.

    Raises:
        BackupError: The store contradicts what the witness has seen, or the file cannot be written.
        StoreError: The store cannot be read.
    """
    if not isinstance(store, Keeping):
        raise BackupError("a store in memory ends with its process, and needs no witness.")
    place = Path(path)
    try:
        with _only_writer(place) as descriptor:
            now = (clock or SystemClock()).now()
            return _look(store, place, descriptor, now)
    except OSError as error:
        raise BackupError(f"{place} cannot be written: {error.strerror}.") from error


def _look(store: Keeping, place: Path, descriptor: int, now: int) -> WitnessReport:
    witness = read_witness(place) if os.fstat(descriptor).st_size else Witness()
    with store.snapshot() as snapshot:
        if witness.store_id not in ("", snapshot.store_id):
            raise BackupError(
                f"{place} is a witness of the store {witness.store_id}, and this is "
                f"{snapshot.store_id}. Name another file. Nothing was changed."
            )
        if snapshot.changes < witness.changes:
            raise BackupError(
                f"the store is at change {snapshot.changes}, and {place} has seen it at "
                f"{witness.changes}: an older copy of it stands there now. {_NEXT} {place}"
            )
        moved = [head for head in snapshot.heads() if _has_moved(witness, head, place)]
        text = look(witness, snapshot.store_id, snapshot.changes, now, moved)
    _append(place, descriptor, text)
    return WitnessReport(
        path=str(place),
        store_id=witness.store_id,
        changes=witness.changes,
        transactions=len(witness.latest),
        written=len(moved),
    )


def _has_moved(witness: Witness, head: Head, place: Path) -> bool:
    """Tell whether a head is to be written."""
    name = head.transaction_id
    known = witness.latest.get(name)
    if known is None:
        return True
    if known.sequence > head.sequence or (
        known.sequence == head.sequence and known.hash != head.hash
    ):
        raise BackupError(
            f"transaction {name} stands at entry {head.sequence} with another hash than {place} "
            f"has seen, which was at entry {known.sequence}. {_NEXT} {place}"
        )
    return known != head


@contextlib.contextmanager
def _only_writer(place: Path) -> Iterator[int]:
    """Open a witness for the one who writes; a new one that nothing was written to goes again."""
    descriptor = os.open(place, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        if os.fstat(descriptor).st_size == 0:
            with contextlib.suppress(OSError):
                place.unlink()
        os.close(descriptor)


def _append(place: Path, descriptor: int, text: bytes) -> None:
    size = os.fstat(descriptor).st_size
    # Why: whoever died in a line has left it without an end.
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        text = b"\n" + text
    while text:
        text = text[os.write(descriptor, text) :]
    os.fsync(descriptor)
    if os.name == "posix":
        folder = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
