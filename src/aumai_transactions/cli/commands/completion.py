"""`completion`: what a shell needs to complete this command line.

Owns: nothing but the way to click's own scripts.
"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from aumai_transactions.cli.exits import Code
from aumai_transactions.cli.settings import PROGRAM, Settings

VARIABLE = "_AUMAI_TRANSACTIONS_COMPLETE"


@click.command("completion")
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> Code:
    r"""Print the script that lets bash, zsh or fish complete commands and options.

    \b
    eval "$(aumai-transactions completion bash)"                      # in ~/.bashrc
    aumai-transactions completion fish > ~/.config/fish/completions/aumai-transactions.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"{shell} cannot be completed here.")
    script = kind(ctx.find_root().command, {}, PROGRAM, VARIABLE).source()
    ctx.ensure_object(Settings).out.write(script)
    return Code.done
