"""Which tables and keys a plan file has.

Owns: the shape of a plan file; the published JSON Schema is made from it. What no shape can
say (names that must exist, circles) is checked by the loader.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from aumai_transactions.core.definition import (
    CompensationFailurePolicy,
    Isolation,
    UndoWindowPolicy,
)
from aumai_transactions.drivers.freezing import METADATA_MAX
from aumai_transactions.models import CRASHES_MAX, DEFAULT_TIMEOUT_SECONDS, LOCK_TIMEOUT_SECONDS
from aumai_transactions.participants.address import Host
from aumai_transactions.participants.command import CommandDefinition
from aumai_transactions.participants.definition import (
    ActionDefinition,
    LongSeconds,
    Name,
    RetryTable,
    Seconds,
    Uses,
)
from aumai_transactions.participants.http import HttpDefinition
from aumai_transactions.participants.python import PythonDefinition

KINDS: dict[str, type[ActionDefinition]] = {
    "http": HttpDefinition,
    "command": CommandDefinition,
    "python": PythonDefinition,
}

AnyAction = Annotated[
    HttpDefinition | CommandDefinition | PythonDefinition, Field(discriminator="kind")
]


class StepTable(BaseModel):
    """Hold one step: what an agent does, and what undoes it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Name | None = Field(
        default=None,
        description="Its name within the transaction; by default s1, s2, … by position.",
    )
    agent: Name = Field(description="The agent on whose behalf it acts.")
    action: Name = Field(description="What it does: an action of this file or of --app.")
    compensating_action: Name | None = Field(
        default=None, description="What undoes it; by default what its action says."
    )
    data: dict[str, Any] = Field(
        default_factory=dict,
        description='What the action and its undo are given; { "$output" = "step" } refers.',
    )
    after: list[Name] | None = Field(
        default=None,
        description="Steps that must have succeeded before; by default all above it.",
    )
    retry: RetryTable | None = Field(
        default=None,
        description="How often its action is tried again when it was not done; by default what "
        "the action says.",
    )
    timeout_seconds: Seconds | None = Field(
        default=None,
        description="How long a call of its action may take; then it is in doubt. By default what "
        "the action says.",
    )
    pivot: bool = Field(
        default=False,
        description="True for the point of no return: it starts when all other steps have "
        "succeeded, and with its success the transaction is committed.",
    )
    on_commit: bool = Field(
        default=False,
        description="True to hold it until the commit is decided; then it is tried until it is "
        "done.",
    )
    confirming_action: Name | None = Field(
        default=None,
        description="What makes it final after the commit point; by default what its action says.",
    )
    requires_approval: bool | None = Field(
        default=None,
        description="Whether a person must allow it; by default what its action says.",
    )
    approval_timeout_seconds: LongSeconds | None = Field(
        default=None,
        description="How long that is waited for; then it counts as denied. By default what its "
        "action says.",
    )
    undo_within_seconds: LongSeconds | None = Field(
        default=None,
        description="How long after it has succeeded it can still be undone; by default what its "
        "action says.",
    )
    resources: Uses | None = Field(
        default=None,
        description="What it uses that other transactions may use as well, besides what its action "
        "says: names as account:{account}, filled in from its data, or { name, mode }.",
    )


class PlanTable(BaseModel):
    """Hold a whole plan file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    schema_address: str | None = Field(
        default=None, alias="$schema", description="Where editors find this schema; not read."
    )
    name: Name | None = Field(
        default=None, description="What people call it; by default the file's name."
    )
    timeout_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=DEFAULT_TIMEOUT_SECONDS,
        description="How long after it was begun a commit may still begin.",
    )
    timeout_scope: Literal["start", "transaction"] = Field(
        default="start",
        description='"start" checks the timeout once; "transaction" before every step as well.',
    )
    on_crash: Literal["resume", "roll_back"] | None = Field(
        default=None,
        description='What recovery does: "resume" or "roll_back"; by default it resumes, unless '
        "the timeout is over.",
    )
    on_compensation_failure: CompensationFailurePolicy = Field(
        default="continue",
        description='"continue" undoes the rest; "halt" stops what the failed undo depends on.',
    )
    parallel_compensation: bool = Field(
        default=False,
        description="True to undo steps that do not depend on each other at the same time.",
    )
    allow_irreversible_first: bool = Field(
        default=False,
        description="True to insist on a step that nothing can undo before one that can be undone.",
    )
    on_undo_window: UndoWindowPolicy = Field(
        default="warn",
        description='What happens shortly before a step can no longer be undone: "warn" says so, '
        '"roll_back" undoes everything.',
    )
    isolation: Isolation = Field(
        default="exclusive",
        description='What is done about resources: "exclusive" locks them until the end; '
        '"validated" locks those used exclusively, and looks before the commit whether the shared '
        'ones have changed; "none" takes no notice of them.',
    )
    lock_timeout_seconds: LongSeconds = Field(
        default=LOCK_TIMEOUT_SECONDS, description="How long it waits for a resource."
    )
    release_outstanding_locks: bool = Field(
        default=False,
        description="True to let go, at the end, of what a step used that could not be undone.",
    )
    metadata: Annotated[dict[Name, str], Field(max_length=METADATA_MAX)] = Field(
        default_factory=dict,
        description="Notes about it, text by name; workers take turns between those whose tenant "
        "differs.",
    )
    crashes_max: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=CRASHES_MAX,
        description="How many processes in a row may die in a call of it before a person has to "
        "look.",
    )
    http_hosts: list[Host] | None = Field(
        default=None,
        description="The only hosts that http actions may call, with or without a port; by "
        "default every host.",
    )
    actions: dict[Name, AnyAction] = Field(
        default_factory=dict, description="The actions that steps name, by name."
    )
    steps: Annotated[list[StepTable], Field(min_length=1)] = Field(
        description="The steps, in order."
    )


class ActionsTable(BaseModel):
    """What a file of actions says: actions without steps, for a server that callers name them to.

    It is the part of a plan that is about actions.
    """

    http_hosts: list[Host] | None = None
    actions: dict[Name, AnyAction] = Field(min_length=1)
