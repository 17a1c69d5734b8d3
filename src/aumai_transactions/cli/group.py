"""The tree of commands, and the frame around each of them.

Owns: which commands there are, how help groups them, and that every command ends with an exit
code and never with a traceback.
Rules:
  1. A command's module is loaded when the command is run or listed.
"""

from __future__ import annotations

import difflib
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from aumai_transactions import __version__
from aumai_transactions.cli.exits import Code, tell_error, tell_usage_error
from aumai_transactions.cli.screen import Screen, occupy_standard_descriptors
from aumai_transactions.cli.settings import (
    PROGRAM,
    Settings,
    app_option,
    json_option,
    quiet_option,
    store_option,
)
from aumai_transactions.stores import STORE_VARIABLE
from aumai_transactions.wording.characters import shown

SECTIONS: dict[str, dict[str, str]] = {
    "Start": {
        "demo": "demonstrate",
        "run": "run",
        "submit": "submit",
        "worker": "worker",
        "mcp": "gateway",
        "serve": "serve",
        "check": "check",
        "create": "start",
        "add-step": "start",
        "commit": "run",
        "rollback": "run",
        "wait": "run",
    },
    "Look": {
        "list": "look",
        "show": "look",
        "status": "look",
        "watch": "watch",
        "locks": "locks",
    },
    "Needs a person": {
        "outstanding": "person",
        "approve": "approval",
        "deny": "approval",
        "recover": "recover",
        "retry": "person",
        "resolve": "person",
    },
    "Keep": {
        "verify": "keep",
        "witness": "backup",
        "backup": "backup",
        "restore": "backup",
        "doctor": "keep",
        "purge": "purge",
        "tokens": "tokens",
        "webhooks": "webhooks",
        "completion": "completion",
    },
}
_MODULES = {name: module for section in SECTIONS.values() for name, module in section.items()}


class CommandLine(click.Group):
    """Load commands when they are needed, and catch what they raise."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of all commands, in the order of help."""
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return the command of this name."""
        module = _MODULES.get(cmd_name)
        if module is None:
            return None
        loaded = import_module(f"aumai_transactions.cli.commands.{module}")
        command: click.Command = getattr(loaded, cmd_name.replace("-", "_") + "_command")
        # Why: in a docstring that is raw, as one with a backslash must be, click's mark for lines
        # that stay as they are is two characters.
        command.help = (command.help or "").replace("\\b\n", "\b\n")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first word names."""
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None:
            near = difflib.get_close_matches(name, _MODULES, 1, 0.5)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"there is no command {name!r}.{hint}", ctx)
        return name, command, args[1:]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by section."""
        for title, names in SECTIONS.items():
            rows = []
            for name in names:
                command = self.get_command(ctx, name)
                if command is not None and not command.hidden:
                    rows.append((name, command.get_short_help_str(100)))
            with formatter.section(title):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it raises is told, and becomes an exit code."""
        settings = ctx.ensure_object(Settings)
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, SystemExit):
            raise
        except (KeyboardInterrupt, click.Abort):
            settings.err.say("interrupted")
            return Code.interrupted
        except BrokenPipeError:  # click wrote help, and nobody reads it.
            settings.out.abandon()
            return Code.done
        except Exception as error:  # noqa: BLE001 (the last frame: told, never dropped)
            return tell_error(settings.err, error)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT002 (click's own signature)
        **extra: Any,
    ) -> Any:
        """Parse, run, and leave with the exit code."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        occupy_standard_descriptors()
        err = Screen.of(sys.stderr)
        settings = Settings(out=Screen.of(sys.stdout), err=err)
        extra.setdefault("obj", settings)
        try:
            with _told_threads(err):
                code = super().main(
                    args, prog_name or PROGRAM, complete_var, standalone_mode=False, **extra
                )
        except click.ClickException as error:
            code = tell_usage_error(err, error)
        except (click.Abort, KeyboardInterrupt):
            err.say("interrupted")
            code = Code.interrupted
        except SystemExit:  # click's own answer to a closed pipe.
            settings.out.abandon()
            code = Code.done
        except Exception as error:  # noqa: BLE001 (the last frame: told, never dropped)
            code = tell_error(err, error)
        sys.exit(_final_code(settings, code))


@contextmanager
def _told_threads(err: Screen) -> Iterator[None]:
    """Tell in one line what a thread raises that nobody waits for."""

    def tell(raised: threading.ExceptHookArgs) -> None:
        if raised.exc_value is not None:
            name = raised.thread.name if raised.thread is not None else "a thread"
            kind = raised.exc_type.__name__
            err.say(f"note: {shown(name)} ended early: {kind}: {shown(raised.exc_value)}")

    before, threading.excepthook = threading.excepthook, tell
    try:
        yield
    finally:
        threading.excepthook = before


def _final_code(settings: Settings, code: Any) -> int:
    problem = settings.out.problem
    if problem:
        settings.err.say(f"error: the result could not be written: {shown(problem)}")
    number = int(code) if isinstance(code, int) else 0
    return number or (Code.error if problem else 0)


@click.group(
    cls=CommandLine,
    invoke_without_command=True,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
    epilog=f"Exit codes: 0 done, 1 error, 2 usage, 3 rolled back or failed, 4 needs a person, "
    f"5 unfinished, 6 not found, 7 conflict, 130 interrupted. The environment variable "
    f"{STORE_VARIABLE} names the store.",
)
@store_option(envvar=STORE_VARIABLE)
@app_option()
@json_option()
@quiet_option()
@click.version_option(__version__, prog_name=PROGRAM)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Transactions for multi-agent operations: all of it happens, or all of it is undone."""
    if ctx.invoked_subcommand is None:
        ctx.ensure_object(Settings).out.write(ctx.get_help() + "\n")
        ctx.exit(Code.usage)
