"""Calls that never end, and the process that made them."""
# mypy: disable-error-code="union-attr"

import os
import subprocess
import sys
import textwrap
from datetime import UTC, datetime

import pytest

from aumai_transactions import TransactionManager
from aumai_transactions.testing.clock import ManualClock


@pytest.mark.parametrize("driver", ["sync", "async"])
def test_a_call_that_never_ends_does_not_keep_the_process_from_ending(tmp_path, driver):
    program = """
        import asyncio, sys, threading
        from aumai_transactions import AsyncTransactionManager, TransactionManager

        def act(action, data):
            threading.Event().wait()

        def setup(manager):
            manager.action("act", compensating_action="undo", timeout_seconds=0.01)(act)
            manager.action("undo")(lambda action, data: None)

        async def story():
            async with AsyncTransactionManager(store="trips.db") as manager:
                setup(manager)
                tx = await manager.begin()
                manager.add_step(tx, "agent", "act", {})
                return await manager.commit(tx, wait_max_seconds=0)

        if sys.argv[1] == "async":
            result = asyncio.run(story())
        else:
            with TransactionManager(store="trips.db") as manager:
                setup(manager)
                tx = manager.begin()
                manager.add_step(tx, "agent", "act", {})
                result = manager.commit(tx, wait_max_seconds=0)
        print(result.waiting.reason)
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), driver],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("left_behind\n", "", 0)
    # Nobody can tell here that the process is gone; but the undo waits only so long.
    clock = ManualClock(datetime.now(UTC))
    calls = []
    with TransactionManager(store=tmp_path / "trips.db", clock=clock) as manager:
        for name in ("act", "undo"):
            manager.action(name)(lambda action, data: calls.append(action))
        assert manager.recover() == []
        clock.advance(60)
        (report,) = manager.recover()
    assert (report.detail, calls) == ("rolled back", ["undo"])
    assert [item.reason for item in report.result.outstanding] == ["may_still_act"]
