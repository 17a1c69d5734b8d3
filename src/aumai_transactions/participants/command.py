"""The action kind `command`: a program on this machine does it.

Owns: how the program is started, watched and ended, and what its end means.
Rules:
  1. The command line is a fixed list; there is no shell. Step data goes to standard input as
     JSON and nowhere else.
  2. Not started, or ended with another exit code than 0: not done. Killed by a signal or by
     the timeout: in doubt.
  3. The program runs in a session of its own, so a Ctrl-C at the terminal reaches the driver
     and not the program: what is being undone is not interrupted half-way. When the
     driver gives up on it, everything in its process group is killed.
  4. Its output is always read to the end, so that no full pipe stops it, and kept up to a limit.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, Literal, NoReturn

from pydantic import AfterValidator, Field

from aumai_transactions.actions import Handler, StepContext
from aumai_transactions.core.definition import idempotency_key
from aumai_transactions.core.values import VALUE_BYTES_MAX, canonical_json
from aumai_transactions.errors import OutcomeUnknown, StepRejected
from aumai_transactions.participants.definition import (
    ActionDefinition,
    EnvironmentValue,
    MissingVariable,
    Seconds,
    Setting,
    VariableName,
    setting_text,
)
from aumai_transactions.participants.messages import last_line, printable, without

# Why one more than a value may have: what is larger is seen to be, and becomes a warning in
# the result instead of being cut off in silence.
OUTPUT_BYTES_MAX = VALUE_BYTES_MAX + 1
ERROR_BYTES_MAX = 65_536
CHUNK_BYTES = 65_536

# How long to wait for the end of the output once the program itself has ended: something
# that it left running in the background may hold the pipe open for ever.
LEFTOVER_SECONDS_MAX = 1.0
KILLED_SECONDS_MAX = 5.0

_STEP_VARIABLES = (
    "AUMAI_TRANSACTION",
    "AUMAI_STEP",
    "AUMAI_OPERATION",
    "AUMAI_ATTEMPT",
    "AUMAI_TOKEN",
    "AUMAI_IDEMPOTENCY_KEY",
    "AUMAI_COMPENSATES",
)


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
        if name in _STEP_VARIABLES:
            message = f"{name} is set by every call itself; remove it"
            raise ValueError(message)
        if "\0" in (setting if isinstance(setting, str) else setting.prefix):
            message = f"the value of {name} holds a NUL character"
            raise ValueError(message)
    return env


class CommandDefinition(ActionDefinition):
    """Hold an action that a program carries out."""

    kind: Literal["command"] = Field(description="The action is a program on this machine.")
    argv: Annotated[list[str], Field(min_length=1), AfterValidator(_checked_argv)] = Field(
        description="The program and its arguments, one item each; never a shell."
    )
    cwd: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="The folder it runs in; by default the plan file's."
    )
    env: Annotated[dict[VariableName, Setting], AfterValidator(_checked_env)] = Field(
        default_factory=dict,
        description='Environment variables to add: text, or { env = "NAME" } for a secret.',
    )
    timeout_seconds: Seconds = Field(
        default=30.0, description="How long it may run before it is killed."
    )

    def located(self, folder: Path) -> CommandDefinition:
        """Return this definition with an absolute working folder."""
        return self.model_copy(update={"cwd": str(folder / (self.cwd or ""))})

    def problems(self) -> list[str]:
        """Return the variables, the program and the folder that are missing here."""
        found = []
        try:
            environment = {**os.environ, **_added(self)}
        except MissingVariable as error:
            found.append(f"env: {error}")
            environment = dict(os.environ)
        if self.cwd is not None and not Path(self.cwd).is_dir():
            found.append(f"cwd: {self.cwd} is not a folder")
        program = self.argv[0]
        if Path(program).name != program:
            program = str(Path(self.cwd or "") / program)
        if shutil.which(program, path=environment.get("PATH")) is None:
            found.append(f"argv: the program {self.argv[0]!r} was not found, or cannot be executed")
        return found

    def handler(self) -> Handler:
        """Return the function that runs the program."""
        return CommandCall(self)


@dataclass(slots=True, frozen=True)
class CommandCall:
    """Carry an action out by running a program once."""

    definition: CommandDefinition

    def __call__(self, action: str, data: dict[str, Any], context: StepContext) -> Any:  # noqa: ARG002
        """Run the program and return its output.

        Raises:
            StepRejected: It is not done.
            OutcomeUnknown: Nobody knows.
        """
        definition = self.definition
        program = printable(definition.argv[0], 100)
        try:
            added = _added(definition)
            process = _started(definition, {**_inherited(), **added, **step_variables(context)})
        except MissingVariable as error:
            message = f"{program} was not started: {error}"
            raise StepRejected(message) from None
        except OSError as error:
            message = f"{program} could not be started: {_why_not_started(definition, error)}"
            raise StepRejected(message) from error
        secrets = [
            added[name].removeprefix(setting.prefix)
            for name, setting in definition.env.items()
            if isinstance(setting, EnvironmentValue)
        ]
        run = _watched(process, program, canonical_json(data), definition.timeout_seconds)
        if run.exit_code == 0:
            return _value(run.output)
        told = last_line(run.errors.decode("utf-8", "backslashreplace"))
        ending = without(f": {told}" if told else " and wrote nothing to stderr", secrets)
        if run.exit_code < 0:
            message = f"{program} was killed by {_signal_name(-run.exit_code)}{ending}"
            raise OutcomeUnknown(message)
        message = f"{program} ended with exit code {run.exit_code}{ending}"
        raise StepRejected(message)


def step_variables(context: StepContext) -> dict[str, str]:
    """Return the environment variables that tell a program which call this is."""
    variables = {
        "AUMAI_TRANSACTION": context.transaction_id,
        "AUMAI_STEP": context.step_id,
        "AUMAI_OPERATION": context.operation,
        "AUMAI_ATTEMPT": str(context.attempt),
        "AUMAI_TOKEN": str(context.token),
        "AUMAI_IDEMPOTENCY_KEY": context.idempotency_key,
    }
    if context.operation == "compensation":
        variables["AUMAI_COMPENSATES"] = idempotency_key(
            context.transaction_id, context.step_id, "action"
        )
    return variables


@dataclass(slots=True, frozen=True)
class _Run:
    exit_code: int
    output: bytes
    errors: bytes


class _Reader(threading.Thread):
    """Read a pipe to its end and keep the first, or the last, bytes of it."""

    def __init__(self, pipe: IO[bytes], *, first_max: int = 0, last_max: int = 0) -> None:
        super().__init__(name="aumai-command-output", daemon=True)
        self._pipe = pipe
        self._first_max = first_max
        self._last_max = last_max
        self.kept = bytearray()

    def run(self) -> None:
        with self._pipe:
            while chunk := self._pipe.read(CHUNK_BYTES):
                if self._last_max:
                    self.kept = (self.kept + chunk)[-self._last_max :]
                else:
                    self.kept += chunk[: self._first_max - len(self.kept)]


def _added(definition: CommandDefinition) -> dict[str, str]:
    return {name: setting_text(setting) for name, setting in definition.env.items()}


def _inherited() -> dict[str, str]:
    # Why not all: a command that runs a transaction itself must not hand on its own step.
    return {name: value for name, value in os.environ.items() if name not in _STEP_VARIABLES}


def _started(definition: CommandDefinition, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        definition.argv,
        bufsize=0,
        cwd=definition.cwd,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _why_not_started(definition: CommandDefinition, error: OSError) -> str:
    if definition.cwd is not None and not Path(definition.cwd).is_dir():
        return f"its folder {printable(definition.cwd, 200)} does not exist"
    return {
        "FileNotFoundError": "the program was not found",
        "PermissionError": "the program is not executable, or its folder may not be entered",
    }.get(type(error).__name__, printable(str(error)))


def _watched(
    process: subprocess.Popen[bytes], program: str, body: bytes, timeout_seconds: float
) -> _Run:
    """Feed a started program, wait for its end and return it.

    Raises:
        OutcomeUnknown: It was still running at the timeout, or watching it failed; it is dead.
    """
    deadline = time.monotonic() + timeout_seconds
    unwatched = [pipe for pipe in (process.stdout, process.stderr, process.stdin) if pipe]
    watching: list[threading.Thread] = []
    try:
        output = _Reader(unwatched[0], first_max=OUTPUT_BYTES_MAX)
        errors = _Reader(unwatched[1], last_max=ERROR_BYTES_MAX)
        writer = threading.Thread(
            target=_feed, args=(unwatched[2], body), name="aumai-command-input", daemon=True
        )
        for thread in (output, errors, writer):
            # Order matters: from here on the thread closes it, also where an interrupt comes
            # before the next line.
            pipe = unwatched.pop(0)
            try:
                thread.start()
            except RuntimeError:
                pipe.close()
                raise
            watching.append(thread)
        exit_code = process.wait(max(deadline - time.monotonic(), 0))
        _await_end((output, errors))
        return _Run(exit_code, bytes(output.kept), bytes(errors.kept))
    except subprocess.TimeoutExpired:
        _kill(process, watching)
        _lost(program, f"it had not ended after {timeout_seconds:g} s, and was killed")
    except Exception as error:
        # Why: the program ran; a fault in watching it is no "not done".
        _kill(process, watching)
        message = f"{program} was started, and then lost: {error!r:.200}"
        raise OutcomeUnknown(message) from error
    except BaseException:
        _kill(process, watching)
        raise
    finally:
        for pipe in unwatched:
            pipe.close()


def _lost(program: str, why: str) -> NoReturn:
    message = f"nobody knows what {program} did: {why}"
    raise OutcomeUnknown(message) from None


def _feed(pipe: IO[bytes], body: bytes) -> None:
    left = memoryview(body)
    try:
        with pipe:
            while left:
                left = left[pipe.write(left) :]
    except (BrokenPipeError, ConnectionResetError, OSError):
        return  # Why no error: a program need not read its input; its exit code says the rest.


def _await_end(threads: Sequence[threading.Thread]) -> None:
    until = time.monotonic() + LEFTOVER_SECONDS_MAX
    for thread in threads:
        thread.join(max(until - time.monotonic(), 0))


def _kill(process: subprocess.Popen[bytes], watching: Sequence[threading.Thread]) -> None:
    """Kill the whole group, and wait until its pipes are closed: nothing of it runs then."""
    # Why poll first: the number of a process that was waited for may belong to another by now.
    if process.poll() is not None:
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (AttributeError, ProcessLookupError, PermissionError):
        process.kill()
    try:
        process.wait(KILLED_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        return  # Why no error: it is stuck in the kernel; the outcome is unknown either way.
    _await_end(watching)


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
