"""What a transaction costs beside the least that it could cost, and beside what peers need.

    python benchmarks/bench.py                          everything of ours; some twenty minutes
    python benchmarks/bench.py --quick                  the same, roughly; some minutes
    python benchmarks/bench.py sqlite-64 postgres-64    only these groups
    python benchmarks/bench.py --list                   what groups there are
    python benchmarks/bench.py sqlite-64 --of "planned, tasks"     one entrant, and its floors
    python benchmarks/bench.py --peers                  peers take part, those that are installed
    python benchmarks/bench.py --peers --python dbos=/path/to/python    where one has its own

Owns: the command line, and nothing asserts here. Entrants of a group take turns in short slices, so
that a machine that becomes slower meanwhile does so for all (`race/rounds.py`); what each of them
does is said in `race/ours.py`, `race/floors.py` and `race/peers/`, how it is counted in
`race/meters.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from race import pages, tables
from race.groups import PEERS, all_groups, only, with_peers
from race.machine import machine
from race.meters import Server
from race.rounds import Group, Result, clock, comparisons, race

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "fleet"))


@contextmanager
def server_for(groups: Sequence[Group], url: str | None) -> Iterator[Server | None]:
    """Have a PostgreSQL where a group needs one: that at the URL, or one from the wheel."""
    needed = any("{url}" in word for g in groups for e in g.entrants for word in e.arguments)
    if not needed:
        yield None
        return
    from server import running_server

    with nullcontext(url) if url else running_server() as found:
        server = Server(found)
        try:
            yield server
        finally:
            server.close()


def chosen(options: argparse.Namespace) -> list[Group]:
    """Return the groups with these names, or that begin so; all where none is named."""
    names, groups = options.groups, all_groups()
    strange = [name for name in names if not any(g.name.startswith(name) for g in groups)]
    if strange:
        sys.exit(f"no group begins with {', '.join(strange)}; --list shows them")
    groups = [g for g in groups if not names or any(g.name.startswith(name) for name in names)]
    if options.peers:
        groups = peered(groups, options)
    if not options.of:
        return groups
    known = {entrant.title for group in groups for entrant in group.entrants}
    if not known >= set(options.of):
        sys.exit(f"--of is one of: {'; '.join(sorted(known))}")
    return [group for group in (only(g, set(options.of)) for g in groups) if group.entrants]


def peered(groups: list[Group], options: argparse.Namespace) -> list[Group]:
    """Return the groups with peers."""
    pythons = dict(one.partition("=")[::2] for one in options.python)
    unknown = ", ".join(set(pythons) - set(PEERS))
    if unknown:
        sys.exit(f"no peer is called {unknown}; there are {', '.join(PEERS)}")
    return [with_peers(group, pythons) for group in groups]


def as_data(group: Group, results: Sequence[Result]) -> dict[str, Any]:
    """Return a group as JSON has it."""
    return {
        "group": group.name,
        "title": group.title,
        "entrants": [
            {
                "title": result.entrant.title,
                "about": result.about,
                "failure": result.failure,
                "kept": result.kept,
                "rounds": [one._asdict() for one in result.rounds],
                "compared": [
                    {**found.aim._asdict(), **found.ratio._asdict(), "is_met": found.is_met}
                    for found in comparisons(result, results)
                ],
            }
            for result in results
        ],
    }


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("groups", nargs="*", help="groups, or how their names begin (all)")
    parser.add_argument("--list", action="store_true", help="show the groups, and end")
    parser.add_argument(
        "--of",
        action="append",
        metavar="TITLE",
        help="only this entrant, with those that it is compared with; may be repeated",
    )
    parser.add_argument("--rounds", type=int, help="how many turns each has (5)")
    parser.add_argument("--seconds", type=float, help="how long a turn lasts (2)")
    parser.add_argument("--quick", action="store_true", help="two turns of 0.2 seconds")
    parser.add_argument("--peers", action="store_true", help="let peers take part")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="PEER=PATH",
        help=f"the interpreter of a peer ({', '.join(PEERS)}); ours by default",
    )
    parser.add_argument("--store", help="the URL of a PostgreSQL that runs")
    parser.add_argument("--folder", help="where to make files (default: the temporary one)")
    parser.add_argument(
        "--write", metavar="FOLDER", help="put table and picture into this folder's performance.md"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.seconds = options.seconds or (0.2 if options.quick else 2.0)
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return 1 where an entrant of ours did not run."""
    options = options_of(arguments)
    groups = chosen(options)
    if options.list:
        for group in groups:
            print(f"{group.name:<16}{group.title}")
        return 0
    found: list[tuple[Group, list[Result]]] = []
    with tempfile.TemporaryDirectory(prefix="aumai-bench-", dir=options.folder) as name:
        folder = Path(name)
        about = machine(folder)
        how = f"{clock()}, {options.rounds} rounds of {options.seconds:g} s each"
        if not options.json:
            print(
                f"{about}\n{how}: median (lowest–highest); all but the rate is for one transaction"
            )
        with server_for(groups, options.store) as server:
            for group in groups:
                results = race(group, folder, server, options.rounds, options.seconds)
                found.append((group, results))
                if not options.json:
                    print("\n".join(tables.text(group, results)), flush=True)
    if not options.json:
        print("\n".join(tables.summary(found)))
    if options.write:
        pages.write(Path(options.write), found, about, how)
    if options.json:
        report = {"machine": about, "groups": [as_data(*one) for one in found]}
        json.dump(report, sys.stdout, indent=2)
        print()
    failed = [r for _, results in found for r in results if r.failure and not r.entrant.is_peer]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
