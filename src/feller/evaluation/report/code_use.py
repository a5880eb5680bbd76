"""Pictures of what a tokeniser does: originals above their copies, and how often each code is used."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from feller.data.figures import INK, finish, panels
from feller.data.images.modality import Images


def copies_picture(
    kind: Images, real: UInt8[Tensor, "n c h w"], made: UInt8[Tensor, "n c h w"], columns: int
) -> Image.Image:
    """Draw rows of pictures, each above a row of their copies; those that do not fill a row are left out."""
    columns = min(columns, len(real))
    whole = slice(len(real) // columns * columns)
    real, made = real[whole], made[whole]
    rows = [part for pair in zip(real.split(columns), made.split(columns), strict=True) for part in pair]
    return kind.show(torch.cat(rows), {}, columns)


def use_picture(shares: Float[np.ndarray, " count"]) -> Image.Image:
    """Draw a histogram of the use of codes: how many of them have which share, from never to the commonest."""
    figure, (axes,) = panels(1, 1, width=5.6, height=3.2)
    percent = 100 * shares
    axes.hist(percent, bins=min(40, max(5, len(shares) // 4)), color=INK)
    even = 100 / len(shares)
    axes.axvline(even, color="#888888", linewidth=1)
    axes.annotate("even use", (even, 1), xycoords=("data", "axes fraction"), color="#555555", fontsize=8, va="bottom")
    axes.set_xlabel("share of all codes written, in percent")
    axes.set_ylabel("codes")
    return finish(figure, None, ())
