"""Frozen dataclasses to and from JSON, the form in which runs and recipes are kept.

A value of an abstract type carries its class's name under `is`; only classes that are already imported can be named,
so that reading a record executes nothing of its writer's.
"""

import contextlib
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
from typing import Any, TypeVar, Union, get_args, get_origin

import cattrs
from cattrs.disambiguators import create_default_dis_func
from cattrs.gen import make_dict_structure_fn

from feller.core.errors import InputError
from feller.core.migrations import Older

T = TypeVar("T")
_UMASK = os.umask(0)  # can only be read by setting it
os.umask(_UMASK)
MAX_JSON_BYTES = 2**28
"""Bytes of a file of JSON; the longest honest ones list a million shards."""
_LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""Half of a letter, as JSON writes those beyond 65,535; alone it can stand in no file, nor be shown."""
FILENAME_ERRORS = "surrogateescape"
"""How Python holds bytes of names of files that are no UTF-8: as halves of letters that become these bytes again."""
USER_FUNCTIONS: dict[str, Callable[..., Any]] = {}
"""The user's functions that records may name; filled from files of the caller, see `feller.core.user_code`."""
CHOSEN: list[str] = []
"""Modules of the user's files, whose classes come before others of their names; that which was named last is last."""


def _subclasses(base: type) -> Iterator[type]:
    yield base
    for kind in base.__subclasses__():
        yield from _subclasses(kind)


def _kind_of(name: str, kinds: list[type]) -> type:
    """Return the class that a name stands for: of the user's files that which was named last, then one of ours.

    Raises:
        InputError: If several files define one of that name, and none was named.
    """
    files = {getattr(sys.modules.get(kind.__module__), "__file__", None) or kind.__module__: kind for kind in kinds}
    if len(files) == 1:  # a notebook may define it again
        return kinds[-1]
    chosen = [kind for module in CHOSEN for kind in kinds if kind.__module__ == module]
    chosen = chosen or [kind for kind in kinds if kind.__module__.partition(".")[0] == "feller"]
    if not chosen:
        found, remedy = f"some in {', '.join(sorted(files))}", "Name the file with --code"
        raise InputError(argument=name, expected="one class of this name", found=found, remedy=remedy)
    return chosen[-1]


def _is_abstract(cls: Any) -> bool:
    """Tell whether a type stands for its subclasses."""
    return isinstance(cls, type) and inspect.isabstract(cls)


def _is_abstract_union(cls: Any) -> bool:
    """Tell whether a type is a union of types that stand for their subclasses."""
    return get_origin(cls) in (Union, UnionType) and all(map(_is_abstract, get_args(cls)))


def _are_records(cls: Any) -> bool:
    """Tell whether a type is a union of dataclasses, or nothing, which are told apart by their fields."""
    kinds = [one for one in get_args(cls) if one is not NoneType]
    return get_origin(cls) in (Union, UnionType) and len(kinds) > 1 and all(map(is_dataclass, kinds))


def _function_name(function: Callable[..., Any]) -> str:
    if "<" in function.__qualname__:
        raise InputError(
            "a record can name only functions that a file defines at its top level", found=function.__qualname__
        )
    return function.__qualname__


def _function(name: Any, _: Any) -> Callable[..., Any]:
    if name not in USER_FUNCTIONS:
        raise InputError(
            f"the record names the user's function {name!r}", remedy="Pass the file that defines it with --code"
        )
    return USER_FUNCTIONS[name]


def _structure_scalar(value: Any, cls: type) -> Any:
    """Take a plain value as it is: "no" is not True, and 2.5 is no whole number."""
    fits = isinstance(value, (int, float) if cls is float else cls)
    if not fits or (isinstance(value, bool) and cls is not bool):
        raise InputError(cls.__name__, repr(value))
    return cls(value)


def _number(value: Any, _: Any) -> int | float:
    """Take a number as it is, whole or not."""
    return _structure_scalar(value, type(value) if type(value) in (int, float) else float)


def _may_hold_tensors(cls: Any) -> bool:
    """Tell whether a field may hold tensors; by the name, as torch takes long to import."""
    return any(getattr(kind, "__name__", "") == "Tensor" for kind in get_args(cls))


def _no_tensors(value: Any, _: Any) -> None:
    """Take nothing where a field may hold tensors, which no record has."""
    if value is not None:
        raise InputError("nothing where tensors may be", f"{value!r:.40}")


def _prefix_field(line: str, root: str) -> str:
    """Say first in which field of a record something is wrong."""
    message, _, place = line.rpartition(" @ ")
    field = place.removeprefix(root).removeprefix(".")
    return f"{field}: {message}" if field else message


def _explain(error: BaseException, cls: Any) -> str:
    """Keep our own messages, which say what was expected, and let cattrs put the others into words."""
    return str(error) if isinstance(error, ValueError) else cattrs.v.format_exception(error, cls)


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)

    def unstructure(value: Any) -> dict[str, Any]:
        if not is_dataclass(value):
            name = type(value).__name__
            raise InputError(
                argument=name,
                expected="a dataclass, whose fields a run keeps",
                found="a plain class",
                remedy="Decorate it with @dataclass(frozen=True)",
            )
        plain = cattrs.gen.make_dict_unstructure_fn(type(value), converter)(value)
        return {"is": type(value).__name__, **plain}

    def structure(data: Any, base: Any) -> Any:
        candidates = [kind for one in get_args(base) or (base,) for kind in _subclasses(one)]
        alike: dict[str, list[type]] = {}
        for kind in candidates:
            if is_dataclass(kind) and not inspect.isabstract(kind):
                alike.setdefault(kind.__name__, []).append(kind)
        kinds = {each: several[-1] for each, several in alike.items()}
        only = base.__name__ if base in kinds.values() else None  # a field may be of one kind
        name = data.get("is", only) if isinstance(data, dict) else None
        name = data.name_among(name, kinds) if isinstance(data, Older) else name
        if name not in kinds:
            user_hint = ", or one of your own, whose file --code names, or that Python imported"
            raise InputError.unknown_name(getattr(base, "__name__", str(base)), name, kinds, alternatives=user_hint)
        kinds[name] = _kind_of(name, alike[name])
        data = data.fields_of(kinds[name]) if isinstance(data, Older) else data
        fields = {key: value for key, value in data.items() if key != "is"}
        return make_dict_structure_fn(kinds[name], converter, _cattrs_forbid_extra_keys=True)(fields, kinds[name])

    def is_kind(cls: Any) -> bool:
        return isinstance(cls, type) and any(_is_abstract(parent) for parent in cls.__mro__[1:])

    def fields_of(cls: Any) -> Callable[[Any, Any], Any]:
        make = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True)

        def structure_fields(data: Any, _: Any) -> Any:
            if not isinstance(data, dict):
                raise InputError(f"the fields of {cls.__name__}", f"{data!r:.40}")
            return make(data.fields_of(cls) if isinstance(data, Older) else data, cls)

        return structure_fields

    def one_of(cls: Any) -> Callable[[Any, Any], Any]:
        kinds = [one for one in get_args(cls) if one is not NoneType]
        tell = create_default_dis_func(converter, *kinds)

        def fits(data: Older, kind: Any) -> bool:
            return data.fields_of(kind).keys() <= {one.name for one in dataclass_fields(kind)}

        def made(data: Any, _: Any) -> Any:
            if data is None and NoneType in get_args(cls):
                return None
            fitting = [kind for kind in kinds if isinstance(data, Older) and fits(data, kind)]
            try:
                kind: Any = fitting[0] if fitting else tell(data)
            except (TypeError, ValueError) as error:
                names = " or ".join(kind.__name__ for kind in kinds)
                raise InputError(f"the fields of {names}", f"{data!r:.60}") from error
            return converter.structure(data, kind)

        return made

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
    """Turn a frozen dataclass into what JSON can hold."""
    return _CONVERTER.unstructure(value)


def from_dict(cls: type[T], data: Any) -> T:
    """Build a frozen dataclass, or one of an abstract class's kinds, from what JSON held.

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

    Raises:
        InputError: If it is missing, truncated, no JSON, holds half a letter, or is no file, such as a device that has
            no end.
    """
    try:
        stat_result = path.stat()
        if not stat.S_ISREG(stat_result.st_mode):  # before it is opened: a pipe would wait for its writer
            raise InputError("a file", "a folder, a pipe or a device", advice, file=path)
        if stat_result.st_size > MAX_JSON_BYTES:
            raise InputError(
                f"is larger than {MAX_JSON_BYTES // 2**20} MiB, as no file of ours is; it was damaged", file=path
            )
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
        if _LONE_SURROGATE.search(text):  # in pairs they are one letter
            json.dumps(content, ensure_ascii=False).encode(errors=FILENAME_ERRORS)
        return content
    except FileNotFoundError as error:
        raise InputError("a file", "none", advice, file=path) from error
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # also what is no UTF-8, and numbers of endless digits
        raise InputError(f"is no valid JSON ({error}); it was damaged or cut off", file=path) from error


def replace_file(path: pathlib.Path, content: bytes | str) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new and nothing between."""
    content = content.encode(errors=FILENAME_ERRORS) if isinstance(content, str) else content
    with error_path(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~_UMASK)
            os.replace(name, path)
        except BaseException:
            pathlib.Path(name).unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def error_path(path: pathlib.Path) -> Iterator[None]:
    """Let an error of the system name the file that a person knows, not one that is written in its place.

    Raises:
        InputError: If a folder is where the file goes.
        OSError: If the system refuses anything else.
    """
    try:
        yield
    except IsADirectoryError as error:
        raise InputError("is a folder, and a file is written there", remedy="Move it elsewhere", file=path) from error
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_json(path: pathlib.Path, data: Any) -> None:
    """Write a JSON file, whole or not at all."""
    replace_file(path, json.dumps(data, indent=1) + "\n")
