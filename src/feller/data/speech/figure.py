"""Figures of recordings of speech: log mel spectrograms with phones below."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from feller.data.figures import figure_to_image, panels
from feller.data.speech.mel import FRAMES
from feller.data.speech.phones import BEGIN, PLACES, SIL, SINGLE

MAX_SOUNDS = 9
"""Maximum number of recordings in a figure; if there are more, the first recordings are shown."""
MAX_DRAWN_FRAMES = 600
"""Maximum number of frames that are drawn per recording."""
WIDTH, MIN_PANEL_WIDTH, WIDEST = 2.0, 3.0, 10.0
"""Width of a second of audio, and minimum and maximum width of a panel, in inches."""
HEIGHT = 2.1
"""Height of a panel in inches."""
LETTERS = 0.085
"""Width of a letter of a phone name in inches."""


@dataclass(frozen=True, eq=False)
class SpectrogramPanel:
    """Panel of a figure: a log mel spectrogram with annotations."""

    mel: Float[np.ndarray, "frames bands"]
    phones: tuple[tuple[str, int, int], ...] = ()
    """(name, first frame, length) of each phone."""
    recorded: Bool[np.ndarray, " longest"] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    """True for frames taken from a recording, which a green line marks."""


def spectrograms(sounds: Sequence[SpectrogramPanel], top: int, columns: int | None = None) -> Image.Image:
    """Draw log mel spectrograms on a common colour scale, with the phones below.

    Args:
        sounds: Spectrograms with their phones.
        top: Highest frequency of the mel bands in Hz, for the axis.
        columns: Number of panels per row of the figure; by default it depends on the panel width.
    """
    selected = sounds[:MAX_SOUNDS]
    max_frames = min(max(len(panel.mel) for panel in selected), MAX_DRAWN_FRAMES)
    width = float(np.clip(WIDTH * max_frames / FRAMES, MIN_PANEL_WIDTH, WIDEST))
    num_columns = columns or max(1, min(3, int(2 * WIDEST / width), round(len(selected) ** 0.5)))
    figure, axes = panels(len(selected), num_columns, width=width, height=HEIGHT)
    low, high = _range(selected)
    for axis, panel in zip(axes, selected, strict=True):
        mel = panel.mel[:MAX_DRAWN_FRAMES]
        seconds = len(mel) / FRAMES
        axis.imshow(
            mel.T,
            origin="lower",
            aspect="auto",
            extent=(0, seconds, 0, mel.shape[1]),
            vmin=low,
            vmax=high,
            cmap="magma",
        )
        axis.set_xlim(0, max_frames / FRAMES)
        axis.set_yticks([0, mel.shape[1]], ["0", f"{top / 1000:g} kHz"], fontsize=7)
        recorded_line = np.where(panel.recorded[:MAX_DRAWN_FRAMES][: len(mel)], mel.shape[1] * 0.985, np.nan)
        axis.plot((np.arange(len(recorded_line)) + 0.5) / FRAMES, recorded_line, color="#39d353", linewidth=2.5)
        _write_phones(axis, panel.phones, width / (max_frames / FRAMES))
        axis.tick_params(axis="x", labelsize=7, top=True, labeltop=True, bottom=False, labelbottom=False)
        axis.xaxis.set_major_formatter(lambda time, _: f"{time:g} s")
    return figure_to_image(figure, None, ())


def _range(sounds: Sequence[SpectrogramPanel]) -> tuple[float, float]:
    """Return the log mel values of the darkest and the brightest colour."""
    values = np.concatenate([panel.mel.reshape(-1) for panel in sounds])
    low, high = np.quantile(values, [0.02, 0.998])
    return float(low), float(max(high, low + 1e-3))


def _write_phones(axis: Any, phones: Sequence[tuple[str, int, int]], scale: float) -> None:
    """Write phones below the axis, staggered over three lines, and mark word boundaries."""
    line_ends = [-1.0, -1.0, -1.0]
    for name, start, length in phones:
        if start >= MAX_DRAWN_FRAMES:
            break
        if name.endswith((BEGIN, SINGLE)):
            axis.axvline(start / FRAMES, color="white", linewidth=0.7, alpha=0.6)
        if name == SIL:
            continue
        label = name[: -len(BEGIN)] if name.endswith(PLACES) else name
        centre, half = (start + length / 2) / FRAMES, LETTERS * (len(label) + 0.5) / 2 / scale
        line = next((i for i, end in enumerate(line_ends) if centre - half >= end), None)
        if line is None:
            continue
        line_ends[line] = centre + half
        transform = axis.get_xaxis_transform()
        axis.text(
            centre,
            -0.03 - 0.085 * line,
            label,
            transform=transform,
            ha="center",
            va="top",
            fontsize=7,
            parse_math=False,
        )
