"""What a resource is called.

Owns: the one form that a resource's name is kept in, so that the aliases of one thing are one lock.
Rules:
  1. Where it is not sure whether two names mean one thing, they are one name: that costs waiting,
     the other way round would cost isolation.
  2. The form of a form is that form again.
"""

from __future__ import annotations

import re
import unicodedata

from aumai_transactions.core.values import NAME_CHARACTERS_MAX, checked_name
from aumai_transactions.errors import InvalidData

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)://(?P<rest>.*)", re.DOTALL)
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_ESCAPED = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_DEFAULT_PORTS = {"http": "80", "ws": "80", "https": "443", "wss": "443"}
ROUNDS_MAX = 10
_PATHS = ("/", "\\", "./", "../", ".\\", "..\\", "~")


def canonical_resource(name: object) -> str:
    """Return the form in which a resource's name is kept.

    A URL loses what does not tell things apart: the case of its letters, a default port, `.` and
    `..`, doubled and trailing slashes, percent-encoding, a user and a fragment. A path, with or
    without `file:` before it, likewise; its backslashes are slashes. Of every other name, such as
    `account:42`, only what stands before the first colon loses its case.

    Raises:
        InvalidData: It is no text, is empty, or has more than 1,000 characters.
    """
    text = checked_name(name, "resource")
    # Why again: what is left, such as a kind in other letters, may be a URL or a path now.
    form = ""
    for _ in range(ROUNDS_MAX):
        form = _form(text)
        if form == text:
            break
        text = form
    if not text.strip(":") or form != text:
        raise InvalidData("resource", "must name something, such as 'account:42'.")
    if len(text) > NAME_CHARACTERS_MAX:
        raise InvalidData("resource", f"is longer than {NAME_CHARACTERS_MAX:,} characters.")
    return text


def _form(text: str) -> str:
    text = unicodedata.normalize("NFC", text).strip()
    found = _URL.fullmatch(text)
    if found is not None and found["scheme"].lower() != "file":
        form = _url(found["scheme"].lower(), found["rest"])
    elif found is not None:
        form = _path("/" + found["rest"])
    elif text[:5].lower() == "file:":
        form = _path(text[5:])
    elif text.startswith(_PATHS) or text == "." or _DRIVE.match(text):
        form = _path(text)
    else:
        kind, colon, rest = text.partition(":")
        form = f"{kind.strip().casefold()}{colon}{rest.strip()}" if colon else text
    return unicodedata.normalize("NFC", form).strip()


def _url(scheme: str, rest: str) -> str:
    rest = rest.partition("#")[0]
    before, mark, query = rest.partition("?")
    authority, slash, path = before.replace("\\", "/").partition("/")
    host = _decoded(authority.rpartition("@")[2]).casefold()
    port = _DEFAULT_PORTS.get(scheme)
    if port is not None:
        host = host.removesuffix(f":{port}")
    host = host.removesuffix(":").rstrip(".")
    place = "/" + _without_dots(_decoded(path)) if slash else "/"
    return f"{scheme}://{host}{place.casefold()}{mark}{_decoded(query).casefold()}"


def _path(path: str) -> str:
    path = _decoded(path).replace("\\", "/")
    if _DRIVE.match(path):
        path = "/" + path
    slash = "/" if path.startswith("/") else ""
    return f"file:{slash}{_without_dots(path, is_relative=not slash)}".casefold()


def _without_dots(path: str, *, is_relative: bool = False) -> str:
    """Return a path's segments without empty ones, `.` and `..`."""
    segments: list[str] = []
    for segment in path.replace("\\", "/").split("/"):
        if segment in ("", "."):
            continue
        if segment != "..":
            segments.append(segment)
        elif segments and segments[-1] != "..":
            segments.pop()
        elif is_relative:
            segments.append(segment)
    return "/".join(segments)


def _decoded(text: str) -> str:
    """Return text without percent-encoding, however often it was encoded."""
    while True:
        plain = _ESCAPED.sub(_unescaped, text)
        if plain == text:
            return text
        text = plain


def _unescaped(found: re.Match[str]) -> str:
    data = bytes.fromhex(found[0].replace("%", ""))
    try:
        plain = data.decode()
    except UnicodeDecodeError:
        return found[0].upper()
    # Why not these: no name may hold them, and no store keeps them.
    return plain if plain.isprintable() else found[0].upper()
