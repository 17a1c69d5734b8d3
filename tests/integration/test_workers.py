"""What is submitted is carried out by workers, once, and by those whom it concerns."""
# mypy: disable-error-code="no-untyped-call, var-annotated, arg-type, union-attr"

import asyncio
import contextlib
import os
import signal as signals
import threading

import pytest

from aumai_transactions import (
    AsyncTransactionManager,
    DefinitionError,
    IdempotencyKeyReused,
    InvalidTransactionState,
    StepRejected,
    StoreUnavailable,
    TransactionError,
    TransactionManager,
    Worker,
)
from aumai_transactions.drivers.choosing import AGAIN_SECONDS
from aumai_transactions.stores import open_store
from aumai_transactions.stores.sqlite import liveness

GUARD_SECONDS = 60


class Shop:
    """Managers on one store; what their handlers were asked for, and by whom, is in `calls`."""

    def __init__(self, place, closing):
        self.place = place
        self.calls = []
        self.keys = []
        self._closing = closing
        self.producer = self.manager()

    def manager(self, *actions, who="", **options):
        made = TransactionManager(store=self.place, **options)
        self._closing.callback(made.close)
        for name in actions:
            made.action(name)(self._handler(who))
        return made

    def _handler(self, who):
        def handle(action, data, context):
            self.calls.append(f"{who}{action}" if who else action)
            self.keys.append(context.idempotency_key)
            if data.get("fails"):
                raise StepRejected("no")

        return handle

    def submit(self, *steps, **options):
        """Submit steps, each (agent, action) or (agent, action, data)."""
        tx = self.producer.begin(**options)
        for agent, action, *data in steps:
            self.producer.add_step(tx, agent, action, *(data or [{}]), f"un{action}")
        self.producer.submit(tx)
        return tx

    def worker(self, *actions, who="", manager=None, **options):
        options.setdefault("poll_seconds", 0.01)
        return Worker(manager or self.manager(*actions, who=who), **options)

    def state(self, tx):
        return self.producer.get_result(tx).state.value


@pytest.fixture
def shop(place):
    with contextlib.ExitStack() as closing:
        yield Shop(place, closing)


# ------------------------------------------------------------------------------------- submitting


def test_what_is_submitted_is_recorded_at_once_and_waits_for_a_worker(shop):
    tx = shop.submit(("a", "do"))
    elsewhere = shop.manager()
    assert elsewhere.get_result(tx.transaction_id).state.value == "pending"
    waiting = elsewhere.get_result(tx.transaction_id).waiting
    assert waiting.reason == "running"
    assert "no worker has taken it yet" in waiting.detail
    assert shop.worker("do", "undo").run(until_idle=True) == []
    assert shop.producer.wait(tx, timeout_seconds=0).state.value == "committed"
    assert tx.state.value == "committed"
    assert shop.calls == ["do"]


def test_who_has_no_handlers_does_not_carry_out_as_a_dry_run_what_it_waits_for(shop):
    tx = shop.submit(("a", "do"))
    result = shop.producer.wait(tx, timeout_seconds=0)
    assert (result.state.value, result.simulated_steps) == ("pending", [])


def test_what_is_submitted_twice_under_one_key_is_one_transaction(shop):
    first = shop.submit(("a", "do"), idempotency_key="order-1")
    again = shop.submit(("a", "do"), idempotency_key="order-1")
    assert again.transaction_id == first.transaction_id
    shop.worker("do", "undo").run(until_idle=True)
    assert shop.submit(("a", "do"), idempotency_key="order-1").state.value == "committed"
    assert shop.calls == ["do"]
    assert len(shop.producer.find()) == 1
    with pytest.raises(IdempotencyKeyReused):
        shop.submit(("a", "other"), idempotency_key="order-1")


def test_a_key_that_was_submitted_can_be_committed_by_who_has_the_handlers(shop):
    shop.submit(("a", "do"), idempotency_key="order-1")
    manager = shop.manager("do", "undo")
    tx = manager.begin(idempotency_key="order-1")
    manager.add_step(tx, "a", "do", {}, "undo")
    assert manager.commit(tx).state.value == "committed"
    assert shop.calls == ["do"]


def test_a_submitted_plan_can_no_longer_be_changed_by_anybody(shop):
    tx = shop.submit(("a", "do"))
    with pytest.raises(InvalidTransactionState, match="it is submitted"):
        shop.producer.add_step(tx, "a", "do", {})
    for call in (shop.producer.submit, shop.producer.commit):
        with pytest.raises(InvalidTransactionState, match="it is submitted"):
            call(tx)
    elsewhere = shop.manager()
    read = elsewhere.get_transaction(tx.transaction_id)
    elsewhere.add_step(read, "a", "do", {})
    with pytest.raises(InvalidTransactionState, match="it is submitted"):
        elsewhere.save(read)
    assert len(shop.manager().get_transaction(tx.transaction_id).steps) == 1


def test_a_submitted_transaction_can_be_rolled_back_before_anybody_takes_it(shop):
    tx = shop.submit(("a", "do"))
    assert shop.producer.rollback(tx).state.value == "rolled_back"
    shop.worker("do", "undo").run(until_idle=True)
    assert shop.state(tx) == "rolled_back"
    assert "do" not in shop.calls


def test_the_deadline_is_looked_at_when_a_worker_takes_it(place, make_clock):
    clock = make_clock()
    with contextlib.ExitStack() as closing:
        shop = Shop(place, closing)
        shop.producer = shop.manager(clock=clock)
        late = shop.submit(("a", "do"), timeout_seconds=5)
        in_time = shop.submit(("a", "do"), timeout_seconds=60)
        clock.sleep(10)
        manager = shop.manager("do", "undo", clock=clock)
        shop.worker(manager=manager).run(until_idle=True)
        assert (shop.state(late), shop.state(in_time)) == ("failed", "committed")
        assert shop.calls == ["do"]


def test_metadata_and_crashes_max_are_recorded(shop):
    tx = shop.submit(("a", "do"), metadata={"tenant": "acme", "by": "me"}, crashes_max=2)
    read = shop.manager().get_transaction(tx.transaction_id)
    assert (read.metadata, read.crashes_max) == ({"tenant": "acme", "by": "me"}, 2)
    assert shop.producer.find()[0].summary.tenant == "acme"


# ------------------------------------------------------------------------------------ whose work


def test_each_call_and_each_undo_is_made_by_a_worker_of_its_agent(shop):
    fails = ("flight", "do", {"fails": True})
    txs = [shop.submit(("flight", "do"), ("hotel", "do")) for _ in range(3)]
    backs = [shop.submit(("flight", "do"), ("hotel", "do"), fails) for _ in range(3)]
    with contextlib.ExitStack() as running:
        for agent in ("flight", "hotel"):
            worker = shop.worker("do", "undo", who=f"{agent}:", agents=[agent])
            running.enter_context(worker)
        for tx in (*txs, *backs):
            shop.producer.wait(tx, timeout_seconds=GUARD_SECONDS)
    assert {shop.state(tx) for tx in txs} == {"committed"}
    assert {shop.state(tx) for tx in backs} == {"rolled_back"}
    assert shop.calls.count("flight:do") == 6 + 3
    assert shop.calls.count("hotel:do") == 6
    assert (shop.calls.count("flight:undo"), shop.calls.count("hotel:undo")) == (3, 3)


def test_a_worker_needs_handlers_only_for_the_agents_that_it_serves(shop):
    tx = shop.submit(("flight", "fly"), ("hotel", "stay"))
    shop.worker("fly", "unfly", agents=["flight"]).run(until_idle=True)
    assert (shop.state(tx), shop.calls) == ("active", ["fly"])
    shop.worker("stay", "unstay", agents=["hotel"]).run(until_idle=True)
    assert (shop.state(tx), shop.calls) == ("committed", ["fly", "stay"])


def test_what_waits_for_another_agents_next_attempt_is_not_claimed_over_and_over(shop, clock):
    manager = shop.manager("stay", "unstay", clock=clock)
    tx = shop.submit(("flight", "fly"), ("hotel", "stay"))
    before = len(shop.producer.get_events(tx))
    shop.worker(manager=manager, agents=["hotel"]).run(until_idle=True)
    assert len(shop.producer.get_events(tx)) == before


def test_a_hundred_that_lack_a_handler_do_not_stand_in_the_way(shop):
    lacking = [shop.submit(("a", "nobody_has_it")) for _ in range(100)]
    wanted = shop.submit(("a", "do"))
    reports = []
    worker = shop.worker("do", "undo", concurrency=2, on_report=reports.append)
    worker.run(until_idle=True)
    assert shop.state(wanted) == "committed"
    assert [len(shop.producer.get_events(tx)) for tx in lacking] == [2] * 100
    parked = [report for report in reports if report.outcome == "parked"]
    assert "missing handler nobody_has_it" in parked[0].detail
    assert worker.lacks() == {"nobody_has_it": 100, "unnobody_has_it": 100}


def test_one_that_lacks_a_handler_does_not_stand_in_the_way_of_its_tenant(shop):
    """Another tenant's never end; the worker has one thread."""
    shop.submit(("a", "nobody_has_it"), metadata={"tenant": "a"})
    mine = shop.submit(("a", "mine"), metadata={"tenant": "a"})
    manager = shop.manager("unmine", "unmore")

    @manager.action("more")
    def more(action, data):
        shop.submit(("b", "more"), metadata={"tenant": "b"})

    worker = shop.worker(manager=manager, concurrency=1)
    manager.action("mine")(lambda action, data: worker.stop())
    shop.submit(("b", "more"), metadata={"tenant": "b"})
    worker.run()
    assert shop.producer.get_result(mine).completed_steps == ["s1"]


def test_tenants_take_turns_whoever_has_submitted_most(shop):
    for tenant, count in (("a", 5), ("b", 2), ("c", 1)):
        for _ in range(count):
            shop.submit(("x", tenant), metadata={"tenant": tenant})
    shop.worker("a", "b", "c", "una", "unb", "unc", concurrency=1).run(until_idle=True)
    assert "".join(shop.calls) == "abcabaaa"


# ----------------------------------------------------------------------------------- many of them


def test_workers_share_the_work_and_each_call_is_made_once(shop):
    txs = [shop.submit(("a", "do"), ("b", "do")) for _ in range(40)]
    with contextlib.ExitStack() as running:
        for _ in range(3):
            running.enter_context(shop.worker("do", "undo", concurrency=3))
        for tx in txs:
            shop.producer.wait(tx, timeout_seconds=GUARD_SECONDS)
    assert {shop.state(tx) for tx in txs} == {"committed"}
    assert len(shop.keys) == len(set(shop.keys)) == 80


def test_a_recovery_beside_workers_doubles_nothing(shop):
    txs = [shop.submit(("a", "do")) for _ in range(40)]
    other = shop.manager("do", "undo")
    with shop.worker("do", "undo", concurrency=3):
        while {shop.state(tx) for tx in txs} != {"committed"}:
            other.recover(wait_max_seconds=0)
    assert len(shop.keys) == len(set(shop.keys)) == 40


def test_an_approval_that_is_given_elsewhere_is_gone_on_with_by_the_worker(shop, signal):
    tx = shop.producer.begin()
    shop.producer.add_step(tx, "a", "do", {}, "undo", requires_approval=True)
    shop.producer.submit(tx)
    asked = signal()
    with shop.worker("do", "undo", on_report=lambda _: asked.set()):
        asked.wait()
        assert shop.calls == []
        shop.producer.approve(tx, "s1", by="ann")
        assert shop.producer.wait(tx, timeout_seconds=GUARD_SECONDS).state.value == "committed"


# ----------------------------------------------------------------------------------- how it ends


@pytest.fixture
def held(shop, signal):
    """A worker whose first call stands still until it is let go; `shop.tx` is what it carries."""

    class Held:
        arrived = signal()
        go_on = signal()

        def worker(self, **options):
            manager = shop.manager("do", "undo", "unhold")

            @manager.action("hold")
            def hold(action, data):
                self.arrived.set()
                self.go_on.wait()
                return "held"

            return shop.worker(manager=manager, **options)

    shop.tx = shop.submit(("a", "hold"), ("a", "do"))
    found = Held()
    yield found
    found.go_on.set()


def test_a_worker_that_is_stopped_hands_back_behind_the_call_that_runs(shop, held, in_thread):
    worker = held.worker()
    running = in_thread(worker.run)
    held.arrived.wait()
    worker.stop()
    later = shop.submit(("a", "do"))
    held.go_on.set()
    assert running.result() == []
    result = shop.producer.get_result(shop.tx)
    assert (result.state.value, result.outputs) == ("active", {"s1": "held"})
    assert (shop.calls, shop.state(later)) == ([], "pending")
    assert shop.worker("hold", "do", "undo", "unhold").run(until_idle=True) == []
    assert (shop.state(shop.tx), shop.state(later)) == ("committed", "committed")
    assert shop.calls == ["do", "do"]


def test_what_is_not_handed_back_in_time_is_named(shop, held, in_thread):
    worker = held.worker(drain_seconds=0.05)
    running = in_thread(worker.run)
    held.arrived.wait()
    worker.stop()
    assert running.result() == [shop.tx.transaction_id]
    assert shop.state(shop.tx) == "active"


def test_steps_that_run_at_the_same_time_all_end_before_it_is_handed_back(shop, held, in_thread):
    tx = shop.producer.begin()
    for action in ("do", "hold"):
        shop.producer.add_step(tx, "a", action, {}, f"un{action}", after=[])
    shop.producer.add_step(tx, "a", "do", {}, "undo")
    shop.producer.rollback(shop.tx)
    shop.calls.clear()
    shop.producer.submit(tx)
    worker = held.worker()
    running = in_thread(worker.run)
    held.arrived.wait()
    worker.stop()
    held.go_on.set()
    assert running.result() == []
    result = shop.producer.get_result(tx)
    assert (result.state.value, sorted(result.completed_steps)) == ("active", ["s1", "s2"])


def test_a_worker_that_was_stopped_before_it_ran_ends_at_once_and_runs_the_next_time(shop):
    tx = shop.submit(("a", "do"))
    worker = shop.worker("do", "undo")
    worker.stop()
    assert worker.run() == []
    assert shop.state(tx) == "pending"
    assert worker.run(until_idle=True) == []
    assert shop.state(tx) == "committed"
    with worker:
        pass  # It may be told to stop before its thread has begun.


def test_a_worker_works_once_at_a_time(shop, held):
    worker = held.worker()
    with worker:
        held.arrived.wait()
        with pytest.raises(TransactionError, match="at work already"):
            worker.run()
        held.go_on.set()


def test_what_the_program_of_the_same_manager_has_open_is_not_the_workers_to_touch(shop):
    manager = shop.manager("do", "undo", "untell")
    reports = []
    worker = shop.worker(manager=manager, on_report=reports.append)
    with manager.transaction() as tx:
        tx.execute("a", "do", {}, "undo")
        worker.run(until_idle=True)
        with worker:
            tx.execute("a", "do", {}, "undo")
        tx.execute("a", "do", {}, "undo")
    assert tx.result.state.value == "committed"
    assert (shop.calls, reports) == (["do"] * 3, [])


# -------------------------------------------------------------------------------- what goes wrong


def test_a_handler_that_exits_ends_no_thread_of_the_worker(shop):
    manager = shop.manager("do", "undo", "unleave")

    @manager.action("leave")
    def leave(action, data):
        raise SystemExit(3)

    left = shop.submit(("a", "leave"))
    done = shop.submit(("a", "do"))
    assert shop.worker(manager=manager, concurrency=1).run(until_idle=True) == []
    assert (shop.state(left), shop.state(done)) == ("rolled_back", "committed")


def test_a_report_that_raises_stops_nothing(shop, caplog):
    txs = [shop.submit(("a", "do")) for _ in range(5)]

    def broken(report):
        raise ValueError("no")

    shop.worker("do", "undo", concurrency=1, on_report=broken).run(until_idle=True)
    assert {shop.state(tx) for tx in txs} == {"committed"}
    assert "what a worker was to report to has raised" in caplog.text


class Leaving:
    """A store that cannot be reached for a while: so often it raises, whatever is asked."""

    def __init__(self, store, times):
        self._store = store
        self.times = times

    def __getattr__(self, name):
        found = getattr(self._store, name)
        if name not in ("due", "append", "read"):
            return found

        def called(*arguments, **options):
            if self.times:
                self.times -= 1
                raise StoreUnavailable("it is away")
            return found(*arguments, **options)

        return called


@pytest.mark.parametrize("times", [1, 3, 8])
def test_a_store_that_goes_away_for_a_while_is_waited_for(shop, place, times, monkeypatch):
    monkeypatch.setitem(AGAIN_SECONDS, "unavailable", (0.01, 0.02))
    txs = [shop.submit(("a", "do")) for _ in range(3)]
    store = open_store(place, create=False) if isinstance(place, str) else place
    manager = TransactionManager(store=Leaving(store, times))
    for name in ("do", "undo"):
        manager.action(name)(shop._handler(""))
    with manager:
        Worker(manager, poll_seconds=0.01).run(until_idle=True)
    assert {shop.state(tx) for tx in txs} == {"committed"}
    assert len(shop.keys) == len(set(shop.keys)) == 3
    if store is not place:
        store.close()


def test_a_worker_ends_where_its_manager_is_closed(shop, in_thread):
    shop.submit(("a", "do"))
    manager = shop.manager("do", "undo")
    running = in_thread(shop.worker(manager=manager).run)
    manager.close()
    with pytest.raises(TransactionError, match="closed"):
        running.result()


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"concurrency": True},
        {"agents": []},
        {"agents": "flight_agent"},
        {"agents": [""]},
        {"poll_seconds": 0},
        {"drain_seconds": float("nan")},
    ],
)
def test_what_a_worker_cannot_be_told_is_refused(shop, options):
    with pytest.raises(TransactionError):
        Worker(shop.producer, **options)


# ------------------------------------------------------------------------------- taken for dead


@pytest.fixture
def leases(monkeypatch):
    """No lock of a file proves anything here: who is dead is decided by leases alone."""
    monkeypatch.setattr(liveness, "fcntl", None)


def test_what_the_call_of_a_worker_taken_for_dead_answers_is_journaled_as_late(
    tmp_path, leases, signal, in_thread, make_clock
):
    """Its lease is over by the other one's clock; then it goes on, and is refused."""
    place, arrived, go_on, calls = str(tmp_path / "trips.db"), signal(), signal(), []
    ahead = make_clock()
    with (
        TransactionManager(store=place) as old,
        TransactionManager(store=place, clock=ahead) as new,
    ):

        @old.action("hold", compensating_action="unhold", idempotent=True)
        def hold(action, data):
            arrived.set()
            go_on.wait()
            return "too late"

        @new.action("hold", compensating_action="unhold", idempotent=True)
        def hold_again(action, data, context):
            calls.append((action, context.attempt))
            return "in time"

        for manager in (old, new):
            manager.action("do")(lambda action, data: calls.append("do"))
            manager.action("unhold")(lambda action, data: calls.append("unhold"))
        tx = old.begin(timeout_seconds=10**9)
        for action in ("hold", "do"):
            old.add_step(tx, "a", action, {})
        old.submit(tx)
        worker = Worker(old, poll_seconds=0.01)
        running = in_thread(worker.run)
        arrived.wait()
        ahead.advance((old._desk().clock.now() - ahead.now()) / 1_000_000 + 3600)
        Worker(new, poll_seconds=0.01).run(until_idle=True)
        assert old.get_result(tx).state.value == "committed"
        go_on.set()
        worker.stop()
        assert running.result() == []
        result = old.get_result(tx)
        late = [event for event in old.get_events(tx) if event.kind == "call_returned_late"]
        assert [(event.step_id, event.fields["output"]) for event in late] == [("s1", "too late")]
        assert result.outputs["s1"] == "in time"
        assert calls == [("hold", 2), "do"]
        assert old.verify(tx).problems == {}


# ------------------------------------------------------------------------------- the finer points


class Blind:
    """A store whose lines do not say whose call comes next, as an earlier release wrote them."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    def due(self, driver_id, limit, now, *, agents=None, reserve_seconds=0):
        return self._store.due(driver_id, limit, now, reserve_seconds=reserve_seconds)


def test_what_is_not_of_its_agents_is_not_claimed_over_and_over(gated):
    manager = TransactionManager(store=Blind(gated))
    manager.action("do")(lambda action, data: None)
    tx = manager.begin()
    manager.add_step(tx, "flight", "do", {})
    manager.submit(tx)
    reports = []
    Worker(manager, agents=["hotel"], poll_seconds=0.01).run(until_idle=True)
    begun = manager.get_events(tx)
    for _ in range(3):
        worker = Worker(manager, agents=["hotel"], poll_seconds=0.01, on_report=reports.append)
        worker.run(until_idle=True)
    assert manager.get_events(tx) == begun
    assert [report.outcome for report in reports] == ["parked"] * 3
    assert "an agent that is not served here" in reports[0].detail


def test_what_is_new_comes_before_what_nothing_could_be_done_for(shop, in_thread, monkeypatch):
    """Even where that is looked at again at once, and stands first in line."""
    monkeypatch.setitem(AGAIN_SECONDS, "parked", (0.0, 0.0))
    for _ in range(20):
        shop.submit(("a", "nobody_has_it"))
    shop.submit(("a", "stop"))
    manager = shop.manager("unstop")
    worker = shop.worker(manager=manager, concurrency=1)
    manager.action("stop")(lambda action, data: worker.stop())
    assert in_thread(worker.run).result() == []


def test_no_step_begins_behind_a_call_in_which_the_worker_was_stopped(shop):
    manager = shop.manager("do", "undo", "unstop")
    worker = shop.worker(manager=manager)
    manager.action("stop")(lambda action, data: worker.stop())
    tx = shop.submit(("a", "stop"), ("a", "do"))
    assert worker.run() == []
    result = shop.producer.get_result(tx)
    assert (result.state.value, result.completed_steps, shop.calls) == ("active", ["s1"], [])


def test_an_interrupt_of_the_thread_that_runs_it_hands_back_and_is_raised(shop):
    manager = shop.manager("do", "undo", "uninterrupt")

    @manager.action("interrupt")
    def interrupt(action, data):
        signals.raise_signal(signals.SIGINT)

    tx = shop.submit(("a", "interrupt"), ("a", "do"))
    worker = shop.worker(manager=manager)
    with pytest.raises(KeyboardInterrupt):
        worker.run()
    assert not worker._busy
    assert shop.state(tx) in ("active", "committed")
    shop.worker("interrupt", "do", "undo", "uninterrupt").run(until_idle=True)
    assert shop.state(tx) == "committed"


def test_an_interrupt_while_work_is_handed_out_keeps_nobody_waiting(shop, monkeypatch, caplog):
    """It comes when a transaction is marked as in hand, and before any thread has got it."""
    tx = shop.submit(("a", "do"))
    worker = shop.worker("do", "undo", drain_seconds=0.05)
    with monkeypatch.context() as patched:

        def interrupted(thread):
            if thread.name.startswith("aumai-worker-1"):
                raise KeyboardInterrupt

        patched.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            worker.run()
    assert "not handed back" not in caplog.text
    assert worker.run(until_idle=True) == []
    assert shop.state(tx) == "committed"


def test_a_worker_that_is_stopped_interrupts_no_run_but_its_own(shop):
    """The program may have taken what the worker was about to take."""
    manager = shop.manager("do", "undo")
    worker = shop.worker(manager=manager)
    with manager.transaction() as tx:
        tx.execute("a", "do", {}, "undo")
        worker._busy.add(tx.transaction_id)
        worker.stop()
        assert manager._desk().book.run_of(tx.transaction_id).interrupt is None
    assert tx.result.state.value == "committed"


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_worker_that_was_made_before_a_fork_is_refused_in_the_child(shop):
    shop.submit(("a", "do"))
    worker = shop.worker("do", "undo")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            worker.run(until_idle=True)
        except TransactionError as error:
            code = 7 if "before a fork" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_worker_needs_a_manager_with_threads(place):
    with pytest.raises(DefinitionError, match="not AsyncTransactionManager"):
        Worker(AsyncTransactionManager(store=place))


def test_what_a_program_of_asyncio_submits_is_carried_out_by_workers(shop, place):
    async def produce():
        async with AsyncTransactionManager(store=place) as manager:
            tx = await manager.begin()
            manager.add_step(tx, "a", "do", {}, "undo")
            submitted = await manager.submit(tx)
            with shop.worker("do", "undo"):
                return submitted, await manager.wait(tx, timeout_seconds=GUARD_SECONDS)

    submitted, result = asyncio.run(produce())
    assert (submitted.state.value, result.state.value) == ("pending", "committed")
    assert shop.calls == ["do"]
