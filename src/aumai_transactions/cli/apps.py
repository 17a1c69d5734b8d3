"""Which Python handlers `--app module:attribute` names.

Owns: importing a user's module, and saying what is wrong when that fails.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from aumai_transactions.actions import Action, plain_actions
from aumai_transactions.cli.exits import Code, Refused
from aumai_transactions.drivers.manager import ManagerBase
from aumai_transactions.drivers.telemetry import Telemetry
from aumai_transactions.engine import Engine

_WANTED = "a TransactionManager, or a mapping of action names to functions"


@dataclass(frozen=True, slots=True)
class App:
    """Hold what an app brings.

    Args:
        actions: Its actions.
        before_record: Its hook that cleans data before it is journaled.
        has_durable_store: True where it is a manager with a store of its own.
        engine: What its manager lets its transactions be carried out by.
        telemetry: What watches it.
    """

    actions: tuple[Action, ...] = ()
    before_record: Callable[..., Any] | None = None
    has_durable_store: bool = False
    engine: Engine | None = None
    telemetry: Telemetry | None = None


def load_app(name: str) -> App:
    """Import a module, from the current folder too, and return the handlers that it holds.

    Raises:
        Refused: The name has another form, the module cannot be imported, or the attribute is
            something else.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise Refused(f"--app {name}: write it as module:attribute, such as trip:manager.", _USAGE)
    found = _attribute_of(_imported(name, module_name), name, attribute)
    if isinstance(found, ManagerBase):
        hook, is_durable = found.before_record, found.has_durable_store
        return App(tuple(found.actions), hook, is_durable, found.engine, found.telemetry)
    if isinstance(found, Mapping):
        return App(tuple(plain_actions(found)))
    raise Refused(f"--app {name}: that is of type {type(found).__name__}, not {_WANTED}.", _USAGE)


_USAGE = Code.usage


def _imported(name: str, module_name: str) -> object:
    try:
        folder = os.getcwd()  # noqa: PTH109 (as `python -m` puts it into sys.path)
    except OSError:
        folder = ""  # It was removed; Python knows "" for the current folder.
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return import_module(module_name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever a user's module raises)
        is_absent = isinstance(error, ModuleNotFoundError) and error.name == module_name
        if is_absent:
            why = f"there is no module {module_name!r}, neither in {folder} nor installed."
        else:
            why = f"{_place_of(error)}{type(error).__name__}: {error}"
        raise Refused(f"--app {name} cannot be imported: {why}", _USAGE) from None


def _place_of(error: BaseException) -> str:
    """Return the line of the user's module that raised, where there is one."""
    if isinstance(error, SyntaxError):
        return ""  # Its own text names the line.
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith("<")]
    last = own[-1] if own else None
    if last is None or Path(last.filename) == Path(__file__):
        return ""
    return f"{last.filename}:{last.lineno}: "


def _attribute_of(module: object, name: str, attribute: str) -> object:
    found = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise Refused(
                f"--app {name}: there is no {part!r} in it; name {_WANTED}.", _USAGE
            ) from None
    return found
