"""How journaled action definitions become handlers again.

Owns: the way from JSON to actions; it is the same for `run`, `recover` and workers, so what
worked once works after a crash.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from aumai_transactions.actions import Action
from aumai_transactions.errors import DefinitionError
from aumai_transactions.participants.definition import ActionDefinition
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
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"][1:])
            message = f"the definition of action {name!r} cannot be used: {place}: {first['msg']}."
            raise DefinitionError(message) from None


def actions_for(definitions: Mapping[str, Mapping[str, Any]]) -> list[Action]:
    """Return the actions that a plan's definitions describe, ready to be registered.

    Functions of the kind `python` are imported here; nothing is called.

    Args:
        definitions: By name, as `Plan.actions` and the journal have them.

    Raises:
        DefinitionError: A definition is unknown to this release, or its function cannot be
            imported.
    """
    actions = []
    for name, definition in definitions_of(definitions):
        try:
            actions.append(definition.action(name))
        except DefinitionError as error:
            message = f"action {name!r}: {error}"
            raise DefinitionError(message) from error
    return actions


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
