"""Planned graphs: what runs at the same time, what a failure leaves, and how it is undone."""
# mypy: disable-error-code="var-annotated"

import asyncio
import threading

import pytest

from aumai_transactions import (
    AsyncTransactionManager,
    DefinitionError,
    DependencyCycle,
    RetryPolicy,
    SagaOrchestrator,
    TransactionManager,
    UnknownStep,
)

SECONDS_MAX = 30
AT_ONCE = RetryPolicy(attempts_max=3, first_delay_seconds=0)


class Yard:
    """Actions that stand in the yard until they are undone; some wait for each other.

    `meet` returns once as many as were to meet have come; `meet_and_fail` raises then.
    """

    def __init__(self, place, clock, meeting=2, **options):
        self.calls = []
        self.standing = set()
        self.guard = threading.Lock()
        self.inside = self.inside_max = 0
        self.meeting = threading.Barrier(meeting, timeout=SECONDS_MAX)
        self.undo_meeting = threading.Barrier(meeting, timeout=SECONDS_MAX)
        self.manager = TransactionManager(store=place, clock=clock, **options)
        for name in ("put", "meet", "fail", "meet_and_fail", "count", "take", "meet_and_take"):
            self.manager.action(name)(getattr(self, name))

    def put(self, action, data):
        with self.guard:
            self.calls.append(f"{action} {data['it']}")
            self.standing.add(data["it"])
        return {"it": data["it"]}

    def meet(self, action, data):
        self.put(action, data)
        self.meeting.wait()
        return {"it": data["it"]}

    def fail(self, action, data):
        self.calls.append(f"fail {data['it']}")
        raise ValueError("no")

    def meet_and_fail(self, action, data):
        self.meeting.wait()
        self.fail(action, data)

    def count(self, action, data):
        with self.guard:
            self.inside += 1
            self.inside_max = max(self.inside, self.inside_max)
            is_full = self.inside == data["full"]
        if is_full:
            self.full.set()
        # Whoever comes later than that many must wait for one of them to leave.
        self.full.wait(SECONDS_MAX)
        with self.guard:
            self.inside -= 1

    full = threading.Event()

    def take(self, action, data):
        with self.guard:
            self.calls.append(f"take {data['it']}")
            self.standing.discard(data["it"])

    def meet_and_take(self, action, data):
        self.undo_meeting.wait()
        self.take(action, data)


def plan(yard, *steps, **options):
    """Begin a transaction: each step is a name, its action, and the names that it waits for."""
    tx = yard.manager.begin(**options)
    known = {}
    for it, action, after, *undo in steps:
        known[it] = yard.manager.add_step(
            tx,
            "agent",
            action,
            {"it": it},
            undo[0] if undo else "take",
            after=[known[name] for name in after],
        )
    return tx


@pytest.fixture
def open_yard(place, clock):
    made = []

    def make(**options):
        made.append(Yard(place, clock, **options))
        return made[-1]

    yield make
    for yard in made:
        yard.manager.close()


@pytest.fixture
def yard(open_yard):
    return open_yard()


def test_steps_that_do_not_depend_on_each_other_run_at_the_same_time(open_yard):
    yard = open_yard(meeting=5)
    tx = plan(yard, *((it, "meet", "") for it in "abcde"), ("f", "put", "abcde"))
    assert yard.manager.commit(tx).state.value == "committed"
    assert yard.calls[-1] == "put f"


def test_no_more_run_at_once_than_the_manager_allows(open_yard):
    yard = open_yard(parallel_max=3)
    yard.full = threading.Event()
    tx = yard.manager.begin()
    for _ in range(10):
        yard.manager.add_step(tx, "agent", "count", {"full": 3}, after=[])
    assert yard.manager.commit(tx).state.value == "committed"
    assert yard.inside_max == 3


@pytest.mark.parametrize("wrong", [0, -1, 1_001, True, 2.5, "4"])
def test_a_bound_that_cannot_be_is_refused(wrong):
    with pytest.raises(DefinitionError, match="parallel_max"):
        TransactionManager(parallel_max=wrong)


def test_a_graph_whose_third_node_fails_leaves_nothing(yard):
    tx = plan(
        yard,
        ("a", "put", ""),
        ("b", "put", "a"),
        ("c", "fail", "b"),
        ("d", "put", "c"),
        ("e", "put", "d"),
    )
    result = yard.manager.commit(tx)
    assert (result.state.value, result.failed_step, result.clean) == ("rolled_back", "s3", True)
    assert yard.standing == set()
    assert [item.state.value for item in tx.steps] == [
        "compensated",
        "compensated",
        "failed",
        "skipped",
        "skipped",
    ]


def test_what_runs_while_another_fails_is_awaited_and_undone_and_nothing_else_begins(
    yard, in_thread, signal
):
    begun, go = signal(), signal()

    def slow(action, data):
        begun.set()
        go.wait()
        return yard.put(action, data)

    def fail(action, data):
        begun.wait()
        raise ValueError("no")

    yard.manager.action("slow")(slow)
    yard.manager.action("late_fail")(fail)
    tx = plan(
        yard,
        ("a", "put", ""),
        ("b", "slow", "a"),
        ("c", "late_fail", "a"),
        ("d", "put", "b"),
        ("e", "put", "c"),
    )
    committing = in_thread(yard.manager.commit, tx)
    begun.wait()
    while tx.steps[2].state.value != "failed":
        pass
    go.set()
    result = committing.result()
    assert (result.failed_step, result.clean, yard.standing) == ("s3", True, set())
    assert yard.calls == ["put a", "slow b", "take b", "take a"]
    assert [item.state.value for item in tx.steps][3:] == ["skipped", "skipped"]


def test_a_diamond_is_undone_in_reverse_dependency_order(yard):
    tx = plan(
        yard,
        ("a", "put", ""),
        ("b", "meet", "a"),
        ("c", "meet", "a"),
        ("d", "put", "bc"),
        ("e", "fail", "d"),
    )
    assert yard.manager.commit(tx).clean
    undone = [call for call in yard.calls if call.startswith("take")]
    assert (undone[0], sorted(undone[1:3]), undone[3]) == (
        "take d",
        ["take b", "take c"],
        "take a",
    )


def test_independent_undos_meet_where_that_is_asked_for_and_what_depends_goes_first(yard):
    tx = plan(
        yard,
        ("a", "put", ""),
        ("b", "put", "a", "meet_and_take"),
        ("c", "put", "a", "meet_and_take"),
        ("d", "put", "bc"),
        ("e", "fail", "d"),
        parallel_compensation=True,
    )
    assert yard.manager.commit(tx).clean
    undone = [call for call in yard.calls if call.startswith("take")]
    assert (undone[0], undone[-1]) == ("take d", "take a")


def test_one_failing_undo_among_parallel_ones_leaves_the_others_alone(yard):
    yard.manager.action("stuck")(yard.fail)
    tx = plan(
        yard,
        ("a", "put", ""),
        ("b", "put", "", "stuck"),
        ("c", "put", ""),
        ("d", "put", ""),
        ("e", "put", ""),
        ("f", "fail", "abcde"),
        parallel_compensation=True,
    )
    result = yard.manager.commit(tx)
    assert [item.step_id for item in result.outstanding] == ["s2"]
    assert sorted(result.compensated_steps) == ["s1", "s3", "s4", "s5"]
    assert yard.standing == {"b"}


def test_under_halt_what_a_failed_undo_depends_on_stands_still_and_other_branches_end(yard):
    broken = [True]

    def stuck(action, data):
        if broken:
            raise ValueError("not now")
        yard.take(action, data)

    yard.manager.action("stuck")(stuck)
    tx = plan(
        yard,
        ("a", "put", ""),
        ("b", "put", "a", "stuck"),
        ("c", "put", ""),
        ("d", "fail", "bc"),
        on_compensation_failure="halt",
    )
    result = yard.manager.commit(tx)
    assert (result.state.value, result.waiting.reason) == ("compensating", "halted")
    assert yard.standing == {"a", "b"}
    broken.clear()
    assert yard.manager.retry(tx, "s2").clean
    assert yard.calls[-2:] == ["take b", "take a"]


def test_a_retry_is_due_while_another_step_still_runs(yard, signal):
    done = signal()
    left = [2]

    def flaky(action, data):
        if left[0]:
            left[0] -= 1
            raise ValueError("again")
        done.set()

    yard.manager.action("flaky", retry=AT_ONCE)(flaky)
    yard.manager.action("long")(lambda action, data: done.wait())
    tx = plan(yard, ("a", "long", ""), ("b", "flaky", ""))
    assert yard.manager.commit(tx).state.value == "committed"
    assert left == [0]


def test_what_fails_for_good_while_a_retry_of_another_is_waited_for_sends_all_back(yard):
    retry = RetryPolicy(attempts_max=3, first_delay_seconds=500, jitter=0)
    yard.manager.action("later", retry=retry)(yard.fail)
    tx = plan(yard, ("a", "later", ""), ("b", "meet", ""), ("c", "meet_and_fail", ""))
    result = yard.manager.commit(tx)
    assert (result.failed_step, result.clean, yard.standing) == ("s3", True, set())


# --------------------------------------------------------------------------------- references


def test_an_output_flows_into_what_depends_on_it_and_is_journaled_filled_in(yard):
    got = []
    yard.manager.action("use")(lambda action, data: got.append(data))
    yard.manager.action("offer")(lambda action, data: {"it": {"price": [1, "x"]}})
    tx = yard.manager.begin()
    one = yard.manager.add_step(tx, "agent", "offer", {}, after=[])
    yard.manager.add_step(
        tx,
        "agent",
        "use",
        {"n": one.output("/it/price/0", "integer"), "deep": [{"all": one.output()}]},
        after=[],
    )
    assert yard.manager.commit(tx).state.value == "committed"
    filled = {"n": 1, "deep": [{"all": {"it": {"price": [1, "x"]}}}]}
    assert got == [filled]
    started = [item for item in yard.manager.get_events(tx) if item.kind == "step_started"]
    assert started[1].fields["data"] == filled


@pytest.mark.parametrize(
    "at,kind,message",
    [
        ("/it/price/0", "string", r"is integer at '/it/price/0', not string as data\.n needs"),
        ("/it/none", None, "has nothing at '/it/none'"),
        ("/it/price/7", None, "has nothing at '/it/price/7'"),
    ],
)
def test_an_output_that_does_not_fit_fails_the_step_before_it_runs_and_names_it(
    yard, at, kind, message
):
    got = []
    yard.manager.action("use")(lambda action, data: got.append(data))
    yard.manager.action("offer")(lambda action, data: {"it": {"price": [1, "x"]}})
    tx = yard.manager.begin()
    one = yard.manager.add_step(tx, "agent", "offer", {"it": "offer"}, "take")
    reference = one.output(at) if kind is None else one.output(at, kind)
    yard.manager.add_step(tx, "agent", "use", {"n": reference})
    result = yard.manager.commit(tx)
    assert (result.state.value, result.failed_step, got) == ("rolled_back", "s2", [])
    with pytest.raises(Exception, match=message):
        result.raise_for_state()
    assert yard.calls == ["take offer"]


def test_cycles_and_unknown_names_are_refused_when_they_are_declared(yard):
    tx = yard.manager.begin()
    yard.manager.add_step(tx, "agent", "put", {"it": 1})
    with pytest.raises((UnknownStep, DependencyCycle)):
        yard.manager.add_step(tx, "agent", "put", {"it": 2}, after=["s2"])
    with pytest.raises(UnknownStep):
        yard.manager.add_step(tx, "agent", "put", {"it": 2}, after=["s9"])
    assert len(tx.steps) == 1


def test_an_orchestrator_runs_the_same_graph_again_and_again(open_yard):
    yard = open_yard(meeting=2)
    saga = SagaOrchestrator(yard.manager)
    one = saga.register("agent", "meet", {"it": "a"}, "take", after=[])
    two = saga.register("agent", "meet", {"it": "b"}, "take", after=[])
    saga.register("agent", "fail", {"it": "c"}, "take", after=[one, two])
    for _ in range(2):
        assert saga.execute().clean
    assert yard.standing == set()
    assert [call for call in yard.calls if call.startswith("fail")] == ["fail c", "fail c"]


# ------------------------------------------------------------------------------------- asyncio


@pytest.fixture
def run():
    def run(story):
        async def told():
            async with asyncio.timeout(SECONDS_MAX):
                await story()

        asyncio.run(told())

    return run


def test_tasks_meet_and_are_bounded_and_undone_as_threads_are(run, place, clock):
    async def story():
        calls, inside, most = [], set(), []
        full = asyncio.Event()

        async def put(action, data):
            inside.add(data["it"])
            most.append(len(inside))
            if len(inside) == 2:
                full.set()
            await full.wait()
            inside.discard(data["it"])
            calls.append(f"put {data['it']}")

        async def fail(action, data):
            raise ValueError("no")

        async def take(action, data):
            calls.append(f"take {data['it']}")

        handlers = {"put": put, "take": take, "fail": fail}
        manager = AsyncTransactionManager(handlers, store=place, clock=clock, parallel_max=2)
        async with manager:
            tx = await manager.begin()
            all_of_them = [
                manager.add_step(tx, "agent", "put", {"it": it}, "take", after=[]) for it in "abcd"
            ]
            manager.add_step(tx, "agent", "fail", {}, after=all_of_them)
            result = await manager.commit(tx)
        assert (result.clean, result.failed_step, max(most)) == (True, "s5", 2)
        assert sorted(calls[4:]) == ["take a", "take b", "take c", "take d"]

    run(story)


def test_a_cancellation_reaches_every_task_that_runs_and_all_of_it_is_undone(run, place, clock):
    async def story():
        calls, both = [], asyncio.Event()

        async def put(action, data):
            calls.append("put")
            if len(calls) == 2:
                both.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                calls.append("cancelled")
                raise

        async def take(action, data, context):
            calls.append(f"take {data['it']} {context.in_doubt}")

        manager = AsyncTransactionManager({"put": put, "take": take}, store=place, clock=clock)
        async with manager:
            tx = await manager.begin()
            for it in "ab":
                manager.add_step(tx, "agent", "put", {"it": it}, "take", after=[])
            manager.add_step(tx, "agent", "put", {"it": "c"}, "take")
            committing = asyncio.create_task(manager.commit(tx))
            await both.wait()
            committing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await committing
            result = await manager.get_result(tx)
        assert (result.state.value, result.reason, result.clean) == (
            "rolled_back",
            "cancelled",
            True,
        )
        assert calls[:4] == ["put", "put", "cancelled", "cancelled"]
        assert sorted(calls[4:]) == ["take a True", "take b True"]

    run(story)
