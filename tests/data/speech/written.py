"""Folders of real clips."""

import pathlib
import shutil

import numpy as np
import soundfile

from tests.data.speech.clip import CLIPS, TEXTS


def pairs(folder: pathlib.Path, inner: str = "") -> pathlib.Path:
    """Copy the clips with their transcripts."""
    place = folder / inner
    place.mkdir(parents=True, exist_ok=True)
    for name, text in TEXTS.items():
        shutil.copy(CLIPS / name, place / name)
        (place / name).with_suffix(".txt").write_text(text)
    return folder


def noise(path: pathlib.Path, seconds: float = 1.0, rate: int = 16_000) -> pathlib.Path:
    """Write a recording of white noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.random.default_rng(0).standard_normal(int(seconds * rate))
    soundfile.write(path, samples, rate)
    return path
