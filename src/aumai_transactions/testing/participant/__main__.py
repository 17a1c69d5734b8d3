"""The participant conformance suite, from a shell.

    python -m aumai_transactions.testing.participant http://127.0.0.1:8101/reservations \
        --undo http://127.0.0.1:8101/reservations/cancel --data '{"flight_id": "F123"}'

Owns: its arguments and its exit codes: 0 all that could be checked is kept, 1 something is broken,
2 the arguments cannot be used, 3 the participant cannot be checked.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from aumai_transactions.testing.participant.bench import CannotCheck, Participant
from aumai_transactions.testing.participant.checks import check_participant


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a participant as the command line says, and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        report = check_participant(
            Participant(
                url=options.url,
                undo_url=options.undo,
                data=options.data,
                rejected=options.rejected,
                other=options.other,
                headers=dict(options.header),
                state_url=options.state,
                count=options.count,
                count_command=options.count_command,
                rivals=options.rivals,
                timeout_seconds=options.timeout,
            )
        )
    except CannotCheck as error:
        if options.json:
            sys.stdout.write(json.dumps({"url": options.url, "error": str(error)}) + "\n")
        sys.stderr.write(f"cannot check: {error}\n")
        return 3
    text = json.dumps(report.as_json(), indent=2) if options.json else str(report)
    sys.stdout.write(text + "\n")
    return 0 if report.is_sound else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m aumai_transactions.testing.participant",
        description="Check an HTTP participant: duplicates, undos of nothing, late calls, rivals. "
        "It makes real calls, and undoes them: use one that is there for tests.",
        epilog="Exit codes: 0 kept, 1 broken, 2 wrong arguments, 3 it cannot be checked.",
    )
    parser.add_argument("url", help="where the action is posted")
    parser.add_argument("--undo", metavar="URL", help="where its undo is posted; default: URL")
    parser.add_argument(
        "--data", type=_json, default={}, metavar="JSON", help="a body that can be carried out"
    )
    parser.add_argument(
        "--rejected", type=_json, metavar="JSON", help="a body that is refused for good"
    )
    parser.add_argument(
        "--other", type=_json, metavar="JSON", help="another body that can be carried out"
    )
    parser.add_argument(
        "--header",
        type=_header,
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="a header to add; $NAME as the value takes an environment variable",
    )
    parser.add_argument("--state", metavar="URL", help="where a GET tells in JSON what stands")
    parser.add_argument(
        "--count",
        default="",
        metavar="PATH",
        help="what of that counts the effects, such as holdings or stock.F123",
    )
    parser.add_argument(
        "--count-command",
        type=shlex.split,
        default=[],
        metavar="COMMAND",
        help="a program that prints how many effects stand, instead of --state",
    )
    parser.add_argument(
        "--rivals", type=_several, default=8, metavar="N", help="how many calls at once (8)"
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=10.0, metavar="SECONDS", help="for each call (10)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON: {error}") from None


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    value = value.strip()
    if not colon or not name.strip() or not value.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is no header; write 'Name: value'")
    if value.startswith("$"):
        try:
            value = os.environ[value[1:]]
        except KeyError:
            raise argparse.ArgumentTypeError(f"there is no variable {value[1:]}") from None
    return name.strip(), value


def _several(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 2 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 2 to 100")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3_600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds up to 3600")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
