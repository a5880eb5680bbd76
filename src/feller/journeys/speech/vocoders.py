"""What makes sounds of log mels, by its name."""

from feller.data.speech.mel import Mel
from feller.data.speech.vocode import GriffinLim, Vocoder


def vocoder_of(place: str, settings: Mel) -> Vocoder:
    """Return Griffin-Lim."""
    return GriffinLim()
