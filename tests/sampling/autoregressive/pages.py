"""A modality of synthetic documents."""

import pathlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from feller.core.pytree import Cond, State
from feller.core.rng import Rng
from feller.data.documents.document_encoder import DocumentEncoder
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.data.loading.raw import RawExamples
from feller.data.modality import Dataset, Modality, Writer
from feller.spaces import Tokens

S = DocumentVocabulary(text=26, codes=16, picture=16)


@dataclass(frozen=True)
class Pages(Modality):
    """Data of token rows."""

    vectors: DocumentEncoder | None = None

    @property
    def conditions(self) -> dict[str, tuple[str, ...]]:
        return {}

    @property
    def writers(self) -> dict[str, Writer]:
        return {}

    def space(self) -> Tokens:
        return Tokens(S.num_data_tokens, (32,))

    def encode(self, values: Any) -> Tensor:
        return values

    def decode(self, state: Any) -> Tensor:
        return state

    def values_from_raw(self, raw: RawExamples) -> tuple[State, Cond]:
        raise NotImplementedError

    def arrays(self, values: Any, given: Cond) -> dict[str, np.ndarray]:
        return {"samples": values.numpy()}

    def show(self, values: Any, given: Cond, columns: int | None = None) -> Image.Image:
        raise NotImplementedError

    def write(self, values: State, given: Cond, out: pathlib.Path) -> None:
        raise NotImplementedError


def rows_of(n: int, kinds: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Documents of some kinds, and the kind of each: a word of its kind among others, and a pattern with some noise."""
    draw = Rng(seed).fold_in("pages")
    kind = draw.stream("kind").randint(kinds, (n,))
    shape = Rng(7).fold_in("shapes")
    words = shape.stream("words").randint(S.text, (kinds, 4))
    patterns = shape.stream("patterns").randint(S.codes, (kinds, S.picture))
    around = draw.stream("around").randint(6, (n, 6))
    text = torch.cat([around[:, :3], words[kind], around[:, 3:]], 1)
    noise = draw.stream("noise").uniform((n, S.picture)) < 0.2
    codes = torch.where(noise, draw.stream("codes").randint(S.codes, (n, S.picture)), patterns[kind])
    rows = torch.full((n, 32), S.pad)
    rows[:, 0], rows[:, 11], rows[:, 28] = S.eos, S.break_token, S.break_token
    rows[:, 1:11], rows[:, 12:28] = text, S.text + codes
    return rows, kind


def pages(rows: Tensor, vectors: DocumentEncoder | None = None) -> Dataset:
    """Return the data set of these rows."""
    return Dataset(rows, {}, Pages(vectors))
