"""How a planted bug is looked for.

Owns: the search for a seed at which one is found, and the table of all of them.
"""

import re
from collections import Counter
from typing import NamedTuple

from tests.simulation.mutants.planting import planted

from aumai_transactions.testing.simulator import simulate

SEEDS_MAX = 2_000

_RULE = re.compile(r"(?:^|: )([A-Z]\d{1,2}): ")


class Found(NamedTuple):
    """Say at which seed a mutant was found, by what, and what had happened by then."""

    seed: int
    tries: int
    rule: str
    text: str
    counts: Counter[str]


def rules_of(text):
    """Return the names of the rules that a sentence says not to hold."""
    return _RULE.findall(text)


def look(mutant, seed):
    """Return what one seed shows of a mutant: the rules, the first sentence and the counts."""
    with planted(mutant):
        report = simulate(seed)
    rules = [rules_of(text)[:1] for text in report.violations]
    return [rule for found in rules for rule in found], report


def hunt(mutant, seeds):
    """Return at which of some seeds a mutant is found first; None where it survives them."""
    for tries, seed in enumerate(seeds, 1):
        rules, report = look(mutant, seed)
        for rule, text in zip(rules, report.violations, strict=False):
            if rule in mutant.rules:
                return Found(seed, tries, rule, text, report.counts)
    return None


def table(found):
    """Return the lines of a table of mutants and what was found of them."""
    lines = [f"{'mutant':44} {'seed':>6} {'tries':>5} rule  needed"]
    for mutant, one in found:
        seed, tries, rule = (one.seed, one.tries, one.rule) if one else ("-", "-", "-")
        needed = [f"{name}={one.counts[name]}" for name in mutant.needs] if one else []
        lines.append(f"{mutant.name:44} {seed:>6} {tries:>5} {rule:5} {', '.join(needed)}")
    return lines
