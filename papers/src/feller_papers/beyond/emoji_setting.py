"""Budget of the experiments on documents of emoji."""

import pathlib
from dataclasses import dataclass


@dataclass(frozen=True)
class EmojiSetting:
    """Budget of the experiments on documents of emoji."""

    folder: pathlib.Path | None = None
    """Folder with the unpacked npm packages; None if it is missing."""
    seeds: tuple[int, ...] = (0, 1, 2)
    side: int = 32
    """Side of all pictures, in pixels."""
    num_emoji: int = 600
    """Number of emoji, evenly spaced in the order of the package."""
    num_variants: int = 8
    """Training documents of each emoji; one more is held out."""
    tokenizer_steps: int = 1500
    """Training steps of the picture tokenizer."""
    retriever_steps: int = 1000
    """Training steps of the retriever."""
    judge_steps: int = 1500
    """Training steps of the judge."""
    size: int = 4
    """Size of the decoder, as in `GPT.from_size`."""
    steps: int = 11_000
    """Training steps of the decoder, of 16 documents with up to two retrieved documents each."""
    num_test: int = 400
    """Held-out documents that are scored and drawn."""
    guidance_weights: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


QUICK = EmojiSetting(
    seeds=(0,),
    num_emoji=200,
    num_variants=6,
    tokenizer_steps=800,
    retriever_steps=300,
    judge_steps=600,
    size=3,
    steps=2000,
    num_test=200,
    guidance_weights=(1.0, 2.0, 3.0, 4.0),
)
"""One seed and fewer emoji: within half an hour of one processor core."""
