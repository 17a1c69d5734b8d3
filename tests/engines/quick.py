"""An engine on which a manual clock moves on wherever a workflow waits."""

from typing import Any, cast

from aumai_transactions.testing.engine_programs import Points, WatchedEngine

NOBODY: Any = Points(cast("Any", None), 0)


class QuickEngine(WatchedEngine):
    """Let no workflow wait: the clock is told that the time is over."""

    def __init__(self, engine, clock):
        super().__init__(engine, NOBODY)
        self._clock = clock

    def open(self, body):
        self._engine.open(lambda execution, text: body(_Quick(execution, self._clock), text))


class _Quick:
    def __init__(self, execution, clock):
        self._execution = execution
        self._clock = clock

    def __getattr__(self, name):
        return getattr(self._execution, name)

    def wait(self, seconds):
        self._clock.sleep(seconds)
