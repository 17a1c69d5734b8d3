"""`mcp`: the gateway in front of other MCP servers.

Owns: how it is started at a terminal and by a host, and what it says.
Rules:
  1. Standard output is the protocol's; whatever is for people goes to standard error.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from aumai_transactions.cli.exits import Code
from aumai_transactions.cli.logs import Log, LogFormat, log_options
from aumai_transactions.cli.servers import needs_extra, parsed_address, run_until_told
from aumai_transactions.cli.session import session
from aumai_transactions.cli.settings import Settings, default_store, quiet_option, store_option
from aumai_transactions.listening import Address


@click.command("mcp")
@click.option(
    "--config",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help='The servers, as hosts write them ("mcpServers"), and what undoes their tools.',
)
@click.option(
    "--http",
    metavar="HOST:PORT",
    help="Serve many clients over HTTP instead of one over standard input and output.",
)
@click.option(
    "--unix", metavar="PATH", help="Serve over HTTP on a Unix socket, for its owner alone."
)
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="HOST[:PORT]",
    help="Another name under which it is asked over HTTP, as a proxy's; may be given again.",
)
@click.option(
    "--fingerprint",
    is_flag=True,
    help="Print the fingerprint of the tools as they are now, and end.",
)
@log_options()
@store_option()
@quiet_option()
@click.pass_obj
def mcp_command(
    settings: Settings,
    config: Path,
    http: str | None,
    unix: str | None,
    names: tuple[str, ...],
    fingerprint: bool,
    log_format: LogFormat,
    log_level: str | None,
) -> Code:
    r"""Stand in front of MCP servers, and let agents use their tools in transactions.

    \b
    aumai-transactions mcp --config mcp.json
    aumai-transactions mcp --config mcp.json --http 127.0.0.1:8765
    aumai-transactions mcp --config mcp.json --fingerprint
    """
    try:
        from aumai_transactions.mcp import serving
        from aumai_transactions.mcp.config import load
    except ModuleNotFoundError as error:
        raise needs_extra(error, "the gateway", "mcp") from error
    configuration = load(config)
    if fingerprint:
        settings.out.say(asyncio.run(serving.fingerprint_of(configuration)))
        return Code.done
    if settings.store is None and configuration.transactions.store is not None:
        settings.store, settings.names_store = configuration.transactions.store, True
    address = _address(http, unix, names)
    log = Log(settings, log_format, log_level, "mcp", "aumai-transactions mcp: ")
    with log, session(settings, create=True) as held:
        guards = default_store().parent / "mcp"
        if address is None:
            work = serving.serve_stdio(configuration, held.store, guards, settings.command)
        else:
            work = serving.serve_http(
                configuration,
                held.store,
                guards,
                settings.command,
                address=address,
                say=settings.err.say,
            )
        try:
            run_until_told(work)
        finally:
            held.changed()
    return Code.done


def _address(http: str | None, unix: str | None, names: tuple[str, ...]) -> Address | None:
    if http is not None and unix is not None:
        raise click.UsageError("--http and --unix exclude each other.")
    if unix is not None:
        return Address("localhost", 0, str(Path(unix).absolute()), names)
    if http is None:
        if names:
            raise click.UsageError("--name is for --http and --unix.")
        return None
    return parsed_address(http, "--http", names)
