"""A call of a remote agent over A2A as a step, and what undoes it as another message."""
# mypy: disable-error-code="union-attr, misc"
# ruff: noqa: PT012 (an exception leaves a whole block)

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from a2a.client import ClientConfig, ClientFactory
from a2a.client.errors import A2AClientError
from a2a.helpers import (
    get_data_parts,
    get_message_text,
    new_data_message,
    new_task_from_user_message,
    new_text_message,
    new_text_status_update_event,
)
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    Role,
    SendMessageRequest,
    TaskState,
)
from starlette.applications import Starlette

from aumai_transactions import (
    AsyncTransactionManager,
    NoActiveTransaction,
    StepContext,
    StepInDoubt,
    StepRejected,
    TransactionNotActive,
    step,
)

BOOKED: list[str] = []
TOLD: list[tuple[str, str, str]] = []

CARD = AgentCard(
    name="hotels",
    description="Books rooms.",
    version="1",
    supported_interfaces=[
        AgentInterface(url="http://hotels/", protocol_binding="JSONRPC", protocol_version="1.0")
    ],
    capabilities=AgentCapabilities(),
    default_input_modes=["text/plain"],
    default_output_modes=["text/plain"],
)

PAST = {TaskState.TASK_STATE_COMPLETED}


class Hotels(AgentExecutor):
    """Be the remote agent: it books, cancels, and fails in the ways that A2A knows."""

    async def execute(self, context: Any, event_queue: Any) -> None:
        [asked] = get_data_parts(context.message.parts)
        TOLD.append((asked["do"], asked["hotel"], context.message.message_id))
        if asked["do"] == "cancel":
            BOOKED.remove(asked["hotel"])
            await event_queue.enqueue_event(new_text_message("cancelled", role=Role.ROLE_AGENT))
            return
        how = {
            "Astoria": TaskState.TASK_STATE_FAILED,
            "Bristol": TaskState.TASK_STATE_INPUT_REQUIRED,
        }.get(asked["hotel"])
        if how is not None:
            task = new_task_from_user_message(context.message)
            await event_queue.enqueue_event(task)
            event = new_text_status_update_event(
                task_id=task.id, context_id=task.context_id, state=how, text="not like that"
            )
            await event_queue.enqueue_event(event)
            return
        BOOKED.append(asked["hotel"])
        answer = new_text_message(f"{asked['hotel']} 7", role=Role.ROLE_AGENT)
        await event_queue.enqueue_event(answer)

    async def cancel(self, context: Any, event_queue: Any) -> None:
        """Cancel nothing."""


class Line(httpx.ASGITransport):
    """Lead to the remote agent, and lose its answers about one hotel."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if b"Carlton" in request.content and b"cancel" not in request.content:
            raise httpx.ReadTimeout("the answer was lost", request=request)
        return response


def client() -> Any:
    handler = DefaultRequestHandler(
        agent_executor=Hotels(), task_store=InMemoryTaskStore(), agent_card=CARD
    )
    app = Starlette(routes=create_jsonrpc_routes(handler, rpc_url="/"))
    config = ClientConfig(streaming=False, httpx_client=httpx.AsyncClient(transport=Line(app)))
    return ClientFactory(config).create(CARD)


async def ask(what: str, hotel: str, key: str) -> str:
    """Send a message to the remote agent; what is no success is an exception."""
    message = new_data_message({"do": what, "hotel": hotel}, role=Role.ROLE_USER)
    message.message_id = key
    async for answer in client().send_message(SendMessageRequest(message=message)):
        if answer.HasField("message"):
            return str(get_message_text(answer.message))
        if answer.HasField("task") and answer.task.status.state not in PAST:
            raise StepRejected(get_message_text(answer.task.status.message))
    raise StepRejected("the remote agent has not answered")


async def cancel(hotel: str, context: StepContext) -> None:
    await ask("cancel", hotel, context.idempotency_key)


@step(
    name="a2a: book",
    compensating_action=cancel,
    in_doubt_on=(A2AClientError,),
    once=True,
    required=True,
)
async def book(hotel: str, context: StepContext | None = None) -> str:
    """Have a room booked by the remote agent."""
    return await ask("book", hotel, context.idempotency_key if context else "")


@pytest.fixture(autouse=True)
def world() -> None:
    BOOKED.clear()
    TOLD.clear()


def test_what_a_remote_agent_has_done_is_undone_by_a_message_to_it():
    async def main() -> None:
        async with AsyncTransactionManager() as manager:
            async with manager.transaction():
                assert await book("Ritz") == "Ritz 7"
            with pytest.raises(KeyError):
                async with manager.transaction():
                    await book("Savoy")
                    assert BOOKED == ["Ritz", "Savoy"]
                    raise KeyError

    asyncio.run(main())
    assert BOOKED == ["Ritz"]
    assert [one[:2] for one in TOLD[1:]] == [("book", "Savoy"), ("cancel", "Savoy")]
    assert len({key for _, _, key in TOLD}) == 3


@pytest.mark.parametrize("hotel", ["Astoria", "Bristol"])
def test_a_task_that_fails_or_asks_for_more_is_a_failed_step_and_nothing_is_undone(hotel):
    async def main() -> None:
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            with pytest.raises(StepRejected, match="not like that"):
                await book(hotel)
            await book("Ritz")
        assert [one.state.value for one in tx.steps] == ["failed", "succeeded"]

    asyncio.run(main())
    assert BOOKED == ["Ritz"]


def test_a_lost_answer_is_in_doubt_and_the_remote_agent_is_told_to_cancel():
    async def main() -> None:
        async with AsyncTransactionManager() as manager, manager.transaction():
            with pytest.raises(StepInDoubt) as raised:
                await book("Carlton")
            assert raised.value.undone

    asyncio.run(main())
    assert [one[:2] for one in TOLD] == [("book", "Carlton"), ("cancel", "Carlton")]
    assert BOOKED == []


def test_the_same_again_is_answered_from_the_record_side_by_side_as_well():
    async def main() -> list[str]:
        async with AsyncTransactionManager() as manager, manager.transaction():
            return list(await asyncio.gather(*(book("Ritz") for _ in range(4))))

    assert asyncio.run(main()) == ["Ritz 7"] * 4
    assert BOOKED == ["Ritz"]


def test_outside_of_a_transaction_and_after_its_end_no_message_is_sent():
    async def main() -> None:
        with pytest.raises(NoActiveTransaction):
            await book("Ritz")
        async with AsyncTransactionManager() as manager, manager.transaction() as tx:
            await tx.rollback("enough")
            with pytest.raises(TransactionNotActive):
                await book("Ritz")

    asyncio.run(main())
    assert TOLD == []


def test_an_agent_that_is_asked_may_answer_by_a_transaction_of_its_own():
    rooms: list[str] = []

    def free(room: str) -> None:
        rooms.remove(room)

    @step(name="a2a: reserve", compensating_action=free)
    async def reserve(room: str) -> None:
        rooms.append(room)

    class Group(AgentExecutor):
        """Book two rooms, or none."""

        async def execute(self, context: Any, event_queue: Any) -> None:
            try:
                async with AsyncTransactionManager() as manager, manager.transaction():
                    await reserve("one")
                    raise ValueError("there is no second room")
            except ValueError as error:
                answer = new_text_message(str(error), role=Role.ROLE_AGENT)
                await event_queue.enqueue_event(answer)

        async def cancel(self, context: Any, event_queue: Any) -> None:
            """Cancel nothing."""

    async def main() -> None:
        handler = DefaultRequestHandler(
            agent_executor=Group(), task_store=InMemoryTaskStore(), agent_card=CARD
        )
        line = httpx.ASGITransport(Starlette(routes=create_jsonrpc_routes(handler, rpc_url="/")))
        config = ClientConfig(streaming=False, httpx_client=httpx.AsyncClient(transport=line))
        message = new_data_message({"do": "book"}, role=Role.ROLE_USER)
        request = SendMessageRequest(message=message)
        async for answer in ClientFactory(config).create(CARD).send_message(request):
            assert get_message_text(answer.message) == "there is no second room"

    asyncio.run(main())
    assert rooms == []
