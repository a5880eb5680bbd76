"""Networks that make sounds of log mels, for models that draw these."""

from feller.data.modality import Dataset
from feller.data.speech.sounds import Sounds
from feller.models.recipes.recipe import Recipe, need
from feller.networks.audio.spectral_vocoder import SpectralVocoder
from feller.paths.resynthesis import Resynthesis
from feller.training.objectives.vocoding import Vocoding, usual_windows
from feller.training.optimizer import Training

VOCODER_SIZES = {"tiny": (64, 2, 2.0), "small": (192, 6, 20.0), "base": (384, 8, 120.0)}
"""Features, blocks and minutes."""
PIECE = 32
"""Frames that are learned at once."""


def vocoder(data: Dataset, size: str) -> Recipe:
    """Sounds are resynthesised from their log mels; no texts are needed.

    On one processor it needs a tenth of the time of Griffin-Lim. After two minutes of training it made better digits at
    8 kHz, as judged by networks for voices and for quality; after five, worse sentences at 16 kHz: those want more.

    Raises:
        UsageError: If the data are no sounds.
    """
    modality = need(data.modality, Sounds, "vocoder", "a folder of sounds")
    mel = modality.mel
    width, depth, minutes = VOCODER_SIZES[size]
    windows = usual_windows(mel.fft)
    piece = max(PIECE, -(-windows[-1] // mel.hop)) * mel.hop
    return Recipe(
        architecture=SpectralVocoder(mel, width, depth),
        objective=Vocoding(Resynthesis(), modality.space(), windows=windows, piece=piece),
        train=Training(batch=16, lr=2e-3, minutes=minutes),
    )
