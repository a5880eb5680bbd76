"""The picture of a recording, along which time goes evenly from edge to edge."""

import itertools
import pathlib

import numpy as np
from PIL import Image, ImageDraw

GROUND, INK = (24, 28, 33), (108, 195, 216)
"""Dark, so that white drawn over it is seen."""


def wave(path: pathlib.Path, size: tuple[int, int]) -> Image.Image:
    """Draw the loudest sample to either side in each column.

    Raises:
        InputError: If it is no sound.
    """
    samples = _samples(path)[0]
    width, height = size
    image = Image.new("RGB", size, GROUND)
    pen, top = ImageDraw.Draw(image), max(float(np.abs(samples).max(initial=0.0)), 1e-9)
    edges = np.linspace(0, len(samples), width + 1).astype(int)
    for x, (begin, end) in enumerate(itertools.pairwise(edges)):
        some = samples[begin : max(end, begin + 1)]
        low, high = (float(some.min(initial=0.0)) / top, float(some.max(initial=0.0)) / top)
        middle, half = height / 2, 0.46 * height
        pen.line((x, middle - half * high, x, middle - half * low), fill=INK)
    return image


def length_of(path: pathlib.Path) -> float:
    """Return the seconds of a recording."""
    samples, rate = _samples(path)
    return len(samples) / rate


def _samples(path: pathlib.Path) -> tuple[np.ndarray, int]:
    from feller.data.speech.audio_io import read_sound  # needs what speech needs

    found = read_sound(path).sound
    return np.asarray(found.samples, dtype=np.float64), found.rate
