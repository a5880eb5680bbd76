"""Metrics of protein backbones: torsions, bonds, angles, clashes and size."""

import functools
import math
import pathlib

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.data.proteins.frames import CA, C, N, angle, dihedral
from feller.data.proteins.residues import LETTERS
from feller.evaluation.comparison import reference_data, with_floors

BIN = math.radians(2)
"""Bin width of the Ramachandran tables, in radians."""
FAVOURED = 2
"""Ramachandran class of favoured torsions; 1 is allowed, 0 is outlier."""
OUTLIER = 0
GENERAL, GLYCINE, BETA_BRANCHED, BEFORE_PROLINE, PROLINE = range(5)
NAMES = ("general", "glycine", "isoleucine_valine", "before_proline", "proline")
"""Names of the Ramachandran tables, in order of their indices."""


def torsions(atoms: Float[Tensor, "n l 4 3"]) -> tuple[Float[Tensor, "n l-2"], Float[Tensor, "n l-2"]]:
    """Return phi and psi, in radians, of all residues except the first and the last."""
    n, ca, c = (atoms[:, :, atom] for atom in (N, CA, C))
    phi = dihedral(c[:, :-1], n[:, 1:], ca[:, 1:], c[:, 1:])[:, :-1]
    psi = dihedral(n[:, :-1], ca[:, :-1], c[:, :-1], n[:, 1:])[:, 1:]
    return phi, psi


def ramachandran_table_index(residue: Int[Tensor, "n l"]) -> Int[Tensor, "n l-2"]:
    """Return the Ramachandran table index of each residue except the first and the last of a chain.

    `residue` holds indices into `LETTERS`; other numbers stand for unknown residues, which use the general table.

    The tables take precedence in this order: glycine and proline, residues before proline, isoleucine and valine. All
    prolines use the table of trans proline.
    """
    inner, following = residue[:, 1:-1], residue[:, 2:]
    table = torch.full_like(inner, GENERAL)
    table[(inner == LETTERS.index("I")) | (inner == LETTERS.index("V"))] = BETA_BRANCHED
    table[following == LETTERS.index("P")] = BEFORE_PROLINE
    table[inner == LETTERS.index("G")] = GLYCINE
    table[inner == LETTERS.index("P")] = PROLINE
    return table


def ramachandran_class(
    phi: Float[Tensor, "*b"], psi: Float[Tensor, "*b"], table: Int[Tensor, "*b"] | int = GENERAL
) -> UInt8[Tensor, "*b"]:
    """Return the Ramachandran class of torsions: 2 for favoured, 1 for allowed, 0 for outlier.

    `phi` and `psi` are in radians; `table` is the index of the Ramachandran table, see `ramachandran_table_index`.
    """
    rows, columns = (((torsion + math.pi) / BIN).long() % 180 for torsion in (phi, psi))
    return _tables()[table, rows, columns]


def is_favoured(phi: Float[Tensor, "*b"], psi: Float[Tensor, "*b"]) -> Bool[Tensor, "*b"]:
    """Return True for torsions, given in radians, in the favoured region of the general Ramachandran table."""
    return ramachandran_class(phi, psi) == FAVOURED


@functools.cache
def _tables() -> UInt8[Tensor, "5 180 180"]:
    with np.load(pathlib.Path(__file__).with_name("ramachandran.npz")) as arrays:
        return torch.from_numpy(np.stack([arrays[name] for name in NAMES]))


CLASH = 3.0
"""Distance between CA atoms below which two residues clash, in Å."""
PEPTIDE = (1.2, 1.5)
"""Minimum and maximum length of a peptide bond in an unbroken chain, in Å; the typical length is 1.33 Å."""
COMPACT = 0.38
"""Exponent of the radius of gyration of folded chains as a power of their length."""
FLOORS = {"ramachandran_favoured_floor": "ramachandran_floor"}
"""Mapping from default keys of floors (values of a metric for real data), {metric}_floor, to the keys used instead."""
ANGLES = ("CA-C-N", "C-N-CA", "N-CA-C")


def backbones_quality(samples: Dataset, train: Dataset, held_out: Dataset, rng: Rng) -> dict[str, float | str | None]:
    """Compute metrics of sampled backbones; the key `{name}_floor` holds the same metric of real backbones.

    Keys in `FLOORS` are renamed. Some metrics compare bonds, angles and size with those of the training data `train`.

    The real backbones are the held-out data, or the training data if too few are held out.
    """
    train_geometry = _geometry(train)
    metrics = with_floors(_measure(samples, train_geometry), _measure(reference_data(train, held_out), train_geometry))
    return {FLOORS.get(name, name): value for name, value in metrics.items()}


def _measure(data: Dataset, ref: dict[str, Tensor]) -> dict[str, float]:
    # `ref` is the geometry of the training data
    geom = _geometry(data)
    within = {name: _within(geom[name], ref[name]) for name in ("C-N", *ANGLES)}
    z_scores = [((geom[name].mean() - ref[name].mean()) / ref[name].std(correction=0)).abs() for name in ANGLES]
    angles = torch.cat([within[name] for name in ANGLES])
    return {
        "ramachandran_favoured": geom["favoured"].mean().item(),
        "bond_length": geom["C-N"].mean().item(),
        "bond_length_sd": geom["C-N"].std(correction=0).item(),
        "bond_share": within["C-N"].mean().item(),
        "angle_off": torch.stack(z_scores).max().item(),
        "angle_share": angles.mean().item(),
        "trans_share": (geom["omega"].abs() > math.pi / 2).double().mean().item(),
        "ca_distance": geom["CA-CA"].mean().item(),
        "clash_share": geom["clash"].mean().item(),
        "radius_ratio": (geom["radius"].mean() / ref["radius"].mean()).item(),
    }


def is_broken(data: Dataset) -> Bool[Tensor, " n"]:
    """Return True for chains with a broken peptide bond or with clashing CA atoms."""
    valid = data.given["valid"].cpu()
    n, ca, c, _ = data.values.cpu().double().unbind(2)
    bond_length = (c[:, :-1] - n[:, 1:]).norm(dim=2)
    is_torn = ((bond_length < PEPTIDE[0]) | (bond_length > PEPTIDE[1])) & valid[:, 1:]
    return is_torn.any(1) | _clashes(ca, valid)


def _within(values: Float[Tensor, " n"], reference: Float[Tensor, " m"]) -> Float[Tensor, " n"]:
    """Return 1 for values within 3 standard deviations of the reference mean, else 0."""
    return ((values - reference.mean()).abs() <= 3 * reference.std(correction=0)).double()


def _geometry(data: Dataset) -> dict[str, Tensor]:
    """Return bonds in Å, angles and torsions in radians of all residues, and properties of whole chains."""
    valid = data.given["valid"].cpu()
    n, ca, c, _ = data.values.cpu().double().unbind(2)
    has_bond, has_torsions = valid[:, 1:], valid[:, 2:]
    phi, psi = torsions(data.values.cpu().double())
    return {
        "C-N": (c[:, :-1] - n[:, 1:]).norm(dim=2)[has_bond],
        "CA-CA": (ca[:, :-1] - ca[:, 1:]).norm(dim=2)[has_bond],
        "CA-C-N": angle(ca[:, :-1], c[:, :-1], n[:, 1:])[has_bond],
        "C-N-CA": angle(c[:, :-1], n[:, 1:], ca[:, 1:])[has_bond],
        "N-CA-C": angle(n, ca, c)[valid],
        "omega": dihedral(ca[:, :-1], c[:, :-1], n[:, 1:], ca[:, 1:])[has_bond],
        "favoured": is_favoured(phi[has_torsions], psi[has_torsions]).double(),
        "clash": _clashes(ca, valid).double(),
        "radius": _radius(ca, valid) / valid.sum(1) ** COMPACT,
    }


def _clashes(ca: Float[Tensor, "n l 3"], valid: Bool[Tensor, "n l"]) -> Bool[Tensor, " n"]:
    # neighbours in the chain do not count
    positions = torch.arange(ca.shape[1])
    not_bonded = (positions - positions[:, None]).abs() > 1
    is_near = torch.stack([torch.cdist(chain, chain) < CLASH for chain in ca])
    return (is_near & not_bonded & valid[:, None] & valid[:, :, None]).flatten(1).any(1)


def _radius(ca: Float[Tensor, "n l 3"], valid: Bool[Tensor, "n l"]) -> Float[Tensor, " n"]:
    """Return the radius of gyration of the CA atoms, in Å."""
    weight = valid[:, :, None] / valid.sum(1)[:, None, None]
    centred = ca - (ca * weight).sum(1, keepdim=True)
    return (centred.square() * weight).sum((1, 2)).sqrt()
