"""Entries to bytes and back."""

import json
from contextlib import suppress
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aumai_transactions.core.codec import FORMAT_VERSION, decode, describe, encode
from aumai_transactions.core.definition import (
    Definition,
    Operation,
    Policy,
    Reference,
    ResourceUse,
    Retry,
    ScopeDefinition,
    StepDefinition,
)
from aumai_transactions.core.entries import (
    Answer,
    Claimed,
    ErrorRecord,
    Grant,
    InDoubtCause,
    LateOutcome,
    OutstandingReason,
    PlanRecorded,
    ProbeAnswer,
    ReadVersion,
    RollbackRequested,
    StepFailed,
    StepSucceeded,
    TransactionCommitted,
    VerificationAnswer,
)
from aumai_transactions.core.kinds import KINDS
from aumai_transactions.core.values import INTEGER_MAX
from aumai_transactions.errors import JournalCorrupt, JournalTooNew
from aumai_transactions.models import JsonType, RollbackReason, TransactionState

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-INTEGER_MAX, INTEGER_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=3)
ERROR = st.builds(ErrorRecord, type=TEXT, message=TEXT)
REFERENCE = st.builds(
    Reference,
    into=st.lists(TEXT | st.integers(0, 9), min_size=1, max_size=3).map(tuple),
    step_id=TEXT,
    at=TEXT,
    type=st.none() | st.sampled_from(get_args(JsonType)),
)
SECONDS = st.floats(0.001, 1e9) | st.integers(1, 10**9).map(float)
RETRY = st.builds(
    Retry,
    attempts_max=st.integers(1, 99),
    first_delay_seconds=SECONDS,
    delay_factor=SECONDS,
    delay_seconds_max=SECONDS,
    jitter=st.floats(0, 1),
    budget_seconds=st.none() | SECONDS,
)
POLICY = st.builds(
    Policy,
    retry=st.none() | RETRY,
    timeout_seconds=st.none() | SECONDS,
    abandon_after_seconds=st.none() | SECONDS,
    has_probe=st.booleans(),
    probe_retry=st.none() | RETRY,
    has_verify=st.booleans(),
    verify_retry=st.none() | RETRY,
    undo_idempotent=st.booleans(),
    undo_retry=st.none() | RETRY,
    undo_timeout_seconds=st.none() | SECONDS,
    has_reread=st.booleans(),
    confirm_retry=st.none() | RETRY,
    confirm_timeout_seconds=st.none() | SECONDS,
)
MODE = st.sampled_from(["exclusive", "shared"])
USES = st.lists(st.builds(ResourceUse, name=TEXT, mode=MODE), max_size=2).map(tuple)
STEP = st.builds(
    StepDefinition,
    step_id=TEXT,
    agent_id=TEXT,
    action=TEXT,
    data=OBJECT,
    compensating_action=st.none() | TEXT,
    after=st.none() | st.lists(TEXT, max_size=2).map(tuple),
    references=st.lists(REFERENCE, max_size=2).map(tuple),
    idempotent=st.booleans(),
    on_unknown=st.sampled_from([None, "ask", "compensate"]),
    effect=st.sampled_from([None, "none", "irreversible"]),
    policy=POLICY,
    scope_id=st.none() | TEXT,
    pivot=st.booleans(),
    on_commit=st.booleans(),
    confirming_action=st.none() | TEXT,
    requires_approval=st.booleans(),
    approval_timeout_seconds=st.none() | SECONDS,
    undo_within_seconds=st.none() | SECONDS,
    intent=st.none() | TEXT,
    resources=USES,
)
SCOPE = st.builds(
    ScopeDefinition,
    scope_id=TEXT,
    kind=st.sampled_from(["savepoint", "child"]),
    parent=st.none() | TEXT,
    name=TEXT,
    expires_at=st.none() | st.integers(0, 2**62),
)
DEFINITION = st.builds(
    Definition,
    created_at=st.integers(0, 2**60),
    timeout_seconds=st.integers(1, 2**62) | st.floats(0.001, 1e300),
    steps=st.lists(STEP, max_size=3).map(tuple),
    timeout_scope=st.sampled_from(["start", "transaction"]),
    on_crash=st.sampled_from([None, "resume", "roll_back", "wait"]),
    on_compensation_failure=st.sampled_from(["continue", "halt"]),
    actions=OBJECT,
    name=st.none() | TEXT,
    key=st.none() | TEXT,
    shape=st.sampled_from(["planned", "interactive"]),
    parallel_compensation=st.booleans(),
    allow_irreversible_first=st.booleans(),
    resume_within_seconds=st.none() | SECONDS,
    on_undo_window=st.sampled_from(["warn", "roll_back"]),
    isolation=st.sampled_from(["none", "exclusive", "validated"]),
    lock_timeout_seconds=SECONDS,
    release_outstanding_locks=st.booleans(),
)
FIELDS = {
    "at": st.integers(0, 2**60),
    "definition": DEFINITION,
    "state": st.sampled_from(list(TransactionState)),
    "source": TEXT,
    "by": TEXT,
    "note": TEXT,
    "step_id": TEXT,
    "answer": st.sampled_from(get_args(Answer)),
    "token": st.integers(1, 2**60),
    "driver_id": TEXT,
    "takeover": st.booleans(),
    "error": ERROR,
    "attempt": st.integers(0, 99),
    "data": st.none() | OBJECT,
    "output": JSON,
    "simulated": st.booleans(),
    "warning": st.none() | TEXT,
    "cause": st.sampled_from(get_args(InDoubtCause)),
    "in_doubt": st.booleans(),
    "will_retry": st.booleans(),
    "left_behind": st.booleans(),
    "operation": st.sampled_from(get_args(Operation)),
    "due_at": st.integers(0, 2**62),
    "draw": st.none() | st.floats(0, 1),
    "outcome": st.sampled_from(get_args(LateOutcome)),
    "left": JSON,
    "resumes": st.booleans(),
    "scope": SCOPE,
    "scope_id": TEXT,
    "step": STEP,
    "fork": st.none() | TEXT,
    "request_id": TEXT,
    "scopes": st.lists(SCOPE, max_size=2).map(tuple),
    "digest": TEXT,
    "until": st.integers(0, 2**62),
    "made_at": st.integers(0, 2**62),
    "step_ids": st.lists(TEXT, max_size=3).map(tuple),
    "holds": st.booleans(),
    "reason": st.sampled_from(get_args(RollbackReason)),
    "resources": USES,
    "behind": st.lists(TEXT, max_size=2).map(tuple),
    "grants": st.lists(
        st.builds(Grant, name=TEXT, token=st.integers(1, 2**60), mode=MODE), max_size=2
    ).map(tuple),
    "versions": st.lists(
        st.builds(ReadVersion, name=TEXT, version=st.integers(0, 2**60)), max_size=2
    ).map(tuple),
}
OWN_FIELDS = {
    "compensation_succeeded": {"note": st.none() | TEXT},
    "probe_answered": {
        "answer": st.sampled_from(get_args(ProbeAnswer)),
        "error": st.none() | ERROR,
    },
    "verification_answered": {
        "answer": st.sampled_from(get_args(VerificationAnswer)),
        "error": st.none() | ERROR,
    },
    "call_returned_late": {"error": st.none() | ERROR},
    "approval_requested": {"until": st.none() | st.integers(0, 2**62)},
    "partial_rollback_started": {
        "scope_id": st.none() | TEXT,
        "step_id": st.none() | TEXT,
        "error": st.none() | ERROR,
    },
    "locks_awaited": {"step_id": st.none() | TEXT},
    "locks_granted": {"step_id": st.none() | TEXT},
    "reread_answered": {"error": st.none() | ERROR},
    "rollback_requested": {"error": st.none() | ERROR, "scope_id": st.none() | TEXT},
    "step_started": {"traceparent": st.none() | TEXT},
    "step_added": {"request_id": st.none() | TEXT, "name": st.none() | TEXT},
    "rollback_started": {
        "step_id": st.none() | TEXT,
        "error": st.none() | ERROR,
    },
    "step_outstanding": {
        "reason": st.sampled_from(get_args(OutstandingReason)),
        "error": st.none() | ERROR,
    },
}


def exact(value):
    """A value with the type of each of its parts; the order of keys does not matter."""
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [exact(item) for item in value]
    return type(value), value


def any_entry(kind):
    cls = KINDS[kind]
    known = FIELDS | OWN_FIELDS.get(kind, {})
    return st.builds(cls, **{name: known[name] for name in cls._fields})


ENTRY = st.one_of([any_entry(kind) for kind in KINDS])


@given(ENTRY, TEXT)
def test_every_entry_comes_back_as_it_was(entry, entry_id):
    body = encode(entry, entry_id)
    found_id, found = decode(body, "tx", 1)
    assert (found_id, found) == (entry_id, entry)
    assert type(found) is type(entry)
    # Why the texts as well: 1 == True == 1.0, and each must come back as what it was.
    assert exact(found) == exact(entry)
    assert encode(found, entry_id) == body


@given(ENTRY)
def test_a_description_is_json_and_leaves_out_what_has_its_default(entry):
    kind, fields = describe(entry)
    assert KINDS[kind] is type(entry)
    json.dumps(fields)
    assert set(fields) <= set(type(entry)._fields)


@pytest.mark.parametrize(
    "entry,written",
    [
        (TransactionCommitted(at=1), {"at"}),
        (RollbackRequested(at=1), {"at"}),
        (RollbackRequested(at=1, reason="cancelled"), {"at", "reason"}),
        (StepSucceeded(at=1, step_id="s", attempt=1), {"at", "step_id", "attempt"}),
        (
            StepSucceeded(at=1, step_id="s", attempt=1, output=False),
            {"at", "step_id", "attempt", "output"},
        ),
        (Claimed(at=1, token=1, driver_id="d"), {"at", "token", "driver_id"}),
    ],
)
def test_what_has_its_default_is_not_written(entry, written):
    body = json.loads(encode(entry, "e"))
    assert body.keys() - {"v", "id", "kind"} == written
    assert body["v"] == FORMAT_VERSION


def test_the_defaults_of_a_plan_are_not_written():
    step = StepDefinition(step_id="s", agent_id="a", action="act", data={})
    entry = PlanRecorded(at=1, definition=Definition(1, 60, (step,)))
    definition = json.loads(encode(entry, "e"))["definition"]
    assert definition.keys() == {"created_at", "timeout_seconds", "steps"}
    assert definition["steps"][0].keys() == {"step_id", "agent_id", "action", "data"}


def body_of(**changes):
    body = {"v": 1, "id": "e", "kind": "step_failed", "at": 1, "step_id": "s", "attempt": 1}
    body["error"] = {"type": "T", "message": "m"}
    body.update(changes)
    return json.dumps(body).encode()


def test_the_body_that_the_next_tests_break_is_sound():
    wanted = StepFailed(at=1, step_id="s", attempt=1, error=ErrorRecord("T", "m"))
    assert decode(body_of(), "tx", 1) == ("e", wanted)


STEP_BODY = {"step_id": "s", "agent_id": "a", "action": "x", "data": {}}


def added_body(**changes):
    step = {"step_id": "s", "agent_id": "a", "action": "act", "data": {}} | changes
    return json.dumps({"v": 1, "id": "e", "kind": "step_added", "at": 1, "step": step}).encode()


def plan_body(step=(), **definition):
    found = {"created_at": 1, "timeout_seconds": 1, "steps": [STEP_BODY | dict(step)]}
    return {"v": 1, "id": "e", "kind": "plan_recorded", "at": 1, "definition": found | definition}


@pytest.mark.parametrize(
    "body,named",
    [
        (body_of(v=2), "format version 2"),
        (body_of(v="1"), "format version '1'"),
        (body_of(kind="step_teleported"), "entry kind 'step_teleported'"),
        (body_of(colour="red"), "field 'colour' of step_failed"),
        (added_body(resources=[{"name": "r", "newer": 1}]), "step.resources.newer"),
        (
            json.dumps(
                {"v": 1, "id": "e", "kind": "locks_granted", "at": 1, "grants": [{"newer": 1}]}
            ).encode(),
            "grants.newer",
        ),
        (body_of(error={"type": "T", "message": "m", "trace": 1}), "field 'error.trace'"),
        (json.dumps(plan_body(shape2=1)).encode(), "definition.shape2"),
        (json.dumps(plan_body(step={"newer": True})).encode(), "definition.steps.newer"),
        (added_body(newer=True), "step.newer"),
        (added_body(policy={"newer": True}), "step.policy.newer"),
        (
            b'{"v":1,"id":"e","kind":"scope_opened","at":1,"scope":{"scope_id":"c","newer":1}}',
            "scope.newer",
        ),
        (
            json.dumps(plan_body(step={"policy": {"hedge": 1}})).encode(),
            "definition.steps.policy.hedge",
        ),
        (
            json.dumps(plan_body(step={"policy": {"retry": {"jitters": 1}}})).encode(),
            "definition.steps.policy.retry.jitters",
        ),
        (
            json.dumps(
                plan_body(step={"references": [{"into": ["x"], "step_id": "s", "as": 1}]})
            ).encode(),
            "definition.steps.references.as",
        ),
    ],
)
def test_what_a_newer_release_wrote_is_refused_by_name(body, named):
    with pytest.raises(JournalTooNew) as caught:
        decode(body, "tx-9", 4)
    assert named in caught.value.found
    assert (caught.value.transaction_id, caught.value.sequence) == ("tx-9", 4)
    assert "Install that release" in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"text"',
        b"[" * 100_000,
        b'{"v":1,"id":"e"}',
        body_of(id=7),
        body_of(kind=None),
        body_of(kind=["x"]),
        body_of(at="yesterday"),
        body_of(at=None),
        body_of(step_id=5),
        body_of(error="oops"),
        body_of(error={"type": "T"}),
        body_of(error=[]),
        json.dumps(plan_body(steps=[1])).encode(),
        json.dumps(plan_body(steps=None)).encode(),
        json.dumps(plan_body(timeout_scope="sometimes")).encode(),
        json.dumps(plan_body(step={"data": []})).encode(),
        json.dumps(plan_body(step={"references": [7]})).encode(),
        json.dumps({"v": 1, "id": "e", "kind": "plan_recorded", "at": 1}).encode(),
        json.dumps({"v": 1, "id": "e", "kind": "plan_recorded", "at": 1, "definition": 1}).encode(),
    ],
    ids=lambda body: body[:50],
)
def test_a_damaged_body_is_refused_with_its_place(body):
    with pytest.raises(JournalCorrupt) as caught:
        decode(body, "tx-9", 4)
    assert (caught.value.transaction_id, caught.value.sequence) == ("tx-9", 4)
    assert "damaged at entry 4" in str(caught.value)


@given(st.binary(max_size=60))
def test_no_bytes_at_all_raise_anything_but_our_own(body):
    with pytest.raises((JournalCorrupt, JournalTooNew)):
        decode(body, "tx", 1)


@given(JSON, st.sampled_from(sorted(KINDS)))
def test_no_json_at_all_raises_anything_but_our_own(value, kind):
    found = value if isinstance(value, dict) else {"at": value}
    body = json.dumps({**found, "v": 1, "id": "e", "kind": kind}).encode()
    with suppress(JournalCorrupt, JournalTooNew):
        decode(body, "tx", 1)
