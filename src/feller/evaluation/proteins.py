"""How protein-like proteins are, beside real ones: their structures, their sequences, and how these go together."""

import math

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from feller.core.rng import Draws
from feller.data.modality import Dataset
from feller.data.proteins.modality import structures
from feller.data.proteins.residues import LETTERS
from feller.evaluation.backbones import backbones_quality
from feller.evaluation.comparison import enough, pick, real_data
from feller.evaluation.ramachandran import FAVOURED, OUTLIER, judged, table_of, torsions
from feller.evaluation.sequences import COUNT, Bigram, composition, composition_distance, known

EXPLAIN = {
    "ramachandran_typed": "Share of residues whose torsions phi and psi are usual for their kind (the favoured 98 % of"
    " the Top8000 set): glycine, proline, those before a proline, isoleucine and valine, and all others are judged by"
    " tables of their own, so that the structure has to suit the sequence.",
    "ramachandran_typed_floor": "The same share of real chains.",
    "ramachandran_outliers": "Share of residues whose torsions hardly any residue of their kind has: below 0.05 % of"
    " the density of that set, 0.1 % for glycine, isoleucine and valine, 0.2 % for proline and those before it.",
    "ramachandran_outliers_floor": "The same share of real chains.",
    "composition_distance": "How far the shares of the 20 amino acids are from those of the training data: the share of"
    " residues that would have to be exchanged. Measured on as many chains as are held out.",
    "composition_distance_floor": "The same distance of as many held-out chains.",
    "bigram_perplexity": "How many amino acids a simple law of neighbours, learned from the training sequences, wavers"
    " between at each residue of the samples (exponential of the mean negative log-likelihood): far above the floor,"
    " sequences are unlike proteins; below it, they repeat what is common.",
    "bigram_perplexity_floor": "The same of held-out sequences.",
    "glycine_left": "Share of glycine among residues with a positive phi, where side chains hinder all others.",
    "glycine_left_floor": "The same share of real chains.",
    "residue_gain": "How much more probable residues are by their torsions than by their frequency alone, in nats a"
    " residue (a histogram of training chains in cells of 30 degrees): 0 if sequence and structure do not go together.",
    "residue_gain_floor": "The same of held-out chains.",
}
"""One plain sentence for each number."""

CELL = math.radians(30)
"""Width of a cell of the histogram of torsions."""
CELLS = 12
PRIOR = 20.0
"""Residues of usual frequency that are added to each cell."""


def proteins_quality(
    samples: Dataset, train: Dataset, held_out: Dataset, draws: Draws
) -> dict[str, float | str | None]:
    """Measure samples, and as a floor real chains: held-out ones, or training data where too few are held out.

    What is learned from the training data has a floor only where enough is held out. A number is None where no
    residues are known that it could be measured on.
    """
    numbers = backbones_quality(structures(samples), structures(train), structures(held_out), draws)
    floor = _of_torsions(real_data(train, held_out))
    for name, value in _of_torsions(samples).items():
        numbers |= {name: value, f"{name}_floor": floor[name]}
    unseen = held_out if enough(held_out) else held_out.subset(torch.arange(0))
    if len(unseen):
        alike = min(len(samples), len(unseen))
        some, others = pick(samples, alike, draws.named("samples")), pick(unseen, alike, draws.named("real"))
    else:
        some, others = samples, unseen
    numbers["composition_distance"] = composition_distance(some, train)
    numbers["composition_distance_floor"] = composition_distance(others, train)
    bigram, gains = Bigram.of(train), residue_gains(train)
    for data, end in ((samples, ""), (unseen, "_floor")):
        numbers[f"bigram_perplexity{end}"] = bigram.perplexity(data)
    for data, end in ((samples, ""), (unseen, "_floor")):
        numbers[f"residue_gain{end}"] = residue_gain(data, gains)
    return numbers


def _of_torsions(data: Dataset) -> dict[str, float | None]:
    """Return what torsions and kinds of residues say together."""
    phi, psi, residue, there = _inner(data)
    classes = judged(phi, psi, table_of(data.values["residue"].cpu()))[there]
    left = residue[there & (phi > 0)]
    return {
        "ramachandran_typed": _share(classes == FAVOURED),
        "ramachandran_outliers": _share(classes == OUTLIER),
        "glycine_left": _share(left == LETTERS.index("G")),
    }


def _share(marks: Bool[Tensor, " n"]) -> float | None:
    return marks.double().mean().item() if len(marks) else None


def _inner(
    data: Dataset,
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"], Int[Tensor, "n k"], Bool[Tensor, "n k"]]:
    """Return phi, psi and kind of all residues but the first and the last of a chain, and which are known."""
    phi, psi = torsions(data.values["atoms"].cpu().double())
    residue, there = known(data)
    return phi, psi, residue[:, 1:-1], there[:, 1:-1] & data.given["valid"]["position"].cpu()[:, 2:]


def _cells(phi: Float[Tensor, " n"], psi: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    rows, columns = (((torsion + math.pi) / CELL).long() % CELLS for torsion in (phi, psi))
    return rows * CELLS + columns


def residue_gains(train: Dataset) -> Float64[Tensor, "144 20"] | None:
    """Return log(p(residue | torsions) / p(residue)) for each cell of torsions; None where no residue is known."""
    usual = composition(train)
    if usual is None:
        return None
    usual = (usual + 1e-4) / (usual + 1e-4).sum()
    phi, psi, residue, there = _inner(train)
    cell = _cells(phi[there], psi[there]) * COUNT + residue[there]
    counts = torch.bincount(cell, minlength=CELLS**2 * COUNT).double().reshape(-1, COUNT) + PRIOR * usual
    return (counts / counts.sum(1, keepdim=True) / usual).log()


def residue_gain(data: Dataset, gains: Float64[Tensor, "144 20"] | None) -> float | None:
    """Return the mean gain of residues that are known; None where there are none."""
    phi, psi, residue, there = _inner(data)
    if gains is None or not there.any():
        return None
    return gains[_cells(phi[there], psi[there]), residue[there]].mean().item()
