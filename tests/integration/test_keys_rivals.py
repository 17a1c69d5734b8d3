"""One idempotency key in several hands at once: threads, tasks, managers, processes, kills."""
# mypy: disable-error-code="union-attr, var-annotated"

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from aumai_transactions import (
    AsyncTransactionManager,
    IdempotencyKeyReused,
    TransactionManager,
)
from aumai_transactions.core.entries import StepStarted
from aumai_transactions.core.journal import entries
from aumai_transactions.stores import open_store
from aumai_transactions.stores.memory import MemoryStore

KEY = "order-7"
PROGRAM = Path(__file__).with_name("keys_program.py")


def program(manager, *actions, data=None):
    tx = manager.begin(idempotency_key=KEY)
    for action in actions or ("act",):
        manager.add_step(tx, "agent", action, data or {}, "undo")
    return manager.commit(tx)


async def task(manager, *actions):
    tx = await manager.begin(idempotency_key=KEY)
    for action in actions or ("act",):
        manager.add_step(tx, "agent", action, {}, "undo")
    return await manager.commit(tx)


def recorder(calls):
    return dict.fromkeys(("act", "undo"), lambda action, data: calls.append(action))


@pytest.fixture
def join(place):
    """Make managers that meet at one place."""
    made = []

    def join(handlers, **options):
        made.append(TransactionManager(handlers, store=place, **options))
        return made[-1]

    yield join
    for manager in made:
        manager.close()


# ---------------------------------------------------------------------------------- threads, tasks


@pytest.mark.parametrize("managers", [1, 2])
def test_of_threads_with_one_key_one_acts_and_all_get_the_same_outcome(join, in_thread, managers):
    calls = []
    together = threading.Barrier(6)
    made = [join(recorder(calls)) for _ in range(managers)]

    def one(number):
        together.wait()
        return program(made[number % managers])

    results = [thread.result() for thread in [in_thread(one, number) for number in range(6)]]
    assert calls == ["act"]
    assert {result.state.value for result in results} == {"committed"}
    assert len({result.transaction_id for result in results}) == 1
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("managers", [1, 2])
def test_of_tasks_with_one_key_one_acts_and_all_get_the_same_outcome(place, managers):
    async def story():
        calls = []
        made = [AsyncTransactionManager(recorder(calls), store=place) for _ in range(managers)]
        results = await asyncio.gather(*(task(made[number % managers]) for number in range(6)))
        assert calls == ["act"]
        assert all(result == results[0] for result in results)
        assert results[0].state.value == "committed"
        for manager in made:
            await manager.close()

    asyncio.run(story())


@pytest.mark.parametrize("is_same", [True, False])
def test_who_comes_while_another_acts_waits_for_its_outcome(join, in_thread, signal, is_same):
    entered, go, asked = signal(), signal(), signal()
    calls = []

    def act(action, data):
        calls.append(action)
        entered.set()
        go.wait()
        return "acted"

    first = join({"act": act})
    second = first if is_same else join({"act": act})
    one = in_thread(program, first)
    entered.wait()

    def again():
        tx = second.begin(idempotency_key=KEY)
        second.add_step(tx, "agent", "act", {}, "undo")
        asked.set()
        return second.commit(tx)

    other = in_thread(again)
    asked.wait()
    go.set()
    assert one.result() == other.result()
    assert (one.result().outputs, calls) == ({"s1": "acted"}, ["act"])


@pytest.mark.parametrize("is_same", [True, False])
def test_who_planned_the_same_at_the_same_time_waits_until_it_is_durable(
    gated, in_thread, signal, is_same
):
    calls = []
    writing, go, asked = signal(), signal(), signal()

    def hold():
        writing.set()
        go.wait()

    handlers = recorder(calls)
    first = TransactionManager(handlers, store=gated)
    second = first if is_same else TransactionManager(handlers, store=gated)
    planned = []
    for manager in (first, second):
        tx = manager.begin(idempotency_key=KEY)
        manager.add_step(tx, "agent", "act", {}, "undo")
        planned.append(tx)
    gated.before["CommitRequested"] = hold
    one = in_thread(first.commit, planned[0])
    writing.wait()

    def again():
        asked.set()
        return second.commit(planned[1])

    other = in_thread(again)
    asked.wait()
    go.set()
    assert one.result() == other.result()
    assert (one.result().state.value, calls) == ("committed", ["act"])
    first.close()
    second.close()


@pytest.mark.parametrize("is_same", [True, False])
def test_who_planned_something_else_at_the_same_time_is_refused(join, is_same):
    calls = []
    first = join(recorder(calls))
    second = first if is_same else join(recorder(calls))
    one, other = first.begin(idempotency_key=KEY), second.begin(idempotency_key=KEY)
    first.add_step(one, "agent", "act", {"n": 1})
    second.add_step(other, "agent", "act", {"n": 2})
    assert first.commit(one).state.value == "committed"
    with pytest.raises(IdempotencyKeyReused, match="another plan"):
        second.commit(other)
    assert calls == ["act"]


@pytest.mark.parametrize("is_same", [True, False])
def test_who_planned_what_another_has_saved_since_carries_it_out(join, is_same):
    calls = []
    first = join(recorder(calls))
    second = first if is_same else join(recorder(calls))
    one, other = first.begin(idempotency_key=KEY), second.begin(idempotency_key=KEY)
    for manager, tx in ((first, one), (second, other)):
        manager.add_step(tx, "agent", "act", {}, "undo")
    first.save(one)
    result = second.commit(other)
    assert (result.state.value, calls) == ("committed", ["act"])
    assert first.commit(one) == result
    assert one.state.value == "committed"


def test_who_planned_something_else_than_another_has_saved_since_is_refused(join):
    first, second = join(recorder([])), join(recorder([]))
    one, other = first.begin(idempotency_key=KEY), second.begin(idempotency_key=KEY)
    first.add_step(one, "agent", "act", {})
    second.add_step(other, "agent", "undo", {})
    first.save(one)
    with pytest.raises(IdempotencyKeyReused, match="another plan"):
        second.commit(other)


@pytest.mark.parametrize("look", ["wait", "get_transaction", "recover"])
def test_what_is_being_put_together_is_not_replaced_by_what_others_do(join, look):
    calls = []
    first, second = join(recorder(calls)), join(recorder(calls))
    one, other = first.begin(idempotency_key=KEY), second.begin(idempotency_key=KEY)
    first.add_step(one, "agent", "act", {}, "undo")
    done = first.commit(one)
    getattr(second, look)(*([] if look == "recover" else [other.transaction_id]))
    second.add_step(other, "agent", "act", {}, "undo")
    assert second.commit(other) == done
    assert (calls, other.state.value) == (["act"], "committed")


def test_a_hook_sees_what_the_caller_gave_also_when_another_was_faster(join):
    calls = []

    def once(step):
        assert "card" in step.data
        return {"hash": len(step.data["card"])}

    first, second = (join(recorder(calls), before_record=once) for _ in range(2))
    one, other = first.begin(idempotency_key=KEY), second.begin(idempotency_key=KEY)
    for manager, tx in ((first, one), (second, other)):
        manager.add_step(tx, "agent", "act", {"card": "4111"}, "undo")
    assert first.commit(one) == second.commit(other)
    assert calls == ["act"]


def test_a_key_belongs_to_its_store(tmp_path):
    calls = []
    names = set()
    for place in (MemoryStore(), MemoryStore(), tmp_path / "a.db", tmp_path / "b.db"):
        with TransactionManager(recorder(calls), store=place) as manager:
            names.add(program(manager).transaction_id)
    assert (len(names), calls) == (4, ["act"] * 4)


@pytest.mark.parametrize("is_same", [True, False])
def test_who_waits_for_the_outcome_of_another_may_stop_waiting(place, is_same):
    async def story():
        entered, go, waits = asyncio.Event(), asyncio.Event(), asyncio.Event()
        calls = []

        async def act(action, data):
            calls.append(action)
            entered.set()
            await go.wait()

        handlers = {"act": act, "undo": act}
        first = AsyncTransactionManager(handlers, store=place)
        second = first if is_same else AsyncTransactionManager(handlers, store=place)
        one = asyncio.create_task(task(first))
        await entered.wait()

        async def again():
            tx = await second.begin(idempotency_key=KEY)
            second.add_step(tx, "agent", "act", {}, "undo")
            waits.set()
            return await second.commit(tx)

        other = asyncio.create_task(again())
        await waits.wait()
        other.cancel()
        with pytest.raises(asyncio.CancelledError):
            await other
        go.set()
        assert (await one).state.value == "committed"
        assert calls == ["act"]
        await first.close()
        await second.close()

    asyncio.run(story())


def test_a_cancellation_of_begin_is_raised_and_its_key_can_be_used_again(tmp_path, signal):
    writing, go = signal(), signal()

    class Slow:
        """A real store whose first write can be held up."""

        def __init__(self, store):
            self.store, self.is_first = store, True

        def __getattr__(self, name):
            return getattr(self.store, name)

        def append(self, appends):
            if self.is_first:
                self.is_first = False
                writing.set()
                go.wait()
            return self.store.append(appends)

    async def story():
        calls = []
        store = Slow(open_store(tmp_path / "s.db", create=True))
        async with AsyncTransactionManager(recorder(calls), store=store) as manager:
            beginning = asyncio.create_task(manager.begin(idempotency_key=KEY))
            await asyncio.to_thread(writing.wait)
            beginning.cancel()
            await asyncio.sleep(0)
            go.set()
            with pytest.raises(asyncio.CancelledError):
                await beginning
            assert (await task(manager)).state.value == "committed"
        assert calls == ["act"]
        store.close()

    asyncio.run(story())


# ---------------------------------------------------------------------------------------- processes


class Process:
    """The program as a process; its lines are read as they come."""

    def __init__(self, store, *stop_at):
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, store, *stop_at],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def stands(self):
        """Read on until it stands still; return what it said before."""
        said = []
        while not (line := self.process.stdout.readline()).startswith("at "):
            assert line, self.process.stderr.read()
            said.append(line.strip())
        return said

    def kill(self):
        self.process.kill()
        self.process.communicate()

    def end(self):
        said, errors = self.process.communicate(timeout=120)
        assert errors == ""
        return said.splitlines()


def judged(store):
    """Return the only transaction of a store: its state, and how often each step was begun."""
    with TransactionManager(store=store) as manager:
        (tx,) = manager.get_all_transactions()
        assert manager.verify().is_intact
        opened = open_store(store, create=False)
        journal = opened.read(tx.transaction_id)
        opened.close()
    assert journal is not None
    begun = [entry.step_id for _, entry in entries(journal) if isinstance(entry, StepStarted)]
    return tx.state.value, begun


def test_of_processes_with_one_key_one_acts_and_all_say_the_same(tmp_path):
    store = str(tmp_path / "s.db")
    said = [process.end() for process in [Process(store) for _ in range(4)]]
    ends = {line for lines in said for line in lines if line.startswith("ended")}
    called = sorted(line for lines in said for line in lines if line.startswith("called"))
    assert len(ends) == 1
    assert "committed" in next(iter(ends))
    assert called == ["called first", "called second"]
    assert judged(store) == ("committed", ["s1", "s2"])


def test_a_process_waits_for_the_outcome_of_the_one_that_acts(tmp_path):
    store = str(tmp_path / "s.db")
    acting = Process(store, "after first")
    assert acting.stands() == ["called first"]
    waiting = Process(store, "planned")
    assert waiting.stands() == []
    for process in (waiting, acting):
        process.process.stdin.close()
        process.process.stdin = None
    ends = [process.end()[-1] for process in (acting, waiting)]
    assert ends[0] == ends[1]
    assert judged(store) == ("committed", ["s1", "s2"])


@pytest.mark.crash
@pytest.mark.parametrize(
    "point, called, begun",
    [
        ("durable plan_recorded None", ["first", "second"], ["s1", "s2"]),
        ("begun", ["first", "second"], ["s1", "s2"]),
        ("planned", ["first", "second"], ["s1", "s2"]),
        ("durable commit_requested None", ["first", "second"], ["s1", "s1", "s2"]),
        ("before first", ["first", "second"], ["s1", "s1", "s2"]),
        ("after first", ["first", "second"], ["s1", "s1", "s2"]),
        ("durable step_succeeded s1", ["second"], ["s1", "s2", "s2"]),
        ("before second", ["second"], ["s1", "s2", "s2"]),
        ("after second", ["second"], ["s1", "s2", "s2"]),
        ("durable transaction_committed None", [], ["s1", "s2"]),
    ],
)
def test_the_same_program_run_again_after_a_kill_finishes_what_it_began(
    tmp_path, point, called, begun
):
    store = str(tmp_path / "s.db")
    victim = Process(store, point)
    victim.stands()
    victim.kill()
    *calls, end = Process(store).end()
    assert calls == [f"called {name}" for name in called]
    assert "committed {'s1': 0, 's2': 1}" in end
    assert judged(store) == ("committed", begun)
    # And once more it says the same, and does nothing.
    assert Process(store).end() == [end]
