"""What looks like a secret, and how it is shown to people.

Owns: the names and values that are taken for secrets, and the paint over them.
Rules:
  1. Only what is shown is painted over. What is journaled stays as it is, for an undo may need it.
"""

from __future__ import annotations

import re
from typing import Any

PAINT = "•••"
MARK = "$secret"
"""The key under which a step's data names a secret; see `credentials`."""

SECRET_NAME = re.compile(
    r"pass(word|wd|phrase)|secret|token|authorization|api[-_]?key|private[-_]?key|cookie|credential",
    re.IGNORECASE,
)
# Source: the prefixes that these services document for their keys: OpenAI and Stripe (sk-, sk_),
# GitHub (ghp_, github_pat_), AWS (AKIA), Slack (xox?-); a JSON web token; a PEM private key.
SECRET_VALUE = re.compile(
    r"^(Bearer\s+\S{8,}|sk[-_]\S{16,}|gh[a-z]_\w{20,}|github_pat_\w{20,}|AKIA[0-9A-Z]{16}"
    r"|xox[a-z]-\S{10,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)$|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)


def masked(value: Any, key: str = "") -> Any:
    """Return a JSON value in which every text that looks like a secret is painted over.

    Args:
        value: The value; it is not changed.
        key: The key that it stands under.
    """
    if isinstance(value, dict):
        return {name: masked(item, str(name)) for name, item in value.items()}
    if isinstance(value, list):
        return [masked(item, key) for item in value]
    if not isinstance(value, str) or not value:
        return value
    is_named = key != MARK and SECRET_NAME.search(key) is not None
    return PAINT if is_named or SECRET_VALUE.search(value) else value
