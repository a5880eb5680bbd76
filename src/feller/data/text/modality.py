"""Texts with gaps, for a model to fill."""

import re

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from feller.core.errors import InputError, UsageError
from feller.data.text.vocabulary import Vocabulary

GAP = re.compile("(_+)")
"""A run of underscores: as many symbols to fill."""


def with_gaps(
    text: str, vocabulary: Vocabulary, length: int
) -> tuple[Int64[Tensor, " length"], Bool[Tensor, " length"]]:
    """Return the symbols of a text, zero in its gaps and after its end, and which of them are known.

    Raises:
        UsageError: If a character is unknown, or the text longer than a model's.
    """
    stand_in = vocabulary.decode([0])
    try:
        vocabulary.encode(GAP.sub(lambda gap: stand_in * len(gap[0]), text))  # counts characters from the beginning
        parts = [([0] * len(p), False) if p.startswith("_") else (vocabulary.encode(p), True) for p in GAP.split(text)]
    except InputError as error:
        raise UsageError(f"the known text cannot be read: {error}") from error
    ids = [symbol for symbols, _ in parts for symbol in symbols]
    known = [kept for symbols, kept in parts for _ in symbols]
    if len(ids) > length:
        raise UsageError(
            f"the known text has {len(ids)} {vocabulary.unit}, gaps included, and the model's texts have {length};"
            " shorten it"
        )
    rest = length - len(ids)
    return torch.tensor([*ids, *[0] * rest]), torch.tensor([*known, *[False] * rest])
