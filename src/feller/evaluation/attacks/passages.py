"""Texts, which say the same wherever it stands in them: pieces of a few symbols that two of them share."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64
from scipy.sparse import csr_matrix
from torch import Tensor

from feller.data.modality import Dataset
from feller.data.text.text_modality import Text
from feller.evaluation.attacks.distances import exactly
from feller.evaluation.attacks.measure import Apart

PIECE = 6
"""Symbols of a piece."""
RUN = 50
"""Symbols in a row that hardly come twice by chance."""


@dataclass(frozen=True)
class Passages(Apart):
    """Share of the pieces of the shorter text that do not stand in the other: a passage may begin anywhere."""

    asked = 100_000

    def apart(self, a: Dataset, b: Dataset) -> Float64[Tensor, "n m"]:
        """Return it of all pairs; of texts shorter than a piece, only equal ones are near."""
        (first, size), (second, other) = _tables(rows_of(a), rows_of(b))
        shared = torch.from_numpy(np.asarray((first @ second.T).todense(), dtype=np.float64))
        return 1 - shared / torch.minimum(size[:, None], other)

    def known(self, some: Dataset, train: Dataset, usual: float | None) -> Bool[Tensor, " n"]:
        """Look for the very same symbols."""
        return exactly(some, train)


def rows_of(data: Dataset) -> list[np.ndarray]:
    """Return the symbols of each text without its end."""
    values, counted = data.values.cpu().numpy(), data.modality.counted(data.values).tolist()
    end = data.modality.end
    return [
        row[:size][row[:size] != end] if end is not None else row for row, size in zip(values, counted, strict=True)
    ]


def _pieces(row: np.ndarray, length: int) -> np.ndarray:
    """Return the different pieces of a text as bytes; a shorter text is one piece."""
    length = max(1, min(length, len(row)))
    if not len(row):
        return np.array([b"-"], dtype=object)
    windows = np.lib.stride_tricks.sliding_window_view(row.astype(np.int32), length)
    return np.array([*{window.tobytes() for window in windows}], dtype=object)


def _tables(a: list[np.ndarray], b: list[np.ndarray]) -> list[tuple[Any, Float64[Tensor, " n"]]]:
    """Mark which piece is in which text, and count those of each."""
    number: dict[bytes, int] = {}
    found = []
    for rows in (a, b):
        pieces = [[number.setdefault(piece, len(number)) for piece in _pieces(row, PIECE)] for row in rows]
        found.append(pieces)
    tables = []
    for pieces in found:
        ends = np.cumsum([0, *map(len, pieces)])
        columns = np.concatenate([np.array(row, dtype=np.int64) for row in pieces] or [np.zeros(0, np.int64)])
        marks = csr_matrix((np.ones(len(columns)), columns, ends), shape=(len(pieces), len(number)))
        tables.append((marks, torch.tensor([float(len(row)) for row in pieces], dtype=torch.float64)))
    return tables


def recited(some: Dataset, train: Dataset) -> Bool[Tensor, " n"] | None:
    """Tell which texts hold RUN symbols in a row, or all of a shorter text, that stand in the training text.

    None for data that are no texts.
    """
    if not isinstance(train.modality, Text):
        return None
    texts = rows_of(some)
    lengths = sorted({min(RUN, len(row)) for row in texts if len(row)})
    wanted: dict[int, set[bytes]] = {length: set() for length in lengths}
    for row in texts:
        if len(row):
            wanted[min(RUN, len(row))].update(_pieces(row, min(RUN, len(row))))
    there = {length: set[bytes]() for length in lengths}
    for row in rows_of(train):
        for length in lengths:
            if len(row) >= length:
                there[length].update(piece for piece in _pieces(row, length) if piece in wanted[length])
    said = [
        any(piece in there[min(RUN, len(row))] for piece in _pieces(row, RUN)) if len(row) else False for row in texts
    ]
    return torch.tensor(said, dtype=torch.bool)
