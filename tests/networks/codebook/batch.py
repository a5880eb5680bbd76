"""Codebook updates on a batch; as a program, each process updates with its part."""

import pathlib
import sys

import torch
import torch.distributed as dist

from feller.core.rng import Rng
from feller.networks.codebook.vq_ema import EMACodebook, VectorQuantizerEMA

SIZE = 7
STEPS = 6


def codebook_after_batches(rows: slice) -> EMACodebook:
    """Return a codebook after updates with some rows of each batch, those of this process."""
    book = VectorQuantizerEMA(num_codes=12, dim=2, decay=0.8, dead_code_fraction=0.3).build()
    for step in range(STEPS):
        z = Rng(0).stream("z", step).normal((SIZE, 5, 2)) + step
        book.update(z[rows], Rng(0, rows.start, SIZE).fold_in(step))
    return book


if __name__ == "__main__":
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    book = codebook_after_batches(slice(SIZE * rank // ranks, SIZE * (rank + 1) // ranks))
    torch.save(book.state_dict(), pathlib.Path(sys.argv[1]) / f"{rank}.pt")
    dist.destroy_process_group()
