"""Which resources a step uses.

Owns: the way from what an action and a step say to names in their canonical form.
Rules:
  1. Only what the author of an action wrote is a pattern; what a step says, or a function returns,
     is taken as it is, for it may have been made of an agent's data.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from aumai_transactions.core.definition import ResourceUse
from aumai_transactions.core.references import at_pointer
from aumai_transactions.core.resources import canonical_resource
from aumai_transactions.core.values import clone, shown
from aumai_transactions.errors import DefinitionError, InvalidData
from aumai_transactions.models import Resource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aumai_transactions.actions import Action
    from aumai_transactions.core.definition import StepDefinition
    from aumai_transactions.models import TransactionStep

RESOURCES_MAX = 1_000
_PLACE = re.compile(r"\{([^{}]*)\}")


def checked_resources(value: object) -> list[Resource] | None:
    """Return what a step says that it uses, each name in its canonical form.

    Raises:
        DefinitionError: It is no list of names and `Resource` objects.
        InvalidData: A name cannot be one.
    """
    listed = _listed(value)
    if listed is None:
        return None
    return [Resource(name=use.name, mode=use.mode) for use in _uses(listed)]


def _listed(value: object) -> list[str | Resource] | None:
    if value is None:
        return None
    if isinstance(value, (list, tuple)) and all(isinstance(i, (str, Resource)) for i in value):
        return list(value)
    message = (
        f"resources must be a list of names and Resource objects, such as ['account:42'], not "
        f"{shown(value)}."
    )
    raise DefinitionError(message)


def resources_of(
    definition: StepDefinition, step: TransactionStep, action: Action
) -> tuple[ResourceUse, ...]:
    """Return what a step uses: what it says itself, and what its action says about its data.

    Raises:
        DefinitionError: A function returns no list, or a name depends on what is not known yet.
        InvalidData: A name cannot be one.
    """
    own = _uses(_listed(step.resources) or ())
    declared = action.resources
    if declared is None:
        return _once(own)
    if callable(declared):
        # Why a copy: what the function does to its data must not change what is journaled.
        found = checked_resources(declared(clone(definition.data)))
        return _once([*own, *_uses(found or ())])
    late = {item.into[0] for item in definition.references if item.into}
    for item in declared:
        use = Resource(name=item) if isinstance(item, str) else item
        name = use.name
        keys = keys_in(name)
        if keys & late and step.resources is not None:
            continue  # It is filled in from an output, and the step says itself what it will be.
        if keys & late:
            message = (
                f"what step {definition.step_id!r} uses ({name!r}) depends on an output of another "
                "step, so it is not known when it has to be locked. Name it with resources=[…] at "
                "the step."
            )
            raise DefinitionError(message)
        own.append(ResourceUse(canonical_resource(filled(name, definition.data)), use.mode))
    return _once(own)


def keys_in(name: str) -> set[str]:
    """Return the keys of a step's data from which a name is filled in."""
    return {_key(place) for place in _PLACE.findall(name)}


def filled(name: str, data: dict[str, Any]) -> str:
    """Return a name whose places are filled in from a step's data.

    Raises:
        InvalidData: There is nothing there, or what cannot be in a name.
    """
    return _PLACE.sub(lambda place: _filled(place[1], data), name)


def _key(place: str) -> str:
    return place.split("/")[1] if place.startswith("/") else place


def _filled(place: str, data: dict[str, Any]) -> str:
    pointer = place if place.startswith("/") else "/" + place.replace("~", "~0")
    try:
        value: Any = at_pointer(data, pointer)
    except LookupError:
        value = None
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    path = f"data.{place.lstrip('/').replace('/', '.')}"
    raise InvalidData(
        path, "must be a non-empty text or a whole number, for it names a resource that is used."
    )


def _uses(items: Iterable[str | Resource]) -> list[ResourceUse]:
    return [
        ResourceUse(canonical_resource(item))
        if isinstance(item, str)
        else ResourceUse(canonical_resource(item.name), item.mode)
        for item in items
    ]


def _once(uses: list[ResourceUse]) -> tuple[ResourceUse, ...]:
    """Return each resource once, in order; exclusive goes before shared."""
    if len(uses) > RESOURCES_MAX:
        message = f"a step uses {len(uses):,} resources, more than the {RESOURCES_MAX:,} allowed."
        raise DefinitionError(message)
    modes: dict[str, ResourceUse] = {}
    for use in uses:
        if use.mode == "exclusive" or use.name not in modes:
            modes[use.name] = use
    return tuple(modes[name] for name in sorted(modes))
