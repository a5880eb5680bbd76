"""Pictures out of tar shards: examples in an order that resumes, against webdataset's stream over the same files."""

import io
import itertools
import pathlib
import tarfile
import tempfile
from collections.abc import Iterator

import numpy as np
import torch
import webdataset
from PIL import Image

from benchmarks.timing import Case
from feller.core.rng import Rng
from feller.data.batches import batch_loader
from feller.data.loading.dataset_reader import read

SHARDS, EACH, BATCH = 8, 256, 64
KEPT: list[tempfile.TemporaryDirectory[str]] = []
"""Folders that live as long as the process."""


def cases() -> Iterator[Case]:
    for side in (32, 128):
        yield _epoch(side)


def _written(side: int) -> str:
    """Write gray pictures with classes; return the name of the shards."""
    folder = tempfile.TemporaryDirectory()
    KEPT.append(folder)
    generator, coarse = np.random.default_rng(0), side // 4
    for shard in range(SHARDS):
        with tarfile.open(pathlib.Path(folder.name) / f"{shard:03d}.tar", "w") as tar:
            for i in range(EACH):
                pixels = np.kron(
                    generator.integers(0, 256, (coarse, coarse), dtype=np.uint8), np.ones((4, 4), np.uint8)
                )
                packed = io.BytesIO()
                Image.fromarray(pixels).save(packed, "PNG")
                for ending, content in (("png", packed.getvalue()), ("cls", str(i % 10).encode())):
                    header = tarfile.TarInfo(f"{shard:03d}{i:05d}.{ending}")
                    header.size = len(content)
                    tar.addfile(header, io.BytesIO(content))
    return f"{folder.name}/{{000..{SHARDS - 1:03d}}}.tar"


def _epoch(side: int) -> Case:
    """Read each picture once, decoded, as numbers about -1 to 1 in batches on one thread."""
    name, n = _written(side), SHARDS * EACH
    feed = batch_loader(read(name, longest=side), BATCH, Rng(0))._read  # without the thread that reads ahead

    def feller() -> int:
        return sum(len(feed(step, slice(0, BATCH))["x_1"]) for step in range(n // BATCH))

    def peer() -> int:
        examples = (
            webdataset.WebDataset(name, shardshuffle=SHARDS, seed=0)
            .shuffle(1000)
            .decode("torchl")
            .to_tuple("png", "cls")
        )
        pictures = (2 * torch.as_tensor(picture) - 1 for picture, _ in examples)
        count = 0
        while some := list(itertools.islice(pictures, BATCH)):
            count += len(torch.stack(some))
        return count

    if feller() != n or peer() != n:
        raise RuntimeError("the two do not read as many")
    return Case(
        f"an epoch of {n:,} pictures of {side} x {side} in {SHARDS} shards", {"feller": feller, "webdataset": peer}, 5
    )
