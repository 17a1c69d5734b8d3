"""Who wants something in a simulation: clients, programs, and those who look after the store.

Owns: what they do and when. What they call are the procedures behind the manager's methods.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from aumai_transactions.core.observations import (
    ApprovalAnswered,
    Observation,
    ResolutionAnswered,
    RetryAsked,
    RollbackCalled,
    UndoAsked,
)
from aumai_transactions.drivers import procedures, resuming, submitting, taking_part
from aumai_transactions.drivers.asking import ask, see_through, waiting_until
from aumai_transactions.drivers.blocks import BlockBase
from aumai_transactions.drivers.desk import read_transaction
from aumai_transactions.drivers.finishing import leave_block
from aumai_transactions.drivers.operations import DoSleep
from aumai_transactions.drivers.recovery import recover
from aumai_transactions.errors import StoreUnavailable, TransactionNotActive
from aumai_transactions.testing.simulator.interrupts import Interrupted
from aumai_transactions.testing.simulator.plans import data_of

if TYPE_CHECKING:
    from random import Random

    from aumai_transactions.drivers.groups import Group
    from aumai_transactions.drivers.operations import Procedure
    from aumai_transactions.models import Transaction, TransactionResult
    from aumai_transactions.testing.simulator.plans import Plan, PlannedStep
    from aumai_transactions.testing.simulator.processes import Process
    from aumai_transactions.testing.simulator.world import World


class SimulatedBlock(BlockBase):
    """Be a block of a simulated program."""

    def _new_teller(self) -> Any:
        raise NotImplementedError


def client(process: Process, plan: Plan) -> Procedure[TransactionResult | None]:
    """Begin a transaction as its plan says, and wait for its end as long as its client would."""
    desk, manager = process.desk, process.manager
    process.world.beginning = plan.number
    if plan.start == "interactive":
        return (yield from program(process, plan))
    options = dict(plan.options)
    if plan.start == "keyed":
        options["idempotency_key"] = f"order-{plan.number}"
    transaction = manager._begun(desk, plan.timeout_seconds, options)  # type: ignore[arg-type]  # noqa: SLF001
    if plan.start == "keyed":
        transaction = yield from procedures.begin_keyed(desk, transaction)
    process.world.watch.began(transaction.transaction_id, plan)
    _fill(process, transaction, plan)
    wait = plan.wait_seconds
    if plan.start == "submit":
        yield from submitting.submit(desk, transaction)
        return (yield from _waited(process, transaction.transaction_id, wait))
    if plan.start == "save":
        yield from procedures.save(desk, transaction)
        yield DoSleep(plan.dice.choice((0.1, 5.0, 40.0)))
    if plan.start == "roll_back":
        return (yield from procedures.rollback(desk, transaction, wait_max_seconds=wait))
    return (yield from procedures.commit(desk, transaction, wait_max_seconds=wait))


def _fill(process: Process, transaction: Transaction, plan: Plan) -> None:
    names: list[str] = []
    for step in plan.steps:
        options = dict(step.options)
        if step.after is not None:
            options["after"] = [names[number] for number in step.after]
        added = process.manager.add_step(
            transaction, step.agent_id, step.action, data_of(step, names), **options
        )
        names.append(added.step_id)


def _waited(process: Process, name: str, seconds: float) -> Procedure[TransactionResult]:
    until = waiting_until(process.desk, seconds)
    return (yield from see_through(process.desk, name, until, others=True))


# ------------------------------------------------------------------------------------ programs


def program(process: Process, plan: Plan) -> Procedure[TransactionResult | None]:
    """Be a program that chooses its steps as it goes."""
    desk, manager = process.desk, process.manager
    made = manager._interactive(plan.timeout_seconds, plan.options)  # type: ignore[arg-type]  # noqa: SLF001
    made.transaction_id = desk.new_id()
    block = SimulatedBlock(manager, made)
    block._begin(desk)  # noqa: SLF001
    process.world.watch.began(made.transaction_id, plan)
    return (yield from _run_block(process, block, plan))


def _run_block(
    process: Process, block: SimulatedBlock, plan: Plan
) -> Procedure[TransactionResult | None]:
    desk, dice = process.desk, plan.dice
    shared = block._shared  # noqa: SLF001
    inner: SimulatedBlock | None = None
    names: list[str] = []
    error: BaseException | None = None
    for step in plan.steps:
        try:
            inner = yield from _group_for(process, block, inner, dice)
            stands_in = inner or block
            if dice.random() < 0.15:
                # Another thread of the program asks for this one, and the program goes on.
                beside = _execute(process, stands_in, step, list(names), dice)
                process.start(beside, partial(_beside_ended, process.world))
                yield DoSleep(dice.choice((0.0, 0.03, 2.0)))
                continue
            names.append((yield from _execute(process, stands_in, step, names, dice)))
            if dice.random() < 0.1:
                yield from _undo_something(process, block, inner, names, dice)
                inner = None
        except (TransactionNotActive, Interrupted) as ended:
            error = ended
            break
        except Exception as failure:  # noqa: BLE001 (a tool's error; the program may go on)
            process.world.refuse(failure, f"a step of {block.transaction_id}", tools=True)
            names.append("")
            if isinstance(failure, StoreUnavailable) or dice.random() < 0.3:
                error = failure
                break
    wish = block._wish_at_end(error)  # noqa: SLF001
    part = block._part()  # noqa: SLF001
    result = yield from leave_block(desk, shared, part, wish, plan.wait_seconds)
    if part.interrupt is not None:
        raise part.interrupt
    if isinstance(error, Interrupted):
        raise error
    return result


def _beside_ended(world: World, _step_id: object, error: BaseException | None) -> None:
    world.count("executed_beside")
    if error is not None:
        world.refuse(error, "a step beside others", tools=True)


def _group_for(
    process: Process, block: SimulatedBlock, inner: SimulatedBlock | None, dice: Random
) -> Procedure[SimulatedBlock | None]:
    """Open a savepoint or a nested transaction now and then, and leave it again."""
    drawn = dice.random()
    group = None if inner is None else inner._group  # noqa: SLF001
    if group is not None:
        if drawn >= 0.4:
            return inner
        if group.definition.kind == "child":
            part = block._part()  # noqa: SLF001
            yield from taking_part.release(process.desk, block._shared, part, group)  # noqa: SLF001
        return None
    if drawn > 0.25:
        return None
    new = block._new_group("savepoint" if drawn < 0.15 else "child", "")  # noqa: SLF001
    return SimulatedBlock(block._manager, block._transaction, parent=block, group=new)  # noqa: SLF001


def _execute(
    process: Process,
    block: SimulatedBlock,
    step: PlannedStep,
    names: list[str],
    dice: Random,
) -> Procedure[str]:
    options: Any = dict(step.options)
    data: dict[str, Any] = dict(step.data)
    # Why not all of it: what was named may have failed, and then the step could not be.
    if step.refers_to and names and names[-1]:
        data = data_of(step, [names[-1]] * (max(step.refers_to) + 1))
    asked = block._asked(  # noqa: SLF001
        step.agent_id, step.action, data, None, step_id=None, intent=None, options=options
    )
    executed = yield from taking_part.execute(
        process.desk,
        block._shared,  # noqa: SLF001
        block._part(),  # noqa: SLF001
        asked,
        block._group,  # noqa: SLF001
        once=False,
        again=False,
        wait_max_seconds=dice.choice((1.0, 20.0)),
    )
    return executed.step_id


def _undo_something(
    process: Process,
    block: SimulatedBlock,
    inner: SimulatedBlock | None,
    names: list[str],
    dice: Random,
) -> Procedure[None]:
    group: Group | None = None if inner is None else inner._group  # noqa: SLF001
    if group is not None and dice.random() < 0.5:
        asked = UndoAsked(scope_id=group.scope_id)
    else:
        asked = UndoAsked(step_id=dice.choice(names))
        if not asked.step_id:
            return
    part = block._part()  # noqa: SLF001
    yield from taking_part.undo(process.desk, block._shared, part, asked)  # noqa: SLF001


# ---------------------------------------------------------------------------------- who looks after


def look_after(process: Process, dice: Random) -> Procedure[Any]:
    """Be somebody who looks at a transaction, and does something about it."""
    world, desk = process.world, process.desk
    drawn = dice.random()
    if drawn < 0.05:
        wait = dice.choice((0.0, 10.0))
        return (yield from recover(desk, wait_max_seconds=wait, concurrency=4))
    listed = world.store.listed()
    if not listed:
        return None
    needing = [item for item in listed if item.summary.attention is not None]
    chosen = dice.choice(needing if needing and drawn < 0.8 else listed)
    name = chosen.summary.transaction_id
    wait = dice.choice((0.0, 0.0, 0.0, 1.0, 5.0))
    if drawn > 0.95:
        return (yield from _waited(process, name, wait))
    if drawn > 0.9:
        transaction = yield from read_transaction(desk, name)
        return (yield from procedures.rollback(desk, transaction, wait_max_seconds=wait))
    if drawn > 0.86:
        return (yield from _resume(process, name))
    wish = _wish(world, name, dice)
    if wish is None:
        return None
    world.count(f"asked_{type(wish).__name__}")
    return (yield from ask(desk, name, wish, wait_max_seconds=wait))


def _resume(process: Process, name: str) -> Procedure[None]:
    plan = process.world.watch.plans.get(name)
    shared, transaction = yield from resuming.resume(process.desk, name)
    block = resuming.block_of(SimulatedBlock, process.manager, shared, transaction, process.desk)
    process.world.count("resumed")
    if plan is not None:
        yield from _run_block(process, block, plan)


def _wish(world: World, name: str, dice: Random) -> Observation | None:
    """Choose what a person would want of a transaction that looks like this."""
    told = world.watch.rules[name]
    waiting = [
        step_id
        for step_id, step in told.steps.items()
        if step.definition.requires_approval and not step.approved and not step.attempts
    ]
    doubtful = [name for name, step in told.steps.items() if step.state == "doubt"]
    outstanding = told.outstanding()
    if outstanding and dice.random() < 0.7:
        return _about_outstanding(world, name, dice.choice(outstanding), dice)
    if doubtful and dice.random() < 0.7:
        return _about_doubt(world, name, dice.choice(doubtful), dice)
    if waiting and dice.random() < 0.7:
        return ApprovalAnswered(dice.choice(waiting), dice.random() < 0.8, "ann")
    if told.steps and dice.random() < 0.4:
        return RetryAsked(dice.choice(list(told.steps)), "bob")
    return RollbackCalled("carl")


def _about_outstanding(world: World, name: str, step_id: str, dice: Random) -> Observation:
    drawn = dice.random()
    if drawn < 0.5:
        return RetryAsked(step_id, "bob")
    if drawn < 0.7 and not world.participants.effect(name, step_id).in_flight:
        return ResolutionAnswered(step_id, "left_in_place", "ann", "nobody minds")
    world.participants.settle_by_hand(name, step_id, f"{name}/{step_id}/action")
    return ResolutionAnswered(step_id, "undone", "ann", "by hand")


def _about_doubt(world: World, name: str, step_id: str, dice: Random) -> Observation | None:
    """Say what became of a step in doubt, and only what is true and stays so."""
    effect = world.participants.effect(name, step_id)
    if dice.random() < 0.4:
        world.watch.retried.add((name, step_id))
        return RetryAsked(step_id, "bob")
    if effect.in_flight:
        return None
    if effect.standing:
        return ResolutionAnswered(step_id, "happened", "ann", "it is there")
    world.participants.seal(f"{name}/{step_id}/action")
    return ResolutionAnswered(step_id, "did_not_happen", "ann", "it is not there")


def begin(world: World, plan: Plan) -> None:
    """Let a client begin its transaction, in whichever process it stands."""
    process = world.some_process(plan.process)
    if process is None:
        world.agenda.after(1.0, begin, world, plan)
        return
    world.arriving -= 1
    world.trace("begins", process.name, plan.number, plan.start, len(plan.steps))
    process.start(client(process, plan), partial(_client_ended, world))
    if plan.start == "keyed" and plan.dice.random() < 0.6:
        again = world.some_process(plan.process + 1)
        if again is not None:
            twin = world.planner.plan(plan.number)
            again.start(client(again, twin), partial(_client_ended, world))


def _client_ended(world: World, result: Any, error: BaseException | None) -> None:
    if error is not None:
        world.refuse(error, "a client")
    elif result is not None:
        world.watch.acknowledged(result)


def visit(world: World, number: int) -> None:
    """Let somebody come and look after a transaction."""
    world.arriving -= 1
    dice = world.dice("person", number)
    process = world.some_process(dice.randrange(8))
    if process is not None:
        process.start(look_after(process, dice), partial(_visit_ended, world))


def _visit_ended(world: World, result: Any, error: BaseException | None) -> None:
    if error is not None:
        world.refuse(error, "a person")
    elif getattr(result, "is_final", False):
        world.watch.acknowledged(result)
