"""Idempotency keys, through the four managers: the same program twice is one transaction."""
# mypy: disable-error-code="arg-type, attr-defined, var-annotated"

import hashlib

import pytest

from aumai_transactions import (
    DefinitionError,
    IdempotencyKeyReused,
    InvalidTransactionState,
    OutcomeUnknown,
    RetryPolicy,
)

KEY = "order-7"


class World:
    def __init__(self):
        self.calls = []
        self.fails = False

    def handler(self, action, data):
        self.calls.append(action)
        if action == "second" and self.fails:
            raise ValueError("no")
        return dict(data)

    @property
    def handlers(self):
        return dict.fromkeys(("first", "second", "undo"), self.handler)


@pytest.fixture
def world():
    return World()


@pytest.fixture
def manager(make_manager, world, clock):
    return make_manager(world.handlers, clock=clock)


def planned(manager, *, key=KEY, steps=("first", "second"), **options):
    tx = manager.begin(idempotency_key=key, **options)
    for action in steps:
        manager.add_step(tx, "agent", action, {"n": 1}, "undo")
    return tx


def program(manager, **options):
    return manager.commit(planned(manager, **options))


# ------------------------------------------------------------------------------- the same program


@pytest.mark.parametrize("seconds", [45, 45.0])
def test_a_whole_number_of_seconds_is_the_same_plan_after_it_was_read_back(manager, world, seconds):
    one = program(manager, timeout_seconds=seconds, lock_timeout_seconds=seconds)
    other = program(manager, timeout_seconds=seconds, lock_timeout_seconds=seconds)
    assert one.transaction_id == other.transaction_id
    assert world.calls == ["first", "second"]


def test_the_same_program_twice_runs_once_and_gets_the_same_outcome(manager, world):
    one, other = program(manager), program(manager)
    assert one == other
    assert (one.state.value, one.outputs) == ("committed", {"s1": {"n": 1}, "s2": {"n": 1}})
    assert world.calls == ["first", "second"]


def test_a_program_that_rolled_back_is_not_tried_again_under_its_key(manager, world):
    world.fails = True
    one = program(manager)
    world.fails = False
    other = program(manager)
    assert one == other
    assert (other.state.value, other.error) == ("rolled_back", "ValueError: no")
    assert world.calls == ["first", "second", "undo"]


def test_committing_the_same_object_twice_returns_the_same_outcome(manager, world):
    tx = planned(manager)
    assert manager.commit(tx) == manager.commit(tx)
    assert world.calls == ["first", "second"]
    assert [step.state.value for step in tx.steps] == ["succeeded", "succeeded"]


def test_a_keyed_transaction_is_durable_at_once(manager, make_manager, world):
    tx = manager.begin(idempotency_key=KEY)
    assert [event.kind for event in manager.get_events(tx)] == ["plan_recorded"]
    assert tx.idempotency_key == KEY


def test_the_id_depends_on_store_and_key_alone(manager):
    one, other = planned(manager), planned(manager, key="another")
    assert planned(manager).transaction_id == one.transaction_id
    assert other.transaction_id != one.transaction_id
    assert manager.begin().transaction_id not in (one.transaction_id, other.transaction_id)


def test_two_stores_know_nothing_of_each_others_keys(make_manager, world, tmp_path, manager_kind):
    own = {} if manager_kind.endswith("memory") else {"store": tmp_path / "other.db"}
    here, there = make_manager(world.handlers), make_manager(world.handlers, **own)
    assert program(here).transaction_id != program(there).transaction_id
    assert world.calls == ["first", "second"] * 2


def test_what_is_found_is_taken_as_it_is_where_no_step_is_named_again(manager, world):
    done = program(manager)
    found = manager.begin(idempotency_key=KEY)
    assert [step.action for step in found.steps] == ["first", "second"]
    assert manager.commit(found) == done


def test_what_was_only_begun_is_completed_by_whoever_comes_next(manager, world):
    planned(manager)
    result = program(manager)
    assert result.state.value == "committed"
    assert world.calls == ["first", "second"]


def test_what_was_saved_is_repeated_and_committed_by_whoever_comes_next(manager, world):
    tx = planned(manager)
    manager.save(tx)
    assert program(manager).completed_steps == ["s1", "s2"]
    assert world.calls == ["first", "second"]


def test_a_plan_that_is_saved_and_not_started_may_grow(manager, world):
    manager.save(planned(manager, steps=["first"]))
    assert program(manager).completed_steps == ["s1", "s2"]


def test_what_waits_for_its_next_attempt_is_found_waiting(make_manager, clock):
    manager = make_manager(clock=clock)
    calls = []
    policy = RetryPolicy(first_delay_seconds=100, delay_seconds_max=100, jitter=0)

    @manager.action("act", retry=policy)
    def act(action, data):
        calls.append(action)
        if len(calls) == 1:
            raise ValueError("not now")

    def again():
        tx = manager.begin(idempotency_key=KEY)
        manager.add_step(tx, "agent", "act", {})
        return manager.commit(tx)

    first, second = again(), again()
    assert first.waiting.reason == second.waiting.reason == "retry"
    assert first == second
    clock.advance(100)
    assert again().state.value == "committed"
    assert len(calls) == 2


def test_what_waits_for_a_person_is_found_waiting_and_then_finished(make_manager):
    manager = make_manager()

    @manager.action("act", on_unknown="ask")
    def act(action, data):
        raise OutcomeUnknown("no answer")

    def again():
        tx = manager.begin(idempotency_key=KEY)
        manager.add_step(tx, "agent", "act", {})
        return manager.commit(tx)

    assert again().waiting.reason == "in_doubt"
    waiting = again()
    assert waiting.waiting.reason == "in_doubt"
    manager.resolve(waiting.transaction_id, "s1", "happened", note="I looked")
    assert again().state.value == "committed"


def test_what_was_rolled_back_before_it_began_is_found_rolled_back(manager, world):
    assert manager.rollback(planned(manager)).state.value == "rolled_back"
    world.calls.clear()
    assert program(manager).state.value == "rolled_back"
    assert world.calls == []


def test_what_expired_is_found_expired(manager, world, clock):
    tx = planned(manager)
    clock.advance(61)
    assert manager.commit(tx).state.value == "failed"
    assert program(manager).state.value == "failed"
    assert world.calls == []


def test_a_finished_one_that_was_found_cannot_be_rolled_back(manager):
    program(manager)
    with pytest.raises(InvalidTransactionState):
        manager.rollback(manager.begin(idempotency_key=KEY))


def test_a_program_is_the_same_where_its_policies_are_those_of_its_actions(make_manager, clock):
    manager = make_manager(clock=clock)
    manager.action("act", retry=RetryPolicy(), timeout_seconds=600)(lambda action, data: 1)

    def again(**options):
        tx = manager.begin(idempotency_key=KEY)
        manager.add_step(tx, "agent", "act", {}, **options)
        return manager.commit(tx)

    assert again() == again() == again(retry=RetryPolicy(), timeout_seconds=600)
    for other in ({"retry": RetryPolicy(jitter=0)}, {"timeout_seconds": 601}):
        (field,) = other
        with pytest.raises(IdempotencyKeyReused, match=field):
            again(**other)


@pytest.mark.parametrize("hook", ["mask", "hash"])
def test_a_program_is_the_same_whatever_a_hook_makes_of_its_data(make_manager, world, hook):
    def cleaned(step):
        if hook == "mask":
            return step.data | {"card": "*"}
        return {"card": hashlib.sha256(step.data["card"].encode()).hexdigest()}

    manager = make_manager(world.handlers, before_record=cleaned)

    def again(card):
        tx = manager.begin(idempotency_key=KEY)
        manager.add_step(tx, "agent", "first", {"card": card})
        return manager.commit(tx)

    assert again("4111") == again("4111")
    if hook == "hash":
        with pytest.raises(IdempotencyKeyReused, match="data"):
            again("4712")


def test_a_program_is_the_same_where_its_data_was_filled_in_from_outputs(make_manager, world):
    from aumai_transactions import OutputReference

    manager = make_manager(world.handlers)

    def again():
        tx = manager.begin(idempotency_key=KEY)
        manager.add_step(tx, "agent", "first", {"id": 5})
        step = manager.add_step(tx, "agent", "second", {"ref": None})
        if not step.references:
            step.references = [OutputReference(into=["ref"], step_id="s1", at="/id")]
        return manager.commit(tx)

    one = again()
    assert one.outputs["s2"] == {"ref": 5}
    assert again() == one


# ------------------------------------------------------------------------------------ another one


@pytest.mark.parametrize("moment", ["saved", "done"])
@pytest.mark.parametrize(
    "field, step",
    [
        ("agent_id", ("other", "first", {"n": 1}, "undo")),
        ("action", ("agent", "second", {"n": 1}, "undo")),
        ("data", ("agent", "first", {"n": 2}, "undo")),
        ("data", ("agent", "first", {"n": True}, "undo")),
        ("data", ("agent", "first", {"n": 1.0}, "undo")),
        ("data", ("agent", "first", {"n": 1, "m": None}, "undo")),
        ("compensating_action", ("agent", "first", {"n": 1}, "second")),
        ("compensating_action", ("agent", "first", {"n": 1}, None)),
    ],
)
def test_another_step_under_the_same_key_is_refused_by_name(manager, world, field, step, moment):
    tx = planned(manager)
    manager.save(tx) if moment == "saved" else manager.commit(tx)
    before = list(world.calls)
    again = manager.begin(idempotency_key=KEY)
    with pytest.raises(IdempotencyKeyReused, match=f"step 1 of its plan has another {field}"):
        manager.add_step(again, *step)
    assert world.calls == before


def test_the_same_data_in_another_order_is_the_same(manager):
    for data in ({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"d": 2, "c": 1}, "a": 1}):
        tx = manager.begin(idempotency_key=KEY)
        manager.add_step(tx, "agent", "first", data)
        assert manager.commit(tx).state.value == "committed"


def test_the_same_steps_in_another_order_are_refused(manager):
    program(manager)
    with pytest.raises(IdempotencyKeyReused, match="step 1"):
        planned(manager, steps=["second", "first"])


def test_fewer_steps_are_refused(manager, world):
    program(manager)
    with pytest.raises(IdempotencyKeyReused, match="its plan has 2 steps, and here are 1"):
        program(manager, steps=["first"])


def test_more_steps_are_refused(manager, world):
    program(manager)
    with pytest.raises(IdempotencyKeyReused, match="its plan has 2 steps, and this is number 3"):
        planned(manager, steps=["first", "second", "first"])
    assert world.calls == ["first", "second"]


@pytest.mark.parametrize(
    "options",
    [
        {"timeout_seconds": 61},
        {"timeout_scope": "transaction"},
        {"on_crash": "resume"},
        {"on_compensation_failure": "halt"},
        {"name": "another"},
    ],
)
def test_another_option_under_the_same_key_is_refused_by_name(manager, options):
    tx = planned(manager)
    (field,) = options
    with pytest.raises(IdempotencyKeyReused, match=field) as caught:
        manager.begin(idempotency_key=KEY, **options)
    assert (caught.value.key, caught.value.transaction_id) == (KEY, tx.transaction_id)
    assert isinstance(caught.value, DefinitionError)


@pytest.mark.parametrize(
    "key", ["", "   ", 7, b"order", ["order"], True, "\ud800", "a\0b", "x" * 1_001]
)
def test_what_is_no_key_is_refused_before_anything_is_written(manager, key, tmp_path):
    with pytest.raises((DefinitionError, ValueError), match="idempotency_key"):
        manager.begin(idempotency_key=key)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["x" * 1_000, "bücher/№7 🜚", "'; DROP TABLE--", "../..", "a\nb"])
def test_any_text_is_a_key(manager, world, key):
    assert program(manager, key=key) == program(manager, key=key)
    assert world.calls == ["first", "second"]


def test_keys_that_only_look_alike_are_two(manager, world):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert program(manager, key=composed) != program(manager, key=decomposed)
    assert world.calls == ["first", "second"] * 2


# ------------------------------------------------------------------------------------------ a saga


def test_a_saga_that_is_executed_twice_under_a_key_is_one_transaction(manager, world):
    saga = manager.saga()
    saga.register("agent", "first", {"n": 1}, "undo", retry=RetryPolicy())
    saga.register("agent", "second", {"n": 2}, "undo", timeout_seconds=600)
    assert saga.execute(idempotency_key=KEY) == saga.execute(idempotency_key=KEY)
    assert world.calls == ["first", "second"]
    assert saga.execute() != saga.execute()


def test_another_saga_under_the_same_key_is_refused(manager, world):
    for actions in (["first"], ["second"]):
        saga = manager.saga()
        for action in actions:
            saga.register("agent", action, {})
        if actions == ["first"]:
            saga.execute(idempotency_key=KEY)
        else:
            with pytest.raises(IdempotencyKeyReused):
                saga.execute(idempotency_key=KEY)
    assert world.calls == ["first"]
