"""Small shards."""

import io
import pathlib
import tarfile
from collections.abc import Sequence

import numpy as np
from PIL import Image

Member = tuple[str, bytes]


def tar(path: pathlib.Path, members: Sequence[Member | tarfile.TarInfo]) -> pathlib.Path:
    """Write members in this order; a header without content is that of a link or device, or an invalid one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                file.addfile(member)
                continue
            header = tarfile.TarInfo(member[0])
            header.size = len(member[1])
            file.addfile(header, io.BytesIO(member[1]))
    return path


def png(pixels: np.ndarray) -> bytes:
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, "PNG")
    return packed.getvalue()


def pixels(n: int, side: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, side, side), dtype=np.uint8)


def pictures(folder: pathlib.Path, n: int = 40, shards: int = 4, side: int = 8) -> np.ndarray:
    """Write images of two alternating classes, equally many per shard, and return their pixels."""
    images = pixels(n, side)
    for shard, numbers in enumerate(np.array_split(np.arange(n), shards)):
        parts = [
            member
            for i in numbers.tolist()
            for member in ((f"{i:05d}.png", png(images[i])), (f"{i:05d}.cls", str(i % 2).encode()))
        ]
        tar(folder / f"train-{shard:03d}.tar", parts)
    return images
