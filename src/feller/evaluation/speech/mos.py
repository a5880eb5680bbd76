"""Predicted mean opinion scores of sounds (DNSMOS P.835)."""

from dataclasses import dataclass

import numpy as np

from feller.core.errors import InputError
from feller.core.optional_dependency import require_package
from feller.data.loading.raw import Waveform
from feller.data.speech.audio_io import resample

RATE = 16_000
"""Sample rate in Hz."""
WINDOW = 144_160
"""Samples per window: 9.01 s."""
MIN_SECONDS = 0.1
"""Minimum length of a sound, in seconds."""


@dataclass(frozen=True)
class MOSRatings:
    """Mean opinion scores from 1 (bad) to 5 (excellent)."""

    overall: float
    speech: float
    """Score of the voice."""
    background: float
    """Score of the background; 5 is quiet."""


def opinion(sound: Waveform) -> MOSRatings:
    """Return the scores of DNSMOS P.835, which measures noise and denoising artifacts.

    The scores ignore the text, and naturalness has little influence. Samples are clipped to [-1, 1]. A sound of less
    than 9 s is repeated to fill one window. The original package fills up to nine windows, which takes five times as
    long; the scores agree within 0.1 on average.

    Source: Reddy et al. 2022, "DNSMOS P.835", arXiv 2110.01763.

    Raises:
        InputError: If the sound is shorter than 0.1 s or not finite.
    """
    dnsmos = require_package("speechmos.dnsmos", "predicting opinion scores", "judges")
    samples = resample(sound, RATE).samples
    if len(samples) < MIN_SECONDS * RATE or not np.isfinite(samples).all():
        raise InputError(f"a finite sound of at least {MIN_SECONDS:g} s", f"{sound.seconds:.2f} s")
    filled = samples if len(samples) >= WINDOW else np.resize(samples, WINDOW)
    found = dnsmos.run(np.clip(filled, -1, 1), sr=RATE)
    return MOSRatings(float(found["ovrl_mos"]), float(found["sig_mos"]), float(found["bak_mos"]))
