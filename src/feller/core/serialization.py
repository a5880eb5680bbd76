"""Serialization of frozen dataclasses to JSON, for runs and recipes.

A value of an abstract type stores its class name under `is`. A record can name only classes that are already imported,
so that no code is executed when it is read.
"""

import contextlib
import functools
import inspect
import json
import os
import pathlib
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, BinaryIO, TypeVar, Union, get_args, get_origin

import cattrs
from cattrs.disambiguators import create_default_dis_func
from cattrs.gen import make_dict_structure_fn

from feller.core.errors import InputError
from feller.core.migrations import Older

T = TypeVar("T")
_UMASK = os.umask(0)  # can only be read by setting it
os.umask(_UMASK)
MAX_JSON_BYTES = 2**28
"""Maximum size of a JSON file, enough for a manifest of a million shards."""
_LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""Pattern of an escaped surrogate in JSON; an unpaired surrogate can be neither encoded nor displayed."""
FILENAME_ERRORS = "surrogateescape"
"""Name of the error handler with which Python represents bytes of file names that are not UTF-8."""
MEMORY_PREFIX = "memory:"
"""Prefix of references to functions that have no file."""
USER_FUNCTIONS: dict[str, Callable[..., Any]] = {}
"""User functions that records may refer to, by reference; filled by `feller.core.user_code`."""
CHOSEN: list[str] = []
"""Names of the modules of user files, latest last; their classes take precedence over other classes of the same
name."""


def _subclasses(base: type) -> Iterator[type]:
    yield base
    for subclass in base.__subclasses__():
        yield from _subclasses(subclass)


def _kind_of(name: str, classes: list[type]) -> type:
    """Return the class of the given name: from the latest user file that defines it, else from feller.

    Raises:
        InputError: If several files define the class and none was loaded with --code.
    """
    files = {getattr(sys.modules.get(cls.__module__), "__file__", None) or cls.__module__: cls for cls in classes}
    if len(files) == 1:  # a notebook may redefine a class
        return classes[-1]
    chosen = [cls for module in CHOSEN for cls in classes if cls.__module__ == module]
    chosen = chosen or [cls for cls in classes if cls.__module__.partition(".")[0] == "feller"]
    if not chosen:
        found, remedy = f"definitions in {', '.join(sorted(files))}", "Choose the file with --code"
        raise InputError(argument=name, expected="one class of this name", found=found, remedy=remedy)
    return chosen[-1]


def _is_abstract(cls: Any) -> bool:
    return isinstance(cls, type) and inspect.isabstract(cls)


def _is_abstract_union(cls: Any) -> bool:
    return get_origin(cls) in (Union, UnionType) and all(map(_is_abstract, get_args(cls)))


def _are_records(cls: Any) -> bool:
    """Return True for a union of dataclasses (and None), which are distinguished by their fields."""
    members = [member for member in get_args(cls) if member is not NoneType]
    return get_origin(cls) in (Union, UnionType) and len(members) > 1 and all(map(is_dataclass, members))


def _function_name(function: Callable[..., Any]) -> str:
    if "<" in function.__qualname__:
        raise InputError("a function defined at the top level of a file", function.__qualname__)
    return function.__qualname__


def _function(name: Any, _: Any) -> Callable[..., Any]:
    if name not in USER_FUNCTIONS and str(name).startswith(MEMORY_PREFIX):
        raise InputError(
            "a network built by a function or class in a file",
            f"{name!r}, which existed only in the process that created the run",
            "Define the class of the network in a file such as mine.py, import it, and create the run again",
        )
    if name not in USER_FUNCTIONS:
        raise InputError(
            f"the record refers to the user function {name!r}",
            remedy="Pass the file that defines this function with --code",
        )
    return USER_FUNCTIONS[name]


def _structure_scalar(value: Any, cls: type) -> Any:
    """Check a scalar without coercion: "no" is not a bool, and 2.5 is not an int."""
    is_instance = isinstance(value, (int, float) if cls is float else cls)
    if not is_instance or (isinstance(value, bool) and cls is not bool):
        raise InputError(cls.__name__, repr(value))
    return cls(value)


def _number(value: Any, _: Any) -> int | float:
    return _structure_scalar(value, type(value) if type(value) in (int, float) else float)


def _may_hold_tensors(cls: Any) -> bool:
    """Return True if a field's type includes Tensor, compared by name because importing torch is slow."""
    return any(getattr(member, "__name__", "") == "Tensor" for member in get_args(cls))


def _no_tensors(value: Any, _: Any) -> None:
    """Return None; raise `InputError` for any other value of a field that may hold tensors.

    JSON records do not store tensors.
    """
    if value is not None:
        raise InputError("null, because tensors are not recorded", f"{value!r:.40}")


def _prefix_field(line: str, root: str) -> str:
    """Return a line of a cattrs error with the field name at the front; `root` is the name of the record's class."""
    message, _, location = line.rpartition(" @ ")
    field = location.removeprefix(root).removeprefix(".")
    return f"{field}: {message}" if field else message


def _explain(error: BaseException, cls: Any) -> str:
    """Explain an error in a record: the message of a ValueError, else the description by cattrs."""
    return str(error) if isinstance(error, ValueError) else cattrs.v.format_exception(error, cls)


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)

    def unstructure(value: Any) -> dict[str, Any]:
        if "__dataclass_fields__" not in vars(type(value)):
            name = type(value).__name__
            raise InputError(
                argument=name,
                expected="a dataclass, so that a run can record its fields",
                found="a plain class",
                remedy="Decorate the class with @dataclass(frozen=True)",
            )
        return {"is": type(value).__name__, **unstructure_fn(type(value))(value)}

    @functools.cache
    def unstructure_fn(cls: type) -> Callable[[Any], dict[str, Any]]:
        return cattrs.gen.make_dict_unstructure_fn(cls, converter)

    @functools.cache
    def structure_fn(cls: type) -> Callable[[Any, Any], Any]:
        return make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True)

    def structure(data: Any, base: Any) -> Any:
        candidates = [candidate for arg in get_args(base) or (base,) for candidate in _subclasses(arg)]
        by_name: dict[str, list[type]] = {}
        for candidate in candidates:
            if is_dataclass(candidate) and not inspect.isabstract(candidate):
                by_name.setdefault(candidate.__name__, []).append(candidate)
        classes = {key: definitions[-1] for key, definitions in by_name.items()}
        default_name = base.__name__ if base in classes.values() else None  # the field's type may be concrete
        name = data.get("is", default_name) if isinstance(data, dict) else None
        name = data.name_among(name, classes) if isinstance(data, Older) else name
        if name not in classes:
            user_hint = ", or a user-defined class, loaded with --code or imported in Python"
            raise InputError.unknown_name(getattr(base, "__name__", str(base)), name, classes, alternatives=user_hint)
        classes[name] = _kind_of(name, by_name[name])
        data = data.fields_of(classes[name]) if isinstance(data, Older) else data
        fields = {field: value for field, value in data.items() if field != "is"}
        return structure_fn(classes[name])(fields, classes[name])

    def is_kind(cls: Any) -> bool:
        return isinstance(cls, type) and any(_is_abstract(parent) for parent in cls.__mro__[1:])

    def fields_of(cls: Any) -> Callable[[Any, Any], Any]:
        structure_record = structure_fn(cls)

        def structure_fields(data: Any, _: Any) -> Any:
            if not isinstance(data, dict):
                raise InputError(f"an object with the fields of {cls.__name__}", f"{data!r:.40}")
            return structure_record(data.fields_of(cls) if isinstance(data, Older) else data, cls)

        return structure_fields

    def one_of(cls: Any) -> Callable[[Any, Any], Any]:
        members = [arg for arg in get_args(cls) if arg is not NoneType]
        disambiguate = create_default_dis_func(converter, *members)

        def fits(data: Older, member: Any) -> bool:
            return data.fields_of(member).keys() <= {field.name for field in dataclass_fields(member)}

        def structure_member(data: Any, _: Any) -> Any:
            if data is None and NoneType in get_args(cls):
                return None
            matches = [member for member in members if isinstance(data, Older) and fits(data, member)]
            try:
                member: Any = matches[0] if matches else disambiguate(data)
            except (TypeError, ValueError) as error:
                names = " or ".join(member.__name__ for member in members)
                raise InputError(f"an object with the fields of {names}", f"{data!r:.60}") from error
            return converter.structure(data, member)

        return structure_member

    converter.register_structure_hook_factory(lambda cls: isinstance(cls, type) and is_dataclass(cls), fields_of)
    for cls in (bool, int, float, str):
        converter.register_structure_hook(cls, _structure_scalar)
    converter.register_structure_hook_func(lambda cls: cls == int | float, _number)
    converter.register_structure_hook_func(_may_hold_tensors, _no_tensors)
    converter.register_unstructure_hook_func(is_kind, unstructure)
    converter.register_unstructure_hook_func(_is_abstract, lambda value: converter.unstructure(value))
    converter.register_structure_hook_func(is_kind, structure)
    converter.register_structure_hook_func(_is_abstract, structure)
    converter.register_structure_hook_factory(_are_records, one_of)
    converter.register_structure_hook_func(_is_abstract_union, structure)

    def is_function(cls: Any) -> bool:
        return get_origin(cls) is Callable

    converter.register_unstructure_hook_func(is_function, _function_name)
    converter.register_structure_hook_func(is_function, _function)
    return converter


_CONVERTER = _converter()


def to_dict(value: Any) -> Any:
    """Convert a frozen dataclass to dicts, lists and values that JSON can store."""
    return _CONVERTER.unstructure(value)


def from_dict(cls: type[T], data: Any) -> T:
    """Build an instance of a frozen dataclass, or of a subclass of an abstract class, from JSON data.

    Raises:
        InputError: If a field is missing, unknown or of the wrong type.
    """
    try:
        return _CONVERTER.structure(data, cls)
    except cattrs.BaseValidationError as error:
        lines = cattrs.transform_error(error, cls.__name__, _explain)
        raise InputError("; ".join(_prefix_field(line, cls.__name__) for line in lines)) from error


def read_json(path: pathlib.Path, advice: str | None = None) -> Any:
    """Read a JSON file.

    Args:
        path: File to read.
        advice: Remedy in the error for a missing or damaged file.

    Raises:
        InputError: If the file is missing, not a regular file, too large, or not valid JSON.
    """
    try:
        stat_result = path.stat()
        if not stat.S_ISREG(stat_result.st_mode):  # checked before opening: a pipe would block
            raise InputError("a regular file", "a folder, a pipe or a device", advice, file=path)
        if stat_result.st_size > MAX_JSON_BYTES:
            raise InputError(
                f"is larger than {MAX_JSON_BYTES // 2**20} MiB, the limit for JSON files; it is damaged", file=path
            )
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
        if _LONE_SURROGATE.search(text):  # pairs are valid and encode
            json.dumps(content, ensure_ascii=False).encode(errors=FILENAME_ERRORS)
        return content
    except FileNotFoundError as error:
        raise InputError("a file", "none", advice, file=path) from error
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # including invalid UTF-8 and integers with too many digits
        raise InputError(
            f"is not valid JSON ({error}); it is damaged or truncated", remedy=advice, file=path
        ) from error


def replace_file(path: pathlib.Path, content: bytes | str) -> None:
    """Write a file atomically, through a temporary file and a rename."""
    with open_replacement(path) as file:
        file.write(content.encode(errors=FILENAME_ERRORS) if isinstance(content, str) else content)


@contextlib.contextmanager
def open_replacement(path: pathlib.Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path` at the end of the context; after an error, it is deleted instead."""
    with error_path(path):
        handle, temp_name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temp_name, 0o666 & ~_UMASK)
            os.replace(temp_name, path)
        except BaseException:
            pathlib.Path(temp_name).unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def error_path(path: pathlib.Path) -> Iterator[None]:
    """Within the context, re-raise system errors with `path` instead of the path of a temporary file.

    Raises:
        InputError: If the path is a folder.
        OSError: If another system error occurs.
    """
    try:
        yield
    except IsADirectoryError as error:
        raise InputError(
            "is a folder, but a file must be written there", remedy="Move the folder", file=path
        ) from error
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_json(path: pathlib.Path, data: Any) -> None:
    """Write a JSON file atomically."""
    replace_file(path, json.dumps(data, indent=1) + "\n")
