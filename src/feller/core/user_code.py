"""Code of the user's own, loaded only from a file that the caller names; never from a run folder."""

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
from feller.core.serialization import CHOSEN, USER_FUNCTIONS

MODULE_PREFIX = "feller_code_"
"""Of the names of modules that are made of the user's files."""
LIBRARIES = ("feller", "torch", "numpy", "functools", "builtins")
"""Packages whose pieces nobody takes for the user's."""
MEMORY_PREFIX = "memory:"
"""Before the name of a function that has no file."""
_IN_MEMORY: dict[str, Callable[..., Any]] = {}
"""Functions that have no file, by the words that stand for them."""
_NAMED: dict[pathlib.Path, ModuleType] = {}
"""Files of the user's that were named for folders of runs."""
_IMPORTED: dict[pathlib.Path, ModuleType] = {}
"""Files that the user's program has imported itself; they do not run again."""


def check_code_file(path: str | pathlib.Path) -> None:
    """Refuse a file that is not there."""
    if not pathlib.Path(path).is_file():
        raise InputError("a Python file", "none", file=pathlib.Path(path).resolve())


def load_file(path: pathlib.Path) -> Any:
    """Execute a Python file as a module; its kinds of paths, networks and so on can then be named in records.

    Raises:
        InputError: If it is missing, or does not run.
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
        raise InputError("is no Python file", file=path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        message = (user_frame(error) or f"{type(error).__name__}: {error}").removeprefix(f"{_display_path(path)} ")
        del sys.modules[name]
        if isinstance(error, InputError) and error.argument is not None:  # feller says what is wrong with a class of it
            raise
        raise InputError(
            f"does not run: {message}{_sibling_import_hint(error, path)}{_public_imports_hint(error, path)}", file=path
        ) from error
    _register_functions(module)
    return module


def _sibling_import_hint(error: BaseException, path: pathlib.Path) -> str:
    """Say why a file beside the user's is not found by its name."""
    name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if not name or not ((path.parent / f"{name}.py").is_file() or (path.parent / name).is_dir()):
        return ""
    return (
        f"; feller loads {path.name} alone and does not look beside it: put what it needs of {name} into it, or name"
        f" the folder of both: PYTHONPATH={_display_path(path.parent)}"
    )


def _public_imports_hint(error: BaseException, path: pathlib.Path) -> str:
    """Return the import from `feller` of the public names that a file imports from its modules, under current names."""
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
    """Let records name what a module of the user's defines, before what others do."""
    CHOSEN[:] = [*(name for name in CHOSEN if name != module.__name__), module.__name__]
    definitions = {
        key: value for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
    }
    USER_FUNCTIONS.update({key: value for key, value in definitions.items() if callable(value)})


def load_code(path: str | os.PathLike[str], folder: pathlib.Path) -> None:
    """Execute the file that is named for a run, whose names then mean what they do there; errors as of `load_file`."""
    _NAMED[folder.resolve()] = load_file(pathlib.Path(path))


def choose_code(folder: pathlib.Path, recorded: str) -> None:
    """Let names of a run mean what they mean in the file that was named for it, or else in that which it records.

    Args:
        folder: Of the run.
        recorded: Hash of the file that it was fitted with; empty where it was with none.
    """
    module = _NAMED.get(folder.resolve())
    if module is None and recorded:
        known = (sys.modules[name] for name in CHOSEN if name in sys.modules)
        files = ((one, pathlib.Path(getattr(one, "__file__", None) or "")) for one in known)
        module = next((one for one, file in files if file.is_file() and fingerprint(file) == recorded), None)
    if module is not None:
        _register_functions(module)


def import_path(function: Callable[..., Any], argument: str) -> str:
    """Return `file.py:function` of a function that the user's program has imported; its file does not run again.

    Args:
        function: Defined at the top level of a file.
        argument: Name of the argument that it was given for, which could take the words.

    Raises:
        UsageError: If no file is known that defines it by its name, and could be named later.
    """
    name = getattr(function, "__qualname__", type(function).__name__)
    module = inspect.getmodule(function)
    file = getattr(module, "__file__", None)
    if module is None or file is None or module.__name__ == "__main__" or getattr(module, name, None) is not function:
        raise UsageError(
            f"a run remembers it by the file that defines it: write {name} at the top level of a file of its own, such"
            f' as mine.py, and import it, or say {argument}="mine.py:{name if name.isidentifier() else "name"}"'
        )
    path = pathlib.Path(file).resolve()
    if not module.__name__.startswith(MODULE_PREFIX):
        _IMPORTED[path] = module
        _register_functions(module)
    return f"{_display_path(path)}:{name}"


def function_reference(function: Callable[..., Any]) -> str:
    """Return the words for a function: `file.py:function`, or `memory:NAME`, which this process alone can load.

    A function has no file if it was written in a script, in a notebook, or inside of another, as a lambda.
    """
    try:
        return import_path(function, "function")
    except UsageError:
        existing = next((word for word, one in _IN_MEMORY.items() if one is function), None)
        name = re.sub(r"\W+", "", getattr(function, "__name__", type(function).__name__))
        word = existing or f"{MEMORY_PREFIX}{name}-{secrets.token_hex(4)}"
        _IN_MEMORY[word] = function
        return word


def is_code_reference(words: str) -> bool:
    """Tell whether words name a function of the user's, `file.py:function` or one in memory."""
    return ".py:" in words or words.startswith(MEMORY_PREFIX)


def user_frame(error: BaseException, of: type | None = None) -> str | None:
    """Say in one line where code of the user's own failed, which a class may be of; None where it had no part in it.

    Of the calls that led to the error those of other libraries do not count. If the last is of the user's code, the
    error is there. If that code has called feller last, its line is named, too, for the call may be wrong.
    """
    library_frame = own_frame = None
    file = None if of is None or of.__module__ == "__main__" or not is_user_defined(of) else inspect.getsourcefile(of)
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = frame.f_globals.get("__name__", "")
        location = f"{_display_path(pathlib.Path(frame.f_code.co_filename))} line {line}, in {frame.f_code.co_name}"
        known = name.startswith(MODULE_PREFIX) or pathlib.Path(frame.f_code.co_filename) in _IMPORTED
        if known or frame.f_code.co_filename == file:
            own_frame, library_frame = location, None
        elif own_frame and name.partition(".")[0] == "feller":
            library_frame = f"{name} line {line}"
    if own_frame is None:
        return None
    own_frame = own_frame.removesuffix(", in <module>")
    message = " ".join(f"{type(error).__name__}: {error}".removesuffix(": ").split())
    if isinstance(error, SystemExit):
        message = f"it ends the program ({message}), which is not its to end; take that out, or raise a ValueError"
    return f"{own_frame}: {message}" + (f" (in {library_frame}, which it calls)" if library_frame else "")


def is_user_defined(thing: Any) -> bool:
    """Tell whether a function, a class, or the class of an object is the user's own: no part of feller or torch."""
    definition = thing if inspect.isclass(thing) or inspect.isroutine(thing) else type(thing)
    return (getattr(definition, "__module__", None) or "builtins").partition(".")[0] not in LIBRARIES


def qualified_name(thing: Any, method: str = "") -> str:
    """Name a function or an object with its file, as warm (wish.py), or a method, as Swing.sample (mine.py line 3)."""
    kind = thing if inspect.isclass(thing) or inspect.isroutine(thing) else type(thing)
    function = inspect.unwrap(getattr(kind, method) if method else kind)
    name = f"{kind.__name__}.{method}" if method else getattr(kind, "__name__", type(thing).__name__)
    code = getattr(function, "__code__", None)
    module = sys.modules.get(getattr(kind, "__module__", None) or "")
    file = getattr(module, "__file__", None) if code is None else code.co_filename
    if file is None or file.startswith("<"):
        return name
    inner = method or "<locals>" in getattr(kind, "__qualname__", "")
    line = f" line {code.co_firstlineno}" if code is not None and inner else ""
    return f"{name} ({_display_path(pathlib.Path(file))}{line})"


def source_line(function: Callable[..., Any]) -> str:
    """Say where a function of the user's begins, as `mine.py line 3`; nothing of what has no line."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return "" if code is None else f"{_display_path(pathlib.Path(code.co_filename))} line {code.co_firstlineno}"


def _display_path(path: pathlib.Path) -> str:
    """Return a path as people would write it from where they are."""
    path = path.resolve()
    return str(path.relative_to(pathlib.Path.cwd())) if path.is_relative_to(pathlib.Path.cwd()) else str(path)


def load_function(
    place: str, argument_names: tuple[str, ...] | None = None, *, what: str = "function"
) -> Callable[..., Any]:
    """Return the function that `file.py:function` names.

    Args:
        place: Where it is.
        argument_names: Names of the arguments that it will be given; not looked at without.
        what: A function, or a class.

    Raises:
        UsageError: If there is no such function.
        InputError: If the file is missing, or does not run, or the function takes other arguments.
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
        is_one = inspect.isclass if what == "class" else inspect.isfunction
        names = [key for key, value in definitions.items() if is_one(value) and not key.startswith("_")]
        raise UsageError.unknown_name(what, name, names, file=file)
    if argument_names is not None:
        _check_takes(function, argument_names, place)
    return function


def _in_memory(words: str) -> Callable[..., Any]:
    """Return a function that this process was given.

    Raises:
        UsageError: If it was given to another process.
    """
    if words not in _IN_MEMORY:
        name = words.removeprefix(MEMORY_PREFIX).rpartition("-")[0]
        raise UsageError(
            argument=name,
            expected="a function that can be loaded",
            found="one that was in the memory of the process that made the run, and of which nothing is kept",
            remedy=f"Write it into a file, such as mine.py, import it from there, and make the run anew: mine.{name}",
        )
    return _IN_MEMORY[words]


def _check_takes(function: Callable[..., Any], names: tuple[str, ...], place: str) -> None:
    """Refuse a function that cannot be called with these arguments."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # some that are written in C have none
        return
    try:
        signature.bind(*names)
    except TypeError as error:
        raise InputError(
            f"is called with ({', '.join(names)}), and it is written to take"
            f" {signature}{f' ({line})' if (line := source_line(function)) else ''}: {error}",
            file=place,
        ) from error


def fingerprint(path: pathlib.Path) -> str:
    """Return the hash by which a run remembers a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
