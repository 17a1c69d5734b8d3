"""The action kind `python`: a function does it.

Owns: finding the function that a plan file names.
Rules:
  1. Only the plan file names code; step data never does.
  2. The function is the handler: it may take the context, be async, and raise `StepRejected`,
     `RetryLater` and `OutcomeUnknown` like every registered handler.
  3. A module of the same name from another folder is refused, never called by mistake.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

from pydantic import Field

from aumai_transactions.actions import Handler
from aumai_transactions.errors import DefinitionError
from aumai_transactions.participants.definition import ActionDefinition

_DOTTED = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*"


class PythonDefinition(ActionDefinition):
    """Hold an action that a Python function carries out."""

    kind: Literal["python"] = Field(description="The action is a Python function.")
    call: Annotated[str, Field(pattern=rf"^{_DOTTED}:[A-Za-z_][A-Za-z0-9_]*$")] = Field(
        description='Which function: "module:function".'
    )
    path: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="The folder that the module is imported from; by default the plan file's.",
    )

    def located(self, folder: Path) -> PythonDefinition:
        """Return this definition with an absolute folder."""
        return self.model_copy(update={"path": str(folder / (self.path or ""))})

    def handler(self) -> Handler:
        """Import the function and return it.

        Raises:
            DefinitionError: The module or the function is not there, or importing it failed.
        """
        module_name, _, function_name = self.call.partition(":")
        module = _imported(module_name, self.path, self.call)
        function = getattr(module, function_name, None)
        if not callable(function):
            what = "has no function" if function is None else "has no function, but something else,"
            message = (
                f"call = {self.call!r}: module {module_name} ({_origin(module)}) {what} named "
                f"{function_name!r}."
            )
            raise DefinitionError(message)
        handler: Handler = function
        return handler


def _imported(name: str, folder: str | None, call: str) -> ModuleType:
    if folder is not None and folder not in sys.path:
        if not Path(folder).is_dir():
            message = f"call = {call!r}: its path {folder} is not a folder."
            raise DefinitionError(message)
        # Why in front: what stands beside the plan wins over what happens to be installed.
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        where = f" from {folder}" if folder is not None else ""
        message = (
            f"call = {call!r}: module {name} cannot be imported{where}: "
            f"{type(error).__name__}: {error}"
        )
        raise DefinitionError(message) from error
    expected = _file_in(folder, name) if folder is not None else None
    found = getattr(module, "__file__", None)
    if expected is not None and found is not None and not _is_same_file(expected, Path(found)):
        message = (
            f"call = {call!r}: this process has already imported another module {name}, from "
            f"{found}; {expected} cannot be used beside it. Rename one, or use another process."
        )
        raise DefinitionError(message)
    return module


def _file_in(folder: str, name: str) -> Path | None:
    """Return the file that this folder has for a module, if it has one."""
    place = Path(folder, *name.split("."))
    for file in (place / "__init__.py", place.with_name(f"{place.name}.py")):
        if file.is_file():
            return file
    return None


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _origin(module: ModuleType) -> str:
    return str(getattr(module, "__file__", None) or "built in")
