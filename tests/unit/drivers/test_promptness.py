"""When an event loop waits for a write itself, and when a thread does."""
# mypy: disable-error-code="arg-type, attr-defined, list-item, union-attr, index"

import pytest

from aumai_transactions.drivers import promptness
from aumai_transactions.drivers.promptness import PROMPT_SECONDS, Promptness
from aumai_transactions.errors import StoreError, StoreUnavailable
from aumai_transactions.stores.memory import MemoryStore
from aumai_transactions.stores.sqlite import SqliteStore


class Prompt:
    """It answers what it is told to."""

    def __init__(self):
        self.answers = []

    def append(self, appends):
        pytest.fail("a write that may wait was made in the loop")

    def append_at_once(self, appends):
        answer = self.answers.pop(0) if self.answers else ["answer" for _ in appends]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def now(monkeypatch):
    class Now:
        seconds = 1_000.0

    monkeypatch.setattr(promptness, "monotonic", lambda: Now.seconds)
    return Now


def test_a_store_that_has_no_such_write_is_never_written_in_the_loop():
    store = MemoryStore()
    assert not Promptness(store).is_given()
    assert Promptness(store).written(["one"]) is None


def test_whoever_overrides_or_wraps_append_means_it(tmp_path):
    class Counting(SqliteStore):
        def append(self, appends):
            return super().append(appends)

    class Passing:
        def __init__(self, store):
            self.store = store

        def __getattr__(self, name):
            return getattr(self.store, name)

    class Renamed(SqliteStore):
        pass

    with SqliteStore(tmp_path / "s.db") as store:
        assert Promptness(store).is_given()
        assert not Promptness(Passing(store)).is_given()
    with Counting(tmp_path / "s.db") as store:
        assert not Promptness(store).is_given()
    with Renamed(tmp_path / "s.db") as store:
        assert Promptness(store).is_given()


def test_writes_are_made_in_the_loop_while_they_are_short(now):
    prompt = Promptness(Prompt())
    for _ in range(100):
        prompt.note(PROMPT_SECONDS * 0.9)
    assert prompt.is_given()
    assert prompt.written(["one", "two"]) == ["answer", "answer"]


def test_one_long_write_is_no_reason_yet_and_several_are(now):
    prompt = Promptness(Prompt())
    prompt.note(PROMPT_SECONDS * 4)
    assert prompt.is_given()
    for _ in range(20):
        prompt.note(PROMPT_SECONDS * 4)
    assert not prompt.is_given()
    assert prompt.written(["one"]) is None


def test_a_slow_disk_is_tried_again_ever_more_rarely_and_trusted_as_soon_as_it_is_quick(now):
    prompt = Promptness(Prompt())
    prompt.note(PROMPT_SECONDS * 100)
    pauses = []
    for _ in range(10):
        assert not prompt.is_given()
        begun = now.seconds
        while not prompt.is_given():
            now.seconds += 0.25
        pauses.append(now.seconds - begun)
        prompt.note(PROMPT_SECONDS * 100)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    now.seconds += 60
    prompt.note(PROMPT_SECONDS / 100)
    assert prompt.is_given()
    assert prompt._pause == 1


def test_who_would_have_to_wait_does_not_count_as_slow(now):
    store = Prompt()
    prompt = Promptness(store)
    store.answers = [None] * 20
    assert [prompt.written(["one"]) for _ in range(20)] == [None] * 20
    assert prompt.is_given()


def test_what_fails_has_an_exception_for_each(now):
    store = Prompt()
    prompt = Promptness(store)
    error = StoreUnavailable("the disk is full", outcome_unknown=True)
    store.answers = [error]
    found = prompt.written(["one", "two"])
    assert [(type(one), one.outcome_unknown) for one in found] == [(StoreUnavailable, True)] * 2
    assert found[0] is not found[1]


def test_what_one_append_is_refused_for_is_found_out_by_a_thread(now):
    store = Prompt()
    prompt = Promptness(store)
    error = StoreError("it cannot be written")
    store.answers = [error, error]
    assert prompt.written(["one", "two"]) is None
    assert prompt.written(["one"]) == [error]
