"""Loading of user code, only from files that the caller names and never from a run folder."""

import ast
import hashlib
import importlib.util
import inspect
import os
import pathlib
import re
import secrets
import sys
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

import feller
from feller.core.errors import InputError, UsageError
from feller.core.serialization import CHOSEN, MEMORY_PREFIX, USER_FUNCTIONS

MODULE_PREFIX = "feller_code_"
"""Prefix of the module names of user files."""
LIBRARIES = ("feller", "torch", "numpy", "functools", "builtins")
"""Packages whose functions and classes do not count as user-defined."""
_IN_MEMORY: dict[str, Callable[..., Any]] = {}
"""Functions that have no file, by reference."""
_NAMED: dict[pathlib.Path, ModuleType] = {}
"""Modules of the user files passed with --code, by run folder."""
_IMPORTED: dict[pathlib.Path, ModuleType] = {}
"""Modules of user files that the program has already imported, by file; these files are not executed again."""


def check_code_file(path: str | pathlib.Path) -> None:
    """Raise an InputError if the file with user code does not exist."""
    if not pathlib.Path(path).is_file():
        raise InputError("a Python file", "none", file=pathlib.Path(path).resolve())


def load_file(path: pathlib.Path) -> Any:
    """Execute a Python file as a module, and register its classes and functions, so that run records can name them.

    Raises:
        InputError: If the file is missing or raises an error.
    """
    check_code_file(path)
    path = path.resolve()
    if path in _IMPORTED:
        _register_functions(_IMPORTED[path])
        return _IMPORTED[path]
    name = f"{MODULE_PREFIX}{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        _register_functions(sys.modules[name])
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError("is not a Python file", file=path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        message = (user_frame(error) or f"{type(error).__name__}: {error}").removeprefix(f"{_display_path(path)} ")
        del sys.modules[name]
        if isinstance(error, InputError) and error.argument is not None:  # raised by feller about a class of the file
            raise
        raise InputError(
            f"fails to run: {message}{_sibling_import_hint(error, path)}{_public_imports_hint(error, path)}", file=path
        ) from error
    _register_functions(module)
    return module


def _sibling_import_hint(error: BaseException, path: pathlib.Path) -> str:
    """Explain a failed import of a module in the same folder."""
    name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if not name or not ((path.parent / f"{name}.py").is_file() or (path.parent / name).is_dir()):
        return ""
    return (
        f"; feller does not import from the folder of {path.name}: copy the needed code of {name} into it, or set"
        f" PYTHONPATH={_display_path(path.parent)}"
    )


def _public_imports_hint(error: BaseException, path: pathlib.Path) -> str:
    """Suggest `from feller import ...` for public names that a file imports from feller's modules."""
    if not isinstance(error, ImportError) or (error.name or "").partition(".")[0] != "feller":
        return ""
    imported = [
        feller.RENAMED_EXPORTS.get(alias.name, alias.name)
        for statement in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(statement, ast.ImportFrom) and f"{statement.module}.".startswith("feller.")
        for alias in statement.names
    ]
    public = [name for name in dict.fromkeys(imported) if name in feller.__all__]
    return f"; from feller import {', '.join(public)}" if public else ""


def _register_functions(module: ModuleType) -> None:
    """Register the functions and classes of a user module; they take precedence over those of other modules."""
    CHOSEN[:] = [*(name for name in CHOSEN if name != module.__name__), module.__name__]
    definitions = {
        key: value for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
    }
    USER_FUNCTIONS.update({key: value for key, value in definitions.items() if callable(value)})


def load_code(path: str | os.PathLike[str], folder: pathlib.Path) -> None:
    """Execute the user file `path`, so that names in the records of the run in `folder` refer to that file."""
    _NAMED[folder.resolve()] = load_file(pathlib.Path(path))


def choose_code(folder: pathlib.Path, recorded: str) -> None:
    """Register the functions of one user file, so that the records of a run find them before those of other files.

    The file is the one passed for the run, else the loaded file with the recorded hash; nothing happens without one.

    Args:
        folder: Run folder.
        recorded: Hash of the user file that the run was fitted with; empty if there was none.
    """
    module = _NAMED.get(folder.resolve())
    if module is None and recorded:
        loaded = (sys.modules[name] for name in CHOSEN if name in sys.modules)
        files = ((code, pathlib.Path(getattr(code, "__file__", None) or "")) for code in loaded)
        module = next((code for code, file in files if file.is_file() and fingerprint(file) == recorded), None)
    if module is not None:
        _register_functions(module)


def import_path(function: Callable[..., Any], argument: str) -> str:
    """Return the reference `file.py:function` of an imported function; its file will not be executed again.

    Args:
        function: Function defined at the top level of a file.
        argument: Name of the argument that takes the function, for the error message.

    Raises:
        UsageError: If the function is not defined at the top level of an importable file.
    """
    name = getattr(function, "__qualname__", type(function).__name__)
    module = inspect.getmodule(function)
    file = getattr(module, "__file__", None)
    if module is None or file is None or module.__name__ == "__main__" or getattr(module, name, None) is not function:
        raise UsageError(
            f"a run stores a function as file and name: define {name} at the top level of a file such as mine.py,"
            " not of the running script or notebook, and import it, or pass"
            f' {argument}="mine.py:{name if name.isidentifier() else "name"}"'
        )
    path = pathlib.Path(file).resolve()
    if not module.__name__.startswith(MODULE_PREFIX):
        _IMPORTED[path] = module
        _register_functions(module)
    return f"{_display_path(path)}:{name}"


def function_reference(function: Callable[..., Any]) -> str:
    """Return the reference of a function: `file.py:function`, or `memory:NAME`, which only this process can load.

    Functions of a script or notebook, nested functions and lambdas have no file.
    """
    try:
        return import_path(function, "function")
    except UsageError:
        existing = next((reference for reference, stored in _IN_MEMORY.items() if stored is function), None)
        name = re.sub(r"\W+", "", getattr(function, "__name__", type(function).__name__))
        reference = existing or f"{MEMORY_PREFIX}{name}-{secrets.token_hex(4)}"
        _IN_MEMORY[reference] = function
        return reference


def register_in_memory(function: Callable[..., Any], name: str) -> str:
    """Return the reference of a function that records of this process may name, although it has no file."""
    function.__name__ = name
    reference = function.__qualname__ = function_reference(function)
    USER_FUNCTIONS[reference] = function
    return reference


def is_code_reference(words: str) -> bool:
    """Return True if a string refers to a user function: `file.py:function` or `memory:NAME`."""
    return ".py:" in words or words.startswith(MEMORY_PREFIX)


def user_frame(error: BaseException, of: type | None = None) -> str | None:
    """Describe in one line where and with which error user code failed; None if user code did not take part.

    The location is the innermost frame of user code; frames of other libraries are ignored. If that frame called
    feller, the innermost frame of feller is added, because the call itself may be wrong; checks in `core.errors` are
    skipped.

    Args:
        error: Exception with its traceback.
        of: User-defined class whose file also counts as user code, even if feller did not load the file.
    """
    library_frame = own_frame = None
    file = None if of is None or of.__module__ == "__main__" or not is_user_defined(of) else inspect.getsourcefile(of)
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = frame.f_globals.get("__name__", "")
        location = f"{_display_path(pathlib.Path(frame.f_code.co_filename))} line {line}, in {frame.f_code.co_name}"
        is_user_code = name.startswith(MODULE_PREFIX) or pathlib.Path(frame.f_code.co_filename) in _IMPORTED
        if is_user_code or frame.f_code.co_filename == file:
            own_frame, library_frame = location, None
        elif own_frame and name.partition(".")[0] == "feller" and name != UsageError.__module__:
            library_frame = f"{name} line {line}"
    if own_frame is None:
        return None
    own_frame = own_frame.removesuffix(", in <module>")
    message = " ".join(f"{type(error).__name__}: {error}".removesuffix(": ").split())
    if isinstance(error, SystemExit):
        message = f"user code exits the program ({message}); remove the call, or raise a ValueError"
    return f"{own_frame}: {message}" + (f" (in {library_frame}, which it calls)" if library_frame else "")


def is_user_defined(thing: Any) -> bool:
    """Return True if a function, a class or an object's class is not from feller, torch or another of `LIBRARIES`."""
    definition = thing if inspect.isclass(thing) or inspect.isroutine(thing) else type(thing)
    return (getattr(definition, "__module__", None) or "builtins").partition(".")[0] not in LIBRARIES


def qualified_name(thing: Any, method: str = "") -> str:
    """Return the name and file of a function, class or object's class, such as `warm (reward.py)`.

    If `method` is given, return those of this method, such as `Swing.sample (mine.py line 3)`.
    """
    definition = thing if inspect.isclass(thing) or inspect.isroutine(thing) else type(thing)
    function = inspect.unwrap(getattr(definition, method) if method else definition)
    name = f"{definition.__name__}.{method}" if method else getattr(definition, "__name__", type(thing).__name__)
    code = getattr(function, "__code__", None)
    module = sys.modules.get(getattr(definition, "__module__", None) or "")
    file = getattr(module, "__file__", None) if code is None else code.co_filename
    if file is None or file.startswith("<"):
        return name
    is_inner = method or "<locals>" in getattr(definition, "__qualname__", "")
    line = f" line {code.co_firstlineno}" if code is not None and is_inner else ""
    return f"{name} ({_display_path(pathlib.Path(file))}{line})"


def source_line(function: Callable[..., Any]) -> str:
    """Return the file and line of a function's definition, such as `mine.py line 3`; empty if they are unknown."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return "" if code is None else f"{_display_path(pathlib.Path(code.co_filename))} line {code.co_firstlineno}"


def _display_path(path: pathlib.Path) -> str:
    path = path.resolve()
    return str(path.relative_to(pathlib.Path.cwd())) if path.is_relative_to(pathlib.Path.cwd()) else str(path)


def load_function(
    place: str, argument_names: tuple[str, ...] | None = None, *, what: str = "function"
) -> Callable[..., Any]:
    """Return the user function or class with the reference `place`, such as `file.py:function`.

    Args:
        place: Reference to the function.
        argument_names: Names of the arguments with which the function will be called; None skips the check.
        what: Noun for the referenced object in error messages, `function` or `class`.

    Raises:
        UsageError: If the reference is malformed or the file does not define the function.
        InputError: If the file is missing or fails to run, or the function does not accept the arguments.
    """
    file, _, name = place.rpartition(":")
    if not file or not name:
        raise UsageError(f"file.py:{'Class' if what == 'class' else what}", repr(place))
    if place.startswith(MEMORY_PREFIX):
        return _in_memory(place)
    module = load_file(pathlib.Path(file))
    function = getattr(module, name, None)
    if not callable(function):
        definitions = {
            key: value for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
        }
        is_match = inspect.isclass if what == "class" else inspect.isfunction
        names = [key for key, value in definitions.items() if is_match(value) and not key.startswith("_")]
        raise UsageError.unknown_name(what, name, names, file=file)
    if argument_names is not None:
        _check_takes(function, argument_names, place)
    return function


def _in_memory(reference: str) -> Callable[..., Any]:
    if reference not in _IN_MEMORY:
        name = reference.removeprefix(MEMORY_PREFIX).rpartition("-")[0]
        raise UsageError(
            argument=name,
            expected="a function stored in a file",
            found="a function that existed only in the process that created the run",
            remedy=f"Define the function in a file such as mine.py, import mine, and create the run again: mine.{name}",
        )
    return _IN_MEMORY[reference]


def _check_takes(function: Callable[..., Any], names: tuple[str, ...], reference: str) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # some C functions have no signature
        return
    try:
        signature.bind(*names)
    except TypeError as error:
        raise InputError(
            f"is called with ({', '.join(names)}), but its signature is"
            f" {signature}{f' ({line})' if (line := source_line(function)) else ''}: {error}",
            file=reference,
        ) from error


def fingerprint(path: pathlib.Path) -> str:
    """Return the SHA-256 of a file; a run identifies its user code by this hash."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
