"""Metrics of vocoders: spectral error, log mel error and real-time factor of resynthesized sounds."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from feller.data.loading.raw import Waveform
from feller.data.speech.griffin_lim import Vocoder
from feller.data.speech.mel import MelConfig
from feller.training.objectives.autoencoding import default_window_sizes, spectral_difference


@dataclass(frozen=True, eq=False)
class VocoderScores:
    """Sounds resynthesized by a vocoder, their errors, and the vocoder's speed."""

    sounds: tuple[Waveform, ...]
    spectral_error: float
    """Spectral difference between resynthesized and real sounds, averaged over sounds."""
    log_mel_error: float
    """Absolute difference between the log mels of resynthesized and real sounds, averaged over frames."""
    real_time_factor: float
    """Seconds of computation per second of sound."""


def vocoder_scores(vocoder: Vocoder, real: Sequence[Waveform], mel: MelConfig) -> VocoderScores:
    """Resynthesize real sounds from their log mel spectrograms with a vocoder; measure errors and speed.

    `mel` are the settings of these spectrograms, which must be those that the vocoder expects.
    """
    made, spectral, mel_error, frames, seconds = [], 0.0, 0.0, 0, 0.0
    for sound in real:
        target_mel = mel.log_mel(torch.from_numpy(sound.samples))
        start_time = time.perf_counter()
        samples = vocoder.synthesize(target_mel, mel)
        seconds += time.perf_counter() - start_time
        mel_error += float((mel.log_mel(samples) - target_mel).abs().mean(1).sum())
        frames += len(target_mel)
        spectral += _spectral_distance(
            samples, torch.from_numpy(sound.samples[: len(samples)]), default_window_sizes(mel.n_fft)
        )
        made.append(Waveform(samples.numpy().astype(np.float32), mel.sample_rate))
    return VocoderScores(
        tuple(made), spectral / len(made), mel_error / frames, seconds / (frames * mel.hop_length / mel.sample_rate)
    )


def _spectral_distance(made: Float[Tensor, " n"], real: Float[Tensor, " n"], windows: Sequence[int]) -> float:
    """Return the mean spectral difference over window sizes; short sounds are zero-padded."""
    padding = max(max(windows) - len(real), 0)
    a, b = (torch.nn.functional.pad(sound, (0, padding))[None] for sound in (made, real))
    return sum(spectral_difference(a, b, window).item() for window in windows) / len(windows)
