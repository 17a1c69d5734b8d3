"""Recorded journals held against today's code, from a shell.

    python -m aumai_transactions.testing.replay journals/ --app trips:manager

Owns: its arguments and its exit codes: 0 today's code carries on all of them, 1 it would stop at
one, 2 the arguments cannot be used, 3 something cannot be read.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from aumai_transactions.actions import ActionRegistry
from aumai_transactions.drivers.manager import ManagerBase
from aumai_transactions.errors import StoreError
from aumai_transactions.testing.replay.check import check_replay
from aumai_transactions.testing.replay.recorded import CannotRead


def main(arguments: Sequence[str] | None = None) -> int:
    """Check what the command line says, and return the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if os.getcwd() not in sys.path:  # noqa: PTH109 (what Python puts there itself)
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    manager = _found(parser, options.app, "--app")
    if not isinstance(manager, (ManagerBase, ActionRegistry)) and callable(manager):
        manager = manager()
    if not isinstance(manager, (ManagerBase, ActionRegistry)):
        parser.error(f"--app {options.app} is no manager, and returns none.")
    program = None if options.program is None else _found(parser, options.program, "--program")
    try:
        report = check_replay(options.journals, manager, program=program)
    except (CannotRead, StoreError) as error:
        sys.stderr.write(f"cannot read: {error}\n")
        return 3
    text = json.dumps(report.as_json(), indent=2) if options.json else str(report)
    sys.stdout.write(text + "\n")
    if not report.transactions:
        sys.stderr.write("there is no journal, so nothing was checked\n")
        return 3
    return 0 if report.fits else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m aumai_transactions.testing.replay",
        description="Tell whether today's code would carry on recorded transactions. Nothing of "
        "them is carried on.",
        epilog="Exit codes: 0 it would, 1 it would stop, 2 wrong arguments, 3 cannot be read.",
    )
    parser.add_argument(
        "journals",
        nargs="+",
        help="stores, files with what `aumai-transactions show TX --json` prints, or folders of "
        "such files",
    )
    parser.add_argument(
        "--app",
        required=True,
        metavar="MODULE:NAME",
        help="today's manager, or a function that returns it",
    )
    parser.add_argument(
        "--program",
        metavar="MODULE:NAME",
        help="what carries out interactive transactions: a function of the block",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _found(parser: argparse.ArgumentParser, place: str, option: str) -> Any:
    module, colon, name = place.partition(":")
    if not colon or not module or not name:
        parser.error(f"{option} {place!r}: write MODULE:NAME, such as trips:manager.")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        parser.error(f"{option} {place!r} cannot be found: {error}")
    return found


if __name__ == "__main__":
    sys.exit(main())
