"""Convolutional detector of synthetic speech in short windows of log mels."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError, check_number
from feller.core.rng import Rng
from feller.networks.network_config import seeded_init

WINDOW_FRAMES = 25
"""Window length in frames of 10 ms."""
NUM_VIEWS = 3
"""Number of input channels: log mels, and their second differences along time and along frequency."""
MIN_STD = 1e-3
"""Minimum standard deviation by which inputs are divided in normalisation."""
WIDTHS = (8, 16, 32, 32, 64, 64)
"""Number of channels of each of the six blocks at size 1; size 8 gives 64 to 512 channels, as in the paper."""


class SyntheticSpeechDetector(nn.Module):
    """CNN of six blocks over frames and bands that outputs one logit per window, positive for synthetic speech.

    Five of the blocks halve both axes. The inputs are log mels and their second differences along time and frequency,
    normalised per band; second differences show small artefacts of vocoders. Source: Le et al. 2023, "Voicebox", arXiv
    2306.15687, for the number of blocks, 64 to 512 channels and windows of 250 ms; other choices are ours.
    """

    mean: Tensor
    """Mean of each channel and band over the training set, [3, bands]."""
    std: Tensor

    def __init__(self, bands: int, size: int, rng: Rng) -> None:
        super().__init__()
        check_number("bands", bands, ge=1)
        check_number("size", size, ge=1)
        widths = [size * width for width in WIDTHS]
        with seeded_init(rng):
            strides = [2] * (len(widths) - 1) + [1]
            self.layers = nn.ModuleList(
                nn.Conv2d(c_in, c_out, 3, stride, 1)
                for c_in, c_out, stride in zip([NUM_VIEWS, *widths[:-1]], widths, strides, strict=True)
            )
            self.norms = nn.ModuleList(nn.GroupNorm(1, width) for width in widths)
            self.head = nn.Linear(widths[-1], 1)
        self.register_buffer("mean", torch.zeros(NUM_VIEWS, bands))
        self.register_buffer("std", torch.ones(NUM_VIEWS, bands))

    def fit_scale(self, mels: Sequence[Float[Tensor, "_ bands"]]) -> None:
        """Set the mean and standard deviation for normalisation to those of a training set of log mels."""
        frames = torch.cat([add_second_differences(mel[None].double())[0] for mel in mels], 1)
        self.mean.copy_(frames.mean(1))
        self.std.copy_(frames.std(1, correction=0).clamp(min=MIN_STD))

    def forward(self, window: Float[Tensor, "b frames bands"]) -> Float[Tensor, " b"]:
        x = (add_second_differences(window) - self.mean[:, None]) / self.std[:, None]
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.silu(norm(layer(x)))
        return self.head(x.mean((2, 3)))[:, 0]


def add_second_differences(window: Float[Tensor, "b frames bands"]) -> Float[Tensor, "b views frames bands"]:
    """Return log mels and their second differences along time and frequency; edges are replicated."""
    padded = F.pad(window[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    middle, by_time, by_band = padded[:, 1:-1, 1:-1], padded[:, :, 1:-1], padded[:, 1:-1]
    along_time = by_time[:, :-2] - 2 * middle + by_time[:, 2:]
    along_bands = by_band[:, :, :-2] - 2 * middle + by_band[:, :, 2:]
    return torch.stack([middle, along_time, along_bands], 1)


def split_windows(mel: Float[Tensor, "frames bands"], hop: int) -> Float[Tensor, "n window bands"]:
    """Return windows that start at multiples of `hop` frames, and the last window; short inputs are repeated."""
    if len(mel) < WINDOW_FRAMES:
        mel = mel.repeat(-(-WINDOW_FRAMES // len(mel)), 1)[:WINDOW_FRAMES]
    last_start = len(mel) - WINDOW_FRAMES
    starts = torch.tensor(sorted({*range(0, last_start + 1, hop), last_start}), device=mel.device)
    return mel[starts[:, None] + torch.arange(WINDOW_FRAMES, device=mel.device)]


def check_mels(mels: Sequence[Float[Tensor, "_ bands"]], bands: int) -> None:
    """Check that log mels have the shape [frames, bands] and finite values.

    Raises:
        UsageError: If a shape is wrong or a value is not finite.
    """
    for mel in mels:
        if mel.ndim != 2 or not len(mel) or mel.shape[1] != bands or not torch.isfinite(mel).all():
            raise UsageError(f"finite log mels [frames, {bands}]", list(mel.shape))
