"""How procedures are carried out side by side in a simulated process.

Owns: that.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aumai_transactions.drivers.operations import DoTogether
    from aumai_transactions.testing.simulator.processes import Process, Task


class Together:
    """Carry out procedures side by side, for a task that waits for all of them."""

    def __init__(self, process: Process, task: Task, operation: DoTogether) -> None:
        self._process = process
        self._task = task
        self._left = deque(enumerate(operation.procedures))
        self._answers: dict[int, object] = {}
        self._error: BaseException | None = None
        self._going = 0

    def begin_next(self) -> None:
        """Begin the next one, where there is one and none has failed."""
        if self._left:
            number, make = self._left.popleft()
            self._going += 1
            self._process.start(make(), partial(self._ended, number))

    def _ended(self, number: int, answer: object, error: BaseException | None) -> None:
        self._going -= 1
        self._answers[number] = answer
        if error is not None:
            self._error = self._error or error
            self._left.clear()
        self.begin_next()
        if not self._going:
            answers = [self._answers[place] for place in sorted(self._answers)]
            self._task.go_on(answers, self._error)
