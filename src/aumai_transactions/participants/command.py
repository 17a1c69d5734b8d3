"""The action kind `command`: a program on this machine does it, is asked, and looks.

Owns: what may be declared about such an action, and what a program's end means for it.
Rules:
  1. The command line is a fixed list; there is no shell, and there are no references in it.
     Step data, and the action's output where it is asked for, go to standard input as JSON
     and nowhere else.
  2. Not started, or ended with another exit code than 0: not done. Killed by a signal or by
     the timeout: in doubt.
  3. A probe or a verification says "no" with exit code 3; every other end is no answer.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from aumai_transactions.actions import Handler, StepContext
from aumai_transactions.answers import Clean, Done, NotDone, Residue, Unknown
from aumai_transactions.errors import NotDelivered, OutcomeUnknown, StepRejected
from aumai_transactions.participants.definition import (
    ActionDefinition,
    EnvironmentValue,
    MissingVariable,
    Question,
    Seconds,
    Setting,
    VariableName,
    setting_text,
)
from aumai_transactions.participants.identity import STEP_VARIABLES, step_variables, trace_variables
from aumai_transactions.participants.messages import last_line, printable, without
from aumai_transactions.participants.process import Lost, Run, started, watched
from aumai_transactions.participants.template import UnfitValue, encoded_json, rejection

EXIT_DONE = 0
EXIT_NO = 3


def _checked_argv(argv: list[str]) -> list[str]:
    if not argv[0].strip():
        message = "begins with an empty text; the first item is the program"
        raise ValueError(message)
    if any("\0" in argument for argument in argv):
        message = "holds a NUL character"
        raise ValueError(message)
    return argv


def _checked_env(env: dict[str, Setting]) -> dict[str, Setting]:
    for name, setting in env.items():
        if name in STEP_VARIABLES:
            message = f"{name} is set by every call itself; remove it"
            raise ValueError(message)
        if "\0" in (setting if isinstance(setting, str) else setting.prefix):
            message = f"the value of {name} holds a NUL character"
            raise ValueError(message)
    return env


class ProgramTable(BaseModel):
    """Hold which program is run, and what it is given."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    argv: Annotated[list[str], Field(min_length=1), AfterValidator(_checked_argv)] = Field(
        description="The program and its arguments, one item each; never a shell, no references."
    )
    env: Annotated[dict[VariableName, Setting], AfterValidator(_checked_env)] = Field(
        default_factory=dict,
        description='Environment variables to add: text, or { env = "NAME" } for a secret.',
    )
    input: Literal["data", "full"] = Field(
        default="data",
        description='What stands on standard input: "data" is the step\'s data; "full" is an '
        "object with data, output and in_doubt.",
    )
    timeout_seconds: Seconds = Field(
        default=30.0, description="How long it may run before it is killed."
    )

    def lacking(self, folder: str | None) -> list[str]:
        """Return the variables and the program that are missing here."""
        found = []
        try:
            environment = {**os.environ, **_added(self)}
        except MissingVariable as error:
            found.append(f"env: {error}")
            environment = dict(os.environ)
        program = self.argv[0]
        if Path(program).name != program:
            program = str(Path(folder or "") / program)
        if shutil.which(program, path=environment.get("PATH")) is None:
            found.append(f"argv: the program {self.argv[0]!r} was not found, or cannot be executed")
        return found


class CommandProbe(ProgramTable, Question):
    """Hold the program that tells what became of a call."""


class CommandVerification(ProgramTable, Question):
    """Hold the program that looks whether an undo left anything."""


class CommandDefinition(ProgramTable, ActionDefinition):
    """Hold an action that a program carries out."""

    kind: Literal["command"] = Field(description="The action is a program on this machine.")
    cwd: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="The folder it runs in; by default the plan file's."
    )
    probe: CommandProbe | None = Field(
        default=None, description="The program that tells what became of it."
    )
    verify: CommandVerification | None = Field(
        default=None, description="The program that looks whether its undo left anything."
    )

    def located(self, folder: Path) -> CommandDefinition:
        """Return this definition with an absolute working folder."""
        return self.model_copy(update={"cwd": str(folder / (self.cwd or ""))})

    def tables(self) -> Iterator[tuple[str, ProgramTable]]:
        """Yield each program that it may run, with the beginning of the keys that hold it."""
        yield "", self
        if self.probe is not None:
            yield "probe.", self.probe
        if self.verify is not None:
            yield "verify.", self.verify

    def problems(self) -> list[str]:
        """Return the variables, the programs and the folder that are missing here."""
        found = []
        if self.cwd is not None and not Path(self.cwd).is_dir():
            found.append(f"cwd: {self.cwd} is not a folder")
        for place, table in self.tables():
            beginning = place.replace(".", ": ")
            found += [f"{beginning}{problem}" for problem in table.lacking(self.cwd)]
        return found

    def handler(self) -> Handler:
        """Return the function that runs the program."""
        return CommandCall(self, self.cwd)

    def prober(self) -> Handler | None:
        """Return the function that runs the program that is asked."""
        return None if self.probe is None else CommandProbeCall(self.probe, self.cwd)

    def verifier(self) -> Handler | None:
        """Return the function that runs the program that looks."""
        return None if self.verify is None else CommandVerifyCall(self.verify, self.cwd)


@dataclass(slots=True, frozen=True)
class CommandCall:
    """Carry an action out by running a program once."""

    table: ProgramTable
    folder: str | None

    def __call__(self, action: str, data: dict[str, Any], context: StepContext) -> Any:  # noqa: ARG002
        """Run the program and return its output.

        Raises:
            StepRejected: It is not done.
            NotDelivered: It is not done, for the program was not started.
            OutcomeUnknown: Nobody knows.
        """
        end = _ended(self.table, self.folder, data, context)
        if end.exit_code == EXIT_DONE:
            return end.output
        if end.exit_code < 0:
            raise OutcomeUnknown(end.told)
        raise StepRejected(end.told)


@dataclass(slots=True, frozen=True)
class CommandProbeCall:
    """Ask a program what became of a call."""

    table: ProgramTable
    folder: str | None

    def __call__(self, data: dict[str, Any], context: StepContext) -> Done | NotDone | Unknown:
        """Run the program and return what its end says about the call."""
        end = _asked(self.table, self.folder, data, context)
        if isinstance(end, Unknown):
            return end
        if end.exit_code == EXIT_DONE:
            return Done(end.output)
        return NotDone(end.told) if end.exit_code == EXIT_NO else Unknown(end.told)


@dataclass(slots=True, frozen=True)
class CommandVerifyCall:
    """Ask a program whether anything is left of what was undone."""

    table: ProgramTable
    folder: str | None

    def __call__(self, data: dict[str, Any], context: StepContext) -> Clean | Residue | Unknown:
        """Run the program and return what its end says is left."""
        end = _asked(self.table, self.folder, data, context)
        if isinstance(end, Unknown):
            return end
        if end.exit_code == EXIT_DONE:
            return Clean()
        return Residue(end.output) if end.exit_code == EXIT_NO else Unknown(end.told)


@dataclass(slots=True, frozen=True)
class _End:
    program: str
    run: Run
    secrets: list[str]

    @property
    def exit_code(self) -> int:
        return self.run.exit_code

    @property
    def output(self) -> Any:
        return _value(self.run.output)

    @property
    def told(self) -> str:
        """How it ended, and the last line of what it said; without secrets."""
        said = last_line(self.run.errors.decode("utf-8", "backslashreplace"))
        ending = without(f": {said}" if said else " and wrote nothing to stderr", self.secrets)
        if self.exit_code < 0:
            return f"{self.program} was killed by {_signal_name(-self.exit_code)}{ending}"
        return f"{self.program} ended with exit code {self.exit_code}{ending}"


def _asked(
    table: ProgramTable, folder: str | None, data: Mapping[str, Any], context: StepContext
) -> _End | Unknown:
    try:
        return _ended(table, folder, data, context)
    except (StepRejected, NotDelivered, OutcomeUnknown) as error:
        return Unknown(str(error))


def _ended(
    table: ProgramTable, folder: str | None, data: Mapping[str, Any], context: StepContext
) -> _End:
    """Run a program to its end.

    Why a missing variable is `NotDelivered`: an earlier attempt, of another process with another
    environment, may well have run.

    Raises:
        StepRejected: Its input cannot be written; no other attempt was made.
        NotDelivered: It was not started.
        OutcomeUnknown: It was started, and nobody knows what it did.
    """
    program = printable(table.argv[0], 100)
    try:
        body = encoded_json(_input(table, data, context))
    except UnfitValue as error:
        message = f"{program} was not started: {error}"
        raise rejection(context, message) from None
    try:
        added = _added(table)
        trace = trace_variables(context)
        environment = {**_inherited(), **trace, **added, **step_variables(context)}
        process = started(table.argv, folder, environment)
    except MissingVariable as error:
        message = f"{program} was not started: {error}"
        raise NotDelivered(message) from None
    except (OSError, ValueError) as error:
        message = f"{program} could not be started: {_why_not_started(folder, error)}"
        raise NotDelivered(message) from error
    secrets = [
        added[name].removeprefix(setting.prefix)
        for name, setting in table.env.items()
        if isinstance(setting, EnvironmentValue)
    ]
    try:
        return _End(program, watched(process, body, table.timeout_seconds), secrets)
    except Lost as error:
        message = f"nobody knows what {program} did: {error}"
        raise OutcomeUnknown(message) from error


def _input(table: ProgramTable, data: Mapping[str, Any], context: StepContext) -> object:
    if table.input == "data":
        return data
    return {"data": data, "output": context.output, "in_doubt": context.in_doubt}


def _added(table: ProgramTable) -> dict[str, str]:
    return {name: setting_text(setting) for name, setting in table.env.items()}


def _inherited() -> dict[str, str]:
    # Why not all: a command that runs a transaction itself must not hand on its own step.
    return {name: value for name, value in os.environ.items() if name not in STEP_VARIABLES}


def _why_not_started(folder: str | None, error: Exception) -> str:
    if folder is not None and not Path(folder).is_dir():
        return f"its folder {printable(folder, 200)} does not exist"
    return {
        "FileNotFoundError": "the program was not found",
        "PermissionError": "the program is not executable, or its folder may not be entered",
    }.get(type(error).__name__, printable(str(error)))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _value(output: bytes) -> Any:
    """Return what a program printed: JSON where it is JSON, else text without its line end."""
    if not output.strip():
        return None
    try:
        return json.loads(output, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return output.decode("utf-8", "backslashreplace").rstrip("\r\n")


def _refuse_constant(name: str) -> NoReturn:
    message = f"{name} is not JSON"
    raise ValueError(message)
