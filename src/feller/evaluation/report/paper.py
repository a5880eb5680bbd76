"""Figures whose letters can be read on the page."""

import io
from typing import Any

from PIL import Image

from feller.data.letters import save

DPI = 150
"""Pixels an inch: half as many again as the page shows."""


def paper(wide: float, high: float) -> Any:
    """Return an empty figure of so many inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(wide, high), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def painted(figure: Any) -> Image.Image:
    """Return a figure as a picture."""
    file = io.BytesIO()
    save(figure, file)
    return Image.open(file).convert("RGB")
