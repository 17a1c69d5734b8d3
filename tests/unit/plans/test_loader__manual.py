"""What the manual says about plan files is so."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from aumai_transactions.participants.command import (
    CommandDefinition,
    CommandProbe,
    CommandVerification,
)
from aumai_transactions.participants.definition import EnvironmentValue, RetryTable
from aumai_transactions.participants.http import HttpDefinition, HttpProbe, HttpVerification
from aumai_transactions.participants.python import PythonQuestion
from aumai_transactions.participants.template import ROOTS
from aumai_transactions.plans import load_plan, risks
from aumai_transactions.plans.tables import KINDS, PlanTable, StepTable

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "plan-files.md").read_text("utf-8")


EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
QUESTIONS = [HttpProbe, HttpVerification, CommandProbe, CommandVerification, PythonQuestion]


def test_the_example_of_the_manual_is_a_plan_without_a_risk_of_its_own(plan_file):
    plan = load_plan(plan_file(EXAMPLES[0]))
    assert [step.step_id for step in plan.steps] == ["flight", "card"]
    assert risks(plan) == []


@pytest.mark.parametrize("example", EXAMPLES[1:])
def test_the_other_examples_are_parts_of_a_plan_without_a_risk(example, plan_file):
    document = tomllib.loads(example)
    if "steps" not in document:
        first = next(iter(document["actions"]))
        example += f'\n[[steps]]\nagent = "a"\naction = "{first}"\n'
        assert risks(load_plan(plan_file(example))) == []
        return
    tables = [*document["steps"], *document.get("actions", {}).values()]
    keys = ("action", "compensating_action", "confirming_action")
    named = {table[key] for table in tables for key in keys if key in table}
    assert risks(load_plan(plan_file(example), known_actions=named)) == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_of_the_manual_runs(program):
    found: dict[str, Any] = {}
    exec(compile(program, "plan-files.md", "exec"), found)  # noqa: S102 (it is our own page)
    found["manager"].close()


@pytest.mark.parametrize(
    "model", [PlanTable, StepTable, EnvironmentValue, RetryTable, *QUESTIONS, *KINDS.values()]
)
def test_every_key_is_in_the_manual(model):
    keys = [field.alias or name for name, field in model.model_fields.items()]
    assert [key for key in keys if f"`{key}`" not in PAGE and f"{key} =" not in PAGE] == []


def test_every_default_in_the_manual_is_the_default():
    fields = {
        key: field for model in KINDS.values() for key, field in model.model_fields.items()
    } | PlanTable.model_fields
    fields |= CommandDefinition.model_fields | HttpDefinition.model_fields
    for key in ("timeout_scope", "on_compensation_failure", "missing", "method", "input"):
        assert f'| `{key}` | `"{fields[key].default}"` |' in PAGE
    for key, field in RetryTable.model_fields.items():
        default = "none" if field.default is None else f"{field.default:g}"
        assert f"| `{key}` | {default} |" in PAGE
    for key in ("timeout_seconds", "response_bytes_max"):
        assert f"| `{key}` | {fields[key].default:g} |".replace("1.04858e+06", "1048576") in PAGE


def test_every_reference_is_in_the_manual():
    assert [root for root in ROOTS if f"{{{root}" not in PAGE] == []
