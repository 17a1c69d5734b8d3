"""The action kind `http`: another service does it, is asked about it, and shows what is left.

Owns: what may be declared about such an action, and what an answer means for it.
Rules:
  1. What is sent is `request`'s business, and what an answer says `response`'s.
  2. A probe and a verification never raise for what the other side did: what is no clear
     answer is `Unknown`.
  3. A service that does not know the key yet may still be reached by the call: 404 is "not
     done" only where the author says that it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from aumai_transactions.actions import Action, Handler, StepContext
from aumai_transactions.answers import Clean, Done, NotDone, NothingToUndo, Residue, Unknown
from aumai_transactions.core.definition import Effect, UnknownPolicy
from aumai_transactions.errors import NotDelivered, OutcomeUnknown, StepRejected
from aumai_transactions.models import Resource, RetryPolicy
from aumai_transactions.participants.address import Host, is_allowed, parsed_address
from aumai_transactions.participants.definition import (
    ActionDefinition,
    Question,
    definition_error,
)
from aumai_transactions.participants.exchange import Target
from aumai_transactions.participants.request import (
    RESPONSE_BYTES_DEFAULT,
    Delivered,
    Method,
    RequestTable,
    RequestTemplate,
)
from aumai_transactions.participants.response import (
    Refusal,
    is_not_there,
    output_of,
    status_of,
    told_by,
)
from aumai_transactions.participants.template import Placeholder


class HttpQuestion(RequestTable, Question):
    """Hold a request that asks and changes nothing."""

    method: Literal["GET", "POST"] = Field(
        default="GET", description="The HTTP method; GET sends no body."
    )


class HttpProbe(HttpQuestion):
    """Hold the request that asks what became of a call."""

    missing: Literal["unknown", "not_done"] = Field(
        default="unknown",
        description='What 404 and 410 mean: "not_done" promises that the call can take no effect '
        "any more.",
    )


class HttpVerification(HttpQuestion):
    """Hold the request that looks whether an undo left anything."""


class HttpDefinition(RequestTable, ActionDefinition):
    """Hold an action that another service carries out."""

    kind: Literal["http"] = Field(description="The action is an HTTP request.")
    missing: Literal["ok", "fail"] = Field(
        default="ok", description='What 404 and 410 mean in an undo: "ok" is nothing to undo.'
    )
    hosts: list[Host] | None = Field(
        default=None,
        description="The only hosts that this action may call; by default the plan's http_hosts.",
    )
    probe: HttpProbe | None = Field(
        default=None, description="The request that asks what became of it."
    )
    verify: HttpVerification | None = Field(
        default=None, description="The request that looks whether its undo left anything."
    )

    @model_validator(mode="after")
    def _calls_only_its_hosts(self) -> Self:
        for key, target in self.targets().items():
            if self.hosts is not None and not is_allowed(target, self.hosts):
                message = (
                    f"{key} calls {target.authority}, which hosts does not name. Add it there if "
                    "it may be called"
                )
                raise ValueError(message)
        return self

    def tables(self) -> Iterator[tuple[str, RequestTable]]:
        """Yield each request that it may send, with the beginning of the keys that hold it."""
        yield "", self
        if self.probe is not None:
            yield "probe.", self.probe
        if self.verify is not None:
            yield "verify.", self.verify

    def problems(self) -> list[str]:
        """Return the headers that cannot be made here."""
        found = []
        for place, table in self.tables():
            beginning = place.replace(".", ": ")
            found += [f"{beginning}{problem}" for problem in table.unfit_headers()]
        return found

    def targets(self) -> dict[str, Target]:
        """Return which hosts it may call, by the key that says so."""
        return {f"{place}url": parsed_address(table.url).base for place, table in self.tables()}

    def references(self) -> Iterator[tuple[str, Placeholder]]:
        """Yield each reference of the action's own request, with the key that holds it."""
        return self.referring()

    def handler(self) -> Handler:
        """Return the function that sends the request."""
        return HttpCall(RequestTemplate.of(self), self.missing)

    def prober(self) -> Handler | None:
        """Return the function that asks what became of it."""
        if self.probe is None:
            return None
        return HttpProbeCall(RequestTemplate.of(self.probe), self.probe.missing)

    def verifier(self) -> Handler | None:
        """Return the function that looks whether its undo left anything."""
        return None if self.verify is None else HttpVerifyCall(RequestTemplate.of(self.verify))


@dataclass(slots=True, frozen=True)
class HttpCall:
    """Carry an action out by one HTTP request."""

    request: RequestTemplate
    missing: Literal["ok", "fail"]

    def __call__(self, action: str, data: dict[str, Any], context: StepContext) -> Any:  # noqa: ARG002
        """Send the request and return the output.

        Raises:
            StepRejected: It is not done.
            NotDelivered: It is not done, for nothing was sent.
            RetryLater: It is not done; the service asks to come back later.
            OutcomeUnknown: Nobody knows.
        """
        delivered = self.request.delivered(data, context)
        answer = delivered.answer
        undoing = context.operation == "compensation"
        try:
            if undoing and self.missing == "ok" and is_not_there(answer):
                return NothingToUndo(status_of(answer))
            return output_of(answer)
        except Refusal as refusal:
            attempt = 1 if undoing else context.attempt
            refusal.raise_as_outcome(delivered.told(refusal), attempt)
        except Exception as error:
            # Why: the request arrived; a fault in reading the answer is no "not done".
            raise OutcomeUnknown(_unreadable(delivered, error)) from error


@dataclass(slots=True, frozen=True)
class HttpProbeCall:
    """Ask a service what became of a call."""

    request: RequestTemplate
    missing: Literal["unknown", "not_done"]

    def __call__(self, data: dict[str, Any], context: StepContext) -> Done | NotDone | Unknown:
        """Send the request and return what its answer says about the call."""
        delivered = _asked(self.request, data, context)
        if isinstance(delivered, Unknown):
            return delivered
        if is_not_there(delivered.answer):
            why = delivered.told(told_by(delivered.answer))
            return NotDone(why) if self.missing == "not_done" else Unknown(why)
        try:
            return Done(output_of(delivered.answer))
        except Refusal as refusal:
            return Unknown(delivered.told(refusal))
        except Exception as error:  # noqa: BLE001 (what cannot be read is no answer)
            return Unknown(_unreadable(delivered, error))


@dataclass(slots=True, frozen=True)
class HttpVerifyCall:
    """Ask a service whether anything is left of what was undone."""

    request: RequestTemplate

    def __call__(self, data: dict[str, Any], context: StepContext) -> Clean | Residue | Unknown:
        """Send the request and return what its answer says is left."""
        delivered = _asked(self.request, data, context)
        if isinstance(delivered, Unknown):
            return delivered
        if is_not_there(delivered.answer):
            return Clean()
        try:
            return Residue(output_of(delivered.answer))
        except Refusal as refusal:
            return Unknown(delivered.told(refusal))
        except Exception as error:  # noqa: BLE001 (what cannot be read is no answer)
            return Unknown(_unreadable(delivered, error))


def http_action(
    name: str,
    *,
    url: str,
    method: Method = "POST",
    headers: Mapping[str, str | Mapping[str, str]] | None = None,
    json: Any = None,
    timeout_seconds: float = 30.0,
    missing: Literal["ok", "fail"] = "ok",
    response_bytes_max: int = RESPONSE_BYTES_DEFAULT,
    hosts: Collection[str] | None = None,
    compensating_action: str | None = None,
    idempotent: bool = False,
    on_unknown: UnknownPolicy | None = None,
    effect: Effect | None = None,
    confirming_action: str | None = None,
    requires_approval: bool | None = None,
    approval_timeout_seconds: float | None = None,
    undo_within_seconds: float | None = None,
    retry: RetryPolicy | Mapping[str, Any] | None = None,
    resources: Sequence[str | Resource] | None = None,
    probe: Mapping[str, Any] | None = None,
    verify: Mapping[str, Any] | None = None,
) -> Action:
    """Return an action that an HTTP service carries out, to be given to a manager.

    It is the kind `http` of plan files: arguments mean what the keys of plan files mean.

    Args:
        name: What steps call it.
        url: Where to; path and query may hold references, such as `{data.flight_id}`.
        method: The HTTP method.
        headers: Headers to add: text, or `{"env": "NAME", "prefix": "Bearer "}` for a secret.
        json: The body, maybe with references; None for the step's data.
        timeout_seconds: How long connecting, sending and reading may take together.
        missing: What 404 and 410 mean in an undo.
        response_bytes_max: How large the body of an answer may be.
        hosts: The only hosts that it may call, with or without a port; None for every host.
        compensating_action: What undoes it where a step names nothing else.
        idempotent: True where the service does nothing a second time for the same key.
        on_unknown: What to do while nobody knows whether it happened.
        effect: `none` where it changes nothing; `irreversible` where nothing can undo it.
        confirming_action: What makes it final after the commit point, where it only tries.
        requires_approval: True where a person must allow it.
        approval_timeout_seconds: How long that is waited for; then it counts as denied.
        undo_within_seconds: How long after it has succeeded it can still be undone.
        retry: How often it is tried again when it was not done.
        resources: What it uses that others may use as well, such as `account:{account}`.
        probe: The request that asks what became of it: the keys of a plan file's `probe`.
        verify: The request that looks whether its undo left anything: those of `verify`.

    Raises:
        DefinitionError: Something of it is wrong; names the place.
    """
    # Order matters: nothing else is named in here yet.
    keys = dict(locals())
    del keys["name"]
    if hosts is not None and not isinstance(hosts, str):
        keys["hosts"] = list(hosts)
    return _declared(name, keys)


def _declared(name: str, keys: dict[str, Any]) -> Action:
    plain = {
        "kind": "http",
        "headers": dict(keys["headers"] or {}),
        "retry": _retry_keys(keys["retry"]),
        "resources": _resource_keys(keys["resources"]),
        "probe": _question_keys(keys["probe"]),
        "verify": _question_keys(keys["verify"]),
    }
    try:
        return HttpDefinition.model_validate({**keys, **plain}).action(name)
    except ValidationError as error:
        raise definition_error(f"http_action {name!r}", error) from None


def _retry_keys(retry: Any) -> Any:
    if isinstance(retry, RetryPolicy):
        return retry.model_dump()
    return dict(retry) if isinstance(retry, Mapping) else retry


def _resource_keys(uses: Any) -> Any:
    if not isinstance(uses, (list, tuple)):
        return uses
    return [
        {"name": use.name, "mode": use.mode} if isinstance(use, Resource) else use for use in uses
    ]


def _question_keys(question: Any) -> Any:
    if not isinstance(question, Mapping):
        return question
    keys = dict(question)
    return keys | {"retry": _retry_keys(keys["retry"])} if "retry" in keys else keys


def _asked(
    request: RequestTemplate, data: Mapping[str, Any], context: StepContext
) -> Delivered | Unknown:
    try:
        return request.delivered(data, context)
    except (StepRejected, NotDelivered, OutcomeUnknown) as error:
        return Unknown(str(error))


def _unreadable(delivered: Delivered, error: Exception) -> str:
    status = delivered.answer.status
    return delivered.told(f"answered {status}, which could not be read: {error!r:.200}")
