"""A damaged log is told from one that a power cut, a rollback or an older generation has left."""

import random
import sqlite3
import struct
from contextlib import closing
from typing import Literal

import pytest

from aumai_transactions.stores.sqlite.log import _header_of, _summed, damage_of

PAGE = 1024
FRAME = PAGE + 24
HEADER = 32


class Log:
    """A database of SQLite's own and its log; nothing of ours is in it."""

    def __init__(self, folder):
        self.path = folder / "plain.db"
        self.log = folder / "plain.db-wal"
        self.connection = self.connect()
        self.connection.execute(f"PRAGMA page_size = {PAGE}")
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("CREATE TABLE t (x BLOB)")
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def connect(self):
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def commit(self, pages=0):
        self.connection.execute("INSERT INTO t VALUES (randomblob(?))", (pages * PAGE + 8,))

    def left(self):
        """What a killed process leaves: the files without their connection."""
        texts = self.path.read_bytes(), self.log.read_bytes()
        self.connection.close()
        self.path.write_bytes(texts[0])
        self.log.write_bytes(texts[1])
        return bytearray(texts[1])

    def rows(self):
        with closing(self.connect()) as connection:
            return connection.execute("SELECT count(*) FROM t").fetchone()[0]


@pytest.fixture
def log(tmp_path):
    made = Log(tmp_path)
    yield made
    made.connection.close()


def frames(text):
    return range(HEADER, len(text) - FRAME + 1, FRAME)


def test_no_log_and_an_empty_one_are_sound(log, tmp_path):
    assert damage_of(tmp_path / "nothing") is None
    assert damage_of(log.log) is None


def test_a_whole_log_is_sound_and_so_is_one_that_was_cut(log):
    for _ in range(5):
        log.commit(pages=2)
    text = log.left()
    for size in range(0, len(text) + 1, 100):
        log.log.write_bytes(text[:size])
        assert damage_of(log.log) is None


def test_every_flipped_bit_of_some_is_damage_with_its_frame(log):
    for _ in range(4):
        log.commit(pages=1)
    text = log.left()
    dice = random.Random(1)
    places = [*range(HEADER), *range(HEADER, HEADER + 24), *frames(text)]
    places += [frames(text)[-1] + offset for offset in range(24)]
    places += [dice.randrange(HEADER, len(text)) for _ in range(120)]
    for position in places:
        turned = bytearray(text)
        turned[position] ^= 1 << dice.randrange(8)
        log.log.write_bytes(turned)
        found = damage_of(log.log)
        assert found is not None, position
        frame = 0 if position < HEADER else (position - HEADER) // FRAME + 1
        assert found.frame == frame
        assert found.offset == (0 if frame == 0 else HEADER + (frame - 1) * FRAME)


def test_damage_of_a_whole_page_is_seen_where_two_commits_stand_behind_it(log):
    for _ in range(6):
        log.commit(pages=1)
    text = log.left()
    for number, at in enumerate(frames(text)):
        turned = bytearray(text)
        turned[at : at + FRAME] = bytes(FRAME)
        log.log.write_bytes(turned)
        behind = sum(
            text[later + 4 : later + 8] != bytes(4) for later in frames(text) if later > at
        )
        if behind >= 2:
            assert damage_of(log.log) == (number + 1, at)
        else:
            # The last commit may be one that nobody was told of, and that a power cut has torn.
            assert damage_of(log.log) is None


def torn(text, last_commit, dice):
    """A log as a power cut leaves it: of what was not synced yet, any sector may be missing."""
    turned = bytearray(text)
    for at in range(last_commit, len(text), 512):
        if dice.random() < 0.4:
            turned[at : at + 512] = bytes(len(turned[at : at + 512]))
    return turned


@pytest.mark.parametrize("seed", range(12))
def test_what_a_power_cut_leaves_of_the_last_commit_is_no_damage(log, seed):
    for _ in range(3):
        log.commit(pages=1)
    before = len(log.log.read_bytes())
    log.commit(pages=6)
    text = log.left()
    log.log.write_bytes(torn(text, before, random.Random(seed)))
    assert damage_of(log.log) is None
    assert log.rows() in (3, 4)


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_what_stands_behind_later_commits_of_a_torn_one_is_no_damage(log, lost):
    """The frames of the torn commit that no later one has overwritten yet."""
    log.commit()
    before = len(log.log.read_bytes())
    log.commit(pages=8)
    text = log.left()
    at = before + lost * FRAME
    text[at : at + FRAME] = bytes(FRAME)
    log.log.write_bytes(text)
    log.connection = log.connect()
    for _ in range(3):
        log.commit()
        assert damage_of(log.log) is None
    log.left()
    assert damage_of(log.log) is None
    assert log.rows() == 4


def test_a_bit_in_a_commit_of_which_the_rest_is_missing_is_no_damage(log):
    log.commit(pages=2)
    before = log.log.stat().st_size
    log.commit(pages=4)
    text = log.left()
    assert len(text) - before >= 3 * FRAME
    text[before + 24 + PAGE // 2] ^= 4
    log.log.write_bytes(text)
    assert damage_of(log.log) is not None
    log.log.write_bytes(text[:-1])
    assert damage_of(log.log) is None
    text[len(text) - FRAME + 8] ^= 255  # Its last frame is one of an older log.
    log.log.write_bytes(text)
    assert damage_of(log.log) is None


def test_a_bit_of_the_mark_of_a_commit_is_damage_also_where_nothing_is_left_of_the_mark(log):
    log.commit(pages=2)
    text = log.left()
    mark = len(text) - FRAME + 4
    size = int.from_bytes(text[mark : mark + 4], "big")
    while size & (size - 1):
        size &= size - 1
    # Only a size of one bit can be flipped away as a whole; it is made one, and the sums with it.
    header = _header_of(bytes(text[:HEADER]))
    assert header is not None
    text[mark : mark + 4] = size.to_bytes(4, "big")
    sums = header.sums
    for at in frames(text):
        sums = _summed(
            bytes(text[at : at + 8] + text[at + 24 : at + FRAME]), sums, swaps=header.swaps
        )
        text[at + 16 : at + 24] = struct.pack(">II", *sums)
    log.log.write_bytes(text)
    assert damage_of(log.log) is None
    text[mark : mark + 4] = bytes(4)
    log.log.write_bytes(text)
    assert damage_of(log.log) is not None


def test_frames_of_a_rollback_and_of_an_older_log_are_no_damage(log):
    for _ in range(10):
        log.commit(pages=3)
    log.connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    log.commit()
    assert damage_of(log.log) is None
    log.connection.execute("PRAGMA cache_size = 2")
    log.connection.execute("BEGIN")
    for _ in range(20):
        log.commit(pages=2)
    log.connection.execute("ROLLBACK")
    log.commit()
    log.left()
    assert damage_of(log.log) is None
    assert log.rows() == 12


def test_a_log_of_the_other_order_of_bytes_is_read_too(log):
    """As written on a machine of the other order: SQLite reads both."""
    for _ in range(3):
        log.commit()
    text = log.left()
    other = _rewritten(text)
    log.log.write_bytes(other)
    assert damage_of(log.log) is None
    assert log.rows() == 3
    other[HEADER + 30] ^= 1
    log.log.write_bytes(other)
    found = damage_of(log.log)
    assert found is not None
    assert found.frame == 1


def _rewritten(text):
    """The same frames with checksums of big-endian words, computed by the book."""
    made = bytearray(text)
    made[3] ^= 1
    order: Literal["big", "little"] = "big" if made[3] & 1 else "little"

    def summed(part, sums):
        one, two = sums
        for at in range(0, len(part), 8):
            one = (one + int.from_bytes(part[at : at + 4], order) + two) % 2**32
            two = (two + int.from_bytes(part[at + 4 : at + 8], order) + one) % 2**32
        return one, two

    sums = summed(made[:24], (0, 0))
    made[24:32] = b"".join(number.to_bytes(4, "big") for number in sums)
    for at in frames(text):
        sums = summed(made[at : at + 8] + made[at + 24 : at + FRAME], sums)
        made[at + 16 : at + 24] = b"".join(number.to_bytes(4, "big") for number in sums)
    return made
