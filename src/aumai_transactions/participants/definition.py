"""What a plan file may say about an action, whatever its kind.

Owns: the keys that every kind shares, and values that are read from the environment.
Rules:
  1. A definition is strict: an unknown key or a value of another type is refused.
  2. A secret is named in a definition and never held by it; it is read when a call is made.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from aumai_transactions.actions import Action, Handler
from aumai_transactions.core.definition import UnknownPolicy

NAME_CHARACTERS_MAX = 200
TIMEOUT_SECONDS_MAX = 86_400

Name = Annotated[str, Field(min_length=1, max_length=NAME_CHARACTERS_MAX, pattern=r"\S")]
Seconds = Annotated[float, Field(gt=0, le=TIMEOUT_SECONDS_MAX, allow_inf_nan=False)]
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


class ActionDefinition(BaseModel):
    """Hold what every kind of action may declare."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

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
    effect: Literal["none"] | None = Field(
        default=None, description='"none" where it changes nothing, so that nothing is to undo.'
    )

    @model_validator(mode="after")
    def _no_undo_of_nothing(self) -> Self:
        if self.effect == "none" and self.compensating_action is not None:
            message = (
                'effect = "none" says that there is nothing to undo, and compensating_action '
                "names what undoes it. Remove one of the two."
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

    def handler(self) -> Handler:
        """Return the function that carries the action out."""
        raise NotImplementedError

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
        )
