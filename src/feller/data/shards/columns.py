"""Points, tables of cells and texts in .parquet shards."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from feller.data.found import Found, FoundRows, FoundTexts, as_objects
from feller.data.labels import LABEL_NAMES, TEXT_NAME, classify
from feller.data.modality import Modality
from feller.data.rows.tables import Choose
from feller.data.shards.groups import Groups, read_safely
from feller.data.shards.source import Source, labelled
from feller.data.shards.strangers import strangers
from feller.data.shards.unseen import unseen
from feller.data.stream import Pieces
from feller.data.table.find import from_frame
from feller.data.table.mixed import Mixed
from feller.data.table.modality import Table
from feller.data.text.modality import Text
from feller.data.text.vocabulary import Characters
from feller.errors import InputError

SAMPLE = 50_000


@dataclass(frozen=True, eq=False)
class _Rows(Source):
    """What all kinds of rows share."""

    groups: Groups
    columns: tuple[str, ...]
    """That are read."""
    labels: np.ndarray | None = None  # pyrefly: ignore
    classes: tuple[str, ...] = ()  # pyrefly: ignore
    notes: tuple[str, ...] = ()  # pyrefly: ignore

    sample = SAMPLE

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def print(self) -> str:  # pyrefly: ignore
        """That of the groups."""
        return self.groups.print

    @property
    def pieces(self) -> Pieces:  # pyrefly: ignore
        """The groups."""
        return Pieces(torch.from_numpy(self.groups.of()), self.groups.together)

    def _frame(self, numbers: np.ndarray) -> Any:
        """Return rows as a data frame whose whole numbers are whole, also where some are missing."""
        import pandas as pd
        from pyarrow import types

        table = self.groups.rows(numbers, self.columns)
        whole = {
            kind: pd.Int64Dtype() for kind in table.schema.types if types.is_integer(kind) and not types.is_uint64(kind)
        }
        gaps = any(column.null_count for column in table.columns)
        shard = self.groups.shard_of(int(numbers[0]))
        return read_safely(shard, lambda: table.to_pandas(types_mapper=whole.get if gaps else None))


@dataclass(frozen=True, eq=False)
class Points(_Rows):
    """Rows of numbers."""

    choose: Choose = lambda names: ()

    def found(self, numbers: np.ndarray) -> Found:
        """Return the numbers."""
        frame = self._frame(numbers)
        columns = [frame[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in self.columns]
        values = np.stack(columns, 1) if columns else np.empty((len(numbers), 0))
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            row, column = bad[0]
            raise InputError(
                f"{self.groups.name(int(numbers[row]))}, column {self.columns[column]!r} holds {values[row, column]},"
                " expected a finite number; drop or fill such rows"
            )
        return labelled(FoundRows(values, columns=tuple(name.strip() for name in self.columns)), self, numbers)


@dataclass(frozen=True, eq=False)
class Cells(_Rows):
    """Rows of cells of every kind."""

    def found(self, numbers: np.ndarray) -> Found:
        """Return the cells as texts."""
        found = from_frame(self._frame(numbers), str(self.groups.shards[0].path.parent))
        return replace(found, names=tuple(map(self.groups.name, numbers.tolist())), lines=None)

    def lacking(self, modality: Modality) -> np.ndarray:
        """Return rows with cells that no row of the sample has."""
        table = modality.table if isinstance(modality, Mixed) else modality
        return unseen(self.groups, table.schema) if isinstance(table, Table) else super().lacking(modality)


@dataclass(frozen=True, eq=False)
class Texts(_Rows):
    """A column of texts, each an example."""

    def found(self, numbers: np.ndarray) -> Found:
        """Return the texts; a missing one is empty."""
        texts = [
            "" if text is None else str(text) for text in self.groups.rows(numbers, self.columns).column(0).to_pylist()
        ]
        return labelled(FoundTexts(as_objects(texts), documents=True, lines=numbers + 1), self, numbers)

    def lacking(self, modality: Modality) -> np.ndarray:
        """Return the longest, and those with characters that are not known."""
        import pyarrow.compute as compute

        longest, most, start = 0, -1, 0
        for column in self.groups.each(self.columns[0]):
            lengths = compute.call_function("utf8_length", [column]).fill_null(0).to_numpy()
            if len(lengths) and lengths.max() > most:
                most, longest = int(lengths.max()), start + int(lengths.argmax())
            start += len(lengths)
        found = np.array([longest])
        if isinstance(modality, Text) and isinstance(modality.vocabulary, Characters):
            return np.append(found, strangers(self, modality.vocabulary.symbols))
        return found


def rows_of(groups: Groups, choose: Choose) -> Source:
    """Return rows of numbers, with their classes."""
    label = _label(groups)
    rest = [name for name in groups.columns if name != label]
    chosen = tuple(choose(rest)) or tuple(rest)
    words = [name for name in chosen if not is_number(groups, name)]
    where = groups.shards[0].path
    if words or not chosen:
        got = f"{words[0]!r} holds others" if words else "there is none"
        raise InputError(f"{where}: expected columns of numbers, {got}; leave out what asks for numbers")
    return Points(groups, chosen, *_labels(groups, label), notes=_left(rest, chosen))


def texts_of(groups: Groups) -> Source:
    """Return the texts of the column that is called so, or is alone beside the label."""
    label = _label(groups)
    rest = [name for name in groups.columns if name != label]
    named = [name for name in rest if name.lower() == TEXT_NAME] or (rest if len(rest) == 1 else [])
    if not named or is_number(groups, named[0]):
        held = ", ".join(groups.columns)
        raise InputError(f"{groups.shards[0].path}: expected a column called {TEXT_NAME} that holds texts, got {held}")
    return Texts(groups, (named[0],), *_labels(groups, label), notes=_left(rest, named))


def cells_of(groups: Groups) -> Source:
    """Return all columns as they are."""
    return Cells(groups, groups.columns)


def is_number(groups: Groups, name: str) -> bool:
    """Tell whether a column holds numbers by its type."""
    from pyarrow import types

    kind = groups.types[groups.columns.index(name)]
    return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)


def _left(rest: Sequence[str], read: Sequence[str]) -> tuple[str, ...]:
    others = [name for name in rest if name not in read]
    return (f"left out the columns {', '.join(others)}",) if others else ()


def _label(groups: Groups) -> str | None:
    named = [name for name in groups.columns if name.strip().lower() in LABEL_NAMES]
    if len(named) > 1:
        raise InputError(
            f"{groups.shards[0].path}: expected one column called label or class, got {len(named)}; drop one"
        )
    return named[0] if named else None


def _labels(groups: Groups, label: str | None) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Number the classes of all rows, from one pass over their column."""
    if label is None:
        return None, ()
    words: dict[str, str] = {}
    labels: list[str] = []
    for column in groups.each(label):
        for value in column.to_pylist():
            if value is None or value == "":
                raise InputError(f"{groups.name(len(labels))} has no {label}; fill it, or drop the row")
            word = str(value).strip()
            labels.append(words.setdefault(word, word))
    positions, classes = classify(labels, f"{groups.shards[0].path.parent} ({label})")
    return positions.astype(np.int32), classes
