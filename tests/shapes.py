"""What checks the shapes and types of functions as they are called in tests.

A function that is defined within another one would be wrapped anew each time that the outer one is called, at a
thousand times the cost of the call, so its outer one alone is checked.
"""

from collections.abc import Callable
from typing import Any

from beartype import beartype

WITHIN = "<locals>"


def checked(function: Callable[..., Any], *options: Any, **others: Any) -> Callable[..., Any]:
    """Return a function that refuses what its annotations do not allow."""
    return function if WITHIN in function.__qualname__ else beartype(function, *options, **others)
