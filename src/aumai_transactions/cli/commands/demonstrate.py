"""`demo`: the first real run.

Owns: nothing but the way to `aumai_transactions.demo`.
"""

from __future__ import annotations

import click

from aumai_transactions.cli.exits import Code
from aumai_transactions.cli.settings import Settings


@click.command("demo")
@click.pass_obj
def demo_command(settings: Settings) -> int:
    """Book four trips with real services, kill two half-way, and count what is left."""
    from aumai_transactions.demo.show import plain, run_demo

    out = settings.out
    style = click.style if out.has_colour else plain
    return run_demo(out.say, style) or Code.done
