"""Text that somebody else has written, made fit to stand among ours.

Owns: cleaning and shortening it. Whoever shows it says whose it is.
Source: RELIABILITY M5: control and direction characters are what hides an instruction in a text.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Any

CHARACTERS_MAX = 2_000
_KEPT = frozenset("\n\t")


def cleaned(text: str, characters_max: int = CHARACTERS_MAX) -> str:
    """Return a text without control and direction characters, and no longer than that."""
    kept = "".join(
        one
        for one in text[: characters_max * 2]
        if one in _KEPT or unicodedata.category(one) not in ("Cc", "Cf", "Cs", "Co", "Cn")
    )
    return kept if len(kept) <= characters_max else kept[:characters_max] + "…"


def cleaned_json(value: Any, characters_max: int = 500) -> str:
    """Return a JSON value as one short, clean line."""
    return cleaned(json.dumps(value, ensure_ascii=False, sort_keys=True), characters_max)


def cleaned_tables(value: Any) -> Any:
    """Return a JSON value with every text in it cleaned, and none cut by much."""
    if isinstance(value, str):
        return cleaned(value, 20_000)
    if isinstance(value, list):
        return [cleaned_tables(item) for item in value]
    if isinstance(value, dict):
        return {cleaned(str(key), 1_000): cleaned_tables(item) for key, item in value.items()}
    return value
