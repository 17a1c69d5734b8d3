"""How one cell is carried out in this process, and what is seen of it.

Owns: the run of a transaction through a faulty network, and what is read from its journal and from
the participant's database afterwards.
"""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.faults.cells import Cell
from tests.faults.law import Seen
from tests.faults.network import Agent, Network
from tests.faults.participant import Hotel

from aumai_transactions import TransactionNotFound
from aumai_transactions.testing.clock import ManualClock

NOON = datetime(2026, 2, 27, 12, tzinfo=UTC)
STARTED = {"action": "step_started", "undo": "compensation_started", "probe": "probe_started"}
ROUNDS_MAX = 10
DAY_SECONDS = 86_400


class PassingClock(ManualClock):
    """A manual clock that tells a test when somebody lets time pass."""

    def __init__(self, now: datetime, passes: Callable[[], None]):
        super().__init__(now)
        self._passes = passes

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self._passes()


def begun(manager: Any, cell: Cell) -> Any:
    tx = manager.begin(DAY_SECONDS)
    manager.add_step(tx, "agent", "book", {"room": 7})
    if cell.fault.direction == "backward":
        manager.add_step(tx, "agent", "refuse", {})
    return tx


def carried_out(manager: Any, tx: Any) -> Any:
    """Commit, and wait for what is waited for; time passes only by that."""
    result = manager.commit(tx)
    for _ in range(ROUNDS_MAX):
        if result.is_final or result.waiting.until is None:
            break
        result = manager.wait(tx, timeout_seconds=DAY_SECONDS)
    return result


def carry_out(
    cell: Cell, folder: Path, make_manager: Callable[..., Any], *, is_async: bool
) -> Seen:
    """Carry out one cell from the beginning to the end of the story."""
    hotel = Hotel(folder / "hotel.db", cell.kind)
    hotel.create()
    network = Network(cell, hotel)
    agent = Agent(cell, lambda _: network, is_async=is_async)

    def time_passes() -> None:
        if agent.left_behind and cell.fault.arrives == "before_next":
            network.deliver()
            agent.let_go_on()

    clock = PassingClock(NOON, time_passes)
    manager = make_manager(clock=clock, on_event=agent.on_event)
    agent.register(manager)
    tx = begun(manager, cell)
    result = carried_out(manager, tx)
    assert manager.get_result(tx).state == result.state == tx.state
    if cell.fault.happening == "silent":
        seen = seen_of(manager, tx.transaction_id, hotel)
        agent.let_go_on()
        assert seen_of(manager, tx.transaction_id, hotel) == seen
    if cell.fault.again_later:
        network.deliver_again()
    network.deliver()
    agent.let_go_on()
    assert manager.verify().problems == {}
    return seen_of(manager, tx.transaction_id, hotel)


def seen_of(manager: Any, name: str, hotel: Hotel) -> Seen:
    """Read the outcome from the journal, and the world from the participant's database."""
    arrived = hotel.arrived(name)
    for label, key, forward_key in arrived:
        operation = {"undo": "compensation", "undo?": "compensation"}.get(label, label)
        operation = operation if operation in ("action", "probe") else "compensation"
        # I9: every attempt carries the same key, and names the same forward call.
        assert (key, forward_key) == (
            f"{name}/s1/{'compensation' if operation == 'compensation' else operation}",
            f"{name}/s1/action",
        )
    applied, undone = hotel.bookings(name)
    seen = Seen(arrived=[label for label, _, _ in arrived], applied=applied, undone=undone)
    try:
        result = manager.get_result(name)
    except TransactionNotFound:
        return seen
    started = Counter(event.kind for event in manager.get_events(name) if event.step_id == "s1")
    seen.state = result.state.value
    seen.clean = result.clean
    assert len(result.outstanding) <= 1
    assert [item.step_id for item in result.outstanding] in ([], ["s1"])
    seen.outstanding = result.outstanding[0].reason if result.outstanding else None
    seen.actions, seen.undos, seen.probes = (started[kind] for kind in STARTED.values())
    if seen.state == "committed":
        assert result.outputs == {"s1": {"booking": f"{name}/s1/action"}}
    return seen
