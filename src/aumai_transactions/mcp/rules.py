"""What an operator declares about the tools of MCP servers, as data.

Owns: the tables of the configuration that speak of transactions, and the rules that ship with this
package for well-known servers.
Rules:
  1. What is declared here is the operator's; what a server says of its own tools can make a rule
     stricter, and never laxer.
  2. A rule names no code: only tools, references and files.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from aumai_transactions.errors import DefinitionError
from aumai_transactions.mcp.references import problems
from aumai_transactions.models import SECONDS_MAX

Policy = Literal["deny", "approve", "allow"]
Seconds = Annotated[float, Field(gt=0, le=SECONDS_MAX, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=1_000)]


class Table(BaseModel):
    """Be a table of the configuration; what it does not know is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ToolUse(Table):
    """Hold a call that is made on behalf of another one: what undoes it, or asks about it."""

    tool: Text = Field(description="A tool of the same server, or other_server__tool.")
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="Its arguments; a text may be a reference."
    )


class ToolProbe(ToolUse):
    """Hold the call that tells whether another one happened."""

    done_if: Text = Field(
        description="A reference to something of its answer that is there if it happened."
    )


class Move(Table):
    """Name the two arguments of a tool that moves a file or a folder."""

    source: Text = Field(description="A reference to the path that it is moved from.")
    destination: Text = Field(description="A reference to the path that it is moved to.")


class FileIn(Table):
    """Name a file by the folder that it is in."""

    folder: Text = Field(description="A reference to the folder's path.")
    name: Text = Field(description="Its path in that folder.")

    @model_validator(mode="after")
    def _is_inside(self) -> FileIn:
        if self.name.startswith("/") or ".." in self.name.split("/"):
            raise ValueError(f"{self.name!r} leads out of the folder")
        return self


class Made(Table):
    """Name a folder that a tool makes, if it is not there."""

    made: Text = Field(description="A reference to the folder's path.")


class Rule(Table):
    """Hold what is declared about one tool."""

    effect: Literal["none", "irreversible"] | None = Field(
        default=None, description='"none" where it only reads, "irreversible" where nothing undoes.'
    )
    before: ToolUse | None = Field(
        default=None, description="A tool that reads; its answer is kept before the call is made."
    )
    undo: ToolUse | None = Field(default=None, description="What undoes the call.")
    undo_if_absent: ToolUse | None = Field(
        default=None, description="What undoes it where `before` has answered with an error."
    )
    files: list[Text | FileIn | Made] | None = Field(
        default=None,
        description="References to the paths of the files that it changes; they are kept before "
        "the call, and undoing it puts them back, byte for byte.",
    )
    unless_there: list[Text] = Field(
        default_factory=list,
        description="References to paths; where something is there, the call is not made.",
    )
    moves: Move | None = Field(
        default=None, description="What it moves; undoing it moves that back."
    )
    probe: ToolProbe | None = Field(
        default=None, description="What tells whether a call happened whose answer never came."
    )
    pivot: bool = Field(
        default=False, description="True where it is the point of no return of its transaction."
    )
    approve: bool = Field(default=False, description="True where a person must allow each call.")
    resources: list[Text] = Field(
        default_factory=list,
        description="What it uses that other transactions may use as well, as calendar:{room}; "
        "{key} is filled in from its arguments.",
    )
    idempotent: bool = Field(
        default=False, description="True where the same call, made twice, has the effect of one."
    )
    once: bool | None = Field(
        default=None,
        description="False where the same call means something else each time, as a write to a "
        "file that others write in between; else it is answered from the journal, unless it reads.",
    )
    identity: list[Text] | None = Field(
        default=None, description="The arguments that tell whether two calls are the same."
    )
    on_error: Literal["not_done", "in_doubt"] = Field(
        default="not_done", description="What an answer that is an error says about the effect."
    )
    timeout_seconds: Seconds | None = Field(default=None, description="How long a call may take.")
    undo_within_seconds: Seconds | None = Field(
        default=None, description="How long after a call it can still be undone."
    )

    @property
    def undoes(self) -> bool:
        """True where something undoes a call."""
        return self.undo is not None or self.files is not None or self.moves is not None

    @model_validator(mode="after")
    def _fits(self) -> Rule:
        ways = [key for key in ("undo", "files", "moves") if getattr(self, key) is not None]
        if len(ways) > 1:
            raise ValueError(f"has {' and '.join(ways)}; one of them says how it is undone")
        if ways and (self.effect is not None or self.pivot):
            what = f'effect = "{self.effect}"' if self.effect else "pivot"
            raise ValueError(f"has {what}, and {ways[0]}, which says how it is undone")
        if self.effect == "none" and self.pivot:
            raise ValueError('has effect = "none", and is the pivot')
        if self.undo_if_absent is not None and (self.before is None or self.undo is None):
            raise ValueError("has undo_if_absent, which needs before and undo beside it")
        for key, roots in (
            ("before", ("args",)),
            ("undo", ("args", "before", "result")),
            ("undo_if_absent", ("args", "result")),
            ("probe", ("args", "before")),
        ):
            use: ToolUse | None = getattr(self, key)
            for problem in () if use is None else problems(use.arguments, roots):
                raise ValueError(f"{key}: {problem}")
        if self.probe is not None:
            for problem in problems(self.probe.done_if, ("result",)):
                raise ValueError(f"probe: done_if: {problem}")
        for problem in problems(self.places(), ("args",)):
            raise ValueError(problem)
        return self

    def places(self) -> list[str]:
        """Return the references to what is kept before a call."""
        moved = [] if self.moves is None else [self.moves.source, self.moves.destination]
        named = [_place(one) for one in self.files or ()]
        return [*named, *moved, *self.unless_there]


def _place(file: str | FileIn | Made) -> str:
    if isinstance(file, FileIn):
        return file.folder
    return file.made if isinstance(file, Made) else file


class ServerRules(Table):
    """Hold what is declared about the tools of one server."""

    rules: Text | None = Field(
        default=None, description="Which of the rules that ship with this package hold for it."
    )
    folders: list[Text] = Field(
        default_factory=list, description="In which folders files are kept and put back."
    )
    files: list[Text] = Field(
        default_factory=list, description="For `rules`: the files in which it keeps its data."
    )
    tools: dict[Text, Rule] = Field(
        default_factory=dict, description="Rules by tool; each goes before a ready-made one."
    )
    policy: Policy | None = Field(
        default=None, description="What becomes of its tools that have no rule, if not the usual."
    )
    trust_read_only: bool = Field(
        default=False, description="True to believe the server which of its tools only read."
    )


def ready_made() -> list[str]:
    """Return for which servers rules ship with this package."""
    folder = resources.files("aumai_transactions.mcp") / "ready_made"
    return sorted(
        one.name.removesuffix(".json") for one in folder.iterdir() if one.name.endswith(".json")
    )


def rules_of(server: str, declared: ServerRules) -> dict[str, Rule]:
    """Return the rules of a server's tools, the ready-made ones included.

    Raises:
        DefinitionError: There are no ready-made rules of this name.
    """
    if declared.rules is None:
        return dict(declared.tools)
    if declared.rules not in ready_made():
        message = (
            f"mcpServers.{server}: there are no rules called {declared.rules!r}; there are "
            f"{', '.join(ready_made())}."
        )
        raise DefinitionError(message)
    folder = resources.files("aumai_transactions.mcp") / "ready_made"
    text = (folder / f"{declared.rules}.json").read_text("utf-8")
    tables: dict[str, Any] = json.loads(text)["tools"]
    found = {}
    for tool, table in tables.items():
        ends = table.pop("unless_beside", ())
        own = _own_files(server, declared) if table.get("files") == "server" else []
        beside = [f"{one}{end}" for one in own for end in ends]
        # Why kept as well: what was not there before a call is removed when it is undone.
        more = {"files": [*own, *beside], "unless_there": beside} if own else {}
        found[tool] = Rule.model_validate({**table, **more})
    return {**found, **declared.tools}


def _own_files(server: str, declared: ServerRules) -> list[str]:
    """Return the files in which a server keeps its data, which only its operator knows.

    Raises:
        DefinitionError: They are not named.
    """
    if not declared.files:
        message = (
            f"mcpServers.{server}: the rules {declared.rules!r} keep the files in which the server "
            'has its data. Name them: "files": ["/absolute/path"].'
        )
        raise DefinitionError(message)
    return [f"${one}" if one.startswith("$") else one for one in declared.files]
