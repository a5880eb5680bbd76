"""Raw file contents, before they are converted to a modality."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import pyarrow
import pyarrow.compute

from feller.core.errors import InputError, UsageError
from feller.data.files.database import DeclaredKeys

_ARROW: Any = pyarrow.compute  # its functions are created at import


@dataclass(frozen=True, eq=False)
class RawExamples:
    """Base class of raw examples, as read from a file, with their metadata; each type of data has a subclass."""

    name: ClassVar[str]
    """Display name of the type of data."""
    values: np.ndarray
    """Values of the examples, one entry per example, [n, ...]."""
    labels: np.ndarray | None = None
    """Class of each example, as an index into `classes`, [n]."""
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """Notes about choices made while reading the file."""
    lines: np.ndarray | None = None
    """Line number of each example in its file, from 1, [n]; None if the line number is the index of the example + 1."""
    names: tuple[str, ...] = ()
    """Display name of each example, if examples are not table rows."""
    properties: dict[str, np.ndarray] = field(default_factory=dict)
    """Further scalar properties of the examples, by name, float64 [n] each; NaN where missing."""
    hashes: tuple[str, ...] = ()
    """Hash of the file of each example, if the value of the example is computed from the file."""
    condition_columns: dict[str, np.ndarray] = field(default_factory=dict)
    """Columns that were selected as conditions and are not part of `values`, by name: numbers or texts, [n, ...]."""

    condition_names: tuple[str, ...] = ()
    """Names of further columns that can be selected as conditions, for messages."""

    @property
    def condition_candidates(self) -> dict[str, np.ndarray]:
        """Columns and properties that can be conditions, by name."""
        return {**self.properties, **self.condition_columns}

    def condition_column(self, name: str) -> np.ndarray:
        """Return the column or property of a condition, [n, ...].

        Raises:
            UsageError: If there is none of this name.
        """
        if name not in self.condition_candidates:
            names = {*self.condition_candidates, *getattr(self, "columns", ()), *self.condition_names}
            raise UsageError.unknown_name("condition", name, names)
        return self.condition_candidates[name]

    def row_number(self, i: int) -> int:
        """Return the row number of an example in its file."""
        return i + 1 if self.lines is None else int(self.lines[i])

    def row_name(self, i: int) -> str:
        """Return the display name of an example: its name if it has one, else its row number."""
        return self.names[i] if self.names else f"row {self.row_number(i)}"

    def error_fields(self, i: int) -> dict[str, Any]:
        """Return the error fields that locate an example: its name if it has one, else its row number."""
        return {"place": self.names[i]} if self.names else {"row": self.row_number(i)}

    @property
    def description(self) -> str:
        """Description of the contents, for error messages."""
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
"""Cell separators that a delimited text file may use."""


@dataclass(frozen=True)
class Dialect:
    """Dialect of a delimited text file: its cell separator, and whether it has a byte order mark."""

    separator: str = ","
    has_bom: bool = False
    """True if the file starts with a UTF-8 byte order mark."""

    def __post_init__(self) -> None:
        if len(self.separator) != 1 or self.separator not in SEPARATORS:
            raise InputError("a comma, a semicolon or a tab between cells", repr(self.separator))


TEXT = pyarrow.large_string()
"""Arrow type of table cells: the text in the file; a missing cell is an empty text, never null."""


def text_array(cells: Sequence[str]) -> pyarrow.Array:
    """Return cells as an Arrow text array."""
    return pyarrow.array(cells, TEXT)


@dataclass(frozen=True, eq=False)
class FactorizedColumn:
    """Table column as distinct cell texts, in order of first occurrence, and the index of each cell's text."""

    uniques: pyarrow.Array
    """Distinct cell texts of the column."""
    codes: np.ndarray
    """Text of each cell, as an index into `uniques`, [n]."""

    @property
    def counts(self) -> np.ndarray:
        """Number of occurrences of each distinct cell text, [len(uniques)]."""
        return np.bincount(self.codes, minlength=len(self.uniques))

    def is_in(self, values: Collection[str]) -> np.ndarray:
        """Return True for each distinct cell text that is in `values`, [len(uniques)]."""
        return np.asarray(_ARROW.is_in(self.uniques, text_array([*values])))

    def count_in(self, values: Collection[str]) -> int:
        """Return the number of cells whose text is in `values`."""
        return int(self.counts[self.is_in(values)].sum())


PARALLEL_ROWS, COLUMN_THREADS = 50_000, min(4, os.cpu_count() or 1)
"""Number of rows from which columns are processed in parallel, and number of threads; Arrow and NumPy release the
GIL."""
Column = TypeVar("Column")
Answer = TypeVar("Answer")


def by_column(look: Callable[[Column], Answer], columns: Sequence[Column], rows: int) -> list[Answer]:
    """Return the results of a function for each column of a table; if columns fail, raise the first column's error.

    Columns are processed in threads if the number of rows, `rows`, is at least `PARALLEL_ROWS`.
    """
    if rows < PARALLEL_ROWS:
        return [*map(look, columns)]
    with ThreadPoolExecutor(COLUMN_THREADS) as pool:
        return [*pool.map(look, columns)]


@dataclass(frozen=True, eq=False)
class RawArrays(RawExamples):
    """Arrays of one shape, float64 [n, ...], with channels on the last axis; NaN for missing entries and padding."""

    name = "arrays of numbers"
    columns: tuple[str, ...] = ()
    """Names of the channels; empty if the file has none."""
    start: float = 0.0
    """Time of the first step of series, or 0 if series start at different times."""
    step: float | None = None
    """Time between two steps of series; None if the file has no times."""
    starts: np.ndarray | None = None
    """Time of the first step of each series, [n]; None if the file has no times."""


@dataclass(frozen=True, eq=False)
class RawTable(RawExamples):
    """Text cells of a table, as an Arrow table; a string array [n, columns] is converted to an Arrow table."""

    name = "a table"
    values: Any
    """Cells of the table, as an Arrow table with a column of type `TEXT` for each name in `columns`."""
    columns: tuple[str, ...] = field(kw_only=True)
    """Names of the columns."""
    dialect: Dialect = Dialect()
    """Dialect of the file, if the table was read from delimited text."""
    dtypes: tuple[str, ...] = ()
    """Column dtypes as pandas writes them, if the table comes from a data frame."""
    is_sample: bool = False
    """True for a random sample of the rows of a larger table."""

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
        """Return a column as its distinct cell texts and, for each cell, the index of its text."""
        encoded = self.values.column(self.columns.index(name)).combine_chunks().dictionary_encode()
        return FactorizedColumn(encoded.dictionary, np.asarray(encoded.indices))

    def cell(self, name: str, row: int) -> str:
        """Return the cell in column `name` and row `row`."""
        return self.values.column(self.columns.index(name))[row].as_py()

    def subset(self, rows: np.ndarray) -> "RawTable":
        """Return a table with only the rows with these indices, in the order of `rows`."""
        lines = None if self.lines is None else self.lines[rows]
        return replace(self, values=self.values.take(pyarrow.array(rows)), lines=lines)


@dataclass(frozen=True, eq=False)
class RawTables(RawExamples):
    """Text cells of several tables that are linked by keys; `values` are unused."""

    name = "several tables"
    tables: Mapping[str, RawTable] = field(kw_only=True)
    """Tables by name."""
    keys: Mapping[str, DeclaredKeys] = field(default_factory=dict, kw_only=True)
    """Keys that the database of the tables declares, by table."""

    @property
    def description(self) -> str:
        return f"{len(self.tables)} tables"

    def table(self, name: str) -> "RawTable":
        """Return a table by name; InputError if there is none."""
        if name not in self.tables:
            raise InputError.unknown_name("table", name, self.tables)
        return self.tables[name]


@dataclass(frozen=True, eq=False)
class RawImages(RawExamples):
    """Images, uint8 [n, h, w, c]."""

    name = "images"
    levels: int | None = None
    """Pixel value of white; None if the file does not state it."""


@dataclass(frozen=True, eq=False)
class RawTexts(RawExamples):
    """Texts, an array of strings [n]."""

    name = "texts"
    documents: bool = field(kw_only=True)
    """True if each text is an example; False if texts are split into windows or lines."""
    tokens: np.ndarray | None = None
    """Token ids of generated texts, [n, l], if the file has them."""


@dataclass(frozen=True)
class TextItem:
    """Text in a document; neighbouring text items form one segment."""

    text: str
    is_answer: bool = False
    """True for an answer; instruction tuning trains the model on answers only."""


@dataclass(frozen=True)
class ImageItem:
    """Image in a document."""

    number: int
    """Index of the image in the list of images that belongs to the items, such as `RawDocuments.images`."""


@dataclass(frozen=True)
class BreakItem:
    """Boundary between two consecutive texts, which makes them separate segments."""


Item = TextItem | ImageItem | BreakItem


@dataclass(frozen=True, eq=False)
class RawDocuments(RawExamples):
    """Documents of interleaved texts and images: an object array [n] with a tuple of items per document."""

    name = "documents"
    images: np.ndarray = field(kw_only=True)
    """All images of the documents, uint8 [m, h, w, c]."""
    tasks: tuple[str, ...] = ()
    """Name of the task of each document; empty if the file names no tasks."""


@dataclass(frozen=True, eq=False)
class RawChains(RawExamples):
    """Protein backbone coordinates in Å, float64 [n, L, 4, 3], zero-padded."""

    name = "protein backbones"
    lengths: np.ndarray = field(kw_only=True)
    """Number of residues of each chain, [n]."""
    residues: np.ndarray | None = None
    """Amino acid of each residue, as an index into the list of `feller.data.proteins.residues`, [n, L]; -1 if unknown.
    None if all are unknown."""
    dropped: tuple[str, ...] = ()
    """Notes about chains that were split or dropped."""


@dataclass(frozen=True, eq=False)
class RawMolecules(RawExamples):
    """Atom coordinates of molecules in Å, float64 [n, L, 3], zero-padded."""

    name = "molecules"
    atomic_numbers: np.ndarray = field(kw_only=True)
    """Atomic number of each atom, 0 for padding, [n, L]."""


@dataclass(frozen=True, eq=False)
class RawCrystals(RawExamples):
    """Fractional atom coordinates of crystals, float64 [n, L, 3], zero-padded."""

    name = "crystals"
    atomic_numbers: np.ndarray = field(kw_only=True)
    """Atomic number of each atom, 0 for padding, [n, L]."""
    lattice: np.ndarray = field(kw_only=True)
    """Lattice parameters a, b, c in Å and alpha, beta, gamma in degrees, [n, 6]."""


@dataclass(frozen=True, eq=False)
class Waveform:
    """Single-channel audio recording."""

    samples: np.ndarray
    """Amplitudes in about [-1, 1], float32 [n]."""
    sample_rate: int
    """Sample rate, in samples per second."""

    @property
    def seconds(self) -> float:
        """Duration of the recording in seconds."""
        return len(self.samples) / self.sample_rate

    @property
    def frames(self) -> int:
        """Number of complete frames of 10 ms in the recording."""
        return len(self.samples) * 100 // self.sample_rate


@dataclass(frozen=True)
class PhoneAlignment:
    """Phones of an utterance in order, with their durations in frames of 10 ms."""

    phones: tuple[str, ...]
    durations: tuple[int, ...]
    """Number of frames of each phone; 0 for an optional silence between words that is absent."""

    @property
    def frames(self) -> int:
        """Number of frames of all phones together."""
        return sum(self.durations)


@dataclass(frozen=True, eq=False)
class RawSpeech(RawExamples):
    """Speech: an object array [n] of `Waveform` objects, or of log-mel spectrograms, float32 [frames, bands]."""

    name = "speech"
    texts: tuple[str, ...] = ()
    """Transcript of each recording; empty for generated samples, which have no transcripts."""
    alignments: tuple[PhoneAlignment, ...] = ()
    """Phone alignment of each recording; empty for generated samples without alignments."""
    dropped: tuple[str, ...] = ()
    """Names of recordings that were dropped, with the reason."""
    user_pronunciations: dict[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    """Words whose pronunciations the user supplied."""
    settings: tuple[int, ...] = ()
    """Fields of the `MelConfig` with which the log-mel spectrograms were computed; empty for waveforms."""


@dataclass(frozen=True, eq=False)
class RawWaveforms(RawExamples):
    """Audio without transcripts: an object array [n] of `Waveform` objects with one sample rate."""

    name = "sounds"
    dropped: tuple[str, ...] = ()
    """Names of silent recordings, which were dropped."""


def object_array(values: Sequence[object]) -> np.ndarray:
    """Return an array [n] of dtype object; an object that is a sequence stays one entry."""
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value
    return array


def properties_of(rows: Sequence[dict[str, float]]) -> dict[str, np.ndarray]:
    """Collect the properties of all rows into one array [n] per property name; NaN where a row lacks a property."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}


Kind = TypeVar("Kind", bound=RawExamples)


def expect(raw: RawExamples, kind: type[Kind]) -> Kind:
    """Return raw examples of the expected type; InputError if they have another type."""
    if isinstance(raw, kind):
        return raw
    raise InputError(kind.name, raw.description)


def check_rows(right: np.ndarray, where: str, expected: str) -> None:
    """Raise an InputError if a row of the mask `right` [n, ...] has a False entry.

    Args:
        right: True for correct values.
        where: Name of the file, for the message.
        expected: Expected values, for the message, which names the first wrong row.
    """
    bad_rows = np.flatnonzero(~right.reshape(len(right), -1).all(1))
    if len(bad_rows):
        count = f" (in {len(bad_rows)} rows in all)" if len(bad_rows) > 1 else ""
        raise InputError(
            expected, f"other values{count}", "Correct or remove the row", file=where, row=int(bad_rows[0]) + 1
        )


def check_longest(raw: RawExamples, lengths: np.ndarray, longest: int, parts: str) -> None:
    """Raise an InputError if an example is longer than a model allows.

    Args:
        raw: Examples, whose names occur in the message.
        lengths: Length of each example, [n].
        longest: Maximum length.
        parts: Unit of the lengths, such as atoms, for the message.
    """
    if lengths.max() > longest:
        i = int(lengths.argmax())
        raise InputError(
            f"at most {longest} {parts}, the maximum of the model",
            lengths[i],
            "Remove this example",
            place=raw.row_name(i),
        )


def prefix_lengths(valid: np.ndarray, where: str, what: str) -> np.ndarray:
    """Return the number of valid parts, such as atoms, of each example, [n]; valid parts must precede padding.

    Args:
        valid: True for parts of the example, False for padding, [n, longest].
        where: Name of the file, for the message.
        what: Name of the parts, for the message.

    Raises:
        InputError: If a valid part follows padding, or an example has no valid part.
    """
    lengths = valid.sum(1)
    is_prefix = valid == (np.arange(valid.shape[1]) < lengths[:, None])
    check_rows(is_prefix & valid[:, :1], where, f"at least one valid entry of {what}, all at the beginning")
    return lengths
