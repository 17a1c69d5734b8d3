"""Who is taken for alive, and on what evidence."""

import fcntl
from dataclasses import replace
from pathlib import Path

import pytest

from aumai_transactions.errors import StoreUnavailable
from aumai_transactions.store import AppendAnswer
from aumai_transactions.stores.sqlite import SqliteStore, liveness, writer
from aumai_transactions.stores.sqlite.liveness import DriverLocks, DriverRow, boot_id
from aumai_transactions.testing.journals import claim, plan

NOW = 1_000


@pytest.fixture
def mine(path):
    locks = DriverLocks(path)
    yield locks
    locks.abandon()


@pytest.fixture
def theirs(path):
    locks = DriverLocks(path)
    yield locks
    locks.abandon()


def row_of(driver, lease_until=0):
    return DriverRow(
        driver.driver_id, boot_id(), driver.lock_name, driver.inode, driver.device, lease_until
    )


def lock_file(path, driver):
    return path.with_name("store.db-drivers") / driver.lock_name


def test_a_held_lock_proves_life_whatever_the_lease_says(mine, theirs):
    assert mine.is_alive(row_of(theirs.join(), lease_until=0), NOW)


def test_a_free_lock_proves_death_whatever_the_lease_says(mine, theirs):
    driver = theirs.join()
    theirs.abandon()
    assert not mine.is_alive(row_of(driver, lease_until=NOW + 1), NOW)


def test_our_own_drivers_are_alive(mine):
    assert mine.is_alive(row_of(mine.join()), NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"boot_id": "another boot"},
        {"boot_id": None},
        {"lock_name": None},
        {"lock_name": "../../store.db"},
        {"lock_name": "0" * 32 + ".lock"},
        {"lock_inode": "1"},
        {"lock_device": "1"},
    ],
)
def test_what_does_not_fit_leaves_it_to_the_lease(mine, theirs, change):
    driver = theirs.join()
    for is_held in (True, False):
        row = replace(row_of(driver), **change)
        assert mine.is_alive(replace(row, lease_until=NOW + 1), NOW)
        assert not mine.is_alive(replace(row, lease_until=NOW), NOW)
        if is_held:
            theirs.abandon()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_lock_file_that_is_gone_or_replaced_leaves_it_to_the_lease(path, mine, theirs, replaced):
    driver = theirs.join()
    file = lock_file(path, driver)
    file.rename(path.with_name("kept"))
    if replaced:
        file.touch()
    assert mine.is_alive(row_of(driver, lease_until=NOW + 1), NOW)
    assert not mine.is_alive(row_of(driver, lease_until=NOW), NOW)


def test_a_link_in_the_place_of_a_lock_file_is_not_followed(path, mine, theirs):
    driver = theirs.join()
    file = lock_file(path, driver)
    file.rename(path.with_name("kept"))
    file.symlink_to(path.with_name("kept"))
    assert not mine.is_alive(row_of(driver, lease_until=NOW), NOW)


def test_two_who_ask_do_not_take_each_other_for_the_driver(path, mine, theirs):
    driver = theirs.join()
    theirs.abandon()
    with lock_file(path, driver).open() as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        assert not mine.is_alive(row_of(driver, lease_until=NOW + 1), NOW)


def test_leaving_removes_the_lock_file(path, mine):
    driver = mine.join()
    mine.release(driver.driver_id, forget=True)
    assert not lock_file(path, driver).exists()
    mine.release(driver.driver_id, forget=True)


def test_a_lock_file_that_somebody_knows_stays(path, mine, theirs):
    driver = mine.join()
    mine.release(driver.driver_id, forget=False)
    assert lock_file(path, driver).exists()
    assert not theirs.is_alive(row_of(driver, lease_until=NOW + 1), NOW)


def test_tidying_up_takes_free_files_that_nobody_knows_and_no_others(path, mine, theirs):
    held, known, free = theirs.join(), mine.join(), mine.join()
    mine.release(known.driver_id, forget=False)
    mine.release(free.driver_id, forget=False)
    mine.sweep({known.lock_name})
    left = {entry.name for entry in path.with_name("store.db-drivers").iterdir()}
    assert left == {held.lock_name, known.lock_name}
    mine.sweep(set())
    assert mine.is_alive(row_of(held), NOW)


def test_a_lock_file_that_was_tidied_away_too_early_is_made_again(path, mine, monkeypatch):
    real = fcntl.flock
    removed: list[Path] = []

    def flock(descriptor, operation):
        if not removed:
            removed.extend(path.with_name("store.db-drivers").iterdir())
            removed[0].unlink()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    driver = mine.join()
    assert lock_file(path, driver).exists()
    assert lock_file(path, driver) not in removed


def test_a_folder_for_locks_that_cannot_be_made_is_named(path, mine):
    path.with_name("store.db-drivers").touch()
    with pytest.raises(StoreUnavailable, match=r"store\.db-drivers"):
        mine.join()


def test_without_flock_the_lease_decides(path, clock, monkeypatch):
    monkeypatch.setattr(liveness, "fcntl", None)
    monkeypatch.setattr(writer, "fcntl", None)
    with SqliteStore(path, clock=clock) as mine, SqliteStore(path, clock=clock) as theirs:
        me, them = mine.join(), theirs.join()
        theirs.append([plan("t"), claim("t", 2, 1, them)])
        clock.advance(29)
        assert mine.append([claim("t", 3, 2, me)]) == [AppendAnswer.held]
        theirs.renew(them)
        clock.advance(29)
        assert mine.append([claim("t", 3, 2, me)]) == [AppendAnswer.held]
        assert mine.due(me, 9, NOW) == []
        clock.advance(2)
        assert mine.due(me, 9, NOW) == ["t"]
        assert mine.append([claim("t", 3, 2, me)]) == [AppendAnswer.appended]
        theirs.leave(them)
    assert not path.with_name("store.db-drivers").exists()


def test_without_flock_a_driver_that_leaves_is_dead_at_once(path, clock, monkeypatch):
    monkeypatch.setattr(liveness, "fcntl", None)
    with SqliteStore(path, clock=clock) as mine:
        theirs = SqliteStore(path, clock=clock)
        me, them = mine.join(), theirs.join()
        theirs.append([plan("t"), claim("t", 2, 1, them)])
        theirs.close()
        assert mine.append([claim("t", 3, 2, me)]) == [AppendAnswer.appended]


def test_a_claim_renews_a_lease_that_is_half_over(path, clock):
    with SqliteStore(path, clock=clock) as store:
        driver = store.join()

        def lease_left():
            row = store._database.connection().execute("SELECT lease_until FROM drivers")
            return (row.fetchone()[0] - clock.now()) // 1_000_000

        store.append([plan("t"), claim("t", 2, 1, driver)])
        assert lease_left() == 30
        clock.advance(10)
        store.append([claim("t", 3, 2, driver)])
        assert lease_left() == 20
        clock.advance(10)
        store.append([claim("t", 4, 3, driver)])
        assert lease_left() == 30


def test_this_machine_has_a_boot_id_where_it_has_one():
    if Path("/proc/sys/kernel/random/boot_id").exists():
        assert boot_id()


def test_a_damaged_row_proves_no_life(path):
    row = DriverRow("d", None, None, None, None, None)
    assert not DriverLocks(path).is_alive(row, 0)
