"""How long ago something was.

Owns: the form of an age on the command line.
"""

from __future__ import annotations

import re

import click

AGE_SECONDS_MAX = 100 * 365 * 86_400
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}


class Age(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Read a length of time: a whole number and a unit."""

    name = "age"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return seconds."""
        found = re.fullmatch(r"(\d{1,10})([smhdw])", str(value))
        seconds = int(found[1]) * _UNITS[found[2]] if found else AGE_SECONDS_MAX + 1
        if seconds > AGE_SECONDS_MAX:
            self.fail(f"{value!r} is no age. Write a number and s, m, h, d or w: 30d.", param, ctx)
        return seconds
