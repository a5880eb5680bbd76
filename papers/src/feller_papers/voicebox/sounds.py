"""Waveforms of log mels, and their transcripts."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from feller.data.loading.raw import Waveform
from feller.data.speech.griffin_lim import GriffinLim
from feller.evaluation.speech.asr import Whisper
from feller_papers.voicebox.digits import DIGIT_NAMES, MEL, RATE, Digits

PADDING_SECONDS = 0.3
"""Silence before and after each waveform, in seconds."""
VOCODER = GriffinLim()
ASR = Whisper(prompt=" ".join(DIGIT_NAMES))
"""Prompted with the names of the digits."""


def synthesize(mel: Float[Tensor, "n bands"], digits: Digits) -> Waveform:
    """Return the waveform of standardised log mels, by Griffin-Lim."""
    return Waveform(VOCODER.synthesize(mel * digits.scale.std + digits.scale.mean, MEL).numpy(), RATE)


def transcribe(sounds: Sequence[Waveform]) -> list[str]:
    """Return transcripts by Whisper tiny.en, with silence before and after.

    Raises:
        UsageError: If Whisper is not installed.
    """
    silence = np.zeros(int(PADDING_SECONDS * RATE), dtype=np.float32)
    return ASR.transcribe(
        [Waveform(np.concatenate([silence, sound.samples, silence]), sound.sample_rate) for sound in sounds]
    )
