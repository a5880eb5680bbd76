"""What checks the shapes and types of functions as they are called in tests.

Each function of the package is wrapped by jaxtyping as it is defined. Two kinds are spared what costs most of the time:

- a function that is defined within another one would be wrapped anew each time that the outer one is called, at a
  thousand times the cost of the call, so its outer one alone is checked;
- a function without arrays has no sizes that have to agree, so its types alone are checked.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, get_args

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray

WITHIN = "<locals>"
typed = beartype(conf=BeartypeConf(violation_type=TypeError))
"""What refuses a wrong argument as Python does, which the package may expect of what a stranger wrote."""
wrapped = jaxtyping.jaxtyped


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with runtime checks of its annotations."""
    return function if WITHIN in function.__qualname__ else typed(function)


def sparing(function: Any = None, *, typechecker: Callable[..., Any]) -> Any:
    """Wrap a function, or the `__init__` of a dataclass, if its annotations can be checked."""
    if function is None:
        return lambda known: sparing(known, typechecker=typechecker)
    if inspect.isclass(function):
        if dataclasses.is_dataclass(function) and not hasattr(function.__init__, "is_checked"):
            function.__init__ = _from_first_call(function.__init__, functools.partial(wrapped, typechecker=typechecker))  # type: ignore[misc]
        return function
    if not inspect.isfunction(function):
        return wrapped(function, typechecker=typechecker)
    if WITHIN in function.__qualname__:
        return function
    return _from_first_call(function, functools.partial(_wrap, typechecker=typechecker))


def _from_first_call(function: Callable[..., Any], wrap: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, wrapped as it is first called: most are never called in a process."""
    known = None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal known
        if known is None:
            known = wrap(function)
        return known(*args, **kwargs)

    call.is_checked = True  # type: ignore[attr-defined]
    return call


def _wrap(function: Callable[..., Any], typechecker: Callable[..., Any]) -> Callable[..., Any]:
    if any(map(_holds_arrays, function.__annotations__.values())):
        return wrapped(function, typechecker=typechecker)
    return typechecker(function)


def _holds_arrays(annotation: Any) -> bool:
    """Return whether a type contains arrays, assumed of unresolved names."""
    if isinstance(annotation, str):
        return True
    if inspect.isclass(annotation):
        return issubclass(annotation, AbstractArray)
    return any(map(_holds_arrays, get_args(annotation)))


jaxtyping.jaxtyped = sparing
