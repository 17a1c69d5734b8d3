"""Interactive transactions with threads: nested blocks, the transaction around, the view of it."""
# ruff: noqa: PT012 (an exception leaves a whole block)
# mypy: disable-error-code="union-attr, var-annotated"

import threading

import pytest

from aumai_transactions import (
    ApprovalPending,
    NoActiveTransaction,
    TransactionManager,
    TransactionNotActive,
    TransactionRolledBack,
    TransactionState,
    require_transaction,
    step,
)


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
        self.calls.append("fail")
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


# -------------------------------------------------------------------------------------- nesting


def test_blocks_nested_three_deep_commit_into_their_parents_and_go_back_alone(shop):
    with shop.manager.transaction() as root:
        put(root, "a")
        with root.transaction("one") as one:
            put(one, "b")
            with pytest.raises(KeyError), one.transaction("two") as two:
                put(two, "c")
                # The manager nests in whatever block is around.
                with shop.manager.transaction(name="three") as three:
                    put(three, "d")
                    assert three.parent is two
                assert three.result.waiting.reason == "parent"
                raise KeyError
            assert shop.calls[-2:] == ["take d", "take c"]
            assert (two.result.state.value, two.result.clean) == ("rolled_back", True)
            put(one, "e")
        assert [item.data["it"] for item in one.steps] == ["b", "c", "d", "e"]
    assert (root.result.state.value, shop.standing) == ("committed", ["a", "b", "e"])


def test_a_child_is_undone_as_one_unit_where_its_parent_goes_back(shop, in_thread):
    with pytest.raises(KeyError), shop.manager.transaction() as root:
        with root.transaction("child") as child:
            put(child, "a1")
            # Another agent, in a thread of its own, stands outside of the child.
            in_thread(put, root, "b").result()
            put(child, "a2")
        put(root, "c")
        raise KeyError
    assert shop.calls[-4:] == ["take c", "take a2", "take a1", "take b"]
    assert shop.standing == []


def test_a_child_that_was_rolled_back_is_over_and_its_parent_is_not(shop):
    with shop.manager.transaction() as root:
        with root.transaction("child") as child:
            put(child, "a")
            assert child.rollback().state is TransactionState.rolled_back
            with pytest.raises(TransactionNotActive):
                put(child, "b")
        put(root, "c")
    assert (shop.standing, root.result.state.value) == (["c"], "committed")


def test_an_empty_child_that_was_rolled_back_is_over_as_well(shop):
    with shop.manager.transaction() as root:
        with root.transaction("child") as child:
            assert child.rollback().state is TransactionState.rolled_back
            with pytest.raises(TransactionNotActive):
                put(child, "b")
        put(root, "c")
    assert (shop.standing, root.result.state.value) == (["c"], "committed")


def test_a_childs_time_is_over_before_its_parents_and_it_goes_back_alone(shop, clock):
    with shop.manager.transaction() as root:
        with (
            pytest.raises(TransactionRolledBack) as caught,
            root.transaction("child", timeout_seconds=10) as child,
        ):
            put(child, "a")
            clock.advance(11)
            put(child, "b")
        assert caught.value.result.reason == "deadline"
        put(root, "c")
    assert (child.result.state.value, child.result.reason) == ("rolled_back", "deadline")
    assert (shop.standing, root.result.state.value) == (["c"], "committed")


def test_past_its_deadline_the_whole_goes_back_at_the_next_step(shop, clock):
    with (
        pytest.raises(TransactionRolledBack) as caught,
        shop.manager.transaction(timeout_seconds=10) as tx,
    ):
        put(tx, "a")
        clock.advance(11)
        put(tx, "b")
    assert caught.value.result.reason == "deadline"
    assert shop.calls == ["put a", "take a"]


# ------------------------------------------------------------------------------ ambient and view


def noted(it: str) -> None:
    """Undo nothing."""


@step(compensating_action=noted, name="interactive.note", required=True)
def note(it: str) -> str:
    return it.upper()


def test_a_bound_function_stands_in_the_transaction_in_a_thread_of_ones_own(shop, in_thread):
    with pytest.raises(NoActiveTransaction):
        require_transaction()
    with shop.manager.transaction() as tx, tx.agent("writer"):
        assert require_transaction() is tx
        assert in_thread(tx.bind(note), "a").result() == "A"
        with pytest.raises(NoActiveTransaction):
            in_thread(note, "b").result()
    assert [(item.agent_id, item.action) for item in tx.steps] == [("writer", "interactive.note")]


def test_the_agent_of_the_code_around_acts_where_a_step_names_none(shop):
    with shop.manager.transaction() as tx:
        tx.execute(None, "put", {"it": 0}, "take")
        with tx.agent("hotel"):
            tx.execute(None, "put", {"it": 1}, "take")
            with tx.agent("flight"):
                tx.execute(None, "put", {"it": 2}, "take")
            tx.execute("taxi", "put", {"it": 3}, "take")
    assert [item.agent_id for item in tx.steps] == ["default", "hotel", "flight", "taxi"]


def test_the_view_for_a_model_tells_what_is_done_undone_failed_and_waiting(shop):
    with pytest.raises(KeyError), shop.manager.transaction() as tx:
        assert tx.describe().done == []
        put(tx, "a")
        put(tx, "b")
        tx.undo("s2")
        with pytest.raises(ValueError, match="no"):
            tx.execute("agent", "fail", {"it": "c"}, "take")
        with pytest.raises(ApprovalPending):
            put(tx, "d", requires_approval=True, wait_max_seconds=0)
        seen = tx.describe()
        names = {
            field: [item.step_id for item in getattr(seen, field)]
            for field in ("done", "undone", "failed", "waiting_for_approval")
        }
        assert names == {
            "done": ["s1"],
            "undone": ["s2"],
            "failed": ["s3"],
            "waiting_for_approval": ["s4"],
        }
        assert seen.can_be_rolled_back
        assert str(seen) == str(tx.describe())
        assert seen.model_dump(mode="json")["state"] == "active"
        raise KeyError
    assert tx.describe().state is TransactionState.rolled_back


def test_an_inner_handler_that_is_a_step_itself_runs_in_its_own_thread(shop):
    threads = []

    def outer(action, data):
        threads.append(threading.current_thread())
        return put(require_transaction(), "inner")

    shop.manager.action("outer", compensating_action="take")(outer)
    with shop.manager.transaction() as tx:
        assert tx.execute("agent", "outer", {"it": "outer"}) == {"put": "inner"}
    assert threads == [threading.current_thread()]
    assert [item.state.value for item in tx.steps] == ["succeeded", "succeeded"]
