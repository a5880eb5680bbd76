"""In-memory data: recognition of its type, and storage as a file that a run can read again."""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeGuard

import numpy as np
import pandas as pd
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.core.serialization import replace_file
from feller.data.crystals.files import BEGINS
from feller.data.crystals.files import COLUMN as CIF
from feller.data.files.delimited import Sheet, text_of
from feller.data.files.numpy_files import write_arrays
from feller.data.files.plain_text import all_numbers
from feller.data.files.sample_folder import folder_name
from feller.data.labels import LABEL_NAMES, TEXT_NAME
from feller.data.loading.array_formats import LABELS, OTHERS, SAMPLES
from feller.data.loading.raw import object_array
from feller.data.tables.dataframes import sheet_of

InMemoryData = (
    pd.DataFrame
    | pd.Series
    | np.ndarray
    | Tensor
    | Mapping[str, np.ndarray | Tensor | Sequence[object] | pd.DataFrame]
    | Sequence[object]
)
"""In-memory data: a DataFrame, array, tensor, list of texts, dict of arrays with the keys of an .npz file, or
dict of data frames that are linked by keys."""
DataSource = str | os.PathLike[str] | InMemoryData
"""Source of data: a file, a folder, `example:NAME`, or in-memory data."""
PRIMARY_KEYS = (*SAMPLES, "element", "mel", "sound")
"""Dict keys under which the examples can be given; a dict needs one of them."""
EXTRA_KEYS = ("mask", "tokens", "valid", "pictures", "codes", "modelled")
"""Dict keys that are allowed besides the keys of the examples and labels."""
IN_MEMORY_PREFIX = "memory:"
"""Prefix of the recorded name of in-memory data without a stored copy."""
FILES = {kind: f"data.{kind}" for kind in ("csv", "npz", "jsonl")}


def check_frame(frame: pd.DataFrame) -> None:
    """Raise a UsageError if a data frame is empty, or its column names are not strings."""
    if frame.empty:
        rows, columns = frame.shape
        raise UsageError(
            argument="data",
            expected="a DataFrame with rows and columns",
            found=f"{rows:,} rows and {columns:,} columns",
            remedy="Check how the DataFrame was read or filtered: df.shape",
        )
    invalid = next((name for name in frame.columns if not isinstance(name, str)), None)
    if invalid is not None:
        is_multi = isinstance(frame.columns, pd.MultiIndex)
        code = "df.columns = ['_'.join(map(str, name)) for name in df.columns]" if is_multi else "df.columns.map(str)"
        raise UsageError(
            argument="data",
            column=str(invalid),
            expected="a DataFrame with strings as column names",
            found="a MultiIndex" if is_multi else f"{type(invalid).__name__} {invalid!r}",
            remedy=f"Rename the columns: {code if is_multi else f'df.columns = {code}'}",
        )


def with_index(frame: pd.DataFrame, names: Collection[str] | None = None) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Turn named index levels of a data frame into columns, as `reset_index` does; also return notes.

    Args:
        frame: Data frame.
        names: Index levels to keep (default: all named levels); other levels are dropped without a note.

    Raises:
        UsageError: If an index level has the name of a column.
    """
    index = frame.index
    levels = [name for name in index.names if isinstance(name, str) and (names is None or name in names)]
    duplicate = next((name for name in levels if names is None and name in frame.columns), None)
    if duplicate is not None:
        raise UsageError(
            argument="data",
            column=duplicate,
            expected="distinct names of index levels and columns",
            found=f"both named {duplicate!r}",
            remedy=f"Drop or rename the level: df.reset_index({duplicate!r}, drop=True)",
        )
    levels = [name for name in levels if name not in frame.columns]
    dropped = [name for name in index.names if name not in levels]
    notes: tuple[str, ...] = ()
    if levels:
        is_plural = len(levels) > 1
        became = "columns" if is_plural else "a column"
        change = f"the index level{'s' if is_plural else ''} {', '.join(levels)} became {became}"
        notes = (f"{change}, as by df.reset_index(); drop {'them' if is_plural else 'it'} beforehand if unwanted",)
        unnamed = [level for level in range(index.nlevels) if index.names[level] in dropped]
        frame = (frame.droplevel([*unnamed]) if unnamed else frame).reset_index()  # pyrefly: ignore
    if names is None and dropped and not (index.nlevels == 1 and pd.api.types.is_integer_dtype(index.dtype)):
        notes += ("dropped the unnamed index; to keep it as a column, name it with df.rename_axis(...)",)
    return (frame if levels else frame.reset_index(drop=True)), notes


def is_in_memory(data: object) -> TypeGuard[InMemoryData]:
    """Return True for in-memory data, False for a path."""
    return isinstance(data, pd.DataFrame | pd.Series | np.ndarray | Tensor | dict | list | tuple)


def num_rows(data: InMemoryData) -> int:
    """Return the number of rows of in-memory data; for a dict, the number of rows of its main array."""
    return len(next(data[name] for name in PRIMARY_KEYS if name in data) if isinstance(data, dict) else data)


def said_of(data: InMemoryData) -> str:
    """Describe in-memory data for error messages, in place of a file name."""
    if isinstance(data, dict):
        return f"your dict of {', '.join(map(str, data))}"
    type_name = type(data).__name__
    name = {"ndarray": "array", "Tensor": "tensor"}.get(type_name, type_name)
    return f"your {name} {list(data.shape)}" if hasattr(data, "shape") else f"your {name} of {len(data)}"


def in_memory_name(data: InMemoryData) -> str:
    """Return the name that a run records for in-memory data without a stored copy."""
    return f"{IN_MEMORY_PREFIX}{type(data).__name__} of {num_rows(data)} rows"


def sheet_in(data: Any) -> Sheet | None:
    """Return the cells of a data frame with a table or numeric rows; None for texts, crystals and other data."""
    if not isinstance(data, pd.DataFrame) or data.empty or not all(isinstance(name, str) for name in data.columns):
        return None
    names = [name.strip().lower() for name in data.columns]
    if len(names) < 2 or {TEXT_NAME, CIF} & {*names} or all_numbers(names):
        return None
    columns = [name for name in names if name not in LABEL_NAMES]
    if len(columns) == 1 and not pd.api.types.is_numeric_dtype(data.iloc[:, names.index(columns[0])]):
        return None
    first_row = sheet_of(data.head(1)).head(1)[0]
    return None if any(BEGINS in cell for cell in first_row) else sheet_of(data)


@dataclass(frozen=True)
class SavedData:
    """File with a copy of in-memory data, used as a context manager.

    If an error is raised within the context, the file is deleted, and the message describes the data instead of naming
    the file.
    """

    file: pathlib.Path
    description: str
    """Description of the data for error messages."""
    owns_folder: bool
    """True if the folder was created for this file, and is to be deleted together with it."""

    def __enter__(self) -> "SavedData":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """On error, delete the file and replace its path in the error by the description."""
        if error is None:
            return
        if self.file.is_dir():
            shutil.rmtree(self.file)
        self.file.unlink(missing_ok=True)
        if self.owns_folder:
            with contextlib.suppress(OSError):  # the folder may contain other files
                self.file.parent.rmdir()
        if isinstance(error, InputError | UsageError):
            has_header = self.file.suffix == ".csv" and str(self.file) in (error.file or error.place or "")
            if has_header and error.row is not None:
                error = error.with_row(error.row - 1)
            raise error.with_path_replaced(str(self.file), self.description) from error


@contextlib.contextmanager
def as_temporary_file(data: InMemoryData) -> Iterator[str]:
    """Write in-memory data to a temporary file, and yield its path; the file is deleted when the context ends.

    The format of the file and the errors are as for `save`.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = save(data, pathlib.Path(folder))
        with SavedData(file, said_of(data), owns_folder=False):
            yield str(file)


def save(data: InMemoryData, folder: pathlib.Path, condition: Collection[str] = ()) -> pathlib.Path:
    """Write in-memory data to a file in a folder, and return its path; UsageError if the type of data is not supported.

    A DataFrame becomes a table, an array [n, d] becomes points, a uint8 array [n, h, w] or [n, h, w, 3] becomes images,
    and a list of strings becomes texts. A dict has the key `samples` and optionally `labels`, or the keys of an .npz
    file of the same type of data, and the names in `condition`.
    """
    if isinstance(data, pd.Series):
        data = data.to_frame(data.name or "text")
    if is_frames(data):
        return _save_frames(data, folder)
    if isinstance(data, pd.DataFrame):
        check_frame(data)
        file, sheet = _place(folder, "csv"), sheet_of(data, blanks=True)
        try:
            replace_file(file, text_of(sheet.first_row, sheet.cells, sheet.dialect))
        except OSError as error:
            raise InputError(f"cannot write {file} ({error.strerror or error})", remedy="Free disk space") from error
        return file
    arrays = arrays_of(data, condition)
    texts = arrays.get("samples")
    if texts is not None and texts.ndim == 1 and texts.dtype.kind == "U":
        file, labels = _place(folder, "jsonl"), arrays.get("labels", np.full(len(texts), None))
        lines = (
            {"text": text} | ({} if label is None else {"label": label})
            for text, label in zip(texts.tolist(), labels.tolist(), strict=True)
        )
        replace_file(file, "".join(json.dumps(line) + "\n" for line in lines))
        return file
    file = _place(folder, "npz")
    write_arrays(arrays, file)
    return file


def is_frames(data: object) -> TypeGuard[Mapping[str, pd.DataFrame]]:
    """Return True for a dict of data frames, which are tables linked by keys."""
    return isinstance(data, Mapping) and bool(data) and all(isinstance(f, pd.DataFrame) for f in data.values())


def _save_frames(frames: Mapping[str, pd.DataFrame], folder: pathlib.Path) -> pathlib.Path:
    """Write each data frame to a .csv file of a folder, and return the folder."""
    place = folder / "tables"
    for name, frame in frames.items():
        if not name or folder_name(name) != name:
            raise UsageError(
                argument="data",
                expected="names of tables that can be names of files",
                found=repr(name),
                remedy="Rename",
            )
        check_frame(frame)
    if place.is_dir():
        shutil.rmtree(place)
    place.mkdir(parents=True)
    for name, frame in frames.items():
        sheet = sheet_of(frame, blanks=True)
        replace_file(place / f"{name}.csv", text_of(sheet.first_row, sheet.cells, sheet.dialect))
    return place


def arrays_of(data: InMemoryData, condition: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Return in-memory data other than a table as arrays, by key; `condition` holds the names of further keys.

    UsageError if a key is unknown, or the value of a key is neither numeric nor text.
    """
    leaves = data if isinstance(data, dict) else {"samples": data}
    _check_names([str(name) for name in leaves if name not in condition])
    return {str(name): _array(name, leaf) for name, leaf in leaves.items()}


def plain_arrays(data: InMemoryData, condition: Collection[str] = ()) -> dict[str, np.ndarray] | None:
    """Return in-memory data as the arrays of an .npz file, by name; None for data frames, texts and sounds.

    `condition` holds the names of arrays that are conditions.
    """
    if isinstance(data, pd.DataFrame | pd.Series):
        return None
    arrays = {name if name in condition else name.lower(): array for name, array in arrays_of(data, condition).items()}
    has_texts = any(
        array.ndim == 1 and array.dtype.kind == "U" for array in (arrays.get("samples"),) if array is not None
    )
    return None if has_texts or "sound" in arrays else arrays


def _place(folder: pathlib.Path, suffix: str) -> pathlib.Path:
    """Create a folder, remove data files of earlier runs from it, and return the path of the data file to write."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES.values():
        (folder / name).unlink(missing_ok=True)
    return folder / FILES[suffix]


def _check_names(names: list[str]) -> None:
    """Raise UsageError if the dict `data` has no key for the examples, or an unknown key; `names` are its keys."""
    if not any(name in PRIMARY_KEYS for name in names):
        first_name = names[0] if names else ""
        raise UsageError.unknown_name("data", first_name, PRIMARY_KEYS, alternatives=", the examples")
    has_samples = any(name in SAMPLES for name in names)
    allowed = [*SAMPLES, *LABELS, *OTHERS, *EXTRA_KEYS]
    for name in names:
        if has_samples and name not in allowed:
            raise UsageError.unknown_name("data", name, allowed, alternatives=" besides the examples")


def _array(name: Any, leaf: Any) -> np.ndarray:
    """Convert the value of a dict key to a numeric or string array; UsageError if it is neither."""
    try:
        array = leaf.detach().cpu().numpy() if isinstance(leaf, Tensor) else np.asarray(leaf)
    except ValueError:  # NumPy refuses lists of several shapes
        array = object_array([*leaf])
    if array.dtype != object:
        return array
    shapes = {np.shape(entry) for entry in array.flat if isinstance(entry, np.ndarray | list | tuple | Tensor)}
    if len(shapes) > 1:
        first, second = sorted(shapes)[:2]
        raise UsageError(
            argument="data" if name == "samples" else str(name),
            expected="arrays of one shape",
            found=f"{list(first)} and {list(second)}",
            remedy="Pad them with NaN to one shape; NaN marks missing entries",
        )
    if all(isinstance(word, str) for word in array.flat):
        return array.astype(str)
    try:
        return array.astype(float)
    except (TypeError, ValueError) as error:
        raise UsageError(
            argument="data" if name == "samples" else str(name),
            expected="only numbers, or only strings",
            found=f"Python objects, such as {type(next(iter(array.flat))).__name__}",
            remedy="Pass a DataFrame for columns of different types: pd.DataFrame(data)",
        ) from error
