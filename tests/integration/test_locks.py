"""Resources that several transactions use: who gets them, who waits, and who gives way."""

# ruff: noqa: PT012 (what is raised leaves a block of several steps)

# mypy: disable-error-code="var-annotated, attr-defined, union-attr"

import threading

import pytest

from aumai_transactions import (
    ApprovalPending,
    Deadlock,
    LockTimeout,
    ReadConflict,
    Resource,
    StepRejected,
    TransactionNotActive,
    TransactionRolledBack,
)
from aumai_transactions.core.isolation import PARKED_LOOK_SECONDS

AGENTS = 80
CAPACITY = 32
NEWS = threading.Condition()


def heard(event):
    if event.kind in ("locks_awaited", "approval_requested"):
        with NEWS:
            NEWS.notify_all()


@pytest.fixture
def joined(place, world):
    """Make managers that meet in one place; their `work` and `undo` remember what was called."""
    made = world()

    def join(clock=None, **options):
        manager = made.join(place, clock, on_event=heard, **options)
        manager.action("work", compensating_action="undo", resources=["{thing}"])(made.note)
        manager.action("read", compensating_action="undo", resources=[Resource.shared("{thing}")])(
            made.note
        )
        return manager

    join.calls = made.calls
    return join


def holders(manager, resource=None):
    return {lock.transaction_id for lock in manager.locks(resource) if lock.token is not None}


def waiters(manager, resource=None):
    return [lock.transaction_id for lock in manager.locks(resource) if lock.token is None]


def until(wanted):
    """Wait for the event with which something becomes true."""
    with NEWS:
        assert NEWS.wait_for(wanted, timeout=60), "it never came to that"


def until_waiting(manager, count=1):
    until(lambda: len(waiters(manager)) >= count)


# ----------------------------------------------------------------------------------- one capacity


@pytest.mark.parametrize("shape", ["planned", "interactive"])
def test_of_eighty_agents_at_one_capacity_exactly_as_many_commit_as_it_has_places(
    joined, in_thread, shape
):
    manager = joined()
    left = [CAPACITY]

    @manager.action("book", compensating_action="unbook", resources=["flight:F123"])
    def book(action, data):
        # Not atomic on purpose: only the lock keeps two from seeing the same number.
        before = left[0]
        if before == 0:
            raise StepRejected("sold out")
        threading.Event().wait(0)
        left[0] = before - 1

    @manager.action("unbook")
    def unbook(action, data):
        left[0] += 1

    def planned():
        tx = manager.begin(lock_timeout_seconds=60)
        manager.add_step(tx, "agent", "book", {})
        return manager.commit(tx, wait_max_seconds=60).state.value

    def interactive():
        try:
            with manager.transaction(120, lock_timeout_seconds=60) as tx:
                tx.execute("agent", "book", {})
        except StepRejected:
            return "rolled_back"
        return "committed"

    run = planned if shape == "planned" else interactive
    states = [started.result() for started in [in_thread(run) for _ in range(AGENTS)]]
    assert states.count("committed") == CAPACITY
    assert states.count("rolled_back") == AGENTS - CAPACITY
    assert left == [0]
    assert manager.locks() == []


# ------------------------------------------------------------------------------------- deadlocks


@pytest.mark.parametrize("size", [2, 3, 5])
def test_of_a_circle_one_gives_way_and_the_others_commit(joined, in_thread, size):
    managers = [joined() for _ in range(size)]
    ready = threading.Barrier(size, timeout=60)

    def run(number):
        try:
            with managers[number].transaction() as tx:
                tx.execute("agent", "work", {"thing": f"r{number}"})
                ready.wait()
                tx.execute("agent", "work", {"thing": f"r{(number + 1) % size}"})
        except Deadlock as error:
            return f"{error.result.reason}, {error.result.clean}"
        return tx.result.state.value

    found = [started.result() for started in [in_thread(run, number) for number in range(size)]]
    assert sorted(found) == ["committed"] * (size - 1) + ["deadlock, True"]
    assert managers[0].locks() == []
    assert joined.calls.count("undo") == 1


def test_a_run_that_gave_way_is_run_again_and_succeeds(joined, in_thread):
    managers = [joined(), joined()]
    ready = threading.Barrier(2, timeout=60)
    runs = []

    def run(number):
        def work(tx):
            runs.append(number)
            tx.execute("agent", "work", {"thing": f"r{number}"})
            if runs.count(number) == 1:
                ready.wait()
            return tx.execute("agent", "work", {"thing": f"r{1 - number}"}) or number

        return managers[number].run(work, retries=1)

    found = [started.result() for started in [in_thread(run, number) for number in range(2)]]
    assert found == [0, 1]
    assert len(runs) == 3
    assert managers[0].locks() == []


def test_without_retries_left_a_run_raises_that_it_gave_way(joined, in_thread):
    managers = [joined(), joined()]
    ready = threading.Barrier(2, timeout=60)

    def run(number):
        def work(tx):
            tx.execute("agent", "work", {"thing": f"r{number}"})
            ready.wait()
            tx.execute("agent", "work", {"thing": f"r{1 - number}"})

        try:
            managers[number].run(work, retries=0)
        except Deadlock:
            return "gave way"
        return "committed"

    found = [started.result() for started in [in_thread(run, number) for number in range(2)]]
    assert sorted(found) == ["committed", "gave way"]


def test_a_run_is_not_repeated_for_an_error_of_its_own(joined):
    manager, runs = joined(), []

    def work(tx):
        runs.append(1)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        manager.run(work)
    assert runs == [1]


def test_a_run_repeats_where_another_thread_of_it_gave_way(joined, in_thread, signal):
    """The thread that only hears that the whole goes back does not hide why it does."""
    manager, other = joined(), joined()
    other_has, other_waits, slow, runs = signal(), signal(), signal(), []

    @manager.action("slow", compensating_action="undo")
    def slow_action(action, data):
        slow.set()
        if len(runs) == 1:
            until_waiting(manager, 1)
            other_waits.wait()

    def rival():
        with other.transaction() as tx:
            tx.execute("agent", "work", {"thing": "s"})
            tx.execute("agent", "work", {"thing": "s2"})
            tx.execute("agent", "work", {"thing": "s3"})
            other_has.set()
            mine.wait()
            tx.execute("agent", "work", {"thing": "r"})

    mine = signal()

    def work(tx):
        runs.append(1)
        tx.execute("agent", "work", {"thing": "r"})
        if len(runs) > 1:
            tx.execute("agent", "work", {"thing": "s"})
            return "again"
        busy = in_thread(tx.bind(tx.execute), "agent", "slow", {})
        slow.wait()
        mine.set()
        until_waiting(manager, 1)
        other_waits.set()
        try:
            tx.execute("agent", "work", {"thing": "s"})
        finally:
            busy.result()
        return "first"

    rivaling = in_thread(rival)
    other_has.wait()
    assert manager.run(work, retries=2) == "again"
    rivaling.result()
    assert len(runs) == 2


# ------------------------------------------------------------------------------- leaving the line


def test_who_waits_too_long_is_told_and_leaves_the_line(joined, in_thread):
    holder, manager = joined(), joined()
    with holder.transaction() as tx:
        tx.execute("agent", "work", {"thing": "r"})
        with manager.transaction(lock_timeout_seconds=0.1) as other:
            with pytest.raises(LockTimeout) as caught:
                other.execute("agent", "work", {"thing": "r"})
            assert tx.transaction_id in str(caught.value)
            assert waiters(manager) == []
            other.execute("agent", "work", {"thing": "s"})
        assert other.result.state.value == "committed"
    assert manager.locks() == []
    assert joined.calls == ["work", "work"]


def test_a_plan_that_waits_too_long_is_rolled_back_and_leaves_the_line(joined):
    holder, manager = joined(), joined()
    with holder.transaction() as tx:
        tx.execute("agent", "work", {"thing": "r"})
        plan = manager.begin(lock_timeout_seconds=0.1)
        manager.add_step(plan, "agent", "work", {"thing": "r"})
        result = manager.commit(plan)
        assert (result.state.value, result.reason) == ("rolled_back", "deadline")
        assert "LockTimeout" in str(result.error)
        assert result.clean
        assert waiters(manager) == []
    assert joined.calls == ["work"]


def test_a_rollback_of_one_who_waits_ends_the_wait(joined, in_thread):
    holder, manager, operator = joined(), joined(), joined()
    with holder.transaction() as tx:
        tx.execute("agent", "work", {"thing": "r"})

        def waiting():
            with manager.transaction() as other:
                other.execute("agent", "work", {"thing": "s"})
                other.execute("agent", "work", {"thing": "r"})

        started = in_thread(waiting)
        until_waiting(operator)
        (name,) = waiters(operator)
        result = operator.rollback(operator.get_transaction(name))
        assert (result.state.value, result.reason) == ("rolled_back", "requested")
        with pytest.raises((TransactionRolledBack, TransactionNotActive)):
            started.result()
        assert waiters(operator) == []
        assert holders(operator) == {tx.transaction_id}
    assert joined.calls == ["work", "work", "undo"]


def test_a_denial_ends_the_wait_of_another_step(joined, in_thread):
    holder, manager, operator = joined(), joined(), joined()
    with holder.transaction() as tx:
        tx.execute("agent", "work", {"thing": "r"})

        def waiting():
            with manager.transaction() as other:
                with pytest.raises(ApprovalPending):
                    other.execute("agent", "ok", {}, requires_approval=True, wait_max_seconds=0)
                other.execute("agent", "work", {"thing": "r"})

        started = in_thread(waiting)
        until_waiting(operator)
        operator.deny(waiters(operator)[0], "s1", by="ann")
        with pytest.raises(TransactionRolledBack) as caught:
            started.result()
        assert caught.value.result.reason == "denied"
        assert waiters(operator) == []


def test_a_rollback_of_a_plan_that_waits_ends_the_wait(joined, in_thread):
    holder, manager, operator = joined(), joined(), joined()
    with holder.transaction() as tx:
        tx.execute("agent", "work", {"thing": "r"})
        plan = manager.begin()
        manager.add_step(plan, "agent", "work", {"thing": "r"})
        started = in_thread(manager.commit, plan)
        until_waiting(operator)
        result = operator.rollback(operator.get_transaction(plan.transaction_id))
        assert result.state.value == "rolled_back"
        assert started.result().state.value == "rolled_back"
        assert waiters(operator) == []
    assert joined.calls == ["work"]


def test_the_deadline_ends_a_wait(joined, in_thread):
    holder, manager = joined(), joined()
    with holder.transaction() as tx:
        tx.execute("agent", "work", {"thing": "r"})
        with pytest.raises(TransactionRolledBack) as caught, manager.transaction(0.3) as other:
            other.execute("agent", "work", {"thing": "s"})
            other.execute("agent", "work", {"thing": "r"})
        assert caught.value.result.reason == "deadline"
        plan = manager.begin(0.3, timeout_scope="transaction")
        manager.add_step(plan, "agent", "work", {"thing": "r"})
        assert manager.commit(plan).reason == "deadline"
        assert waiters(manager) == []


# ------------------------------------------------------------------------------------ long waits


def test_a_plan_that_waits_long_is_let_go_of_and_found_again(joined, clock):
    holder, manager = joined(), joined(clock)
    with holder.transaction() as tx:
        tx.execute("agent", "work", {"thing": "r"})
        plan = manager.begin()
        manager.add_step(plan, "agent", "work", {"thing": "r"})
        result = manager.commit(plan, wait_max_seconds=5)
        assert not result.is_final
        assert result.waiting.reason == "lock"
        assert tx.transaction_id in result.waiting.detail
        assert waiters(manager) == [plan.transaction_id]
        assert manager.recover(wait_max_seconds=0) == [], "it is too early to look again"
        clock.sleep(PARKED_LOOK_SECONDS)
        (report,) = manager.recover(wait_max_seconds=0)
        assert report.outcome == "waiting"
        assert manager.recover(wait_max_seconds=0) == [], "and again"
    # Its turn has come, which the store knows: no time has to pass.
    (report,) = manager.recover(wait_max_seconds=0)
    assert report.result.state.value == "committed"
    assert plan.state.value in ("committed", "active")
    assert manager.locks() == []
    assert joined.calls == ["work", "work"]


def test_who_does_not_want_to_wait_is_told_at_once_what_it_waits_for(joined, clock):
    holder, manager = joined(), joined(clock)
    with holder.transaction() as tx:
        tx.execute("agent", "work", {"thing": "r"})
        plan = manager.begin()
        manager.add_step(plan, "agent", "work", {"thing": "r"})
        before = clock.now()
        result = manager.commit(plan, wait_max_seconds=0)
        assert clock.now() == before
        assert result.waiting.reason == "lock"
    assert manager.wait(plan).state.value == "committed"


# -------------------------------------------------------------------------------------- the rest


def test_the_table_tells_holders_waiters_and_why(joined, in_thread):
    holder, first, second = joined(), joined(), joined()
    with holder.transaction() as tx:
        tx.execute("agent", "work", {"thing": "Account:42"})
        started = []
        for number, manager in enumerate((first, second), 1):
            plan = manager.begin()
            manager.add_step(plan, "agent", "work", {"thing": "account:42"})
            started.append((plan, in_thread(manager.commit, plan)))
            until_waiting(holder, number)
        held, one, two = holder.locks(" ACCOUNT:42")
        assert (held.resource, held.transaction_id) == ("account:42", tx.transaction_id)
        assert (held.token, held.place, held.waits_for) == (1, None, [])
        names = [plan.transaction_id for plan, _ in started]
        assert [one.transaction_id, two.transaction_id] == names
        assert [one.place, two.place] == [1, 2]
        assert one.waits_for == [tx.transaction_id]
        assert set(two.waits_for) == {tx.transaction_id, names[0]}
        assert holder.locks("account:43") == []
    for _plan, running in started:
        assert running.result().state.value == "committed"


def test_what_could_not_be_undone_keeps_its_lock_until_a_person_resolves_it(joined):
    manager = joined()

    @manager.action("stuck", compensating_action="cannot", resources=["{thing}"])
    def stuck(action, data):
        pass

    @manager.action("cannot")
    def cannot(action, data):
        raise ValueError("no way")

    def roll_back(**options):
        with pytest.raises(KeyError), manager.transaction(**options) as tx:
            tx.execute("agent", "stuck", {"thing": "r"})
            tx.execute("agent", "work", {"thing": "s"})
            raise KeyError
        return tx.transaction_id

    name = roll_back()
    assert [(lock.resource, lock.transaction_id) for lock in manager.locks()] == [("r", name)]
    manager.retry(name, "s1")
    assert holders(manager) == {name}, "it failed again"
    manager.resolve(name, "s1", "undone", note="by hand")
    assert manager.locks() == []
    other = roll_back(release_outstanding_locks=True)
    assert manager.locks() == []
    manager.retry(other, "s1")
    assert manager.locks() == [], "what was let go of is never held again"


def test_a_savepoint_that_is_undone_lets_go_of_nothing(joined):
    manager = joined()
    with manager.transaction() as tx:
        with pytest.raises(KeyError), tx.savepoint():
            tx.execute("agent", "work", {"thing": "r"})
            raise KeyError
        assert holders(manager, "r") == {tx.transaction_id}
    assert manager.locks() == []


def test_the_locks_of_a_nested_transaction_are_those_of_the_whole(joined):
    manager = joined()
    with manager.transaction() as tx:
        for _ in range(2):
            with manager.transaction() as inner:
                inner.execute("agent", "work", {"thing": "r"})
        assert holders(manager, "r") == {tx.transaction_id}
    assert manager.locks() == []


def test_an_approval_is_waited_for_without_the_lock_where_a_program_asks(joined, in_thread):
    manager, other = joined(), joined()
    with manager.transaction() as tx:
        tx.execute("agent", "ok", {})
        asked = in_thread(
            tx.bind(tx.execute), "agent", "work", {"thing": "r"}, requires_approval=True
        )
        until(lambda: other.get_result(tx.transaction_id).waiting.reason == "approval")
        assert other.locks() == []
        with other.transaction() as rival:
            rival.execute("agent", "work", {"thing": "r"})
        other.approve(tx.transaction_id, "s2", by="ann")
        asked.result()
        assert holders(manager) == {tx.transaction_id}


def test_a_plan_may_use_one_resource_in_both_ways(joined):
    manager = joined()
    tokens = []

    @manager.action("see", compensating_action="undo", resources=[Resource.shared("r")])
    def see(action, data, context):
        tokens.append(dict(context.resources))

    plan = manager.begin()
    manager.add_step(plan, "agent", "see", {})
    manager.add_step(plan, "agent", "work", {"thing": "r"})
    manager.add_step(plan, "agent", "see", {})
    assert manager.commit(plan).state.value == "committed"
    assert tokens == [{"r": 1}, {"r": 1}]


def test_tokens_only_grow(joined):
    managers, tokens = [joined(), joined()], []
    for number in range(4):
        manager = managers[number % 2]
        if number < 2:

            @manager.action("see", compensating_action="undo", resources=["r"])
            def see(action, data, context):
                tokens.append(context.resources["r"])

        with manager.transaction() as tx:
            tx.execute("agent", "see", {})
    assert tokens == [1, 2, 3, 4]


def test_a_held_step_claims_what_it_uses_before_the_commit_is_decided(joined, in_thread):
    holder, manager = joined(), joined()
    with holder.transaction() as tx:
        tx.execute("agent", "work", {"thing": "r"})

        def waiting():
            with manager.transaction() as other:
                other.execute("agent", "work", {"thing": "s"})
                manager_step = other.execute("agent", "ok", {}, on_commit=True, resources=["r"])
                assert manager_step is None
            return other.result.state.value

        manager.action("ok", idempotent=True)(lambda action, data: joined.calls.append("held"))
        started = in_thread(waiting)
        until_waiting(manager)
        assert "held" not in joined.calls
    assert started.result() == "committed"
    assert joined.calls[-1] == "held"
    assert manager.locks() == []


def test_a_step_that_somebody_else_asks_for_brings_what_it_uses(joined, in_thread, signal):
    manager, other = joined(), joined()
    with manager.transaction(accepts_requests=True) as tx:
        tx.execute("agent", "work", {"thing": "s"})
        other.request_step(tx.transaction_id, "agent", "work", {"thing": "r"})
        assert {lock.resource for lock in manager.locks()} == {"r", "s"}
    assert manager.locks() == []


def test_threads_of_one_transaction_wait_for_different_things(joined, in_thread):
    holder, manager = joined(), joined()
    with holder.transaction() as tx:
        for name in ("a", "b", "c"):
            tx.execute("agent", "work", {"thing": name})
        with manager.transaction() as other:
            started = [
                in_thread(other.bind(other.execute), "agent", "work", {"thing": name})
                for name in ("a", "b", "c", "d")
            ]
            until_waiting(manager, 3)
            started[3].result()
            assert {lock.resource for lock in manager.locks() if lock.token is None} == set("abc")
            tx.rollback()
            for one in started:
                one.result()
        assert other.result.state.value == "committed"
    assert manager.locks() == []


# ------------------------------------------------------------------------------------- validated


def test_who_only_reads_does_not_lock_and_is_told_that_something_changed(joined):
    reader, writer = joined(), joined()
    with pytest.raises(ReadConflict), reader.transaction(isolation="validated") as tx:
        tx.execute("agent", "read", {"thing": "r"})
        assert reader.locks() == []
        with writer.transaction() as other:
            other.execute("agent", "work", {"thing": "r"})
    assert tx.result.reason == "conflict"
    assert tx.result.clean
    assert joined.calls == ["read", "work", "undo"]


def test_who_writes_what_it_has_read_itself_is_in_nobodys_way(joined):
    manager = joined()
    with manager.transaction(isolation="validated") as tx:
        tx.execute("agent", "read", {"thing": "r"})
        tx.execute("agent", "work", {"thing": "r"})
        tx.execute("agent", "read", {"thing": "r"})
    assert tx.result.state.value == "committed"


def test_who_wants_to_write_what_has_changed_since_it_was_read_goes_back(joined):
    reader, writer = joined(), joined()
    with pytest.raises(ReadConflict), reader.transaction(isolation="validated") as tx:
        tx.execute("agent", "read", {"thing": "r"})
        with writer.transaction() as other:
            other.execute("agent", "work", {"thing": "r"})
        tx.execute("agent", "work", {"thing": "r"})
    assert joined.calls == ["read", "work", "undo"]


def test_a_run_reads_again_what_had_changed(joined):
    reader, writer, runs = joined(), joined(), []

    def work(tx):
        runs.append(1)
        tx.execute("agent", "read", {"thing": "r"})
        if len(runs) == 1:
            with writer.transaction() as other:
                other.execute("agent", "work", {"thing": "r"})
        return len(runs)

    assert reader.run(work, isolation="validated") == 2


def test_without_isolation_nothing_is_locked(joined):
    manager = joined()
    with manager.transaction(isolation="none") as tx:
        tx.execute("agent", "work", {"thing": "r"})
        with joined().transaction() as other:
            other.execute("agent", "work", {"thing": "r"})
    assert tx.result.state.value == "committed"
