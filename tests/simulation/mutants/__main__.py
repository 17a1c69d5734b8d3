"""`python -m tests.simulation.mutants`: print at which seed each planted bug is found.

Owns: that table. With names, only mutants whose name contains one of them are looked for; with
`--from N`, seeds from N on are searched, 2,000 at most.
"""

import sys

from tests.simulation.mutants.every_mutant import EVERY
from tests.simulation.mutants.hunting import SEEDS_MAX, hunt, table

FRESH = 10_001


def main(words):
    first = FRESH
    if "--from" in words:
        at = words.index("--from")
        first = int(words[at + 1])
        words = words[:at] + words[at + 2 :]
    chosen = [one for one in EVERY if not words or any(word in one.name for word in words)]
    found = [(one, hunt(one, range(first, first + SEEDS_MAX))) for one in chosen]
    print("\n".join(table(found)))
    survivors = [one.name for one, seen in found if seen is None]
    print(f"{len(found)} mutants, {len(survivors)} survive {SEEDS_MAX} seeds: {survivors}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
