"""How people would rate sounds, guessed by a network that has seen many ratings."""

from dataclasses import dataclass

import numpy as np

from feller.core.errors import InputError
from feller.core.optional_dependency import require_package
from feller.data.loading.raw import Waveform
from feller.data.speech.audio_io import resample

RATE = 16_000
"""Samples of a second that it hears."""
WINDOW = 144_160
"""Samples that it hears at once: 9.01 s."""
MIN_SECONDS = 0.1
"""Seconds, at least."""


@dataclass(frozen=True)
class MOSRatings:
    """Ratings from 1, bad, to 5, excellent."""

    overall: float
    speech: float
    """Of the voice alone."""
    background: float
    """Of what is heard besides: 5 is quiet."""


def opinion(sound: Waveform) -> MOSRatings:
    """Return the ratings of DNSMOS P.835, which are those of noise and of damage done by removing it.

    It knows nothing of the text and little of how natural a voice is. What is louder than 1 is cut off, as in a file.
    A sound of less than 9 s is repeated to fill one window; the package itself repeats it to fill up to nine, which
    takes five times as long, and finds ratings that are within 0.1 of these, on average.

    Source: Reddy et al. 2022, "DNSMOS P.835", arXiv 2110.01763.

    Raises:
        InputError: If the sound is shorter than 0.1 s or not finite.
    """
    dnsmos = require_package("speechmos.dnsmos", "rating sounds", "judges")
    samples = resample(sound, RATE).samples
    if len(samples) < MIN_SECONDS * RATE or not np.isfinite(samples).all():
        raise InputError(f"a sound of {MIN_SECONDS:g} s or more, finite", f"{sound.seconds:.2f} s")
    filled = samples if len(samples) >= WINDOW else np.resize(samples, WINDOW)
    found = dnsmos.run(np.clip(filled, -1, 1), sr=RATE)
    return MOSRatings(float(found["ovrl_mos"]), float(found["sig_mos"]), float(found["bak_mos"]))
