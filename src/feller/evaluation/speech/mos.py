"""Predicted mean opinion scores of sounds (DNSMOS P.835)."""

from dataclasses import dataclass

import numpy as np

from feller.core.errors import InputError
from feller.core.optional_dependency import require_package
from feller.data.loading.raw import Waveform
from feller.data.speech.audio_io import resample

RATE = 16_000
"""Sample rate of DNSMOS in Hz."""
WINDOW = 144_160
"""Number of audio samples per window of 9.01 s."""
MIN_SECONDS = 0.1
"""Minimum length of a rated sound, in seconds."""


@dataclass(frozen=True)
class MOSRatings:
    """Predicted mean opinion scores of a sound, from 1 (bad) to 5 (excellent)."""

    overall: float
    speech: float
    """Quality score of the voice."""
    background: float
    """Quality score of the background noise; 5 means a quiet background."""


def opinion(sound: Waveform) -> MOSRatings:
    """Return the DNSMOS P.835 scores of a sound, which measure noise and denoising artifacts.

    The scores do not depend on the text, and hardly on naturalness. Audio samples are clipped to [-1, 1]. A sound
    shorter than 9 s is repeated to fill one window. The original package fills up to nine windows, which takes five
    times as long; on average its scores differ by less than 0.1.

    Source: Reddy et al. 2022, "DNSMOS P.835", arXiv 2110.01763.

    Raises:
        InputError: If the sound is shorter than 0.1 s or not finite.
    """
    dnsmos = require_package("speechmos.dnsmos", "predicting opinion scores", "judges")
    samples = resample(sound, RATE).samples
    if len(samples) < MIN_SECONDS * RATE or not np.isfinite(samples).all():
        raise InputError(f"a finite sound of at least {MIN_SECONDS:g} s", f"{sound.seconds:.2f} s")
    window = samples if len(samples) >= WINDOW else np.resize(samples, WINDOW)
    ratings = dnsmos.run(np.clip(window, -1, 1), sr=RATE)
    return MOSRatings(float(ratings["ovrl_mos"]), float(ratings["sig_mos"]), float(ratings["bak_mos"]))
