"""Which samples are compared with which real data."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from feller.core.rng import Draws
from feller.data.modality import Dataset
from feller.data.proteins.backbones import Backbones
from feller.data.proteins.modality import Proteins
from feller.evaluation.two_sample import nearest

EXPLAIN = {
    "nearest_ratio": "How far samples lie from the nearest training example, beside held-out data (medians): far below"
    " 1 hints that they copy the training data, far above 1 that they lie beside the data.",
}
"""What the numbers mean, for people."""
HELD_OUT, TRAINED = "held-out data", "training data"
"""What samples are compared with."""
LEAST = 50
"""Held-out examples below which a comparison with them would be chance."""
RESIDUES = 300
"""Held-out residues below which it would be, where the data are chains: each counts, though there are few chains."""
MOST = 10_000
"""Examples of each set that are compared; distances of all pairs are needed."""
QUERIES = 500
"""Examples whose nearest neighbour is looked for."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Sets cut so that a distance of the samples and its floor, the same distance of real data, have equal sizes."""

    samples: Dataset
    real: Dataset
    """What both are compared with: held-out data, or the training data where there are too few of those."""
    floor: Dataset | None
    """Training data, as many as samples; None where `real` are these already."""


def enough(held_out: Dataset) -> bool:
    """Tell whether so much is held out that what is measured of it is not chance."""
    if isinstance(held_out.modality, Backbones | Proteins):
        return residues(held_out) >= RESIDUES
    return len(held_out) >= LEAST


def residues(chains: Dataset) -> int:
    """Count the residues of chains."""
    valid = chains.given["valid"]
    return int((valid["position"] if isinstance(valid, dict) else valid).sum())


def real_data(train: Dataset, held_out: Dataset) -> Dataset:
    """Return what samples are set beside: held-out data, or the training data where too few are held out."""
    return held_out if enough(held_out) else train


def pick(dataset: Dataset, most: int, draws: Draws, purpose: str = "pick") -> Dataset:
    """Return at most so many examples, chosen at random; `purpose` is the address of the draw."""
    if len(dataset) <= most:
        return dataset
    return dataset.subset(torch.randperm(len(dataset), generator=draws.at(purpose).shared())[:most])


def compared(samples: Dataset, train: Dataset, held_out: Dataset) -> int:
    """Return how many samples are compared: all, but no more than there are training data for the floor."""
    return min(len(samples), MOST, len(train) if enough(held_out) else MOST)


def compare(samples: Dataset, train: Dataset, held_out: Dataset, draws: Draws) -> Comparison:
    """Choose at random where there are too many."""
    size = compared(samples, train, held_out)
    drawn = pick(samples, size, draws.named("samples"))
    real = pick(real_data(train, held_out), MOST, draws.named("real"))
    return Comparison(drawn, real, pick(train, size, draws.named("floor")) if enough(held_out) else None)


def flat(dataset: Dataset, like: Dataset) -> Float[Tensor, "n d"]:
    """Return the states of examples as vectors, in the units of a data set's modality."""
    return like.modality.encode(dataset.values).float().flatten(1)


def nearest_ratio(samples: Dataset, train: Dataset, held_out: Dataset, draws: Draws) -> float | None:
    """Divide the median distance to the nearest training example of samples by that of held-out data.

    None if too few are held out, or if most of them are copies of training data.
    """
    if not enough(held_out):
        return None
    drawn = flat(pick(samples, QUERIES, draws.named("samples")), train)
    unseen = flat(pick(held_out, QUERIES, draws.named("held out")), train)
    both, best = torch.cat([drawn, unseen]), torch.full((len(drawn) + len(unseen),), torch.inf, dtype=torch.float64)
    for rows in torch.arange(len(train)).split(MOST):
        best = torch.minimum(best, nearest(both, flat(train.subset(rows), train)))
    usual = best[len(drawn) :].median().item()
    copies = usual <= 1e-6 * unseen.double().std(0).norm().item()  # distances of copies are zero up to rounding
    return None if copies else best[: len(drawn)].median().item() / usual
