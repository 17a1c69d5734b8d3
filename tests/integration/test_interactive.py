"""Interactive transactions with threads: tool errors, ends, doubts, savepoints."""
# ruff: noqa: PT012 (an exception leaves a whole block)
# mypy: disable-error-code="union-attr, var-annotated"

import contextlib

import pytest

from aumai_transactions import (
    DefinitionError,
    DuplicateStep,
    InvalidData,
    InvalidTransactionState,
    OutcomeUnknown,
    StepInDoubt,
    TransactionManager,
    TransactionNotActive,
    TransactionNotFinal,
    TransactionState,
    UndoRefused,
    UnknownAction,
    UnknownStep,
)


class Shop:
    """Actions that put things up, and take them down again; `standing` is the world."""

    def __init__(self, place, clock, **options):
        self.calls = []
        self.standing = []
        self.broken = set()
        self.manager = TransactionManager(
            {"put": self.put, "take": self.take, "fail": self.fail},
            store=place,
            clock=clock,
            **options,
        )
        self.manager.action("lose", compensating_action="take")(self.lose)

    def put(self, action, data):
        self.calls.append(f"put {data['it']}")
        self.standing.append(data["it"])
        return {"put": data["it"]}

    def take(self, action, data):
        self.calls.append(f"take {data['it']}")
        if data["it"] in self.broken:
            raise OSError("it is stuck")
        if data["it"] in self.standing:
            self.standing.remove(data["it"])

    def fail(self, action, data):
        self.calls.append("fail")
        raise ValueError("no")

    def lose(self, action, data):
        self.put(action, data)
        raise OutcomeUnknown("nobody answered")

    def kinds(self, tx):
        return [event.kind for event in self.manager.get_events(tx.transaction_id)]


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


# ------------------------------------------------------------------------------- errors and ends


def test_a_tools_error_is_raised_itself_and_the_transaction_goes_on(shop):
    with shop.manager.transaction() as tx:
        assert put(tx, "a") == {"put": "a"}
        with pytest.raises(ValueError, match=r"^no$"):
            tx.execute("agent", "fail", {"it": "x"}, "take")
        put(tx, "b")
    assert tx.result is not None
    assert tx.result.state is TransactionState.committed
    assert tx.result.clean
    assert shop.standing == ["a", "b"]
    assert [item.state.value for item in tx.steps] == ["succeeded", "failed", "succeeded"]


def test_an_exception_that_leaves_the_block_takes_everything_back_and_says_so(shop):
    error = KeyError("the model gave up")
    with pytest.raises(KeyError) as caught, shop.manager.transaction() as tx:
        put(tx, "a")
        put(tx, "b")
        raise error
    assert caught.value is error
    assert error.__notes__ == [f"transaction {tx.transaction_id} is rolled_back"]
    assert shop.calls[-2:] == ["take b", "take a"]
    assert (tx.result.state.value, tx.result.clean) == ("rolled_back", True)
    assert tx.result.error == "KeyError: 'the model gave up'"


def test_what_could_not_be_undone_stands_in_the_exceptions_note(shop):
    shop.broken = {"b"}
    with pytest.raises(KeyError) as caught, shop.manager.transaction() as tx:
        for it in "abcde":
            put(tx, it)
        raise KeyError
    assert caught.value.__notes__ == [
        f"transaction {tx.transaction_id} is rolled_back; needs a person: s2"
    ]
    # One failing undo among five: the other four run.
    assert tx.result.compensated_steps == ["s5", "s4", "s3", "s1"]
    assert [(item.step_id, item.reason) for item in tx.result.outstanding] == [("s2", "failed")]
    assert shop.standing == ["b"]


@pytest.mark.parametrize("end", ["commit", "rollback", "exception"])
def test_a_framework_that_retries_after_the_end_is_refused_each_time_and_does_nothing(shop, end):
    tx = shop.manager.transaction()
    with contextlib.suppress(KeyError), tx:
        put(tx, "a")
        if end == "exception":
            raise KeyError
        getattr(tx, end)()
    before = list(shop.calls), len(shop.kinds(tx))
    for _ in range(6):
        with pytest.raises(TransactionNotActive):
            put(tx, "b")
    with pytest.raises(TransactionNotActive):
        tx.undo("s1")
    assert (shop.calls, len(shop.kinds(tx))) == before


def test_a_framework_that_retries_a_failed_tool_six_times_leaves_one_effect(shop):
    left = [5]

    def flaky(action, data):
        if left[0]:
            left[0] -= 1
            raise ValueError("try again")
        return shop.put(action, data)

    shop.manager.action("flaky", compensating_action="take")(flaky)

    def retried(tx):
        for _ in range(5):
            with pytest.raises(ValueError, match="try again"):
                tx.execute("agent", "flaky", {"it": "a"})
        return tx.execute("agent", "flaky", {"it": "a"})

    with shop.manager.transaction() as tx:
        assert retried(tx) == {"put": "a"}
    assert shop.standing == ["a"]
    left[0] = 5
    with pytest.raises(KeyError), shop.manager.transaction() as tx:
        retried(tx)
        raise KeyError
    assert shop.standing == ["a"]
    assert shop.calls.count("take a") == 1


def test_a_tool_that_runs_once_is_asked_six_times_and_runs_once(shop):
    with shop.manager.transaction() as tx:
        outputs = [put(tx, "a", once=True) for _ in range(6)]
        again = put(tx, "a", once=True, again=True)
    assert outputs == [{"put": "a"}] * 6
    assert again == {"put": "a"}
    assert shop.calls == ["put a", "put a"]


def test_what_cannot_be_is_refused_before_anything_runs_and_nothing_is_left(shop):
    with shop.manager.transaction() as tx:
        with pytest.raises(InvalidData):
            tx.execute("agent", "put", {"it": {1}}, "take")
        with pytest.raises(InvalidData):
            tx.execute("", "put", {"it": 1}, "take")
        with pytest.raises(UnknownStep):
            put(tx, "a", after=["nobody"])
        with pytest.raises(DefinitionError):
            put(tx, "a", timeout_seconds=-1)
        put(tx, "a", step_id="first")
        with pytest.raises(DuplicateStep):
            put(tx, "b", step_id="first")
    assert tx.result.clean
    assert (tx.result.outstanding, tx.result.uncompensated) == ([], [])
    assert shop.calls == ["put a"]


def test_a_strict_manager_refuses_an_action_it_does_not_know_and_goes_on(open_shop):
    shop = open_shop(strict=True)
    with shop.manager.transaction() as tx:
        with pytest.raises(UnknownAction):
            tx.execute("agent", "unheard_of", {})
        with pytest.raises(UnknownAction):
            tx.execute("agent", "put", {"it": "a"}, "unheard_of")
        put(tx, "b")
    assert shop.calls == ["put b"]


def test_a_block_that_does_nothing_ends_well_either_way(shop):
    with shop.manager.transaction() as tx:
        pass
    assert (tx.result.state.value, tx.state.value) == ("committed", "committed")
    with pytest.raises(KeyError), shop.manager.transaction() as tx:
        raise KeyError
    assert (tx.result.state.value, tx.state.value) == ("rolled_back", "rolled_back")


def test_before_it_is_entered_a_block_can_do_nothing(shop):
    block = shop.manager.transaction()
    for call in (block.commit, block.rollback, block.savepoint, lambda: put(block, "a")):
        with pytest.raises(InvalidTransactionState, match="not begun"):
            call()
    assert (block.result, block.steps, block.state.value) == (None, [], "pending")


def test_commit_by_hand_ends_it_and_leaving_the_block_changes_nothing(shop):
    with shop.manager.transaction() as tx:
        put(tx, "a")
        assert tx.commit().state is TransactionState.committed
        written = len(shop.kinds(tx))
    assert tx.result.state is TransactionState.committed
    assert len(shop.kinds(tx)) == written


def test_a_rollback_by_hand_is_no_error_and_leaves_nothing(shop):
    with shop.manager.transaction() as tx:
        put(tx, "a")
        result = tx.rollback("not wanted any more")
    assert (result.state.value, result.reason, tx.result) == ("rolled_back", "requested", result)
    assert shop.standing == []


def test_a_step_without_a_compensating_action_is_named_after_a_rollback(shop):
    with pytest.raises(KeyError), shop.manager.transaction() as tx:
        tx.execute("agent", "put", {"it": "a"})
        raise KeyError
    assert (tx.result.clean, tx.result.uncompensated, tx.result.outstanding) == (False, ["s1"], [])


# ---------------------------------------------------------------------------------------- doubt


def test_a_step_in_doubt_is_undone_and_the_program_is_told(shop):
    with shop.manager.transaction() as tx:
        put(tx, "a")
        with pytest.raises(StepInDoubt) as caught:
            tx.execute("agent", "lose", {"it": "b"})
        put(tx, "c")
    assert caught.value.undone
    assert isinstance(caught.value.__cause__, OutcomeUnknown)
    assert (tx.result.state.value, shop.standing) == ("committed", ["a", "c"])


def test_what_a_person_must_decide_is_not_committed_over(shop):
    with (
        pytest.raises(TransactionNotFinal) as caught,
        shop.manager.transaction() as tx,
    ):
        with pytest.raises(StepInDoubt) as told:
            tx.execute("agent", "fog", {"it": "b"}, "take")
        put(tx, "c")
    assert not told.value.undone
    assert (caught.value.result.state.value, tx.result.is_final) == ("active", False)
    name = tx.transaction_id
    ended = shop.manager.resolve(name, "s1", "did_not_happen", note="looked", by="ann")
    assert (ended.state.value, tx.state.value) == ("committed", "committed")


@pytest.fixture(autouse=True)
def _fog(request):
    if "shop" in request.fixturenames:
        shop = request.getfixturevalue("shop")
        shop.manager.action("fog", on_unknown="ask", compensating_action="take")(shop.lose)


# ----------------------------------------------------------------------------------- savepoints


def test_a_savepoint_block_takes_back_just_what_was_done_in_it(shop):
    with shop.manager.transaction() as tx:
        put(tx, "a")
        with pytest.raises(KeyError), tx.savepoint("attempt"):
            put(tx, "b")
            with tx.savepoint():
                put(tx, "c")
            raise KeyError
        put(tx, "d")
    assert shop.standing == ["a", "d"]
    assert tx.result.state is TransactionState.committed
    assert tx.result.compensated_steps == ["s3", "s2"]


def test_handles_of_savepoints_go_back_to_any_of_them_again_and_again(shop):
    with shop.manager.transaction() as tx:
        first = tx.savepoint("first")
        put(tx, "a")
        second = tx.savepoint("second")
        put(tx, "b")
        third = tx.savepoint("third")
        put(tx, "c")
        tx.rollback_to(second)
        assert shop.standing == ["a"]
        put(tx, "d")
        tx.rollback_to(third)
        assert shop.standing == ["a", "d"]
        first.rollback()
        assert shop.standing == []
        first.rollback()
        put(tx, "e")
    assert shop.standing == ["e"]


def test_going_back_over_what_something_outside_needs_is_refused_by_name(shop):
    with shop.manager.transaction() as tx:
        with tx.savepoint("booking") as savepoint:
            put(tx, "a", step_id="seat")
        put(tx, "b", step_id="ticket", after=["seat"])
        put(tx, "c", step_id="mail", after=["ticket"])
        written = len(shop.kinds(tx))
        for refused in (
            lambda: tx.rollback_to(savepoint),
            lambda: tx.undo("seat", with_dependents=False),
        ):
            with pytest.raises(UndoRefused, match="ticket") as caught:
                refused()
            assert set(caught.value.dependants) == {"ticket", "mail"}
        assert (len(shop.kinds(tx)), shop.standing) == (written, ["a", "b", "c"])
        tx.undo("seat")
        assert shop.calls[-3:] == ["take c", "take b", "take a"]
        with pytest.raises(InvalidTransactionState, match="compensated"):
            tx.undo("seat")
        put(tx, "d", step_id="seat")
    assert [item.step_id for item in tx.steps] == ["seat", "ticket", "mail", "seat.2"]
    assert shop.standing == ["d"]


def test_one_step_is_undone_by_its_object_and_the_rest_stays(shop):
    with shop.manager.transaction() as tx:
        put(tx, "a")
        put(tx, "b")
        tx.undo(tx.steps[0])
    assert (shop.standing, tx.result.compensated_steps) == (["b"], ["s1"])


def test_a_partial_undo_that_fails_takes_the_whole_back(shop):
    shop.broken = {"b"}
    with pytest.raises(KeyError) as caught, shop.manager.transaction() as tx:
        put(tx, "a")
        with tx.savepoint():
            put(tx, "b")
            raise KeyError
    assert [(item.step_id, item.reason) for item in tx.result.outstanding] == [("s2", "failed")]
    assert (tx.result.state.value, tx.result.reason) == ("rolled_back", "step_failed")
    assert shop.standing == ["b"]
    assert any("needs a person: s2" in note for note in caught.value.__notes__)


def test_a_partial_undo_that_fails_under_halt_says_that_it_is_not_over(shop):
    shop.broken = {"b"}
    with (
        pytest.raises(TransactionNotFinal),
        shop.manager.transaction(on_compensation_failure="halt") as tx,
    ):
        put(tx, "a", step_id="a")
        put(tx, "b", step_id="b", after=["a"])
        with pytest.raises(TransactionNotFinal):
            tx.undo("b")
    assert (tx.result.state.value, shop.standing) == ("compensating", ["a", "b"])
    shop.broken.clear()
    assert shop.manager.retry(tx.transaction_id, "b").clean
    assert (tx.state.value, shop.standing) == ("rolled_back", [])


def test_a_savepoint_belongs_to_its_context_and_other_threads_stand_outside(shop, in_thread):
    with shop.manager.transaction() as tx, pytest.raises(KeyError), tx.savepoint():
        put(tx, "inside")
        in_thread(put, tx, "outside").result()
        in_thread(tx.bind(put), tx, "bound").result()
        raise KeyError
    assert shop.standing == ["outside"]
