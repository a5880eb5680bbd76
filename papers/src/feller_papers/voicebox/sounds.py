"""Sounds of log mels, and what is said in them, for those who listen to sounds."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from feller.data.loading.raw import Waveform
from feller.data.speech.griffin_lim import GriffinLim
from feller.evaluation.speech.asr import Whisper
from feller_papers.voicebox.digits import MEL, NAMES, RATE, Digits

BESIDE = 0.3
"""Seconds of silence at both ends of what is written down."""
VOCODER = GriffinLim()
LISTENER = Whisper(prompt=" ".join(NAMES))
"""Expects the names of digits."""


def sound_of(mel: Float[Tensor, "n bands"], digits: Digits) -> Waveform:
    """Return the sound of standardised log mels, by Griffin-Lim."""
    return Waveform(VOCODER.synthesize(mel * digits.scale.std + digits.scale.mean, MEL).numpy(), RATE)


def written(sounds: Sequence[Waveform]) -> list[str]:
    """Return what Whisper tiny.en hears, with silence before and after.

    Raises:
        UsageError: If it is not installed.
    """
    pause = np.zeros(int(BESIDE * RATE), dtype=np.float32)
    return LISTENER.transcribe(
        [Waveform(np.concatenate([pause, sound.samples, pause]), sound.sample_rate) for sound in sounds]
    )
