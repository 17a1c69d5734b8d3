import pytest
from pydantic import ValidationError

from aumai_transactions.models import RetryPolicy
from aumai_transactions.participants.definition import (
    EnvironmentValue,
    MissingVariable,
    RetryTable,
    definition_error,
)
from aumai_transactions.participants.http import HttpDefinition
from aumai_transactions.participants.python import PythonDefinition


def test_a_value_from_the_environment_is_read_each_time(monkeypatch):
    value = EnvironmentValue(env="TRIP_TOKEN", prefix="Bearer ")
    monkeypatch.setenv("TRIP_TOKEN", "one")
    assert value.read() == "Bearer one"
    monkeypatch.setenv("TRIP_TOKEN", "two")
    assert value.read() == "Bearer two"
    monkeypatch.delenv("TRIP_TOKEN")
    with pytest.raises(MissingVariable, match="TRIP_TOKEN is not set"):
        value.read()


def test_what_has_no_effect_cannot_have_an_undo():
    keys = {"kind": "python", "call": "a:b", "effect": "none"}
    assert PythonDefinition.model_validate(keys).effect == "none"
    with pytest.raises(ValidationError, match="Remove one of the two"):
        PythonDefinition.model_validate({**keys, "compensating_action": "c"})


def test_what_nothing_can_undo_names_nothing_that_undoes_it():
    keys = {"kind": "python", "call": "json:loads", "effect": "irreversible"}
    action = PythonDefinition.model_validate(keys).action("a")
    assert (action.effect, action.compensating_action) == ("irreversible", None)
    with pytest.raises(ValidationError, match="nothing can undo it"):
        PythonDefinition.model_validate({**keys, "compensating_action": "c"})


def test_what_an_action_declares_about_approval_and_commit_is_registered_with_it():
    keys: dict[str, object] = {
        "kind": "python",
        "call": "json:loads",
        "confirming_action": "c",
    }
    plain = PythonDefinition.model_validate(keys).action("a")
    assert (plain.confirming_action, plain.requires_approval) == ("c", False)
    keys |= {"requires_approval": True, "approval_timeout_seconds": 9, "undo_within_seconds": 8}
    action = PythonDefinition.model_validate(keys).action("a")
    assert action.requires_approval is True
    assert (action.approval_timeout_seconds, action.undo_within_seconds) == (9, 8)


@pytest.mark.parametrize(
    "keys",
    [
        {"requires_approval": "yes"},
        {"approval_timeout_seconds": 0},
        {"undo_within_seconds": -1},
        {"confirming_action": " "},
        {"idempotent": "yes"},
        {"idempotent": 1},
        {"on_unknown": "guess"},
        {"effect": "some"},
        {"compensating_action": " "},
        {"compensating_action": "x" * 201},
        {"retrys": 3},
    ],
)
def test_a_definition_is_strict(keys):
    with pytest.raises(ValidationError):
        PythonDefinition.model_validate({"kind": "python", "call": "a:b", **keys})


def test_a_retry_table_is_the_retry_policy_and_every_key_is_explained():
    assert RetryTable().policy() == RetryPolicy()
    assert type(RetryTable().policy()) is RetryPolicy
    every = {"attempts_max": 2, "first_delay_seconds": 0, "delay_factor": 3, "jitter": 0.5}
    every |= {"delay_seconds_max": 9, "budget_seconds": 1}
    assert RetryTable.model_validate(every).policy() == RetryPolicy.model_validate(every)
    assert set(every) == set(RetryPolicy.model_fields)
    explained = RetryTable.model_json_schema()["properties"]
    assert all(explained[key]["description"] for key in RetryPolicy.model_fields)


@pytest.mark.parametrize(
    "keys",
    [
        {"attempts_max": 0},
        {"attempts_max": 2.5},
        {"attempts_max": True},
        {"attempts_max": "3"},
        {"first_delay_seconds": -1},
        {"delay_factor": 0.5},
        {"jitter": 2},
        {"budget_seconds": 0},
        {"budget_seconds": float("inf")},
        {"attempts": 3},
    ],
)
def test_a_retry_table_is_strict(keys):
    with pytest.raises(ValidationError):
        RetryTable.model_validate(keys)


def test_every_policy_of_a_definition_is_in_its_action():
    question = {"url": "http://h/", "retry": {"attempts_max": 4}}
    keys = {"kind": "http", "url": "http://h/", "retry": {"attempts_max": 3, "jitter": 0}}
    definition = HttpDefinition.model_validate({**keys, "probe": question, "verify": question})
    action = definition.action("reserve")
    assert action.retry == RetryPolicy(attempts_max=3, jitter=0)
    assert action.probe_retry == action.verify_retry == RetryPolicy(attempts_max=4)
    assert HttpDefinition.model_validate(keys).action("reserve").probe_retry is None


def test_the_journal_gets_every_key_under_its_own_name_and_no_secret(monkeypatch):
    monkeypatch.setenv("TRIP_TOKEN", "s3cret")
    keys = {
        "kind": "http",
        "url": "http://h/{data.id}",
        "json": {"none": None, "id": "{data.id}"},
        "retry": {"attempts_max": 3},
        "probe": {
            "url": "http://h/?k={forward_key}",
            "method": "POST",
            "json": ["{key}", None],
            "headers": {"X": {"env": "TRIP_TOKEN"}},
        },
    }
    definition = HttpDefinition.model_validate(keys)
    journaled = definition.model_dump(mode="json", exclude_none=True)
    assert journaled["json"] == {"none": None, "id": "{data.id}"}
    assert journaled["probe"]["json"] == ["{key}", None]
    assert "body" not in journaled
    assert "s3cret" not in repr(journaled)
    assert HttpDefinition.model_validate(journaled) == definition


def test_a_mistake_is_told_by_place_and_without_the_value():
    with pytest.raises(ValidationError) as caught:
        HttpDefinition.model_validate(
            {"kind": "http", "url": "http://h/", "headers": {"Authorization": ["s3cret"]}}
        )
    error = definition_error("action 'x'", caught.value)
    assert str(error).startswith("action 'x': headers.Authorization: ")
    assert "s3cret" not in str(error)
