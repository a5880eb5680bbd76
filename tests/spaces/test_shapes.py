"""Shapes of spaces are tuples, and sizes integers; in a subprocess without type checks of the tests."""

import subprocess
import sys

CODE = """
from feller import spaces
from feller.core.errors import UsageError

for name, *arguments in (
    ("Torus", 1), ("Euclidean", 3), ("SO3", 4), ("Sphere", 2, 3), ("Simplex", 2, 3), ("Poincare", 2, 3), ("SPD", 2, 3),
    ("Tokens", 5, 8), ("Euclidean", (-2,)), ("Euclidean", (2.5,)), ("Torus", (True,)), ("SO3", ("a",)),
):
    try:
        getattr(spaces, name)(*arguments)
    except UsageError as error:
        assert error.argument == "shape" and error.found == str(arguments[-1]), vars(error)
    else:
        raise AssertionError(name)

for name, argument, value in (
    ("Sphere", "n", -1), ("Sphere", "n", 0), ("Poincare", "n", 2.5), ("SPD", "n", True), ("Simplex", "n", "3"),
    ("Tokens", "vocab_size", 0), ("Tokens", "vocab_size", 2.0),
):
    try:
        getattr(spaces, name)(value)
    except UsageError as error:
        assert error.argument == argument and error.found == repr(value), vars(error)
    else:
        raise AssertionError(name)
"""


def test_shapes_that_are_numbers_are_refused() -> None:
    subprocess.run([sys.executable, "-c", CODE], check=True)
