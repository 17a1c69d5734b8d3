"""Run a transaction again and again, each time with something else going wrong.

Owns: `assert_atomic`: which runs are made, in which order, and what is counted.
Rules:
  1. Nothing is skipped in silence: a fault that did not strike is counted, and a limit that is
     reached is an error.
  2. A proof of nothing is an error: no step, a world that never changes, a clean run that does not
     commit.
"""

from __future__ import annotations

import inspect
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from aumai_transactions.models import TransactionState
from aumai_transactions.store import Store
from aumai_transactions.testing.atomic.faults import (
    Fault,
    FaultKind,
    Moment,
    faults_at,
    faults_behind,
)
from aumai_transactions.testing.atomic.judge import Rule, Verdict, Whole, judged
from aumai_transactions.testing.atomic.lives import (
    CannotRun,
    Ended,
    InProcess,
    MakeManager,
    Stage,
    Work,
    recover,
)
from aumai_transactions.testing.atomic.record import Record
from aumai_transactions.testing.atomic.story import NothingToProve, told
from aumai_transactions.testing.worlds import World, differences, without_ids, world_of

RUNS_MAX = 20_000

CrashMode = Literal["in_process", "process"]


@dataclass(slots=True)
class AtomicityReport:
    """Say what was tried, where nothing was left behind.

    Attributes:
        steps: How many steps the clean run has.
        moments: How many moments it has: calls and durable writes.
        runs: How many runs were made, the clean ones included.
        faults: How many faults struck, by kind.
        crashes: How many processes died.
        crashes_in_recovery: How many of them while they recovered.
        outcomes: How many runs came to which outcome.
        needing_a_person: How many runs ended so that a person has to look, where that is allowed.
        not_reached: The faults whose moment did not come, for the transaction took another way.
        seconds: How long it took.
        store: In which store.
        crash: `in_process`, or `process` for real ones.
    """

    steps: int = 0
    moments: int = 0
    runs: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    crashes: int = 0
    crashes_in_recovery: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    needing_a_person: int = 0
    not_reached: list[str] = field(default_factory=list)
    seconds: float = 0.0
    store: str = ""
    crash: str = ""

    def __str__(self) -> str:
        """Return it in a few lines."""
        faults = ", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items()))
        outcomes = ", ".join(
            f"{count} {name.replace('_', ' ')}" for name, count in sorted(self.outcomes.items())
        )
        where = "real processes" if self.crash == "process" else "in this process"
        lines = [
            (
                f"atomic: {self.runs} runs of {self.steps} steps and {self.moments} moments, and "
                f"nothing was left behind ({self.store}, {where}, {self.seconds:.1f} s)"
            ),
            f"  faults    {sum(self.faults.values())}: {faults}",
            f"  crashes   {self.crashes}, {self.crashes_in_recovery} of them in a recovery",
            f"  outcomes  {outcomes}",
        ]
        if self.needing_a_person:
            lines.append(f"  a person has to look after {self.needing_a_person} of them")
        if self.not_reached:
            first = ", ".join(self.not_reached[:3])
            lines.append(f"  {len(self.not_reached)} faults found no moment to strike: {first}")
        return "\n".join(lines)

    def take(self, ended: Ended, verdict: Verdict) -> None:
        """Count a run."""
        self.runs += 1
        is_recovery = False
        for line in ended.record.happenings:
            if line.what == "begins":
                is_recovery = bool(line.text)
            elif line.what == "died":
                self.crashes += 1
                self.crashes_in_recovery += is_recovery
            elif line.what == "fault" and line.fault is not None:
                self.faults[str(line.fault.kind)] += 1
        self.outcomes[verdict.outcome] += 1
        self.needing_a_person += verdict.needs_a_person
        self.not_reached += [fault.key for fault in ended.left]


class AtomicOptions(TypedDict, total=False):
    """Hold what `assert_atomic` takes besides the saga, its world and its manager.

    Args:
        reset: Where `world` is a function: puts the world back before each run.
        recover: What the application does after a crash, given a new manager; default: its
            `recover()`.
        store: `memory:`; `sqlite:` for files that are made and removed; or a function that returns
            a new and empty store each time. Default `memory:`.
        crash: `in_process`, the default, plays a crash: its driver does nothing more, and its claim
            is dead. `process` runs each process for real, on SQLite, and kills it by SIGKILL; all
            functions must then be importable, and the world outside of the process.
        allow_outstanding: True where it may end so that a person has to look; then the world is
            not compared.
        whole: `(before, after) -> bool`, asked whether a committed transaction has done all of it,
            where a program may take another way and be right.
        faults: Which kinds to try: names of `FaultKind`; default all.
        pairs: False to plant one fault at a time only; default True, but with `process`.
        only: The faults of one run, as an error has named them.
    """

    reset: Callable[[], object] | None
    recover: Work
    store: str | Callable[[], Store]
    crash: CrashMode
    allow_outstanding: bool
    whole: Whole | None
    faults: Iterable[FaultKind | str] | None
    pairs: bool | None
    only: str | None


def assert_atomic(
    saga: Work, *, world: Any, manager: MakeManager | None = None, **options: Unpack[AtomicOptions]
) -> AtomicityReport:
    """Prove that a transaction leaves nothing behind, whatever goes wrong, or show where it does.

    It is run once without a fault, and then again and again, each time with one thing that goes
    wrong at one moment: a call that is refused, whose request is lost, whose answer is lost; a
    process that dies right before or right after a call or a durable write, and is recovered by a
    new one. Then in pairs: a refused action, and anything on the way back; a crash, and another
    one in its recovery. After each run the transaction must be committed and the world as after
    a clean run, or rolled back or failed and the world as before.

    Args:
        saga: The transaction: given a manager, builds and commits it, or carries it out as a
            block. A coroutine function where the manager is asynchronous.
        world: What it changes: a dict, list or set; an object with `snapshot()` and `reset()`
            (see `testing.worlds`); or a function that returns a picture that compares by `==`.
        manager: Called with `store=` and `clock=`, returns a manager that has all handlers, as the
            application makes one at its start; default: one that has the functions decorated
            with `@step`.
        **options: See `AtomicOptions`.

    Returns:
        What was tried.

    Raises:
        NotAtomic: Something is left behind, or nobody can go on; with the whole story.
        NothingToProve: It has no step that acts, the world never changes, the clean run does not
            commit, or two clean runs leave different worlds.
        TypeError: An argument cannot be used.
        ValueError: `only` names no fault.
    """
    begun = time.perf_counter()
    chosen = _chosen(options)
    kinds, looked_at = _kinds(chosen["faults"]), world_of(world, chosen["reset"])
    with tempfile.TemporaryDirectory(prefix="aumai-atomic-") as folder:
        stage = _stage(saga, manager or _default_manager(saga), chosen, Path(folder))
        report = AtomicityReport(crash=chosen["crash"], store=_store_name(chosen))
        trial = _Trial(stage, looked_at, report, chosen)
        try:
            trial.begin()
            if chosen["only"] is None:
                _explore(trial, kinds, in_pairs=bool(chosen["pairs"]))
            else:
                trial.attempt(_only(trial, chosen["only"]))
        finally:
            looked_at.reset()
    report.seconds = time.perf_counter() - begun
    return report


def _chosen(options: AtomicOptions) -> AtomicOptions:
    """Return the options, each with its default.

    Raises:
        TypeError: One is unknown, or cannot be.
    """
    unknown = sorted(set(options) - set(AtomicOptions.__annotations__))
    if unknown:
        known = ", ".join(AtomicOptions.__annotations__)
        raise TypeError(f"assert_atomic takes no {unknown[0]}=; it takes {known}.")
    chosen: AtomicOptions = {
        "reset": None,
        "recover": recover,
        "store": "memory:",
        "crash": "in_process",
        "allow_outstanding": False,
        "whole": None,
        "faults": None,
        "pairs": options.get("crash") != "process",
        "only": None,
    }
    given = {name: value for name, value in options.items() if value is not None}
    chosen.update(given)  # type: ignore[typeddict-item]
    crash, store = chosen["crash"], chosen["store"]
    if crash not in ("in_process", "process"):
        raise TypeError(f"crash= must be 'in_process' or 'process', not {crash!r}.")
    if not callable(store) and store not in ("memory:", "sqlite:"):
        raise TypeError(
            "store= must be 'memory:', 'sqlite:', or a function that returns a new and empty "
            f"store; not {store!r}."
        )
    return chosen


class _Trial:
    """Make runs and judge them."""

    def __init__(
        self,
        stage: Stage,
        world: World,
        report: AtomicityReport,
        options: AtomicOptions,
    ) -> None:
        self._stage = stage
        self._world = world
        self._report = report
        self._options = options["whole"], options["allow_outstanding"]
        self.clean = Record()
        self.rule = Rule(None, None)

    def begin(self) -> None:
        """Make the clean runs, and learn from them what the world looks like.

        Raises:
            NothingToProve: Nothing can be learned from them.
        """
        ended, before, after = self._run(())
        _refuse_useless(ended, before, after)
        self.rule = Rule(before, after, *self._options)
        self._report.take(ended, judged(ended, after, self.rule))
        again, before_again, after_again = self._run(())
        changed = differences(before, before_again)
        if changed:
            raise NothingToProve(
                "the world is not what it was before the clean run: "
                f"{changed[0]}. Give a world that can be put back: pass reset=, or an object "
                "with snapshot() and reset()."
            )
        changed = differences(after, after_again)
        if changed:
            raise NothingToProve(
                "two clean runs leave different worlds, so nothing can be compared: "
                f"{changed[0]}. Leave out of the picture what is new each time, such as times "
                "and random names."
            )
        self._report.take(again, judged(again, after_again, self.rule))
        self.clean = ended.record
        self._report.steps = sum(len(saga.steps) for saga in ended.sagas)
        self._report.moments = len(self.clean.moments)

    def attempt(self, faults: Sequence[Fault]) -> Ended:
        """Make a run with these faults, and judge it.

        Raises:
            NotAtomic: It has left something behind.
            NothingToProve: There are more runs than anybody would wait for.
        """
        if self._report.runs >= RUNS_MAX:
            raise NothingToProve(
                f"more than {RUNS_MAX:,} runs would be needed. Prove its parts one by one, or pass "
                "pairs=False or fewer faults=."
            )
        ended, before, now = self._run(faults)
        changed = differences(self.rule.before, before)
        if changed:
            raise NothingToProve(f"reset() does not put the world back: {changed[0]}.")
        verdict = judged(ended, now, self.rule)
        if verdict.problem:
            raise told(ended, verdict)
        self._report.take(ended, verdict)
        return ended

    def _run(self, faults: Sequence[Fault]) -> tuple[Ended, Any, Any]:
        self._world.reset()
        before = self._world.snapshot()
        try:
            ended = self._stage.run(faults)
        except CannotRun as error:
            raise NothingToProve(str(error)) from error
        ids = {
            saga.transaction_id: f"<transaction {number}>"
            for number, saga in enumerate(ended.sagas, 1)
        }
        return ended, before, without_ids(self._world.snapshot(), ids)


def _explore(trial: _Trial, kinds: frozenset[FaultKind], *, in_pairs: bool) -> None:
    """Make every run: first each fault alone, then what each of them has led to.

    Why by kinds: what is found first is what its reader has to understand, and a refusal is
    understood sooner than a crash in a recovery.
    """
    alone = [fault for moment in trial.clean.moments for fault in faults_at(moment)]
    behind: list[tuple[Fault, list[Moment]]] = []
    for first in _in_order(alone, kinds):
        ended = trial.attempt([first])
        behind.append((first, ended.record.moments_behind(first)))
    for first, moments in behind if in_pairs else ():
        for second in _in_order(faults_behind(first, moments), kinds):
            trial.attempt([first, second])


def _in_order(faults: Iterable[Fault], kinds: frozenset[FaultKind]) -> list[Fault]:
    """Return those of some kinds, kind by kind, and each in the order of its moments."""
    order = list(FaultKind)
    wanted = [fault for fault in faults if fault.kind in kinds]
    return sorted(wanted, key=lambda fault: order.index(fault.kind))


def _only(trial: _Trial, only: str) -> list[Fault]:
    """Return the faults that an error has named; their moments are found as they come."""
    found: list[Fault] = []
    moments = trial.clean.moments
    for key in only.split():
        known = {fault.key: fault for moment in moments for fault in faults_at(moment)}
        if key not in known:
            raise ValueError(
                f"only={only!r} names no fault of this transaction: {key!r} is not one of "
                f"{', '.join(sorted(known)) or 'none'}."
            )
        found.append(known[key])
        if len(found) < len(only.split()):
            moments = trial.attempt(found).record.moments_behind(found[0])
    return found


def _refuse_useless(ended: Ended, before: Any, after: Any) -> None:
    """Refuse a clean run from which nothing can be proved.

    Raises:
        NothingToProve: See there.
    """
    if ended.raised is not None:
        text = f"{type(ended.raised).__name__}: {ended.raised}"
        raise NothingToProve(
            f"the clean run raised {text}. It must commit, with nothing going wrong."
        ) from ended.raised
    if not ended.sagas:
        raise NothingToProve(
            "the saga has made no transaction with the manager that it was given. Build it, and "
            "commit it or carry it out as a block, with that manager."
        )
    if len(ended.sagas) > 1:
        raise NothingToProve(
            f"the saga has made {len(ended.sagas)} transactions, and each one alone is all or "
            "nothing. Prove them one by one, or make them one transaction."
        )
    saga, result = ended.sagas[0], ended.results[0]
    if not saga.steps:
        raise NothingToProve("the transaction has no step, so there is nothing to undo.")
    if result.simulated_steps:
        names = ", ".join(
            step.definition.action for step in saga.steps if step.step_id in result.simulated_steps
        )
        raise NothingToProve(
            f"nothing is done by {names}: there is no handler, so it is a dry run. Register it in "
            "what manager= returns."
        )
    if result.state is not TransactionState.committed:
        why = result.error or (result.waiting.detail if result.waiting else "")
        raise NothingToProve(
            f"the clean run is {result.state.value} and not committed: {why}. Nothing goes wrong "
            "in it, so it must commit."
        )
    if before == after:
        raise NothingToProve(
            "the world never changes in the clean run, so nobody could see what is left behind. "
            "Give a world that shows what the handlers do; with crash='process' it must be outside "
            "of this process."
        )


def _kinds(faults: Iterable[FaultKind | str] | None) -> frozenset[FaultKind]:
    if faults is None:
        return frozenset(FaultKind)
    try:
        found = frozenset(FaultKind(name) for name in faults)
    except ValueError as error:
        names = ", ".join(FaultKind)
        raise TypeError(f"faults= takes names of {names}: {error}.") from None
    if not found:
        raise NothingToProve("faults= is empty, so nothing would go wrong.")
    return found


def _default_manager(saga: Work) -> MakeManager:
    from aumai_transactions import AsyncTransactionManager, TransactionManager

    if inspect.iscoroutinefunction(saga):
        return AsyncTransactionManager
    return TransactionManager


def _store_name(options: AtomicOptions) -> str:
    store = options["store"]
    if options["crash"] == "process":
        return "sqlite"
    return store.rstrip(":") if isinstance(store, str) else getattr(store, "__name__", "your store")


def _stage(saga: Work, make_manager: MakeManager, options: AtomicOptions, folder: Path) -> Stage:
    if options["crash"] == "process":
        from aumai_transactions.testing.atomic.processes import InProcesses

        return InProcesses.of(saga, make_manager, options["recover"], folder)
    return InProcess(saga, make_manager, options["recover"], options["store"], folder)
