"""Another agent reserves a flight; it has no hotel; it is told to cancel the flight."""

import asyncio
from typing import Any

from a2a.client import ClientConfig, ClientFactory
from a2a.helpers import get_message_text, new_text_message
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore
from a2a.types import AgentCard, AgentInterface, Role, SendMessageRequest
from httpx import ASGITransport, AsyncClient
from starlette.applications import Starlette

from aumai_transactions import step, transaction


class Theirs(AgentExecutor):
    async def execute(self, context: Any, event_queue: Any) -> None:
        print("the other agent is asked to", asked := get_message_text(context.message))
        said = "sorry, full" if "hotel" in asked else "done"
        await event_queue.enqueue_event(new_text_message(said, role=Role.ROLE_AGENT))

    cancel = execute


place = AgentInterface(url="http://theirs/", protocol_binding="JSONRPC", protocol_version="1.0")
card = AgentCard(name="theirs", supported_interfaces=[place])
routes = create_jsonrpc_routes(DefaultRequestHandler(Theirs(), InMemoryTaskStore(), card), "/")
line = AsyncClient(transport=ASGITransport(Starlette(routes=routes)))


async def tell(text: str) -> None:
    client = ClientFactory(ClientConfig(streaming=False, httpx_client=line)).create(card)
    message = new_text_message(text, role=Role.ROLE_USER)
    async for answer in client.send_message(SendMessageRequest(message=message)):
        if get_message_text(answer.message) != "done":
            raise ValueError(get_message_text(answer.message))


@step(name="book", compensating_action=lambda what: tell(f"cancel {what}"), required=True)
async def book(what: str) -> None:
    await tell(f"book {what}")


async def main() -> None:
    try:
        async with transaction(name="trip") as tx:
            await book("flight")
            await book("hotel")
    except ValueError:
        print(tx.result)


asyncio.run(main())
