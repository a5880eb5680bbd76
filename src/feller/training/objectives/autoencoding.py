"""Training objectives of image tokenizers and vocoders, which compare reconstructed with original data."""

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
    """Mean squared reconstruction error plus the quantizer's auxiliary loss.

    Source: van den Oord et al. 2017, "Neural discrete representation learning", arXiv 1711.00937, equation 3.
    """

    cond_dropout = 0.0
    family: ClassVar[str] = "autoencoder"
    space: Space
    """Space of the states."""

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        x = batch["x_1"]
        if hasattr(network, "update_codebook"):
            network.update_codebook(x, rng.fold_in("codebook"))
        return {"x_t": x, "t": x.new_zeros(len(x)), "given": {}}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        x = example["x_t"]
        output = network(x, example["t"], example["given"])
        return (output["state"] - x).square().flatten(1).mean(1) + output["apart"]


MIN_AMPLITUDE = 1e-3
"""Spectral amplitude below which audio counts as silence: the noise floor of 16-bit audio."""
OVERLAP = 4
"""Ratio of window length to hop length in the STFT."""


@dataclass(frozen=True)
class SpectralLoss(SelfContainedObjective):
    """Multi-resolution STFT loss for vocoders, plus the network's auxiliary loss.

    The batch has audio samples x_1 [b, n] and, in `given`, the number of valid samples, `length` [b] (default: all).
    The loss compares a random segment of each example, padded with silence; there is no discriminator. Source:
    Yamamoto, Song and Kim 2020, "Parallel WaveGAN", arXiv 1910.11480, section 2.2.
    """

    cond_dropout = 0.0
    family: ClassVar[str] = "vocoder"
    space: Euclidean
    """Space of the audio samples."""
    window_sizes: tuple[int, ...] = (256, 512, 1024, 2048)
    """Window lengths of the compared spectra, in audio samples."""
    segment_size: int = 5120
    """Segment length, in audio samples."""
    aux_weight: float = 1.0
    """Weight of the auxiliary loss: the mean absolute difference of log mels."""

    def __post_init__(self) -> None:
        if not self.window_sizes or min(self.window_sizes) < OVERLAP or self.aux_weight < 0:
            raise UsageError(
                f"windows of at least {OVERLAP} samples and an aux_weight of at least 0",
                f"{self.window_sizes} and {self.aux_weight:g}",
            )
        if self.segment_size < max(self.window_sizes):
            raise UsageError(f"segment_size of at least one window, {max(self.window_sizes)}", self.segment_size)

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        x = batch["x_1"]
        x = F.pad(x, (0, max(self.segment_size - x.shape[1], 0)))
        length = batch.get("given", {}).get("length", torch.full((len(x),), batch["x_1"].shape[1], device=x.device))
        num_starts = (length - self.segment_size).clamp(min=0) + 1
        start = (rng.stream("piece").uniform((len(x),), torch.float64, x.device) * num_starts).long()
        segment = x.gather(1, start[:, None] + torch.arange(self.segment_size, device=x.device))
        return {"x_t": segment, "t": x.new_zeros(len(x)), "given": {}}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " b"]:
        x = example["x_t"]
        output = network(x, example["t"], example["given"])
        differences = [spectral_difference(output["state"], x, window) for window in self.window_sizes]
        return torch.stack(differences).mean(0) + self.aux_weight * output["apart"]


def default_window_sizes(fft: int) -> tuple[int, ...]:
    """Return the default window lengths, from a quarter of the FFT size to twice the FFT size."""
    return fft // 4, fft // 2, fft, 2 * fft


def spectral_difference(output: Float[Tensor, "b n"], target: Float[Tensor, "b n"], window: int) -> Float[Tensor, " b"]:
    """Return the spectral convergence plus the mean absolute difference of log amplitudes, for one window length.

    Source: Arik, Jun and Diamos 2019, "Fast spectrogram inversion using multi-head convolutional neural networks",
    arXiv 1808.06719.
    """
    output_spectrum, target_spectrum = (_amplitudes(audio, window) for audio in (output, target))
    squared_error = (output_spectrum - target_spectrum).square().sum((1, 2))
    # floor of the reference norm, for silence
    floor = target_spectrum.shape[1] * target_spectrum.shape[2] * MIN_AMPLITUDE**2
    convergence = safe_sqrt(squared_error) / (target_spectrum.square().sum((1, 2)) + floor).sqrt()
    log_difference = (
        (output_spectrum.clamp(min=MIN_AMPLITUDE).log() - target_spectrum.clamp(min=MIN_AMPLITUDE).log())
        .abs()
        .mean((1, 2))
    )
    return convergence + log_difference


def _amplitudes(audio: Float[Tensor, "b n"], window: int) -> Float[Tensor, "b frames bins"]:
    """Return the amplitude spectra of all complete windows of the audio."""
    hann = torch.hann_window(window, dtype=audio.dtype, device=audio.device)
    return torch.fft.rfft(audio.unfold(1, window, window // OVERLAP) * hann).abs()
