"""Approvals: who is asked, what is bound to the answer, and what waits meanwhile."""
# ruff: noqa: PT012 (an exception leaves a whole block)
# mypy: disable-error-code="union-attr, var-annotated"

import asyncio
import threading

import pytest

from aumai_transactions import (
    ApprovalPending,
    AsyncTransactionManager,
    CommitPointPassed,
    InvalidTransactionState,
    OutcomeUnknown,
    StepRejected,
    TransactionManager,
    TransactionNotActive,
    TransactionRolledBack,
    UnknownStep,
)
from aumai_transactions.drivers import finishing

SECONDS_MAX = 60


class Office:
    """Actions, one of which needs an approval; `calls` is what the world saw."""

    def __init__(self, place, clock, **options):
        self.calls = []
        self.manager = TransactionManager(
            {"put": self.act, "take": self.act}, store=place, clock=clock, **options
        )
        action = self.manager.action
        action("pay", compensating_action="take", requires_approval=True)(self.act)
        action(
            "spend",
            compensating_action="take",
            requires_approval=lambda data: data["it"] > 100,
            approval_timeout_seconds=600,
        )(self.act)

    def act(self, action, data):
        self.calls.append(f"{action} {data['it']}")
        return {"did": data["it"]}

    def kinds(self, tx):
        return [event.kind for event in self.manager.get_events(tx.transaction_id)]

    def planned(self, *steps, **options):
        tx = self.manager.begin(3_600)
        for action, it in steps:
            self.manager.add_step(tx, "agent", action, {"it": it}, "take", **options)
        return tx


@pytest.fixture
def open_office(place, clock):
    made = []

    def make(**options):
        made.append(Office(place, clock, **options))
        return made[-1]

    yield make
    for office in made:
        office.manager.close()


@pytest.fixture
def office(open_office):
    return open_office()


# ----------------------------------------------------------------------------------- planned


def test_a_plan_sleeps_at_the_step_that_needs_a_person_and_goes_on_when_it_is_allowed(office):
    tx = office.planned(("put", "a"), ("pay", "b"), ("put", "c"))
    result = office.manager.commit(tx)
    assert (result.state.value, result.waiting.reason) == ("active", "approval")
    assert result.waiting.step_ids == ["s2"]
    assert office.calls == ["put a"]
    result = office.manager.approve(tx, "s2", by="ann", note="fine")
    assert result.state.value == "committed"
    assert office.calls == ["put a", "pay b", "put c"]
    (given,) = [event for event in office.manager.get_events(tx) if event.kind == "approval_given"]
    assert (given.fields["by"], given.fields["note"]) == ("ann", "fine")


def test_what_a_person_refuses_goes_back_and_the_result_says_who(office):
    tx = office.planned(("put", "a"), ("pay", "b"))
    office.manager.commit(tx)
    result = office.manager.deny(tx, "s2", by="ann", note="too dear")
    assert (result.state.value, result.reason, result.failed_step) == (
        "rolled_back",
        "denied",
        "s2",
    )
    assert "ann denied step s2 (too dear)" in result.error
    assert (result.clean, office.calls) == (True, ["put a", "take a"])


def test_what_does_not_depend_on_the_answer_goes_on_meanwhile(office):
    tx = office.manager.begin()
    office.manager.add_step(tx, "agent", "pay", {"it": "a"}, after=[])
    office.manager.add_step(tx, "agent", "put", {"it": "b"}, "take", after=[])
    result = office.manager.commit(tx)
    assert (result.waiting.reason, office.calls) == ("approval", ["put b"])
    assert office.manager.approve(tx, "s1", by="ann").state.value == "committed"


def test_nobody_s_answer_in_time_is_a_refusal(office, clock):
    tx = office.planned(("put", 1), ("spend", 101))
    result = office.manager.commit(tx, wait_max_seconds=0)
    assert result.waiting.until is not None
    clock.advance(601)
    result = office.manager.wait(tx, timeout_seconds=1)
    assert (result.state.value, result.reason, result.clean) == ("rolled_back", "denied", True)
    with pytest.raises(InvalidTransactionState):
        office.manager.approve(tx, "s2", by="ann")


def test_nobody_s_answer_in_time_is_a_refusal_although_a_step_is_in_doubt(office, clock):
    def lose(action, data):
        raise OutcomeUnknown

    office.manager.action("lose", compensating_action="take", on_unknown="ask")(lose)
    tx = office.manager.begin(3_600)
    office.manager.add_step(tx, "agent", "spend", {"it": 101}, after=[])
    office.manager.add_step(tx, "agent", "lose", {"it": "b"}, after=[])
    result = office.manager.commit(tx, wait_max_seconds=0)
    assert (result.state.value, result.waiting.reason) == ("active", "in_doubt")
    assert office.manager.recover() == []
    clock.advance(601)
    office.manager.recover()
    result = office.manager.get_result(tx)
    assert (result.state.value, result.reason) == ("rolled_back", "denied")
    assert office.calls == ["take b"]


def test_a_policy_decides_from_the_data_who_has_to_be_asked(office):
    assert office.manager.commit(office.planned(("spend", 100))).state.value == "committed"
    result = office.manager.commit(office.planned(("spend", 101)), wait_max_seconds=0)
    assert result.waiting.reason == "approval"


def test_an_approval_is_bound_to_exactly_what_was_shown(office):
    tx = office.planned(("pay", "a"))
    office.manager.commit(tx)
    (asked,) = [
        event for event in office.manager.get_events(tx) if event.kind == "approval_requested"
    ]
    written = len(office.kinds(tx))
    with pytest.raises(InvalidTransactionState, match="digest"):
        office.manager.approve(tx, "s1", by="ann", digest="0" * 32)
    with pytest.raises(UnknownStep):
        office.manager.approve(tx, "s9", by="ann")
    assert (len(office.kinds(tx)), office.calls) == (written, [])
    result = office.manager.approve(tx, "s1", by="ann", digest=asked.fields["digest"])
    assert result.state.value == "committed"
    with pytest.raises((InvalidTransactionState, CommitPointPassed)):
        office.manager.deny(tx, "s1", by="bob")


def test_two_steps_that_differ_in_anything_have_different_digests(office):
    tx = office.manager.begin()
    office.manager.add_step(tx, "agent", "pay", {"it": 1}, after=[])
    office.manager.add_step(tx, "agent", "pay", {"it": 1}, after=[])
    office.manager.add_step(tx, "other", "pay", {"it": 1}, after=[])
    office.manager.add_step(tx, "agent", "pay", {"it": 2}, after=[])
    office.manager.commit(tx)
    digests = [
        event.fields["digest"]
        for event in office.manager.get_events(tx)
        if event.kind == "approval_requested"
    ]
    assert len(set(digests)) == 4


def test_what_is_shown_has_its_references_filled_in(office):
    tx = office.manager.begin()
    one = office.manager.add_step(tx, "agent", "put", {"it": "a"}, "take")
    office.manager.add_step(tx, "agent", "pay", {"it": one.output("/did")})
    office.manager.commit(tx)
    (asked,) = [
        event for event in office.manager.get_events(tx) if event.kind == "approval_requested"
    ]
    assert asked.fields["data"] == {"it": "a"}
    office.manager.approve(tx, "s2", by="ann")
    assert office.calls == ["put a", "pay a"]


def test_a_transaction_that_waits_can_be_rolled_back_and_answers_come_too_late(office):
    tx = office.planned(("put", "a"), ("pay", "b"))
    office.manager.commit(tx)
    assert office.manager.rollback(tx).clean
    for answer in (office.manager.approve, office.manager.deny):
        with pytest.raises(InvalidTransactionState):
            answer(tx, "s2", by="ann")
    assert office.calls == ["put a", "take a"]


def test_a_held_step_s_deadline_is_over_while_it_waits_and_an_approval_changes_nothing(
    office, clock
):
    tx = office.manager.begin(10, timeout_scope="transaction")
    office.manager.add_step(tx, "agent", "put", {"it": "a"}, "take")
    office.manager.add_step(tx, "agent", "pay", {"it": "b"})
    office.manager.commit(tx, wait_max_seconds=0)
    clock.advance(11)
    result = office.manager.approve(tx, "s2", by="ann")
    assert (result.state.value, result.reason) == ("rolled_back", "deadline")
    assert office.calls == ["put a", "take a"]


# -------------------------------------------------------------------------------- interactive


def pay(tx, it="a", **options):
    return tx.execute("agent", "pay", {"it": it}, **options)


def test_a_program_is_told_that_nobody_has_answered_and_asks_for_the_same_step_again(office):
    with office.manager.transaction() as tx:
        digests = []
        for _ in range(3):
            with pytest.raises(ApprovalPending) as caught:
                pay(tx, wait_max_seconds=0)
            digests.append(caught.value.digest)
        assert office.calls == []
        # Something else goes on meanwhile.
        tx.execute("agent", "put", {"it": "b"}, "take")
        result = office.manager.approve(
            tx.transaction_id, "s1", by="ann", digest=digests[0], wait_max_seconds=0
        )
        assert result.state.value == "active"
        assert pay(tx) == {"did": "a"}
    assert len(set(digests)) == 1
    assert (tx.result.state.value, office.calls) == ("committed", ["put b", "pay a"])
    assert office.kinds(tx).count("approval_requested") == 1


def test_a_program_that_waits_hears_the_answer(office, in_thread):
    with office.manager.transaction() as tx:
        paying = in_thread(pay, tx)
        while "approval_requested" not in begun_kinds(office, tx):
            pass
        office.manager.approve(tx.transaction_id, "s1", by="ann", wait_max_seconds=0)
        assert paying.result() == {"did": "a"}
    assert tx.result.state.value == "committed"


def begun_kinds(office, tx):
    return office.kinds(tx) if tx.steps else []


def test_the_answer_may_come_from_another_manager(office, open_office, in_thread):
    person = open_office()
    with office.manager.transaction() as tx:
        paying = in_thread(pay, tx)
        while "approval_requested" not in begun_kinds(office, tx):
            pass
        person.manager.approve(tx.transaction_id, "s1", by="ann", wait_max_seconds=0)
        assert paying.result() == {"did": "a"}
    assert tx.result.state.value == "committed"
    assert (office.calls, person.calls) == (["pay a"], [])


def test_a_changed_request_needs_an_approval_of_its_own(office):
    with pytest.raises(KeyError), office.manager.transaction() as tx:
        with pytest.raises(ApprovalPending) as first:
            pay(tx, 10, wait_max_seconds=0)
        office.manager.approve(tx.transaction_id, "s1", by="ann", wait_max_seconds=0)
        with pytest.raises(ApprovalPending) as second:
            pay(tx, 10_000, wait_max_seconds=0)
        assert first.value.digest != second.value.digest
        raise KeyError
    assert "pay 10000" not in office.calls
    assert tx.result.clean


def test_a_refusal_takes_the_whole_back_whoever_waits(office, in_thread):
    with pytest.raises(TransactionRolledBack) as caught, office.manager.transaction() as tx:
        tx.execute("agent", "put", {"it": "a"}, "take")
        paying = in_thread(pay, tx)
        while "approval_requested" not in office.kinds(tx):
            pass
        office.manager.deny(tx.transaction_id, "s2", by="ann", note="no", wait_max_seconds=0)
        with pytest.raises(TransactionRolledBack):
            paying.result()
        with pytest.raises(TransactionNotActive):
            tx.execute("agent", "put", {"it": "b"}, "take")
    assert caught.value.result.reason == "denied"
    assert office.calls == ["put a", "take a"]


def test_a_program_that_gives_up_waiting_may_take_the_request_back(office):
    with office.manager.transaction() as tx:
        with tx.savepoint() as savepoint:
            with pytest.raises(ApprovalPending):
                pay(tx, wait_max_seconds=0)
            savepoint.rollback()
        assert tx.steps[0].state.value == "skipped"
        with pytest.raises(InvalidTransactionState):
            office.manager.approve(tx.transaction_id, "s1", by="ann")
        tx.execute("agent", "put", {"it": "b"}, "take")
    assert (tx.result.state.value, office.calls) == ("committed", ["put b"])


def test_what_nobody_waits_for_any_more_does_not_hold_up_who_goes_back(
    office, open_office, in_thread
):
    manager, person = office.manager, open_office().manager

    def lose(action, data):
        # Nobody is there to carry out what is allowed here.
        person.approve(tx.transaction_id, "s1", by="ann", wait_max_seconds=0)
        raise OutcomeUnknown

    def fail(action, data):
        raise StepRejected("not possible")

    manager.action("lose", compensating_action="fail")(lose)
    manager.action("fail")(fail)
    with pytest.raises(TransactionRolledBack) as caught, manager.transaction() as tx:
        with pytest.raises(ApprovalPending):
            pay(tx, wait_max_seconds=0)
        in_thread(tx.execute, "agent", "lose", {"it": "b"}).result()
    assert (office.calls, caught.value.result.reason) == ([], "step_failed")
    assert [left.step_id for left in caught.value.result.outstanding] == ["s2"]


def test_nobody_s_answer_in_time_takes_an_interactive_one_back(office, clock):
    with pytest.raises(TransactionRolledBack) as caught, office.manager.transaction() as tx:
        with pytest.raises(ApprovalPending):
            tx.execute("agent", "spend", {"it": 500}, wait_max_seconds=0)
        clock.advance(601)
        with pytest.raises(TransactionRolledBack):
            tx.execute("agent", "spend", {"it": 500}, wait_max_seconds=0)
    assert (caught.value.result.reason, office.calls) == ("denied", [])


def test_a_commit_is_not_let_go_of_beside_an_undo_that_another_thread_has_begun(
    office, clock, in_thread, monkeypatch
):
    begun, may_end = threading.Event(), threading.Event()

    @office.manager.action("slow_take")
    def slow_take(action, data):
        office.calls.append("slow take")
        begun.set()
        may_end.wait(SECONDS_MAX)

    let_go = finishing._let_go

    def late(desk, shared, part):
        # Here the time of the approval is over, and its caller's thread finds out.
        clock.advance(601)
        assert begun.wait(SECONDS_MAX)
        has_let_go = yield from let_go(desk, shared, part)
        may_end.set()
        return has_let_go

    monkeypatch.setattr(finishing, "_let_go", late)
    with pytest.raises(TransactionRolledBack), office.manager.transaction() as tx:
        tx.execute("agent", "put", {"it": "a"}, "slow_take")
        asking = in_thread(tx.execute, "agent", "spend", {"it": 500}, wait_max_seconds=3_600)
        while "approval_requested" not in office.kinds(tx):
            pass
        tx.commit(wait_max_seconds=0)
        with pytest.raises(TransactionRolledBack):
            asking.result()
    assert office.calls == ["put a", "slow take"]


def test_a_task_that_waits_for_an_answer_can_be_cancelled_and_the_request_is_gone(place, clock):
    async def story():
        calls, asked = [], asyncio.Event()

        def on_event(event):
            if event.kind == "approval_requested":
                asked.set()

        async def act(action, data):
            calls.append(action)

        manager = AsyncTransactionManager(
            {"take": act}, store=place, clock=clock, on_event=on_event
        )
        manager.action("pay", compensating_action="take", requires_approval=True)(act)
        blocks = []

        async def work():
            async with manager.transaction() as tx:
                blocks.append(tx)
                await tx.execute("agent", "pay", {"it": "a"})

        async with asyncio.timeout(SECONDS_MAX), manager:
            working = asyncio.create_task(work())
            await asked.wait()
            working.cancel()
            with pytest.raises(asyncio.CancelledError):
                await working
        assert (blocks[0].result.reason, blocks[0].result.clean, calls) == ("cancelled", True, [])

    asyncio.run(story())
