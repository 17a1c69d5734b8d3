"""How the steps of a plan file hang together.

Owns: the way from the core's rules about graphs and commit points to the table and the key that
break one. The rules themselves are in `core/graph.py` and `core/shapes.py`, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aumai_transactions.core.definition import Definition, StepDefinition
from aumai_transactions.core.graph import dependencies
from aumai_transactions.core.shapes import IsIdempotent, check_shape, check_step
from aumai_transactions.errors import (
    DefinitionError,
    DependencyCycle,
    DuplicateStep,
    IrreversibleBeforeCompensatable,
    PlanFileError,
    UnknownStep,
)
from aumai_transactions.participants.definition import ActionDefinition
from aumai_transactions.plans.document import REFERENCE_KEY, Place, quoted, shown_place
from aumai_transactions.plans.problems import did_you_mean, listed
from aumai_transactions.plans.tables import PlanTable

# What the core calls a transaction that has no id yet; it is taken out of its sentences again.
_NAMELESS = "?"
# Which keys of a step can break a rule, the one that is named first where several could.
_KEYS = (
    "approval_timeout_seconds",
    "confirming_action",
    "requires_approval",
    "on_commit",
    "pivot",
    "compensating_action",
)


def check_order(
    file: str,
    table: PlanTable,
    steps: tuple[StepDefinition, ...],
    actions: Mapping[str, ActionDefinition],
) -> None:
    """Refuse steps that wait for each other, or that a commit point cannot stand between.

    Raises:
        PlanFileError: Names the step's table, and the key.
    """
    definition = Definition(
        0, table.timeout_seconds, steps, allow_irreversible_first=table.allow_irreversible_first
    )

    def is_idempotent(name: str) -> bool | None:
        return actions[name].idempotent if name in actions else None

    try:
        check_shape(definition, _NAMELESS, is_idempotent)
        dependencies(steps, _NAMELESS)
    except (DuplicateStep, UnknownStep, DependencyCycle) as error:
        raise _graph_error(file, error, steps) from None
    except IrreversibleBeforeCompensatable as error:
        index = _names(steps).index(error.irreversible)
        problem = (
            f"nothing can undo {quoted(steps[index].action)}, and {quoted(error.compensatable)} "
            "comes after it or beside it: if that fails, the first one stays. Put it last, hold it "
            "with on_commit = true, or insist with allow_irreversible_first = true."
        )
        raise PlanFileError(file, shown_place(("steps", index)), problem) from None
    except DefinitionError as error:
        at = _named_by(error, steps)
        if at is None:
            raise _pivots_error(file, error, steps) from None
        place = _place_of(_broken_key(steps[at], is_idempotent), at, table, actions)
        problem = str(error).removeprefix(_beginning(steps[at])).replace("=True", " = true")
        raise PlanFileError(file, shown_place(place), problem) from None


def _names(steps: Sequence[StepDefinition]) -> list[str]:
    return [step.step_id for step in steps]


def _graph_error(
    file: str,
    error: DuplicateStep | UnknownStep | DependencyCycle,
    steps: Sequence[StepDefinition],
) -> PlanFileError:
    names = _names(steps)
    if isinstance(error, DuplicateStep):
        first, second = [i for i, name in enumerate(names) if name == error.step_id][:2]
        problem = (
            f"is {quoted(error.step_id)}, and so is the name of steps[{first + 1}]. "
            "Give each step a name of its own; without one it is called s1, s2, and so on."
        )
        return PlanFileError(file, f"steps[{second + 1}].name", problem)
    if isinstance(error, UnknownStep):
        hint = did_you_mean(error.step_id, names) or f" The steps are {listed(names)}."
        problem = f"names the step {quoted(error.step_id)}, which does not exist.{hint}"
        return PlanFileError(file, _place_naming(error.step_id, steps), problem)
    circle = " → ".join(quoted(name) for name in [*error.cycle, error.cycle[0]])
    problem = (
        f"waits for itself: {circle}. Change after or a reference; a step without after "
        "waits for all steps above it."
    )
    return PlanFileError(file, f"steps[{names.index(error.cycle[0]) + 1}]", problem)


def _place_naming(missing: str, steps: Sequence[StepDefinition]) -> str:
    for index, step in enumerate(steps):
        for position, name in enumerate(step.after or ()):
            if name == missing:
                return shown_place(("steps", index, "after", position))
        for reference in step.references:
            if reference.step_id == missing:
                return shown_place(("steps", index, "data", *reference.into, REFERENCE_KEY))
    return "steps"


def _beginning(step: StepDefinition) -> str:
    """Return how a sentence of the core about a step begins."""
    return f"step {step.step_id!r} of transaction {_NAMELESS} "


def _named_by(error: DefinitionError, steps: Sequence[StepDefinition]) -> int | None:
    told = str(error)
    found = (index for index, step in enumerate(steps) if told.startswith(_beginning(step)))
    return next(found, None)


def _broken_key(step: StepDefinition, is_idempotent: IsIdempotent) -> str | None:
    """Return the key of a step without which it would break no rule of its own."""
    if not _breaks_a_rule(step, is_idempotent):
        return None  # It is how it stands among the others.
    without = StepDefinition(step.step_id, step.agent_id, step.action, step.data)
    return next(
        key
        for key in (*_KEYS, None)
        if key is None
        or not _breaks_a_rule(step._replace(**{key: getattr(without, key)}), is_idempotent)
    )


def _breaks_a_rule(step: StepDefinition, is_idempotent: IsIdempotent) -> bool:
    try:
        check_step(step, _NAMELESS, is_idempotent)
    except DefinitionError:
        return True
    return False


def _place_of(
    key: str | None, index: int, table: PlanTable, actions: Mapping[str, ActionDefinition]
) -> Place:
    """Return where a key of a step stands: with the step, or with its action."""
    step = table.steps[index]
    action = actions.get(step.action)
    if key is None:
        return ("steps", index)
    if key not in step.model_fields_set and action is not None and key in action.model_fields_set:
        return ("actions", step.action, key)
    return ("steps", index, key)


def _pivots_error(
    file: str, error: DefinitionError, steps: Sequence[StepDefinition]
) -> PlanFileError:
    pivots = [index for index, step in enumerate(steps) if step.pivot]
    place: Place = ("steps", pivots[1], "pivot") if len(pivots) > 1 else ("steps",)
    problem = str(error).replace(f"transaction {_NAMELESS}", "the plan")
    return PlanFileError(file, shown_place(place), problem)
