"""Check a finished history: `python -m aumai_transactions.testing.history STORE_URL`.

Owns: that command. Exit codes: 0 nothing was found, 1 something was, 2 it could not be checked.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from aumai_transactions.errors import InvalidData, TransactionError
from aumai_transactions.stores import open_store
from aumai_transactions.testing.history.checker import check
from aumai_transactions.testing.history.records import Access, read_accesses, read_objects
from aumai_transactions.testing.invariants import JournalRules

if TYPE_CHECKING:
    from collections.abc import Sequence

SOUND, FOUND, NOT_CHECKED = 0, 1, 2

_FORM = """
Each line of an accesses file is one access as a participant has committed it, in any order:
  {"position": 7, "resource": "account:42", "transaction_id": "…", "step_id": "s1",
   "kind": "write", "token": 3, "key": "…", "attempt": 1}
position counts over all resources of all participants; kind is read, write or undo; resource is
left out for an effect on nothing that is locked; token, key and attempt where they were recorded.
Each line of an outcomes file is what a caller was told: {"transaction_id": "…", "state": "…"}.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code.

    Args:
        arguments: Without the name of the program; default is what it was called with.
    """
    options = _parser().parse_args(arguments)
    try:
        accesses = [access for path in options.accesses for access in _accesses_in(path)]
        outcomes = {name: state for path in options.outcomes for name, state in _outcomes_in(path)}
        with closing(open_store(options.store, create=False)) as store:
            report = check(
                store,
                accesses,
                outcomes=outcomes,
                is_complete=options.complete,
                rules=JournalRules if options.thorough else None,
            )
    except (TransactionError, OSError, UnicodeDecodeError) as error:
        sys.stderr.write(f"error: {error}\n")
        return NOT_CHECKED
    if options.json:
        sys.stdout.write(f"{json.dumps(report.as_json(), indent=2)}\n")
    else:
        sys.stdout.write(f"{report}\n")
    return FOUND if report.problems else SOUND


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m aumai_transactions.testing.history",
        description="Check finished journals against the invariants, and against what "
        "participants have recorded.",
        epilog=_FORM,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("store", metavar="STORE_URL", help="sqlite:///…, postgresql://…, or a path")
    parser.add_argument(
        "--accesses",
        action="append",
        default=[],
        metavar="FILE.jsonl",
        help="what participants have recorded; may be given for each",
    )
    parser.add_argument(
        "--outcomes",
        action="append",
        default=[],
        metavar="FILE.jsonl",
        help="what callers were told, to find what was lost",
    )
    parser.add_argument(
        "--complete",
        action="store_true",
        help="the accesses are all that was done: what is committed must be among them",
    )
    parser.add_argument(
        "--thorough",
        action="store_true",
        help="hold each journal against the finer rules of the simulator as well",
    )
    parser.add_argument("--json", action="store_true", help="tell it as JSON")
    return parser


def _accesses_in(path: str) -> list[Access]:
    with Path(path).open(encoding="utf-8") as lines:
        return list(read_accesses(lines, path))


def _outcomes_in(path: str) -> list[tuple[str, str]]:
    found = []
    with Path(path).open(encoding="utf-8") as lines:
        for number, line in read_objects(lines, path):
            name, state = line.get("transaction_id"), line.get("state")
            if not isinstance(name, str) or not isinstance(state, str):
                place = f"{path}, line {number}"
                raise InvalidData(place, "transaction_id and state must be there, as text.")
            found.append((name, state))
    return found


if __name__ == "__main__":
    sys.exit(main())
