"""The values that models are made of, and what all models have in common.

Owns: the small shapes that cross the public boundary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

DEFAULT_TIMEOUT_SECONDS = 60
LOCK_TIMEOUT_SECONDS = 30.0
CRASHES_MAX = 5
SECONDS_MAX = 10 * 366 * 86_400

JsonType = Literal["string", "integer", "number", "boolean", "object", "array", "null"]


_ALL_FIELDS: dict[type, set[str]] = {}

# Why the descriptors themselves: an assignment goes through pydantic's checks, and
# `object.__setattr__` looks each of them up again; these take half of its time.
_new = object.__new__
_set_fields = BaseModel.__dict__["__dict__"].__set__
_set_names = BaseModel.__dict__["__pydantic_fields_set__"].__set__
_set_extra = BaseModel.__dict__["__pydantic_extra__"].__set__
_set_private = BaseModel.__dict__["__pydantic_private__"].__set__


def _all_fields(cls: type[BaseModel]) -> set[str]:
    return _ALL_FIELDS.setdefault(cls, set(cls.model_fields))


class Model(BaseModel):
    """Be a pydantic model whose schema is built at its first use, not when it is imported."""

    model_config = ConfigDict(defer_build=True)

    @classmethod
    def made(cls, fields: dict[str, Any]) -> Self:
        """Return a model of values that are known to be right: every field, none checked.

        Like `model_construct`, which looks for aliases and defaults and takes six times as long;
        a transaction makes some of these for every step.
        """
        model = _new(cls)
        _set_fields(model, fields)
        # Why one for all: every field is set, so nothing can be added to it.
        _set_names(model, _ALL_FIELDS.get(cls) or _all_fields(cls))
        _set_extra(model, None)
        _set_private(model, None)
        return model


class RetryPolicy(Model):
    """Say how often, and how long apart, a call is tried again that was not done.

    The wait before attempt n+1 is at most `first_delay_seconds * delay_factor ** (n - 1)`, and at
    most `delay_seconds_max`; how much of it is waited is drawn evenly (full jitter), so that
    those who failed together do not come back together. The draw and the time of the next
    attempt stand in the journal.
    Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    Args:
        attempts_max: How often it is called at most, the first time included.
        first_delay_seconds: The longest wait before the second attempt.
        delay_factor: How much longer each further wait may be.
        delay_seconds_max: The longest wait of all; what `RetryLater` asks for may be longer.
        jitter: Which part of a wait is drawn: 1 for all of it, 0 to wait exactly that long.
        budget_seconds: No attempt begins later than this after the first one; None for no limit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempts_max: int = Field(default=5, ge=1, le=10_000)
    first_delay_seconds: float = Field(default=0.5, ge=0, le=SECONDS_MAX, allow_inf_nan=False)
    delay_factor: float = Field(default=2.0, ge=1, le=1_000, allow_inf_nan=False)
    delay_seconds_max: float = Field(default=60.0, ge=0, le=SECONDS_MAX, allow_inf_nan=False)
    jitter: float = Field(default=1.0, ge=0, le=1, allow_inf_nan=False)
    budget_seconds: float | None = Field(default=None, gt=0, le=SECONDS_MAX, allow_inf_nan=False)


class Resource(Model):
    """Name something that transactions must not use at the same time.

    Args:
        name: What it is called, such as `account:42`, a path, or a URL; aliases of one thing are
            one resource (`canonical_resource`).
        mode: `exclusive`, or `shared` with others that only read it as well.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    mode: Literal["exclusive", "shared"] = "exclusive"

    @classmethod
    def shared(cls, name: str) -> Self:
        """Return the resource of this name, for reading."""
        return cls(name=name, mode="shared")


@dataclass(frozen=True, slots=True)
class Output:
    """Stand in a step's data for what an earlier step will return; `step.output(…)` makes one.

    Args:
        step_id: The earlier step.
        at: JSON pointer (RFC 6901) into its output; empty for the whole of it.
        type: Which JSON type must stand there; None for any.
    """

    step_id: str
    at: str = ""
    type: JsonType | None = None


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Stand in a step's data for a secret, which is read when a call is made and never recorded.

    Args:
        name: `env:NAME` for a variable of the environment, `file:PATH` for the text of a file.
    """

    name: str


class OutputReference(Model):
    """Point from a place in a step's data to a place in an earlier step's output.

    Args:
        into: Keys and indexes that lead to the place in the step's data.
        step_id: The step whose output is taken; the referring step waits for it.
        at: JSON pointer (RFC 6901) into that output; empty for the whole of it.
        type: Which JSON type must stand there; None for any.
    """

    into: list[str | int]
    step_id: str
    at: str = ""
    type: JsonType | None = None
