"""Metrics of proteins: structures, sequences, and their consistency."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor
from torch.nn import functional

from feller.core.pytree import tree_map
from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.data.proteins.modality import backbones_only
from feller.data.proteins.residues import LETTERS
from feller.evaluation.backbone_metrics import (
    FAVOURED,
    OUTLIER,
    backbones_quality,
    ramachandran_class,
    ramachandran_table_index,
    torsions,
)
from feller.evaluation.comparison import has_enough_held_out, reference_data, subsample, with_floors
from feller.models.families.model_family import default_batch_size
from feller.models.model import Model

COUNT = len(LETTERS)
STRUCTURE = ("rotation", "position")
"""Names of the components (leaves) of the state that hold the atom positions."""
MAX_CHAINS = 100
"""Maximum number of chains for the sequence perplexity."""


def observed_residues(data: Dataset) -> tuple[Int[Tensor, "n l"], Bool[Tensor, "n l"]]:
    """Return the residue types of chains, and the mask of known residues."""
    return data.values["residue"].cpu(), data.given["valid"]["residue"].cpu()


def composition(data: Dataset) -> Float64[Tensor, " 20"] | None:
    """Return the fraction of each amino acid; None if no residue is known."""
    residue, mask = observed_residues(data)
    counts = torch.bincount(residue[mask], minlength=COUNT).double()
    return counts / counts.sum() if counts.sum() else None


def composition_distance(some: Dataset, others: Dataset) -> float | None:
    """Return the total variation distance between the amino acid fractions of two sets; None without known residues."""
    first, second = composition(some), composition(others)
    return None if first is None or second is None else (first - second).abs().sum().item() / 2


@dataclass(frozen=True)
class Bigram:
    """Bigram model of amino acid sequences with Witten-Bell smoothing.

    Source: Witten and Bell 1991, "The zero-frequency problem", method C.
    """

    unigram: Float64[Tensor, " 20"]
    """Probability of a residue type at the start of a chain or after an unknown residue."""
    bigram: Float64[Tensor, "20 20"]
    """Probability of a residue type (column) after another residue type (row)."""

    @classmethod
    def fit(cls, data: Dataset) -> "Bigram":
        """Fit the bigram model to the known residues of chains."""
        residue, mask = observed_residues(data)
        prior = torch.bincount(residue[mask], minlength=COUNT).double() + 1  # add-one smoothing: no zero probability
        prior = prior / prior.sum()
        is_pair = mask[:, 1:] & mask[:, :-1]
        pairs = residue[:, :-1][is_pair] * COUNT + residue[:, 1:][is_pair]
        counts = torch.bincount(pairs, minlength=COUNT**2).double().reshape(COUNT, COUNT)
        num_followers = (counts > 0).sum(1, keepdim=True).clamp(min=1)
        return cls(prior, (counts + num_followers * prior) / (counts.sum(1, keepdim=True) + num_followers))

    def perplexity(self, data: Dataset) -> float | None:
        """Return the perplexity of the known residues of chains; None if no residue is known."""
        residue, mask = observed_residues(data)
        if not mask.any():
            return None
        probability = self.unigram[residue]
        conditional = self.bigram[residue[:, :-1], residue[:, 1:]]
        probability[:, 1:] = torch.where(mask[:, :-1], conditional, probability[:, 1:])
        return math.exp(-probability[mask].log().mean().item())


@torch.no_grad()
def sequence_perplexity(model: Model, data: Dataset, rng: Rng, *, nfe: int = 16) -> float | None:
    """Return an upper bound on the model's perplexity of the known residues of chains, given their structures.

    The model can unmask residues in any order. The bound on the negative log-likelihood is the sequence length times
    the mean cross-entropy of masked residues, averaged over the number of masked residues and over random masks.
    Source: Uria et al. 2014, "A deep and tractable density estimator", arXiv 1310.1757.

    Args:
        model: Protein model.
        data: Chains with known sequences; their structures are held fixed.
        rng: Random streams for the masks.
        nfe: Number of masks per chain, which is the number of network evaluations.

    Returns:
        The bound on the perplexity, at least 1; None if no residue is known, or if the model cannot condition on
        structures.
    """
    if not {*STRUCTURE} <= {*model.spec.conditionable} or not data.given["valid"]["residue"].any():
        return None
    chains, nats, num_residues = subsample(data, MAX_CHAINS, rng), 0.0, 0
    size = default_batch_size(model.spec.space, next(model.network.parameters()).device)
    for start in range(0, len(chains), size):
        batch = chains.subset(torch.arange(start, min(start + size, len(chains))))
        nats += _sequence_nll(model, batch, replace(rng, first_example=start), nfe)
        num_residues += int(batch.given["valid"]["residue"].sum())
    return math.exp(nats / num_residues)


def _sequence_nll(model: Model, data: Dataset, rng: Rng, nfe: int) -> float:
    """Return the bound on the negative log-likelihood of all known residues, in nats."""
    device = next(model.network.parameters()).device
    x_1 = tree_map(lambda leaf: leaf.to(device), model.spec.modality.encode(data.values))
    cond = tree_map(lambda leaf: leaf.to(device), data.given)
    valid, path, total = cond["valid"]["residue"], model.spec.path, 0.0
    length = valid.sum(1)
    for k in range(nfe):
        stream = rng.stream("masks", k)
        masked_fraction = (k + stream.uniform((len(data), 1), device=device)[:, 0]) / nfe
        rank = torch.where(valid, stream.uniform(valid.shape, device=device), torch.inf).argsort(1).argsort(1)
        masked = valid & (rank < ((masked_fraction * length).floor() + 1)[:, None])
        t = (1 - masked.sum(1) / length.clamp(min=1)).float()
        times = {**{name: torch.ones_like(t) for name in STRUCTURE}, "residue": t}
        x_t = {**x_1, "residue": torch.where(masked, COUNT, x_1["residue"])}
        logits = path.complete_prediction(model.network.eval()(x_t, times, cond), x_t, times)["residue"]
        loss = functional.cross_entropy(logits.double().movedim(-1, 1), x_1["residue"], reduction="none")
        mean = torch.where(masked, loss, 0).sum(1) / masked.sum(1).clamp(min=1)
        total += (mean * length).sum().item() / nfe
    return total


CELL = math.radians(30)
"""Cell width of the torsion histogram, in radians."""
CELLS = 12
PRIOR_COUNT = 20.0
"""Total pseudocount per cell of the torsion histogram, divided among residue types in proportion to their
frequencies."""


def proteins_quality(samples: Dataset, train: Dataset, held_out: Dataset, rng: Rng) -> dict[str, float | str | None]:
    """Compute metrics of samples, each with its floor, which is the same metric of real chains.

    The real chains are the held-out data, or the training data if too few are held out.

    Metrics that use statistics of the training data, such as the bigram model, have a floor only if enough chains are
    held out. Metrics of residues are None if no residue is known.
    """
    metrics = backbones_quality(backbones_only(samples), backbones_only(train), backbones_only(held_out), rng)
    metrics |= with_floors(_torsion_metrics(samples), _torsion_metrics(reference_data(train, held_out)))
    held_out_chains = held_out if has_enough_held_out(held_out) else held_out.subset(torch.arange(0))
    if len(held_out_chains):
        size = min(len(samples), len(held_out_chains))
        sample_subset, held_out_subset = (
            subsample(samples, size, rng.fold_in("samples")),
            subsample(held_out_chains, size, rng.fold_in("real")),
        )
    else:
        sample_subset, held_out_subset = samples, held_out_chains
    metrics["composition_distance"] = composition_distance(sample_subset, train)
    metrics["composition_distance_floor"] = composition_distance(held_out_subset, train)
    bigram, gains = Bigram.fit(train), residue_gains(train)
    for data, suffix in ((samples, ""), (held_out_chains, "_floor")):
        metrics[f"bigram_perplexity{suffix}"] = bigram.perplexity(data)
    for data, suffix in ((samples, ""), (held_out_chains, "_floor")):
        metrics[f"residue_gain{suffix}"] = residue_gain(data, gains)
    return metrics


def _torsion_metrics(data: Dataset) -> dict[str, float | None]:
    """Return metrics of torsions by residue type."""
    phi, psi, residue, mask = _inner_residues(data)
    classes = ramachandran_class(phi, psi, ramachandran_table_index(data.values["residue"].cpu()))[mask]
    positive_phi = residue[mask & (phi > 0)]
    return {
        "ramachandran_typed": _fraction(classes == FAVOURED),
        "ramachandran_outliers": _fraction(classes == OUTLIER),
        "glycine_left": _fraction(positive_phi == LETTERS.index("G")),
    }


def _fraction(mask: Bool[Tensor, " n"]) -> float | None:
    return mask.double().mean().item() if len(mask) else None


def _inner_residues(
    data: Dataset,
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n k"], Int[Tensor, "n k"], Bool[Tensor, "n k"]]:
    """Return phi, psi and type of all residues but the first and last of a chain, and the mask of known ones."""
    phi, psi = torsions(data.values["atoms"].cpu().double())
    residue, mask = observed_residues(data)
    return phi, psi, residue[:, 1:-1], mask[:, 1:-1] & data.given["valid"]["position"].cpu()[:, 2:]


def _cells(phi: Float[Tensor, " n"], psi: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    rows, columns = (((torsion + math.pi) / CELL).long() % CELLS for torsion in (phi, psi))
    return rows * CELLS + columns


def residue_gains(train: Dataset) -> Float64[Tensor, "144 20"] | None:
    """Return log(p(residue | torsions) / p(residue)), in nats, for each cell of the torsion histogram and residue type.

    The probabilities are estimated from the training chains. Return None if no residue is known.
    """
    frequencies = composition(train)
    if frequencies is None:
        return None
    frequencies = (frequencies + 1e-4) / (frequencies + 1e-4).sum()
    phi, psi, residue, mask = _inner_residues(train)
    cell = _cells(phi[mask], psi[mask]) * COUNT + residue[mask]
    counts = torch.bincount(cell, minlength=CELLS**2 * COUNT).double().reshape(-1, COUNT) + PRIOR_COUNT * frequencies
    return (counts / counts.sum(1, keepdim=True) / frequencies).log()


def residue_gain(data: Dataset, gains: Float64[Tensor, "144 20"] | None) -> float | None:
    """Return by how much torsions improve the prediction of residues in `data`, in nats per known residue.

    This is the mean, over the known residues, of the entry of `gains` for the residue's torsion cell and type; `gains`
    is the result of `residue_gains`. Return None if no residue is known, or if `gains` is None.
    """
    phi, psi, residue, mask = _inner_residues(data)
    if gains is None or not mask.any():
        return None
    return gains[_cells(phi[mask], psi[mask]), residue[mask]].mean().item()
