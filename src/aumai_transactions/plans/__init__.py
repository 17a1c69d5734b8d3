"""Plan files: a transaction with no Python.

Owns: what a plan file may say, and what becomes of it.
Rules:
  1. Reading and checking a plan runs nothing that it names.
  2. Every mistake is found before anything runs, and named by file, table and key.
  3. What is journaled is complete: recovery needs neither the file nor its folder.
"""

from aumai_transactions.plans.actions import actions_for, check_environment
from aumai_transactions.plans.loader import Plan, StepOptions, load_actions, load_plan
from aumai_transactions.plans.references import data_with_references
from aumai_transactions.plans.risks import risks

__all__ = [
    "Plan",
    "StepOptions",
    "actions_for",
    "check_environment",
    "data_with_references",
    "load_actions",
    "load_plan",
    "risks",
]
