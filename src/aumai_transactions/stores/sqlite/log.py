"""Whether a write-ahead log holds commits that SQLite would leave out.

Owns: reading the log as SQLite's recovery does, and looking at what it would not read.
Rules:
  1. SQLite takes a frame that does not fit for the end of the log, and drops what is behind it
     without a word: one flipped bit drops every later commit. So this is asked before SQLite may
     recover a log, and a log that is damaged is left as it is.
  2. What a power cut leaves is no damage: of the last commit, which nobody was told of, any part
     may be missing. Damage is a frame that one flipped bit makes fit, in a commit that is whole
     but for that; or two commits in a row behind a frame that does not fit, for the first of them
     was synced before the second began.
  3. It reads the log file itself. That is safe where the database file and its -shm are not: SQLite
     locks those two only, so no lock goes when this file is closed.

Source of the form: "WAL-mode File Format" of the SQLite documentation.
"""

from __future__ import annotations

import struct
import sys
from array import array
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

HEADER_BYTES: Final = 32
FRAME_HEADER_BYTES: Final = 24
_MAGIC: Final = (0x377F0682, 0x377F0683)
_MASK: Final = 0xFFFFFFFF
_PAGE_BYTES_MAX: Final = 65_536
_COMMITS_CERTAIN: Final = 2

Sums = tuple[int, int]


class LogDamage(NamedTuple):
    """Say where a log is damaged.

    Args:
        frame: The first frame that SQLite would not read, from 1; 0 for the header.
        offset: Where it begins, in bytes.
    """

    frame: int
    offset: int


class _Header(NamedTuple):
    swaps: bool
    page_bytes: int
    salts: bytes
    sums: Sums


class _Frame(NamedTuple):
    """Hold a frame: what its checksum is of, and what stands in its header."""

    summed: bytes
    is_commit: bool
    salts: bytes
    sums: Sums


def damage_of(log: Path) -> LogDamage | None:
    """Return where a log is damaged; None where SQLite would read every commit of it.

    Raises:
        OSError: It cannot be read.
    """
    try:
        file = log.open("rb")
    except FileNotFoundError:
        return None
    with file:
        first = file.read(HEADER_BYTES)
        if len(first) < HEADER_BYTES:
            return None
        header = _header_of(first)
        if header is None:
            return _behind_no_header(file, first)
        return _look(file, header)


def _look(file: BinaryIO, header: _Header) -> LogDamage | None:
    sums = header.sums
    number = 0
    while (frame := _next(file, header)) is not None:
        number += 1
        computed = _summed(frame.summed, sums, swaps=header.swaps)
        if frame.salts == header.salts and computed == frame.sums:
            sums = frame.sums
            continue
        offset = HEADER_BYTES + (number - 1) * (FRAME_HEADER_BYTES + header.page_bytes)
        behind = file.tell()
        if _is_flipped(frame, computed, header) and _is_whole(file, header, frame, sums):
            return LogDamage(number, offset)
        file.seek(behind)
        if _has_commits_behind(file, header, frame, computed):
            return LogDamage(number, offset)
        return None
    return None


def _is_whole(file: BinaryIO, header: _Header, frame: _Frame, before: Sums) -> bool:
    """Tell whether the commit to which a flipped frame belongs is all there but for that bit.

    Why asked: where a part of it is missing, nobody was told of it. A page that a power cut has
    left in part as an older one may differ from what was written by a bit.
    """
    if frame.is_commit or _was_commit(header, frame, before):
        return True
    fitting = {frame.sums, _summed(frame.summed, before, swaps=header.swaps)}
    while (later := _next(file, header)) is not None and later.salts == header.salts:
        if later.sums not in {_summed(later.summed, sums, swaps=header.swaps) for sums in fitting}:
            return False
        if later.is_commit:
            return True
        fitting = {later.sums}
    return False


def _was_commit(header: _Header, frame: _Frame, before: Sums) -> bool:
    """Tell whether it is the mark of a commit that was flipped away."""
    page, rest = frame.summed[:4], frame.summed[8:]
    sizes = ((1 << bit).to_bytes(4, "big") for bit in range(32))
    return any(
        _summed(page + size + rest, before, swaps=header.swaps) == frame.sums for size in sizes
    )


def _is_flipped(frame: _Frame, computed: Sums, header: _Header) -> bool:
    """Tell whether a frame fits but for one bit of it."""
    if computed == frame.sums:
        return True  # Only its salts are others; those of an older log do not go with such sums.
    if frame.salts != header.salts:
        return False
    wrong = (computed[0] ^ frame.sums[0]) << 32 | (computed[1] ^ frame.sums[1])
    if wrong & (wrong - 1) == 0:
        return True
    return _is_one_bit(
        (frame.sums[0] - computed[0]) & _MASK,
        (frame.sums[1] - computed[1]) & _MASK,
        len(frame.summed) // 8,
    )


def _is_one_bit(first: int, second: int, pairs: int) -> bool:
    """Tell whether one bit of what is summed, turned, makes this difference of the sums.

    Why it can be told: a difference in a word goes through all that follows linearly.
    """
    powers = [1 << bit for bit in range(32)]
    steps = {*powers, *(-power & _MASK for power in powers)}
    one, other = (1, 1), (0, 1)  # In the first word of the last pair, and in the second.
    for _ in range(pairs):
        for vector in (one, other):
            for step in steps:
                if vector[0] * step & _MASK == first and vector[1] * step & _MASK == second:
                    return True
        one, other = _carried(one), _carried(other)
    return False


def _carried(vector: Sums) -> Sums:
    first = (vector[0] + vector[1]) & _MASK
    return first, (vector[1] + first) & _MASK


def _has_commits_behind(file: BinaryIO, header: _Header, frame: _Frame, computed: Sums) -> bool:
    """Tell whether two commits in a row stand behind a frame that does not fit."""
    commits = 0
    sums: Sums | None = None
    fitting: Sums | None = computed
    if frame.salts == header.salts:
        sums, commits = frame.sums, int(frame.is_commit)
    while (later := _next(file, header)) is not None:
        if later.salts != header.salts:
            sums, commits = None, 0
            continue
        if sums is None or _summed(later.summed, sums, swaps=header.swaps) != later.sums:
            commits = 0
            if fitting and _summed(later.summed, fitting, swaps=header.swaps) == later.sums:
                return True  # It was written behind a frame that did fit.
        sums = later.sums
        commits += later.is_commit
        if commits >= _COMMITS_CERTAIN:
            return True
        fitting = None
    return False


def _behind_no_header(file: BinaryIO, first: bytes) -> LogDamage | None:
    """Look behind a header that SQLite would not read: it takes the whole log for empty."""
    found = LogDamage(0, 0)
    for bit in range(HEADER_BYTES * 8):
        turned = bytearray(first)
        turned[bit // 8] ^= 1 << bit % 8
        header = _header_of(bytes(turned))
        if header is None:
            continue
        file.seek(HEADER_BYTES)
        frame = _next(file, header)
        if frame is not None and frame.salts == header.salts:
            return found
    return None


def _header_of(first: bytes) -> _Header | None:
    """Return what a header says; None where SQLite would not read it."""
    magic, _version, page_bytes = struct.unpack(">III", first[:12])
    if magic not in _MAGIC:
        return None
    # The checksums are made of words in the order of bytes that the magic number names.
    swaps = (sys.byteorder == "big") != bool(magic & 1)
    sums = struct.unpack(">II", first[24:32])
    if _summed(first[:24], (0, 0), swaps=swaps) != sums:
        return None
    if page_bytes & (page_bytes - 1) or not 512 <= page_bytes <= _PAGE_BYTES_MAX:
        return None
    return _Header(swaps, page_bytes, first[16:24], (sums[0], sums[1]))


def _next(file: BinaryIO, header: _Header) -> _Frame | None:
    """Return the next frame; None at the end, or where one is cut."""
    size = FRAME_HEADER_BYTES + header.page_bytes
    text = file.read(size)
    if len(text) < size:
        return None
    sums = struct.unpack(">II", text[16:24])
    is_commit = text[4:8] != b"\0\0\0\0"
    return _Frame(text[:8] + text[24:], is_commit, text[8:16], (sums[0], sums[1]))


def _summed(text: bytes, sums: Sums, *, swaps: bool) -> Sums:
    """Return SQLite's checksum of a text whose length is a multiple of 8."""
    words = array("I", text)
    if swaps:
        words.byteswap()
    first, second = sums
    numbers = iter(words)
    for one, other in zip(numbers, numbers, strict=True):
        first = (first + one + second) & _MASK
        second = (second + other + first) & _MASK
    return first, second
