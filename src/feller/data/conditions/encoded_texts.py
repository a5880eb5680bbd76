"""Conditions that are texts, each encoded as one vector by a frozen transformers model in a local folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from feller.core.errors import InputError, warn
from feller.data.conditions.cells import ConditionColumn, cells_of, is_missing, refuse_constant, text_of
from feller.data.conditions.condition import Condition
from feller.data.text_encoder import KNOWN_TEXTS, TextEncoder, load_text_encoder


@dataclass(frozen=True)
class EncodedTextCondition(Condition):
    """Text as the mean features of its tokens in a frozen model, float64 [n, d]; the null value is NaN."""

    folder: str
    """Folder of the model, which is needed again for new texts."""
    digest: str
    """SHA-256 hash of the files of the model."""
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    """Standard deviation of each feature in the training data; 1 for a constant feature."""
    example_text: str
    """Text of the training data, for messages."""

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.scale) or not all(0 < s < float("inf") for s in self.scale):
            raise InputError("a mean and a positive scale for each feature of the texts", self)

    @property
    def example(self) -> str:
        return self.example_text

    @property
    def _shape(self) -> tuple[int, ...]:
        return (len(self.mean),)

    def encode(self, name: str, column: ConditionColumn) -> Float64[Tensor, "n d"]:
        """Encode texts with the model, each distinct text once; a tensor of vectors is returned unchanged.

        Raises:
            InputError: If the folder of the model is missing or has changed.
        """
        if isinstance(column, Tensor):
            if column.ndim != 2 or column.shape[1] != len(self.mean) or not column.is_floating_point():
                expected = f"vectors [n, {len(self.mean)}]"
                raise InputError(expected, f"{column.dtype} {list(column.shape)}", argument=name)
            return column.double()
        encoder = load_text_encoder(self.folder)
        if encoder.digest != self.digest:
            raise InputError(
                "the text encoder with which the model was trained",
                "a folder whose files have changed",
                "Put the files of the training back",
                argument=name,
                file=self.folder,
            )
        return torch.from_numpy(_encode(name, cells_of(column), encoder))

    def decode(self, values: Float64[Tensor, "n d"]) -> np.ndarray:
        """Return the texts of vectors [n]; empty for null, and for vectors that this process did not encode."""
        return np.array([KNOWN_TEXTS.get(row.tobytes(), "") for row in values.detach().cpu().double().numpy()])


def _encode(name: str, cells: Sequence[Any], encoder: TextEncoder) -> Float64[np.ndarray, "n d"]:
    texts = ["" if is_missing(cell) else text_of(cell) for cell in cells]
    if num_cut := sum(encoder.is_cut(text) for text in texts if text):
        warn(f"{name}: {num_cut} of {len(texts)} texts are cut after their first {encoder.max_tokens} tokens")
    missing = np.full(encoder.width, np.nan)
    return np.stack([encoder.vector(text) if text else missing for text in texts])


def fit_encoded_text(name: str, cells: Sequence[Any], folder: str) -> EncodedTextCondition:
    """Return the type of a text that the model in `folder` encodes, with the statistics of the training data.

    Raises:
        InputError: If the folder holds no transformers model with weights in .safetensors, or all texts are equal.
    """
    encoder = load_text_encoder(folder)
    texts = [text_of(cell) for cell in cells if not is_missing(cell)]
    refuse_constant(name, len({*texts}) < 2)
    vectors = _encode(name, texts, encoder)
    scale = vectors.std(0)
    scales = tuple(np.where(scale > 1e-6 * np.abs(vectors).max(), scale, 1.0).tolist())
    return EncodedTextCondition(folder, encoder.digest, tuple(vectors.mean(0).tolist()), scales, texts[0])
