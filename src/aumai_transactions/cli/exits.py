"""What a command's end means: exit codes, and how an error reads.

Owns: the one table from errors to exit codes, and the one from outcomes to exit codes.
"""

from __future__ import annotations

import traceback
from enum import IntEnum
from pathlib import Path

import click

from aumai_transactions import errors
from aumai_transactions.cli.screen import Screen
from aumai_transactions.models import TransactionResult, TransactionState
from aumai_transactions.wording.characters import shown, shown_lines


class Code(IntEnum):
    """Name the exit codes."""

    done = 0
    error = 1
    usage = 2
    rolled_back = 3
    attention = 4
    unfinished = 5
    not_found = 6
    conflict = 7
    interrupted = 130


class Refused(Exception):
    """Say that a command cannot do what was asked for.

    Args:
        message: What happened and what to do next.
        code: How the command ends.
    """

    def __init__(self, message: str, code: Code = Code.error) -> None:
        self.code = code
        super().__init__(message)


# The first class that fits decides, so a class stands above those that it inherits from.
ERRORS: tuple[tuple[type[BaseException], Code], ...] = (
    (errors.UnknownStep, Code.not_found),
    (errors.DefinitionError, Code.usage),
    (errors.NoActiveTransaction, Code.usage),
    (errors.InvalidData, Code.usage),
    (errors.TransactionNotFound, Code.not_found),
    (errors.StoreNotFound, Code.not_found),
    (errors.InvalidTransactionState, Code.conflict),
    (errors.UndoRefused, Code.conflict),
    (errors.JournalConflict, Code.conflict),
    (errors.TransactionExpired, Code.rolled_back),
    (errors.TransactionRolledBack, Code.rolled_back),
    (errors.StepUndone, Code.rolled_back),
    (errors.StepFailed, Code.rolled_back),
    (errors.LockTimeout, Code.rolled_back),
    (errors.StepInDoubt, Code.attention),
    (errors.TransactionNotFinal, Code.unfinished),
    (errors.ApprovalPending, Code.unfinished),
    (errors.TransactionError, Code.error),
)


PERSONAL = ("in_doubt", "halted", "committing", "poisoned", "restored")
"""For these reasons something waits until a person looks at it; an approval is only waited for."""


def code_of_error(error: BaseException) -> Code:
    """Return the exit code that an error stands for."""
    if isinstance(error, Refused):
        return error.code
    return next((code for kind, code in ERRORS if isinstance(error, kind)), Code.error)


def code_of(result: TransactionResult) -> Code:
    """Return the exit code of a command that wanted a commit; 4 wins over 3."""
    if needs_person(result):
        return Code.attention
    if not result.is_final:
        return Code.unfinished
    return Code.done if result.state is TransactionState.committed else Code.rolled_back


def needs_person(result: TransactionResult) -> bool:
    """Tell whether a person has to look at a transaction."""
    waits = result.waiting is not None and result.waiting.reason in PERSONAL
    return bool(result.outstanding) or waits


def tell_error(screen: Screen, error: BaseException) -> Code:
    """Write what went wrong, and return the exit code."""
    label = screen.styled("error:", "bad")
    if isinstance(error, (errors.TransactionError, Refused)):
        screen.say(f"{label} {shown_lines(error)}")
    elif isinstance(error, OSError):
        place = f": {shown(error.filename)}" if error.filename else ""
        screen.say(f"{label} {shown(error.strerror or error)}{place}")
    else:
        place = _place_of(error)
        screen.say(
            f"{label} bug in aumai-transactions: {type(error).__name__}: {shown_lines(error)}",
            f"  at {place}; please report it with this text. What the journal says is safe.",
        )
    return code_of_error(error)


def tell_usage_error(screen: Screen, error: click.ClickException) -> Code:
    """Write how a command was called wrongly, and return the exit code."""
    context = getattr(error, "ctx", None)
    if isinstance(context, click.Context):
        screen.say(shown_lines(context.get_usage()))
        if context.command.get_help_option(context) is not None:
            screen.say(screen.styled(f"Help: {context.command_path} --help", "dim"), "")
    label = screen.styled("error:", "bad")
    screen.say(f"{label} {shown_lines(error.format_message())}")
    return Code.usage if isinstance(error, click.UsageError) else Code.error


def _place_of(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "an unknown place"
    return shown(f"{Path(frames[-1].filename).name}:{frames[-1].lineno}")
