"""What a file holds, before a modality gives it a meaning."""

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

_ARROW: Any = pyarrow.compute  # whose functions are made as it is imported


@dataclass(frozen=True, eq=False)
class RawExamples:
    """Examples of a file, with what it says about them; each kind is a class of its own."""

    name: ClassVar[str]
    """Of the kind, for people."""
    values: np.ndarray
    """One entry for each example, [n, ...]."""
    labels: np.ndarray | None = None
    """Position in `classes` of each example, [n]."""
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What was decided on the way, for people."""
    lines: np.ndarray | None = None
    """Line of each example in its file, from 1, [n]; None where it is that of the array."""
    names: tuple[str, ...] = ()
    """What a person calls each example, where that is no row."""
    properties: dict[str, np.ndarray] = field(default_factory=dict)
    """Numbers that are told of each example beside its value, [n] in float64; not-a-number where one is not."""
    hashes: tuple[str, ...] = ()
    """Hash of the file of each example, where its value is computed from that."""

    def row_number(self, i: int) -> int:
        """Return the number under which a person finds an example in the file."""
        return i + 1 if self.lines is None else int(self.lines[i])

    def row_name(self, i: int) -> str:
        """Return what a person calls an example."""
        return self.names[i] if self.names else f"row {self.row_number(i)}"

    def error_fields(self, i: int) -> dict[str, Any]:
        """Return the fields of an error that say where an example stands."""
        return {"place": self.names[i]} if self.names else {"row": self.row_number(i)}

    @property
    def description(self) -> str:
        """What was found, for people."""
        return self.name


@dataclass(frozen=True, eq=False)
class RawPoints(RawExamples):
    """Rows of numbers, float64 [n, d]."""

    name = "points"
    columns: tuple[str, ...] = ()
    """Names of the columns; empty where the file has none."""

    @property
    def description(self) -> str:
        return f"points with {self.values.shape[1]} columns"


SEPARATORS = ",;\t"
"""What may stand between cells."""


@dataclass(frozen=True)
class Dialect:
    """How a file of delimited text is written; nothing of its rows."""

    separator: str = ","
    has_bom: bool = False
    """Whether it begins with the byte order mark of UTF-8."""

    def __post_init__(self) -> None:
        if len(self.separator) != 1 or self.separator not in SEPARATORS:
            raise InputError("a comma, a semicolon or a tab between cells", repr(self.separator))


TEXT = pyarrow.large_string()
"""Type of cells: as they are written, an empty text where there is none, never null."""


def text_array(cells: Sequence[str]) -> pyarrow.Array:
    """Return cells as an Arrow array."""
    return pyarrow.array(cells, TEXT)


@dataclass(frozen=True, eq=False)
class FactorizedColumn:
    """A column by its different cells, in the order in which they come."""

    uniques: pyarrow.Array
    """The different cells."""
    codes: np.ndarray
    """Which of them each cell is, [n]."""

    @property
    def counts(self) -> np.ndarray:
        """How many cells each word has, [words]."""
        return np.bincount(self.codes, minlength=len(self.uniques))

    def is_in(self, values: Collection[str]) -> np.ndarray:
        """Tell which words are among some, [words]."""
        return np.asarray(_ARROW.is_in(self.uniques, text_array([*values])))

    def count_in(self, values: Collection[str]) -> int:
        """Return how many cells are among some words."""
        return int(self.counts[self.is_in(values)].sum())


PARALLEL_ROWS, COLUMN_THREADS = 50_000, min(4, os.cpu_count() or 1)
"""Rows from which several columns are looked at at once, and how many: Arrow and NumPy let go of Python meanwhile."""
Column = TypeVar("Column")
Answer = TypeVar("Answer")


def by_column(look: Callable[[Column], Answer], columns: Sequence[Column], rows: int) -> list[Answer]:
    """Return what is found of each column of a table; the error is that of the first column that has one."""
    if rows < PARALLEL_ROWS:
        return [*map(look, columns)]
    with ThreadPoolExecutor(COLUMN_THREADS) as pool:
        return [*pool.map(look, columns)]


@dataclass(frozen=True, eq=False)
class RawArrays(RawExamples):
    """Arrays of one shape, float64 [n, ...]; only who asks for them finds them, since others take them for pictures."""

    name = "arrays of numbers"


@dataclass(frozen=True, eq=False)
class RawTable(RawExamples):
    """Cells of a table as they are written, an Arrow table of texts; an array [n, columns] is turned into one."""

    name = "a table"
    values: Any
    """One column of `TEXT` for each of `columns`."""
    columns: tuple[str, ...] = field(kw_only=True)
    """Names of the columns."""
    dialect: Dialect = Dialect()
    """How its file was written, where that was text."""
    dtypes: tuple[str, ...] = ()
    """Types of the columns where the table was a data frame, as pandas writes them."""

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
        """Return a column by its different cells."""
        encoded = self.values.column(self.columns.index(name)).combine_chunks().dictionary_encode()
        return FactorizedColumn(encoded.dictionary, np.asarray(encoded.indices))

    def cell(self, name: str, row: int) -> str:
        """Return one cell."""
        return self.values.column(self.columns.index(name))[row].as_py()

    def subset(self, rows: np.ndarray) -> "RawTable":
        """Return some rows, in their order."""
        lines = None if self.lines is None else self.lines[rows]
        return replace(self, values=self.values.take(pyarrow.array(rows)), lines=lines)


@dataclass(frozen=True, eq=False)
class RawImages(RawExamples):
    """Pictures, uint8 [n, h, w, c]."""

    name = "pictures"
    levels: int | None = None
    """Value of white; None where the file does not say."""


@dataclass(frozen=True, eq=False)
class RawTexts(RawExamples):
    """Texts, strings [n]."""

    name = "texts"
    documents: bool = field(kw_only=True)
    """Whether each is an example of its own, rather than one whose parts are."""
    tokens: np.ndarray | None = None
    """Symbols that a model wrote, [n, l], where the file keeps them."""


@dataclass(frozen=True)
class TextItem:
    """A text of a document; neighbours are one segment."""

    text: str
    is_answer: bool = False
    """An answer: what a model that is tuned on instructions always fills in."""


@dataclass(frozen=True)
class ImageItem:
    """A picture of a document."""

    number: int
    """Which of the pictures of the file."""


@dataclass(frozen=True)
class BreakItem:
    """The end of a text that another follows."""


Item = TextItem | ImageItem | BreakItem


@dataclass(frozen=True, eq=False)
class RawDocuments(RawExamples):
    """Texts and pictures that follow each other: for each document a tuple of items, object [n]."""

    name = "documents"
    images: np.ndarray = field(kw_only=True)
    """All of them, uint8 [m, h, w, c]."""
    tasks: tuple[str, ...] = ()
    """What each document is an example of; empty where the file does not say."""


@dataclass(frozen=True, eq=False)
class RawChains(RawExamples):
    """Backbones of proteins in Å, float64 [n, L, 4, 3], padded with zeros."""

    name = "protein backbones"
    lengths: np.ndarray = field(kw_only=True)
    """Residues of each, [n]."""
    residues: np.ndarray | None = None
    """Amino acids, as in `feller.data.proteins.residues`, -1 where one is not known, [n, L]; None where none is."""
    dropped: tuple[str, ...] = ()
    """Where chains were cut or left out, for people."""


@dataclass(frozen=True, eq=False)
class RawMolecules(RawExamples):
    """Places of the atoms of molecules in Å, float64 [n, L, 3], padded with zeros."""

    name = "molecules"
    atomic_numbers: np.ndarray = field(kw_only=True)
    """Atomic numbers, 0 behind the end of a molecule, [n, L]."""


@dataclass(frozen=True, eq=False)
class RawCrystals(RawExamples):
    """Fractional coordinates of the atoms of crystals, float64 [n, L, 3], padded with zeros."""

    name = "crystals"
    atomic_numbers: np.ndarray = field(kw_only=True)
    """Atomic numbers, 0 behind the last atom of a cell, [n, L]."""
    lattice: np.ndarray = field(kw_only=True)
    """Cell of each, a, b, c in Å and alpha, beta, gamma in degrees, [n, 6]."""


@dataclass(frozen=True, eq=False)
class Waveform:
    """A recording of one channel."""

    samples: np.ndarray
    """Numbers about -1 to 1, float32 [n]."""
    sample_rate: int
    """Samples of a second."""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.sample_rate

    @property
    def frames(self) -> int:
        """How many whole frames of 10 ms it has."""
        return len(self.samples) * 100 // self.sample_rate


@dataclass(frozen=True)
class PhoneAlignment:
    """What is said in a sound: its phones in their order, and the frames of 10 ms that each lasts."""

    phones: tuple[str, ...]
    durations: tuple[int, ...]
    """One for each phone; 0 for a silence between words that was not heard."""

    @property
    def frames(self) -> int:
        """Frames of all phones together."""
        return sum(self.durations)


@dataclass(frozen=True, eq=False)
class RawSpeech(RawExamples):
    """Sounds, for each a `Waveform`, or log mels, float32 [frames, bands], object [n]."""

    name = "speech"
    texts: tuple[str, ...] = ()
    """What is said in each, as it was written; empty where samples are read, which have no texts."""
    alignments: tuple[PhoneAlignment, ...] = ()
    """When it is said; as `texts`."""
    dropped: tuple[str, ...] = ()
    """Sounds that were left out, each with the reason."""
    user_pronunciations: dict[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    """Words whose phones the user wrote, each with its pronunciations."""
    settings: tuple[int, ...] = ()
    """How log mels were made: the fields of `MelConfig`; empty where values are sounds."""


@dataclass(frozen=True, eq=False)
class RawWaveforms(RawExamples):
    """Sounds alone, whatever is said in them: for each a `Waveform`, all of one rate, object [n]."""

    name = "sounds"
    dropped: tuple[str, ...] = ()
    """Names of those that are silent and were left out."""


def object_array(values: Sequence[object]) -> np.ndarray:
    """Return things of any kind as an array [n], which takes none of them apart."""
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value
    return array


def properties_of(rows: Sequence[dict[str, float]]) -> dict[str, np.ndarray]:
    """Put what is told of each example under its name, [n]; not-a-number where it is not told."""
    names = dict.fromkeys(name for one in rows for name in one)
    return {name: np.array([one.get(name, np.nan) for one in rows]) for name in names}


Kind = TypeVar("Kind", bound=RawExamples)


def expect(raw: RawExamples, kind: type[Kind]) -> Kind:
    """Return what a file holds if it is of a kind; InputError if it is of another."""
    if isinstance(raw, kind):
        return raw
    raise InputError(kind.name, raw.description)


def check_rows(right: np.ndarray, where: str, expected: str) -> None:
    """Refuse arrays unless all is right, [n, ...]."""
    wrong = np.flatnonzero(~right.reshape(len(right), -1).all(1))
    if len(wrong):
        count = f"; {len(wrong)} such in all" if len(wrong) > 1 else ""
        raise InputError(expected, f"others{count}", "Drop or mend it", file=where, row=int(wrong[0]) + 1)


def check_longest(raw: RawExamples, lengths: np.ndarray, longest: int, parts: str) -> None:
    """Refuse examples of more parts than a state has room for; InputError names the longest."""
    if lengths.max() > longest:
        i = int(lengths.argmax())
        raise InputError(f"up to {longest} {parts}", lengths[i], "Leave it out", place=raw.row_name(i))


def prefix_lengths(valid: np.ndarray, where: str, what: str) -> np.ndarray:
    """Return how many parts of each example are marked, [n], if they stand at its beginning, in [n, l].

    Raises:
        InputError: If some stand elsewhere, or none is marked; names the first row.
    """
    lengths = valid.sum(1)
    first = valid == (np.arange(valid.shape[1]) < lengths[:, None])
    check_rows(first & valid[:, :1], where, f"valid {what} at the beginning, one or more")
    return lengths


@contextlib.contextmanager
def error_context(file: str | pathlib.Path | None = None, **fields: Any) -> Generator[None, None, None]:
    """Say of an error where it stands: in a file, or what fields of it name."""
    try:
        yield
    except InputError as error:
        raise error.with_context(file=file, **fields) from error
