"""How a command that runs for long writes its log.

Owns: the options `--log-format` and `--log-level`, and the one handler behind them.
Rules:
  1. Log lines go to standard error. With `json` every line there is one JSON object, those for
     people included.
  2. Text from outside is escaped in both formats.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Self, TypeVar

import click

from aumai_transactions.cli.screen import Screen
from aumai_transactions.cli.settings import Settings
from aumai_transactions.telemetry.logs import JsonLogFormatter, journal_log
from aumai_transactions.wording.characters import shown

F = TypeVar("F", bound=Callable[..., Any])
LogFormat = Literal["text", "json"]

LEVELS = ("debug", "info", "warning", "error")
LIBRARY = "aumai_transactions"


def log_options() -> Callable[[F], F]:
    """Add `--log-format` and `--log-level`, which `Log` makes sense of."""

    def add(function: F) -> F:
        by_format = click.option(
            "--log-format",
            type=click.Choice(("text", "json")),
            default="text",
            show_default=True,
            help="How lines on standard error are written: for people, or one JSON object each.",
        )
        by_level = click.option(
            "--log-level",
            type=click.Choice(LEVELS),
            help="The least that is logged; default info, with --quiet warning. debug tells every "
            "journal entry.",
        )
        return by_format(by_level(function))

    return add


class _TextFormatter(logging.Formatter):
    """Write a record for people, escaped, in one line; only a traceback has more."""

    def __init__(self, beginning: str) -> None:
        super().__init__()
        self._beginning = beginning

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        beginning = self._beginning or f"{datetime.now(UTC).strftime('%H:%M:%S')}  "
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        text = f"{beginning}{level}{shown(record.getMessage())}"
        if not record.exc_info:
            return text
        told = self.formatException(record.exc_info).split("\n")
        return "\n".join([text, *(shown(line) for line in told)])


@dataclass(slots=True)
class _Lines(Screen):
    """Take what a command says to people, and write each line as a record.

    Why by its own handler: an error is told when the log's block has been left.
    """

    handler: logging.Handler = field(default_factory=logging.NullHandler)
    name: str = LIBRARY

    def write(self, text: str) -> None:
        """Write each line that is not blank."""
        for line in text.split("\n"):
            if line.strip():
                level = logging.ERROR if line.startswith("error:") else logging.INFO
                self.handler.handle(_record(self.name, level, line))


def _record(name: str, level: int, text: str) -> logging.LogRecord:
    return logging.LogRecord(name, level, "", 0, "%s", (text,), None)


class Log:
    """Write a command's log while its block is open.

    Args:
        settings: What the command was told.
        form: `text` or `json`.
        level: The least that is logged; None for what `--quiet` says.
        name: Of its logger, below the library's.
        beginning: What a line for people begins with; the time where it is empty.
    """

    def __init__(
        self, settings: Settings, form: LogFormat, level: str | None, name: str, beginning: str = ""
    ) -> None:
        self.is_json = form == "json"
        self.level = level or ("warning" if settings.is_quiet else "info")
        self._settings = settings
        self._formatter = JsonLogFormatter() if self.is_json else _TextFormatter(beginning)
        self._log = logging.getLogger(f"{LIBRARY}.{name}")
        self._library = logging.getLogger(LIBRARY)
        self._handler = logging.StreamHandler(sys.stderr)
        self._handler.setFormatter(self._formatter)
        if self.is_json:
            settings.err = _Lines(None, handler=self._handler, name=self._log.name)

    def __enter__(self) -> Self:
        """Begin to write what the library logs."""
        library = self._library
        self._before = (library.level, library.propagate, journal_log.level)
        library.addHandler(self._handler)
        library.setLevel(self.level.upper())
        # Why not further: an app that logs to the same stream would say everything twice.
        library.propagate = False
        # Why not in text: there the reports tell people the same.
        is_told = self.is_json or self.level == "debug"
        journal_log.setLevel(logging.NOTSET if is_told else logging.CRITICAL)
        return self

    def __exit__(self, *_raised: object) -> None:
        """Leave logging as it was."""
        library = self._library
        library.removeHandler(self._handler)
        level, library.propagate, journal_level = self._before
        library.setLevel(level)
        journal_log.setLevel(journal_level)

    def say(self, text: str, **fields: Any) -> None:
        """Tell something for people, unless `--quiet`; `fields` go into the JSON."""
        if not self._settings.is_quiet:
            self._log.info("%s", text, extra=fields)

    def insist(self, text: str) -> None:
        """Tell something that nobody may miss."""
        self._log.warning("%s", text)

    def say_at_once(self, text: str) -> None:
        """Tell something from a signal handler, which may have hit a line half-written."""
        if self._settings.is_quiet:
            return
        made = _record(self._log.name, logging.INFO, text)
        os.write(2, f"{self._formatter.format(made)}\n".encode())
