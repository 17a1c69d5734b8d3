"""Interactive transactions as their harshest users use them: who waits, is gone, or asks twice."""
# ruff: noqa: PT012 (an exception leaves a whole block)
# mypy: disable-error-code="union-attr, var-annotated"

import asyncio

import pytest

from aumai_transactions import (
    ApprovalPending,
    AsyncTransactionManager,
    InvalidTransactionState,
    NoActiveTransaction,
    TransactionManager,
    TransactionNotActive,
    UndoRefused,
    require_transaction,
)

GUARD_SECONDS = 30


class World:
    """Actions of which the world sees what stands, and every call."""

    def __init__(self, place, clock=None):
        self.calls = []
        options = {} if clock is None else {"clock": clock}
        self.manager = TransactionManager(store=place, **options)
        self.manager.action("put", compensating_action="take")(self.act)
        self.manager.action("take", idempotent=True)(self.act)
        self.manager.action("wire", effect="irreversible")(self.act)

    def act(self, action, data):
        self.calls.append(f"{action} {data.get('it', '')}".strip())
        return {"it": data.get("it")}


@pytest.fixture
def world(place):
    found = World(place)
    yield found
    found.manager.close()


# ------------------------------------------------------------------------------- undos that wait


def test_the_undo_of_a_cancelled_step_that_must_wait_for_another_undo_is_made(place):
    calls = []

    async def main():
        manager = AsyncTransactionManager(store=place)
        running, undoing, go = asyncio.Event(), asyncio.Event(), asyncio.Event()

        @manager.action("put", compensating_action="take")
        async def put(action, data):
            if data["it"] == "c":
                running.set()
                await asyncio.Event().wait()

        @manager.action("take", idempotent=True)
        async def take(action, data):
            if data["it"] == "b":
                undoing.set()
                await go.wait()
            calls.append(f"take {data['it']}")

        async with asyncio.timeout(GUARD_SECONDS), manager, manager.transaction() as tx:
            await tx.execute("agent", "put", {"it": "a"})
            await tx.execute("agent", "put", {"it": "b"})
            cancelled = asyncio.create_task(tx.execute("agent", "put", {"it": "c"}))
            await running.wait()
            other = asyncio.create_task(tx.undo("s2"))
            await undoing.wait()
            cancelled.cancel()
            first = asyncio.create_task(tx.undo("s1"))
            await asyncio.sleep(0)
            go.set()
            await asyncio.gather(other, first)
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            # The cancellation goes on only once its own step is undone.
            assert [step.state.value for step in tx.steps] == ["compensated"] * 3
        assert tx.result.state == "committed"

    asyncio.run(main())
    assert calls[0] == "take b"
    assert sorted(calls) == ["take a", "take b", "take c"]


def test_an_undo_makes_those_in_front_of_it_that_nobody_waits_for(world, in_thread):
    manager = world.manager
    with manager.transaction() as tx:
        tx.execute("agent", "put", {"it": "a"})
        with tx.transaction() as child:
            child.execute("agent", "put", {"it": "b"})
        manager.rollback(child.transaction_id)  # Whoever asks for that does not wait for it.
        in_thread(tx.bind(tx.undo), "s1").result()
    assert world.calls == ["put a", "put b", "take b", "take a"]


# ---------------------------------------------------------------------------- a pivot that gives up


def test_a_pivot_that_gives_up_waiting_for_others_is_never_carried_out(world, in_thread, signal):
    running, go = signal(), signal()

    @world.manager.action("slow", compensating_action="take")
    def slow(action, data):
        running.set()
        go.wait()

    with world.manager.transaction() as tx:
        other = in_thread(tx.bind(tx.execute), "agent", "slow")
        running.wait()
        for number in ("s2", "s3"):
            with pytest.raises(InvalidTransactionState, match=f"the pivot {number}.*taken back"):
                tx.execute("agent", "wire", pivot=True, wait_max_seconds=0)
        go.set()
        other.result()
        assert [step.state.value for step in tx.steps] == ["succeeded", "skipped", "skipped"]
        tx.execute("agent", "put", {"it": "instead"})
    assert tx.result.state == "committed"
    assert world.calls == ["put instead"]


def test_a_pivot_that_gave_up_is_executed_once_it_is_asked_for_again(world):
    with world.manager.transaction() as tx:
        with pytest.raises(ApprovalPending) as pending:
            tx.execute("agent", "put", {"it": "a"}, requires_approval=True, wait_max_seconds=0)
        with pytest.raises(InvalidTransactionState, match="wait for an approval"):
            tx.execute("agent", "wire", pivot=True, wait_max_seconds=0)
        world.manager.approve(tx.transaction_id, pending.value.step_id, by="ann")
        tx.execute("agent", "wire", pivot=True)
    assert (tx.result.state.value, world.calls) == ("committed", ["put a", "wire"])


# ------------------------------------------------------------------------------------ approvals


def test_an_approval_is_bound_to_the_data_with_its_references_filled_in(world):
    with world.manager.transaction() as tx:
        tx.execute("agent", "put", {"it": "a"})
        data = {"it": tx.steps[0].output("/it", "string")}
        with pytest.raises(ApprovalPending) as first:
            tx.execute("agent", "put", data, requires_approval=True, wait_max_seconds=0)
        asked = world.manager.get_events(tx.transaction_id)[-1]
        assert (asked.kind, asked.fields["data"]) == ("approval_requested", {"it": "a"})
        tx.undo("s1")  # With what it stands on, the question is gone.
        with pytest.raises(InvalidTransactionState, match="waits for no approval"):
            world.manager.approve(
                tx.transaction_id, first.value.step_id, by="ann", digest=first.value.digest
            )
    assert world.calls == ["put a", "take a"]


# ------------------------------------------------------------------------- what ended, and who asks


def test_a_framework_that_tries_a_tool_again_after_the_end_does_nothing(world):
    with pytest.raises(KeyError), world.manager.transaction() as tx:
        tx.execute("agent", "put", {"it": "a"})
        raise KeyError
    for again in range(5):
        with pytest.raises(TransactionNotActive):
            tx.execute("agent", "put", {"it": f"{again}"})
    assert world.calls == ["put a", "take a"]
    assert len(tx.steps) == 1


def test_resuming_a_nested_transaction_names_its_root(world, place):
    manager = world.manager
    block = manager.transaction(on_crash="wait", resume_within_seconds=3600)
    block.__enter__()
    child = block.transaction("child")
    child.__enter__()
    child.execute("agent", "put", {"it": "a"})
    name, root = child.transaction_id, block.transaction_id
    manager.close()
    with pytest.raises(TransactionNotActive):
        block.__exit__(None, None, None)
    other = World(place).manager
    with other:
        with pytest.raises(InvalidTransactionState, match=f"nested.*resume its root {root}"):
            other.resume(name)
        with other.resume(root) as tx, tx.transaction("child") as again:
            again.execute("agent", "put", {"it": "a"})
            assert again.transaction_id == name
        assert tx.result.state == "committed"
    assert world.calls == ["put a"]


def test_an_interrupt_that_comes_twice_during_an_undo_is_told_once_when_it_is_over(world):
    interrupts = [KeyboardInterrupt(), KeyboardInterrupt()]

    @world.manager.action("untie", idempotent=True)
    def untie(action, data):
        if interrupts:
            raise interrupts.pop()
        world.calls.append("untied")

    with pytest.raises(KeyboardInterrupt) as caught, world.manager.transaction() as tx:
        tx.execute("agent", "put", {"it": "a"}, "untie")
        tx.rollback()
    assert caught.value.__notes__ == [f"transaction {tx.transaction_id} is rolled_back"]
    assert tx.result.compensated_steps == ["s1"]
    assert world.calls == ["put a", "untied"]


# --------------------------------------------------------------------------------- generators


def test_a_generator_that_holds_a_block_lends_it_to_its_consumer(world):
    def plan():
        with world.manager.transaction() as tx:
            yield tx
            tx.execute("agent", "put", {"it": "a"})

    plans = plan()
    tx = next(plans)
    assert require_transaction() is tx  # Python's context variables are the consumer's.
    assert next(plans, None) is None
    with pytest.raises(NoActiveTransaction):
        require_transaction()


def test_a_generator_that_is_handed_the_block_of_its_consumer_lends_nothing(world):
    def plan(tx):
        tx.execute("agent", "put", {"it": "a"})
        yield "one"
        tx.execute("agent", "put", {"it": "b"})
        yield "two"

    with world.manager.transaction() as tx:
        assert list(plan(tx)) == ["one", "two"]
    assert (tx.result.state.value, world.calls) == ("committed", ["put a", "put b"])


# ------------------------------------------------------------------------------- nested, refused


def test_an_exception_cannot_leave_what_something_outside_depends_on(world, in_thread):
    with world.manager.transaction() as tx:
        guest = world.manager.join(tx.transaction_id)
        with pytest.raises(UndoRefused) as refused, tx.transaction() as child:
            child.execute("agent", "put", {"it": "a"})
            data = {"it": child.steps[0].output("/it")}
            in_thread(guest.execute, "other", "put", data).result()
            raise KeyError("off")
        assert refused.value.dependants == ("s2",)
        assert isinstance(refused.value.__context__, KeyError)
    assert tx.result.state == "committed"
    assert world.calls == ["put a", "put a"]
