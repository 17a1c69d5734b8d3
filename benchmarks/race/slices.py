"""Carry out transactions for a while, alone or many at once, and say how that went.

Owns: the loops that every entrant shares, and how an entrant talks to the program that measures.
Rules:
  1. The standard library only: the interpreters of peers run this module too.
  2. An entrant is a process. It reads one line for each slice, which says how many seconds it is to
     last, and answers with one line of JSON. What a library prints goes to the standard error.
  3. A slice ends when all that began in it has ended; what it took to end counts.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import threading
import time
from array import array
from collections.abc import Awaitable, Callable
from typing import IO, Any

Report = dict[str, float]
Work = Callable[[], object]
AsyncWork = Callable[[], Awaitable[object]]
now = time.perf_counter_ns


class StepFailed(Exception):
    """Be what the third step raises where a transaction is to go back."""


def percentile(ordered: array[int], part: float) -> float:
    """Return the value below which this part of all values is."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def report(times: array[int], seconds: float, cpu_seconds: float, each: int = 1) -> Report:
    """Sum up a slice.

    Args:
        times: Nanoseconds of each transaction, or of each `each` of them.
        seconds: How long the slice took.
        cpu_seconds: Processor time of this process in it.
        each: How many transactions one of the times is about.
    """
    ordered = array("q", sorted(times))
    return {
        "transactions": len(times) * each,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "p50_us": percentile(ordered, 0.5) / each / 1e3,
        "p99_us": percentile(ordered, 0.99) / each / 1e3,
        "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def alone(work: Work, seconds: float, each: int = 1) -> Report:
    """Carry out one after the other.

    Args:
        work: Carries out one.
        seconds: For how long.
        each: How many between two looks at the clock, which costs about 0.1 us.
    """
    cpu, began = time.process_time(), now()
    times = in_turn(work, began + int(seconds * 1e9), each)
    return report(times, (now() - began) / 1e9, time.process_time() - cpu, each)


def in_turn(work: Work, until: int, each: int = 1) -> array[int]:
    """Return the times of transactions that were carried out one after the other."""
    times = array("q")
    last = now()
    while last < until:
        for _ in range(each):
            work()
        at = now()
        times.append(at - last)
        last = at
    return times


def by_threads(work: Work, seconds: float, count: int) -> Report:
    """Let so many threads carry out one after the other each."""
    found: list[array[int]] = []
    errors: list[BaseException] = []
    gate = threading.Barrier(count + 1)
    until = 0

    def run() -> None:
        gate.wait()
        try:
            found.append(in_turn(work, until))
        except BaseException as error:  # noqa: BLE001 (raised below)
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    cpu, began = time.process_time(), now()
    until = began + int(seconds * 1e9)
    gate.wait()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    took, cpu = (now() - began) / 1e9, time.process_time() - cpu
    return report(array("q", [one for times in found for one in times]), took, cpu)


async def by_tasks(work: AsyncWork, seconds: float, count: int, each: int = 1) -> Report:
    """Let so many tasks carry out one after the other each."""
    times = array("q")
    cpu, began = time.process_time(), now()
    until = began + int(seconds * 1e9)

    async def run() -> None:
        last = now()
        while last < until:
            for _ in range(each):
                await work()
            at = now()
            times.append(at - last)
            last = at

    await asyncio.gather(*(run() for _ in range(count)))
    return report(times, (now() - began) / 1e9, time.process_time() - cpu, each)


# ------------------------------------------------------------------------------ the conversation


def answers() -> IO[str]:
    """Return where answers go; whatever else is printed goes to the standard error from now on."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return channel


def answer(channel: IO[str], said: Any) -> None:
    channel.write(json.dumps(said) + "\n")
    channel.flush()


def serve(run: Callable[[float], Report], about: str = "") -> None:
    """Carry out a slice whenever one is asked for, until nobody asks any more.

    Args:
        run: Carries out transactions for so many seconds.
        about: Which release of what this is.
    """
    channel = answers()
    answer(channel, {"ready": about})
    for line in sys.stdin:
        answer(channel, run(float(line)))


async def serve_async(run: Callable[[float], Awaitable[Report]], about: str = "") -> None:
    """Do the same inside of an event loop, which goes on meanwhile."""
    channel = answers()
    answer(channel, {"ready": about})
    while line := await asyncio.to_thread(sys.stdin.readline):
        answer(channel, await run(float(line)))
