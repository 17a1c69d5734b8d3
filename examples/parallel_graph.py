"""A plan whose independent steps run at the same time, and whose data flows from step to step.

python examples/parallel_graph.py

Three agents look at one house at once: each waits for the other two to have begun, so that this
program would stand still if they ran one after the other.
"""

import threading
from typing import Any

from aumai_transactions import SagaOrchestrator, TransactionManager, TransactionStep

together = threading.Barrier(3, timeout=30)
undone: list[str] = []


def find_house(action: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"house": {"street": "Elm Street", "rooms": 5}}


def inspect(action: str, data: dict[str, Any]) -> dict[str, Any]:
    together.wait()
    if data["what"] == data.get("trouble"):
        raise ValueError(f"the {data['what']} of {data['street']} is rotten")
    return {"price": 1_000 * data["rooms"]}


def sign(action: str, data: dict[str, Any]) -> None:
    print(f"  signed, for {sum(data['prices'])}")


def undo(action: str, data: dict[str, Any]) -> None:
    undone.append(data.get("what", "house"))


manager = TransactionManager(
    {"find_house": find_house, "inspect": inspect, "sign": sign, "undo": undo}
)


def saga(trouble: str | None) -> SagaOrchestrator:
    plan = SagaOrchestrator(manager)
    found = plan.register("scout", "find_house", {}, "undo")

    def inspection(what: str) -> TransactionStep:
        data = {
            "what": what,
            "trouble": trouble,
            # A reference: filled in when the step starts, and a dependency as well. If there is no
            # such place, or no number in it, the step fails before it is called.
            "street": found.output("/house/street", "string"),
            "rooms": found.output("/house/rooms", "integer"),
        }
        # after=[]: it waits for nothing but the output it refers to.
        return plan.register("inspector", "inspect", data, "undo", after=[])

    inspections = [inspection(what) for what in ("roof", "cellar", "kitchen")]
    prices = [step.output("/price", "integer") for step in inspections]
    plan.register("lawyer", "sign", {"prices": prices}, after=inspections)
    return plan


def main() -> None:
    print("All is well:")
    result = saga(trouble=None).execute()
    assert result.state == "committed"
    assert result.outputs["s1"] == {"house": {"street": "Elm Street", "rooms": 5}}

    print("One of three fails: the other two, which run, are awaited; then all is undone.")
    result = saga(trouble="cellar").execute()
    print(f"  {result.state}: {result.error}")
    print(f"  undone: {', '.join(sorted(undone[:-1]))}; last of all the {undone[-1]}")
    assert result.state == "rolled_back"
    assert sorted(undone) == ["house", "kitchen", "roof"]
    assert undone[-1] == "house"


if __name__ == "__main__":
    main()
