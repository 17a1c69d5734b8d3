"""Let an agent of the OpenAI Agents SDK book a trip whose hotel is full, and undo its flight."""

from agents import Agent, Runner, function_tool, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call

from aumai_transactions import TransactionManager
from aumai_transactions.integrations.openai_agents import transactional_agent

set_tracing_disabled(disabled=True)


@function_tool
def book_flight(city: str) -> str:
    print(f"booked a flight to {city}")
    return "LH 861"


@function_tool
def book_hotel(city: str) -> str:
    raise ValueError(f"no room in {city}")


def cancel_flight(city: str, result: str) -> None:
    print(f"cancelled {result} to {city}")


flight = [function_call("book_flight", {"city": "Oslo"}, call_id="1")]
hotel = [function_call("book_hotel", {"city": "Oslo"}, call_id="2")]
model = ScriptedModel([flight, hotel, [assistant_message("no trip")]])  # Plays one, offline.
agent = Agent("trip", model=model, tools=[book_flight, book_hotel])
agent = transactional_agent(agent, {"book_flight": cancel_flight})

with TransactionManager().transaction() as tx:
    answer = Runner.run_sync(agent, "Book me a trip to Oslo.").final_output
    if answer == "no trip":
        tx.rollback(answer)
print(tx.result)
