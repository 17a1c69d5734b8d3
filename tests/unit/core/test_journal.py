"""The hash chain: what was changed is found and named."""

import pytest

from aumai_transactions.core.codec import encode
from aumai_transactions.core.entries import (
    Claimed,
    CommitRequested,
    RollbackRequested,
    StepStarted,
    StepSucceeded,
    TransactionActivated,
    TransactionCommitted,
)
from aumai_transactions.core.journal import NO_HASH, Journal, StoredEntry, chain_hash, load
from aumai_transactions.errors import JournalCorrupt, JournalTooNew


@pytest.fixture
def entries(play, make_step):
    return play(make_step("a"), make_step("b")).commit().returned("a").returned("b").entries


def chained(entries, name="tx"):
    """A journal of these entries as a store would keep it."""
    stored = []
    before = NO_HASH
    for sequence, entry in enumerate(entries, 1):
        body = entry if isinstance(entry, bytes) else encode(entry, f"e.{sequence}")
        before = chain_hash(name, sequence, before, body)
        stored.append(StoredEntry(sequence, body, before))
    return journal_of(stored, name)


def journal_of(stored, name="tx", *, head=None, count=None):
    stored = tuple(stored)
    last = stored[-1].hash if stored else NO_HASH
    return Journal(name, stored, len(stored) if count is None else count, head or last, 1, "d1")


def refused(journal):
    with pytest.raises(JournalCorrupt) as caught:
        load(journal)
    assert caught.value.transaction_id == journal.transaction_id
    return caught.value


def test_a_sound_journal_is_read(entries):
    saga = load(chained(entries))
    assert (saga.state.value, saga.sequence, saga.driver_id) == ("committed", len(entries), "d1")
    assert saga.touched == []


@pytest.mark.parametrize("place", range(9))
def test_an_edited_entry_is_found_and_named(entries, place):
    stored = list(chained(entries).entries)
    body = stored[place].body.replace(b'"at":1', b'"at":2', 1)
    assert body != stored[place].body
    stored[place] = StoredEntry(place + 1, body, stored[place].hash)
    assert refused(journal_of(stored)).sequence == place + 1


def test_an_edited_entry_with_a_new_hash_of_its_own_breaks_the_next_one(entries):
    sound = chained(entries).entries
    body = sound[3].body.replace(b'"at":1', b'"at":2', 1)
    forged = StoredEntry(4, body, chain_hash("tx", 4, sound[2].hash, body))
    assert refused(journal_of([*sound[:3], forged, *sound[4:]])).sequence == 5


@pytest.mark.parametrize("place", range(8))
def test_an_entry_that_was_removed_from_the_middle_is_missed(entries, place):
    stored = list(chained(entries).entries)
    del stored[place]
    error = refused(journal_of(stored, count=len(entries), head=stored[-1].hash))
    assert error.sequence == place + 1
    assert f"expected entry {place + 1}, found {place + 2}" in error.problem


def test_a_removed_entry_is_found_even_when_the_rest_was_renumbered(entries):
    stored = list(chained(entries).entries)
    del stored[4]
    moved = [StoredEntry(number, one.body, one.hash) for number, one in enumerate(stored, 1)]
    assert refused(journal_of(moved)).sequence == 5


@pytest.mark.parametrize("place", range(8))
def test_two_entries_that_changed_places_are_found(entries, place):
    stored = list(chained(entries).entries)
    first, second = stored[place], stored[place + 1]
    stored[place] = StoredEntry(place + 1, second.body, second.hash)
    stored[place + 1] = StoredEntry(place + 2, first.body, first.hash)
    assert refused(journal_of(stored)).sequence == place + 1


def test_a_journal_under_the_name_of_another_transaction_is_found(entries):
    mine = chained(entries)
    assert refused(journal_of(mine.entries, "other")).sequence == 1


@pytest.mark.parametrize("left", [1, 5, 8])
def test_a_cut_tail_is_found_against_the_summary(entries, left):
    whole = chained(entries)
    error = refused(journal_of(whole.entries[:left], count=len(entries)))
    assert f"says {len(entries)} entries, found {left}" in error.problem


def test_an_added_tail_is_found_against_the_summary(entries):
    longer = chained([*entries, Claimed(at=1, token=2, driver_id="d")])
    error = refused(journal_of(longer.entries, count=len(entries)))
    assert error.sequence == len(entries) + 1


def test_another_head_hash_in_the_summary_is_found(entries):
    assert "summary" in refused(journal_of(chained(entries).entries, head=b"x" * 32)).problem


def test_an_empty_journal_is_damaged():
    assert "no entries" in refused(journal_of([])).problem


def test_every_part_of_an_entry_goes_into_its_hash():
    first = chain_hash("tx", 1, NO_HASH, b"{}")
    assert len(first) == 32
    others = [
        chain_hash("ty", 1, NO_HASH, b"{}"),
        chain_hash("tx", 2, NO_HASH, b"{}"),
        chain_hash("tx", 1, first, b"{}"),
        chain_hash("tx", 1, NO_HASH, b"[]"),
        # The split between name and number is part of it.
        chain_hash("tx 1", 1, NO_HASH, b"{}"),
        chain_hash("t", 1, NO_HASH, b"x{}"),
    ]
    assert len({first, *others}) == 7


def test_an_entry_that_cannot_follow_is_named_though_its_chain_is_sound(entries):
    forged = [*entries, StepStarted(at=1, step_id="a", attempt=2)]
    assert refused(chained(forged)).sequence == len(forged)


def test_an_entry_about_a_step_that_the_plan_does_not_hold_is_named(entries):
    forged = [*entries[:4], StepStarted(at=1, step_id="zzz", attempt=1)]
    error = refused(chained(forged))
    assert error.sequence == 5
    assert "'zzz'" in error.problem


@pytest.mark.parametrize(
    "forged",
    [
        [CommitRequested(at=1)],
        [RollbackRequested(at=1)],
        [Claimed(at=1, token=1, driver_id="d")],
        [TransactionActivated(at=1), TransactionCommitted(at=1)],
        [StepSucceeded(at=1, step_id="a", attempt=1)],
    ],
    ids=lambda forged: type(forged[0]).__name__,
)
def test_a_journal_that_does_not_begin_with_a_plan_is_damaged(forged):
    assert refused(chained(forged)).sequence <= len(forged)


def test_an_entry_of_a_newer_release_is_named_and_not_called_damage(entries):
    sound = chained(entries)
    newer = sound.entries[5].body.replace(b'"v":1', b'"v":2')
    bodies = [*(one.body for one in sound.entries[:5]), newer]
    with pytest.raises(JournalTooNew) as caught:
        load(chained(bodies))
    assert caught.value.sequence == 6
