"""How a decorated function undoes or confirms a step that names it.

Owns: what it is given then, which is not what it is given where it is a step itself.
Rules:
  1. It takes what it needs by name: what the step was given, what that returned, the context.
  2. What it needs and would not be given is refused when the step is declared.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from aumai_transactions.actions import Callee, StepContext
from aumai_transactions.errors import DefinitionError
from aumai_transactions.typed import Described, TypedFunction, TypedUndo, as_handler
from aumai_transactions.typed_values import LEFT_OUT

if TYPE_CHECKING:
    from aumai_transactions.actions import Action, ActionRegistry
    from aumai_transactions.drivers.steps import DecoratedStep


class Behind:
    """Make what is called where a decorated function undoes or confirms a step.

    Args:
        function: The plain function.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._made: dict[TypedFunction | None, Callable[..., Any]] = {}

    def __call__(self, callee: Callee, forward: Callee | None) -> Callee:
        """Return what is called in the place of its own callee.

        Args:
            callee: Its own.
            forward: That of the step's action.
        """
        typed = typed_of(forward)
        handler = self._made.get(typed)
        if handler is None:
            try:
                handler = self._handler(typed)
            except DefinitionError:
                # Why not raised: a rollback is under way. It fails as a call, and is outstanding.
                handler = self._handler(None)
            self._made[typed] = handler
        return callee._replace(handler=handler, context_parameter="context", takes_name=True)

    def _handler(self, typed: TypedFunction | None) -> Callable[..., Any]:
        undo = DataUndo(self.function) if typed is None else TypedUndo(self.function, typed)
        inner = undo.handler()
        takes_context = "context" in inspect.signature(inner).parameters

        def with_context(action: str, data: dict[str, Any], context: StepContext) -> Any:
            return inner(action, data, context) if takes_context else inner(action, data)

        return with_context

    def check(self, action: Action | None, data: Mapping[str, Any], what: str) -> None:
        """Refuse it for a step of this action with this data, where it lacks an argument.

        Args:
            action: The step's action; None where nobody here has it.
            data: The step's data.
            what: What it is to the step, as it was said.

        Raises:
            DefinitionError: It needs an argument that it would not be given.
        """
        typed = None if action is None else getattr(action.handler, TYPED, None)
        if typed is not None:
            TypedUndo(self.function, typed)
            return
        undo = DataUndo(self.function)
        lacks = undo.lacks(data)
        if lacks:
            there = ", ".join([*data, "result", "context"])
            message = (
                f"{undo.name}, the {what}, needs {', '.join(lacks)}, which is not in the step's "
                f"data. It can have: {there}. Rename the parameter, or give it a default."
            )
            raise DefinitionError(message)


TYPED = "__aumai_typed__"
"""What the handler of a decorated function has: how it becomes JSON, and comes back."""


def typed_of(callee: Callee | None) -> TypedFunction | None:
    """Return how a callee's function becomes JSON; None where it takes plain data."""
    return None if callee is None else getattr(callee.handler, TYPED, None)


class DataUndo:
    """Call a function with the data of a step that it undoes or confirms, where that is untyped.

    It is given by name: any key of the data; `result`, what the action returned, or None while it
    is in doubt; the context. `action` and `data`, where no key is called so, are the name under
    which it is called and the whole of the data; `**more` takes the keys that nothing else takes.

    Args:
        function: Any callable with a signature; what it returns means what it means for handlers.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._described = described = Described(function)
        self.function = function
        self.name = described.name
        self._places = list(described.parameters.values())
        self._late = described.prepared(self._places, at_last=False)

    def lacks(self, data: Mapping[str, Any]) -> list[str]:
        """Return the arguments that it needs and would not be given with this data."""
        known = {*data, "result", "action", "data"}
        return [
            one.name
            for one in self._places
            if one.default is inspect.Parameter.empty and one.name not in known
        ]

    def handler(self) -> Callable[..., Any]:
        """Return what a registry calls; it returns what the function returns, untouched."""
        named = self._described.signature.parameters.keys()

        def serve(action: str, data: dict[str, Any], context: StepContext | None) -> Any:
            if self._late:
                self._late = self._described.prepared(self._late, at_last=True)
            result = None if context is None or context.in_doubt else context.output
            there = {"action": action, "data": data, "result": result, **data}
            given = {}
            for place in self._places:
                value = there.get(place.name, LEFT_OUT)
                if place.kind is inspect.Parameter.VAR_KEYWORD:
                    value = {key: item for key, item in data.items() if key not in named}
                is_plain = value is LEFT_OUT or (value is None and place.name not in data)
                given[place.name] = value if is_plain else place.read(value)
            args, kwargs = self._described.arguments(given, context)
            return self.function(*args, **kwargs)

        return as_handler(serve, self._described, takes_context=True)


def declared_as_step(given: object) -> DecoratedStep | None:
    """Return what a decorated function is as a step; None where it is none."""
    if given is None or isinstance(given, str):
        return None
    # Why here: what makes steps of functions stands on managers, and most programs have none.
    from aumai_transactions.drivers.steps import step_of

    return step_of(given)


def check_functions(
    registry: ActionRegistry,
    fields: Mapping[str, Any],
    compensating_action: object,
    options: Mapping[str, Any],
) -> None:
    """Refuse decorated functions that would lack something to undo or confirm a step.

    Args:
        registry: The manager's actions.
        fields: The step.
        compensating_action: What undoes it, as it was given.
        options: The step's options, as they were given.

    Raises:
        DefinitionError: One needs an argument that it would not be given.
    """
    given = {
        "compensating action": compensating_action,
        "confirming action": options.get("confirming_action") if options else None,
    }
    for what, function in given.items():
        declared = declared_as_step(function)
        if declared is not None:
            callee = registry.get(fields["action"])
            declared.behind.check(callee and callee.action, fields["data"], what)
