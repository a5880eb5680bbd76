"""Resizing of images to one size: centre crop to the aspect ratio, then resize."""

from collections import Counter

import numpy as np
from PIL import Image

MAX_SIDE = 64
"""Maximum longer side in pixels; larger images are downscaled to it if no size is given."""

Size = tuple[int, int]
"""Width and height in pixels, in this order as in Pillow."""


MIN_COMMON = 0.5
"""Fraction of the images that must have the same size, or the same aspect ratio, for it to be kept."""


def common_size(sizes: list[Size]) -> Size:
    """Return the size of most images; without one, a size with the aspect ratio of most; without that, a square.

    The size is that of at least half of the images; on ties, the size closest to a square, then the largest size.
    Otherwise, the longer side is the median of the images with the common aspect ratio, or the side of the square is
    the median of the shorter sides.
    """
    counts = Counter(sizes)
    size = max(counts, key=lambda s: (counts[s], min(s) / max(s), s[0] * s[1], s))
    if counts[size] >= MIN_COMMON * len(sizes):
        return size
    ratios = Counter(round(width / height, 2) for width, height in sizes)
    ratio, count = max(ratios.items(), key=lambda entry: (entry[1], entry[0]))
    if count >= MIN_COMMON * len(sizes):
        alike = sorted((s for s in sizes if round(s[0] / s[1], 2) == ratio), key=lambda s: (max(s), s))
        return alike[len(alike) // 2]
    side = sorted(map(min, sizes))[len(sizes) // 2]
    return side, side


def target_size(common: Size, size: int | None, limit: int | None = MAX_SIDE) -> Size:
    """Scale a size, keeping its aspect ratio: the longer side becomes `size`, or at most `limit` if `size` is None."""
    longer = max(common)
    target = size or min(longer, limit or longer)
    return (max(1, round(common[0] * target / longer)), max(1, round(common[1] * target / longer)))


def crop_and_resize(image: Image.Image, to: Size) -> Image.Image:
    """Crop around the centre to the aspect ratio of `to`, then resize."""
    if image.size == to:
        return image
    width, height = image.size
    scale = min(width / to[0], height / to[1])
    left, top = max(0.0, (width - scale * to[0]) / 2), max(0.0, (height - scale * to[1]) / 2)
    box = (left, top, min(width, left + scale * to[0]), min(height, top + scale * to[1]))
    return image.resize(to, Image.Resampling.LANCZOS, box=box)


def to_pixels(image: Image.Image) -> np.ndarray:
    """Convert a gray or RGB image to uint8 [h, w, c]."""
    values = np.array(image)
    return values[:, :, None] if values.ndim == 2 else values


def from_pixels(values: np.ndarray) -> Image.Image:
    """Convert uint8 [h, w, c], c = 1 or 3, to a gray or RGB image."""
    return Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values)


def resize_notes(sizes: list[Size], to: Size) -> tuple[str, ...]:
    """Return a note with the numbers of images that were cropped or resized from `sizes` to `to`; empty if none was."""
    others = Counter(size for size in sizes if size != to)
    if not others:
        return ()
    listed = ", ".join(f"{count} of {w}x{h}" for (w, h), count in others.most_common(3))
    other_sizes = f" and {len(others) - 3} other sizes" if len(others) > 3 else ""
    cropped = sum(count for (w, h), count in others.items() if round(w * to[1] / to[0]) != h)
    crop_note = f", {cropped} of them cropped to that aspect ratio" if cropped else ""
    num_resized = others.total()
    return (f"{num_resized} of {len(sizes)} images were resized to {to[0]}x{to[1]} ({listed}{other_sizes}){crop_note}",)


def resize_arrays(values: np.ndarray, size: int | None, limit: int | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Resize an array of equal-sized images, uint8 [n, h, w, c], to the size given by `target_size`.

    Also return notes, which are empty if nothing changed.
    """
    original = (values.shape[2], values.shape[1])
    target = target_size(original, size, limit)
    if target == original:
        return values, ()
    resized = np.stack([to_pixels(crop_and_resize(from_pixels(value), target)) for value in values])
    clipped = np.minimum(resized, values.max((1, 2, 3), keepdims=True))  # Lanczos resampling overshoots at edges
    return clipped, resize_notes([original] * len(values), target)
