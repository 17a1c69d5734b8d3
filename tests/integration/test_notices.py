"""What a program hears while others change what its transaction has read."""

# mypy: disable-error-code="var-annotated, attr-defined, union-attr"

import logging
import threading

import pytest

from aumai_transactions import (
    DefinitionError,
    InvalidTransactionState,
    ReadConflict,
    Resource,
    StoreUnavailable,
    TransactionNotActive,
)

GUARD_SECONDS = 60
READS = {"isolation": "validated"}


class Heard:
    """A callback that remembers what it was told, and waits for it."""

    def __init__(self, then=lambda notice: None):
        self.notices = []
        self._then = then
        self._came = threading.Condition()

    def __call__(self, notice):
        try:
            return self._then(notice)
        finally:
            with self._came:
                self.notices.append(notice)
                self._came.notify_all()

    def until(self, count):
        with self._came:
            assert self._came.wait_for(lambda: len(self.notices) >= count, GUARD_SECONDS)
        return self.notices


class Seen:
    """A store that tells what it has shown of locks, and may fail to."""

    def __init__(self, store):
        self._store = store
        self._changed = threading.Condition()
        self.tables = []
        self.failures = 0
        self.waits = 0

    def __getattr__(self, name):
        return getattr(self._store, name)

    def locks(self, resources):
        table = self._store.locks(resources)
        with self._changed:
            self.tables.append(table)
            self._changed.notify_all()
            if self.failures:
                self.failures -= 1
                raise StoreUnavailable("not now")
        return table

    def wait_for_news(self, seconds):
        with self._changed:
            self.waits += 1
            self._changed.notify_all()
        return self._store.wait_for_news(seconds)

    def until_looked_twice(self):
        with self._changed:
            wanted = self.waits + 2
            assert self._changed.wait_for(lambda: self.waits >= wanted, GUARD_SECONDS)

    def until(self, wanted):
        with self._changed:
            told = self._changed.wait_for(lambda: any(map(wanted, self.tables)), GUARD_SECONDS)
        assert told, "nobody has looked"


@pytest.fixture
def joined(place, world):
    """Make managers that meet in one place."""
    made = world()

    def join(store=place, **options):
        manager = made.join(store, None, **options)
        manager.action("read", effect="none", resources=[Resource.shared("{thing}")])(made.note)
        manager.action("write", compensating_action="undo", resources=["{thing}"])(made.note)
        return manager

    return join


def write(manager, thing="r"):
    with manager.transaction() as tx:
        tx.execute("other", "write", {"thing": thing})
    return tx.transaction_id


def ended(name):
    """Wait until the threads of this name have ended."""
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(GUARD_SECONDS)
            assert not thread.is_alive(), "it never ends"


def runs(name):
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_a_program_that_hears_of_a_change_reads_again_and_commits(joined):
    manager, other = joined(), joined()
    with manager.transaction(**READS) as tx:
        # Why describe: it would wait for ever, were anybody told under the transaction's lock.
        heard = tx.on_conflict(Heard(lambda _notice: str(tx.describe())))
        tx.execute("agent", "read", {"thing": "r"})
        write(other)
        (notice,) = heard.until(1)
        assert (notice.resource, notice.version_read, notice.version_now) == ("r", 0, 1)
        assert (notice.steps, notice.can_read_again) == (["s1"], True)
        assert tx.describe().changed_since_read == tx.conflicts() == [notice]
        tx.undo("s1")
        assert tx.describe().changed_since_read == []
        tx.execute("agent", "read", {"thing": "r"})
    assert tx.result.state == "committed"
    assert tx.result.warnings == []
    assert heard.notices == [notice]


def test_who_does_nothing_about_it_is_refused_as_before(joined):
    manager, other = joined(), joined()
    tx = manager.transaction(**READS)
    with pytest.raises(ReadConflict), tx:  # noqa: PT012 (the block raises at its end)
        heard = tx.on_conflict(Heard())
        tx.execute("agent", "read", {"thing": "r"})
        write(other)
        heard.until(1)
    assert tx.result.reason == "conflict"


def test_each_change_is_told_once_and_only_of_what_was_read(joined):
    manager, other = joined(), joined()
    with manager.transaction(**READS) as tx:
        heard = tx.on_conflict(Heard())
        tx.execute("agent", "read", {"thing": "r"})
        tx.execute("agent", "read", {"thing": "s"})
        write(other, "t")
        write(other, "r")
        heard.until(1)
        write(other, "r")
        heard.until(2)
        write(other, "s")
        heard.until(3)
        tx.rollback()
    told = [(notice.resource, notice.version_now) for notice in heard.notices]
    assert told == [("r", 1), ("r", 2), ("s", 1)]


@pytest.mark.parametrize("commits", [True, False], ids=["committed", "rolled back"])
def test_who_is_seen_writing_is_named_once_it_has_committed(joined, gated, commits):
    seen = Seen(gated)
    manager, other = joined(seen), joined(gated)
    writing = other.transaction()
    with manager.transaction(**READS) as tx:
        heard = tx.on_conflict(Heard())
        tx.execute("agent", "read", {"thing": "r"})
        with writing:
            writing.execute("other", "write", {"thing": "r"})
            seen.until(lambda table: any(lock.token == 1 for lock in table.locks))
            assert heard.notices == []
            if not commits:
                writing.rollback()
        (notice,) = heard.until(1)
        tx.rollback()
    assert notice.is_certain is commits
    assert notice.changed_by == (writing.transaction_id if commits else None)


def test_a_callback_may_look_and_is_refused_by_name_whatever_else_it_asks(joined):
    manager, other = joined(), joined()
    refused = []

    def tries(notice):
        for act in (
            lambda: tx.execute("agent", "read", {"thing": "r"}),
            lambda: tx.undo("s1"),
            tx.savepoint,
            tx.transaction,
            tx.commit,
            tx.rollback,
            lambda: manager.rollback(tx.transaction_id),
            lambda: manager.join(tx.transaction_id).rollback(),
        ):
            with pytest.raises(InvalidTransactionState, match="by a callback of on_conflict"):
                act()
            refused.append(act)
        assert tx.state == "active"

    with manager.transaction(**READS) as tx:
        heard = tx.on_conflict(Heard(tries))
        tx.execute("agent", "read", {"thing": "r"})
        write(other)
        heard.until(1)
        assert [step.state.value for step in tx.steps] == ["succeeded"]
        tx.rollback()
    assert len(refused) == 8
    assert tx.result.warnings == []


def test_what_a_callback_raises_is_a_warning_and_changes_nothing(joined, caplog):
    manager, other = joined(), joined()

    def fails(notice):
        raise ValueError(f"about {notice.resource}")

    with caplog.at_level(logging.CRITICAL), manager.transaction(**READS) as tx:
        heard = tx.on_conflict(Heard(fails))
        also = tx.on_conflict(Heard())
        tx.execute("agent", "read", {"thing": "r"})
        write(other)
        heard.until(1)
        also.until(1)
        tx.undo("s1")
    assert tx.result.state == "committed"
    (warning,) = tx.result.warnings
    assert warning == "the callback of on_conflict raised ValueError: about r (about r)"


def test_an_async_callback_is_awaited_under_threads_too(joined):
    manager, other = joined(), joined()
    heard = Heard()
    with manager.transaction(**READS) as tx:

        @tx.on_conflict
        async def told(notice):
            heard(notice)

        tx.execute("agent", "read", {"thing": "r"})
        write(other)
        heard.until(1)
        tx.rollback()
    assert tx.result.warnings == []


def test_a_store_that_fails_to_show_its_locks_is_asked_again(joined, gated, caplog):
    seen = Seen(gated)
    manager, other = joined(seen), joined(gated)
    with manager.transaction(**READS) as tx:
        tx.execute("agent", "read", {"thing": "r"})
        seen.failures = 2
        with caplog.at_level(logging.WARNING):
            heard = tx.on_conflict(Heard())
            write(other)
            heard.until(1)
        tx.rollback()
    assert caplog.text.count("nobody can look now") == 1


def test_a_pivot_that_was_not_done_ends_no_listening(joined, gated):
    seen = Seen(gated)
    manager, other = joined(seen), joined(gated)

    @manager.action("pay")
    def pay(action, data):
        seen.until_looked_twice()
        raise ValueError("no money")

    with manager.transaction(**READS) as tx:
        heard = tx.on_conflict(Heard())
        tx.execute("agent", "read", {"thing": "r"})
        with pytest.raises(ValueError, match="no money"):
            tx.execute("agent", "pay", pivot=True)
        write(other)
        heard.until(1)
        tx.rollback()


# -------------------------------------------------------------------------------- how it ends


def test_where_nobody_wants_to_be_told_nobody_looks(joined):
    ended("aumai-conflicts")
    manager = joined()
    with manager.transaction(**READS) as tx:
        tx.execute("agent", "read", {"thing": "r"})
        assert tx.conflicts() == []
        assert runs("aumai-conflicts") == []


def test_where_nothing_is_validated_there_is_nothing_to_look_for(joined):
    ended("aumai-conflicts")
    manager = joined()
    with manager.transaction() as tx:
        tx.on_conflict(Heard())
        tx.execute("agent", "read", {"thing": "r"})
        assert runs("aumai-conflicts") == []


@pytest.mark.parametrize("way", ["left", "committed", "raised", "closed"])
def test_nobody_looks_any_more_once_it_has_ended(joined, way):
    ended("aumai-conflicts")
    manager = joined()
    tx = manager.transaction(**READS)
    try:
        with tx:
            tx.on_conflict(Heard())
            tx.execute("agent", "read", {"thing": "r"})
            assert len(runs("aumai-conflicts")) == 1
            if way == "committed":
                tx.commit()
                ended("aumai-conflicts")
            if way == "raised":
                raise KeyError(way)
            if way == "closed":
                manager.close()
                ended("aumai-conflicts")
    except (KeyError, TransactionNotActive):
        assert way in ("raised", "closed")
    ended("aumai-conflicts")
    with pytest.raises(TransactionNotActive):
        tx.on_conflict(Heard())


def test_all_blocks_of_a_manager_share_one_thread(joined):
    ended("aumai-conflicts")
    manager, other = joined(), joined()
    blocks = []

    def agent(started):
        with manager.transaction(**READS) as tx:
            heard = tx.on_conflict(Heard())
            tx.execute("agent", "read", {"thing": "r"})
            blocks.append(heard)
            started.wait(GUARD_SECONDS)
            heard.until(1)
            tx.rollback()

    started = threading.Barrier(5)
    agents = [threading.Thread(target=agent, args=(started,), daemon=True) for _ in range(4)]
    for thread in agents:
        thread.start()
    started.wait(GUARD_SECONDS)
    assert len(runs("aumai-conflicts")) == 1
    write(other)
    for thread in agents:
        thread.join(GUARD_SECONDS)
        assert not thread.is_alive()
    assert [len(heard.notices) for heard in blocks] == [1] * 4


def test_a_nested_block_hears_of_what_its_root_has_read_until_it_is_left(joined):
    manager, other = joined(), joined()
    with manager.transaction(**READS) as tx:
        outside = tx.on_conflict(Heard())
        tx.execute("agent", "read", {"thing": "r"})
        with tx.transaction() as child:
            inside = child.on_conflict(Heard())
            write(other)
            (notice,) = inside.until(1)
            outside.until(1)
            assert child.conflicts() == tx.conflicts() == [notice]
        write(other)
        outside.until(2)
        tx.rollback()
    assert inside.notices == [notice]


@pytest.mark.parametrize("kind", ["nested", "joined"])
def test_nobody_looks_any_more_once_the_only_block_that_listens_is_left(joined, kind):
    ended("aumai-conflicts")
    manager = joined()
    with manager.transaction(**READS) as tx:
        tx.execute("agent", "read", {"thing": "r"})
        inner = tx.transaction() if kind == "nested" else manager.join(tx.transaction_id)
        with inner:
            inner.on_conflict(Heard())
            assert len(runs("aumai-conflicts")) == 1
        ended("aumai-conflicts")
        assert tx.state == "active"


def test_a_callback_that_still_runs_is_left_behind_and_named(joined, signal, caplog):
    manager, other = joined(), joined()
    begun, may_end = signal(), signal()

    def lingers(notice):
        begun.set()
        may_end.wait()

    with caplog.at_level(logging.CRITICAL), manager.transaction(**READS) as tx:
        tx.on_conflict(lingers)
        tx.execute("agent", "read", {"thing": "r"})
        write(other)
        begun.wait()
        tx.undo("s1")
    assert tx.result.state == "committed"
    assert tx.result.warnings == [
        "a callback of on_conflict still ran when its block had been left"
    ]
    may_end.set()
    ended("aumai-on-conflict")


def test_what_cannot_be_called_is_refused(joined):
    with joined().transaction() as tx, pytest.raises(DefinitionError, match="takes a function"):
        tx.on_conflict("told")
