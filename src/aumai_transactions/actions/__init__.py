"""The actions that a process can carry out, by name.

Owns: what can be declared about an action, and the registry of handlers; how they are called is
in `calls.py`.
"""

from __future__ import annotations

from aumai_transactions.actions.checks import (
    Callee,
    checked_retry,
    checked_seconds,
)
from aumai_transactions.actions.declaration import (
    Action,
    ActionHandler,
    FunctionName,
    Handler,
    Resources,
    StepContext,
    name_of,
    plain_actions,
)
from aumai_transactions.actions.registry import (
    BEHIND,
    DECORATED,
    FOREIGN,
    ActionRegistry,
    F,
    P,
    R,
    RegisteredAction,
    journaled_retry,
    policy_of,
)

__all__ = [
    "BEHIND",
    "DECORATED",
    "FOREIGN",
    "Action",
    "ActionHandler",
    "ActionRegistry",
    "Callee",
    "F",
    "FunctionName",
    "Handler",
    "P",
    "R",
    "RegisteredAction",
    "Resources",
    "StepContext",
    "checked_retry",
    "checked_seconds",
    "journaled_retry",
    "name_of",
    "plain_actions",
    "policy_of",
]
