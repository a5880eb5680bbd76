"""Conditions that are prompts, encoded by the text encoders of a diffusers pipeline in a local folder."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from feller.core.errors import InputError, check_integer, warn
from feller.data.conditions.cells import ConditionColumn, cells_of, is_missing, text_of
from feller.data.conditions.condition import Condition
from feller.data.prompt_encoder import KNOWN_PROMPTS, PromptEncoder, hash_of, load_prompt_encoder


@dataclass(frozen=True)
class PromptCondition(Condition):
    """Prompt as the features of its tokens and of the whole text, float32 [n, length * width + pooled].

    The null value is NaN; the network knows the features of the empty prompt.
    """

    folder: str
    """Folder of the pipeline, which is needed again for new prompts."""
    digest: str
    """SHA-256 hash of the files of the text encoders and tokenizers."""
    length: int
    """Number of tokens."""
    width: int
    """Number of features of a token."""
    pooled: int
    """Number of features of the whole text; 0 if the network takes none."""
    pixels_per_latent: int = 8
    """Number of pixels per latent along each side of an image."""
    _dtype: ClassVar[torch.dtype] = torch.float32

    def __post_init__(self) -> None:
        for name in ("length", "width", "pixels_per_latent"):
            check_integer(name, getattr(self, name), ge=1)
        check_integer("pooled", self.pooled, ge=0)

    @classmethod
    def of_encoder(cls, encoder: PromptEncoder, pixels_per_latent: int) -> "PromptCondition":
        """Return the condition of the prompts that an encoder reads."""
        tokens, pooled = encoder.features("")
        length, width = tokens.shape
        return cls(encoder.folder, encoder.digest, length, width, len(pooled), pixels_per_latent)

    @property
    def num_features(self) -> int:
        """Number of features of a prompt."""
        return self.length * self.width + self.pooled

    @property
    def example(self) -> str:
        return "a photograph of a cat"

    @property
    def _shape(self) -> tuple[int, ...]:
        return (self.num_features,)

    def split(self, features: Float[Tensor, "n f"]) -> tuple[Float[Tensor, "n length width"], Float[Tensor, "n p"]]:
        """Return the features of the tokens and those of the whole texts."""
        tokens, pooled = features.split([self.length * self.width, self.pooled], 1)
        return tokens.unflatten(1, (self.length, self.width)), pooled

    def encoder(self) -> PromptEncoder:
        """Return the text encoders of the pipeline.

        Raises:
            InputError: If the folder of the pipeline is missing or has changed.
        """
        encoder = load_prompt_encoder(self.folder)
        if encoder.digest != self.digest:
            expected, found = "the text encoders of the import", "a folder whose files have changed"
            raise InputError(expected, found, "Put the files back, or import the folder again", file=self.folder)
        return encoder

    def encode(self, name: str, column: ConditionColumn) -> Float32[Tensor, "n f"]:
        """Encode prompts, each distinct one once; a tensor of features is returned unchanged."""
        if isinstance(column, Tensor):
            if column.ndim != 2 or column.shape[1] != self.num_features or not column.is_floating_point():
                found = f"{column.dtype} {list(column.shape)}"
                raise InputError(f"features [n, {self.num_features}]", found, argument=name)
            return column.float()
        encoder = self.encoder()
        texts = [None if is_missing(cell) else text_of(cell) for cell in cells_of(column)]
        for text in dict.fromkeys(text for text in texts if text is not None):
            if (cut := encoder.cut_after(text)) is not None:
                warn(f"{name}: {text[:40]!r} is cut after its first {cut} tokens")
        null = self.null_values(1)[0]
        rows = [null if text is None else encoder.vector(text) for text in texts]
        return torch.stack(rows) if rows else null.new_zeros(0, self.num_features)

    def decode(self, values: Float32[Tensor, "n f"]) -> np.ndarray:
        """Return the prompts [n]; empty for null, and for features that this process did not compute."""
        return np.array([KNOWN_PROMPTS.get(hash_of(row), "") for row in values])

    def is_null(self, values: Float32[Tensor, "n f"]) -> Bool[Tensor, " n"]:
        return values[:, 0].isnan()
