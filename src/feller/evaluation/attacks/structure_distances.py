"""Protein chains, which may be turned and moved: how far CA atoms are apart once one lies on the other."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from feller.data.modality import Dataset
from feller.data.proteins.backbones import Backbones
from feller.data.proteins.frames import CA
from feller.data.proteins.modality import Proteins
from feller.evaluation.attacks.measure import Apart

SAME = 0.5
"""Root mean square distance of the CA atoms of chains that count as one, in Å."""
ALIKE = 0.9
"""Share of their residues that are the same kind, where those of both are known."""
AT_ONCE = 2**16
"""Pairs of stretches that are laid on each other at once."""
Chain = tuple[Tensor, np.ndarray]
"""Places of CA atoms in Å, [l, 3], and kinds of residues, [l], -1 where they are not known."""


@dataclass(frozen=True)
class Chains(Apart):
    """Root mean square distance in Å, of the stretch of the longer chain that fits the shorter one best."""

    most = 200
    asked = 1_000
    among = 1_000

    def apart(self, a: Dataset, b: Dataset) -> Float64[Tensor, "n m"]:
        """Lay each chain on each."""
        first, second = chains_of(a), chains_of(b)
        return torch.stack([_from_all(one, second) for one in first])

    def known(self, some: Dataset, train: Dataset, usual: float | None) -> Bool[Tensor, " n"]:
        """Look among chains of the same length for one that lies on it, and has its residues, as far as known."""
        there = chains_of(train)
        return torch.tensor([_is_among(one, there) for one in chains_of(some)], dtype=torch.bool)


def chains_of(data: Dataset) -> list[Chain]:
    """Return chains without their padding."""
    kind, given = data.modality, data.given
    if isinstance(kind, Proteins):
        given = given if "valid" in given else kind.complete(given)
        atoms = kind.structure.chains(data.values["atoms"], {"valid": given["valid"]["position"]})
        known = torch.where(given["valid"]["residue"], data.values["residue"], -1).cpu().numpy()
        residues = [row[: len(chain)] for row, chain in zip(known, atoms, strict=True)]
    elif isinstance(kind, Backbones):
        atoms = kind.chains(data.values, given)
        residues = [np.full(len(chain), -1) for chain in atoms]
    else:
        raise TypeError(f"{type(kind).__name__} are no chains")
    return [(torch.from_numpy(chain[:, CA]), residue) for chain, residue in zip(atoms, residues, strict=True)]


def laid_on(a: Float64[Tensor, "n l 3"], b: Float64[Tensor, "n l 3"]) -> Float64[Tensor, " n"]:
    """Return the least root mean square distance over all turns and shifts, without mirrors.

    Source: Kabsch 1976, "A solution for the best rotation to relate two sets of vectors".
    """
    a, b = (each - each.mean(1, keepdim=True) for each in (a, b))
    across = a.mT @ b
    values = torch.linalg.svdvals(across)
    values = torch.cat([values[:, :2], values[:, 2:] * torch.linalg.det(across).sign()[:, None]], 1)
    squares = a.square().sum((1, 2)) + b.square().sum((1, 2)) - 2 * values.sum(1)
    return (squares / a.shape[1]).clamp(min=0).sqrt()


def _from_all(one: Chain, others: list[Chain]) -> Float64[Tensor, " m"]:
    """Return the distance of a chain from each of several."""
    places, found = one[0], torch.full((len(others),), torch.inf, dtype=torch.float64)
    for shorter in {min(len(places), len(other)) for other, _ in others}:
        which = [j for j, (other, _) in enumerate(others) if min(len(places), len(other)) == shorter]
        ours, theirs, owner = [], [], []
        for j in which:
            here, there = (chain.unfold(0, shorter, 1).mT for chain in (places, others[j][0]))
            n = max(len(here), len(there))
            ours.append(here.expand(n, -1, -1))
            theirs.append(there.expand(n, -1, -1))
            owner.append(torch.full((n,), j))
        parts = zip(*(torch.cat(each).split(AT_ONCE) for each in (ours, theirs)), strict=True)
        far = torch.cat([laid_on(a, b) for a, b in parts])
        found.scatter_reduce_(0, torch.cat(owner), far, "amin")
    return found


def _is_among(one: Chain, others: list[Chain]) -> bool:
    places, residues = one
    same = [(other, kinds) for other, kinds in others if len(other) == len(places)]
    if not same:
        return False
    there = torch.stack([other for other, _ in same])
    near = laid_on(places.expand_as(there), there) <= SAME
    return any(bool(is_near) and _alike(residues, kinds) for is_near, (_, kinds) in zip(near, same, strict=True))


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    both = (a >= 0) & (b >= 0)
    return not both.any() or bool((a[both] == b[both]).mean() >= ALIKE)
