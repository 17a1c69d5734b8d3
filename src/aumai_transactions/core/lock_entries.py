"""What the journal can say about resources.

Owns: those kinds of entries; `entries` has the rules for all of them.
"""

from __future__ import annotations

from typing import NamedTuple

from aumai_transactions.core.definition import LockMode, ResourceUse


class LocksAwaited(NamedTuple):
    """The transaction waits in the queues of these resources.

    `behind` holds the transactions that stood in its way then; `step_id` names the step that needs
    them, where it is not the whole plan.
    """

    at: int
    resources: tuple[ResourceUse, ...]
    behind: tuple[str, ...] = ()
    step_id: str | None = None


class Grant(NamedTuple):
    """One resource that a transaction holds, and its fencing token, which only grows."""

    name: str
    token: int
    mode: LockMode = "exclusive"


class LocksGranted(NamedTuple):
    """The transaction holds these resources from here on, until its end."""

    at: int
    grants: tuple[Grant, ...]
    step_id: str | None = None


class ReadVersion(NamedTuple):
    """The version of a resource that a step may have read."""

    name: str
    version: int


class VersionsRead(NamedTuple):
    """These resources may have been read in these versions; none may change before the commit."""

    at: int
    versions: tuple[ReadVersion, ...]
