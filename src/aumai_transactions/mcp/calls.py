"""A call of a server's tool as a step, and what undoes it.

Owns: what the journal says of such a step, what is done before it, and the handlers that call it,
undo it and ask about it.
Rules:
  1. What a call destroys is in the journal, with the intent, before the call is made.
  2. What undoes a call is recorded with it: a configuration that changes changes no undo of before.
  3. Files, and whatever else a rule names, are locked before they are kept, so that no other
     transaction comes between what is kept and what is changed.
  4. In one transaction the calls for which something is kept are made one at a time, whichever
     servers' they are: two may keep the same.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import mcp_types as types
from pydantic import ValidationError

from aumai_transactions.actions import Action, Handler, StepContext
from aumai_transactions.answers import Done, Unknown
from aumai_transactions.core.scopes import is_in_force
from aumai_transactions.drivers.resources import filled
from aumai_transactions.errors import (
    ApprovalPending,
    InternalError,
    NotDelivered,
    OutcomeUnknown,
    StepRejected,
)
from aumai_transactions.mcp.kept_files import (
    Folders,
    NotKept,
    kept,
    move_back,
    put_back,
    seen_of_move,
)
from aumai_transactions.mcp.references import MissingReference, fill
from aumai_transactions.mcp.rules import FileIn, Made, Rule, ToolUse
from aumai_transactions.mcp.toolbox import SEPARATOR, Offered
from aumai_transactions.mcp.upstreams import ToolReported, Upstream, text_of
from aumai_transactions.models import Resource

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from aumai_transactions.drivers.async_block import AsyncTransactionBlock
    from aumai_transactions.integrations.open_transaction import OpenTransaction

HOLD = "hold"
"""The action of a step that only locks what the next one is about to keep."""

UNDO, BEFORE = ".undo", ".before"

_answers: ContextVar[list[types.CallToolResult] | None] = ContextVar(
    "aumai_transactions_mcp_answers", default=None
)
"""Where a call leaves its answer for whoever waits for it here: the journal may not hold it."""


class Asked(NamedTuple):
    """Hold a call that is to be a step.

    Args:
        tool: What is called.
        data: What the journal says of it.
        agent: On whose behalf.
        needs_approval: True where a person must allow it.
    """

    tool: Offered
    data: dict[str, Any]
    agent: str
    needs_approval: bool


class NotPrepared(Exception):
    """Say that a call was not made, for what it would destroy could not be kept.

    Args:
        why: What was wrong.
    """


class Calls:
    """Carry out tools of servers as steps of transactions.

    Args:
        tools: Every tool, by the name under which it is offered.
        upstreams: The servers, by name.
        folders: By server, in which folders files may be kept.
    """

    def __init__(
        self,
        tools: Mapping[str, Offered],
        upstreams: Mapping[str, Upstream],
        folders: Mapping[str, Sequence[str]],
    ) -> None:
        self._tools = tools
        self._upstreams = upstreams
        self._folders = {name: Folders(given) for name, given in folders.items()}
        self._turns: weakref.WeakKeyDictionary[OpenTransaction, asyncio.Lock]
        self._turns = weakref.WeakKeyDictionary()
        self._waits: weakref.WeakKeyDictionary[OpenTransaction, dict[str, str]]
        self._waits = weakref.WeakKeyDictionary()
        self._held: weakref.WeakKeyDictionary[OpenTransaction, set[tuple[str, str]]]
        self._held = weakref.WeakKeyDictionary()

    def actions(self) -> Iterator[Action]:
        """Yield the actions of all tools, and of what undoes them, for the manager."""
        yield Action(HOLD, _hold, effect="none")
        for tool in self._tools.values():
            rule = tool.rule or Rule()
            undo = tool.name + UNDO
            yield Action(
                tool.name,
                self._forward(tool),
                compensating_action=undo if rule.undoes else None,
                idempotent=rule.idempotent or rule.effect == "none",
                effect="irreversible" if rule.pivot else rule.effect,
                probe=None if rule.probe is None else self._probe(tool),
                once=rule.effect != "none" if rule.once is None else rule.once,
                identity=("arguments",) if rule.identity is None else ("identity",),
                undo_within_seconds=rule.undo_within_seconds,
            )
            # Why always: what was called under another rule is undone as that one said.
            yield Action(undo, self._undo(tool), idempotent=True)
            if rule.before is not None:
                absent = rule.undo_if_absent is not None
                reads = self._reader(tool, rule.before, may_be_absent=absent)
                yield Action(tool.name + BEFORE, reads, effect="none", idempotent=True)

    async def pass_on(self, tool: Offered, arguments: dict[str, Any]) -> types.CallToolResult:
        """Make a call that belongs to no transaction."""
        limit = None if tool.rule is None else tool.rule.timeout_seconds
        return await self._upstreams[tool.server].call(
            tool.tool, arguments, key=None, seconds=limit
        )

    async def execute(
        self,
        opened: OpenTransaction,
        tool: Offered,
        arguments: dict[str, Any],
        *,
        agent: str,
        needs_approval: bool,
    ) -> types.CallToolResult:
        """Make a call as a step of a transaction, and return its answer, which may be an error.

        Raises:
            NotPrepared: It was not made, for it could not be undone.
            TransactionError: What became of it instead.
        """
        rule = tool.rule or Rule()
        asked = Asked(tool, {"arguments": arguments}, agent, needs_approval)
        if rule.identity is not None:
            asked.data["identity"] = {key: arguments.get(key) for key in rule.identity}
        for key, use in (("undo", rule.undo), ("undo_if_absent", rule.undo_if_absent)):
            if use is not None:
                asked.data[key] = use.model_dump()
        keeps = rule.before is not None or rule.files is not None or rule.moves is not None
        with opened.inside() as block:
            intent = _intent(block, asked)
            try:
                if self._was_asked_for(opened, block, intent):
                    return await self._made(block, asked, [], once=True)
                if not keeps:
                    return await self._made(block, asked, self._resources(tool, rule, arguments))
                async with self._turns.setdefault(opened, asyncio.Lock()):
                    await self._prepare(opened, block, asked, rule)
                    return await self._made(block, asked, [])
            except ApprovalPending as pending:
                self._waits.setdefault(opened, {})[intent] = pending.step_id
                raise

    def _was_asked_for(
        self, opened: OpenTransaction, block: AsyncTransactionBlock, intent: str
    ) -> bool:
        """Tell whether a call is one that a person was asked about, made again for its answer."""
        step_id = self._waits.get(opened, {}).pop(intent, None)
        if step_id is None:
            return False
        shared = block._shared  # noqa: SLF001 (one package)
        with shared.lock:
            return is_in_force(shared.saga.by_id[step_id])

    async def _made(
        self,
        block: AsyncTransactionBlock,
        asked: Asked,
        uses: list[Resource],
        *,
        once: bool | None = None,
    ) -> types.CallToolResult:
        tool = asked.tool
        options: dict[str, Any] = {"requires_approval": True} if asked.needs_approval else {}
        if tool.rule is not None and tool.rule.pivot:
            options["pivot"] = True
        answers: list[types.CallToolResult] = []
        token = _answers.set(answers)
        try:
            output = await block.execute(
                asked.agent,
                tool.name,
                asked.data,
                resources=uses or None,
                once=once,
                wait_max_seconds=0,
                **options,
            )
        except ToolReported as reported:
            return reported.result
        finally:
            _answers.reset(token)
        return answers[-1] if answers else _restored(output)

    async def _prepare(
        self, opened: OpenTransaction, block: AsyncTransactionBlock, asked: Asked, rule: Rule
    ) -> None:
        """Lock and keep what a call is about to change."""
        tool, data = asked.tool, asked.data
        arguments = data["arguments"]
        try:
            paths = self._paths(tool, rule, arguments)
        except (MissingReference, StepRejected) as error:
            raise NotPrepared(str(error)) from error
        uses = self._resources(tool, rule, arguments)
        if paths:
            uses += self._folders[tool.server].uses(paths)
        await self._lock(opened, block, asked.agent, uses)
        try:
            if rule.files is not None:
                made = self._made_and_free(tool, rule, arguments)
                data["before"] = await asyncio.to_thread(kept, paths, made)
            elif rule.moves is not None:
                data["before"] = await asyncio.to_thread(seen_of_move, *paths)
        except (StepRejected, OSError) as error:
            raise NotPrepared(str(error)) from error
        if rule.before is not None:
            data["before"] = await self._read(block, asked, rule.before)

    async def _lock(
        self,
        opened: OpenTransaction,
        block: AsyncTransactionBlock,
        agent: str,
        uses: list[Resource],
    ) -> None:
        """Lock what is not locked yet: until the transaction ends, whatever is undone."""
        held = self._held.setdefault(opened, set())
        new = [
            one
            for one in uses
            if (one.name, "exclusive") not in held and (one.name, one.mode) not in held
        ]
        if new:
            names = {"resources": [one.name for one in new]}
            await block.execute(agent, HOLD, names, resources=new)
            held |= {(one.name, one.mode) for one in new}

    async def _read(
        self, block: AsyncTransactionBlock, asked: Asked, use: ToolUse
    ) -> dict[str, Any]:
        """Read what a call is about to change, as a step that only reads."""
        try:
            reads = {"arguments": fill(use.arguments, {"args": asked.data["arguments"]})}
        except MissingReference as error:
            raise NotPrepared(f"what it changes cannot be read: {error}") from error
        answers: list[types.CallToolResult] = []
        token = _answers.set(answers)
        try:
            output = await block.execute(asked.agent, asked.tool.name + BEFORE, reads)
        except ToolReported as reported:
            raise NotPrepared(f"what it changes cannot be read: {reported}") from reported
        except (StepRejected, NotDelivered, OutcomeUnknown) as error:
            raise NotPrepared(f"what it changes cannot be read: {error}") from error
        finally:
            _answers.reset(token)
        if not isinstance(output, dict):
            raise NotPrepared("what it changes is too large to be kept")
        return output

    def _resources(self, tool: Offered, rule: Rule, arguments: dict[str, Any]) -> list[Resource]:
        # Why with the server in front: two servers may both have a room 7.
        return [
            Resource(name=f"{tool.server}:{filled(pattern, arguments)}")
            for pattern in rule.resources
        ]

    def _paths(self, tool: Offered, rule: Rule, arguments: dict[str, Any]) -> list[Path]:
        """Return the paths of what is kept before a call."""
        folders, about = self._folders[tool.server], {"args": arguments}
        if rule.moves is not None:
            moved = (rule.moves.source, rule.moves.destination)
            return [folders.path(fill(one, about)) for one in moved]
        found: list[Path] = []
        for one in rule.files or ():
            if isinstance(one, FileIn):
                found.append(folders.path_in(fill(one.folder, about), one.name))
                continue
            given = fill(one.made if isinstance(one, Made) else one, about)
            found += [
                folders.path(path) for path in (given if isinstance(given, list) else [given])
            ]
        return found

    def _made_and_free(self, tool: Offered, rule: Rule, arguments: dict[str, Any]) -> list[Path]:
        """Return the folders that a call makes.

        Raises:
            NotKept: Something is there that must not be.
        """
        folders, about = self._folders[tool.server], {"args": arguments}
        for one in rule.unless_there:
            path = folders.path(fill(one, about))
            if os.path.lexists(path):
                raise NotKept(f"{path} is there, so that somebody else may be using what is kept.")
        found = [one.made for one in rule.files or () if isinstance(one, Made)]
        return [folders.path(fill(one, about)) for one in found]

    def _other(self, tool: Offered, name: str) -> tuple[Upstream, str]:
        """Return the server and the tool that are used for another one.

        Why its own server: only a name that has another server's in front means another one.
        """
        server, separator, own = name.partition(SEPARATOR)
        if separator and server in self._upstreams:
            return self._upstreams[server], own
        return self._upstreams[tool.server], name

    def _forward(self, tool: Offered) -> Handler:
        upstream = self._upstreams[tool.server]
        limit = None if tool.rule is None else tool.rule.timeout_seconds
        is_unsure = tool.rule is not None and tool.rule.on_error == "in_doubt"

        async def forward(_action: str, data: dict[str, Any], context: StepContext) -> Any:
            if tool.rule is not None and tool.rule.approve and context.attempt == 1:
                await self._refuse_changed(tool, tool.rule, data, context)
            result = await upstream.call(
                tool.tool, data["arguments"], key=context.idempotency_key, seconds=limit
            )
            if result.is_error:
                if is_unsure:
                    raise OutcomeUnknown(f"it answered with an error: {text_of(result)[:1_000]}")
                raise ToolReported(result)
            found = _answers.get()
            if found is not None:
                found.append(result)
            return result.model_dump(mode="json", by_alias=True, exclude_none=True)

        return forward

    async def _refuse_changed(
        self, tool: Offered, rule: Rule, data: dict[str, Any], context: StepContext
    ) -> None:
        """Refuse a call for which a person was asked, where it would destroy something else now.

        Raises:
            StepRejected: What was kept when it was asked for is not what is there any more.
        """
        before, about = data.get("before") or {}, {"args": data["arguments"]}
        if "files" in before:
            paths = [Path(one["path"]) for one in before["files"]]
            made = [Path(one["path"]) for one in before["files"] if one["kind"] == "there"]
            now: Any = await asyncio.to_thread(kept, paths, made)
        elif "moved" in before:
            told = before["moved"]
            ends = Path(told["source"]), Path(told["destination"])
            now = await asyncio.to_thread(seen_of_move, *ends)
        elif rule.before is not None:
            absent = rule.undo_if_absent is not None
            read: Any = self._reader(tool, rule.before, may_be_absent=absent)
            now = await read("", {"arguments": fill(rule.before.arguments, about)}, context)
        else:
            return
        if now != before:
            message = "what it changes has changed since it was asked for; ask for it again"
            raise StepRejected(message)

    def _reader(self, tool: Offered, use: ToolUse, *, may_be_absent: bool) -> Handler:
        upstream, name = self._other(tool, use.tool)

        async def read(_action: str, data: dict[str, Any], _context: StepContext) -> Any:
            result = await upstream.call(name, data["arguments"], key=None, seconds=None)
            if result.is_error:
                if not may_be_absent:
                    raise ToolReported(result)
                return {"absent": True}
            return _about(result)

        return read

    def _undo(self, tool: Offered) -> Handler:
        folders = self._folders[tool.server]

        async def undo(_action: str, data: dict[str, Any], context: StepContext) -> None:
            before = data.get("before") or {}
            if "files" in before:
                await asyncio.to_thread(put_back, before, folders)
            elif "moved" in before:
                await asyncio.to_thread(move_back, before, folders)
            else:
                await self._undo_by_tool(tool, data, before, context)

        return undo

    async def _undo_by_tool(
        self, tool: Offered, data: dict[str, Any], before: dict[str, Any], context: StepContext
    ) -> None:
        is_absent = bool(before.get("absent"))
        recorded = data.get("undo_if_absent" if is_absent else "undo")
        if recorded is None:
            raise StepRejected("there was nothing before it, and nothing says what undoes it then")
        use = ToolUse.model_validate(recorded)
        about: dict[str, Any] = {"args": data["arguments"], "before": before}
        if isinstance(context.output, dict):
            about["result"] = _about(_restored(context.output))
        try:
            arguments = fill(use.arguments, about)
        except MissingReference as error:
            message = f"it cannot be undone by itself: {error}, for its answer is not known"
            raise StepRejected(message) from error
        upstream, name = self._other(tool, use.tool)
        key = context.idempotency_key
        result = await upstream.call(name, arguments, key=key, seconds=None)
        if result.is_error:
            raise ToolReported(result)

    def _probe(self, tool: Offered) -> Handler:
        rule = tool.rule
        if rule is None or rule.probe is None:
            raise InternalError(f"{tool.name} has no probe.")
        use = rule.probe
        upstream, name = self._other(tool, use.tool)

        async def probe(data: dict[str, Any], _context: StepContext) -> Done | Unknown:
            about = {"args": data["arguments"], "before": data.get("before") or {}}
            try:
                arguments = fill(use.arguments, about)
            except MissingReference as error:
                return Unknown(str(error))
            result = await upstream.call(name, arguments, key=None, seconds=None)
            try:
                fill(use.done_if, {"result": _about(result)})
            except MissingReference as error:
                # Why not "not done": nobody can tell that the call will not arrive yet.
                return Unknown(str(error))
            return Done(result.model_dump(mode="json", by_alias=True, exclude_none=True))

        return probe


def _intent(block: AsyncTransactionBlock, asked: Asked) -> str:
    """Return by what the same call is found again in the same savepoint."""
    agent, name, data = asked.agent, asked.tool.name, asked.data
    found = block._asked(agent, name, data, None, step_id=None, intent=None, options={})  # noqa: SLF001
    return found.step.intent or ""


def _about(result: types.CallToolResult) -> dict[str, Any]:
    """Return what references find of an answer."""
    return {"text": text_of(result), "structured": result.structured_content}


def _restored(output: Any) -> types.CallToolResult:
    """Return an answer as the journal has it."""
    try:
        return types.CallToolResult.model_validate(output)
    except ValidationError:
        text = "It was done; its answer was too large to be recorded."
        return types.CallToolResult(content=[types.TextContent(type="text", text=text)])


def _hold(_action: str, _data: dict[str, Any]) -> None:
    """Hold what the step has locked."""
