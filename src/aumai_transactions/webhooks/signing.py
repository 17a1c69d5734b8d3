"""How a receiver knows that it is told by us, and that nothing of it was changed.

Owns: the headers of Standard Webhooks (https://www.standardwebhooks.com), and where a secret is.
Rules:
  1. A secret is read when it is needed, and kept nowhere: a store holds where it is found.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from pathlib import Path

from aumai_transactions.errors import DefinitionError

SECRET_BYTES_MAX = 4_096
_PREFIX = "whsec_"


class SecretMissing(Exception):
    """Say that a secret is not where it should be; the text names the place."""


def check_reference(reference: str) -> None:
    """Refuse what does not say where a secret is found.

    Raises:
        DefinitionError: It is something else, such as the secret itself; it is not shown.
    """
    kind, separator, place = reference.partition(":")
    if kind not in ("env", "file") or not separator or not place.strip():
        message = (
            "a webhook's secret is kept outside of the store: write env:NAME for an environment "
            "variable, or file:PATH for a file."
        )
        raise DefinitionError(message)


def secret_of(reference: str) -> bytes:
    """Return the secret that a reference leads to, as the key to sign with.

    Raises:
        SecretMissing: It is not there, is empty, or is no base64 behind `whsec_`.
    """
    kind, _, place = reference.partition(":")
    text = (os.environ.get(place, "") if kind == "env" else _file(place)).strip()
    if not text:
        message = f"the secret {reference} is not set where this process runs"
        raise SecretMissing(message)
    if not text.startswith(_PREFIX):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        message = f"the secret {reference} begins with whsec_, but no base64 follows"
        raise SecretMissing(message) from None


def _file(place: str) -> str:
    try:
        with Path(place).open("rb") as file:
            return file.read(SECRET_BYTES_MAX).decode()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is not text"
        message = f"the secret file:{place} cannot be read ({reason})"
        raise SecretMissing(message) from None


def signed_headers(delivery_id: str, seconds: int, body: bytes, key: bytes) -> dict[str, str]:
    """Return the headers by which a receiver checks a delivery.

    Args:
        delivery_id: Its name.
        seconds: When it is sent, seconds since 1970 UTC.
        body: The very bytes that are sent.
        key: The secret.
    """
    content = b".".join((delivery_id.encode(), str(seconds).encode(), body))
    digest = hmac.new(key, content, hashlib.sha256).digest()
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
