"""Data that are in memory already, as a file that a run can read again."""

import contextlib
import json
import os
import pathlib
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
from feller.data.labels import LABEL_NAMES, TEXT_NAME
from feller.data.loading.array_formats import LABELS, OTHERS, SAMPLES
from feller.data.tables.dataframes import sheet_of

InMemoryData = (
    pd.DataFrame
    | pd.Series
    | np.ndarray
    | Tensor
    | Mapping[str, np.ndarray | Tensor | Sequence[object]]
    | Sequence[object]
)
"""A DataFrame, an array or a tensor, a list of texts, or a dict of them: the leaves that an .npz of such data holds."""
DataSource = str | os.PathLike[str] | InMemoryData
"""What data are read from: a file, a folder, `example:NAME`, or what is in memory."""
PRIMARY_KEYS = (*SAMPLES, "element", "mel", "sound")
"""Names of what a dict must hold: one of them."""
EXTRA_KEYS = ("tokens", "valid", "pictures", "codes", "modelled")
"""Names of what may be beside `samples`, and is no label."""
IN_MEMORY_PREFIX = "memory:"
"""What begins the name of data that were in memory, and of which a run keeps no copy."""
FILES = {kind: f"data.{kind}" for kind in ("csv", "npz", "jsonl")}


def check_frame(frame: pd.DataFrame) -> None:
    """Refuse a data frame without rows, or with columns whose names are no words."""
    if frame.empty:
        rows, columns = frame.shape
        raise UsageError(
            argument="data",
            expected="a DataFrame with rows and columns",
            found=f"{rows:,} rows and {columns:,} columns",
            remedy="Look at how it was read or filtered: df.shape",
        )
    wrong = next((name for name in frame.columns if not isinstance(name, str)), None)
    if wrong is not None:
        several = isinstance(frame.columns, pd.MultiIndex)
        flat = "df.columns = ['_'.join(map(str, name)) for name in df.columns]" if several else "df.columns.map(str)"
        raise UsageError(
            argument="data",
            column=str(wrong),
            expected="a DataFrame whose columns have words for names",
            found="a MultiIndex" if several else f"{type(wrong).__name__} {wrong!r}",
            remedy=f"Rename them: {flat if several else f'df.columns = {flat}'}",
        )


def with_index(frame: pd.DataFrame, names: Collection[str] | None = None) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return a data frame whose named index levels are columns, as `reset_index` makes them, and what became of them.

    Args:
        frame: As it was given.
        names: Of the levels that count; by default all that have one. Others are left out without a word.

    Raises:
        UsageError: If a level is called like a column.
    """
    index = frame.index
    named = [name for name in index.names if isinstance(name, str) and (names is None or name in names)]
    twice = next((name for name in named if names is None and name in frame.columns), None)
    if twice is not None:
        raise UsageError(
            argument="data",
            column=twice,
            expected="index levels and columns of different names",
            found=f"both called {twice!r}",
            remedy=f"Drop or rename the level: df.reset_index({twice!r}, drop=True)",
        )
    named = [name for name in named if name not in frame.columns]
    lost = [name for name in index.names if name not in named]
    notes: tuple[str, ...] = ()
    if named:
        several = len(named) > 1
        what = (
            f"the index level{'s' if several else ''} {', '.join(named)} became {'columns' if several else 'a column'}"
        )
        notes = (f"{what}, as by df.reset_index(); drop {'them' if several else 'it'} before if not meant",)
        unnamed = [level for level in range(index.nlevels) if index.names[level] in lost]
        frame = (frame.droplevel([*unnamed]) if unnamed else frame).reset_index()  # pyrefly: ignore
    if names is None and lost and not (index.nlevels == 1 and pd.api.types.is_integer_dtype(index.dtype)):
        notes += ("the index has no name and is left out; name it, df.rename_axis(...), to keep it as a column",)
    return (frame if named else frame.reset_index(drop=True)), notes


def is_in_memory(data: object) -> TypeGuard[InMemoryData]:
    """Tell whether data are in memory, and not named."""
    return isinstance(data, pd.DataFrame | pd.Series | np.ndarray | Tensor | dict | list | tuple)


def num_rows(data: InMemoryData) -> int:
    """Return how many rows data in memory have: a dict as many as the leaf that leads it."""
    return len(next(data[name] for name in PRIMARY_KEYS if name in data) if isinstance(data, dict) else data)


def said_of(data: InMemoryData) -> str:
    """Say what was given, in place of the name of its file."""
    if isinstance(data, dict):
        return f"your dict of {', '.join(map(str, data))}"
    kind = type(data).__name__
    name = {"ndarray": "array", "Tensor": "tensor"}.get(kind, kind)
    return f"your {name} {list(data.shape)}" if hasattr(data, "shape") else f"your {name} of {len(data)}"


def in_memory_name(data: InMemoryData) -> str:
    """Return what a run calls data of which it keeps no copy."""
    return f"{IN_MEMORY_PREFIX}{type(data).__name__} of {num_rows(data)} rows"


def sheet_in(data: Any) -> Sheet | None:
    """Return the cells of a data frame that holds a table or rows of numbers; None of texts, crystals and all else."""
    if not isinstance(data, pd.DataFrame) or data.empty or not all(isinstance(name, str) for name in data.columns):
        return None
    names = [name.strip().lower() for name in data.columns]
    if len(names) < 2 or {TEXT_NAME, CIF} & {*names} or all_numbers(names):
        return None
    rest = [name for name in names if name not in LABEL_NAMES]
    if len(rest) == 1 and not pd.api.types.is_numeric_dtype(data.iloc[:, names.index(rest[0])]):
        return None
    first = sheet_of(data.head(1)).head(1)[0]
    return None if any(BEGINS in cell for cell in first) else sheet_of(data)


@dataclass(frozen=True)
class SavedData:
    """A file with data that were in memory: where they turn out to be of no use, it goes, and is not spoken of."""

    file: pathlib.Path
    description: str
    """What was given."""
    owns_folder: bool
    """Whether the folder is there for it alone."""

    def __enter__(self) -> "SavedData":
        """Watch what follows."""
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Where it fails, leave nothing behind, and tell it of what was given."""
        if error is None:
            return
        self.file.unlink(missing_ok=True)
        if self.owns_folder:
            with contextlib.suppress(OSError):  # others may have put something there
                self.file.parent.rmdir()
        if isinstance(error, InputError | UsageError):
            raise error.with_path_replaced(str(self.file), self.description) from error


@contextlib.contextmanager
def as_temporary_file(data: InMemoryData) -> Iterator[str]:
    """Write data to a file that is there inside the block, for what reads files; arguments and errors as for `save`."""
    with tempfile.TemporaryDirectory() as folder:
        file = save(data, pathlib.Path(folder))
        with SavedData(file, said_of(data), owns_folder=False):
            yield str(file)


def save(data: InMemoryData, folder: pathlib.Path) -> pathlib.Path:
    """Write data into a folder, and return the file, which `read` takes like any other; UsageError of any other kind.

    A DataFrame becomes a table; an array [n, d] points, [n, h, w] or [n, h, w, 3] of uint8 pictures; a list of words
    texts; a dict may have `labels` beside `samples`, or the leaves of an .npz of such data.
    """
    if isinstance(data, pd.Series):
        data = data.to_frame(data.name or "text")
    if isinstance(data, pd.DataFrame):
        check_frame(data)
        file, sheet = _place(folder, "csv"), sheet_of(data, blanks=True)
        try:
            replace_file(file, text_of(sheet.first_row, sheet.cells, sheet.dialect))
        except OSError as error:
            raise InputError(f"cannot write {file} ({error.strerror or error})", remedy="Free the disk") from error
        return file
    arrays = arrays_of(data)
    words = arrays.get("samples")
    if words is not None and words.ndim == 1 and words.dtype.kind == "U":
        file, labels = _place(folder, "jsonl"), arrays.get("labels", np.full(len(words), None))
        lines = (
            {"text": text} | ({} if label is None else {"label": label})
            for text, label in zip(words.tolist(), labels.tolist(), strict=True)
        )
        replace_file(file, "".join(json.dumps(line) + "\n" for line in lines))
        return file
    file = _place(folder, "npz")
    write_arrays(arrays, file)
    return file


def arrays_of(data: InMemoryData) -> dict[str, np.ndarray]:
    """Return data that are no frame by their names.

    UsageError if a name is not known, or a leaf holds neither numbers nor words.
    """
    leaves = data if isinstance(data, dict) else {"samples": data}
    _check_names([str(name) for name in leaves])
    return {str(name): _array(name, leaf) for name, leaf in leaves.items()}


def plain_arrays(data: InMemoryData) -> dict[str, np.ndarray] | None:
    """Return the arrays that an .npz of data would hold; None of frames, texts and sounds."""
    if isinstance(data, pd.DataFrame | pd.Series):
        return None
    arrays = {name.lower(): array for name, array in arrays_of(data).items()}
    texts = any(array.ndim == 1 and array.dtype.kind == "U" for array in (arrays.get("samples"),) if array is not None)
    return None if texts or "sound" in arrays else arrays


def _place(folder: pathlib.Path, kind: str) -> pathlib.Path:
    """Make a folder ready for a file of data in place of others."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES.values():
        (folder / name).unlink(missing_ok=True)
    return folder / FILES[kind]


def _check_names(names: list[str]) -> None:
    """Raise a UsageError on a dict whose examples, or what is beside them, would not be found."""
    if not any(name in PRIMARY_KEYS for name in names):
        wrong = names[0] if names else ""
        raise UsageError.unknown_name("data", wrong, PRIMARY_KEYS, alternatives=", the examples")
    plain = any(name in SAMPLES for name in names)
    known = [*SAMPLES, *LABELS, *OTHERS, *EXTRA_KEYS]
    for name in names:
        if plain and name not in known:
            raise UsageError.unknown_name("data", name, known, alternatives=" beside the examples")


def _array(name: Any, leaf: Any) -> np.ndarray:
    """Return plain numbers or words; UsageError if a leaf is anything else."""
    found = leaf.detach().cpu().numpy() if isinstance(leaf, Tensor) else np.asarray(leaf)
    if found.dtype != object:
        return found
    if all(isinstance(word, str) for word in found.flat):
        return found.astype(str)
    try:
        return found.astype(float)
    except (TypeError, ValueError) as error:
        raise UsageError(
            argument="data" if name == "samples" else str(name),
            expected="numbers alone, or words alone",
            found=f"Python objects, such as {type(next(iter(found.flat))).__name__}",
            remedy="Pass a DataFrame, whose columns may be of different types: pd.DataFrame(data)",
        ) from error
