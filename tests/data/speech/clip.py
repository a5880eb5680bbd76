"""Real clips with their transcripts."""

import pathlib

from feller.data.loading.raw import Waveform
from feller.data.speech.audio_io import read_sound, resample

CLIPS = pathlib.Path(__file__).parent / "clips"
TEXTS = {
    "sense-0880.flac": "He was not an ill-disposed young man.",
    "LJ001-0002.flac": "in being comparatively modern.",
    "LJ001-0008.flac": "has never been surpassed.",
}
SHARED = pathlib.Path(__file__).parents[4] / "shared" / "data" / "speech"
"""Larger data sets, which may be missing."""


def clip(name: str, rate: int = 16_000) -> Waveform:
    """Return a clip resampled to `rate`."""
    return resample(read_sound(CLIPS / name).sound, rate)
