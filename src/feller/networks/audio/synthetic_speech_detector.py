"""A convolutional network that looks at short windows of log mels and tells those of a model from real ones."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from feller.core.errors import UsageError, check_number
from feller.core.rng import Rng
from feller.networks.network_config import seeded_init

WINDOW_FRAMES = 25
"""Frames of 10 ms that are seen at once."""
NUM_VIEWS = 3
"""Log mels, and how they bend along both axes."""
MIN_STD = 1e-3
"""Smallest deviation by which something is divided."""
WIDTHS = (8, 16, 32, 32, 64, 64)
"""Channels of the six blocks at size 1; at size 8 they are 64 to 512."""


class SyntheticSpeechDetector(nn.Module):
    """Six blocks of convolutions over frames and bands, and one logit for each window: above zero for a model's.

    Five blocks halve both axes. Beside log mels it sees how they bend along time and along frequency, since a vocoder
    leaves traces there that are small beside what is said; each in units of its own deviation in each band. Source: Le
    et al. 2023, "Voicebox", arXiv 2306.15687, which says how many blocks, from 64 to 512 channels, and windows of 250
    ms; the rest is ours.
    """

    mean: Tensor
    """Of each view and band, over the sounds that it was trained on, [3, bands]."""
    std: Tensor

    def __init__(self, bands: int, size: int, rng: Rng) -> None:
        super().__init__()
        check_number("bands", bands, ge=1)
        check_number("size", size, ge=1)
        widths = [size * width for width in WIDTHS]
        with seeded_init(rng):
            steps = [2] * (len(widths) - 1) + [1]
            self.layers = nn.ModuleList(
                nn.Conv2d(before, after, 3, step, 1)
                for before, after, step in zip([NUM_VIEWS, *widths[:-1]], widths, steps, strict=True)
            )
            self.norms = nn.ModuleList(nn.GroupNorm(1, width) for width in widths)
            self.head = nn.Linear(widths[-1], 1)
        self.register_buffer("mean", torch.zeros(NUM_VIEWS, bands))
        self.register_buffer("std", torch.ones(NUM_VIEWS, bands))

    def fit_scale(self, mels: Sequence[Float[Tensor, "_ bands"]]) -> None:
        """Take means and deviations from sounds."""
        frames = torch.cat([add_second_differences(mel[None].double())[0] for mel in mels], 1)
        self.mean.copy_(frames.mean(1))
        self.std.copy_(frames.std(1, correction=0).clamp(min=MIN_STD))

    def forward(self, window: Float[Tensor, "b frames bands"]) -> Float[Tensor, " b"]:
        """Return a logit for each window."""
        x = (add_second_differences(window) - self.mean[:, None]) / self.std[:, None]
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.silu(norm(layer(x)))
        return self.head(x.mean((2, 3)))[:, 0]


def add_second_differences(window: Float[Tensor, "b frames bands"]) -> Float[Tensor, "b views frames bands"]:
    """Return log mels and their second differences along time and along frequency, the edges going on."""
    padded = F.pad(window[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    middle, by_time, by_band = padded[:, 1:-1, 1:-1], padded[:, :, 1:-1], padded[:, 1:-1]
    along_time = by_time[:, :-2] - 2 * middle + by_time[:, 2:]
    along_bands = by_band[:, :, :-2] - 2 * middle + by_band[:, :, 2:]
    return torch.stack([middle, along_time, along_bands], 1)


def split_windows(mel: Float[Tensor, "frames bands"], hop: int) -> Float[Tensor, "n window bands"]:
    """Return all windows that begin `hop` frames apart, and the one at the end; a shorter sound is said again."""
    if len(mel) < WINDOW_FRAMES:
        mel = mel.repeat(-(-WINDOW_FRAMES // len(mel)), 1)[:WINDOW_FRAMES]
    last = len(mel) - WINDOW_FRAMES
    starts = torch.tensor(sorted({*range(0, last + 1, hop), last}), device=mel.device)
    return mel[starts[:, None] + torch.arange(WINDOW_FRAMES, device=mel.device)]


def check_mels(mels: Sequence[Float[Tensor, "_ bands"]], bands: int) -> None:
    """Refuse log mels that a network cannot look at."""
    for mel in mels:
        if mel.ndim != 2 or not len(mel) or mel.shape[1] != bands or not torch.isfinite(mel).all():
            raise UsageError(f"finite log mels [frames, {bands}]", list(mel.shape))
