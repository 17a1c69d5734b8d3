"""How journaled action definitions become handlers again.

Owns: the way from JSON to actions; it is the same for `run`, `recover` and workers, so what
worked once works after a crash.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from aumai_transactions.actions import Action
from aumai_transactions.errors import DefinitionError
from aumai_transactions.participants.address import allowed_host, is_allowed
from aumai_transactions.participants.definition import ActionDefinition, definition_error
from aumai_transactions.plans.tables import AnyAction

_ADAPTER: TypeAdapter[ActionDefinition] = TypeAdapter(AnyAction)


def definitions_of(
    definitions: Mapping[str, Mapping[str, Any]],
) -> Iterator[tuple[str, ActionDefinition]]:
    """Yield each action definition by name, checked.

    Raises:
        DefinitionError: One of them is not a definition that this release knows.
    """
    for name, definition in definitions.items():
        try:
            yield name, _ADAPTER.validate_python(dict(definition))
        except ValidationError as error:
            subject = f"the definition of action {name!r} cannot be used"
            # Why one: the first part is the kind that was chosen.
            raise definition_error(subject, error, skip=1) from None


def actions_for(
    definitions: Mapping[str, Mapping[str, Any]], *, http_hosts: Collection[str] | None = None
) -> list[Action]:
    """Return the actions that a plan's definitions describe, ready to be registered.

    Functions of the kind `python` are imported here; nothing is called. A manager that runs what
    journals define, and must not call every host, is made with
    `action_source=partial(actions_for, http_hosts=["api.example.com"])`.

    Args:
        definitions: By name, as `Plan.actions` and the journal have them.
        http_hosts: The only hosts that `http` actions may call, each with a port or without;
            None for every host. It is a second limit beside the one that a plan sets itself.

    Raises:
        DefinitionError: A definition is unknown to this release, its function cannot be
            imported, or it calls a host that is not allowed.
    """
    hosts = None if http_hosts is None else checked_hosts(http_hosts)
    actions = []
    for name, definition in definitions_of(definitions):
        for key, authority in foreign_targets(definition, hosts):
            message = (
                f"action {name!r}: {key} calls {authority}, which http_hosts does not name. Add it "
                "there if it may be called."
            )
            raise DefinitionError(message)
        try:
            actions.append(definition.action(name))
        except DefinitionError as error:
            message = f"action {name!r}: {error}"
            raise DefinitionError(message) from error
    return actions


def checked_hosts(http_hosts: Collection[str]) -> tuple[str, ...]:
    """Return hosts that may be called, each looked at.

    Raises:
        DefinitionError: One of them is no host.
    """
    if isinstance(http_hosts, str):
        message = 'http_hosts must be a list of hosts, such as ["api.example.com"], not a text.'
        raise DefinitionError(message)
    for host in http_hosts:
        try:
            allowed_host(host)
        except ValueError as error:
            message = f"http_hosts: {error}."
            raise DefinitionError(message) from None
    return tuple(http_hosts)


def foreign_targets(
    definition: ActionDefinition, hosts: Collection[str] | None
) -> Iterator[tuple[str, str]]:
    """Yield each key of a definition that calls another host than these, and that host."""
    for key, target in definition.targets().items():
        if hosts is not None and not is_allowed(target, hosts):
            yield key, target.authority


def check_environment(definitions: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse to begin where this machine lacks what the actions need; nothing is called.

    That is: environment variables that are named, programs and working folders. Functions are
    looked for by `actions_for`.

    Raises:
        DefinitionError: Something is missing; names all of it.
    """
    problems = [
        f"action {name!r}: {problem}."
        for name, definition in definitions_of(definitions)
        for problem in definition.problems()
    ]
    if problems:
        message = "\n".join(["Nothing was run, for something is missing here:", *problems])
        raise DefinitionError(message)
