"""The action kind `python`: a function does it.

Owns: finding the functions that a plan file names: the action's, its probe's, its verification's.
Rules:
  1. Only the plan file names code; step data never does.
  2. The function is the handler: it may take the context, be async, and raise `StepRejected`,
     `NotDelivered`, `RetryLater` and `OutcomeUnknown` like every registered handler.
  3. A module of the same name from another folder is refused, never called by mistake.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

from pydantic import Field

from aumai_transactions.actions import Action, Handler
from aumai_transactions.errors import DefinitionError
from aumai_transactions.participants.definition import ActionDefinition, Question, Seconds

_DOTTED = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*"


Function = Annotated[str, Field(pattern=rf"^{_DOTTED}:[A-Za-z_][A-Za-z0-9_]*$")]
Folder = Annotated[str, Field(min_length=1)]


class PythonQuestion(Question):
    """Hold the function that is asked, or that looks."""

    call: Function = Field(
        description='Which function: "module:function"; called with the data, or data and context.'
    )
    path: Folder | None = Field(
        default=None,
        description="The folder that the module is imported from; by default the action's.",
    )

    def located(self, folder: Path, usual: str | None) -> PythonQuestion:
        """Return this question with an absolute folder."""
        return self.model_copy(update={"path": str(folder / (self.path or usual or ""))})


class PythonDefinition(ActionDefinition):
    """Hold an action that a Python function carries out."""

    kind: Literal["python"] = Field(description="The action is a Python function.")
    call: Function = Field(description='Which function: "module:function".')
    path: Folder | None = Field(
        default=None,
        description="The folder that the module is imported from; by default the plan file's.",
    )
    timeout_seconds: Seconds | None = Field(
        default=None,
        description="How long a call may take; then it is in doubt. By default there is no limit.",
    )
    abandon_after_seconds: Seconds | None = Field(
        default=None,
        description="How long the undo waits for a call that goes on after its timeout.",
    )
    probe: PythonQuestion | None = Field(
        default=None, description="The function that tells what became of it."
    )
    verify: PythonQuestion | None = Field(
        default=None, description="The function that looks whether its undo left anything."
    )

    def located(self, folder: Path) -> PythonDefinition:
        """Return this definition with absolute folders."""
        probe, verify = self.probe, self.verify
        return self.model_copy(
            update={
                "path": str(folder / (self.path or "")),
                "probe": probe.located(folder, self.path) if probe else None,
                "verify": verify.located(folder, self.path) if verify else None,
            }
        )

    def handler(self) -> Handler:
        """Import the function and return it.

        Raises:
            DefinitionError: The module or the function is not there, or importing it failed.
        """
        return _function(self.call, self.path)

    def prober(self) -> Handler | None:
        """Import the function that is asked and return it."""
        return _asked("probe", self.probe, self.path)

    def verifier(self) -> Handler | None:
        """Import the function that looks and return it."""
        return _asked("verify", self.verify, self.path)

    def action(self, name: str) -> Action:
        """Return the action itself, with limits that the driver keeps: nothing else can."""
        return replace(
            super().action(name),
            timeout_seconds=self.timeout_seconds,
            abandon_after_seconds=self.abandon_after_seconds,
        )


def _asked(key: str, question: PythonQuestion | None, usual: str | None) -> Handler | None:
    if question is None:
        return None
    try:
        return _function(question.call, question.path or usual)
    except DefinitionError as error:
        message = f"{key}: {error}"
        raise DefinitionError(message) from error


def _function(call: str, folder: str | None) -> Handler:
    module_name, _, function_name = call.partition(":")
    module = _imported(module_name, folder, call)
    function = getattr(module, function_name, None)
    if not callable(function):
        what = "has no function" if function is None else "has no function, but something else,"
        message = (
            f"call = {call!r}: module {module_name} ({_origin(module)}) {what} named "
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
