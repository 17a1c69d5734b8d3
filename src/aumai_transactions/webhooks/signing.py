"""How a receiver knows that it is told by us, and that nothing of it was changed.

Owns: the headers of Standard Webhooks (https://www.standardwebhooks.com).
Rules:
  1. A secret is read when it is needed, and kept nowhere: a store holds its name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from aumai_transactions.credentials import SecretMissing, secret_of

_PREFIX = "whsec_"


def key_of(name: str) -> bytes:
    """Return the key to sign with, given a secret's name.

    Raises:
        SecretMissing: It is not there, is empty, or is no base64 behind `whsec_`.
    """
    text = secret_of(name).strip()
    key = text.encode()
    if text.startswith(_PREFIX):
        try:
            key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raise SecretMissing(name, "begins with whsec_, but no base64 follows") from None
    if not key:
        # Why: a signature with an empty key proves nothing to anybody.
        raise SecretMissing(name, "is empty")
    return key


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
