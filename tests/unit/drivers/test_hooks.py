"""Hooks are told every entry, in order, and change nothing."""
# mypy: disable-error-code="arg-type, var-annotated"

import asyncio
import threading

import pytest

from aumai_transactions import AsyncTransactionManager, TransactionManager
from aumai_transactions.drivers import hooks as module
from aumai_transactions.errors import DefinitionError


def nothing(action, data):
    pass


def run(manager):
    tx = manager.begin()
    manager.add_step(tx, "a", "book", {"x": 1})
    return manager.commit(tx)


async def run_async(manager):
    tx = await manager.begin()
    manager.add_step(tx, "a", "book", {"x": 1})
    return await manager.commit(tx)


def test_every_hook_of_a_list_is_told_every_entry():
    first, second = [], []
    with TransactionManager({"book": nothing}, on_event=[first.append, second.append]) as manager:
        result = run(manager)
        assert first == second == manager.get_events(result.transaction_id)


def test_a_hook_that_raises_keeps_nothing_from_the_next_one(caplog):
    told = []

    def hook(event):
        raise ValueError(f"not {event.kind}")

    with TransactionManager({"book": nothing}, on_event=(hook, told.append)) as manager:
        result = run(manager)
    assert result.state == "committed"
    assert len(told) == len(result.warnings) > 3
    assert "the hook on_event raised ValueError: not plan_recorded" in result.warnings[0]
    assert len(caplog.records) == len(told)


def test_what_a_hook_does_to_its_event_the_next_one_does_not_see():
    told = []

    def spoil(event):
        event.fields.clear()
        event.kind = "spoilt"

    with TransactionManager({"book": nothing}, on_event=[spoil, told.append]) as manager:
        result = run(manager)
        assert told == manager.get_events(result.transaction_id)


def test_a_sync_manager_awaits_async_hooks_in_order():
    told = []

    async def hook(event):
        await asyncio.sleep(0)
        told.append(event)

    with TransactionManager({"book": nothing}, on_event=hook) as manager:
        result = run(manager)
        assert told == manager.get_events(result.transaction_id)


@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError("no")])
def test_what_an_async_hook_raises_becomes_a_warning(error):
    async def hook(event):
        raise error

    with TransactionManager({"book": nothing}, on_event=hook) as manager:
        result = run(manager)
    assert result.state == "committed"
    assert f"raised {type(error).__name__}: no" in result.warnings[0]


def test_an_async_manager_awaits_async_hooks_in_its_loop_and_in_order():
    told, loops = [], set()

    async def hook(event):
        loops.add(asyncio.get_running_loop())
        await asyncio.sleep(0)
        told.append(event)

    async def story():
        async with AsyncTransactionManager({"book": nothing}, on_event=[hook]) as manager:
            result = await run_async(manager)
            events = await manager.get_events(result.transaction_id)
        assert told == events
        assert loops == {asyncio.get_running_loop()}

    asyncio.run(story())


def test_an_async_hook_that_hangs_holds_no_async_manager_up(monkeypatch):
    monkeypatch.setattr(module, "HOOK_SECONDS_MAX", 0.01)
    begun = []

    async def hook(event):
        begun.append(event.kind)
        await asyncio.Event().wait()

    async def story():
        async with AsyncTransactionManager({"book": nothing}, on_event=hook) as manager:
            result = await run_async(manager)
            assert result.state == "committed"
            assert result.warnings == []
        assert begun == ["plan_recorded"]

    asyncio.run(story())


def test_an_async_hook_of_an_async_manager_that_raises_changes_nothing(caplog):
    async def hook(event):
        raise ValueError("no")

    async def story():
        async with AsyncTransactionManager({"book": nothing}, on_event=hook) as manager:
            return await run_async(manager)

    assert asyncio.run(story()).state == "committed"
    assert "on_event raised for plan_recorded" in caplog.text


def test_an_event_of_another_thread_is_awaited_in_the_loop():
    told = []

    async def story():
        tasks, both = module.HookTasks(), asyncio.Event()

        async def hook(text):
            told.append((text, asyncio.get_running_loop()))
            if len(told) == 2:
                both.set()

        tasks.put(hook("first"), told.append)
        await asyncio.to_thread(lambda: tasks.put(hook("second"), told.append))
        await both.wait()
        await tasks.close()
        assert {loop for _, loop in told} == {asyncio.get_running_loop()}

    asyncio.run(story())
    assert [text for text, _ in told] == ["first", "second"]


def test_without_a_loop_what_is_to_be_awaited_is_said_to_be_lost():
    tasks, raised = module.HookTasks(), []

    async def hook():
        pass

    thread = threading.Thread(target=tasks.put, args=(hook(), raised.append))
    thread.start()
    thread.join()
    assert str(raised[0]) == "its event loop is gone"


@pytest.mark.parametrize("wrong", [3, "name", [print, 3], {print: 1}])
def test_what_is_no_hook_is_refused(wrong):
    with pytest.raises(DefinitionError, match="on_event must be a function, or a list"):
        TransactionManager(on_event=wrong)


def test_an_empty_list_is_no_hook():
    with TransactionManager(on_event=[]) as manager:
        assert manager._hooks is None
