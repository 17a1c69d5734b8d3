"""Interactive transactions with asyncio: the same rules, and what a cancellation means."""
# ruff: noqa: PT012 (an exception leaves a whole block)
# mypy: disable-error-code="union-attr, var-annotated"

import asyncio
import threading
from collections import defaultdict

import pytest

from aumai_transactions import (
    AsyncTransactionManager,
    OutcomeUnknown,
    StepInDoubt,
    TransactionNotActive,
    TransactionRolledBack,
    UndoRefused,
    require_transaction,
    step,
)
from aumai_transactions.drivers.tasks import TaskInbox

SECONDS_MAX = 60


class Shop:
    """Actions that put things up, and take them down again; `standing` is the world.

    `slow` says that it has begun, and waits for `go`; so does `slow_take`, which undoes.
    """

    def __init__(self, place, clock):
        self.calls = []
        self.standing = []
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        handlers = {
            "put": self.put,
            "take": self.take,
            "fail": self.fail,
            "slow_take": self.slow_take,
            "put_in_thread": self.put_in_thread,
        }
        self.seen = defaultdict(asyncio.Event)
        self.manager = AsyncTransactionManager(
            handlers, store=place, clock=clock, on_event=lambda event: self.seen[event.kind].set()
        )
        self.manager.action("slow", compensating_action="take")(self.slow)
        self.manager.action("lose", compensating_action="take")(self.lose)

    async def put(self, action, data):
        self.calls.append(f"put {data['it']}")
        self.standing.append(data["it"])
        return {"put": data["it"]}

    def put_in_thread(self, action, data):
        self.calls.append(f"put {data['it']} in {threading.current_thread().name[:5]}")
        self.standing.append(data["it"])

    async def take(self, action, data):
        self.calls.append(f"take {data['it']}")
        if data["it"] in self.standing:
            self.standing.remove(data["it"])

    async def fail(self, action, data):
        raise ValueError("no")

    async def lose(self, action, data):
        await self.put(action, data)
        raise OutcomeUnknown("nobody answered")

    async def slow(self, action, data):
        await self.put(action, data)
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.calls.append("slow was cancelled")
            raise

    async def slow_take(self, action, data):
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.calls.append("an undo was cancelled")
            raise
        await self.take(action, data)


@pytest.fixture
def run(place, clock):
    """Run a story with a shop of its own, and no longer than it may take."""

    def run(story):
        async def told():
            shop = Shop(place, clock)
            try:
                async with asyncio.timeout(SECONDS_MAX):
                    await story(shop)
            finally:
                await shop.manager.close()

        asyncio.run(told())

    return run


async def put(tx, it, **options):
    return await tx.execute("agent", "put", {"it": it}, "take", **options)


def states(tx):
    return [item.state.value for item in tx.steps]


# ------------------------------------------------------------------------------------ the rules


def test_a_tools_error_is_raised_itself_and_the_transaction_goes_on(run):
    async def story(shop):
        async with shop.manager.transaction() as tx:
            assert await put(tx, "a") == {"put": "a"}
            with pytest.raises(ValueError, match=r"^no$"):
                await tx.execute("agent", "fail", {}, "take")
            with pytest.raises(StepInDoubt) as caught:
                await tx.execute("agent", "lose", {"it": "b"})
            assert caught.value.undone
            await put(tx, "c")
        assert (tx.result.state.value, shop.standing) == ("committed", ["a", "c"])
        for _ in range(6):
            with pytest.raises(TransactionNotActive):
                await put(tx, "d")
        assert shop.standing == ["a", "c"]

    run(story)


def test_savepoints_nested_blocks_and_undo_work_as_with_threads(run):
    async def story(shop):
        async with shop.manager.transaction() as tx:
            handle = tx.savepoint("handle")
            await put(tx, "a", step_id="a")
            with pytest.raises(KeyError):
                async with tx.savepoint():
                    await put(tx, "b")
                    raise KeyError
            async with tx.transaction("one") as one:
                await put(one, "c")
                with pytest.raises(KeyError):
                    async with shop.manager.transaction(name="two") as two:
                        await put(two, "d")
                        raise KeyError
            assert shop.standing == ["a", "c"]
            await put(tx, "e", after=["a"])
            with pytest.raises(UndoRefused):
                await tx.undo("a", with_dependents=False)
            await tx.undo("a")
            assert shop.standing == ["c"]
            await handle.rollback()
            assert shop.standing == []
            await put(tx, "f")
            assert [item.step_id for item in tx.describe().done] == [tx.steps[-1].step_id]
        assert (tx.result.state.value, shop.standing) == ("committed", ["f"])
        assert two.result.state.value == "rolled_back"

    run(story)


def test_an_exception_that_leaves_the_block_takes_everything_back_and_says_so(run):
    async def story(shop):
        with pytest.raises(KeyError) as caught:
            async with shop.manager.transaction() as tx:
                await put(tx, "a")
                await put(tx, "b")
                raise KeyError
        assert caught.value.__notes__ == [f"transaction {tx.transaction_id} is rolled_back"]
        assert shop.calls[-2:] == ["take b", "take a"]
        assert (tx.result.clean, shop.standing) == (True, [])

    run(story)


def test_sync_handlers_run_in_threads_and_the_loop_lives(run):
    async def story(shop):
        async with shop.manager.transaction() as tx:
            await tx.execute("agent", "put_in_thread", {"it": "a"}, "take")
        assert shop.calls == ["put a in aumai"]

    run(story)


async def untaken(it: str) -> None:
    """Undo nothing."""


@step(compensating_action=untaken, name="interactive.sync_note")
def sync_note(it: str) -> str:
    return it.upper()


@step(compensating_action=untaken, name="interactive.async_note")
async def async_note(it: str) -> str:
    await asyncio.sleep(0)
    return it.upper()


def test_an_async_block_is_used_from_worker_threads_and_tasks_at_once(run):
    async def story(shop):
        async with shop.manager.transaction() as tx:
            found = await asyncio.gather(
                *(asyncio.to_thread(sync_note, f"t{n}") for n in range(20)),
                *(async_note(f"a{n}") for n in range(20)),
                *(put(tx, n) for n in range(20)),
            )
            assert require_transaction() is tx
        assert found[:2] + found[20:22] == ["T0", "T1", "A0", "A1"]
        assert (tx.result.state.value, len(tx.steps)) == ("committed", 60)
        assert (await shop.manager.verify()).is_intact

    run(story)


# --------------------------------------------------------------------------------- cancellation


def test_a_cancelled_step_is_undone_and_leaving_the_block_takes_back_the_rest(run):
    async def story(shop):
        blocks = []

        async def work():
            async with shop.manager.transaction() as tx:
                blocks.append(tx)
                await put(tx, "a")
                await tx.execute("agent", "slow", {"it": "b"})

        task = asyncio.create_task(work())
        await shop.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        (tx,) = blocks
        assert caught.value.__notes__ == [f"transaction {tx.transaction_id} is rolled_back"]
        assert (tx.result.reason, tx.result.clean) == ("cancelled", True)
        assert shop.calls == ["put a", "put b", "slow was cancelled", "take b", "take a"]

    run(story)


def test_a_timeout_around_one_step_that_is_caught_takes_back_that_step_alone(run):
    async def story(shop):
        async with shop.manager.transaction() as tx:
            await put(tx, "a")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(None) as timeout:
                    executing = asyncio.ensure_future(_expires(shop.begun, timeout))
                    await tx.execute("agent", "slow", {"it": "b"})
            await executing
            assert states(tx) == ["succeeded", "compensated"]
            await put(tx, "c")
        assert (tx.result.state.value, shop.standing) == ("committed", ["a", "c"])

    run(story)


async def _expires(event, limit):
    await event.wait()
    limit.reschedule(asyncio.get_running_loop().time())


def test_a_cancellation_before_the_handler_began_calls_nothing(run, place):
    async def story(shop):
        async with shop.manager.transaction() as tx:
            await put(tx, "a")
            executing = asyncio.create_task(tx.execute("agent", "slow", {"it": "b"}))
            await asyncio.sleep(0)
            executing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await executing
            await put(tx, "c")
        assert (tx.result.state.value, shop.standing) == ("committed", ["a", "c"])

    run(story)


def test_wherever_a_cancellation_hits_the_end_is_all_or_nothing(run):
    """Cancel a whole program after more and more turns of the loop, until it ends by itself."""

    async def story(shop):
        blocks = []

        async def work():
            async with shop.manager.transaction() as tx:
                blocks.append(tx)
                await put(tx, "a")
                async with tx.savepoint() as savepoint:
                    await put(tx, "b")
                    await savepoint.rollback()
                async with tx.transaction("child") as child:
                    await tx.execute("agent", "put_in_thread", {"it": "c"}, "take")
                    await put(child, "d")

        # The store is opened in a thread, at first use; that takes any number of turns.
        await shop.manager.begin()
        ended = set()
        turns = 0
        while True:
            # Why not one by one: while a disk is waited for, nothing changes from turn to turn.
            turns += 1 + turns // 40
            shop.standing.clear()
            blocks.clear()
            task = asyncio.create_task(work())
            for _ in range(turns):
                await asyncio.sleep(0)
            is_over = task.done()
            task.cancel()
            await asyncio.wait({task})
            state = blocks[0].result.state.value if blocks else None
            wanted = ["a", "c", "d"] if state == "committed" else []
            assert (turns, shop.standing) == (turns, wanted)
            if blocks:
                assert blocks[0].result.is_final
            assert task.cancelled() or state == "committed"
            ended.add(state)
            if is_over:
                break
        assert ended >= {"committed", "rolled_back"}

    run(story)


def test_an_undo_is_finished_however_often_it_is_cancelled(run):
    async def story(shop):
        blocks = []

        async def work():
            async with shop.manager.transaction() as tx:
                blocks.append(tx)
                await put(tx, "a")
                await tx.execute("agent", "put", {"it": "b"}, "slow_take")
                raise KeyError

        task = asyncio.create_task(work())
        await shop.begun.wait()
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        shop.go.set()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert isinstance(caught.value.__context__, KeyError)
        assert (blocks[0].result.clean, shop.standing) == (True, [])
        assert "an undo was cancelled" not in shop.calls

    run(story)


def test_a_cancelled_partial_rollback_is_finished_and_then_the_whole_goes_back(run):
    async def story(shop):
        blocks = []

        async def work():
            async with shop.manager.transaction() as tx:
                blocks.append(tx)
                await put(tx, "a")
                savepoint = tx.savepoint()
                await tx.execute("agent", "put", {"it": "b"}, "slow_take")
                await tx.rollback_to(savepoint)

        task = asyncio.create_task(work())
        await shop.begun.wait()
        task.cancel()
        shop.go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert blocks[0].result.compensated_steps == ["s2", "s1"]
        assert (blocks[0].result.reason, shop.standing) == ("cancelled", [])

    run(story)


def test_a_commit_that_is_cancelled_while_another_task_works_goes_back(run):
    async def story(shop):
        blocks = []

        async def work():
            async with shop.manager.transaction() as tx:
                other = asyncio.create_task(tx.execute("agent", "slow", {"it": "a"}))
                await shop.begun.wait()
                blocks.append((tx, other))

        task = asyncio.create_task(work())
        await shop.seen["commit_requested"].wait()
        task.cancel()
        await shop.seen["rollback_requested"].wait()
        shop.go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        tx, other = blocks[0]
        assert (tx.result.state.value, tx.result.reason) == ("rolled_back", "cancelled")
        with pytest.raises(TransactionRolledBack):
            await other
        assert shop.standing == []

    run(story)


def test_a_cancellation_of_one_agent_leaves_what_the_other_does_alone(run):
    async def story(shop):
        async with shop.manager.transaction() as tx:
            slow = asyncio.create_task(tx.execute("one", "slow", {"it": "a"}))
            await shop.begun.wait()
            others = asyncio.gather(*(put(tx, n) for n in range(5)))
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow
            await others
        assert (tx.result.state.value, sorted(shop.standing)) == ("committed", [0, 1, 2, 3, 4])

    run(story)


@pytest.mark.parametrize("turns", range(8))
def test_a_cancellation_that_comes_together_with_what_is_waited_for_is_not_lost(turns):
    async def story():
        inbox = TaskInbox()
        waiting = asyncio.create_task(inbox.get(SECONDS_MAX))
        for _ in range(4):
            await asyncio.sleep(0)
        inbox.put(None)
        for _ in range(turns):
            await asyncio.sleep(0)
        if waiting.done():
            assert waiting.result() is None
            return
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(story())
