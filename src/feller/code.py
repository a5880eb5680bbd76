"""Code of the user's own, loaded only from a file that the caller names; never from a run folder."""

import hashlib
import importlib.util
import inspect
import pathlib
import sys
from collections.abc import Callable
from typing import Any

from feller.errors import InputError, UsageError
from feller.record import FUNCTIONS, nearest


def check_code(path: str | pathlib.Path) -> None:
    """Refuse a file that is not there.

    Raises:
        InputError: Then.
    """
    if not pathlib.Path(path).is_file():
        raise InputError(f"expected a Python file {pathlib.Path(path).resolve()}, found none")


def load_file(path: pathlib.Path) -> Any:
    """Execute a Python file as a module; its kinds of paths, networks and so on can then be named in records.

    Raises:
        InputError: If it is missing, or does not run.
    """
    check_code(path)
    path = path.resolve()
    name = f"feller_code_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise InputError(f"{path} does not run: {type(error).__name__}: {error}") from error
    own = {key: value for key, value in vars(module).items() if getattr(value, "__module__", "") == name}
    FUNCTIONS.update({key: value for key, value in own.items() if callable(value)})
    return module


def load_function(place: str) -> Callable[..., Any]:
    """Return the function that `file.py:function` names.

    Raises:
        UsageError: If there is no such function.
        InputError: If the file is missing, or does not run.
    """
    file, _, name = place.rpartition(":")
    if not file or not name:
        raise UsageError(f"expected file.py:function, got {place!r}")
    module = load_file(pathlib.Path(file))
    found = getattr(module, name, None)
    if not callable(found):
        here = {
            key: value for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
        }
        names = [key for key, value in here.items() if inspect.isfunction(value) and not key.startswith("_")]
        raise UsageError(f"{file} has no function {name!r}: {nearest(name, names)}")
    return found


def fingerprint(path: pathlib.Path) -> str:
    """Return the hash by which a run remembers a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
