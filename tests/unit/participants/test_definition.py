import pytest
from pydantic import ValidationError

from aumai_transactions.participants.definition import EnvironmentValue, MissingVariable
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


@pytest.mark.parametrize(
    "keys",
    [
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
