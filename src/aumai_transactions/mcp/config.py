"""The gateway's configuration: the `mcpServers` of every host, and what is declared beside it.

Owns: reading that file.
Rules:
  1. What other hosts write beside a server is left alone; what stands in a table of ours must be
     known.
  2. `${NAME}` and `${NAME:-default}` stand for environment variables, in what starts a server and
     in what connects to it, and nowhere else.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aumai_transactions.errors import DefinitionError
from aumai_transactions.mcp.rules import Policy, Seconds, ServerRules, Table, Text

SERVER_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]|_(?!_)){0,62}")
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")
DAY = 86_400.0
_EXPANDED = ("command", "args", "env", "cwd", "url", "headers")


class Server(BaseModel):
    """Hold how one server is started or reached, and what is declared about its tools."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    command: Text | None = None
    args: list[str] = Field(default_factory=list)
    env: dict[str, str] = Field(default_factory=dict)
    cwd: Text | None = None
    url: Text | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    disabled: bool = False
    timeout_seconds: Seconds = 60.0
    transactions: ServerRules = Field(default_factory=ServerRules)

    @model_validator(mode="after")
    def _is_one(self) -> Server:
        if (self.command is None) == (self.url is None):
            raise ValueError('has "command" to start it, or "url" to reach it: one of the two')
        return self


class Principal(Table):
    """Hold who may use the gateway over HTTP, and for what."""

    token_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = Field(
        description="The environment variable that holds the token."
    )
    tools: list[Text] = Field(
        default_factory=lambda: ["*"],
        description="Which tools, as names in which * stands for anything.",
    )


class Gateway(Table):
    """Hold what is declared about transactions as a whole."""

    store: Text | None = Field(default=None, description="Where journals are kept.")
    policy: Policy = Field(
        default="approve", description="What becomes of tools without a rule in a transaction."
    )
    outside: Literal["allow", "deny"] = Field(
        default="allow", description="What becomes of calls outside a transaction."
    )
    ask: Literal["client", "elsewhere"] = Field(
        default="client",
        description="Whether the client's person is asked for approvals, or only others are.",
    )
    timeout_seconds: Seconds = Field(
        default=3_600.0, description="How long a transaction may take."
    )
    resume_within_seconds: Seconds = Field(
        default=DAY, description="How long after a crash somebody may go on with a transaction."
    )
    open_max: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=100, description="How many transactions somebody may have open."
    )
    calls_per_minute_max: Annotated[int, Field(ge=1)] = Field(
        default=6_000, description="How many calls somebody may make in a minute."
    )
    fingerprint: Text | None = Field(
        default=None, description="What `--fingerprint` printed; other tools are refused then."
    )
    principals: dict[Text, Principal] = Field(
        default_factory=dict, description="Who may use it over HTTP; none: one token for all."
    )


class Configuration(BaseModel):
    """Hold the whole file."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    servers: dict[str, Server] = Field(alias="mcpServers", min_length=1)
    transactions: Gateway = Field(default_factory=Gateway)


def load(path: Path) -> Configuration:
    """Read the configuration.

    Raises:
        DefinitionError: It cannot be read, is no JSON, or says what cannot be; names the place.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise DefinitionError(f"{path} cannot be read: {why}.") from error
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DefinitionError(f"{path} is no JSON: {error}.") from error
    if not isinstance(found, dict) or not isinstance(found.get("mcpServers"), dict):
        message = (
            f'{path}: there is no "mcpServers" in it. It is the file that other hosts read: '
            '{"mcpServers": {"name": {"command": "…", "args": ["…"]}}}.'
        )
        raise DefinitionError(message)
    try:
        loaded = Configuration.model_validate(
            {**found, "mcpServers": _expanded(found["mcpServers"])}
        )
    except ValidationError as error:
        problems = [f"  {_told(one)}" for one in error.errors(include_url=False)]
        raise DefinitionError("\n".join([f"{path} cannot be used:", *problems])) from None
    for name in loaded.servers:
        if not SERVER_NAME.fullmatch(name):
            message = (
                f"{path}: mcpServers.{name}: a server's name is of letters, digits, - and single "
                "_, and at most 63 of them, for its tools are called <name>__<tool>."
            )
            raise DefinitionError(message)
    return loaded


def _told(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    return f"{place}: {error['msg'].removeprefix('Value error, ')}."


def _expanded(servers: dict[str, Any]) -> dict[str, Any]:
    """Return the servers' tables with the environment filled in."""
    found = {}
    for name, table in servers.items():
        if not isinstance(table, dict):
            found[name] = table
            continue
        own = {key: table[key] for key in _EXPANDED if key in table}
        found[name] = {**table, **_filled(own, name)}
    return found


def _filled(value: Any, server: str) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, server) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, server) for item in value]
    if not isinstance(value, str):
        return value

    def variable(found: re.Match[str]) -> str:
        text = os.environ.get(found["name"], found["default"])
        if text is None:
            message = (
                f"mcpServers.{server} needs the environment variable {found['name']}, which is not "
                "set."
            )
            raise DefinitionError(message)
        return text

    return _VARIABLE.sub(variable, value)
