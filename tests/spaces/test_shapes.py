"""Shapes of spaces are tuples; in a subprocess without type checks of the tests."""

import subprocess
import sys

CODE = """
from feller import spaces
from feller.core.errors import UsageError

for name, *arguments in (
    ("Torus", 1), ("Euclidean", 3), ("SO3", 4), ("Sphere", 2, 3), ("Simplex", 2, 3), ("Poincare", 2, 3), ("SPD", 2, 3),
    ("Tokens", 5, 8),
):
    try:
        getattr(spaces, name)(*arguments)
    except UsageError as error:
        assert error.argument == "shape" and error.found == str(arguments[-1]), vars(error)
    else:
        raise AssertionError(name)
"""


def test_shapes_that_are_numbers_are_refused() -> None:
    subprocess.run([sys.executable, "-c", CODE], check=True)
