"""Log mels of sounds that were found, or those that a file holds."""

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.errors import InputError
from feller.data.loading.raw import FoundSpeech, about
from feller.data.speech.audio_io import resampled
from feller.data.speech.speech_mel import Mel


def log_mels(found: FoundSpeech, mel: Mel) -> list[Float[Tensor, "_ bands"]]:
    """Return the log mels of sounds, or those that a file holds.

    Raises:
        InputError: If a sound is too short, or log mels were made in another way.
    """
    if found.settings:
        if found.settings != mel.settings:
            raise InputError(f"expected log mels with the settings {mel.settings}, got {found.settings}")
        return [torch.from_numpy(value) for value in found.values]
    mels = []
    for i, sound in enumerate(found.values):
        with about(found.called(i)):
            mels.append(mel.log_mel(torch.from_numpy(resampled(sound, mel.rate).samples)))
    return mels
