"""Every journal that a release has written is read by this one, whole and cut off anywhere."""
# mypy: disable-error-code="arg-type, dict-item, union-attr, var-annotated"

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import aumai_transactions
from aumai_transactions.core import codec
from aumai_transactions.core.journal import Journal, load
from aumai_transactions.core.kinds import KINDS
from aumai_transactions.errors import JournalCorrupt, JournalTooNew
from aumai_transactions.testing.history import told_by
from aumai_transactions.testing.invariants import JournalRules

HERE = Path(__file__).parent
VERSIONS = sorted(
    (folder.name for folder in HERE.iterdir() if (folder / "journals.jsonl").is_file()),
    key=lambda name: [int(part) for part in name.split(".")],
)
NEWEST = VERSIONS[-1]
JOURNALS_MIN = 200
BYTES_MAX = 1_000_000


class Golden(NamedTuple):
    """One recorded journal, and what was read up to each of its entries."""

    name: str
    transaction_id: str
    head: str
    bodies: list
    read: list


def sibling(name):
    spec = importlib.util.spec_from_file_location(f"golden_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


READING = sibling("reading")


def goldens_of(version):
    found = []
    for line in (HERE / version / "journals.jsonl").read_text("utf-8").splitlines()[1:]:
        told = json.loads(line)
        if isinstance(told, list):
            found[-1].read.append(told)
        elif "journal" in told:
            found.append(Golden(told["journal"], told["transaction_id"], told["head"], [], []))
        else:
            found[-1].bodies.append(line.encode("utf-8"))
    return found


ALL = {version: goldens_of(version) for version in VERSIONS}


def one_of_each_kind():
    """The first body of every kind in the newest folder, with the journal that it ends."""
    found = {}
    for golden in ALL[NEWEST]:
        for end, body in enumerate(golden.bodies, 1):
            found.setdefault(json.loads(body)["kind"], (golden, end))
    return found


ONE_OF_EACH = one_of_each_kind()


# ------------------------------------------------------------------------------- what is recorded


@pytest.mark.parametrize("version", VERSIONS)
def test_every_prefix_of_every_recorded_journal_reads_as_it_did(version):
    wrong = []
    prefixes = 0
    for golden in ALL[version]:
        for end, wanted in enumerate(golden.read, 1):
            journal = READING.journal_of(golden.transaction_id, golden.bodies[:end])
            found = list(READING.reading_of(journal))
            prefixes += 1
            if found != wanted:
                wrong.append(f"{golden.name} up to entry {end}: was {wanted}, is {found}")
        if READING.journal_of(golden.transaction_id, golden.bodies).head_hash.hex() != golden.head:
            wrong.append(f"{golden.name}: its chain ends in another hash")
    assert wrong[:5] == []
    assert prefixes == sum(len(golden.bodies) for golden in ALL[version]) > JOURNALS_MIN


@pytest.mark.parametrize("version", VERSIONS)
def test_every_recorded_entry_means_the_same_when_this_release_writes_it(version):
    wrong = []
    for golden in ALL[version]:
        for number, body in enumerate(golden.bodies, 1):
            found = codec.decode(body, golden.transaction_id, number)
            again = codec.encode(found[1], found[0])
            if codec.decode(again, golden.transaction_id, number) != found:
                wrong.append(f"{golden.name} entry {number}")
    assert wrong == []


def test_the_checkers_find_nothing_wrong_with_what_a_release_has_written():
    found = []
    for golden in ALL[NEWEST]:
        journal = READING.journal_of(golden.transaction_id, golden.bodies)
        found += [(golden.name, text) for text in told_by(journal, JournalRules).problems]
    assert found == []


# ------------------------------------------------------------------------------------ it is enough


def test_every_kind_of_entry_occurs_in_the_newest_folder():
    assert sorted(set(KINDS) - set(ONE_OF_EACH)) == []


def test_there_is_a_folder_for_this_version_with_enough_in_it():
    assert aumai_transactions.__version__ in VERSIONS
    for version in VERSIONS:
        assert len(ALL[version]) >= JOURNALS_MIN
        assert (HERE / version / "journals.jsonl").stat().st_size < BYTES_MAX
        assert len({golden.name for golden in ALL[version]}) == len(ALL[version])


def test_every_state_occurs():
    states = {read[0].partition(" ")[0] for golden in ALL[NEWEST] for read in golden.read}
    everything = {"pending", "active", "committing", "committed", "compensating", "rolled_back"}
    assert states == everything | {"failed"}


@pytest.mark.deep
def test_recording_draws_nothing(tmp_path):
    """The same sources write the same bytes, whatever Python's hash seed is."""
    program = "import importlib.util as u, sys;s = u.spec_from_file_location('r', sys.argv[1]);"
    program += "m = u.module_from_spec(s);s.loader.exec_module(m);print(m.text(), end='')"
    written = [
        subprocess.run(
            [sys.executable, "-c", program, HERE / "record.py"],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            cwd=tmp_path,
        ).stdout
        for seed in ("1", "2")
    ]
    assert written[0] == written[1]
    assert len(written[0]) > JOURNALS_MIN


# ----------------------------------------------------------------------- too new, and damaged ones


def changed(kind, change):
    """A journal whose last entry, the first of its kind, was changed and chained anew."""
    golden, end = ONE_OF_EACH[kind]
    bodies = list(golden.bodies[:end])
    bodies[-1] = change(bodies[-1])
    return READING.journal_of(golden.transaction_id, bodies), end


def edited(**fields):
    def change(body):
        return json.dumps(json.loads(body) | fields).encode()

    return change


TOO_NEW = {
    "a newer format": edited(v=codec.FORMAT_VERSION + 1),
    "a kind that is not known": edited(kind="step_teleported"),
    "a field that is not known": edited(mood="good"),
}


@pytest.mark.parametrize("what", TOO_NEW)
@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_of_a_later_release_is_refused_by_name(kind, what):
    journal, end = changed(kind, TOO_NEW[what])
    with pytest.raises(JournalTooNew) as caught:
        load(journal)
    assert (caught.value.transaction_id, caught.value.sequence) == (journal.transaction_id, end)
    said = {"v": "format version 2", "k": "step_teleported", "f": f"'mood' of {kind}"}
    word = {"a newer format": "v", "a kind that is not known": "k"}.get(what, "f")
    assert said[word] in str(caught.value)


DAMAGED = {
    "half of it is gone": lambda body: body[: len(body) // 2],
    "it is no object": lambda body: b"[" + body + b"]",
    "it says no time": edited(at="noon"),
    "its name is no text": edited(id=7),
    "it is empty": lambda body: b"",
}


@pytest.mark.parametrize("what", DAMAGED)
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_entry_is_refused_by_name_even_where_its_chain_fits(kind, what):
    journal, end = changed(kind, DAMAGED[what])
    with pytest.raises(JournalCorrupt) as caught:
        load(journal)
    assert (caught.value.transaction_id, caught.value.sequence) == (journal.transaction_id, end)


@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_with_one_flipped_bit_is_refused_by_its_hash(kind):
    golden, end = ONE_OF_EACH[kind]
    journal = READING.journal_of(golden.transaction_id, golden.bodies[:end])
    last = journal.entries[-1]
    at = re.search(rb'"at":\d*(\d)', last.body).start(1)
    flipped = last.body[:at] + bytes([last.body[at] ^ 1]) + last.body[at + 1 :]  # still a digit
    codec.decode(flipped, golden.transaction_id, end)
    entries = (*journal.entries[:-1], last._replace(body=flipped))
    with pytest.raises(JournalCorrupt, match=f"entry {end}: its hash"):
        load(journal._replace(entries=entries))


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"plan_recorded", "transaction_imported"}))
def test_an_entry_that_comes_before_the_plan_is_refused_by_its_place(kind):
    golden, end = ONE_OF_EACH[kind]
    bodies = [golden.bodies[end - 1], *golden.bodies]
    with pytest.raises(JournalCorrupt) as caught:
        load(READING.journal_of(golden.transaction_id, bodies))
    assert caught.value.sequence == 1


@pytest.mark.parametrize("kind", ["plan_recorded", "transaction_imported", "transaction_committed"])
def test_an_entry_that_comes_behind_the_end_is_refused_by_its_place(kind):
    golden, end = ONE_OF_EACH["transaction_committed"]
    other, place = ONE_OF_EACH[kind]
    bodies = [*golden.bodies[:end], other.bodies[place - 1]]
    with pytest.raises(JournalCorrupt) as caught:
        load(READING.journal_of(golden.transaction_id, bodies))
    assert caught.value.sequence == end + 1


def test_the_others_of_a_store_are_read_although_one_is_refused():
    """I16: what is too new stops its own transaction, and no other."""
    journal, _end = changed("claimed", TOO_NEW["a newer format"])
    golden = ALL[NEWEST][0]
    sound = READING.journal_of(golden.transaction_id, golden.bodies)
    with pytest.raises(JournalTooNew):
        load(journal)
    assert load(sound).sequence == len(golden.bodies)
    assert isinstance(sound, Journal)
