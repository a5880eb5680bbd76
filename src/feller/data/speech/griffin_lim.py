"""Vocoders: the base class, and the Griffin-Lim algorithm."""

import abc
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from feller.core.errors import InputError
from feller.core.optional_dependency import require_package
from feller.data.speech.mel import MelConfig

MAX_LOG_MEL = 6.0
"""Upper limit to which log mels are clamped; mel amplitudes of full-scale audio are far below e^6."""
MAX_ITERATIONS = 10_000
"""Maximum number of Griffin-Lim iterations."""
STEPS = 30
"""Number of multiplicative updates with which linear amplitudes are estimated from mel amplitudes."""


class Vocoder(abc.ABC):
    """Base class of vocoders, which convert log mel spectrograms to audio."""

    @abc.abstractmethod
    def synthesize(self, mel: Float[Tensor, "frames bands"], settings: MelConfig) -> Float32[Tensor, " n"]:
        """Return audio of `frames` * hop length samples, with amplitudes of about -1 to 1.

        `mel` is a log mel spectrogram, and `settings` the configuration with which it was computed.
        """


@dataclass(frozen=True)
class GriffinLim(Vocoder):
    """Vocoder by fast Griffin-Lim phase reconstruction, which needs no weights.

    Source: Perraudin, Balazs and Søndergaard 2013, "A fast Griffin-Lim algorithm".
    """

    iterations: int = 32
    seed: int = 0
    """Random seed of the initial phases."""

    def __post_init__(self) -> None:
        if not 1 <= self.iterations <= MAX_ITERATIONS:
            raise InputError(f"1 to {MAX_ITERATIONS:,} Griffin-Lim iterations", self.iterations)

    def synthesize(self, mel: Float[Tensor, "frames bands"], settings: MelConfig) -> Float32[Tensor, " n"]:
        """Return `frames` * hop length audio samples; InputError for non-finite log mels or a wrong number of bands."""
        librosa = require_package("librosa", "making sounds")
        if mel.ndim != 2 or not len(mel) or mel.shape[1] != settings.n_mels or not torch.isfinite(mel).all():
            raise InputError(f"finite log mels of {settings.n_mels} bands", list(mel.shape))
        bands = mel.detach().cpu().double().clamp(max=MAX_LOG_MEL).exp().numpy()
        amplitude = _amplitudes(bands, settings.filters.double().numpy())
        # librosa centres frame i at sample i * hop, ours is half a hop later: pad both ends, and cut half a hop more
        # at the start
        padding = settings.n_fft // (2 * settings.hop_length) + 1
        padded = np.pad(amplitude, ((padding, padding), (0, 0)), mode="edge").T
        waveform = librosa.griffinlim(
            padded,
            n_iter=self.iterations,
            hop_length=settings.hop_length,
            win_length=settings.win_length,
            n_fft=settings.n_fft,
            random_state=self.seed,
        )
        start, n = padding * settings.hop_length - settings.hop_length // 2, len(mel) * settings.hop_length
        return torch.from_numpy(waveform[start : start + n].astype(np.float32))


def _amplitudes(bands: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Invert mel filters: amplitudes of bands [n, bands] to non-negative amplitudes of frequencies [n, bins].

    Starts from the pseudo-inverse and applies multiplicative updates (as in NMF), which keep amplitudes positive.
    """
    amplitudes = np.maximum(bands @ np.linalg.pinv(filters).T, 1e-3 * bands @ (filters > 0)) + 1e-12
    numerator = bands @ filters
    for _ in range(STEPS):
        amplitudes *= numerator / np.maximum(amplitudes @ filters.T @ filters, 1e-20)
    return amplitudes
