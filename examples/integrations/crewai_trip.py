"""A crew books a flight; the hotel is full; CrewAI calls it a success, and nothing stays booked."""

import json

from crewai import Agent, Crew, Task
from crewai.llms.base_llm import BaseLLM
from crewai.tools import tool

from aumai_transactions import step, transaction

booked: list[str] = []


def cancel(what: str) -> None:
    booked.remove(what)


@tool("book")
@step(name="book", compensating_action=cancel, once=True, required=True)
def book(what: str) -> str:
    """Book something."""
    if what == "hotel":
        raise ValueError("the hotel is full")
    booked.append(what)
    return f"{what}: booked"


class Script(BaseLLM):
    """Stand for a real model."""

    def call(self, messages: object, *_arguments: object, **_options: object) -> str:
        """Ask for a flight and a hotel, and be content."""
        for what in ("flight", "hotel"):
            if f'"{what}"' not in str(messages):
                return f"Thought: go\nAction: book\nAction Input: {json.dumps({'what': what})}"
        return "Thought: done\nFinal Answer: All is well."


agent = Agent(role="r", goal="g", backstory="b", llm=Script(model="script"), tools=[book])
task = Task(description="Book a trip.", expected_output="A trip.", agent=agent)
with transaction(name="trip") as tx:
    Crew(agents=[agent], tasks=[task]).kickoff()
    if len(booked) < 2:
        tx.rollback("no hotel")
print(tx.result)
assert booked == []
