"""An agent of LangChain books a flight; the hotel is full; nothing stays booked."""

from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

from aumai_transactions import transaction
from aumai_transactions.integrations.langchain import TransactionMiddleware

booked: list[str] = []


def book(what: str) -> str:
    """Book something."""
    if what == "hotel":
        raise ValueError("the hotel is full")
    booked.append(what)
    return f"{what}: booked"


def cancel(what: str) -> None:
    booked.remove(what)


class Script(GenericFakeChatModel):
    """Stand for a real model."""

    def bind_tools(self, *_tools: object, **_options: object) -> "Script":
        """Let the script know of no tools."""
        return self


calls = [{"name": "book", "args": {"what": what}, "id": what} for what in ("flight", "hotel")]
script = Script(messages=iter([AIMessage("", tool_calls=calls), AIMessage("No hotel, no trip.")]))
agent = create_agent(script, [book], middleware=[TransactionMiddleware({"book": cancel})])

with transaction(name="trip") as tx:
    answer = agent.invoke({"messages": [("user", "Book me a trip.")]})
    if "No hotel" in answer["messages"][-1].content:
        tx.rollback("no hotel")
print(tx.result)
assert booked == []
