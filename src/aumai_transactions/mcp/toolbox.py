"""Which tools the gateway offers, and what it says about them.

Owns: the list of tools, its fingerprint, and where the id of a transaction stands in a call.
Rules:
  1. The list is made once, of the configuration and of what the servers say when the gateway
     begins; nothing that happens later changes it.
  2. A server's words stand in its own tools' descriptions, cleaned, and nowhere else.
"""

from __future__ import annotations

import copy
import hashlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import mcp_types as types

from aumai_transactions.errors import DefinitionError
from aumai_transactions.mcp.rules import Policy, Rule, ServerRules, rules_of
from aumai_transactions.mcp.texts import cleaned, cleaned_tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aumai_transactions.mcp.config import Configuration

SEPARATOR = "__"
META_KEY = "dev.aumai/tx"
ARGUMENT = "transaction_id"
OTHER_ARGUMENT = "aumai_transaction_id"
TOOLS_MAX = 2_000

_ID = {"type": "string", "description": "The id that tx_begin returned."}
_SAVEPOINT = {"type": "string", "description": "The savepoint's name."}


class Offered(NamedTuple):
    """Hold one tool of a server, as the gateway offers it.

    Args:
        name: `<server>__<tool>`.
        server: The server.
        tool: What the server calls it.
        rule: What is declared about it; None where nothing is.
        policy: What becomes of it in a transaction where nothing is.
        argument: The argument that takes the transaction's id.
        shown: What clients are told.
    """

    name: str
    server: str
    tool: str
    rule: Rule | None
    policy: Policy
    argument: str
    shown: types.Tool


def own_tools() -> list[types.Tool]:
    """Return the tools of the gateway itself."""
    return [
        _own(
            "tx_begin",
            "Begin a transaction and return its id. Give the id as transaction_id to the tools "
            "that belong to it: in the end either all of their effects stand, or what can be "
            "undone is undone.",
            {"name": {"type": "string", "description": "What it is for, in a few words."}},
        ),
        _own(
            "tx_savepoint",
            "Mark a place in a transaction, to which tx_rollback can return.",
            {"transaction_id": _ID, "savepoint": _SAVEPOINT},
            required=["transaction_id", "savepoint"],
        ),
        _own(
            "tx_rollback",
            "Undo what a transaction has done: all of it, which ends it, or what came after a "
            "savepoint.",
            {
                "transaction_id": _ID,
                "savepoint": _SAVEPOINT,
                "reason": {"type": "string", "description": "Why."},
            },
            required=["transaction_id"],
            destructive=True,
        ),
        _own(
            "tx_commit",
            "Let what a transaction has done stand, and end it.",
            {"transaction_id": _ID},
            required=["transaction_id"],
        ),
        _own(
            "tx_status",
            "Tell what a transaction has done, what waits, and what can still be undone.",
            {"transaction_id": _ID},
            required=["transaction_id"],
            reads=True,
        ),
        _own(
            "tx_list",
            "List your open transactions, and the latest that have ended.",
            {},
            reads=True,
        ),
        _own(
            "tx_approve",
            "Ask the person at this client whether a call that waits for an approval may be made. "
            "You cannot approve it yourself.",
            {
                "transaction_id": _ID,
                "step_id": {"type": "string", "description": "The step that waits."},
            },
            required=["transaction_id", "step_id"],
        ),
    ]


def _own(
    name: str,
    description: str,
    properties: dict[str, Any],
    *,
    required: list[str] | None = None,
    reads: bool = False,
    destructive: bool = False,
) -> types.Tool:
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        schema["required"] = required
    hints = types.ToolAnnotations(
        read_only_hint=reads, destructive_hint=destructive, open_world_hint=False
    )
    return types.Tool(name=name, description=description, input_schema=schema, annotations=hints)


def offered(
    configuration: Configuration, found: Mapping[str, Iterable[types.Tool]]
) -> dict[str, Offered]:
    """Return every tool of the servers as it is offered, by its name here.

    Args:
        configuration: What the operator declares.
        found: What the servers say, by server.

    Raises:
        DefinitionError: A rule is about no tool, two tools are called alike, or there are too many.
    """
    tools: dict[str, Offered] = {}
    for server, listed in found.items():
        declared = configuration.servers[server].transactions
        rules = rules_of(server, declared)
        names = set()
        for tool in listed:
            name = f"{server}{SEPARATOR}{tool.name}"
            if name in tools or len(name) > 200:
                why = "lists two tools" if name in tools else "has a tool with so long a name"
                raise DefinitionError(f"mcpServers.{server} {why}: {cleaned(tool.name, 200)!r}.")
            if not _is_plain(tool):
                why = "has a tool that cannot be offered, for its name or its schema is none"
                raise DefinitionError(f"mcpServers.{server} {why}: {cleaned(tool.name, 200)!r}.")
            names.add(tool.name)
            policy = declared.policy or configuration.transactions.policy
            rule = _stricter(rules.get(tool.name), tool, declared)
            tools[name] = _offered(name, server, tool, rule, policy)
        # Why only those that were written here: a server of another version may lack a tool.
        strange = sorted(set(declared.tools) - names)
        if strange:
            there = ", ".join(sorted(names)) or "none"
            message = (
                f"mcpServers.{server}.transactions.tools has rules for {', '.join(strange)}, which "
                f"the server does not have. It has: {there}."
            )
            raise DefinitionError(message)
    if len(tools) > TOOLS_MAX:
        raise DefinitionError(f"the servers have {len(tools):,} tools; {TOOLS_MAX:,} are too many.")
    return tools


def _is_plain(tool: types.Tool) -> bool:
    """Tell whether a tool's name shows what it is, and its schema says which arguments it takes."""
    named = tool.input_schema.get("properties")
    return bool(tool.name) and cleaned(tool.name) == tool.name and isinstance(named, dict | None)


def fingerprint(tools: Mapping[str, Offered]) -> str:
    """Return a digest of every tool that is offered: its name, schema, description and rule."""
    listed = [
        [
            one.name,
            one.shown.model_dump(mode="json", by_alias=True, exclude_none=True),
            None if one.rule is None else one.rule.model_dump(mode="json"),
            one.policy,
        ]
        for one in sorted(tools.values())
    ]
    text = json.dumps(listed, sort_keys=True, ensure_ascii=False)
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'backslashreplace')).hexdigest()}"


def _stricter(rule: Rule | None, tool: types.Tool, declared: ServerRules) -> Rule | None:
    """Return a rule as the server's own hints make it stricter; they never make it laxer."""
    hints = tool.annotations
    if rule is None:
        trusted = declared.trust_read_only and hints is not None and hints.read_only_hint
        return Rule(effect="none") if trusted else None
    contradicted = hints is not None and (
        hints.destructive_hint is True and hints.read_only_hint is not True
    )
    if rule.effect == "none" and contradicted:
        # The operator says that it only reads, and the server that it destroys.
        return None
    return rule


def _offered(
    name: str, server: str, tool: types.Tool, rule: Rule | None, policy: Policy
) -> Offered:
    schema: dict[str, Any] = cleaned_tables(copy.deepcopy(tool.input_schema))
    properties = schema["properties"] = schema.get("properties") or {}
    argument = OTHER_ARGUMENT if ARGUMENT in properties else ARGUMENT
    properties[argument] = {
        "type": "string",
        "description": "The transaction that this call belongs to, as tx_begin returned it; "
        "without it the call stands alone and cannot be undone.",
    }
    shown = types.Tool(
        name=name,
        title=None if tool.title is None else cleaned(tool.title, 200),
        description=cleaned(tool.description or "", 20_000),
        input_schema=schema,
        output_schema=None if tool.output_schema is None else cleaned_tables(tool.output_schema),
        annotations=tool.annotations,
        _meta={"dev.aumai/transactions": _told(rule, policy)},
    )
    return Offered(name, server, tool.name, rule, policy, argument, shown)


def _told(rule: Rule | None, policy: Policy) -> dict[str, Any]:
    """Return what a client is told about what becomes of a tool in a transaction."""
    if rule is None:
        return {"undo": "none", "policy": policy}
    if rule.effect == "none":
        return {"undo": "not needed"}
    return {
        "undo": "yes" if rule.undoes else "none",
        "point_of_no_return": rule.pivot,
        "approval": rule.approve,
    }
