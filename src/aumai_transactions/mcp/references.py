"""Templates of arguments: JSON in which a whole text may refer to what a call was about.

Owns: their grammar, their check and how they are filled in.
Rules:
  1. `$args`, `$before` and `$result`, each with `.key`, `[0]` or `[*]` behind it, stand for what is
     there; every other text stands for itself, and `$$` at its beginning for one `$`.
  2. Nothing is put together from parts, and nothing is evaluated: what an agent says can fill a
     place, and never make one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

ROOTS = ("args", "before", "result")
_REFERENCE = re.compile(r"\$(?P<root>[a-z]+)(?P<path>(?:\.[^.\[\]$]+|\[(?:\d{1,6}|\*)\])*)")
_PART = re.compile(r"\.(?P<key>[^.\[\]$]+)|\[(?P<index>\d{1,6}|\*)\]")


class MissingReference(LookupError):
    """Say that there is nothing where a template refers to.

    Args:
        reference: What it says.
    """

    def __init__(self, reference: str) -> None:
        self.reference = reference
        super().__init__(f"there is nothing at {reference}")


def problems(template: Any, roots: Collection[str] = ROOTS) -> Iterator[str]:
    """Yield what is wrong with a template.

    Args:
        template: JSON.
        roots: What it may refer to.
    """
    for text in _texts(template):
        if not text.startswith("$") or text.startswith("$$"):
            continue
        found = _REFERENCE.fullmatch(text)
        if found is None:
            yield (
                f"{text!r} is no reference. It is like $args.path, $before.text or "
                "$result[*].name; $$ at the beginning stands for a $."
            )
        elif found["root"] not in roots:
            known = ", ".join(f"${root}" for root in roots)
            yield f"{text!r} refers to ${found['root']}, which is not known there: {known} are."


def fill(template: Any, about: Mapping[str, Any]) -> Any:
    """Return a template with its references filled in.

    Args:
        template: JSON; it was looked at with `problems`.
        about: What there is, by root.

    Raises:
        MissingReference: There is nothing where it refers to.
    """
    if isinstance(template, Mapping):
        return {key: fill(value, about) for key, value in template.items()}
    if isinstance(template, list):
        return [fill(value, about) for value in template]
    if not isinstance(template, str) or not template.startswith("$"):
        return template
    if template.startswith("$$"):
        return template[1:]
    found = _REFERENCE.fullmatch(template)
    if found is None or found["root"] not in about:
        raise MissingReference(template)
    return _at(about[found["root"]], list(_PART.finditer(found["path"])), template)


def _at(value: Any, path: list[re.Match[str]], reference: str) -> Any:
    for number, part in enumerate(path):
        key, index = part["key"], part["index"]
        if index == "*":
            if not isinstance(value, list):
                raise MissingReference(reference)
            return [_at(item, path[number + 1 :], reference) for item in value]
        try:
            if key is not None:
                value = value[key] if isinstance(value, Mapping) else None
                if value is None:
                    raise MissingReference(reference)
            else:
                value = value[int(index)] if isinstance(value, list) else _nothing(reference)
        except LookupError:
            raise MissingReference(reference) from None
    return value


def _nothing(reference: str) -> Any:
    raise MissingReference(reference)


def _texts(template: Any) -> Iterator[str]:
    if isinstance(template, str):
        yield template
    elif isinstance(template, Mapping):
        for value in template.values():
            yield from _texts(value)
    elif isinstance(template, (list, tuple)):
        for value in template:
            yield from _texts(value)
