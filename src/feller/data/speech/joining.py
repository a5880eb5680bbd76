"""Sounds put together without clicks: one after the other, or pieces of a recording laid over a new one."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float32, Int64

from feller.data.loading.raw import Sound

FADE = 0.03
"""Seconds over which one sound goes over into the next."""
EDGE = 0.01
"""Seconds over which a recording goes over into what is new."""


def crossfaded(sounds: Sequence[Sound], seconds: float = FADE) -> Sound:
    """Return sounds of one rate one after the other, the end of each fading into the beginning of the next."""
    whole = sounds[0].samples
    for sound in sounds[1:]:
        n = min(round(seconds * sound.rate), len(whole), len(sound.samples))
        ramp = np.linspace(0, 1, n, dtype=np.float32)
        middle = whole[len(whole) - n :] * (1 - ramp) + sound.samples[:n] * ramp
        whole = np.concatenate([whole[: len(whole) - n], middle, sound.samples[n:]])
    return replace(sounds[0], samples=whole)


def laid_over(
    made: Sound, recorded: Sound, kept: Bool[np.ndarray, " frames"], origin: Int64[np.ndarray, " frames"], hop: int
) -> Sound:
    """Return a sound in which frames that are kept are the recording itself, fading into the others at their ends.

    Args:
        made: frames * hop samples.
        recorded: What the kept frames are of, at the same rate.
        kept: True is kept.
        origin: Frame of the recording that each kept one is.
        hop: Samples of a frame.
    """
    samples = made.samples.copy()
    for first, last in _runs(kept, origin):
        start, stop, source = first * hop, last * hop, int(origin[first]) * hop
        piece = recorded.samples[source : source + stop - start]
        weight = _weight(len(piece), round(EDGE * made.rate), rise=first > 0, fall=last < len(kept))
        own = samples[start : start + len(piece)]
        samples[start : start + len(piece)] = own * (1 - weight) + piece * weight
    return replace(made, samples=samples)


def _runs(kept: Bool[np.ndarray, " n"], origin: Int64[np.ndarray, " n"]) -> list[tuple[int, int]]:
    """Return where kept frames follow each other in the recording, too: the first, and the one behind the last."""
    runs: list[tuple[int, int]] = []
    for i in np.flatnonzero(kept).tolist():
        if runs and runs[-1][1] == i and origin[i] == origin[i - 1] + 1:
            runs[-1] = (runs[-1][0], i + 1)
        else:
            runs.append((i, i + 1))
    return runs


def _weight(n: int, edge: int, *, rise: bool, fall: bool) -> Float32[np.ndarray, " n"]:
    """Return 1, but for a rise at the beginning and a fall at the end, where they are wanted."""
    weight, edge = np.ones(n, dtype=np.float32), min(edge, n // 2)
    ramp = np.linspace(0, 1, edge + 2, dtype=np.float32)[1:-1]
    if rise:
        weight[:edge] = ramp
    if fall:
        weight[n - edge :] = ramp[::-1]
    return weight
