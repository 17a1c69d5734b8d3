"""`serve`: the page, the REST API and the metrics of a store.

Owns: how it is started, and what it says.
"""

from __future__ import annotations

import getpass
from pathlib import Path

import click

from aumai_transactions.actions import Action
from aumai_transactions.cli.exits import Code
from aumai_transactions.cli.logs import Log, LogFormat, log_options
from aumai_transactions.cli.servers import needs_extra, parsed_address, run_until_told
from aumai_transactions.cli.session import session
from aumai_transactions.cli.settings import (
    Settings,
    app_option,
    default_store,
    quiet_option,
    store_option,
)
from aumai_transactions.listening import Address

PORT = 8_470


@click.command("serve")
@click.option(
    "--http",
    metavar="HOST:PORT",
    default=f"127.0.0.1:{PORT}",
    show_default=True,
    help="Where it is reached; port 0 for any that is free.",
)
@click.option("--unix", metavar="PATH", help="Serve on a Unix socket instead, for its owner alone.")
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="HOST[:PORT]",
    help="Another name under which it is asked, as a proxy's; may be given again.",
)
@click.option(
    "--allow-actions",
    is_flag=True,
    help="Let people and programs act through it, and not only look.",
)
@click.option(
    "--certificate",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A certificate chain (PEM), for TLS; with --key.",
)
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The key of the certificate (PEM).",
)
@click.option(
    "--behind-tls-proxy",
    is_flag=True,
    help="Say that a proxy in front of it does TLS; name it with --name.",
)
@click.option(
    "--tokens",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The file of tokens; default ~/.aumai/transactions/tokens.json.",
)
@click.option(
    "--actions",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Actions that callers may name, in TOML or JSON, as a plan file has them.",
)
@log_options()
@store_option()
@app_option()
@quiet_option()
@click.pass_obj
def serve_command(
    settings: Settings,
    http: str,
    unix: str | None,
    names: tuple[str, ...],
    allow_actions: bool,
    certificate: Path | None,
    key: Path | None,
    behind_tls_proxy: bool,
    tokens: Path | None,
    actions: Path | None,
    log_format: LogFormat,
    log_level: str | None,
) -> Code:
    r"""Show a store as a page, and serve its REST API and metrics, until it is stopped.

    It prints a link that logs you in once.

    \b
    aumai-transactions serve
    aumai-transactions serve --allow-actions --app trip:manager
    aumai-transactions serve --allow-actions --actions actions.toml
    """
    if (certificate is None) != (key is None):
        raise click.UsageError("--certificate and --key go together.")
    try:
        from aumai_transactions.web.principals import Tokens
        from aumai_transactions.web.serving import Plan, serve
    except ModuleNotFoundError as error:
        raise needs_extra(error, "the server", "web") from error
    address = parsed_address(http, "--http", names)
    if unix is not None:
        address = Address("localhost", 0, str(Path(unix).absolute()), names)
    log = Log(settings, log_format, log_level, "serve", "aumai-transactions serve: ")
    with log, session(settings, create=allow_actions) as held:
        acting = held.async_manager(_actions_in(actions)) if allow_actions else None
        plan = Plan(
            held.store,
            held.place,
            acting,
            address,
            None if certificate is None or key is None else (certificate, key),
            behind_tls_proxy,
            Tokens(tokens_path(tokens)),
            allow_actions,
            getpass.getuser(),
            settings.command,
            settings.err.say,
        )
        try:
            run_until_told(serve(plan))
        finally:
            held.changed()
    return Code.done


def _actions_in(file: Path | None) -> list[Action]:
    """Return the actions that a file defines."""
    if file is None:
        return []
    from aumai_transactions.plans import actions_for, check_environment, load_actions

    definitions = load_actions(file)
    check_environment(definitions)
    return actions_for(definitions)


def tokens_path(given: Path | None) -> Path:
    """Return where the tokens are."""
    return given if given is not None else default_store().parent / "tokens.json"
