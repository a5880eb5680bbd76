"""Python functions whose keyword arguments are the fields of a config, written once and known to type checkers."""

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast, get_type_hints, overload, runtime_checkable

from feller.app.commands.arguments import POSITIONAL, check_values, command_of, config_of
from feller.app.reporter import SILENT, Tell
from feller.core.errors import UsageError

P = ParamSpec("P")
First = TypeVar("First", contravariant=True)
Config = TypeVar("Config")
Result = TypeVar("Result", covariant=True)
Owner = TypeVar("Owner")


@runtime_checkable
class Configured(Protocol[First, P, Config, Result]):
    """A function of one thing and either the fields of a config, by name, or the config itself."""

    @overload
    def __call__(self, first: First = ..., /, *args: P.args, **kwargs: P.kwargs) -> Result: ...

    @overload
    def __call__(self, first: First = ..., /, *, config: Config) -> Result: ...


def configured(
    kind: Callable[P, Config],
) -> Callable[[Callable[[First, Config], Result]], Configured[First, P, Config, Result]]:
    """Return what makes a function of one thing and a config a function of that thing and the fields of the config."""

    def decorate(function: Callable[[First, Config], Result]) -> Configured[First, P, Config, Result]:
        first, *_ = inspect.signature(function).parameters.values()

        @functools.wraps(function)
        def called(*args: Any, **given: Any) -> Any:
            if len(args) > 1:
                raise UsageError(f"{function.__name__} takes {first.name}, and all else by its name")
            if not args and first.name in given:
                args = (given.pop(first.name),)
            return function(args[0] if args else cast(Any, None), _config(cast(type, kind), given))

        more = [one for one in _parameters(cast(type, kind)) if one.name != first.name]
        shown = [first.replace(default=None, annotation=inspect.Parameter.empty), *more]
        hints = get_type_hints(function)
        called.__annotations__ = {
            first.name: hints[first.name],
            **{name: hint for name, hint in get_type_hints(kind).items() if name not in (first.name, *POSITIONAL)},
            "return": hints["return"],
        }
        called.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]  # pyrefly: ignore
        return cast("Configured[First, P, Config, Result]", called)

    return decorate


@runtime_checkable
class ConfiguredPair(Protocol[First, P, Config, Result]):
    """A function of two things, or a list of more, and either the fields of a config, by name, or the config itself."""

    @overload
    def __call__(self, first: First = ..., second: First = ..., /, *args: P.args, **kwargs: P.kwargs) -> Result: ...

    @overload
    def __call__(self, first: First = ..., second: First = ..., /, *, config: Config) -> Result: ...


def configured_pair(
    kind: Callable[P, Config],
) -> Callable[[Callable[[tuple[First, ...], Config], Result]], ConfiguredPair[First, P, Config, Result]]:
    """Return what makes a function of several things and a config a function of them and the fields of the config."""

    def decorate(function: Callable[[tuple[First, ...], Config], Result]) -> ConfiguredPair[First, P, Config, Result]:
        one = configured(kind)(function)

        @functools.wraps(function)
        def called(*args: Any, **given: Any) -> Any:
            return one(args, **given)  # pyrefly: ignore

        called.__annotations__ = one.__annotations__  # pyrefly: ignore
        called.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # pyrefly: ignore
            [inspect.Parameter("populations", inspect.Parameter.VAR_POSITIONAL), *_parameters(cast(type, kind))]
        )
        return cast("ConfiguredPair[First, P, Config, Result]", called)

    return decorate


def _config(kind: type, given: dict[str, Any]) -> Any:
    """Return the config that is given, or that of the fields that are."""
    if "config" not in given:
        return config_of(kind, given)
    config = given.pop("config")
    if given or not isinstance(config, kind):
        raise UsageError(f"{command_of(kind)} takes a {kind.__name__}, or its fields, got {type(config).__name__}")
    check_values(config, but=POSITIONAL)
    return config


def _parameters(kind: type) -> list[inspect.Parameter]:
    """Return the fields of a config as parameters, without annotations that only the command line needs."""
    return [
        inspect.Parameter(
            one.name, inspect.Parameter.KEYWORD_ONLY, default=None if one.default is MISSING else one.default
        )
        for one in fields(kind)
        if one.name not in POSITIONAL
    ]


class ConfiguredMethod(Generic[First, P, Config, Owner, Result]):
    """A method of one thing and the fields of a config."""

    def __init__(self, kind: Callable[P, Config], function: Callable[[Owner, First, Config], Result]) -> None:
        self.kind, self.function, self.__doc__ = kind, function, function.__doc__

    def __get__(self, owner: Owner, kind: type | None = None) -> Configured[First, P, Config, Result]:
        """Return the function of an object."""
        if owner is None:
            return cast("Configured[First, P, Config, Result]", self)

        def sample(n: First, config: Config) -> Result:
            return self.function(owner, n, config)

        sample.__doc__ = self.__doc__
        return configured(self.kind)(sample)


@contextlib.contextmanager
def shown(verbose: bool | None) -> Iterator[Tell]:
    """Give who shows progress: by default where people look, on a terminal or in a notebook."""
    if verbose is None:
        verbose = sys.stderr.isatty() or "ipykernel" in sys.modules
    if not verbose:
        yield SILENT
        return
    from feller.app.terminal import heard, speaker

    tell = speaker()
    with heard(tell):
        try:
            yield tell
        finally:
            tell.done()
