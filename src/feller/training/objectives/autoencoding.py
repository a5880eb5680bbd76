"""Reconstruction objectives: image tokenizers and vocoders."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.spaces import Euclidean, Space
from feller.spaces.safe_math import safe_sqrt
from feller.training.objective import Batch, Example, SelfContainedObjective


@dataclass(frozen=True)
class AutoencodingLoss(SelfContainedObjective):
    """Squared error of what is read, the mean over the numbers of a state, and what the quantiser adds.

    Source: van den Oord et al. 2017, "Neural discrete representation learning", arXiv 1711.00937, equation 3.
    """

    cond_dropout = 0.0
    family: ClassVar[str] = "autoencoder"
    space: Space
    """Where the states live."""

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        x = batch["x_1"]
        if hasattr(network, "update_codebook"):
            network.update_codebook(x, rng.fold_in("codebook"))
        return {"x_t": x, "t": x.new_zeros(len(x)), "given": {}}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        x = example["x_t"]
        read = network(x, example["t"], example["given"])
        return (read["state"] - x).square().flatten(1).mean(1) + read["apart"]


MIN_AMPLITUDE = 1e-3
"""Amplitude of a spectrum below which all is silence: the noise of samples of 16 bits lies there."""
OVERLAP = 4
"""Windows that a sample is in."""


@dataclass(frozen=True)
class SpectralLoss(SelfContainedObjective):
    """Differences of amplitude spectra at several resolutions, and what the network tells apart from them.

    The batch holds samples x_1 [b, n] and in `given` how many of them are real, `length` [b] (absent: all). A piece is
    drawn from each, silence behind the end of a shorter one. Nothing judges the copies but spectra: no second network
    learns to tell them from sounds. Source: Yamamoto, Song and Kim 2020, "Parallel WaveGAN", arXiv 1910.11480,
    section 2.2.
    """

    cond_dropout = 0.0
    family: ClassVar[str] = "vocoder"
    space: Euclidean
    """Where the samples live."""
    window_sizes: tuple[int, ...] = (256, 512, 1024, 2048)
    """Samples of the windows whose spectra are compared."""
    segment_size: int = 5120
    """Samples that are learned at once."""
    aux_weight: float = 1.0
    """Weight of what the network tells: the mean difference of log mels."""

    def __post_init__(self) -> None:
        if not self.window_sizes or min(self.window_sizes) < OVERLAP or self.aux_weight < 0:
            raise UsageError(
                f"windows of at least {OVERLAP} samples and a weight of 0 or more",
                f"{self.window_sizes} and {self.aux_weight:g}",
            )
        if self.segment_size < max(self.window_sizes):
            raise UsageError(f"a piece of at least one window, {max(self.window_sizes)}", self.segment_size)

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        x = batch["x_1"]
        x = F.pad(x, (0, max(self.segment_size - x.shape[1], 0)))
        length = batch.get("given", {}).get("length", torch.full((len(x),), batch["x_1"].shape[1], device=x.device))
        places = (length - self.segment_size).clamp(min=0) + 1
        first = (rng.stream("piece").uniform((len(x),), torch.float64, x.device) * places).long()
        piece = x.gather(1, first[:, None] + torch.arange(self.segment_size, device=x.device))
        return {"x_t": piece, "t": x.new_zeros(len(x)), "given": {}}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        x = example["x_t"]
        copy = network(x, example["t"], example["given"])
        found = [spectral_difference(copy["state"], x, window) for window in self.window_sizes]
        return torch.stack(found).mean(0) + self.aux_weight * copy["apart"]


def default_window_sizes(fft: int) -> tuple[int, ...]:
    """Return windows from a quarter of a transform to twice its points."""
    return fft // 4, fft // 2, fft, 2 * fft


def spectral_difference(output: Float[Tensor, "b n"], target: Float[Tensor, "b n"], window: int) -> Float[Tensor, " b"]:
    """Return the length of the difference of amplitude spectra over that of the real ones, and the mean of logarithms.

    Source: Arik, Jun and Diamos 2019, "Fast spectrogram inversion using multi-head convolutional neural networks",
    arXiv 1808.06719.
    """
    output_spectrum, target_spectrum = (_amplitudes(sound, window) for sound in (output, target))
    square = (output_spectrum - target_spectrum).square().sum((1, 2))
    least = (
        target_spectrum.shape[1] * target_spectrum.shape[2] * MIN_AMPLITUDE**2
    )  # silence has no length to be compared with
    converged = safe_sqrt(square) / (target_spectrum.square().sum((1, 2)) + least).sqrt()
    logs = (
        (output_spectrum.clamp(min=MIN_AMPLITUDE).log() - target_spectrum.clamp(min=MIN_AMPLITUDE).log())
        .abs()
        .mean((1, 2))
    )
    return converged + logs


def _amplitudes(sound: Float[Tensor, "b n"], window: int) -> Float[Tensor, "b frames bins"]:
    """Return amplitude spectra, without the ends of a sound that no whole window sees."""
    hann = torch.hann_window(window, dtype=sound.dtype, device=sound.device)
    return torch.fft.rfft(sound.unfold(1, window, window // OVERLAP) * hann).abs()
