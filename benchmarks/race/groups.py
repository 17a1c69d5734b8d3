"""Who is compared with whom, and what the ratios should be.

Owns: the list of groups. The targets are those of `docs/performance.md`.
"""

from __future__ import annotations

import sys

from race.rounds import Aim, Entrant, Group

AT_ONCE = (1, 8, 64, 512)
WORKERS = (1, 2, 4)
OURS, FLOORS = "race.ours", "race.floors"
PLANNED, PLANNED_TASKS = "planned", "planned, tasks"
JOURNAL, JOURNAL_BACK = "bare journal", "bare journal, going back"
PEERS = {
    "agent_saga": "agent-saga",
    "dbos": "DBOS",
    "langgraph": "LangGraph",
    "prefect": "Prefect",
    "restate": "Restate",
}
PEER_TARGETS = {"agent-saga": 8.0, "DBOS": 80.0, "Restate": 20.0}
BY_HAND, BY_HAND_ASYNC = "by hand", "by hand, async"


def memory() -> Group:
    """Return what is compared in memory."""
    step = 8.0
    long = ("--steps", "100")
    fails = ("--fails",)
    found = [
        Entrant(BY_HAND, FLOORS, ("by-hand",)),
        Entrant(f"{BY_HAND}, going back", FLOORS, ("by-hand", *fails)),
        Entrant(f"{BY_HAND}, 100 steps", FLOORS, ("by-hand", *long), steps=100),
        Entrant(BY_HAND_ASYNC, FLOORS, ("by-hand", "--by", "tasks")),
        Entrant(PLANNED, OURS, aims=(Aim("step", BY_HAND, step),)),
        Entrant(
            "planned, going back", OURS, fails, aims=(Aim("step", f"{BY_HAND}, going back", step),)
        ),
        Entrant(
            "planned, 100 steps",
            OURS,
            long,
            steps=100,
            aims=(Aim("step", f"{BY_HAND}, 100 steps", step),),
        ),
        Entrant("interactive", OURS, ("--shape", "interactive"), aims=(Aim("step", BY_HAND),)),
        Entrant(
            "planned, async", OURS, ("--by", "tasks"), aims=(Aim("step", BY_HAND_ASYNC, step),)
        ),
        Entrant(
            "interactive, async",
            OURS,
            ("--by", "tasks", "--shape", "interactive"),
            aims=(Aim("step", BY_HAND_ASYNC),),
        ),
    ]
    return Group("memory", "In memory, one at a time", tuple(found), slices=0.3)


def stores() -> dict[str, tuple[str, str]]:
    """Return how ours and the floors name each store."""
    return {
        "sqlite": ("sqlite:///{folder}/ours.db", "sqlite:{folder}/floor.db"),
        "postgres": ("{url}", "{url}"),
    }


TITLES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}


def durable(kind: str, at_once: int) -> Group:
    """Return what is compared on one store, so many at once."""
    store, sink = stores()[kind]
    many = ("--store", store, "--at-once", str(at_once))
    bare = ("--sink", sink, "--at-once", str(at_once))
    if at_once == 1:
        found = one_at_a_time(many, bare)
        title = f"{TITLES[kind]}, one at a time"
    else:
        found = many_at_once(many, bare, at_once)
        title = f"{TITLES[kind]}, {at_once} at once"
    return Group(f"{kind}-{at_once}", title, tuple(found))


def one_at_a_time(ours: tuple[str, ...], bare: tuple[str, ...]) -> list[Entrant]:
    """Return who takes part alone."""
    interactive = (*ours, "--shape", "interactive")
    return [
        Entrant(JOURNAL, FLOORS, ("journal", *bare)),
        Entrant(JOURNAL_BACK, FLOORS, ("journal", *bare, "--fails")),
        Entrant("four bare commits", FLOORS, ("commits", *bare)),
        Entrant(
            PLANNED,
            OURS,
            ours,
            aims=(
                Aim("time", JOURNAL, 1.25),
                Aim("p99", JOURNAL),
                Aim("cpu", JOURNAL),
                Aim("time", "four bare commits"),
            ),
        ),
        Entrant(
            "planned, going back",
            OURS,
            (*ours, "--fails"),
            aims=(Aim("time", JOURNAL_BACK), Aim("rate", PLANNED, 0.5)),
        ),
        Entrant("planned, one lock", OURS, (*ours, "--locks"), aims=(Aim("rate", PLANNED),)),
        Entrant("planned, async", OURS, (*ours, "--by", "tasks"), aims=(Aim("time", JOURNAL),)),
        Entrant("interactive", OURS, interactive, aims=(Aim("rate", PLANNED, 0.5),)),
        Entrant(
            "interactive, going back",
            OURS,
            (*interactive, "--fails"),
            aims=(Aim("rate", "interactive", 0.5),),
        ),
    ]


def many_at_once(ours: tuple[str, ...], bare: tuple[str, ...], at_once: int) -> list[Entrant]:
    """Return who takes part many at once."""
    tasks = (*ours, "--by", "tasks")
    interactive = ("--shape", "interactive")
    half, p99 = (0.5, 3.0) if at_once == 64 else (None, None)
    return [
        Entrant(JOURNAL, FLOORS, ("journal", *bare, "--writer", "inline")),
        Entrant(
            "bare journal, thread",
            FLOORS,
            ("journal", *bare, "--writer", "thread"),
            aims=(Aim("rate", JOURNAL),),
        ),
        Entrant(JOURNAL_BACK, FLOORS, ("journal", *bare, "--writer", "inline", "--fails")),
        Entrant(
            PLANNED_TASKS,
            OURS,
            tasks,
            aims=(Aim("rate", JOURNAL, half), Aim("p99", JOURNAL, p99), Aim("cpu", JOURNAL)),
        ),
        Entrant(
            "planned, threads", OURS, ours, aims=(Aim("rate", JOURNAL), Aim("rate", PLANNED_TASKS))
        ),
        Entrant(
            "planned, tasks, going back",
            OURS,
            (*tasks, "--fails"),
            aims=(Aim("rate", JOURNAL_BACK), Aim("rate", PLANNED_TASKS, 0.5)),
        ),
        Entrant(
            "planned, tasks, one lock each",
            OURS,
            (*tasks, "--locks"),
            aims=(Aim("rate", PLANNED_TASKS),),
        ),
        Entrant(
            "interactive, tasks",
            OURS,
            (*tasks, *interactive),
            aims=(Aim("rate", PLANNED_TASKS, 0.7 if at_once == 64 else None),),
        ),
        Entrant(
            "interactive, threads",
            OURS,
            (*ours, *interactive),
            aims=(Aim("rate", PLANNED_TASKS),),
        ),
    ]


def several(kind: str) -> Group:
    """Return one, two and four processes on one store."""
    store, _ = stores()[kind]
    found = []
    for role, words in (("workers", "worker{s}"), ("programs", "program{s}, 64 tasks together")):
        titles = [f"{n} {words.format(s='' if n == 1 else 's')}" for n in WORKERS]
        for count, title in zip(WORKERS, titles, strict=True):
            target = 1.5 if (kind, role, count) == ("postgres", "workers", 4) else None
            aims = (Aim("rate", titles[0], target),) if count > 1 else ()
            arguments = (role, "--count", str(count), "--store", store)
            found.append(Entrant(title, "race.crew", arguments, aims=aims))
    return Group(f"{kind}-processes", f"{TITLES[kind]}, several processes", tuple(found))


def peers(kind: str, at_once: int, pythons: dict[str, str]) -> list[Entrant]:
    """Return the peers that are compared on one store, so many at once.

    Args:
        kind: Which store.
        at_once: How many at once.
        pythons: The interpreters of peers that are not in ours.
    """
    many = ("--at-once", str(at_once))
    here = ("--folder", "{folder}")
    dbos = "sqlite:///{folder}/dbos.sqlite" if kind == "sqlite" else "{url}"
    known: dict[str, tuple[str, ...]] = {"dbos": ("--database", dbos, *many)}
    if kind == "sqlite":
        known |= dict.fromkeys(("agent_saga", "langgraph", "restate"), (*here, *many))
        if at_once == 1:
            known["prefect"] = here
    quiet = (("DO_NOT_TRACK", "1"), ("LANGSMITH_TRACING", "false"))
    return [
        Entrant(
            PEERS[name],
            f"race.peers.with_{name}",
            arguments,
            python=pythons.get(name, sys.executable),
            environment=quiet,
            is_peer=True,
        )
        for name, arguments in known.items()
    ]


def with_peers(group: Group, pythons: dict[str, str]) -> Group:
    """Return the group with those peers that are compared in it."""
    kind, _, many = group.name.partition("-")
    if kind not in TITLES or many not in {"1", "64"}:
        return group
    others = peers(kind, int(many), pythons)
    ours = PLANNED if many == "1" else PLANNED_TASKS
    targets = PEER_TARGETS if (kind, many) == ("sqlite", "64") else {}
    aims = tuple(Aim("rate", other.title, targets.get(other.title)) for other in others)
    entrants = [
        entrant._replace(aims=entrant.aims + aims) if entrant.title == ours else entrant
        for entrant in group.entrants
    ]
    return group._replace(entrants=(*entrants, *others))


def only(group: Group, titles: set[str]) -> Group:
    """Return the group with these entrants, and those that they are compared with."""
    wanted = {entrant.title for entrant in group.entrants} & titles
    for entrant in group.entrants:
        if entrant.title in titles:
            wanted |= {aim.reference for aim in entrant.aims}
    return group._replace(entrants=tuple(e for e in group.entrants if e.title in wanted))


def all_groups() -> list[Group]:
    """Return every group, in the order of the table."""
    found = [memory()]
    for kind in stores():
        found += [durable(kind, many) for many in AT_ONCE]
        found.append(several(kind))
    return found
