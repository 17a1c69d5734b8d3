"""What a request may say, as models.

Owns: every field that the API takes. What is not named here is refused.
Rules:
  1. A field is here only if whoever has the scope may set it: nobody sets a state, an owner or an
     id, and nobody defines an action, which would be a command or a URL of the caller's choice.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from aumai_transactions.core.requests import Answer
from aumai_transactions.models import SECONDS_MAX, JsonType, RetryPolicy, TransactionState

NAME_CHARACTERS_MAX = 200
NOTE_CHARACTERS_MAX = 2_000
STEPS_MAX = 1_000
BULK_MAX = 100
PAGE_MAX = 500
# Why this pattern: a name is shown, and a control character in it would be shown as something else.
VISIBLE = r"^[^\x00-\x1f\x7f-\x9f]+$"

Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=NAME_CHARACTERS_MAX, pattern=VISIBLE),
]
Note = Annotated[str, StringConstraints(max_length=NOTE_CHARACTERS_MAX)]
Seconds = Annotated[float, Field(gt=0, le=SECONDS_MAX, allow_inf_nan=False)]
Data = dict[str, Any]


class Body(BaseModel):
    """Be what a request says; a field that is not named is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ReferenceBody(Body):
    """A place in the data that is filled in with an earlier step's output when the step starts."""

    into: list[Name | int] = Field(
        min_length=1,
        max_length=64,
        description="Keys and indexes that lead to the place in `data`.",
    )
    step_id: Name = Field(description="The earlier step.")
    at: Annotated[str, StringConstraints(max_length=2_000)] = Field(
        default="", description="JSON pointer (RFC 6901) into its output; empty for all of it."
    )
    type: JsonType | None = Field(default=None, description="The JSON type that must stand there.")


class ResourceBody(Body):
    """Something that transactions must not use at the same time."""

    name: Name
    mode: Literal["exclusive", "shared"] = "exclusive"


class StepBody(Body):
    """A step: what is done, with what, and what undoes it."""

    action: Name = Field(description="The name of an action that this server or a worker knows.")
    agent_id: Name | None = Field(
        default=None, description="On whose behalf; default: the token's name."
    )
    data: Data = Field(default_factory=dict, description="Given to the action and to its undo.")
    compensating_action: Name | None = Field(
        default=None, description="What undoes it; default: what its action says."
    )
    confirming_action: Name | None = Field(
        default=None, description="What makes it final behind the commit point."
    )
    step_id: Name | None = Field(default=None, description="Its name; default s1, s2, …")
    after: list[Name] | None = Field(
        default=None,
        max_length=STEPS_MAX,
        description="Steps that must have succeeded before. Planned: omitted means all before it.",
    )
    references: list[ReferenceBody] = Field(default_factory=list, max_length=1_000)
    retry: RetryPolicy | None = Field(default=None, description="How often it is tried again.")
    timeout_seconds: Seconds | None = Field(default=None, description="Of one call of it.")
    pivot: bool = Field(default=False, description="True where its success is the commit point.")
    on_commit: bool = Field(
        default=False, description="True to hold it until everything else has succeeded."
    )
    requires_approval: bool | None = Field(
        default=None, description="True where a person must allow it; default: as its action says."
    )
    approval_timeout_seconds: Seconds | None = None
    undo_within_seconds: Seconds | None = None
    resources: list[ResourceBody] | None = Field(default=None, max_length=1_000)


class TransactionBody(Body):
    """A transaction to begin."""

    mode: Literal["planned", "interactive"] = Field(
        default="planned",
        description="`planned`: steps are added first and carried out by `commit` or `submit`. "
        "`interactive`: each step is carried out as it is posted.",
    )
    name: Name | None = Field(default=None, description="What people call it.")
    timeout_seconds: Seconds | None = Field(
        default=None, description="Planned: default 60. Interactive: default and at most 3,600."
    )
    timeout_scope: Literal["start", "transaction"] | None = Field(
        default=None, description="Planned only."
    )
    on_crash: Literal["resume", "roll_back", "wait"] | None = Field(
        default=None, description="`wait` for interactive ones only, where it is the default."
    )
    resume_within_seconds: Seconds | None = Field(default=None, description="Interactive only.")
    on_compensation_failure: Literal["continue", "halt"] = "continue"
    parallel_compensation: bool = False
    allow_irreversible_first: bool = False
    on_undo_window: Literal["warn", "roll_back"] = "warn"
    isolation: Literal["none", "exclusive", "validated"] = "exclusive"
    lock_timeout_seconds: Seconds | None = None
    release_outstanding_locks: bool = False
    crashes_max: int | None = Field(default=None, ge=1, le=1_000_000)
    metadata: dict[Name, Note] = Field(
        default_factory=dict,
        max_length=40,
        description="Texts by name. `tenant` is the tenant; `principal`, `service` and `request` "
        "are the server's.",
    )
    steps: list[StepBody] = Field(
        default_factory=list, max_length=STEPS_MAX, description="Planned only."
    )


class NoteBody(Body):
    """Why something is asked for; it stands in the journal."""

    note: Note = ""


class EmptyBody(Body):
    """Nothing."""


class SavepointBody(Body):
    """A savepoint to make."""

    name: Name


class ApproveBody(Body):
    """That a person allows a step."""

    digest: Name | None = Field(
        default=None, description="Of what was shown, so that nothing else is allowed by it."
    )
    note: Note = ""


class ResolveBody(Body):
    """What a person has found out about a step, or has done about it."""

    answer: Answer
    note: Annotated[
        str, StringConstraints(min_length=1, max_length=NOTE_CHARACTERS_MAX, pattern=r"\S")
    ] = Field(description="How that is known.")


class BulkBody(Body):
    """The same for many transactions; each has its own outcome."""

    action: Literal["retry", "rollback"] = Field(
        description="`retry` tries every step again that can be tried again."
    )
    transaction_ids: list[Name] = Field(min_length=1, max_length=BULK_MAX)
    note: Note = ""


class QueryModel(BaseModel):
    """Be what stands behind the question mark; a name that is not known is refused."""

    model_config = ConfigDict(extra="forbid")


Limit = Annotated[int, Field(ge=1, le=PAGE_MAX)]
Time = Annotated[
    str,
    StringConstraints(max_length=64),
    Field(
        description="A time with its zone, such as 2026-02-27T12:00:00Z.",
        json_schema_extra={"format": "date-time"},
    ),
]
AttentionName = Literal[
    "outstanding", "in_doubt", "halted", "approval", "commit", "poisoned", "restored", "damaged"
]


class NoQuery(QueryModel):
    """Nothing."""


class ListQuery(QueryModel):
    """Which transactions to list."""

    state: list[TransactionState] = Field(
        default_factory=list, max_length=7, description="Only these; may be given again."
    )
    attention: Literal["true"] | AttentionName | None = Field(
        default=None, description="`true` for all that need a person, or why they do."
    )
    agent: Name | None = Field(default=None, description="Only those in which it takes part.")
    action: Name | None = Field(default=None, description="Only those with a step that does it.")
    q: Annotated[str, StringConstraints(max_length=200)] | None = Field(
        default=None, description="Text in the id, the name, or an agent's or action's name."
    )
    tenant: Name | None = Field(default=None, description="Only this tenant's.")
    created_from: Time | None = None
    created_before: Time | None = None
    older_than: Annotated[float, Field(ge=0, le=SECONDS_MAX)] | None = Field(
        default=None, description="Only those that have not changed for so many seconds."
    )
    order: Literal["newest", "oldest"] = "newest"
    limit: Limit = 100
    cursor: Annotated[str, StringConstraints(max_length=200)] | None = Field(
        default=None, description="The `next` of the page before."
    )


class EventsQuery(QueryModel):
    """Which entries to list."""

    after: Annotated[int, Field(ge=0, le=2**53)] = Field(
        default=0, description="Only those behind this sequence."
    )
    limit: Limit = 100


class AttentionQuery(QueryModel):
    """Which of those that need a person to list."""

    kind: list[AttentionName] = Field(
        default_factory=list, max_length=8, description="Only these; may be given again."
    )
    limit: Annotated[int, Field(ge=1, le=100)] = 50
    cursor: Annotated[str, StringConstraints(max_length=200)] | None = Field(
        default=None, description="The `next` of the page before."
    )


class LocksQuery(QueryModel):
    """Which locks to list."""

    resource: Annotated[str, StringConstraints(min_length=1, max_length=2_000)] | None = None


class StreamQuery(QueryModel):
    """Which changes to be told of."""

    state: list[TransactionState] = Field(
        default_factory=list, max_length=7, description="Only into these; may be given again."
    )
    transaction_id: list[Name] = Field(
        default_factory=list, max_length=100, description="Only these; may be given again."
    )
