"""Raw file contents, before they are converted to a modality."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Collection, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import pyarrow
import pyarrow.compute

from feller.core.errors import InputError

_ARROW: Any = pyarrow.compute  # its functions are created at import


@dataclass(frozen=True, eq=False)
class RawExamples:
    """Base class of the raw examples of a file with their metadata; one subclass per type of data."""

    name: ClassVar[str]
    """Display name of the type."""
    values: np.ndarray
    """One entry per example, [n, ...]."""
    labels: np.ndarray | None = None
    """Index into `classes` of each example, [n]."""
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """Notes about choices made while reading."""
    lines: np.ndarray | None = None
    """Line number of each example in its file, from 1, [n]; None if it is the array index + 1."""
    names: tuple[str, ...] = ()
    """Display name of each example, if it is not a table row."""
    properties: dict[str, np.ndarray] = field(default_factory=dict)
    """Additional scalar properties of the examples, float64 [n]; NaN where missing."""
    hashes: tuple[str, ...] = ()
    """Hash of each example's file, if its value is computed from the file."""

    def row_number(self, i: int) -> int:
        """Return the row number of an example in its file."""
        return i + 1 if self.lines is None else int(self.lines[i])

    def row_name(self, i: int) -> str:
        """Return the display name of an example, its name or row number."""
        return self.names[i] if self.names else f"row {self.row_number(i)}"

    def error_fields(self, i: int) -> dict[str, Any]:
        """Return the fields with which an error locates an example: its name or row number."""
        return {"place": self.names[i]} if self.names else {"row": self.row_number(i)}

    @property
    def description(self) -> str:
        """Description of the contents, for messages."""
        return self.name


@dataclass(frozen=True, eq=False)
class RawPoints(RawExamples):
    """Points: numeric rows, float64 [n, d]."""

    name = "points"
    columns: tuple[str, ...] = ()
    """Column names; empty if the file has none."""

    @property
    def description(self) -> str:
        return f"points with {self.values.shape[1]} columns"


SEPARATORS = ",;\t"
"""Allowed cell separators."""


@dataclass(frozen=True)
class Dialect:
    """Format of a delimited text file: separator and byte order mark; independent of its rows."""

    separator: str = ","
    has_bom: bool = False
    """True if the file starts with a UTF-8 byte order mark."""

    def __post_init__(self) -> None:
        if len(self.separator) != 1 or self.separator not in SEPARATORS:
            raise InputError("a comma, a semicolon or a tab between cells", repr(self.separator))


TEXT = pyarrow.large_string()
"""Arrow type of cells: text as in the file, empty if missing, never null."""


def text_array(cells: Sequence[str]) -> pyarrow.Array:
    """Return cells as an Arrow text array."""
    return pyarrow.array(cells, TEXT)


@dataclass(frozen=True, eq=False)
class FactorizedColumn:
    """A table column as its distinct cells, in order of first occurrence, and the index of each cell among them."""

    uniques: pyarrow.Array
    """Distinct cells."""
    codes: np.ndarray
    """Index into `uniques` of each cell, [n]."""

    @property
    def counts(self) -> np.ndarray:
        """Number of cells of each distinct value, [len(uniques)]."""
        return np.bincount(self.codes, minlength=len(self.uniques))

    def is_in(self, values: Collection[str]) -> np.ndarray:
        """Return True for each distinct value that is in `values`, [len(uniques)]."""
        return np.asarray(_ARROW.is_in(self.uniques, text_array([*values])))

    def count_in(self, values: Collection[str]) -> int:
        """Return the number of cells with one of the values."""
        return int(self.counts[self.is_in(values)].sum())


PARALLEL_ROWS, COLUMN_THREADS = 50_000, min(4, os.cpu_count() or 1)
"""Row count from which columns are processed in parallel, and number of threads; Arrow and NumPy release the GIL."""
Column = TypeVar("Column")
Answer = TypeVar("Answer")


def by_column(look: Callable[[Column], Answer], columns: Sequence[Column], rows: int) -> list[Answer]:
    """Map a function over the columns of a table, in threads if it is large; the first column's error is raised."""
    if rows < PARALLEL_ROWS:
        return [*map(look, columns)]
    with ThreadPoolExecutor(COLUMN_THREADS) as pool:
        return [*pool.map(look, columns)]


@dataclass(frozen=True, eq=False)
class RawArrays(RawExamples):
    """Arrays of one shape, float64 [n, ...]; read only on request, since they may look like images."""

    name = "arrays of numbers"


@dataclass(frozen=True, eq=False)
class RawTable(RawExamples):
    """Text cells of a table, as an Arrow table; a string array [n, columns] is converted."""

    name = "a table"
    values: Any
    """One `TEXT` column per name in `columns`."""
    columns: tuple[str, ...] = field(kw_only=True)
    """Column names."""
    dialect: Dialect = Dialect()
    """Dialect of the file, if it was delimited text."""
    dtypes: tuple[str, ...] = ()
    """Column dtypes of a data frame, as strings written by pandas."""

    def __post_init__(self) -> None:
        if isinstance(self.values, np.ndarray):
            cells = [text_array(self.values[:, j].tolist()) for j in range(len(self.columns))]
            object.__setattr__(self, "values", pyarrow.Table.from_arrays(cells, names=list(self.columns)))

    @property
    def description(self) -> str:
        return f"a table with {len(self.columns)} columns"

    def column(self, name: str) -> list[str]:
        """Return the cells of a column."""
        return self.values.column(self.columns.index(name)).to_pylist()

    def factorize(self, name: str) -> FactorizedColumn:
        """Return a column as its distinct cells and the index of each cell among them."""
        encoded = self.values.column(self.columns.index(name)).combine_chunks().dictionary_encode()
        return FactorizedColumn(encoded.dictionary, np.asarray(encoded.indices))

    def cell(self, name: str, row: int) -> str:
        """Return one cell."""
        return self.values.column(self.columns.index(name))[row].as_py()

    def subset(self, rows: np.ndarray) -> "RawTable":
        """Return the table restricted to the given rows, in that order."""
        lines = None if self.lines is None else self.lines[rows]
        return replace(self, values=self.values.take(pyarrow.array(rows)), lines=lines)


@dataclass(frozen=True, eq=False)
class RawImages(RawExamples):
    """Images, uint8 [n, h, w, c]."""

    name = "images"
    levels: int | None = None
    """White level; None if the file has none."""


@dataclass(frozen=True, eq=False)
class RawTexts(RawExamples):
    """Texts, strings [n]."""

    name = "texts"
    documents: bool = field(kw_only=True)
    """True if each text is an example, False if it is to be split into windows or lines."""
    tokens: np.ndarray | None = None
    """Token ids of generated texts, [n, l], if the file has them."""


@dataclass(frozen=True)
class TextItem:
    """Text in a document; neighbouring items form one segment."""

    text: str
    is_answer: bool = False
    """True for a response, on which instruction tuning trains the model."""


@dataclass(frozen=True)
class ImageItem:
    """Image in a document."""

    number: int
    """Index into the images of the file."""


@dataclass(frozen=True)
class BreakItem:
    """Boundary between two consecutive texts."""


Item = TextItem | ImageItem | BreakItem


@dataclass(frozen=True, eq=False)
class RawDocuments(RawExamples):
    """Documents of interleaved text and images: an object array [n] with a tuple of items per document."""

    name = "documents"
    images: np.ndarray = field(kw_only=True)
    """All images of the documents, uint8 [m, h, w, c]."""
    tasks: tuple[str, ...] = ()
    """Task of each document; empty if the file has none."""


@dataclass(frozen=True, eq=False)
class RawChains(RawExamples):
    """Protein backbone coordinates in Å, float64 [n, L, 4, 3], zero-padded."""

    name = "protein backbones"
    lengths: np.ndarray = field(kw_only=True)
    """Number of residues, [n]."""
    residues: np.ndarray | None = None
    """Amino acid indices as in `feller.data.proteins.residues`, -1 if unknown, [n, L]; None if all are unknown."""
    dropped: tuple[str, ...] = ()
    """Notes about chains that were split or dropped."""


@dataclass(frozen=True, eq=False)
class RawMolecules(RawExamples):
    """Atom coordinates of molecules in Å, float64 [n, L, 3], zero-padded."""

    name = "molecules"
    atomic_numbers: np.ndarray = field(kw_only=True)
    """Atomic numbers, 0 for padding, [n, L]."""


@dataclass(frozen=True, eq=False)
class RawCrystals(RawExamples):
    """Fractional atom coordinates of crystals, float64 [n, L, 3], zero-padded."""

    name = "crystals"
    atomic_numbers: np.ndarray = field(kw_only=True)
    """Atomic numbers, 0 for padding, [n, L]."""
    lattice: np.ndarray = field(kw_only=True)
    """Lattice parameters a, b, c in Å and alpha, beta, gamma in degrees, [n, 6]."""


@dataclass(frozen=True, eq=False)
class Waveform:
    """Single-channel audio recording."""

    samples: np.ndarray
    """Amplitudes in about [-1, 1], float32 [n]."""
    sample_rate: int
    """Samples per second."""

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / self.sample_rate

    @property
    def frames(self) -> int:
        """Number of complete 10 ms frames."""
        return len(self.samples) * 100 // self.sample_rate


@dataclass(frozen=True)
class PhoneAlignment:
    """Phones of an utterance in order, with durations in frames of 10 ms."""

    phones: tuple[str, ...]
    durations: tuple[int, ...]
    """Frames per phone; 0 for an optional silence between words that is absent."""

    @property
    def frames(self) -> int:
        """Total number of frames."""
        return sum(self.durations)


@dataclass(frozen=True, eq=False)
class RawSpeech(RawExamples):
    """Speech: an object array [n] of `Waveform` objects, or of log-mel spectrograms, float32 [frames, bands]."""

    name = "speech"
    texts: tuple[str, ...] = ()
    """Transcripts; empty for generated samples, which have none."""
    alignments: tuple[PhoneAlignment, ...] = ()
    """Phone alignment of each recording; empty for generated samples without alignments."""
    dropped: tuple[str, ...] = ()
    """Recordings that were dropped, with the reason."""
    user_pronunciations: dict[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    """Words with user-supplied pronunciations."""
    settings: tuple[int, ...] = ()
    """Fields of the `MelConfig` with which log-mel spectrograms were computed; empty for waveforms."""


@dataclass(frozen=True, eq=False)
class RawWaveforms(RawExamples):
    """Audio without transcripts: an object array [n] of `Waveform` objects with one sample rate."""

    name = "sounds"
    dropped: tuple[str, ...] = ()
    """Names of silent recordings, which were dropped."""


def object_array(values: Sequence[object]) -> np.ndarray:
    """Return objects as an array [n] of dtype object, without unpacking sequences."""
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value
    return array


def properties_of(rows: Sequence[dict[str, float]]) -> dict[str, np.ndarray]:
    """Collect per-example properties into one array per name, [n]; NaN where missing."""
    names = dict.fromkeys(name for one in rows for name in one)
    return {name: np.array([one.get(name, np.nan) for one in rows]) for name in names}


Kind = TypeVar("Kind", bound=RawExamples)


def expect(raw: RawExamples, kind: type[Kind]) -> Kind:
    """Return raw examples of the expected type; InputError if they have another type."""
    if isinstance(raw, kind):
        return raw
    raise InputError(kind.name, raw.description)


def check_rows(right: np.ndarray, where: str, expected: str) -> None:
    """Raise an InputError that names the first row of the mask `right` [n, ...] with an entry that is not True."""
    wrong = np.flatnonzero(~right.reshape(len(right), -1).all(1))
    if len(wrong):
        count = f"; {len(wrong)} rows in all" if len(wrong) > 1 else ""
        raise InputError(
            expected, f"other values{count}", "Correct or remove the row", file=where, row=int(wrong[0]) + 1
        )


def check_longest(raw: RawExamples, lengths: np.ndarray, longest: int, parts: str) -> None:
    """Raise InputError if an example is longer than the model's maximum."""
    if lengths.max() > longest:
        i = int(lengths.argmax())
        raise InputError(f"up to {longest} {parts}", lengths[i], "Remove this example", place=raw.row_name(i))


def prefix_lengths(valid: np.ndarray, where: str, what: str) -> np.ndarray:
    """Return the number of valid parts (such as atoms) of each example, [n]; the valid parts must come first.

    Raises:
        InputError: If a valid part follows an invalid one, or an example has no valid part.
    """
    lengths = valid.sum(1)
    first = valid == (np.arange(valid.shape[1]) < lengths[:, None])
    check_rows(first & valid[:, :1], where, f"at least one valid entry of {what}, all at the beginning")
    return lengths


@contextlib.contextmanager
def error_context(file: str | pathlib.Path | None = None, **fields: Any) -> Generator[None, None, None]:
    """Add the file, or other fields, to an InputError raised in the context."""
    try:
        yield
    except InputError as error:
        raise error.with_context(file=file, **fields) from error
