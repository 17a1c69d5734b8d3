"""Let an agent of pydantic-ai book a trip whose hotel is full, and undo what it has booked."""

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from aumai_transactions import TransactionManager
from aumai_transactions.integrations.pydantic_ai import Transactional


def book_flight(city: str) -> str:
    print(f"booked a flight to {city}")
    return "LH 861"


def book_hotel(city: str) -> str:
    raise ValueError(f"no room in {city}")


def cancel_flight(city: str, result: str) -> None:
    print(f"cancelled {result} to {city}")


def model(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:  # Offline.
    match sum(isinstance(one, ModelResponse) for one in messages):
        case 0:
            return ModelResponse([ToolCallPart("book_flight", {"city": "Oslo"})])
        case 1:
            return ModelResponse([ToolCallPart("book_hotel", {"city": "Oslo"})])
    return ModelResponse([TextPart(f"no trip: {messages[-1].parts[0].content}")])


transactional = Transactional({"book_flight": cancel_flight})
agent = Agent(FunctionModel(model), tools=[book_flight, book_hotel], capabilities=[transactional])

with TransactionManager().transaction() as tx:
    answer = agent.run_sync("Book me a trip to Oslo.").output
    if answer.startswith("no trip"):
        tx.rollback(answer)
print(tx.result)
