"""What is measured of backbones: chains whose bonds, torsions, clashes and size are known."""

import math

import pytest
import torch

from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.data.proteins.backbones import Backbones
from feller.data.proteins.frames import NUM_COORDINATES
from feller.evaluation.backbone_metrics import backbones_quality, is_favoured
from tests.data.proteins.test_frames import chain, torsions
from tests.evaluation.known import KNOWN

DEGREE = math.pi / 180
MODALITY = Backbones(30, ("20", "30"), (0.0,) * NUM_COORDINATES, (1.0,) * NUM_COORDINATES)
HELIX, STRAND, ODD = (-63, -42), (-120, 135), (60, -120)


def dataset(*atoms: torch.Tensor) -> Dataset:
    """Lay chains of 20 or 30 residues beside each other; what stands behind their ends is nonsense."""
    values = 100 * torch.randn(len(atoms), 30, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for row, own in zip(values, atoms, strict=True):
        row[: len(own)] = own
    given = {"length": torch.tensor([int(len(own) == 30) for own in atoms])}
    return Dataset(values, MODALITY.add_derived_conditions(given), MODALITY)


def regular(torsion: tuple[float, float], length: int, omega: float = 180) -> torch.Tensor:
    """Build a chain whose torsions, in degrees, repeat, with bonds that vibrate a little."""
    phi, psi = ([angle * DEGREE] * length for angle in torsion)
    noise = torch.randn(length, 4, 3, generator=torch.Generator().manual_seed(length), dtype=torch.float64)
    return chain(phi, psi, omega * DEGREE)[0] + 0.01 * noise


REAL = dataset(regular(HELIX, 30), regular(HELIX, 20), regular(STRAND, 20))


def test_table_of_torsions() -> None:
    """Known regions, and the share of the plane that is favoured: 16 %, as random torsions have it."""
    phi, psi = (torch.tensor([p[i] for p in (HELIX, STRAND, ODD, (-180, 180), (57, 40))]) * DEGREE for i in (0, 1))
    assert is_favoured(phi, psi).tolist() == [True, True, False, False, True]
    assert is_favoured(phi + 2 * math.pi, psi).tolist()[:2] == [True, True]
    degrees = torch.arange(-179, 180, 2) * DEGREE
    share = is_favoured(degrees.repeat(180), degrees.repeat_interleave(180)).double().mean().item()
    assert 0.15 < share < 0.17


def test_real_chains_are_as_good_as_real() -> None:
    numbers = backbones_quality(REAL, REAL, REAL.subset(torch.arange(0)), Rng(0))
    assert numbers.keys() <= KNOWN
    for name in numbers:
        if not name.endswith("_floor"):
            floor = "ramachandran_floor" if name == "ramachandran_favoured" else f"{name}_floor"
            assert numbers[name] == numbers[floor]
    assert numbers["ramachandran_favoured"] == 1
    assert numbers["bond_length"] == pytest.approx(1.329, abs=0.01)
    assert numbers["ca_distance"] == pytest.approx(3.80, abs=0.02)
    assert numbers["trans_share"] == 1
    assert numbers["clash_share"] == 0
    assert numbers["angle_off"] == 0
    assert numbers["radius_ratio"] == 1


def test_odd_torsions_are_counted_where_both_are_known() -> None:
    """Eighteen residues of 20 have both torsions; one odd pair among them is 1 in 18."""
    phi, psi = ([HELIX[i] * DEGREE] * 20 for i in (0, 1))
    phi[7], psi[7] = (angle * DEGREE for angle in ODD)
    phi[0], psi[19] = 1.0, 1.0  # unknown in a chain
    numbers = backbones_quality(dataset(chain(phi, psi)[0]), REAL, REAL, Rng(0))
    assert numbers["ramachandran_favoured"] == pytest.approx(17 / 18)


def test_long_bonds_and_cis_bonds_are_seen() -> None:
    stretched = regular(STRAND, 20)
    stretched[10:] += 0.2 * torch.nn.functional.normalize(stretched[10, 0] - stretched[9, 2], dim=0)
    numbers = backbones_quality(dataset(stretched), REAL, REAL, Rng(0))
    assert numbers["bond_share"] == pytest.approx(18 / 19)
    assert numbers["bond_length"] - 1.329 == pytest.approx(0.2 / 19, abs=0.005)
    cis = backbones_quality(dataset(regular(STRAND, 20, omega=5)), REAL, REAL, Rng(0))
    assert cis["trans_share"] == 0
    assert cis["ca_distance"] == pytest.approx(2.78, abs=0.02)


def test_bent_angles_are_seen() -> None:
    bent = regular(STRAND, 20)
    bent[:, 2] += 0.3 * torch.nn.functional.normalize(bent[:, 2] - bent[:, 0], dim=1)  # opens N-CA-C
    numbers = backbones_quality(dataset(bent), REAL, REAL, Rng(0))
    assert numbers["angle_off"] > 3
    assert numbers["angle_share"] < 0.9


def test_clashes_and_size() -> None:
    wound = chain([-90 * DEGREE] * 30, [0.0] * 30)[0]
    crossed = wound.clone()
    crossed[25] = wound[5] + 1.0
    numbers = backbones_quality(dataset(wound, crossed), REAL, REAL, Rng(0))
    assert numbers["clash_share"] == 0.5
    large = dataset(*(2 * row[mask] for row, mask in zip(REAL.values, REAL.given["valid"], strict=True)))
    assert backbones_quality(large, REAL, REAL, Rng(0))["radius_ratio"] == pytest.approx(2)


def test_random_torsions_are_mostly_not_favoured() -> None:
    """16 % of 28 x 40 residues, within 5 standard deviations: a false alarm has a chance below 1e-6."""
    chains = [chain(torsions(30, i), torsions(30, 100 + i))[0] for i in range(40)]
    share = backbones_quality(dataset(*chains), REAL, REAL, Rng(0))["ramachandran_favoured"]
    assert abs(share - 0.163) < 5 * math.sqrt(0.163 * 0.837 / (28 * 40))
