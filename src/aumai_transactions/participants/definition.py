"""What a plan file may say about an action, whatever its kind.

Owns: the keys that every kind shares, and values that are read from the environment.
Rules:
  1. A definition is strict: an unknown key or a value of another type is refused.
  2. A secret is named in a definition and never held by it; it is read when a call is made.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from aumai_transactions.actions import Action, Handler
from aumai_transactions.core.definition import Effect, LockMode, UnknownPolicy
from aumai_transactions.errors import DefinitionError
from aumai_transactions.models import SECONDS_MAX, Resource, RetryPolicy
from aumai_transactions.participants.exchange import Target
from aumai_transactions.participants.template import Placeholder

NAME_CHARACTERS_MAX = 200
TIMEOUT_SECONDS_MAX = 86_400

Name = Annotated[str, Field(min_length=1, max_length=NAME_CHARACTERS_MAX, pattern=r"\S")]
Seconds = Annotated[float, Field(gt=0, le=TIMEOUT_SECONDS_MAX, allow_inf_nan=False)]
LongSeconds = Annotated[float, Field(gt=0, le=SECONDS_MAX, allow_inf_nan=False)]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class MissingVariable(Exception):
    """Say that an environment variable is not set."""


class EnvironmentValue(BaseModel):
    """Name an environment variable that holds a value; the value is never written down."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    env: VariableName = Field(description="The environment variable that is read at each call.")
    prefix: str = Field(default="", description='What to put before its value, as in "Bearer ".')

    def read(self) -> str:
        """Return the value as the environment has it now.

        Raises:
            MissingVariable: It is not set.
        """
        value = os.environ.get(self.env)
        if value is None:
            message = f"environment variable {self.env} is not set"
            raise MissingVariable(message)
        return self.prefix + value


def _setting_tag(value: object) -> str | None:
    if isinstance(value, str):
        return "text"
    return "env" if isinstance(value, (dict, EnvironmentValue)) else None


Setting = Annotated[
    Annotated[str, Tag("text")] | Annotated[EnvironmentValue, Tag("env")],
    Discriminator(_setting_tag),
]


def setting_text(setting: str | EnvironmentValue) -> str:
    """Return what a setting stands for now.

    Raises:
        MissingVariable: It names an environment variable that is not set.
    """
    return setting if isinstance(setting, str) else setting.read()


_RETRY_MEANINGS = {
    "attempts_max": "How often it is called at most, the first time included.",
    "first_delay_seconds": "The longest wait before the second attempt.",
    "delay_factor": "How much longer each further wait may be.",
    "delay_seconds_max": "The longest wait of all; what RetryLater asks for may be longer.",
    "jitter": "Which part of a wait is drawn: 1 for all of it, 0 to wait exactly that long.",
    "budget_seconds": "No attempt begins later than this after the first one.",
}


def _explained(schema: dict[str, Any]) -> None:
    for key, meaning in _RETRY_MEANINGS.items():
        schema["properties"][key]["description"] = meaning


class RetryTable(RetryPolicy):
    """Hold how often, and how long apart, a call is tried again that was not done."""

    model_config = ConfigDict(strict=True, json_schema_extra=_explained)

    def policy(self) -> RetryPolicy:
        """Return it as the policy that an action holds."""
        return RetryPolicy.model_validate(self.model_dump())


def retry_policy(table: RetryTable | None) -> RetryPolicy | None:
    """Return the policy that a table stands for; None where there is none."""
    return None if table is None else table.policy()


class ResourceTable(BaseModel):
    """Hold one resource that an action or a step uses."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: Name = Field(
        description="What it is called, as account:{account}; {key} and {/json/pointer} are filled "
        "in from the step's data."
    )
    mode: LockMode = Field(
        default="exclusive", description='"shared" where others may read it at the same time.'
    )

    def resource(self) -> Resource:
        """Return it as the resource that an action holds."""
        return Resource(name=self.name, mode=self.mode)


def _resource_tag(value: object) -> str | None:
    if isinstance(value, str):
        return "name"
    return "resource" if isinstance(value, (dict, ResourceTable)) else None


Uses = list[
    Annotated[
        Annotated[Name, Tag("name")] | Annotated[ResourceTable, Tag("resource")],
        Discriminator(_resource_tag),
    ]
]


def resources_in(uses: Uses | None) -> list[str | Resource] | None:
    """Return what an action or a step uses; None where it does not say."""
    if uses is None:
        return None
    return [use if isinstance(use, str) else use.resource() for use in uses]


class Question(BaseModel):
    """Hold what a probe and a verification have in common, whatever their kind."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, serialize_by_alias=True)

    retry: RetryTable | None = Field(
        default=None, description="How often it is asked again while it cannot tell."
    )


class ActionDefinition(BaseModel):
    """Hold what every kind of action may declare.

    A kind with a `probe` or a `verify` table declares it as a `Question` of its own.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, serialize_by_alias=True)

    compensating_action: Name | None = Field(
        default=None, description="The action that undoes this one, where a step names no other."
    )
    idempotent: bool = Field(
        default=False,
        description="True where the other side does nothing a second time for the same key.",
    )
    on_unknown: UnknownPolicy | None = Field(
        default=None,
        description='What to do while nobody knows whether it happened: "compensate" or "ask".',
    )
    effect: Effect | None = Field(
        default=None,
        description='"none" where it changes nothing, so that nothing is to undo; "irreversible" '
        "where nothing can undo it.",
    )
    confirming_action: Name | None = Field(
        default=None,
        description="What makes it final after the commit point, where this action only tries and "
        "its undo cancels; where a step names no other.",
    )
    requires_approval: bool | None = Field(
        default=None, description="True where a person must allow it before it is called."
    )
    approval_timeout_seconds: LongSeconds | None = Field(
        default=None, description="How long that is waited for; then it counts as denied."
    )
    undo_within_seconds: LongSeconds | None = Field(
        default=None, description="How long after it has succeeded it can still be undone."
    )
    retry: RetryTable | None = Field(
        default=None,
        description="How often it is tried again when it was not done; by default never.",
    )
    resources: Uses | None = Field(
        default=None,
        description="What it uses that other transactions may use as well: names as "
        "account:{account}, filled in from the step's data, or { name, mode }.",
    )
    probe: Question | None = None
    verify: Question | None = None

    @model_validator(mode="after")
    def _no_undo_of_nothing(self) -> Self:
        if self.effect is not None and self.compensating_action is not None:
            what = "there is nothing to undo" if self.effect == "none" else "nothing can undo it"
            message = (
                f'effect = "{self.effect}" says that {what}, and compensating_action names what '
                "undoes it. Remove one of the two."
            )
            raise ValueError(message)
        return self

    def located(self, folder: Path) -> Self:  # noqa: ARG002 (most kinds name no files)
        """Return this definition with its relative paths made absolute.

        Args:
            folder: The folder of the plan file, absolute.
        """
        return self

    def problems(self) -> list[str]:
        """Return what this machine lacks to carry the action out; nothing is called."""
        return []

    def targets(self) -> dict[str, Target]:
        """Return which hosts it may call, by the key that says so; empty for most kinds."""
        return {}

    def references(self) -> Iterator[tuple[str, Placeholder]]:
        """Yield each reference of the action's own call, with the key that holds it."""
        yield from ()

    def handler(self) -> Handler:
        """Return the function that carries the action out."""
        raise NotImplementedError

    def prober(self) -> Handler | None:
        """Return the function that asks what became of it; None where nobody can be asked."""
        return None

    def verifier(self) -> Handler | None:
        """Return the function that looks whether its undo left anything; None without one."""
        return None

    def action(self, name: str) -> Action:
        """Return the action itself, ready to be registered.

        Raises:
            DefinitionError: It names Python code that cannot be imported.
        """
        return Action(
            name,
            self.handler(),
            compensating_action=self.compensating_action,
            idempotent=self.idempotent,
            on_unknown=self.on_unknown,
            effect=self.effect,
            retry=retry_policy(self.retry),
            probe=self.prober(),
            probe_retry=retry_policy(self.probe.retry) if self.probe else None,
            verify=self.verifier(),
            verify_retry=retry_policy(self.verify.retry) if self.verify else None,
            confirming_action=self.confirming_action,
            requires_approval=bool(self.requires_approval),
            approval_timeout_seconds=self.approval_timeout_seconds,
            undo_within_seconds=self.undo_within_seconds,
            resources=resources_in(self.resources),
        )


def definition_error(subject: str, error: ValidationError, skip: int = 0) -> DefinitionError:
    """Return the first of pydantic's errors about a definition as an error of ours.

    Args:
        subject: What was declared, such as `action 'reserve'`.
        error: What pydantic found.
        skip: How many leading parts of its place are no keys of a definition.
    """
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"][skip:])
    cause = first.get("ctx", {}).get("error")
    told = str(cause) if isinstance(cause, ValueError) else first["msg"]
    problem = f"{place}: {told}" if place else told
    return DefinitionError(f"{subject}: {problem.rstrip('.')}.")
