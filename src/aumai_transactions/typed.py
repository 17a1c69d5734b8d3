"""How a plain function's typed arguments and result become JSON, and come back.

Owns: the way between a Python call and the JSON that stands in a journal, by the annotations of
the function. What one value becomes is in `typed_values.py`.
Rules:
  1. In a transaction a function is given what comes out of its JSON, in the first run as after a
     restart; so nothing works only until a process dies.
  2. An argument that would come back as something else is refused by name, before anything is
     done. Only a tuple of which no annotation speaks comes back as a list, as JSON has it.
  3. A result never changes an outcome: what cannot be recorded is for a warning, and what does
     not fit the annotation comes back as it is recorded.
  4. The context is never data, nor is what `functools.partial` has bound.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import types
import typing
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any

from aumai_transactions.actions import StepContext
from aumai_transactions.core.values import checked_object, clone
from aumai_transactions.errors import DefinitionError, InvalidData
from aumai_transactions.typed_values import LEFT_OUT, Place

_Kind = inspect.Parameter
_BY_PLACE = (_Kind.POSITIONAL_ONLY, _Kind.POSITIONAL_OR_KEYWORD)


class TypedFunction:
    """Call a plain function from JSON, and turn its call and its result into JSON.

    The data is an object by parameter name. What `*args` and `**kwargs` take stands under their
    own names, as an array and as an object: `f(1, 2, 3, x=4)` of `def f(a, *rest, **more)` is
    `{"a": 1, "rest": [2, 3], "more": {"x": 4}}`. Bytes are base64 text (URL-safe).

    A default is recorded like an argument; one that is not JSON, or does not fit the annotation
    (`x: int = None`, a sentinel), is left out of the data, and the function's own is used.
    An unannotated parameter takes what is JSON already.

    Args:
        function: Any callable with a signature. A method only if it is bound (`trip.book`), for
            its object is no data; a first parameter `self` that is annotated is data.

    Attributes:
        signature: The function's own, with the context.
        is_async: True where calling it gives a coroutine for certain.
        context_parameter: The parameter that takes the context: annotated `StepContext`, or
            named `context` and not annotated; None where there is none.

    Raises:
        DefinitionError: It cannot be called from JSON; the message says why, and what to do. A
            name in an annotation that is not there yet is looked for again at the first call.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._described = described = Described(function)
        self.function = function
        self.signature = described.signature
        self.is_async = described.is_async
        self.context_parameter = described.context_parameter
        self._parameters = described.parameters
        returns = Any if inspect.isclass(function) else self.signature.return_annotation
        self._result = Place("result", None, returns)
        places = [*self._parameters.values(), self._result]
        self._late = described.prepared(places, at_last=False)

    def data_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return a call's arguments as the JSON object that is journaled.

        The context is no data: given by name, or in its place as None or a `StepContext`, it is
        dropped.

        Raises:
            TypeError: The function cannot be called with these arguments.
            InvalidData: An argument does not fit its annotation, or would not come back from JSON
                as what it is; the path names it, as in `passengers[2].age`.
        """
        self._prepare()
        given = self._described.bound(args, kwargs)
        data = {}
        for name, place in self._parameters.items():
            value = given.get(name, LEFT_OUT)
            if value is LEFT_OUT or (value is place.default and type(value) is not place.plain):
                value = place.default_data()
            elif type(value) is not place.plain:
                value = place.argument(value)
            if value is not LEFT_OUT:
                data[name] = value
        try:
            return checked_object(data, "")
        except InvalidData as error:
            raise InvalidData(error.path.lstrip(".") or "arguments", error.problem) from None

    def call(self, data: dict[str, Any], context: StepContext | None = None) -> Any:
        """Call the function with what its JSON says; return what it returns, maybe a coroutine.

        Raises:
            InvalidData: The data does not fit the function; it was not called.
        """
        args, kwargs = self.arguments_from(data, context)
        return self.function(*args, **kwargs)

    def arguments_from(
        self, data: dict[str, Any], context: StepContext | None = None
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return what the function is called with where this is its JSON; nothing is called.

        Raises:
            InvalidData: The data does not fit the function.
        """
        for name in data.keys() - self._parameters.keys():
            problem = f"is recorded, but {self._described.name} takes no such argument. Give it "
            problem += "one, with a default, for as long as the journal holds calls with it."
            raise InvalidData(name, problem)
        values = {name: self._argument(name, data) for name in self._parameters}
        return self._described.arguments(values, context)

    def output_of(self, value: Any) -> Any:
        """Return a result as JSON, by the return annotation or else by what it is.

        Raises:
            InvalidData: JSON cannot carry it, or it could not be read back.
        """
        self._prepare()
        return None if value is None else self._result.output(value)

    def result_of(self, output: Any) -> Any:
        """Return the typed result that was recorded as this JSON.

        A recorded null is None, whatever the annotation says, for a result that could not be
        recorded is null; and what does not fit the annotation is returned as it is recorded.
        """
        self._prepare()
        try:
            return None if output is None else self._result.read(output)
        except InvalidData:
            return clone(output)

    def handler(self) -> Callable[..., Any]:
        """Return what a registry calls: `(action, data)`, or with `context` where it is needed.

        It returns the result as JSON; one that is not JSON is returned as it is, so that whoever
        records it says so.
        """

        def serve(_action: str, data: dict[str, Any], context: StepContext | None) -> Any:
            value = self.call(data, context)
            return self._later(value) if inspect.isawaitable(value) else self._recordable(value)

        return as_handler(serve, self._described, takes_context=self.context_parameter is not None)

    async def _later(self, value: Awaitable[Any]) -> Any:
        return self._recordable(await value)

    def _recordable(self, value: Any) -> Any:
        try:
            return self.output_of(value)
        except Exception:  # noqa: BLE001 (the function has succeeded, whatever its result is like)
            return value

    def _argument(self, name: str, data: dict[str, Any]) -> Any:
        self._prepare()
        place = self._parameters[name]
        value = data[name] if name in data else place.default_data()
        return value if value is LEFT_OUT else place.read(value)

    def _prepare(self) -> None:
        if self._late:
            self._late = self._described.prepared(self._late, at_last=True)


class TypedUndo:
    """Call a compensating function with what its forward call was given and returned.

    It is given by name: the arguments of the forward call; `result`, what that returned, or None
    while it is in doubt or where it was not recorded; the context. `**more` takes all other
    arguments, those of the forward `**kwargs` one by one. An annotation of its own decides what a
    value is read as; else, and in `**more`, the forward function's does.

    A handler `(action, data)` is nothing special: where the forward function has neither an
    `action` nor a `data` parameter, these two names stand for the name of the compensating action
    and for all arguments, as JSON. Otherwise every name that the forward function has is its
    argument; the result of one that has a `result` is `context.output`.

    Args:
        function: Any callable with a signature; what it returns means what it means for handlers.
        forward: The function that it undoes.

    Raises:
        DefinitionError: It needs an argument that an undo is not given; names what there is.
    """

    def __init__(self, function: Callable[..., Any], forward: TypedFunction) -> None:
        self._sources = forward._parameters  # noqa: SLF001 (the two are one machine)
        self._described = described = Described(function, self._sources)
        self.function = function
        self.forward = forward
        self.is_async = described.is_async
        names = {"result", "action", "data"}
        self._handed = names if self._sources.keys().isdisjoint(names - {"result"}) else {"result"}
        self._handed -= self._sources.keys()
        self._wanted = [place for place in described.parameters.values() if self._has(place)]
        self._late = described.prepared(self._wanted, at_last=False)

    def handler(self) -> Callable[..., Any]:
        """Return what a registry calls; it returns what the function returns, untouched."""

        def serve(action: str, data: dict[str, Any], context: StepContext | None) -> Any:
            if self._late:
                self._late = self._described.prepared(self._late, at_last=True)
            handed: dict[str, Any] = {"action": action, "data": data}
            if context is not None and not context.in_doubt:
                handed["result"] = context.output
            given = {place.name: self._value(place, handed, data) for place in self._wanted}
            args, kwargs = self._described.arguments(given, context)
            return self.function(*args, **kwargs)

        needs_result = "result" in self._handed and "result" in {one.name for one in self._wanted}
        takes_context = needs_result or self._described.context_parameter is not None
        return as_handler(serve, self._described, takes_context=takes_context)

    def _has(self, place: Place) -> bool:
        source = self._sources.get(place.name)
        if place.kind in (_Kind.VAR_POSITIONAL, _Kind.VAR_KEYWORD):
            return place.kind is _Kind.VAR_KEYWORD or bool(source and source.kind is place.kind)
        is_there = source is not None or place.name in self._handed
        if is_there or place.default is not _Kind.empty:
            return is_there
        there = ", ".join([*self._sources, *sorted(self._handed), "context"])
        message = (
            f"{self._described.name}, which undoes {_name_of(self.forward.function)}, needs an "
            f"argument {place.name!r} that no undo is given. It can have: {there}. "
            "Rename the parameter, or give it a default."
        )
        raise DefinitionError(message)

    def _value(self, place: Place, handed: dict[str, Any], data: dict[str, Any]) -> Any:
        if place.kind is _Kind.VAR_KEYWORD:
            return self._others(place, data)
        if place.name in self._handed:
            value = handed.get(place.name)
            if place.name == "result" and (value is None or place.is_untyped):
                return self.forward.result_of(value)
            return place.read(value)
        source = self._sources[place.name]
        written = data[place.name] if place.name in data else source.default_data()
        if written is not LEFT_OUT and not place.is_untyped:
            return place.read(written)
        has_default = place.default is not _Kind.empty
        return LEFT_OUT if written is LEFT_OUT and has_default else self._given(place.name, data)

    def _given(self, name: str, data: dict[str, Any]) -> Any:
        """Return what the forward function was given, be it a default that JSON cannot carry."""
        value, default = self.forward._argument(name, data), self._sources[name].default  # noqa: SLF001
        return default if value is LEFT_OUT and default is not _Kind.empty else value

    def _others(self, place: Place, data: dict[str, Any]) -> dict[str, Any]:
        named = self._described.signature.parameters.keys() - {place.name}
        others: dict[str, Any] = {}
        for name in self._sources.keys() - named:
            value = self._given(name, data)
            if self._sources[name].kind is _Kind.VAR_KEYWORD:
                others |= value
            elif value is not LEFT_OUT:
                others[name] = value
        return {name: value for name, value in others.items() if name not in named}


class Described:
    """Hold what can be told about a callable by looking at it.

    Args:
        function: The callable.
        data_names: The names that are arguments whatever they are called.
    """

    def __init__(self, function: Callable[..., Any], data_names: Collection[str] = ()) -> None:
        self.name = _name_of(function)
        self.signature = _signature_of(function, self.name)
        self._innermost = _innermost(function)
        self._names = _visible_names(self._innermost)
        self.is_async = _is_async(function)
        self.context_parameter = self._context_parameter(data_names)
        self._order = tuple(self.signature.parameters.values())
        not_data = {self.context_parameter}
        if isinstance(function, functools.partial):
            not_data |= function.keywords.keys()
        data = [one for one in self._order if one.name not in not_data]
        self._binding = self.signature.replace(parameters=data)
        self.parameters = {
            one.name: Place(one.name, one.kind, one.annotation, one.default) for one in data
        }
        self._by_place = [one.name for one in data if one.kind is _Kind.POSITIONAL_OR_KEYWORD]
        by_name = sum(one.kind is _Kind.KEYWORD_ONLY for one in data)
        self._is_simple = len(self._by_place) + by_name == len(data)
        self._needed = {one.name for one in data if one.default is _Kind.empty}

    def _context_parameter(self, data_names: Collection[str]) -> str | None:
        for name, parameter in self.signature.parameters.items():
            try:
                meaning = self._meaning_of(self._names, parameter.annotation)
            except Exception:  # noqa: BLE001 (what is wrong with it is said where it is needed)
                written = str(parameter.annotation).removesuffix(" | None")
                meaning = StepContext if written.endswith(".StepContext") else None
            if typing.get_origin(meaning) in (typing.Union, types.UnionType, typing.Annotated):
                meaning = StepContext if StepContext in typing.get_args(meaning) else None
            if meaning is StepContext:
                return name
        named = self.signature.parameters.get("context")
        if named is None or named.annotation is not _Kind.empty or "context" in data_names:
            return None
        return None if named.kind in (_Kind.VAR_POSITIONAL, _Kind.VAR_KEYWORD) else "context"

    def _meaning_of(self, names: dict[str, Any], annotation: object) -> Any:
        """Return what an annotation says; NameError where a name of it is not there (yet)."""

        def holder() -> None: ...

        holder.__annotations__ = {"it": annotation}
        scope = getattr(self._innermost, "__globals__", {})
        # Why the first one: it is often imported for the type checker alone.
        names = {"StepContext": StepContext, **scope, **names}
        return typing.get_type_hints(holder, scope, names, include_extras=True)["it"]

    def prepared(self, places: Iterable[Place], *, at_last: bool) -> list[Place]:
        """Find out what annotations mean; return those that name what is not there yet."""
        names = self._names | (_visible_names(self._innermost) if at_last else {})
        meaning_of = functools.partial(self._meaning_of, names)
        late = [one for one in places if not one.prepare(self.name, meaning_of, at_last=at_last)]
        if not late:
            # Why: they keep alive what the enclosing function had. Order matters: another thread
            # finds every place prepared by now, or has taken the names before.
            self._names = {}
        return late

    def bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Mapping[str, Any]:
        """Return the arguments by name, as Python binds them, but for the context."""
        if self.context_parameter is not None:
            by_place = [one.name for one in self._order if one.kind in _BY_PLACE]
            place = [*by_place, self.context_parameter].index(self.context_parameter)
            is_by_place = place < min(len(by_place), len(args))
            if is_by_place and isinstance(args[place], (StepContext, types.NoneType)):
                args = args[:place] + args[place + 1 :]
            kwargs = {name: kwargs[name] for name in kwargs if name != self.context_parameter}
        if self._is_simple and len(args) <= len(self._by_place):
            # Why not always as below: this takes a tenth of the time.
            given = dict(zip(self._by_place, args, strict=False)) | kwargs
            is_sound = len(given) == len(args) + len(kwargs)
            if is_sound and self._needed <= given.keys() <= self.parameters.keys():
                return given
        try:
            return self._binding.bind(*args, **kwargs).arguments
        except TypeError as error:
            message = f"{self.name}() {error}"
            raise TypeError(message) from None

    def arguments(
        self, values: Mapping[str, Any], context: StepContext | None
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of a call with these values; those left out have their default."""
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for parameter in self._order:
            name, kind, default = parameter.name, parameter.kind, parameter.default
            value = values.get(name, LEFT_OUT)
            if name == self.context_parameter and (context or default is _Kind.empty):
                value = context
            if kind is _Kind.VAR_POSITIONAL:
                args.extend(() if value is LEFT_OUT else value)
            elif kind is _Kind.VAR_KEYWORD:
                kwargs |= {} if value is LEFT_OUT else value
            elif value is LEFT_OUT and default is _Kind.empty:
                raise InvalidData(name, f"is missing, and {self.name} has no default for it.")
            elif kind is not _Kind.KEYWORD_ONLY:
                args.append(default if value is LEFT_OUT else value)
            elif value is not LEFT_OUT:
                kwargs[name] = value
        return args, kwargs


def as_handler(
    serve: Callable[..., Any], described: Described, *, takes_context: bool
) -> Callable[..., Any]:
    """Return what a registry calls, sync or async as the function is."""

    def run(action: str, data: dict[str, Any], context: StepContext | None = None) -> Any:
        return serve(action, data, context)

    async def run_async(
        action: str, data: dict[str, Any], context: StepContext | None = None
    ) -> Any:
        value = serve(action, data, context)
        return await value if inspect.isawaitable(value) else value

    handler: Any = run_async if described.is_async else run
    handler.__name__ = handler.__qualname__ = described.name
    if not takes_context:
        # Why: whoever shows no such parameter is not made a context for, which takes time.
        handler.__signature__ = inspect.signature(lambda action, data: None)  # noqa: ARG005
    return handler  # type: ignore[no-any-return]


def _name_of(function: object) -> str:
    inner = function.func if isinstance(function, functools.partial) else function
    return str(getattr(inner, "__qualname__", None) or type(inner).__qualname__)


def _signature_of(function: Callable[..., Any], name: str) -> inspect.Signature:
    if not callable(function):
        message = f"{name} cannot be called. Give a function, below @classmethod if it is one."
        raise DefinitionError(message)
    options: dict[str, Any] = {}
    if sys.version_info >= (3, 14):
        import annotationlib

        options = {"annotation_format": annotationlib.Format.FORWARDREF}
    try:
        signature = inspect.signature(function, **options)
    except (TypeError, ValueError) as error:
        message = f"{name} has no signature to read. Call it in a function of your own."
        raise DefinitionError(message) from error
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        message = f"{name} is a generator: to call it does nothing. Return a list instead."
        raise DefinitionError(message)
    first = next(iter(signature.parameters.values()), None)
    if first and first.name in ("self", "cls") and first.annotation is _Kind.empty:
        message = (
            f"{name} is a method, and its {first.name!r} is not in the data by which it is called "
            "after a restart. Give a function, or the method of an object that every process has."
        )
        raise DefinitionError(message)
    return signature


def _innermost(function: Any) -> Any:
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, (staticmethod, types.MethodType)):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif inspect.isclass(function) or inspect.isroutine(function):
            return function.__init__ if inspect.isclass(function) else function
        else:
            function = type(function).__call__


def _is_async(function: Any) -> bool:
    # Why not `_innermost`: what wraps a coroutine function may well wait for it itself.
    while isinstance(function, (functools.partial, staticmethod)):
        inner = function.func if isinstance(function, functools.partial) else function.__func__
        function = inner
    called = getattr(function, "__call__", None)  # noqa: B004 (an object may be async by it)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


def _visible_names(function: Any) -> dict[str, Any]:
    """Return the names that a nested function sees besides those of its module."""
    names = {one.__name__: one for one in getattr(function, "__type_params__", ())}
    if not inspect.isfunction(function):
        return names
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        with contextlib.suppress(ValueError):  # A cell may be empty yet, as that of the function.
            names[name] = cell.cell_contents
    frame = inspect.currentframe()
    while frame is not None:
        is_around = function.__qualname__.startswith(f"{frame.f_code.co_qualname}.")
        if is_around and frame.f_globals is function.__globals__:
            names = {**frame.f_locals, **names}
        frame = frame.f_back
    return names
