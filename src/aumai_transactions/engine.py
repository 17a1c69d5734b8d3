"""The contract for hosting transactions on somebody else's durable engine.

Owns: what an engine must give, and nothing of how a transaction is carried out; that is
`drivers/hosting.py`. `aumai_transactions.testing.engine_contract` is the same contract as a suite.
Rules:
  1. A *workflow* has a name that is taken once, for ever. What it does is a *body*, a function of
     ours that the engine calls, and calls again in another process where that one died: each such
     call is an *execution*.
  2. A *step* is a function whose result the engine keeps under the workflow's name, the step's
     place in its row, and the step's own name. In a later execution it is not called again; the
     result that was kept is returned. The step in which a process died has no result, so it is
     called again: that it then makes no call twice is seen to by whoever gave the step.
  3. An engine repeats no step by itself. A step of ours does not raise.
  4. Of two executions of one workflow only one has its results kept. The other one is told by
     `ExecutionStopped` at its next step, or at the end of the one that it is in.
  5. Nothing depends on signals but how soon something happens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, runtime_checkable

Kept = dict[str, Any]
"""What a step returns: a JSON object, kept as JSON and never pickled."""

Status = Literal["queued", "running", "ended", "cancelled"]
"""How a workflow stands. `running` is also one whose process has died; `ended` well or badly."""


class ExecutionStopped(BaseException):
    """Say that this execution must do nothing more: it was cancelled, replaced, or is to stop.

    Why no Exception: nothing that a transaction does on its way may take it for an answer.
    """


class Execution(Protocol):
    """Be one execution of a workflow, as its body sees it; for the body's own thread."""

    @property
    def workflow_id(self) -> str:
        """The workflow's name."""

    @property
    def is_ending(self) -> bool:
        """True where the engine is being closed; the body ends with `ExecutionStopped` soon."""

    def step(self, name: str, function: Callable[[], Kept]) -> Kept:
        """Return what this step returned when it was first carried out to its end.

        Args:
            name: What the step is called; the same in each execution, or the engine may refuse.
            function: Carries it out; it raises no `Exception`.

        Raises:
            ExecutionStopped: This execution must do nothing more. If the function was called, what
                it returned is not kept.
        """

    def wait(self, seconds: float) -> None:
        """Wait for so long, or until the workflow is signalled; the time counts across deaths.

        A signal that came before, and that no wait has ended with, ends this one at once. A wait
        may end too early, for its body looks again.

        Args:
            seconds: How long.

        Raises:
            ExecutionStopped: See `step`.
        """


Body = Callable[[Execution, str], str]
"""What a workflow does: given its execution and its argument, return what is to be shown."""


@runtime_checkable
class Engine(Protocol):
    """Carry workflows out, each to its end, whatever dies. Every method may block."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def patience_seconds(self) -> float:
        """How long a workflow may seem dead before another one is started for its transaction."""

    def open(self, body: Body) -> None:
        """Begin to carry out workflows, those included that this process left when it died.

        Raises:
            EngineError: It cannot be reached, or is in use already.
        """

    def start(self, workflow_id: str, argument: str, *, here: bool) -> None:
        """Start a workflow, unless one of this name was ever started.

        Args:
            workflow_id: Its name.
            argument: What its body is given.
            here: True to carry it out in this process at once; False to leave it to whichever
                process of the engine is free.
        """

    def signal(self, workflow_id: str) -> None:
        """Wake a workflow that waits, or that will; nothing where there is none that could."""

    def cancel(self, workflow_id: str) -> None:
        """Let a workflow do nothing more; nothing where it has ended."""

    def status(self, workflow_id: str) -> Status | None:
        """Return how a workflow stands; None where none of this name was ever started."""

    def close(self, drain_seconds: float = 0.0) -> None:
        """Take up nothing new, wake each execution, and let it end where it finds it best.

        Args:
            drain_seconds: How long to wait for those at most. What is left is carried on by
                whoever opens the engine next.
        """
