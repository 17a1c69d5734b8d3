"""What can be declared about an action, and what its handler is told about a call.

Owns: `Action`, `StepContext`, and the shapes of handlers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aumai_transactions.core.definition import Effect, Operation, UnknownPolicy
from aumai_transactions.core.values import shown
from aumai_transactions.errors import DefinitionError
from aumai_transactions.models import Resource, RetryPolicy

ActionHandler = Callable[[str, dict[str, object]], None]
"""What the seed calls a handler: it is given the action's name and the step's data."""

Resources = Sequence[str | Resource] | Callable[[dict[str, Any]], Sequence[str | Resource]]
"""What an action uses: a list, or a function of its data that returns one."""

Handler = Callable[..., Any]
"""Any handler: `(action, data)`, or `(action, data, context)` where it asks for the context;
sync or async; it may return a JSON value."""


@dataclass(slots=True, frozen=True)
class StepContext:
    """Tell a handler about the call that it serves.

    A handler gets it by having a parameter named `context` or annotated `StepContext`.

    Args:
        transaction_id: The transaction.
        step_id: The step.
        agent_id: On whose behalf it acts.
        action: The name that is called.
        operation: `action`, `compensation` where it undoes, `probe` where it asks what became of
            the action, `verification` where it looks whether the undo left nothing,
            `confirmation` where it makes final what was only tried, `reread` where it looks whether
            what was read still holds.
        attempt: 1 for the first call of this operation; higher after a crash or an unknown
            outcome.
        idempotency_key: The same for every attempt of this operation of this step, from any
            process. Hand it to whatever is called.
        forward_key: The idempotency key of the step's action, in all four operations: what an
            undo, a probe or a verification is about.
        forward_attempt: How often the step's action has been called so far: what a probe is about.
        in_doubt: In a compensation: nobody knows whether the action ever happened; undoing
            nothing must do nothing.
        ran: In a compensation: False where a pending transaction is rolled back, whose steps
            never ran.
        token: The fencing token of the driver; grows with every takeover.
        outputs: What earlier steps returned, by step id.
        output: In every operation but the action itself: what the action returned.
        error: In a compensation: why the transaction goes back.
        can_continue: In a compensation: whether `Continue` would be heard now.
        resources: The fencing token of each resource that the step uses and that is locked, by
            canonical name; hand it to whoever keeps the resource.
        traceparent: The span of this call, as the header of W3C Trace Context has it; None where
            nobody watches.
        tracestate: What goes with it.
    """

    transaction_id: str
    step_id: str
    agent_id: str
    action: str
    operation: Operation
    attempt: int
    idempotency_key: str
    forward_key: str = ""
    forward_attempt: int = 0
    in_doubt: bool = False
    ran: bool = True
    token: int = 0
    outputs: Mapping[str, Any] = field(default_factory=dict)
    output: Any = None
    error: str | None = None
    can_continue: bool = False
    resources: Mapping[str, int] = field(default_factory=dict)
    traceparent: str | None = None
    tracestate: str | None = None


@dataclass(slots=True, frozen=True)
class Action:
    """Hold one action: its handler and what is declared about it.

    Args:
        name: What steps call it.
        handler: `(action, data)` or `(action, data, context)`, sync or async.
        compensating_action: What undoes it where a step names nothing else.
        idempotent: True where it may run again under the same idempotency key.
        on_unknown: `compensate` or `ask`, while nobody knows whether it happened.
        effect: `none` where it changes nothing outside, so that nothing is to undo; `irreversible`
            where nothing can undo it.
        in_doubt_on: Exceptions of this handler that leave the outcome unknown.
        is_plain: True for the handlers of `action_handlers`, whose exceptions all mean
            "not done".
        retry: How often it is tried again when it was not done; None for not at all, but for
            what a handler asks for with `RetryLater`. Where it is a compensating action: None for
            once, and as `RetryPolicy()` where it is idempotent.
        retry_on: Only these exceptions are worth another attempt; None for all but `StepRejected`.
        timeout_seconds: How long a call may take; then it is in doubt.
        abandon_after_seconds: How long an undo waits for a call that was left behind in its
            thread after its timeout; None for 60.
        probe: `(data)` or `(data, context)`: tells what became of a call whose outcome is unknown;
            returns `Done`, `NotDone` or `Unknown`.
        probe_retry: How often it is asked again while it answers `Unknown`.
        verify: `(data)` or `(data, context)`: looks, after the undo, whether anything is left;
            returns `Clean`, `Residue` or `Unknown`.
        verify_retry: How often it is asked again while it answers `Unknown`.
        confirming_action: What makes it final after the commit point, where this action only
            tries; `compensating_action` then cancels.
        reread: `(data)` or `(data, context)`: tells, before the commit point, whether what the
            action had read (`context.output`) still holds; returns True or False.
        requires_approval: True where a person must allow it; or a function of `(data)` that says so
            for this data.
        approval_timeout_seconds: How long that is waited for; then it counts as denied.
        undo_within_seconds: How long after it has succeeded it can still be undone.
        identity: The keys of its data by which a restarted program's step is found again; None
            for all of them.
        once: True where the same step, asked for again in one transaction, is not carried out
            again, but answered with what it returned.
        resources: What it uses that other transactions may use as well: names, in which `{key}`
            and `{/json/pointer}` are filled in from its data, `Resource` objects, or a function of
            `(data)` that returns such a list.
        redact: The keys of its data that hold secrets, and must be given as `SecretRef`; and those
            of its output that are painted over before it is recorded.
    """

    name: str
    handler: Handler
    compensating_action: str | None = None
    idempotent: bool = False
    on_unknown: UnknownPolicy | None = None
    effect: Effect | None = None
    in_doubt_on: tuple[type[BaseException], ...] = ()
    is_plain: bool = False
    retry: RetryPolicy | None = None
    retry_on: tuple[type[BaseException], ...] | None = None
    timeout_seconds: float | None = None
    abandon_after_seconds: float | None = None
    probe: Handler | None = None
    probe_retry: RetryPolicy | None = None
    verify: Handler | None = None
    verify_retry: RetryPolicy | None = None
    confirming_action: str | None = None
    reread: Handler | None = None
    requires_approval: bool | Callable[[dict[str, Any]], bool] = False
    approval_timeout_seconds: float | None = None
    undo_within_seconds: float | None = None
    identity: tuple[str, ...] | None = None
    once: bool = False
    resources: Resources | None = None
    redact: tuple[str, ...] = ()


class FunctionName(NamedTuple):
    """Hold the name that a function has by itself.

    Args:
        name: `module:qualname`.
        is_stable: True where another process finds the same function by it.
    """

    name: str
    is_stable: bool


def name_of(function: Callable[..., Any]) -> FunctionName:
    """Return the name that a function has by itself.

    Raises:
        DefinitionError: It has none.
    """
    module = getattr(function, "__module__", None)
    qualname = getattr(function, "__qualname__", None)
    if module is None or qualname is None:
        message = f"{function!r:.80} has no name of its own. Register it under a name."
        raise DefinitionError(message)
    return FunctionName(f"{module}:{qualname}", module != "__main__" and "<" not in qualname)


def plain_actions(handlers: Mapping[str, ActionHandler | Handler]) -> list[Action]:
    """Return the seed's mapping of names to handlers as actions.

    Raises:
        DefinitionError: It is no mapping.
    """
    if not isinstance(handlers, Mapping):
        message = f"action_handlers must be a dict of functions by name, not {shown(handlers)}."
        raise DefinitionError(message)
    return [Action(name, handler, is_plain=True) for name, handler in handlers.items()]
