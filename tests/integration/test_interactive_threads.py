"""One interactive transaction in many hands: threads, hooks, handlers that ask for more."""
# ruff: noqa: PT012 (an exception leaves a whole block)
# mypy: disable-error-code="union-attr, var-annotated"

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from aumai_transactions import (
    InvalidTransactionState,
    TransactionManager,
    TransactionNotActive,
    TransactionNotFinal,
    TransactionRolledBack,
    require_transaction,
    step,
)

AGENTS = 8
STEPS = 10


class Shop:
    """Actions that put things up, and take them down again; `standing` is the world."""

    def __init__(self, place, clock, **options):
        self.calls = []
        self.standing = []
        self.manager = TransactionManager(
            {"put": self.put, "take": self.take, "fail": self.fail},
            store=place,
            clock=clock,
            **options,
        )

    def put(self, action, data):
        self.calls.append(f"put {data['it']}")
        self.standing.append(data["it"])
        return {"put": data["it"]}

    def take(self, action, data):
        self.calls.append(f"take {data['it']}")
        if data["it"] in self.standing:
            self.standing.remove(data["it"])

    def fail(self, action, data):
        raise ValueError("no")


@pytest.fixture
def open_shop(place, clock):
    made = []

    def make(**options):
        made.append(Shop(place, clock, **options))
        return made[-1]

    yield make
    for shop in made:
        shop.manager.close()


@pytest.fixture
def shop(open_shop):
    return open_shop()


def put(tx, it, **options):
    return tx.execute("agent", "put", {"it": it}, "take", **options)


def unnoted(it: str) -> None:
    """Undo nothing."""


@step(compensating_action=unnoted, name="interactive.threads.note")
def note(it: str) -> str:
    return it.upper()


@step(compensating_action=unnoted, name="interactive.threads.async_note")
async def async_note(it: str) -> str:
    await asyncio.sleep(0)
    return it.upper()


# ---------------------------------------------------------------------------------------- threads


def agent_work(tx, shop, agent):
    """Do some steps, of which every third fails and is repaired, and every fourth is taken back."""
    kept = []
    for number in range(STEPS):
        it = f"{agent}.{number}"
        if number % 3 == 0:
            with pytest.raises(ValueError, match="no"):
                tx.execute(agent, "fail", {"it": it}, "take")
        with tx.savepoint() as savepoint:
            tx.execute(agent, "put", {"it": it}, "take")
            if number % 4 == 0:
                savepoint.rollback()
            else:
                kept.append(it)
    return kept


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_many_threads_share_one_transaction_and_the_world_is_all_or_nothing(shop, end):
    with ThreadPoolExecutor(AGENTS) as threads, shop.manager.transaction() as tx:
        work = [
            threads.submit(tx.bind(agent_work), tx, shop, f"agent{number}")
            for number in range(AGENTS)
        ]
        kept = [it for done in work for it in done.result()]
        assert sorted(shop.standing) == sorted(kept)
        if end == "rollback":
            tx.rollback()
    assert tx.result.clean
    assert sorted(shop.standing) == (sorted(kept) if end == "commit" else [])
    assert shop.manager.verify().is_intact


def test_an_async_step_runs_in_a_sync_block_from_a_loop_of_ones_own(shop):
    async def main():
        assert require_transaction() is tx
        return await asyncio.gather(
            *(async_note(f"a{n}") for n in range(10)),
            *(asyncio.to_thread(note, f"t{n}") for n in range(10)),
        )

    with shop.manager.transaction() as tx:
        found = asyncio.run(main())
    assert (found[0], found[10], len(found)) == ("A0", "T0", 20)
    assert (tx.result.state.value, len(tx.steps)) == ("committed", 20)


def test_a_commit_waits_for_the_step_of_another_thread_and_uses_no_processor(
    shop, in_thread, signal
):
    begun, go = signal(), signal()

    def slow(action, data):
        begun.set()
        go.wait()
        return shop.put(action, data)

    shop.manager.action("slow", compensating_action="take")(slow)
    with shop.manager.transaction() as tx:
        step_of_other = in_thread(tx.execute, "other", "slow", {"it": "a"})
        begun.wait()
        committing = in_thread(tx.commit)
        while "commit_requested" not in kinds(shop, tx):
            pass
        before = time.process_time()
        # Not a wait for anything: this is how long the others have to do nothing.
        threading.Event().wait(0.3)
        used = time.process_time() - before
        with pytest.raises(TransactionNotActive, match="committed"):
            put(tx, "b")
        go.set()
        assert step_of_other.result() == {"put": "a"}
        assert committing.result().state.value == "committed"
    assert used < 0.15
    assert shop.standing == ["a"]


def kinds(shop, tx):
    return [event.kind for event in shop.manager.get_events(tx.transaction_id)]


def test_a_rollback_by_one_thread_reaches_the_step_of_another(shop, in_thread, signal):
    begun, go = signal(), signal()

    def slow(action, data):
        begun.set()
        go.wait()
        return shop.put(action, data)

    shop.manager.action("slow", compensating_action="take")(slow)
    with shop.manager.transaction() as tx:
        put(tx, "a")
        step_of_other = in_thread(tx.execute, "other", "slow", {"it": "b"})
        begun.wait()
        going_back = in_thread(tx.rollback)
        while "rollback_requested" not in kinds(shop, tx):
            pass
        go.set()
        with pytest.raises(TransactionRolledBack):
            step_of_other.result()
        assert going_back.result().clean
    assert (tx.result.reason, shop.standing) == ("requested", [])
    assert shop.calls == ["put a", "put b", "take b", "take a"]


def test_one_agents_savepoint_does_not_hold_up_what_another_does(shop, in_thread, signal):
    begun, go = signal(), signal()

    def slow_take(action, data):
        begun.set()
        go.wait()
        shop.take(action, data)

    shop.manager.action("slow_take")(slow_take)

    def attempt(tx):
        with tx.savepoint() as savepoint:
            tx.execute("one", "put", {"it": "a"}, "slow_take")
            savepoint.rollback()

    with shop.manager.transaction() as tx:
        undoing = in_thread(attempt, tx)
        begun.wait()
        put(tx, "b")
        assert shop.standing == ["a", "b"]
        go.set()
        undoing.result()
    assert (tx.result.state.value, shop.standing) == ("committed", ["b"])


def test_waiting_for_an_equal_step_that_fails_in_another_thread_ends(shop, in_thread, signal):
    begun, go = signal(), signal()

    def slow_fail(action, data):
        begun.set()
        go.wait()
        raise ValueError("no")

    shop.manager.action("slow_fail", compensating_action="take", once=True)(slow_fail)
    with shop.manager.transaction() as tx:
        first = in_thread(tx.execute, "agent", "slow_fail", {"it": "a"})
        begun.wait()
        second = in_thread(tx.execute, "agent", "slow_fail", {"it": "a"})
        go.set()
        with pytest.raises(ValueError, match="no"):
            first.result()
        with pytest.raises(Exception, match=r"s1|no"):
            second.result()
    assert tx.result.state.value == "committed"


# ------------------------------------------------------------------------- handlers that ask more


def test_a_handler_may_ask_for_another_step_of_its_own_transaction(shop):
    shop.manager.action("outer", compensating_action="take")(
        lambda action, data: put(require_transaction(), "inner")["put"]
    )
    with pytest.raises(KeyError), shop.manager.transaction() as tx:
        assert tx.execute("agent", "outer", {"it": "outer"}) == "inner"
        raise KeyError
    # What took effect last is undone first: the outer one succeeded last.
    assert shop.calls == ["put inner", "take outer", "take inner"]


@pytest.mark.parametrize("call", ["rollback", "commit"])
def test_a_handler_that_wants_to_end_its_own_transaction_is_refused(shop, call):
    def outer(action, data):
        getattr(require_transaction(), call)()

    shop.manager.action("outer", compensating_action="take")(outer)
    with shop.manager.transaction() as tx:
        put(tx, "a")
        with pytest.raises(InvalidTransactionState, match="Raise an exception in the handler"):
            tx.execute("agent", "outer", {"it": "b"})
    assert (tx.result.state.value, shop.standing) == ("committed", ["a"])


def test_a_handler_that_asks_the_manager_to_undo_its_own_transaction_is_refused(shop):
    def outer(action, data):
        shop.manager.rollback(shop.manager.get_transaction(tx.transaction_id))

    shop.manager.action("outer", compensating_action="take")(outer)
    with shop.manager.transaction() as tx:
        with pytest.raises(InvalidTransactionState):
            tx.execute("agent", "outer", {"it": "b"})
        put(tx, "a")
    assert (tx.result.state.value, shop.standing) == ("committed", ["a"])


def test_an_undo_that_asks_for_a_step_of_what_it_undoes_is_refused_and_fails(shop):
    def undo(action, data):
        put(blocks[0], "more")

    blocks = []
    shop.manager.action("undo")(undo)
    with pytest.raises(KeyError), shop.manager.transaction() as tx:
        blocks.append(tx)
        tx.execute("agent", "put", {"it": "a"}, "undo")
        raise KeyError
    (left,) = tx.result.outstanding
    assert "cannot execute a step" in left.error
    assert shop.calls == ["put a"]


# ------------------------------------------------------------------------------------------ hooks


def test_a_hook_may_look_at_the_transaction_and_ask_for_a_step(open_shop):
    seen = []

    def hook(event):
        if event.kind == "step_succeeded":
            seen.append(len(blocks[0].describe().done))
            if len(seen) == 1:
                put(blocks[0], "from the hook")

    blocks = []
    shop = open_shop(on_event=hook)
    with shop.manager.transaction() as tx:
        blocks.append(tx)
        put(tx, "a")
        put(tx, "b")
    assert shop.standing == ["a", "from the hook", "b"]
    assert (tx.result.state.value, tx.result.warnings, seen) == ("committed", [], [1, 2, 3])


@pytest.mark.parametrize("call", ["rollback", "undo"])
def test_a_hook_that_would_wait_for_itself_is_refused_and_it_is_said(open_shop, call):
    def hook(event):
        if event.kind == "step_started":
            if call == "undo":
                blocks[0].undo(event.step_id)
            else:
                blocks[0].rollback()

    blocks = []
    shop = open_shop(on_event=hook)
    with shop.manager.transaction() as tx:
        blocks.append(tx)
        put(tx, "a")
    assert (tx.result.state.value, shop.standing) == ("committed", ["a"])
    assert [item.startswith("the hook on_event raised") for item in tx.result.warnings] == [True]


def test_a_hook_hears_every_entry_once_and_in_order_from_many_threads(open_shop):
    heard = []
    shop = open_shop(on_event=lambda event: heard.append(event.sequence))
    with ThreadPoolExecutor(AGENTS) as threads, shop.manager.transaction() as tx:
        list(threads.map(lambda number: put(tx, number), range(40)))
    assert heard == list(range(1, len(kinds(shop, tx)) + 1))


def test_data_is_cleaned_before_it_is_recorded_and_before_it_is_used(open_shop):
    shop = open_shop(before_record=lambda item: {"it": item.data["it"].strip()})
    with shop.manager.transaction() as tx:
        put(tx, "  a ")
    assert (tx.steps[0].data, shop.standing) == ({"it": "a"}, ["a"])


def test_a_cleaning_that_raises_is_raised_and_nothing_is_asked_for(open_shop):
    def refuse(item):
        raise PermissionError("no secrets here")

    shop = open_shop(before_record=refuse)
    with shop.manager.transaction() as tx, pytest.raises(PermissionError):
        put(tx, "a")
    assert (tx.steps, shop.calls) == ([], [])


# ---------------------------------------------------------------------------------- closed manager


def test_a_manager_that_is_closed_under_an_open_block_leaves_it_to_recovery(tmp_path, clock):
    place = tmp_path / "closed.db"
    shop = Shop(place, clock)
    with pytest.raises(TransactionNotActive) as caught, shop.manager.transaction() as tx:
        put(tx, "a")
        shop.manager.close()
        with pytest.raises(TransactionNotActive):
            put(tx, "b")
    assert tx.result is not None
    assert not tx.result.is_final
    assert "closed" in str(caught.value)
    assert shop.standing == ["a"]
    after = Shop(place, clock)
    with after.manager:
        (found,) = after.manager.recover()
    assert (found.result.reason, found.result.clean) == ("crash", True)
    assert after.calls == ["take a"]


def test_an_exception_goes_on_where_the_store_is_gone_and_says_so(tmp_path, clock):
    shop = Shop(tmp_path / "closed.db", clock)
    with pytest.raises(KeyError) as caught, shop.manager.transaction() as tx:
        put(tx, "a")
        shop.manager.close()
        raise KeyError
    assert "could not be rolled back now" in caught.value.__notes__[0]
    assert tx.result is not None


def test_leaving_the_block_after_a_commit_that_was_not_waited_for_says_what_it_waits_for(shop):
    with pytest.raises(TransactionNotFinal) as caught, shop.manager.transaction() as tx:
        with pytest.raises(Exception, match="waits for an approval"):
            put(tx, "a", requires_approval=True, wait_max_seconds=0)
        assert not tx.commit(wait_max_seconds=0).is_final
    assert caught.value.result.waiting.reason == "approval"
    assert shop.manager.approve(tx.transaction_id, "s1", by="ann").state.value == "committed"
    assert (tx.state.value, shop.standing) == ("committed", ["a"])


def test_leaving_a_block_sees_through_what_another_thread_has_begun_meanwhile(
    open_shop, clock, in_thread, monkeypatch
):
    shop, another = open_shop(), open_shop()

    @shop.manager.action("stay", compensating_action="fail")
    def stay(action, data):
        pass

    with (
        pytest.raises(TransactionNotFinal),
        shop.manager.transaction(timeout_seconds=60, on_compensation_failure="halt") as tx,
    ):
        tx.execute("agent", "stay")
        wish_at_end = tx._wish_at_end

        def late(error):
            wish = wish_at_end(error)
            clock.advance(61)
            with pytest.raises(TransactionNotFinal):
                in_thread(tx.execute, "agent", "put", {"it": "a"}, "take").result()
            return wish

        monkeypatch.setattr(tx, "_wish_at_end", late)
    assert tx.result.waiting.reason == "halted"
    # Nobody has it in hand any more.
    result = another.manager.resolve(tx.transaction_id, "s1", "undone", by="ann", note="by hand")
    assert (result.state.value, result.reason) == ("rolled_back", "deadline")
