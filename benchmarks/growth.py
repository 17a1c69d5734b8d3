"""How cost grows: with what is stored, with the size of a transaction, and over a long life.

    python benchmarks/growth.py stored                        up to a million; half an hour
    python benchmarks/growth.py stored --most 10000 --times 20
    python benchmarks/growth.py sizes --steps 10 100 --kib 0 10
    python benchmarks/growth.py memory --transactions 100000
    python benchmarks/growth.py recovery --in-flight 10000
    python benchmarks/growth.py stored --store postgresql://…    a PostgreSQL that runs

Owns: the command line, and nothing asserts here. What each part measures is said in `growing/`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from growing import lifetime, recovery, sizes, stored
from race.machine import machine

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "fleet"))

PARTS: dict[str, Any] = {
    "stored": stored,
    "sizes": sizes,
    "memory": lifetime,
    "recovery": recovery,
}


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parts = parser.add_subparsers(dest="part", required=True)
    for name, part in PARTS.items():
        what = part.__doc__.partition("\n")[0]
        one = parts.add_parser(name, help=what, description=what)
        part.add_options(one)
        one.add_argument(
            "--only", choices=("memory", "sqlite", "postgresql"), help="one of the stores"
        )
        one.add_argument("--store", help="the URL of a PostgreSQL that runs")
        one.add_argument("--folder", help="where to make files (default: the temporary one)")
        one.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure one part, print, and return 0 whatever was found."""
    options = options_of(arguments)
    part = PARTS[options.part]
    found = []
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    with tempfile.TemporaryDirectory(prefix="aumai-growth-", dir=options.folder) as name:
        about = machine(Path(name))
        if not options.json:
            print(f"{about}\n\n{part.HEADER}")
        for figure in part.run(options, Path(name)):
            found.append(figure)
            if not options.json:
                print(part.shown(figure), flush=True)
    if options.json:
        report = {"machine": about, "figures": [figure._asdict() for figure in found]}
        json.dump(report, sys.stdout, indent=2)
        print()
    elif hasattr(part, "concluded"):
        print("\n" + "\n".join(part.concluded(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
