"""Where a long list goes on: cursors.

Owns: how a place in a list is written, and that it is only used for the list that it is of.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from aumai_transactions.core.values import canonical_json
from aumai_transactions.web.problems import Problem

DIGEST_BYTES = 9


def written(after: int, filters: object) -> str:
    """Return the cursor of what comes behind a place.

    Args:
        after: The place.
        filters: What is listed, as JSON.
    """
    text = f"{after}".encode()
    return base64.urlsafe_b64encode(_digest(after, filters) + text).decode().rstrip("=")


def read(cursor: str | None, filters: object) -> int | None:
    """Return the place that a cursor names; None for the beginning.

    Raises:
        Problem: It is none, or one of another list.
    """
    if cursor is None:
        return None
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        after = int(raw[DIGEST_BYTES:].decode("ascii"))
        if not 0 <= after < 2**63 or raw[:DIGEST_BYTES] != _digest(after, filters):
            raise ValueError  # noqa: TRY301 (told below, with the others)
    except (ValueError, binascii.Error):
        detail = "/cursor: It is the `next` of another list, or of none. Begin without a cursor."
        more = {"errors": [{"pointer": "/cursor", "detail": detail.partition(": ")[2]}]}
        raise Problem(422, "invalid-request", detail, more=more) from None
    return after


def _digest(after: int, filters: object) -> bytes:
    return hashlib.sha256(canonical_json([after, filters])).digest()[:DIGEST_BYTES]
