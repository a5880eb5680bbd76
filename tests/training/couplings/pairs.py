"""A process of `test_ranks.py`: couples its part of a batch of 7."""

import pathlib
import sys

import torch
import torch.distributed as dist

from feller.core.pytree import State, tree_map
from feller.core.rng import Rng
from feller.training.couplings import ClassConditional, Coupling, GlobalBatchCoupling, MinibatchOT, SinkhornCoupling

SIZE = 7
COUPLINGS: dict[str, Coupling] = {
    "transport": GlobalBatchCoupling(MinibatchOT()),
    "entropic": GlobalBatchCoupling(SinkhornCoupling(0.2)),
    "classes": GlobalBatchCoupling(ClassConditional(MinibatchOT())),
}


def couple(rows: slice) -> dict[str, State]:
    """Return the result of every coupling on some rows of a batch with two leaves, a label and padding."""
    draws = Rng(3)
    x_0 = {"a": draws.stream("a").normal((SIZE, 3, 2)), "b": draws.stream("b").uniform((SIZE, 3))}
    x_1 = {"a": 3 * draws.stream("c").normal((SIZE, 3, 2)), "b": draws.stream("d").randint(9, (SIZE, 3))}
    given = {"label": torch.arange(SIZE) % 2, "valid": torch.arange(3) < 1 + torch.arange(SIZE)[:, None] % 3}
    part = tree_map(lambda leaf: leaf[rows], {"x_0": x_0, "x_1": x_1, "cond": given})
    draws = Rng(5, rows.start, SIZE)
    return {name: coupling(**part, rng=draws.stream(name)) for name, coupling in COUPLINGS.items()}


if __name__ == "__main__":
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    rows = slice(SIZE * rank // ranks, SIZE * (rank + 1) // ranks)
    torch.save(couple(rows), pathlib.Path(sys.argv[1]) / f"{rank}.pt")
    dist.barrier()  # none hangs up while another still listens
    dist.destroy_process_group()
