"""Pictures of rows, each with a few words under it: what was learned from, and what attackers make of it."""

from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from feller.data.files.sample_folder import captioned
from feller.data.images.modality import Images

PICTURE_WIDTH = 96
"""Pixels of a picture, at least, so that there is room for words."""


def reconstructions_picture(
    kind: Images, lines: Sequence[tuple[UInt8[Tensor, "n c h w"], Sequence[str]]]
) -> Image.Image:
    """Draw lines of pictures, one below the other.

    Args:
        kind: Of the pictures.
        lines: Each of as many pictures, in the levels of their kind, with a few words for each.
    """
    columns = len(lines[0][1])
    whole = kind.show(torch.cat([values for values, _ in lines]), {}, columns)
    factor = -(-PICTURE_WIDTH * columns // whole.width)
    large = whole.resize((whole.width * factor, whole.height * factor), Image.Resampling.NEAREST)
    return captioned(large, [name for _, names in lines for name in names], columns)
