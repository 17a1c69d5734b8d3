"""How a plan file becomes a plan.

Owns: what a shape cannot say: names that must exist, and references.
Rules:
  1. The plan is the plan: nothing of the file, its folder or the environment is needed later,
     but the variables that it names.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from aumai_transactions.core.definition import (
    NO_POLICY,
    CompensationFailurePolicy,
    Isolation,
    LockMode,
    Reference,
    ResourceUse,
    StepDefinition,
    TimeoutScope,
    UndoWindowPolicy,
)
from aumai_transactions.core.resources import canonical_resource
from aumai_transactions.core.values import checked_name, shown
from aumai_transactions.drivers.resources import filled, keys_in
from aumai_transactions.errors import InvalidData, PlanFileError
from aumai_transactions.models import CRASHES_MAX, LOCK_TIMEOUT_SECONDS, Resource, RetryPolicy
from aumai_transactions.participants.definition import ActionDefinition, resources_in, retry_policy
from aumai_transactions.participants.http import HttpDefinition
from aumai_transactions.participants.template import OUTPUT
from aumai_transactions.plans.actions import foreign_targets
from aumai_transactions.plans.document import (
    Place,
    quoted,
    read_document,
    shown_place,
)
from aumai_transactions.plans.order import check_order
from aumai_transactions.plans.problems import did_you_mean, listed, plan_file_error
from aumai_transactions.plans.references import data_with_references
from aumai_transactions.plans.tables import ActionsTable, PlanTable, StepTable


@dataclass(slots=True, frozen=True)
class StepOptions:
    """Hold what a step says about the calls of its action, where it says it itself.

    Args:
        retry: How often the action is tried again when it was not done; None for what the action
            says.
        timeout_seconds: How long a call of the action may take; None for what the action says.
        confirming_action: What makes it final after the commit point; None for what the action
            says.
        requires_approval: Whether a person must allow it; None for what the action says.
        approval_timeout_seconds: How long that is waited for; None for what the action says.
        undo_within_seconds: How long it can be undone; None for what the action says.
        resources: What it uses besides what the action says, filled in; None for nothing.
    """

    retry: RetryPolicy | None = None
    timeout_seconds: float | None = None
    confirming_action: str | None = None
    requires_approval: bool | None = None
    approval_timeout_seconds: float | None = None
    undo_within_seconds: float | None = None
    resources: tuple[Resource, ...] | None = None


@dataclass(slots=True, frozen=True)
class Plan:
    """Hold the pieces of a transaction, as a plan file has them.

    Args:
        name: What people call it; the file's name where it says nothing.
        timeout_seconds: How long after it was begun a commit may still begin.
        timeout_scope: Whether that is checked once or before every step.
        on_crash: Which way recovery goes; None means forward, unless the deadline has passed.
        on_compensation_failure: Whether a failed undo stops what it depends on.
        steps: The steps; an id is the step's name.
        actions: The definitions of the actions, by name: JSON, with absolute paths, complete.
        step_options: What steps say about the calls of their actions, by step id; a step that
            says nothing is not in it.
        parallel_compensation: True to undo independent steps at the same time.
        allow_irreversible_first: True where the author insists on what cannot be undone before
            what can be.
        on_undo_window: What happens shortly before a step can no longer be undone.
        isolation: What is done about the resources that its steps use.
        lock_timeout_seconds: How long it waits for one.
        release_outstanding_locks: True to let go of what a step used that could not be undone.
        metadata: Notes about it, text by name.
        crashes_max: How many processes in a row may die in a call of it.
    """

    name: str
    timeout_seconds: float
    timeout_scope: TimeoutScope
    on_crash: Literal["resume", "roll_back"] | None
    on_compensation_failure: CompensationFailurePolicy
    steps: tuple[StepDefinition, ...]
    actions: dict[str, dict[str, Any]] = field(default_factory=dict)
    step_options: dict[str, StepOptions] = field(default_factory=dict)
    parallel_compensation: bool = False
    allow_irreversible_first: bool = False
    on_undo_window: UndoWindowPolicy = "warn"
    isolation: Isolation = "exclusive"
    lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS
    release_outstanding_locks: bool = False
    metadata: dict[str, str] = field(default_factory=dict)
    crashes_max: int = CRASHES_MAX

    def options_of(self, step_id: str) -> StepOptions:
        """Return what a step says about its calls; one that says nothing has no options."""
        return self.step_options.get(step_id, StepOptions())


def load_plan(path: str | Path, *, known_actions: Collection[str] = ()) -> Plan:
    """Read and check a plan file; nothing that it names is run or imported.

    Args:
        path: A .toml or .json file of at most 256 KB.
        known_actions: Names of actions that are known from elsewhere, such as an app's.

    Raises:
        PlanFileError: Something is wrong; names file, table and key. Items are counted from 1.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise PlanFileError(shown(path), "", "is no path. Name a .toml or a .json file.")
    file, place = str(path), Path(path)
    document = read_document(place, file)
    try:
        table = PlanTable.model_validate(document)
    except ValidationError as error:
        raise plan_file_error(error, document, file) from None
    folder = place.absolute().parent
    actions = {
        name: _restricted(file, name, action.located(folder), table.http_hosts)
        for name, action in table.actions.items()
    }
    steps = _Steps(file, table.steps, actions, frozenset(known_actions)).checked()
    check_order(file, table, steps, actions)
    seconds = table.timeout_seconds
    return Plan(
        name=table.name or place.stem,
        timeout_seconds=int(seconds) if float(seconds).is_integer() else seconds,
        timeout_scope=table.timeout_scope,
        on_crash=table.on_crash,
        on_compensation_failure=table.on_compensation_failure,
        parallel_compensation=table.parallel_compensation,
        allow_irreversible_first=table.allow_irreversible_first,
        on_undo_window=table.on_undo_window,
        isolation=table.isolation,
        lock_timeout_seconds=table.lock_timeout_seconds,
        release_outstanding_locks=table.release_outstanding_locks,
        metadata=table.metadata,
        crashes_max=table.crashes_max,
        steps=steps,
        actions={
            name: action.model_dump(mode="json", exclude_none=True)
            for name, action in actions.items()
        },
        step_options={
            step.step_id: options
            for step, step_table in zip(steps, table.steps, strict=True)
            if (options := _options(step, step_table)) != StepOptions()
        },
    )


def load_actions(path: str | Path) -> dict[str, dict[str, Any]]:
    """Read and check a file of actions; nothing that it names is run or imported.

    Args:
        path: A .toml or .json file of at most 256 KB, with `actions` as a plan has them.

    Returns:
        The definitions of the actions, by name: JSON, with absolute paths, complete.

    Raises:
        PlanFileError: Something is wrong; names file, table and key.
    """
    file, place = str(path), Path(path)
    document = read_document(place, file)
    try:
        table = ActionsTable.model_validate(document)
    except ValidationError as error:
        raise plan_file_error(error, document, file) from None
    folder = place.absolute().parent
    found = {}
    for name, action in table.actions.items():
        located = _restricted(file, name, action.located(folder), table.http_hosts)
        found[name] = located.model_dump(mode="json", exclude_none=True)
    return found


def _options(step: StepDefinition, table: StepTable) -> StepOptions:
    own = None
    if table.resources is not None:
        own = tuple(Resource(name=use.name, mode=use.mode) for use in step.resources)
    return StepOptions(
        retry_policy(table.retry),
        table.timeout_seconds,
        table.confirming_action,
        table.requires_approval,
        table.approval_timeout_seconds,
        table.undo_within_seconds,
        own,
    )


def _restricted(
    file: str, name: str, action: ActionDefinition, hosts: list[str] | None
) -> ActionDefinition:
    """Return an action that carries the plan's hosts with it, into the journal.

    Why there: journaled definitions become handlers one by one, without their plan.
    """
    for key, authority in foreign_targets(action, hosts):
        problem = (
            f"calls {authority}, which http_hosts does not name. Add it there if it may be called."
        )
        raise PlanFileError(file, shown_place(("actions", name, *key.split("."))), problem)
    if hosts is None or not isinstance(action, HttpDefinition) or action.hosts is not None:
        return action
    return action.model_copy(update={"hosts": hosts})


@dataclass(slots=True, frozen=True)
class _Steps:
    """Hold what a check of the steps looks at."""

    file: str
    tables: list[StepTable]
    actions: Mapping[str, ActionDefinition]
    known_actions: frozenset[str]

    def checked(self) -> tuple[StepDefinition, ...]:
        """Return the steps."""
        for name, action in self.actions.items():
            self._check_name(name, ("actions", name))
            for key in ("compensating_action", "confirming_action"):
                self._check_action(getattr(action, key), ("actions", name, key))
        names = [table.name or f"s{index + 1}" for index, table in enumerate(self.tables)]
        return tuple(
            self._step(index, name, table)
            for index, (name, table) in enumerate(zip(names, self.tables, strict=True))
        )

    def _step(self, index: int, name: str, table: StepTable) -> StepDefinition:
        place = ("steps", index)
        for key, text in (("name", name), ("agent", table.agent)):
            self._check_name(text, (*place, key))
        self._check_action(table.action, (*place, "action"))
        self._check_action(table.compensating_action, (*place, "compensating_action"))
        self._check_action(table.confirming_action, (*place, "confirming_action"))
        action = self.actions.get(table.action)
        self._check_references(table.action, action, name)
        data, references = data_with_references(self.file, table.data, (*place, "data"))
        declared = action or ActionDefinition()
        approval = table.requires_approval
        approval = bool(declared.requires_approval) if approval is None else approval
        limit = table.approval_timeout_seconds
        within = table.undo_within_seconds
        return StepDefinition(
            step_id=name,
            agent_id=table.agent,
            action=table.action,
            data=data,
            compensating_action=table.compensating_action or declared.compensating_action,
            after=None if table.after is None else tuple(table.after),
            references=references,
            idempotent=declared.idempotent,
            on_unknown=declared.on_unknown,
            effect=declared.effect,
            policy=NO_POLICY if declared.probe is None else NO_POLICY._replace(has_probe=True),
            pivot=table.pivot,
            on_commit=table.on_commit,
            confirming_action=table.confirming_action or declared.confirming_action,
            requires_approval=approval,
            approval_timeout_seconds=declared.approval_timeout_seconds
            if limit is None and approval
            else limit,
            undo_within_seconds=declared.undo_within_seconds if within is None else within,
            resources=self._resources(table, data, references, place),
        )

    def _resources(
        self, table: StepTable, data: dict[str, Any], references: Sequence[Reference], place: Place
    ) -> tuple[ResourceUse, ...]:
        """Return what a step says itself that it uses, filled in from its data.

        What its action says is filled in once it is begun, as for every other transaction.
        """
        late = {item.into[0] for item in references if item.into}
        found = []
        for index, use in enumerate(resources_in(table.resources) or ()):
            where = shown_place((*place, "resources", index))
            name = use if isinstance(use, str) else use.name
            mode: LockMode = "exclusive" if isinstance(use, str) else use.mode
            unknown = keys_in(name) & late
            if unknown:
                problem = (
                    f"{quoted(name)} depends on an output ({listed(sorted(map(str, unknown)))}), "
                    "which is not known when it has to be locked. Name something that is known."
                )
                raise PlanFileError(self.file, where, problem)
            try:
                found.append(ResourceUse(canonical_resource(filled(name, data)), mode))
            except InvalidData as error:
                raise PlanFileError(self.file, where, f"{error.path} {error.problem}") from None
        return tuple(found)

    def _check_name(self, text: str, place: Place) -> None:
        try:
            checked_name(text, shown_place(place))
        except InvalidData as error:
            raise PlanFileError(self.file, shown_place(place), error.problem) from None

    def _check_action(self, name: str | None, place: Place) -> None:
        if name is None or name in self.actions or name in self.known_actions:
            return
        known = sorted({*self.actions, *self.known_actions})
        hint = did_you_mean(name, known)
        if not hint:
            hint = f" Known are {listed(known)}." if known else " This file defines no actions."
        problem = (
            f"names the action {quoted(name)}, which is not defined.{hint} Define it under "
            f"[actions], or give an app that has it."
        )
        raise PlanFileError(self.file, shown_place(place), problem)

    def _check_references(self, name: str, action: ActionDefinition | None, step: str) -> None:
        for key, reference in action.references() if action else ():
            if reference.root == OUTPUT:
                problem = (
                    f"refers to {reference.shown}, and step {quoted(step)} calls it as its action, "
                    "whose output is not known before it is done. Refer to the step's data, or "
                    "use an action of its own for the undo."
                )
                place = shown_place(("actions", name, *key.split(".", 1)))
                raise PlanFileError(self.file, place, problem)
