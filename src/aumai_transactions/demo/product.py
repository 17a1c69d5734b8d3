"""The product, run the way a person runs it.

Owns: processes of the command line, and what they wrote. A process that is still running at the
end of its block is killed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aumai_transactions.demo.trip import DemoFailed, child_environment

PROGRAM: Final = (sys.executable, "-m", "aumai_transactions")
COMMAND_SECONDS_MAX = 30
EXIT_COMMITTED, EXIT_ROLLED_BACK = 0, 3
# Done, rolled back, needs attention, still waiting.
EXIT_ANSWERED = (EXIT_COMMITTED, EXIT_ROLLED_BACK, 4, 5)
_EXCERPT_CHARACTERS_MAX = 2_000


def shown(arguments: Sequence[str]) -> str:
    """Return a command as a person would type it."""
    return " ".join(["aumai-transactions", *arguments])


@dataclass
class Ended:
    """Hold what a finished command left: its exit code and what it wrote."""

    code: int
    output: str
    errors: str

    @property
    def excerpt(self) -> str:
        """The end of what it wrote, errors first, for a message."""
        return (self.errors or self.output).strip()[-_EXCERPT_CHARACTERS_MAX:]


@dataclass(frozen=True)
class Running:
    """Hold a command that may still run."""

    process: subprocess.Popen[bytes]
    output: Path
    errors: Path

    def ended(self) -> Ended:
        """Return what it wrote; only after it ended."""
        return Ended(
            self.process.wait(),
            self.output.read_text("utf-8", "replace"),
            self.errors.read_text("utf-8", "replace"),
        )


class Product:
    """Run the product's commands in one folder.

    Args:
        folder: Where plan files and store are.
        program: What to run; the product's own command line, but in tests.
    """

    def __init__(self, folder: Path, program: Sequence[str] = PROGRAM) -> None:
        self._folder = folder
        self._program = program
        self._started = 0

    def run(self, *arguments: str, codes: Sequence[int] = (EXIT_COMMITTED,)) -> Ended:
        """Run a command to its end.

        Raises:
            DemoFailed: It did not end in time, or with another code than expected.
        """
        with self.start(*arguments) as running:
            try:
                running.process.wait(COMMAND_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                raise DemoFailed(
                    f"`{shown(arguments)}` did not end within {COMMAND_SECONDS_MAX} s."
                ) from None
            ended = running.ended()
        if ended.code not in codes:
            raise DemoFailed(f"`{shown(arguments)}` ended with code {ended.code}: {ended.excerpt}")
        return ended

    @contextmanager
    def start(self, *arguments: str) -> Iterator[Running]:
        """Start a command; kill it at the end of the block if it still runs."""
        self._started += 1
        # Why files: a pipe that nobody reads would block a command that says much.
        stem = self._folder / f"command-{self._started}"
        output, errors = stem.with_suffix(".out"), stem.with_suffix(".err")
        with output.open("wb") as out, errors.open("wb") as err:
            process = subprocess.Popen(
                [*self._program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=self._folder,
                env=child_environment(),
                start_new_session=True,
            )
        try:
            yield Running(process, output, errors)
        finally:
            process.kill()
            process.wait()
