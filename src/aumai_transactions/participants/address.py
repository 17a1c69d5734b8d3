r"""Where a request goes: a URL with references, and the hosts that may be called at all.

Owns: the line between what an author wrote and what data may become part of.
Rules:
  1. Scheme, host and port are the author's text. References stand in the path and the query only.
  2. An inserted value is percent-encoded but for unreserved characters, and what a service might
     still take for structure is refused: `.` and `..` as a segment, and `/` and `\` in a
     segment, which many services decode before they look at the path.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Annotated
from urllib.parse import quote, unquote

from pydantic import AfterValidator, WithJsonSchema

from aumai_transactions.participants.exchange import URL_CHARACTERS_MAX, Target, parsed_url
from aumai_transactions.participants.messages import printable
from aumai_transactions.participants.template import (
    Placeholder,
    Text,
    UnfitValue,
    Values,
    parsed_text,
)

URL_PATTERN = r"^https?://[^@\s\\#{}/?]+([/?]([^\s\\#{}]|\{[^{}]+\}|\{\{|\}\})*)?$"
HOST_PATTERN = r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:[0-9]{1,5})?$"

_AUTHORITY = re.compile(r"[^/?#\\]*")
_PORT = re.compile(r":([0-9]+)$")


@dataclass(slots=True, frozen=True)
class Address:
    """Hold a URL that was taken apart once; only its path and its query change between calls."""

    base: Target
    segments: tuple[Text, ...]
    query: Text

    @property
    def placeholders(self) -> tuple[Placeholder, ...]:
        """The references in it, in order."""
        found = (text.placeholders for text in (*self.segments, self.query))
        return tuple(placeholder for each in found for placeholder in each)

    @property
    def shown(self) -> str:
        """The URL for people, with its references as they were written, and without its query."""
        path = "/".join(segment.shown for segment in self.segments)
        return f"{self.base.scheme}://{self.base.authority}{path}"

    def target(self, values: Values) -> Target:
        """Return where one call goes.

        Raises:
            UnfitValue: A reference leads to nothing, or to what cannot stand in a URL.
        """
        path = "/".join(_rendered_segment(segment, values) for segment in self.segments)
        query = self.query.rendered(values, _encoded)
        if len(path) + len(query) > URL_CHARACTERS_MAX:
            message = f"with its values the URL is longer than {URL_CHARACTERS_MAX:,} characters"
            raise UnfitValue(message)
        return replace(self.base, path=path or "/", query=query)


def parsed_address(url: str) -> Address:
    """Return a URL taken apart.

    Raises:
        ValueError: It is not a plain http or https URL, or a reference in it is wrong; the text
            says what to change.
    """
    head, separator, after = url.partition("://")
    authority = _AUTHORITY.match(after)
    length = authority.end() if authority and separator else 0
    if not separator and not url.startswith("{"):
        message = "must begin with http:// or https://"
        raise ValueError(message)
    if any(brace in head + after[:length] for brace in "{}"):
        message = (
            "has a brace before its path; scheme, host and port are fixed, and references stand "
            "in the path and the query only"
        )
        raise ValueError(message)
    path, question, query = _parts(after[length:])
    for text in (path, query):
        _check_places(text)
    literal = path.literal + question + query.literal
    base = parsed_url(f"{head}{separator}{after[:length]}{_escaped(literal)}")
    parts = (_escaped(part) if isinstance(part, str) else part for part in query.parts)
    return Address(base, _split(path), Text(tuple(parts)))


@dataclass(slots=True, frozen=True)
class AllowedHost:
    """Hold a host that may be called, on one port or on all."""

    host: str
    port: int | None

    def covers(self, target: Target) -> bool:
        """Tell whether a request to this target is allowed by it."""
        return _same(self.host, target.host) and self.port in (None, target.port)


def allowed_host(text: str) -> AllowedHost:
    """Return a host, with a port or without, such as `api.example.com` or `127.0.0.1:8101`.

    Raises:
        ValueError: It is anything else, a URL or a pattern for instance.
    """
    if not re.fullmatch(HOST_PATTERN, text):
        message = (
            f'"{printable(text, 100)}" is not a host; write "api.example.com", "127.0.0.1:8101" '
            'or "[::1]:8101", without scheme, path or *'
        )
        raise ValueError(message)
    target = parsed_url(f"http://{text}/")
    return AllowedHost(target.host, target.port if _PORT.search(text) else None)


def is_allowed(target: Target, hosts: Collection[str]) -> bool:
    """Tell whether one of these hosts covers a target."""
    return any(allowed_host(host).covers(target) for host in hosts)


def _checked_host(text: str) -> str:
    allowed_host(text)
    return text


Host = Annotated[
    str,
    AfterValidator(_checked_host),
    WithJsonSchema({"type": "string", "pattern": HOST_PATTERN}),
]
"""A host that an action may call."""


def _same(one: str, other: str) -> bool:
    return one.rstrip(".").lower() == other.rstrip(".").lower()


def _parts(tail: str) -> tuple[Text, str, Text]:
    """Return path and query, split at the first ? that is not inside a reference."""
    text = parsed_text(tail)
    before: list[str | Placeholder] = []
    for position, part in enumerate(text.parts):
        if isinstance(part, str) and "?" in part:
            path, _, query = part.partition("?")
            return Text((*before, path)), "?", Text((query, *text.parts[position + 1 :]))
        before.append(part)
    return text, "", Text(())


def _split(path: Text) -> tuple[Text, ...]:
    """Return the segments of a path."""
    segments: list[list[str | Placeholder]] = [[]]
    for part in path.parts:
        if isinstance(part, Placeholder):
            segments[-1].append(part)
            continue
        first, *others = _escaped(part).split("/")
        segments[-1].append(first)
        segments += [[other] for other in others]
    return tuple(Text(tuple(segment)) for segment in segments)


def _escaped(literal: str) -> str:
    # Why: a brace that is meant as it stands is no character of a URL.
    return literal.replace("{", "%7B").replace("}", "%7D")


def _check_places(text: Text) -> None:
    for placeholder in text.placeholders:
        if placeholder.root == "data" and not placeholder.path:
            message = "holds {data}, which is an object; name one of its fields, as {data.id}"
            raise ValueError(message)


def _rendered_segment(segment: Text, values: Values) -> str:
    rendered = segment.rendered(values, _encoded_segment)
    if segment.placeholders and unquote(rendered).partition(";")[0] in (".", ".."):
        names = ", ".join(placeholder.shown for placeholder in segment.placeholders)
        message = f'{names} makes a part of the path "." or "..", which means another folder'
        raise UnfitValue(message)
    return rendered


def _encoded_segment(placeholder: Placeholder, text: str) -> str:
    if not placeholder.is_ours and ("/" in text or "\\" in text):
        message = (
            f"{placeholder.shown} holds a / or a \\, which many services take for the end of a "
            "part of the path even when it is percent-encoded; send it in the query or in json"
        )
        raise UnfitValue(message)
    return _encoded(placeholder, text)


def _encoded(placeholder: Placeholder, text: str) -> str:
    if not text:
        message = f"{placeholder.shown} is empty, which would change what the URL means"
        raise UnfitValue(message)
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        message = f"{placeholder.shown} is not valid text"
        raise UnfitValue(message) from None
