"""What a step needs to have its turn."""
# mypy: disable-error-code="union-attr"

from aumai_transactions.core.approvals import digest_of
from aumai_transactions.core.definition import Reference
from aumai_transactions.core.turns import approval_of, fill_in

SECOND = 1_000_000


def waiting(play, make_step, output, **options):
    reference = Reference(("id",), "a", "/id", options.pop("type", None))
    b = make_step("b", references=(reference,), data={"id": None, "n": 1}, **options)
    tx = play(make_step("a"), b, make_step("c"), on_crash="resume").commit()
    tx.saga.step("a").output = output
    return tx.saga, tx.saga.step("b")


def test_data_is_filled_in_from_what_came_before(play, make_step):
    saga, step = waiting(play, make_step, {"id": 7})
    assert fill_in(saga, step, 1) == ({"id": 7, "n": 1}, None)
    assert step.definition.data == {"id": None, "n": 1}


def test_a_step_that_cannot_be_filled_in_fails_without_having_been_called(play, make_step):
    saga, step = waiting(play, make_step, {})
    data, failed = fill_in(saga, step, 1)
    assert (data, failed.entry.attempt, failed.entry.step_id) == (None, 0, "b")
    assert failed.entry.error.type == "UnresolvedReference"


def test_another_type_than_was_declared_fails_it_as_well(play, make_step):
    saga, step = waiting(play, make_step, {"id": "7"}, type="integer")
    _data, failed = fill_in(saga, step, 1)
    assert "is string at '/id', not integer as data.id needs" in failed.entry.error.message


def test_what_is_shown_to_a_person_is_what_will_be_called(play, make_step):
    saga, step = waiting(play, make_step, {"id": 7}, requires_approval=True)
    data, _failed = fill_in(saga, step, 1)
    asked = approval_of(step, data, 5)
    assert asked == (5, "b", digest_of(step.definition, {"id": 7, "n": 1}), data, None)
    plain = approval_of(saga.step("a"), None, 5)
    assert plain.digest == digest_of(saga.step("a").definition, {})
    assert plain.data is None


def test_the_time_limit_counts_from_when_it_is_asked(play, make_step):
    step = make_step("a", requires_approval=True, approval_timeout_seconds=2.5)
    tx = play(step).commit()
    assert approval_of(tx.saga.step("a"), None, 5).until == 5 + 2.5 * SECOND
