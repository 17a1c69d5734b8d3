"""How a plan file becomes a plan.

Owns: what a shape cannot say: names that must exist, and references.
Rules:
  1. The plan is the plan: nothing of the file, its folder or the environment is needed later,
     but the variables that it names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from aumai_transactions.core.definition import (
    NO_POLICY,
    CompensationFailurePolicy,
    Reference,
    StepDefinition,
    TimeoutScope,
    UndoWindowPolicy,
)
from aumai_transactions.core.values import checked_name, checked_object
from aumai_transactions.errors import InvalidData, PlanFileError
from aumai_transactions.models import CRASHES_MAX, JsonType, RetryPolicy
from aumai_transactions.participants.definition import ActionDefinition, retry_policy
from aumai_transactions.participants.http import HttpDefinition
from aumai_transactions.participants.template import OUTPUT
from aumai_transactions.plans.actions import foreign_targets
from aumai_transactions.plans.document import (
    REFERENCE_KEY,
    Place,
    kind_of,
    quoted,
    read_document,
    shown_place,
)
from aumai_transactions.plans.order import check_order
from aumai_transactions.plans.problems import did_you_mean, listed, plan_file_error
from aumai_transactions.plans.tables import PlanTable, StepTable

_POINTER = re.compile(r"(/([^~/]|~[01])*)*")


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
    """

    retry: RetryPolicy | None = None
    timeout_seconds: float | None = None
    confirming_action: str | None = None
    requires_approval: bool | None = None
    approval_timeout_seconds: float | None = None
    undo_within_seconds: float | None = None


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
            if (options := _options(step_table)) != StepOptions()
        },
    )


def _options(table: StepTable) -> StepOptions:
    return StepOptions(
        retry_policy(table.retry),
        table.timeout_seconds,
        table.confirming_action,
        table.requires_approval,
        table.approval_timeout_seconds,
        table.undo_within_seconds,
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
        data, references = self._data(table.data, (*place, "data"))
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
        )

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

    def _data(
        self, data: dict[str, Any], place: Place
    ) -> tuple[dict[str, Any], tuple[Reference, ...]]:
        try:
            copy = checked_object(data)
        except InvalidData as error:
            inside = re.sub(r"\[(\d+)\]", lambda found: f"[{int(found[1]) + 1}]", error.path)
            where = shown_place(place) + inside.removeprefix("$")
            raise PlanFileError(self.file, where, error.problem) from None
        if REFERENCE_KEY in copy:
            problem = (
                "cannot be a reference as a whole; put it under a key, as in "
                '{ flight = { "$output" = "flight" } }.'
            )
            raise PlanFileError(self.file, shown_place(place), problem)
        references: list[Reference] = []
        self._collect(copy, place, (), references)
        return copy, tuple(references)

    def _collect(self, value: Any, place: Place, into: Place, found: list[Reference]) -> None:
        """Put null where a reference stands, and the reference into the list."""
        items: Any = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in list(items):
            here: Place = (*into, key)
            if isinstance(item, dict) and REFERENCE_KEY in item:
                found.append(self._reference(item, (*place, *here), here))
                value[key] = None
            elif isinstance(item, (dict, list)):
                self._collect(item, place, here, found)

    def _reference(self, item: dict[str, Any], place: Place, into: Place) -> Reference:
        for key, text in item.items():
            where = shown_place((*place, key))
            if key not in (REFERENCE_KEY, "at", "type"):
                problem = 'is not a key of a reference, which has "$output", at and type only.'
                raise PlanFileError(self.file, where, problem + did_you_mean(key, ["at", "type"]))
            if not isinstance(text, str):
                raise PlanFileError(self.file, where, f"must be text, not {kind_of(text)}.")
        pointer = item.get("at", "")
        if not _POINTER.fullmatch(pointer):
            problem = (
                f"{quoted(pointer)} is not a JSON pointer. It begins with /, as in "
                '"/reservation/id"; ~ is written ~0, and / within a name ~1.'
            )
            raise PlanFileError(self.file, shown_place((*place, "at")), problem)
        kind = item.get("type")
        if kind is not None and kind not in get_args(JsonType):
            problem = (
                f"{quoted(kind)} is not a JSON type, which are {listed(get_args(JsonType))}."
                f"{did_you_mean(kind, get_args(JsonType))}"
            )
            raise PlanFileError(self.file, shown_place((*place, "type")), problem)
        return Reference(into, item[REFERENCE_KEY], pointer, kind)
