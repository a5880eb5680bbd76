"""The colours that everything is drawn in: few and far apart, so that a picture says exactly which it has."""

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

COLOURS = {
    "red": (214, 38, 44),
    "orange": (246, 134, 32),
    "yellow": (252, 214, 52),
    "green": (44, 150, 62),
    "cyan": (84, 206, 226),
    "blue": (36, 72, 196),
    "purple": (130, 50, 172),
    "pink": (250, 142, 194),
    "white": (250, 250, 250),
    "gray": (122, 126, 132),
}
"""Of things and of grounds, by their names: red, green and blue from 0 to 255."""
BLACK = (0, 0, 0)
"""Ground of maps; nothing else is black."""
LIGHT = (255, 255, 255)
"""Lines of maps."""


def blank(side: int, colour: tuple[int, int, int]) -> UInt8[np.ndarray, "side side 3"]:
    """Return a picture of one colour."""
    return np.full((side, side, 3), colour, dtype=np.uint8)


def nearest_colours(pictures: UInt8[Tensor, "n 3 h w"]) -> Int64[Tensor, "n h w"]:
    """Return for each pixel the number of the nearest colour, in the order of `COLOURS`."""
    levels = pictures.permute(0, 2, 3, 1).float()
    palette = torch.tensor(list(COLOURS.values()), dtype=torch.float32, device=pictures.device)
    return (palette.square().sum(1) - 2 * levels @ palette.T).argmin(-1)  # less what all colours have in common


def grounds(colours: Int64[Tensor, "n h w"]) -> Int64[Tensor, " n"]:
    """Return the colour that most pixels of each picture have."""
    return F.one_hot(colours.flatten(1), len(COLOURS)).sum(1).argmax(1)
