"""Who may do what: tokens for programs, and their scopes.

Owns: the file of tokens, and how a token is recognised.
Rules:
  1. The file holds digests and no tokens: who reads it gets in nowhere.
  2. How long a comparison takes tells nothing about a token.
  3. A token is shown once, when it is made; it never stands in a URL, a log or the journal.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from aumai_transactions.core.values import checked_name
from aumai_transactions.errors import DefinitionError

Scope = Literal["read", "act", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
TOKEN_BYTES = 32
TOKEN_CHARACTERS_MAX = 256
"""A longer one is none of ours, and is not even hashed."""
NAME_CHARACTERS_MAX = 64


class Principal(NamedTuple):
    """Be who asks.

    Args:
        name: What the journal calls it.
        scopes: What it may do: `read` looks, `act` begins and carries out transactions of its own,
            `admin` decides what a person decides, in any transaction.
        tenant: It sees the transactions of this tenant only, and what it begins is this tenant's;
            None for all.
        is_person: True for somebody in front of a page.
    """

    name: str
    scopes: frozenset[Scope]
    tenant: str | None = None
    is_person: bool = False


def scopes_up_to(scope: Scope) -> frozenset[Scope]:
    """Return a scope and those below it: who may act may look."""
    return frozenset(SCOPES[: SCOPES.index(scope) + 1])


class Tokens:
    """Keep the tokens of a store's users in a file that only its owner can read.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._known: dict[str, tuple[bytes, Principal]] = {}

    def add(self, name: str, scope: Scope, tenant: str | None = None) -> str:
        """Make a token, and return it; it cannot be shown again.

        Raises:
            DefinitionError: The name is taken, or cannot be one; the file is not to be trusted.
        """
        checked_name(name, "name")
        if len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
            raise DefinitionError(f"a token's name has 1 to {NAME_CHARACTERS_MAX} visible letters.")
        known = self.read()
        if name in known:
            raise DefinitionError(f"there is a token {name!r} already. Remove it first.")
        token = secrets.token_urlsafe(TOKEN_BYTES)
        known[name] = (_digest(token.encode()), Principal(name, scopes_up_to(scope), tenant))
        self._write(known)
        return token

    def remove(self, name: str) -> None:
        """Take a token away; a server that runs refuses it from its next request on.

        Raises:
            DefinitionError: There is none of this name.
        """
        known = self.read()
        if name not in known:
            raise DefinitionError(f"there is no token {name!r}. See them with: tokens list")
        del known[name]
        self._write(known)

    def read(self) -> dict[str, tuple[bytes, Principal]]:
        """Return the digest and the principal of each token by its name.

        Raises:
            DefinitionError: The file cannot be read, is no such file, or others can read it.
        """
        try:
            with self.path.open("rb") as file:
                found = os.fstat(file.fileno())
                if os.name == "posix" and stat.S_IMODE(found.st_mode) & 0o077:
                    message = f"{self.path} can be read by others. Run: chmod 600 {self.path}"
                    raise DefinitionError(message)
                return _parsed(file.read(), self.path)
        except FileNotFoundError:
            return {}
        except OSError as error:
            message = f"{self.path} cannot be read: {error.strerror}."
            raise DefinitionError(message) from error

    def principal_of(self, token: bytes) -> Principal | None:
        """Return whose token this is; None where it is nobody's."""
        if not 1 <= len(token) <= TOKEN_CHARACTERS_MAX:
            return None
        self._look_again()
        digest = _digest(token)
        found = None
        # Why all of them: how long it takes must not tell which one it was.
        for known, principal in self._known.values():
            if hmac.compare_digest(known, digest):
                found = principal
        return found

    def _look_again(self) -> None:
        """Read the file anew where it has changed."""
        try:
            found = self.path.stat()
        except OSError:
            self._known, self._seen = {}, None
            return
        seen = (found.st_mtime_ns, found.st_ino, found.st_size)
        if seen != self._seen:
            self._known, self._seen = self.read(), seen

    def _write(self, known: dict[str, tuple[bytes, Principal]]) -> None:
        items = [
            {
                "name": name,
                "scope": max(principal.scopes, key=SCOPES.index),
                "tenant": principal.tenant,
                "sha256": digest.hex(),
            }
            for name, (digest, principal) in known.items()
        ]
        text = json.dumps({"tokens": items}, indent=2) + "\n"
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        try:
            made = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(made, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
        except OSError as error:
            with suppress(OSError):
                beside.unlink()
            message = f"{self.path} cannot be written: {error.strerror}."
            raise DefinitionError(message) from error


def _digest(token: bytes) -> bytes:
    # Why no slow hash: a token has 256 random bits, and is not to be guessed however fast.
    return hashlib.sha256(token).digest()


def _parsed(text: bytes, path: Path) -> dict[str, tuple[bytes, Principal]]:
    try:
        found = {}
        for item in json.loads(text)["tokens"]:
            digest, scope, tenant = bytes.fromhex(item["sha256"]), item["scope"], item["tenant"]
            if len(digest) != 32 or not isinstance(tenant, str | None):
                raise ValueError  # noqa: TRY301 (told below, with the others)
            principal = Principal(str(item["name"]), scopes_up_to(scope), tenant)
            found[principal.name] = (digest, principal)
        return found
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{path} is no file of tokens. Move it away, and make the tokens anew."
        raise DefinitionError(message) from error
