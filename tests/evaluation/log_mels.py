"""Log mels that are made up, with a trace that is known."""

import dataclasses

import torch
from torch import Tensor

from feller.evaluation.speech.detector import TRAINING

SHORT = dataclasses.replace(TRAINING, steps=60, batch_size=32)
BANDS = 12


def sounds(n: int, seed: int, frames: int = 80) -> list[Tensor]:
    """Return smooth noise, as log mels are."""
    noise = torch.randn(n, frames + 4, BANDS, generator=torch.Generator().manual_seed(seed))
    return list(2 * noise.unfold(1, 5, 1).mean(-1) - 6)


def rough(mels: list[Tensor], seed: int) -> list[Tensor]:
    """Return log mels with a trace that does not last: one frame in five is a little off."""
    found = []
    for i, mel in enumerate(mels):
        start = (seed + i) % 5
        found.append(mel.clone())
        found[-1][start::5] += 0.8
    return found
