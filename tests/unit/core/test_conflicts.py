"""What a program is told of changes by others, and when."""

# mypy: disable-error-code="misc, union-attr, valid-type"

import pytest

from aumai_transactions.core.conflicts import Lookout, in_force, may_be_told, notice_of
from aumai_transactions.core.decider import advance
from aumai_transactions.core.definition import ResourceUse
from aumai_transactions.core.description import describe
from aumai_transactions.core.locking import Fence, Lock, LockTable
from aumai_transactions.core.observations import LocksSeen


def shown(version=0, holder=None, name="r", mode="exclusive"):
    locks = [] if holder is None else [Lock(name, mode, holder, version, 1)]
    return LockTable(locks, {name: Fence(version, version)})


@pytest.fixture
def reading(program):
    """A program that reads `r` under whichever version `table` shows."""

    class Reading(program):
        table = shown()

        def see(self, *seen):
            saga = self.saga
            entries, calls = advance(saga, seen, self.now, self.parallel_max)
            if saga.locks is not None and saga.locks.look:
                looked = [LocksSeen(self.table)]
                more, further = advance(saga, looked, self.now, self.parallel_max)
                entries, calls = [*entries, *more], [*calls, *further]
                saga.locks.look.clear()
                saga.locks.checked = False
            self.entries += entries
            self.calls = [f"{call.operation}:{call.step.step_id}" for call in calls]
            return self

        def read(self, name, **options):
            options.setdefault("resources", (ResourceUse("r", "shared"),))
            return self.did(name, effect="none", compensating_action=None, **options)

        def compare(self, lookout, table):
            return [tuple(changed) for changed in lookout.compare(self.saga, table)]

        def notice(self, table, *, is_certain=False):
            (changed,) = Lookout().compare(self.saga, table)
            return notice_of(self.saga, changed, self.now, is_certain=is_certain)

    return lambda **options: Reading(isolation="validated", **options)


def test_what_has_not_changed_is_not_told(reading):
    assert reading().read("a").compare(Lookout(), shown()) == []


def test_what_nobody_has_read_is_not_told(reading):
    assert reading().did("a").compare(Lookout(), shown(3)) == []
    assert reading().read("a").compare(Lookout(), shown(3, name="s")) == []


def test_a_change_is_told_once(reading):
    it, lookout = reading().read("a"), Lookout()
    assert it.compare(lookout, shown(3)) == [("r", 0, 3, None)]
    assert it.compare(lookout, shown(3)) == []
    assert it.compare(lookout, shown(5)) == [("r", 0, 5, None)]


def test_a_change_is_told_only_once_its_holder_is_over(reading):
    it, lookout = reading().read("a"), Lookout()
    assert it.compare(lookout, shown(1, "b")) == []
    assert it.compare(lookout, shown(1, "b")) == []
    assert it.compare(lookout, shown(1)) == [("r", 0, 1, "b")]


def test_who_holds_it_shared_is_in_no_way(reading):
    it = reading().read("a")
    assert it.compare(Lookout(), shown(1, "b", mode="shared")) == [("r", 0, 1, None)]


def test_where_holders_follow_each_other_closely_all_but_the_last_are_told(reading):
    it, lookout = reading().read("a"), Lookout()
    assert it.compare(lookout, shown(1, "b")) == []
    assert it.compare(lookout, shown(4, "c")) == [("r", 0, 1, "b")]
    assert it.compare(lookout, shown(9)) == [("r", 0, 9, None)]


def test_what_was_read_again_is_told_only_when_it_has_changed_again(reading):
    it, lookout = reading().read("a"), Lookout()
    assert it.compare(lookout, shown(3)) == [("r", 0, 3, None)]
    it.undo("a")
    assert it.compare(lookout, shown(3)) == []
    it.table = shown(3)
    it.read("again")
    assert it.compare(lookout, shown(2)) == []  # What was shown is older than what was read.
    assert it.compare(lookout, shown(3)) == []
    assert it.compare(lookout, shown(4)) == [("r", 3, 4, None)]


def test_nothing_is_told_where_nothing_can_be_done_any_more(reading):
    held = reading().read("a").ask("h", on_commit=True).commit()
    assert held.state == "committing"
    pivot = reading().read("a").ask("p", pivot=True, compensating_action=None)
    for it in (held, pivot, reading().read("a").rollback(), reading().read("a").commit()):
        assert not may_be_told(it.saga)
        assert it.compare(Lookout(), shown(3)) == []


def test_a_notice_names_the_steps_and_says_what_can_be_done(reading):
    notice = reading().read("a").did("w").read("b").notice(shown(3))
    assert notice.steps == ["a", "b"]
    assert (notice.can_read_again, notice.can_be_rolled_back) == (True, True)
    assert str(notice) == (
        "r may have changed since it was read by a, b; the commit will be refused: "
        "undo a, b and read again, or roll back"
    )


def test_who_has_committed_is_named(reading):
    it, lookout = reading().read("a"), Lookout()
    it.compare(lookout, shown(1, "b"))
    (changed,) = lookout.compare(it.saga, shown(1))
    sure = notice_of(it.saga, changed, it.now, is_certain=True)
    assert (sure.is_certain, sure.changed_by) == (True, "b")
    assert str(sure).startswith("r has been changed by transaction b since it was read by a;")
    unsure = notice_of(it.saga, changed, it.now, is_certain=False)
    assert (unsure.is_certain, unsure.changed_by) == (False, None)


def test_what_cannot_be_undone_cannot_be_read_again(reading):
    shared = (ResourceUse("r", "shared"),)
    stays = reading().did("a", compensating_action=None, resources=shared)
    failed = reading().ask("a", resources=shared).raised("a")
    late = reading().did("a", undo_within_seconds=1, resources=shared)
    late.now += 2_000_000
    runs = reading().ask("a", resources=shared)
    for it in (stays, failed, late, runs):
        notice = it.notice(shown(3))
        assert not notice.can_read_again
        assert str(notice).endswith("read by a; the commit will be refused: roll back")


def test_of_what_was_undone_meanwhile_there_is_no_notice(reading):
    it = reading().read("a")
    (changed,) = Lookout().compare(it.saga, shown(3))
    it.undo("a")
    assert notice_of(it.saga, changed, it.now, is_certain=True) is None


def test_a_description_names_what_still_hinders_the_commit(reading):
    it = reading().read("a")
    notices = [it.notice(shown(3)), it.notice(shown(4))]
    found = describe(it.saga, it.now, notices)
    assert found.changed_since_read == [notices[1]]
    assert str(found).splitlines()[-2:] == ["changed since it was read:", f"- {notices[1]}"]
    assert type(found).model_validate_json(found.model_dump_json()) == found
    it.undo("a")
    assert in_force(it.saga, notices) == []
    assert "changed since" not in str(describe(it.saga, it.now, notices))
