"""Other durable engines that carry transactions out, one file each.

Owns: nothing but how an engine is found by its name. An engine's own package is imported by its
own file, and only there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from aumai_transactions.errors import EngineError

if TYPE_CHECKING:
    from aumai_transactions.engine import Engine

NAMES = ("dbos",)


def engine_of(name: str, url: str) -> Engine:
    """Return an engine by its name.

    Args:
        name: One of `NAMES`.
        url: Where it keeps what it knows.

    Raises:
        EngineError: There is none of this name, or its package is not installed.
    """
    if name not in NAMES:
        raise EngineError(f"there is no engine {name!r}; there are: {', '.join(NAMES)}.")
    try:
        module = import_module(f"aumai_transactions.engines.{name}")
    except ImportError as error:
        raise EngineError(
            f"the engine {name} needs its package ({error}). "
            f"Run: pip install 'aumai-transactions[{name}]'"
        ) from error
    engine: Engine = module.engine_at(url)
    return engine
