"""What the manual says about plan files is so."""

import re
from pathlib import Path

import pytest

from aumai_transactions.participants.definition import EnvironmentValue
from aumai_transactions.plans import load_plan, risks
from aumai_transactions.plans.tables import KINDS, PlanTable, StepTable

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "plan-files.md").read_text("utf-8")


def test_the_example_of_the_manual_is_a_plan_with_one_risk(plan_file):
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    plan = load_plan(plan_file(example))
    assert [step.step_id for step in plan.steps] == ["flight", "card"]
    assert [risk.partition(":")[0] for risk in risks(plan)] == [
        "action 'charge_card' is not declared idempotent"
    ]


@pytest.mark.parametrize("model", [PlanTable, StepTable, EnvironmentValue, *KINDS.values()])
def test_every_key_is_in_the_manual(model):
    keys = [field.alias or name for name, field in model.model_fields.items()]
    assert [key for key in keys if f"`{key}`" not in PAGE and f"{key} =" not in PAGE] == []


def test_every_default_in_the_manual_is_the_default():
    fields = {
        key: field for model in KINDS.values() for key, field in model.model_fields.items()
    } | PlanTable.model_fields
    for key in ("timeout_scope", "on_compensation_failure", "missing", "method"):
        assert f'| `{key}` | `"{fields[key].default}"` |' in PAGE
    for key in ("timeout_seconds", "response_bytes_max"):
        assert f"| `{key}` | {fields[key].default:g} |".replace("1.04858e+06", "1048576") in PAGE
