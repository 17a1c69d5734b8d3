"""A head witness: what it says, and that it says so only where it is whole."""

import pytest

from aumai_transactions.core.witnesses import Head, Malformed, Reader, Witness, look

ONE = Head("one", 3, b"\1" * 32, 50, is_over=True)
TWO = Head("two", 1, b"\2" * 32, 60, is_over=False)


def lines_of(*texts):
    return b"".join(texts).splitlines(keepends=True)


def read(lines):
    reader = Reader()
    for line in lines:
        reader.take(line)
    return reader.witness


@pytest.fixture
def text():
    witness = Witness()
    first = look(witness, "store", 7, 100, [ONE, TWO])
    return first + look(witness, "store", 9, 200, [TWO._replace(sequence=2, hash=b"\3" * 32)])


def test_it_says_what_was_written_and_every_line_counts(text):
    witness = read(lines_of(text))
    assert (witness.store_id, witness.changes) == ("store", 9)
    assert witness.latest["two"].sequence == 2
    assert witness.all["two"] == {1: b"\2" * 32, 2: b"\3" * 32}


@pytest.mark.parametrize(
    "hashes,problem",
    [
        ([b"\2" * 32, b"\3" * 32], None),
        ([b"\2" * 32, b"\3" * 32, b"\4" * 32], None),
        ([b"\2" * 32], "its tail is lost"),
        ([], "its tail is lost"),
        ([b"\5" * 32, b"\3" * 32], "entry 1 has another hash"),
        ([b"\2" * 32, b"\5" * 32], "entry 2 has another hash"),
    ],
)
def test_a_journal_has_what_was_witnessed_at_its_place(text, hashes, problem):
    found = read(lines_of(text)).problem_of("two", hashes)
    assert (found is None) if problem is None else problem in (found or "")


def test_what_is_missing_is_named_but_for_what_may_have_been_purged(text):
    witness = read(lines_of(text))
    assert list(witness.missing({"one", "two"}, 0)) == []
    assert list(witness.missing(set(), 0)) == ["one", "two"]
    assert list(witness.missing(set(), 50)) == ["one", "two"]
    assert list(witness.missing(set(), 51)) == ["two"]


def test_a_look_that_was_not_finished_says_nothing_and_the_next_one_goes_on(text):
    lines = lines_of(text)
    for cut in range(4):
        cut_at = [*lines[:cut], lines[cut][: len(lines[cut]) // 2]]
        assert read(cut_at).store_id == ""
        witness = read(cut_at)
        again = look(witness, "store", 7, 300, [ONE])
        assert read([*cut_at[:-1], cut_at[-1] + b"\n", *lines_of(again)]).latest == {"one": ONE}


def test_every_flipped_bit_of_a_finished_look_is_seen_or_changes_nothing(text):
    whole = read(lines_of(text))
    changed = []
    for position in range(len(text)):
        for bit in range(8):
            turned = bytearray(text)
            turned[position] ^= 1 << bit
            try:
                witness = read(bytes(turned).splitlines(keepends=True))
            except (Malformed, UnicodeDecodeError):
                continue
            if witness.all != whole.all or witness.store_id != whole.store_id:
                changed.append((position, bit, witness.store_id, len(witness.all)))
    # What is left are the bits that end the last line, or the last look: it says less then.
    last = text.rindex(b'{"seal"')
    assert all(position >= last - 400 for position, *_ in changed)
    assert len(changed) < 200


def test_a_removed_or_repeated_look_is_seen():
    witness = Witness()
    texts = [look(witness, "store", n, n, [ONE._replace(sequence=n)]) for n in (1, 2, 3)]
    for wrong in (texts[1:], [texts[0], texts[2]], [texts[0], texts[0]], [texts[1], texts[0]]):
        with pytest.raises(Malformed, match="seal"):
            read(lines_of(*wrong))


@pytest.mark.parametrize(
    "line",
    [
        b'{"witness":2,"store_id":"store","changes":1,"heads":0}\n',
        b'{"witness":1,"store_id":7,"changes":1,"heads":0}\n',
        b'{"witness":1,"store_id":"store","changes":true,"heads":0}\n',
        b'{"seal":"x"}\n',
    ],
)
def test_what_cannot_stand_there_is_refused_with_its_line(line):
    with pytest.raises(Malformed, match="line 1"):
        read([line])


@pytest.mark.parametrize(
    "head",
    [
        b"{}",
        b'{"transaction":"t","sequence":0,"hash":"00","updated_at":1,"is_over":true}',
        b'{"transaction":"t","sequence":1,"hash":"zz","updated_at":1,"is_over":true}',
    ],
)
def test_a_line_that_is_no_head_is_refused(head, text):
    with pytest.raises(Malformed, match="no head"):
        read([lines_of(text)[0], head + b"\n"])


def test_another_store_in_the_same_file_is_refused(text):
    with pytest.raises(Malformed, match="another store"):
        read(lines_of(text, look(Witness(), "other", 1, 1, [])))
