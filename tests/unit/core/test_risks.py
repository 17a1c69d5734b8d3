"""What the author of a transaction is told before it runs."""

import pytest

from aumai_transactions.core.definition import (
    Definition,
    Policy,
    Reference,
    ResourceUse,
    Retry,
    StepDefinition,
)
from aumai_transactions.core.risks import risks_of

HANDLERS = {"act": False, "undo": False, "plain": True}
SAFE = Policy(undo_idempotent=True)


def step(action="act", undo="undo", data=None, **options):
    options.setdefault("idempotent", True)
    options.setdefault("policy", SAFE)
    return StepDefinition("s1", "agent", action, data or {}, undo, **options)


def codes(*steps, handlers=HANDLERS, **options):
    found = risks_of(Definition(0, 60, steps, **options), handlers)
    assert all(risk.step_id in {step.step_id for step in steps} | {None} for risk in found)
    return [risk.code for risk in found]


@pytest.mark.parametrize(
    "safe",
    [
        step(),
        step(idempotent=False, policy=SAFE._replace(has_probe=True)),
        step(idempotent=False, on_unknown="ask"),
        step(undo=None, effect="none", idempotent=False),
        step(policy=SAFE._replace(retry=Retry(), timeout_seconds=60)),
        step(data={"traveller": "Alice", "tokens": 3, "token": ""}),
        step(data={"token": None}, references=(Reference(("token",), "s0", "/t"),)),
        step(undo=None, effect="irreversible"),
        step(undo=None, pivot=True),
        step(undo=None, on_commit=True),
        step(confirming_action="undo", requires_approval=True),
        step(undo_within_seconds=5),
    ],
)
def test_what_is_declared_well_has_no_risk(safe):
    assert codes(safe) == []


@pytest.mark.parametrize(
    "risky,code",
    [
        (step(undo=None), "not_undone"),
        (step(idempotent=False), "no_probe"),
        (step("plain", idempotent=False), "plain_handler"),
        (step(policy=Policy()), "undo_not_idempotent"),
        (step(policy=SAFE._replace(timeout_seconds=61)), "timeout_beyond_deadline"),
        (step(data={"password": "x"}), "secret_in_data"),
        (step(data={"deep": [{"Api-Key": "x"}]}), "secret_in_data"),
        (step(data={"header": "Bearer abcdefgh"}), "secret_in_data"),
        (step(data={"note": "-----BEGIN RSA PRIVATE KEY-----\nx"}), "secret_in_data"),
        (step(data={"id": "AKIAABCDEFGHIJKLMNOP"}), "secret_in_data"),
        (step(pivot=True, policy=Policy()), "undo_never_runs"),
        (step(on_commit=True, policy=Policy()), "undo_never_runs"),
        (step(confirming_action="nobody"), "unknown_action"),
        (step(requires_approval=True, resources=(ResourceUse("r"),)), "approval_under_lock"),
    ],
)
def test_each_risk_is_named(risky, code):
    assert codes(risky) == [code]


def test_a_transaction_without_steps_does_nothing():
    assert codes() == ["no_steps"]


def test_a_retry_of_what_is_not_idempotent_may_do_things_twice():
    twice = SAFE._replace(retry=Retry(attempts_max=3), has_probe=True)
    assert codes(step(idempotent=False, policy=twice)) == ["retry_not_idempotent"]
    once = SAFE._replace(retry=Retry(attempts_max=1), has_probe=True)
    assert codes(step(idempotent=False, policy=once)) == []


def test_an_undo_that_is_tried_again_says_how_often():
    often = Policy(undo_retry=Retry(attempts_max=7))
    (risk,) = risks_of(Definition(0, 60, (step(policy=often),)), HANDLERS)
    assert "up to 7 times" in risk.message


def test_an_action_without_a_handler_is_unknown_going_forward_and_back():
    assert codes(step("a", "b"), handlers={}) == ["unknown_action", "unknown_action"]


def test_a_verification_without_an_undo_never_runs():
    looked_at = SAFE._replace(has_verify=True)
    assert codes(step(undo=None, policy=looked_at)) == ["not_undone", "verify_without_undo"]


@pytest.mark.parametrize("scope,said", [("start", "only the start"), ("transaction", "no later")])
def test_a_timeout_beyond_the_deadline_says_what_the_deadline_holds(scope, said):
    slow = step(policy=SAFE._replace(timeout_seconds=120.0))
    (risk,) = risks_of(Definition(0, 60, (slow,), timeout_scope=scope), HANDLERS)
    assert "120 s" in risk.message
    assert said in risk.message


def test_a_secret_is_named_by_its_place_and_never_shown():
    (risk,) = risks_of(Definition(0, 60, (step(data={"a": [{"secret": "hunter2"}]}),)), HANDLERS)
    assert "data.a.0.secret" in risk.message
    assert "hunter2" not in risk.message


def approved(limit, **options):
    return step(requires_approval=True, approval_timeout_seconds=limit, **options)


@pytest.mark.parametrize("limit,risks", [(None, True), (61, True), (60, False)])
def test_an_approval_may_outlast_a_deadline_that_every_step_is_held_to(limit, risks):
    found = codes(approved(limit), timeout_scope="transaction")
    assert found == (["approval_beyond_deadline"] if risks else [])
    assert codes(approved(limit)) == []


def test_a_step_may_not_be_undone_any_more_when_one_that_takes_longer_is_denied():
    first = step(undo_within_seconds=60)
    for limit in (None, 61):
        later = approved(limit)._replace(step_id="s2")
        assert codes(first, later) == ["undo_window"]
        assert codes(first, later, on_undo_window="roll_back") == []
    assert codes(first, approved(60)._replace(step_id="s2")) == []
    # What comes before it has ended when its window opens.
    assert codes(approved(None)._replace(step_id="s0", effect="none"), first) == []


def test_a_program_that_has_not_asked_for_a_step_yet_is_no_risk():
    assert codes(shape="interactive") == []


def test_an_approval_is_a_risk_only_where_others_wait_for_what_is_held_meanwhile():
    asked = step(requires_approval=True)
    using = step(resources=(ResourceUse("r"),))
    reading = step(requires_approval=True, resources=(ResourceUse("r", "shared"),))
    limited = step(
        requires_approval=True, approval_timeout_seconds=5, resources=(ResourceUse("r"),)
    )
    assert codes(asked, using) == ["approval_under_lock"], "a plan holds all of it"
    assert codes(asked, using, shape="interactive") == []
    assert codes(asked, using, isolation="none") == []
    assert codes(reading) == []
    assert codes(limited) == []
