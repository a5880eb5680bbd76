"""Reading of data with a user-defined modality; the result of each of its methods is checked."""

import contextlib
import inspect
import pathlib
from collections.abc import Generator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from feller.core.errors import InputError, UsageError, found_instead
from feller.core.pytree import Cond, leaves, num_examples, tree_map
from feller.core.rng import Rng
from feller.core.user_code import qualified_name, user_frame
from feller.data.files import numpy_files, sample_folder
from feller.data.labels import class_number, unknown_class
from feller.data.modality import ROWS, Dataset, Modality, RawData
from feller.spaces import Space

NUM_PROBED = 8
"""Number of examples on which shapes are checked."""
REQUIRED_ATTRIBUTES = ("name", "suffixes", "figure", "recipe")
"""Attributes that a user-defined modality needs besides its methods."""


def check_class(kind: Any) -> type[Modality]:
    """Validate a user-defined modality class.

    InputError if the class is not a frozen dataclass derived from Modality, or lacks a required method or attribute.
    """
    if not (inspect.isclass(kind) and issubclass(kind, Modality)):
        raise InputError(
            argument="modality",
            expected="a class that inherits from feller.Modality",
            found=qualified_name(kind),
            remedy="Write class Series(feller.Modality)",
        )
    methods = [*sorted(kind.__abstractmethods__), *(["load"] if kind.load is Modality.load else [])]
    missing = [*methods, *(name for name in REQUIRED_ATTRIBUTES if not getattr(kind, name))]
    if missing:
        needed = "methods load, space, encode and decode, and name, suffixes, figure and recipe"
        raise InputError(
            argument=qualified_name(kind),
            expected=needed,
            found=f"no {', no '.join(missing)}",
            remedy=f"Add {missing[0]}",
        )
    if not (isinstance(kind.suffixes, tuple | list) and all(map(_is_suffix, kind.suffixes))):
        raise InputError(
            argument=qualified_name(kind),
            expected="suffixes: a tuple of file suffixes",
            found=repr(kind.suffixes),
            remedy='Write suffixes = (".csv",) with the comma',
        )
    if not (isinstance(kind.metrics, tuple | list) and all(map(callable, kind.metrics))):
        name = getattr(kind.metrics, "__name__", "distance")
        raise InputError(
            argument=qualified_name(kind),
            expected="metrics: a tuple of functions of samples and real values",
            found=found_instead(kind.metrics),
            remedy=f"Write metrics = ({name},), with the comma",
        )
    names = [getattr(metric, "__name__", type(metric).__name__) for metric in kind.metrics]
    if invalid := next((name for k, name in enumerate(names) if not name.isidentifier() or name in names[:k]), None):
        raise InputError(
            argument=qualified_name(kind),
            expected="metrics: functions with distinct names, which reports use",
            found="a function without a name" if not invalid.isidentifier() else f"two functions named {invalid}",
            remedy="Write def distance(samples, real): ...",
        )
    params = vars(kind).get("__dataclass_params__")  # its own: those of Modality do not include its fields
    is_frozen = params is not None and params.frozen
    if not is_frozen:
        raise InputError(
            argument=qualified_name(kind),
            expected="a frozen dataclass, since its fields are saved with the run",
            found="a class that is not a frozen dataclass",
            remedy="Decorate the class with @feller.register_modality",
        )
    return kind


def _is_suffix(ending: object) -> bool:
    return isinstance(ending, str) and ending.startswith(".")


def new_modality(kind: type[Modality]) -> Modality:
    """Create an unfitted modality with default fields; InputError if a field has no default."""
    try:
        return kind()
    except TypeError as error:
        raise InputError(
            argument=qualified_name(kind),
            expected="a default for every field, which fit(raw) may replace",
            found=str(error),
            remedy="Add defaults, such as mean: float = 0.0",
        ) from error


def read_with(modality: Modality, source: str, *, fit: bool = False) -> Dataset:
    """Read a file with a user-defined modality; if `fit`, first compute the statistics of the modality from the file.

    InputError if the file does not exist or has a suffix that the modality does not list, or if a method of the
    modality fails or returns an invalid result.
    """
    path = pathlib.Path(source)
    if not path.exists():
        raise InputError(
            argument="data", file=source, expected=f"a file of {modality.display_name}", found="no such file"
        )
    if path.is_dir() and sample_folder.is_overview(path / sample_folder.OVERVIEW_FILE):
        path = next(path / name for name in (ROWS, "samples.npz") if (path / name).is_file())
    if path.suffix.lower() == ".npz" and ".npz" not in modality.suffixes:
        raw = _from_arrays(modality, numpy_files.load_arrays(path), source)
    else:
        if path.is_file() and not path.name.lower().endswith(tuple(modality.suffixes)):
            endings = ", ".join(modality.suffixes)
            raise InputError(argument="data", file=source, expected=f"a file that ends with {endings}", found=path.name)
        raw = _call_load(modality, str(path))
    if fit:
        with user_call(modality, "fit"):
            fitted = modality.fit(raw)
        if type(fitted) is not type(modality):
            raise _wrong_result(modality, "fit", f"a {type(modality).__name__}", _describe(fitted))
        modality = fitted
    check_given(modality, raw)
    data = Dataset(raw.values, raw.given, modality, raw.notes, properties=_numbers(raw))
    check_states(data)
    return data


@contextlib.contextmanager
def user_call(modality: Modality, method: str) -> Generator[None]:
    """Within the context, turn an exception in a user's method into an InputError that states where it was raised."""
    try:
        yield
    except (InputError, UsageError):
        raise
    except Exception as error:
        raise InputError(
            argument=qualified_name(type(modality), method),
            expected=EXPECTED.get(method, "a result"),
            found=user_frame(error, type(modality)) or f"{type(error).__name__}: {error}",
            remedy="Fix the method, or raise an InputError that describes the problem with the data",
        ) from error


EXPECTED = {
    "load": "a RawData with the examples of a file",
    "fit": "the modality with fitted statistics",
    "space": "the state space",
    "encode": "a state",
    "decode": "values",
    "frame": "a DataFrame",
    "figure": "a matplotlib figure or a PIL image",
    "recipe": "a feller.Recipe",
    "metrics": "one number for samples and real values",
}
"""Description of the expected result of each method, for error messages."""


def _call_load(modality: Modality, source: str) -> RawData:
    with user_call(modality, "load"):
        raw: Any = modality.load(source)
    if not isinstance(raw, RawData):
        raise _wrong_result(modality, "load", "a feller.RawData", _describe(raw))
    tensors = [leaf for leaf in leaves(raw.values) if isinstance(leaf, Tensor)]
    if len(tensors) != len([*leaves(raw.values)]) or any(not leaf.ndim for leaf in tensors):
        has_arrays = any(isinstance(leaf, np.ndarray) for leaf in leaves(raw.values))
        remedy = "Write RawData(torch.as_tensor(values))" if has_arrays else None
        expected = "values as a tensor [n, ...], or a dict of tensors"
        raise _wrong_result(modality, "load", expected, _describe(raw.values), remedy)
    if len({len(leaf) for leaf in tensors}) != 1 or not len(tensors[0]):
        raise _wrong_result(
            modality, "load", "at least one example, and equally many in each tensor", _describe(raw.values)
        )
    for leaf in tensors:
        is_invalid = leaf.is_floating_point() and ~leaf.isfinite().reshape(len(leaf), -1).all(1)
        if isinstance(is_invalid, Tensor) and is_invalid.any():
            raise InputError(
                argument=qualified_name(type(modality), "load"),
                file=source,
                row=int(is_invalid.nonzero()[0]),
                expected="finite numbers",
                found=f"{int(is_invalid.sum())} of {len(leaf)} examples with NaN or infinite values",
                remedy="Remove or fill these examples, and say so in the notes of RawData",
            )
    return raw


def _from_arrays(modality: Modality, arrays: Mapping[str, np.ndarray], source: str) -> RawData:
    """Return the examples in the arrays of an .npz file, as `Modality.arrays` wrote them: values and conditions."""
    remaining = dict(arrays)
    given: Cond = {}
    for name, classes in modality.conditions.items():
        labels = next((remaining.pop(key) for key in (name, f"{name}s") if key in remaining), None)
        if labels is not None:
            indices = [class_number(word, classes) for word in labels.tolist()]
            if None in indices:
                raise unknown_class(InputError, name, labels.tolist()[indices.index(None)], classes).with_context(
                    file=source
                )
            given[name] = torch.tensor(indices, dtype=torch.int64)
    values = {name: torch.from_numpy(leaf) for name, leaf in remaining.items()}
    return RawData(values.get("samples", values) if len(values) == 1 else values, given)


def check_given(modality: Modality, raw: RawData) -> None:
    """Raise an InputError if a condition is unknown to the modality, or does not hold one class index per example."""
    n = num_examples(raw.values)
    with user_call(modality, "conditions"):
        conditions = modality.conditions
    for name, labels in raw.given.items():
        if name not in conditions:
            raise _wrong_result(
                modality, "conditions", f"the classes of {name}, a condition that load returns", _describe(conditions)
            )
        is_valid = isinstance(labels, Tensor) and labels.shape == (n,) and labels.dtype == torch.int64
        if not is_valid or not bool(((labels >= 0) & (labels < len(conditions[name]))).all()):
            expected = f"{name} as int64 [{n}] from 0 to {len(conditions[name]) - 1}"
            raise _wrong_result(modality, "load", expected, _describe(labels))


def check_states(data: Dataset) -> None:
    """Check shapes and dtypes of states and values on a few examples; InputError if a shape or dtype is wrong."""
    modality, probe = data.modality, data.subset(torch.arange(min(NUM_PROBED, len(data))))
    with user_call(modality, "space"):
        space: Any = modality.space()
    if not isinstance(space, Space):
        example = f"feller.Euclidean({space})" if isinstance(space, tuple) else "feller.Euclidean((3,))"
        raise _wrong_result(modality, "space", "a feller space", found_instead(space), f"Return {example}")
    with user_call(modality, "space"):
        base = space.sample_base(len(probe), Rng(0).stream("shape"))
    with user_call(modality, "encode"):
        state = modality.encode(probe.values)
    if _describe(state) != _describe(base):
        raise _wrong_result(modality, "encode", f"a state of the space, {_describe(base)}", _describe(state))
    if not all(bool(leaf.isfinite().all()) for leaf in leaves(state)):
        raise _wrong_result(modality, "encode", "finite numbers", "NaN or infinite values")
    with user_call(modality, "decode"):
        values = modality.decode(state)
    if _shapes(values) != _shapes(probe.values):
        raise _wrong_result(
            modality, "decode", f"values of the shape that load returns, {_describe(probe.values)}", _describe(values)
        )
    if type(modality).frame is not Modality.frame:
        with user_call(modality, "frame"):
            frame: Any = modality.frame(values, probe.given)
        if not isinstance(frame, pd.DataFrame):
            raise _wrong_result(modality, "frame", "a pandas.DataFrame", _describe(frame))


def _wrong_result(modality: Modality, method: str, expected: str, found: str, remedy: str | None = None) -> InputError:
    method_name = qualified_name(type(modality), method)
    return InputError(argument=method_name, expected=expected, found=found, remedy=remedy or f"Return {expected}")


def _describe(value: Any) -> str:
    """Describe a state, or another object, by shapes and types."""
    if isinstance(value, Tensor):
        return f"{[*value.shape]} of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_describe(leaf)}" for name, leaf in sorted(value.items())) + "}"
    return "None" if value is None else f"a {type(value).__name__}"


def _shapes(value: Any) -> Any:
    return tree_map(lambda leaf: getattr(leaf, "shape", None), value)


def _numbers(raw: RawData) -> dict[str, Tensor]:
    return {name: torch.as_tensor(column).double() for name, column in raw.properties.items()}
