"""Computation of log mel spectrograms with 100 frames per second."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from feller.core.errors import InputError, error_context
from feller.core.optional_dependency import require_package
from feller.data.loading.raw import RawSpeech
from feller.data.speech.audio_io import resample

FRAMES = 100
"""Number of frames per second."""
MAX_FFT = 2**15
"""Maximum FFT size, and maximum number of bands, that are accepted from an untrusted file."""
FLOOR = 1e-5
"""Minimum amplitude to which a mel band is clamped before the logarithm."""
MAX_STATISTIC = 1e3
"""Maximum absolute mean and maximum standard deviation of log mels that are accepted."""


@lru_cache(maxsize=8)
def filters(rate: int, fft: int, bands: int, top: int) -> Float32[Tensor, "bands bins"]:
    """Return Slaney-normalised mel filters; UsageError if librosa is not installed."""
    librosa = require_package("librosa", "the mel scale")
    return torch.from_numpy(librosa.filters.mel(sr=rate, n_fft=fft, n_mels=bands, fmin=0.0, fmax=float(top)))


@dataclass(frozen=True)
class MelConfig:
    """Parameters of log mel spectrograms.

    Windows are centred in frames of 10 ms, with reflection padding. So n samples have n // hop frames, which coincide
    with the frames of phone alignments.
    """

    sample_rate: int = 16_000
    """Sample rate in Hz."""
    n_fft: int = 1024
    """Size of the FFT in samples."""
    win_length: int = 640
    """Length of the Hann window in samples."""
    hop_length: int = 160
    """Hop length in samples."""
    n_mels: int = 80
    f_max: int = 8_000
    """Highest frequency of the mel bands, in Hz."""

    def __post_init__(self) -> None:
        if self.hop_length * FRAMES != self.sample_rate:
            raise InputError(f"{FRAMES} frames per second", f"hop {self.hop_length} at {self.sample_rate} Hz")
        if (
            not self.hop_length <= self.win_length <= self.n_fft
            or (self.win_length - self.hop_length) % 2
            or self.n_mels < 1
        ):
            raise InputError("hop <= window <= fft, an even window - hop, and at least one band", self)
        if max(self.n_fft, self.n_mels) > MAX_FFT:
            raise InputError(f"at most {MAX_FFT:,} FFT points and bands", f"{self.n_fft:,} and {self.n_mels:,}")
        if not 0 < self.f_max <= self.sample_rate / 2:
            raise InputError(f"f_max of at most half the sample rate, {self.sample_rate / 2:g} Hz", self.f_max)

    @classmethod
    def default_for(cls, rate: int) -> "MelConfig":
        """Return the default configuration for 8,000 or 16,000 Hz; InputError for other rates."""
        defaults = {16_000: cls(), 8_000: cls(8_000, 512, 320, 80, 40, 4_000)}
        if rate not in defaults:
            raise InputError(
                "a sample rate with default mel settings, 8,000 or 16,000 Hz",
                f"{rate:,} Hz",
                "Resample the audio, or specify all fields of the mel configuration",
            )
        return defaults[rate]

    @property
    def settings(self) -> tuple[int, ...]:
        """Values of all fields of the configuration, in order, as stored in files."""
        return self.sample_rate, self.n_fft, self.win_length, self.hop_length, self.n_mels, self.f_max

    @property
    def shortest(self) -> int:
        """Minimum number of samples of a waveform, which reflection padding requires."""
        return max(self.hop_length, (self.win_length - self.hop_length) // 2 + 1)

    def frames(self, samples: int) -> int:
        """Return the number of frames of a waveform with this number of samples."""
        return samples // self.hop_length

    def log_mel(self, samples: Float[Tensor, "*b n"]) -> Float[Tensor, "*b frames bands"]:
        """Return the log mel amplitudes of one waveform, or of a batch of waveforms of equal length."""
        n = samples.shape[-1]
        if n < self.shortest:
            raise InputError(f"at least {self.shortest} samples", n, "Use a longer recording")
        padding = (self.win_length - self.hop_length) // 2
        padded = torch.nn.functional.pad(samples.reshape(-1, n), (padding, padding), mode="reflect")
        hann = torch.hann_window(self.win_length, dtype=samples.dtype, device=samples.device)
        amplitude = torch.fft.rfft(padded.unfold(1, self.win_length, self.hop_length) * hann, n=self.n_fft).abs()
        log_bands = (amplitude @ self.filters.to(amplitude).T).clamp(min=FLOOR).log()
        return log_bands.reshape(*samples.shape[:-1], *log_bands.shape[1:])

    @property
    def filters(self) -> Float32[Tensor, "bands bins"]:
        """Mel filters: the weight of each FFT frequency in each mel band."""
        return filters(self.sample_rate, self.n_fft, self.n_mels, self.f_max)


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation over all log mels of a dataset."""

    mean: float
    std: float

    def __post_init__(self) -> None:
        if not (abs(self.mean) < MAX_STATISTIC and 0 < self.std < MAX_STATISTIC):
            raise InputError("a mean and a positive standard deviation of log mels", f"{self.mean:g}, {self.std:g}")

    @classmethod
    def of(cls, mels: Sequence[Float[Tensor, "_ bands"]]) -> "Statistics":
        """Compute the statistics of log mels; InputError if they are constant."""
        n = sum(mel.numel() for mel in mels)
        mean = sum(float(mel.double().sum()) for mel in mels) / n
        return cls(mean, math.sqrt(sum(float((mel.double() - mean).square().sum()) for mel in mels) / n))


def log_mels(raw: RawSpeech, mel: MelConfig) -> list[Float[Tensor, "_ bands"]]:
    """Return the log mels of raw examples; they are computed from audio, or returned as stored.

    Raises:
        InputError: If a recording is too short, or stored log mels were computed with another configuration than `mel`.
    """
    if raw.settings:
        if raw.settings != mel.settings:
            raise InputError(f"log mels with the settings {mel.settings}", raw.settings)
        return [torch.from_numpy(value) for value in raw.values]
    mels = []
    for i, sound in enumerate(raw.values):
        with error_context(**raw.error_fields(i)):
            mels.append(mel.log_mel(torch.from_numpy(resample(sound, mel.sample_rate).samples)))
    return mels
