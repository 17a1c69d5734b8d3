"""pydantic-ai: runs that survive their process: `Durable`.

Owns: how what a model has answered is recorded in the transaction around a run, and found again.
Rules:
  1. A model is asked again only for what it was not asked before: a request is found by the agent
     and by what was said so far, never by its position.
  2. What the program says itself (instructions, system prompts), times and ids of runs make no
     difference: a program that is run again says them anew.
  3. Tools are none of its business: `Transactional` makes them steps, which can be undone.
  4. A request has no effect. One that failed is made again; nothing is to undo.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import TypeAdapter

from aumai_transactions.drivers.ambient import AMBIENT
from aumai_transactions.integrations.tool_calls import ToolCall, ToolCalls
from aumai_transactions.integrations.tool_rules import READ, ToolRule

try:
    from pydantic_ai import RunContext
    from pydantic_ai.durable_exec import (
        JSON_CODEC,
        BaseDurabilityCapability,
        DurabilityEngineSpec,
        EventStreamHandlerId,
        JournalCallableOperationBackend,
        ModelCompactMessagesId,
        ModelRequestId,
        RoleBasedOperationConfig,
    )
    from pydantic_ai.messages import ModelMessagesTypeAdapter
except ImportError as error:  # pragma: no cover
    message = (
        "the adapter for pydantic-ai needs pydantic-ai-slim 2.37 or newer: "
        "pip install 'aumai-transactions[pydantic-ai]'"
    )
    raise ImportError(message) from error

try:
    from pydantic_ai.durable_exec import record_durable_unit
except ImportError:  # Before 2.66.

    def record_durable_unit(*, executed: bool) -> None:
        """Tell nobody."""


_ANYTHING = TypeAdapter(Any)
_DIFFERS = {"timestamp", "run_id", "conversation_id", "instructions"}


class Durable(BaseDurabilityCapability[Any]):
    """Record what models answer, so that a run whose process died goes on where it was.

    Inside of a transaction that waits after a crash (`on_crash="wait"`), each model request is a
    step without an effect. Where the program comes back with `manager.resume` and runs the agent
    with the same prompt, what was recorded is answered from the journal. Outside of a transaction
    it changes nothing. The agent needs a name that stays; and `Transactional` beside this.

    Args:
        name: Under what the agent's requests are recorded; default the agent's name.
        models: By id, other models that a run may be given as instances.
        event_stream_handler: Who hears the events of a run; of what is answered from the journal,
            too, it hears everything but the parts of the model's answer.
    """

    engine_spec = DurabilityEngineSpec(
        engine_name="aumai-transactions",
        durable_unit_noun="step",
        durable_container_noun="transaction",
        codec=JSON_CODEC,
        wrapped_toolset_kinds=frozenset(),
    )

    @property
    def in_durable_context(self) -> bool:
        """Whether a transaction is around the run."""
        return AMBIENT.get() is not None

    def get_durable_operation_backend(self) -> _Journal:
        """Return what records operations of this agent."""
        config = RoleBasedOperationConfig(model=None, event=None, capability=None, tool=None)
        return _Journal(agent_name=self.name, config=config)


class _Journal(JournalCallableOperationBackend[None]):
    """Carry out what the framework does for a run as steps of the transaction around it."""

    async def execute(
        self,
        *,
        operation_id: Any,
        name: str,
        body: Callable[[], Awaitable[object]],
        cache_key: tuple[Any, ...],
        config: None,
    ) -> object:
        """Return what was recorded of an operation; carry it out where it was not."""
        del config
        block = AMBIENT.get()
        # Why also past the end: a model may say its last words; no tool works any more.
        is_over = block is None or block.state.is_final
        if is_over or isinstance(operation_id, EventStreamHandlerId):
            return await body()
        if isinstance(operation_id, ModelRequestId):
            asked, rule = {"said": _digest(_said(cache_key[1]))}, READ
        elif isinstance(operation_id, ModelCompactMessagesId):
            asked, rule = {"said": _digest(_said(cache_key[1].messages))}, READ
        else:
            inputs = [one for one in cache_key if not isinstance(one, RunContext)]
            asked, rule = {"asked": _digest(inputs)}, ToolRule(once=False)
        has_run = False

        async def make(_data: dict[str, Any]) -> object:
            nonlocal has_run
            has_run = True
            return await body()

        call: ToolCall[object] = ToolCall(name=name, arguments=asked, call=make)
        answer = await ToolCalls({name: rule}).run_async(call)
        if answer is None and not has_run and rule is READ:
            return await body()  # It was too long to be recorded.
        record_durable_unit(executed=has_run)
        return answer


def _said(messages: list[Any]) -> Any:
    """Return what was said so far, without what a program that is run again says anew."""
    dumped = ModelMessagesTypeAdapter.dump_python(messages, mode="json")
    for one in dumped:
        one["parts"] = [part for part in one["parts"] if part["part_kind"] != "system-prompt"]
    return _without(dumped)


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(one) for key, one in value.items() if key not in _DIFFERS}
    return [_without(one) for one in value] if isinstance(value, list) else value


def _digest(value: Any) -> str:
    text = json.dumps(_ANYTHING.dump_python(value, mode="json", fallback=repr), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
