"""The commit point: pivot, confirmations, held steps, reads looked at again, undo windows."""
# ruff: noqa: PT012 (an exception leaves a whole block)
# mypy: disable-error-code="union-attr, var-annotated"

import pytest

from aumai_transactions import (
    CommitPointPassed,
    DefinitionError,
    IrreversibleBeforeCompensatable,
    OutcomeUnknown,
    ReadConflict,
    RetryPolicy,
    StepInDoubt,
    StepRejected,
    TransactionManager,
    TransactionNotFinal,
    TransactionRolledBack,
)

TWICE = RetryPolicy(attempts_max=2, first_delay_seconds=0)


class Bank:
    """Actions around a commit point; `calls` is what the world saw."""

    def __init__(self, place, clock, **options):
        self.calls = []
        self.keys = {}
        self.wrong = {}
        self.value = 1
        self.manager = TransactionManager(store=place, clock=clock, **options)
        action = self.manager.action
        action("put")(self.act)
        action("take")(self.act)
        action("wire", effect="irreversible")(self.act)
        action("confirm", idempotent=True, retry=TWICE)(self.act)
        action("reserve", compensating_action="take", confirming_action="confirm")(self.act)
        action("mail", idempotent=True, retry=TWICE)(self.act)
        action("burn", effect="irreversible")(self.act)
        read = action("read", effect="none")(self.read)
        read.reread(self.still_holds)

    def act(self, action, data, context):
        self.calls.append(f"{action} {data.get('it', '')}".strip())
        self.keys.setdefault((context.operation, context.step_id), set()).add(
            context.idempotency_key
        )
        wrong = self.wrong.get(action, [])
        if wrong:
            raise wrong.pop(0)
        return {"did": action}

    def read(self, action, data):
        return self.value

    def still_holds(self, data, context):
        self.calls.append("look again")
        return self.value == context.output

    def kinds(self, tx):
        name = tx if isinstance(tx, str) else tx.transaction_id
        return [event.kind for event in self.manager.get_events(name)]


@pytest.fixture
def open_bank(place, clock):
    made = []

    def make(**options):
        made.append(Bank(place, clock, **options))
        return made[-1]

    yield make
    for bank in made:
        bank.manager.close()


@pytest.fixture
def bank(open_bank):
    return open_bank()


def put(tx, it="a"):
    return tx.execute("agent", "put", {"it": it}, "take")


# ------------------------------------------------------------------------------------------ pivot


def test_the_success_of_a_pivot_is_the_commit_and_nothing_goes_back_over_it(bank):
    with bank.manager.transaction() as tx:
        savepoint = tx.savepoint()
        put(tx)
        tx.execute("agent", "wire", {}, pivot=True)
        written = len(bank.kinds(tx))
        for call in (
            lambda: put(tx, "b"),
            tx.rollback,
            lambda: tx.undo("s1"),
            lambda: tx.rollback_to(savepoint),
        ):
            with pytest.raises(CommitPointPassed):
                call()
        assert len(bank.kinds(tx)) == written
    assert tx.result.state.value == "committed"
    assert bank.calls == ["put a", "wire"]
    kinds = bank.kinds(tx)
    assert kinds[kinds.index("step_succeeded", kinds.index("step_succeeded") + 1) + 1] == (
        "commit_decided"
    )


def test_an_exception_behind_the_commit_point_changes_nothing_and_says_so(bank):
    with pytest.raises(CommitPointPassed) as caught, bank.manager.transaction() as tx:
        put(tx)
        tx.execute("agent", "wire", {}, pivot=True)
        raise KeyError("too late")
    assert isinstance(caught.value.__cause__, KeyError)
    assert (tx.result.state.value, bank.calls) == ("committed", ["put a", "wire"])


def test_an_interrupt_behind_the_commit_point_stays_an_interrupt(bank):
    with pytest.raises(KeyboardInterrupt) as caught, bank.manager.transaction() as tx:
        put(tx)
        tx.execute("agent", "wire", {}, pivot=True)
        raise KeyboardInterrupt
    assert caught.value.__notes__ == [f"transaction {tx.transaction_id} is committed"]
    assert bank.calls == ["put a", "wire"]


def test_no_deadline_is_looked_at_behind_the_commit_point(bank, clock):
    with bank.manager.transaction(timeout_seconds=10) as tx:
        put(tx)
        tx.execute("agent", "mail", {}, on_commit=True)
        tx.execute("agent", "wire", {}, pivot=True)
        clock.advance(100)
    assert (tx.result.state.value, bank.calls) == ("committed", ["put a", "wire", "mail"])


def test_a_pivot_that_was_not_done_is_a_tool_error_and_can_be_tried_again(bank):
    bank.wrong["wire"] = [StepRejected("no cover")]
    with bank.manager.transaction() as tx:
        put(tx)
        with pytest.raises(StepRejected):
            tx.execute("agent", "wire", {}, pivot=True)
        put(tx, "b")
        tx.execute("agent", "wire", {}, pivot=True)
    assert bank.calls == ["put a", "wire", "put b", "wire"]
    assert tx.result.state.value == "committed"


def test_a_planned_pivot_that_was_not_done_sends_everything_back(bank):
    bank.wrong["wire"] = [StepRejected("no cover")]
    tx = bank.manager.begin()
    bank.manager.add_step(tx, "agent", "put", {"it": "a"}, "take")
    bank.manager.add_step(tx, "agent", "wire", {}, pivot=True)
    bank.manager.add_step(tx, "agent", "mail", {}, on_commit=True)
    result = bank.manager.commit(tx)
    assert (result.state.value, result.failed_step, result.clean) == ("rolled_back", "s2", True)
    assert bank.calls == ["put a", "wire", "take a"]


@pytest.mark.parametrize("answer,calls", [("happened", ["mail"]), ("did_not_happen", ["take a"])])
def test_a_pivot_in_doubt_waits_for_a_person_and_goes_neither_way(bank, answer, calls):
    bank.wrong["wire"] = [OutcomeUnknown("nobody answered")]
    tx = bank.manager.begin()
    bank.manager.add_step(tx, "agent", "put", {"it": "a"}, "take")
    bank.manager.add_step(tx, "agent", "wire", {}, pivot=True)
    bank.manager.add_step(tx, "agent", "mail", {}, on_commit=True)
    result = bank.manager.commit(tx)
    assert (result.state.value, result.waiting.reason) == ("active", "in_doubt")
    # Not even a wish to go back goes back over what may be the commit point.
    assert bank.manager.rollback(tx, wait_max_seconds=0).state.value == "active"
    assert bank.calls == ["put a", "wire"]
    result = bank.manager.resolve(tx, "s2", answer, note="asked the bank")
    assert result.is_final
    assert bank.calls[2:] == calls


def test_an_interactive_pivot_in_doubt_is_not_gone_back_over_by_an_exception(bank):
    bank.wrong["wire"] = [OutcomeUnknown("nobody answered")]
    with pytest.raises(KeyError), bank.manager.transaction() as tx:
        put(tx)
        with pytest.raises(StepInDoubt) as caught:
            tx.execute("agent", "wire", {}, pivot=True)
        assert not caught.value.undone
        with pytest.raises(Exception, match="pivot"):
            put(tx, "b")
        raise KeyError
    assert (tx.result.state.value, bank.calls) == ("active", ["put a", "wire"])
    result = bank.manager.resolve(tx.transaction_id, "s2", "did_not_happen", note="asked")
    assert (result.state.value, bank.calls[2:]) == ("rolled_back", ["take a"])


def test_a_pivot_waits_until_all_else_has_ended_and_is_the_only_and_the_last_one(bank):
    tx = bank.manager.begin()
    for it in "ab":
        bank.manager.add_step(tx, "agent", "put", {"it": it}, "take", after=[])
    bank.manager.add_step(tx, "agent", "wire", {}, pivot=True, after=[])
    assert bank.manager.commit(tx).state.value == "committed"
    assert (sorted(bank.calls[:2]), bank.calls[2:]) == (["put a", "put b"], ["wire"])
    for late in ({"pivot": True}, {"after": []}):
        tx = bank.manager.begin()
        bank.manager.add_step(tx, "agent", "wire", {}, pivot=True)
        with pytest.raises(DefinitionError, match="pivot"):
            bank.manager.add_step(tx, "agent", "wire", {}, **late)
            bank.manager.commit(tx)
    assert len(bank.calls) == 3


def test_a_pivot_inside_a_nested_transaction_is_refused(bank):
    with bank.manager.transaction() as tx:
        with tx.transaction("child") as child, pytest.raises(DefinitionError, match="pivot"):
            child.execute("agent", "wire", {}, pivot=True)
        put(tx)
    assert bank.calls == ["put a"]


def test_what_cannot_be_undone_before_what_can_be_is_refused_unless_its_author_insists(bank):
    def planned(**options):
        tx = bank.manager.begin(**options)
        bank.manager.add_step(tx, "agent", "burn", {})
        bank.manager.add_step(tx, "agent", "put", {"it": "a"}, "take")
        return bank.manager.commit(tx)

    with pytest.raises(IrreversibleBeforeCompensatable):
        planned()
    assert bank.calls == []
    assert planned(allow_irreversible_first=True).state.value == "committed"


# ------------------------------------------------------------------ confirmations and held steps


def test_confirmations_run_in_step_order_and_held_steps_after_them(bank):
    with bank.manager.transaction() as tx:
        assert tx.execute("agent", "mail", {"it": "m1"}, on_commit=True) is None
        tx.execute("agent", "reserve", {"it": "r1"})
        with tx.savepoint() as savepoint:
            tx.execute("agent", "reserve", {"it": "gone"})
            savepoint.rollback()
        tx.execute("agent", "reserve", {"it": "r2"})
        tx.execute("agent", "mail", {"it": "m2"}, on_commit=True)
        assert [item.step_id for item in tx.describe().held] == ["s1", "s5"]
        before = list(bank.calls)
    assert bank.calls[len(before) :] == ["confirm r1", "confirm r2", "mail m1", "mail m2"]
    assert tx.result.state.value == "committed"


def test_nothing_that_is_held_runs_where_it_goes_back(bank):
    with pytest.raises(KeyError), bank.manager.transaction() as tx:
        tx.execute("agent", "reserve", {"it": "r"})
        tx.execute("agent", "mail", {}, on_commit=True)
        raise KeyError
    assert bank.calls == ["reserve r", "take r"]
    assert tx.steps[1].state.value == "skipped"


def test_a_child_s_held_steps_wait_for_the_root(bank):
    with bank.manager.transaction() as tx:
        with tx.transaction("child") as child:
            child.execute("agent", "reserve", {"it": "r"})
            child.execute("agent", "mail", {}, on_commit=True)
        put(tx)
        assert bank.calls == ["reserve r", "put a"]
    assert bank.calls[2:] == ["confirm r", "mail"]


@pytest.mark.parametrize("name", ["mail", "confirm"])
def test_what_fails_behind_the_commit_point_is_tried_again_with_the_same_key(bank, name):
    bank.wrong[name] = [ValueError("not now")]
    with bank.manager.transaction() as tx:
        tx.execute("agent", "reserve", {"it": "r"})
        tx.execute("agent", "mail", {"it": "m"}, on_commit=True)
    assert tx.result.state.value == "committed"
    assert len([call for call in bank.calls if call.startswith(name)]) == 2
    assert {len(keys) for keys in bank.keys.values()} == {1}


@pytest.mark.parametrize("name,step_id", [("mail", "s2"), ("confirm", "s1")])
@pytest.mark.parametrize("way", ["retry", "happened", "left_in_place"])
def test_what_fails_for_good_behind_it_waits_for_a_person(bank, name, step_id, way):
    bank.wrong[name] = [StepRejected("for good")]
    with pytest.raises(TransactionNotFinal) as caught, bank.manager.transaction() as tx:
        tx.execute("agent", "reserve", {"it": "r"})
        tx.execute("agent", "mail", {"it": "m"}, on_commit=True)
    assert caught.value.result.waiting.step_ids == [step_id]
    assert (tx.result.state.value, tx.result.waiting.reason) == ("committing", "committing")
    tx_id, manager = tx.transaction_id, bank.manager
    with pytest.raises(CommitPointPassed):
        manager.rollback(manager.get_transaction(tx_id))
    with pytest.raises(Exception, match="happened or left-in-place"):
        manager.resolve(tx_id, step_id, "undone", note="no")
    if way == "retry":
        result = manager.retry(tx_id, step_id)
    else:
        result = manager.resolve(tx_id, step_id, way, note="by hand", by="ann")
    assert (result.state.value, tx.state.value) == ("committed", "committed")
    assert len([call for call in bank.calls if call.startswith(name)]) == 1 + (way == "retry")
    assert bank.calls[-1] == "mail m"


@pytest.mark.parametrize("left", ["mail", "confirm"])
@pytest.mark.parametrize("way", ["retry", "happened", "left_in_place"])
def test_what_depends_on_something_that_was_left_out_behind_it_waits_for_a_person(bank, left, way):
    bank.wrong[left] = [StepRejected("for good")]
    manager = bank.manager
    tx = manager.begin()
    manager.add_step(tx, "agent", "reserve", {"it": "r"})
    manager.add_step(tx, "agent", "put", {"it": "p"}, "take")
    manager.add_step(tx, "agent", "mail", {"it": "m1"}, on_commit=True, after=["s2"])
    manager.add_step(tx, "agent", "mail", {"it": "m2"}, on_commit=True, after=["s3"])
    manager.add_step(tx, "agent", "mail", {"it": "m3"}, on_commit=True, after=["s4"])
    first, second = ("s3", "s4") if left == "mail" else ("s1", "s3")
    assert manager.commit(tx).waiting.step_ids == [first]
    result = manager.resolve(tx, first, "left_in_place", note="go without it", by="ann")
    assert (result.state.value, result.waiting.step_ids) == ("committing", [second])
    assert f"it depends on step {first}, which a person has left" in " ".join(result.warnings)
    called = len(bank.calls)
    if way == "retry":
        result = manager.retry(tx, second)
    else:
        result = manager.resolve(tx, second, way, note="by hand", by="ann")
    if way == "left_in_place":  # What comes behind that one waits for a person as well.
        assert result.waiting.step_ids == [{"s4": "s5", "s3": "s4"}[second]]
        assert bank.calls[called:] == []
        return
    behind = ["mail m1", "mail m2", "mail m3"][{"s3": 0, "s4": 1}[second] :]
    assert result.state.value == "committed"
    assert bank.calls[called:] == behind[way == "happened" :]


def test_a_held_step_that_needs_the_output_of_one_that_was_left_out_is_never_called(bank):
    bank.wrong["mail"] = [StepRejected("for good")]
    manager = bank.manager
    tx = manager.begin()
    first = manager.add_step(tx, "agent", "mail", {"it": "m1"}, on_commit=True)
    manager.add_step(tx, "agent", "mail", {"it": "m2", "of": first.output()}, on_commit=True)
    manager.commit(tx)
    manager.resolve(tx, "s1", "left_in_place", note="go without it", by="ann")
    result = manager.retry(tx, "s2")
    assert (result.state.value, result.waiting.step_ids) == ("committing", ["s2"])
    assert "step 's1' was not carried out, and has no output" in " ".join(result.warnings)
    assert bank.calls == ["mail m1"]
    result = manager.resolve(tx, "s2", "left_in_place", note="nor this", by="ann")
    assert result.state.value == "committed"


def test_held_steps_and_confirmations_must_be_safe_to_repeat_when_they_are_declared(bank):
    tx = bank.manager.begin()
    with pytest.raises(DefinitionError):
        bank.manager.add_step(tx, "agent", "put", {}, on_commit=True)
        bank.manager.commit(tx)
    with bank.manager.transaction() as block:
        with pytest.raises(DefinitionError):
            block.execute("agent", "put", {}, on_commit=True)
        with pytest.raises(DefinitionError):
            block.execute("agent", "put", {}, "take", confirming_action="put")
    assert bank.calls == []


def test_a_held_step_that_cannot_be_called_is_known_before_the_commit_point(bank):
    tx = bank.manager.begin()
    one = bank.manager.add_step(tx, "agent", "put", {"it": "a"}, "take")
    bank.manager.add_step(tx, "agent", "mail", {"it": one.output("/nothing/there")}, on_commit=True)
    result = bank.manager.commit(tx)
    assert (result.state.value, result.failed_step) == ("rolled_back", "s2")
    assert bank.calls == ["put a", "take a"]


# --------------------------------------------------------------------------------- read conflicts


@pytest.mark.parametrize("changes", [False, True])
def test_what_was_read_is_read_again_before_the_commit(bank, changes):
    def work():
        with bank.manager.transaction() as tx:
            tx.execute("agent", "read", {})
            put(tx)
            bank.value += changes
        return tx

    if not changes:
        assert work().result.state.value == "committed"
        assert bank.calls == ["put a", "look again"]
        return
    with pytest.raises(ReadConflict) as caught:
        work()
    assert (caught.value.result.reason, caught.value.result.clean) == ("conflict", True)
    assert bank.calls == ["put a", "look again", "take a"]


@pytest.mark.parametrize("changes", [False, True])
def test_what_was_read_is_read_again_before_a_pivot(bank, changes):
    def work():
        with bank.manager.transaction() as tx:
            tx.execute("agent", "read", {})
            put(tx)
            bank.value += changes
            tx.execute("agent", "wire", {}, pivot=True)

    if not changes:
        work()
        assert bank.calls == ["put a", "look again", "wire"]
        return
    with pytest.raises(ReadConflict):
        work()
    assert bank.calls == ["put a", "look again", "take a"]


def test_a_pivot_that_failed_is_preceded_by_another_look_when_it_is_tried_again(bank):
    bank.wrong["wire"] = [StepRejected("no cover")]
    with pytest.raises(ReadConflict), bank.manager.transaction() as tx:
        tx.execute("agent", "read", {})
        with pytest.raises(StepRejected):
            tx.execute("agent", "wire", {}, pivot=True)
        bank.value += 1
        tx.execute("agent", "wire", {}, pivot=True)
    assert bank.calls == ["look again", "wire", "look again"]


def test_a_read_that_was_taken_back_is_not_read_again(bank):
    with bank.manager.transaction() as tx:
        with tx.savepoint() as savepoint:
            tx.execute("agent", "read", {})
            savepoint.rollback()
        bank.value += 1
        put(tx)
    assert (tx.result.state.value, bank.calls) == ("committed", ["put a"])


# ----------------------------------------------------------------------------------- undo windows


@pytest.mark.parametrize("policy", ["warn", "roll_back"])
def test_before_an_undo_window_closes_the_transaction_is_warned_or_goes_back(bank, clock, policy):
    def work():
        with bank.manager.transaction(on_undo_window=policy) as tx:
            blocks.append(tx)
            tx.execute("agent", "put", {"it": "a"}, "take", undo_within_seconds=100)
            clock.advance(80)
            put(tx, "b")
            clock.advance(15)
            put(tx, "c")

    blocks = []
    if policy == "warn":
        work()
        assert blocks[0].result.state.value == "committed"
        assert bank.kinds(blocks[0]).count("undo_window_closing") == 1
        return
    with pytest.raises(TransactionRolledBack) as caught:
        work()
    assert caught.value.result.reason == "deadline"
    assert bank.calls == ["put a", "put b", "take b", "take a"]


def test_the_view_says_until_when_a_step_can_be_undone(bank, clock):
    with bank.manager.transaction() as tx:
        tx.execute("agent", "put", {"it": "a"}, "take", undo_within_seconds=100)
        (done,) = tx.describe().done
        assert done.undo_before is not None
        assert "can be undone until 2026-02-27T12:01:40Z" in str(tx.describe())
