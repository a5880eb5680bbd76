"""Sounds of log mels, and what is said in them, for those who listen to sounds."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from feller.data.loading.raw import Waveform
from feller.data.speech.griffin_lim import GriffinLim
from feller.evaluation.speech.asr import Whisper
from feller_papers.voicebox.digits import DIGIT_NAMES, MEL, RATE, Digits

PADDING_SECONDS = 0.3
"""Seconds of silence at both ends of what is written down."""
VOCODER = GriffinLim()
ASR = Whisper(prompt=" ".join(DIGIT_NAMES))
"""Expects the names of digits."""


def synthesize(mel: Float[Tensor, "n bands"], digits: Digits) -> Waveform:
    """Return the sound of standardised log mels, by Griffin-Lim."""
    return Waveform(VOCODER.synthesize(mel * digits.scale.std + digits.scale.mean, MEL).numpy(), RATE)


def transcribe(sounds: Sequence[Waveform]) -> list[str]:
    """Return what Whisper tiny.en hears, with silence before and after.

    Raises:
        UsageError: If it is not installed.
    """
    silence = np.zeros(int(PADDING_SECONDS * RATE), dtype=np.float32)
    return ASR.transcribe(
        [Waveform(np.concatenate([silence, sound.samples, silence]), sound.sample_rate) for sound in sounds]
    )
