"""`tokens`: who may use the REST API.

Owns: how tokens are made, listed and taken away.
"""

from __future__ import annotations

from pathlib import Path

import click

from aumai_transactions.cli.commands.serve import tokens_path
from aumai_transactions.cli.exits import Code
from aumai_transactions.cli.settings import Settings, json_option
from aumai_transactions.cli.tables import table
from aumai_transactions.web.principals import SCOPES, Scope, Tokens
from aumai_transactions.wording.characters import shown
from aumai_transactions.wording.words import Cell


def _file_option() -> click.Option:
    return click.Option(
        ["--tokens"],
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="The file of tokens; default ~/.aumai/transactions/tokens.json.",
    )


@click.group("tokens")
def tokens_command() -> None:
    r"""Make, list and take away the tokens by which programs use the REST API.

    \b
    aumai-transactions tokens add ci --scope read
    aumai-transactions tokens list
    aumai-transactions tokens remove ci
    """


@tokens_command.command("add")
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice(SCOPES),
    default="read",
    show_default=True,
    help="read: look. act: carry out transactions as well. admin: decide what a person decides.",
)
@click.option("--tenant", metavar="NAME", help="Only the transactions of this tenant.")
@json_option()
@click.pass_obj
def add_command(
    settings: Settings, name: str, scope: Scope, tenant: str | None, tokens: Path | None
) -> Code:
    """Make a token, and print it; it cannot be shown again."""
    token = Tokens(tokens_path(tokens)).add(name, scope, tenant)
    if settings.as_json:
        settings.out.say_json({"name": name, "scope": scope, "tenant": tenant, "token": token})
    else:
        settings.out.say(token)
        settings.err.say("It is shown this once only. Send it as: Authorization: Bearer …")
    return Code.done


@tokens_command.command("list")
@json_option()
@click.pass_obj
def list_command(settings: Settings, tokens: Path | None) -> Code:
    """List who has a token."""
    principals = [principal for _, principal in Tokens(tokens_path(tokens)).read().values()]
    items = [
        {"name": one.name, "scope": max(one.scopes, key=SCOPES.index), "tenant": one.tenant or ""}
        for one in principals
    ]
    if settings.as_json:
        settings.out.say_json({"items": items})
    elif items:
        rows = [
            (
                Cell(shown(item["name"])),
                Cell(item["scope"] or ""),
                Cell(shown(item["tenant"] or "")),
            )
            for item in items
        ]
        settings.out.say(*table(settings.out, ("NAME", "SCOPE", "TENANT"), rows))
    else:
        settings.err.say("nobody has a token; make one with: tokens add NAME")
    return Code.done


@tokens_command.command("remove")
@click.argument("name")
@click.pass_obj
def remove_command(settings: Settings, name: str, tokens: Path | None) -> Code:
    """Take a token away; from then on it opens nothing."""
    Tokens(tokens_path(tokens)).remove(name)
    settings.err.say(f"{shown(name)} has no token any more")
    return Code.done


for _command in (add_command, list_command, remove_command):
    _command.params.append(_file_option())
