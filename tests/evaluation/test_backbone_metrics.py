"""Metrics of backbones: bonds, torsions and their Ramachandran tables, clashes and size."""

import math

import pytest
import torch

from feller.core.rng import Rng
from feller.data.modality import Dataset
from feller.data.proteins.backbones import Backbones
from feller.data.proteins.frames import NUM_COORDINATES
from feller.data.proteins.residues import LETTERS, numbers_of
from feller.evaluation.backbone_metrics import (
    BEFORE_PROLINE,
    BETA_BRANCHED,
    FAVOURED,
    GENERAL,
    GLYCINE,
    OUTLIER,
    PROLINE,
    backbones_quality,
    is_favoured,
    ramachandran_class,
    ramachandran_table_index,
)
from feller.evaluation.backbone_metrics import torsions as measured_torsions
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


def test_is_favoured() -> None:
    phi, psi = (torch.tensor([p[i] for p in (HELIX, STRAND, ODD, (-180, 180), (57, 40))]) * DEGREE for i in (0, 1))
    assert is_favoured(phi, psi).tolist() == [True, True, False, False, True]
    assert is_favoured(phi + 2 * math.pi, psi).tolist()[:2] == [True, True]
    degrees = torch.arange(-179, 180, 2) * DEGREE
    share = is_favoured(degrees.repeat(180), degrees.repeat_interleave(180)).double().mean().item()
    assert 0.15 < share < 0.17


def test_real_chains() -> None:
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


def test_odd_torsions() -> None:
    """Eighteen residues of 20 have both torsions; one odd pair among them is 1 in 18."""
    phi, psi = ([HELIX[i] * DEGREE] * 20 for i in (0, 1))
    phi[7], psi[7] = (angle * DEGREE for angle in ODD)
    phi[0], psi[19] = 1.0, 1.0  # unknown in a chain
    numbers = backbones_quality(dataset(chain(phi, psi)[0]), REAL, REAL, Rng(0))
    assert numbers["ramachandran_favoured"] == pytest.approx(17 / 18)


def test_long_and_cis_bonds() -> None:
    stretched = regular(STRAND, 20)
    stretched[10:] += 0.2 * torch.nn.functional.normalize(stretched[10, 0] - stretched[9, 2], dim=0)
    numbers = backbones_quality(dataset(stretched), REAL, REAL, Rng(0))
    assert numbers["bond_share"] == pytest.approx(18 / 19)
    assert numbers["bond_length"] - 1.329 == pytest.approx(0.2 / 19, abs=0.005)
    cis = backbones_quality(dataset(regular(STRAND, 20, omega=5)), REAL, REAL, Rng(0))
    assert cis["trans_share"] == 0
    assert cis["ca_distance"] == pytest.approx(2.78, abs=0.02)


def test_bent_angles() -> None:
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


def test_random_torsions() -> None:
    """16 % of 28 x 40 residues, within 5 standard deviations: a false alarm has a chance below 1e-6."""
    chains = [chain(torsions(30, i), torsions(30, 100 + i))[0] for i in range(40)]
    share = backbones_quality(dataset(*chains), REAL, REAL, Rng(0))["ramachandran_favoured"]
    assert abs(share - 0.163) < 5 * math.sqrt(0.163 * 0.837 / (28 * 40))


TABLES = (GENERAL, GLYCINE, BETA_BRANCHED, BEFORE_PROLINE, PROLINE)


def classes(phi: float, psi: float) -> list[int]:
    one = torch.ones(len(TABLES))
    return ramachandran_class(phi * DEGREE * one, psi * DEGREE * one, torch.tensor(TABLES)).tolist()


def test_table_of_each_residue() -> None:
    """Glycine and proline come first, then what stands before a proline, then isoleucine and valine."""
    residue = torch.from_numpy(numbers_of("AGPPIVPAGPL"))[None]
    expected = [GLYCINE, PROLINE, PROLINE, BETA_BRANCHED, BEFORE_PROLINE, PROLINE, GENERAL, GLYCINE, PROLINE]
    assert ramachandran_table_index(residue).tolist() == [expected]
    assert ramachandran_table_index(torch.tensor([[20, 20, LETTERS.index("P")]])).tolist() == [[BEFORE_PROLINE]]


def test_known_regions() -> None:
    """Helix and polyproline suit all; only glycine turns left far; proline fixes phi; before it, psi of 0 is hindered.

    Source: Lovell et al. 2003, "Structure validation by Calpha geometry".
    """
    assert classes(-63, -42) == classes(-65, 145) == [FAVOURED] * 5
    assert classes(85, 0) == [1, FAVOURED, OUTLIER, OUTLIER, OUTLIER]
    assert classes(85, -170) == [OUTLIER, FAVOURED, OUTLIER, OUTLIER, OUTLIER]
    assert classes(-130, 135) == [FAVOURED, FAVOURED, FAVOURED, FAVOURED, OUTLIER]
    assert classes(-90, 0)[BEFORE_PROLINE] == OUTLIER
    assert classes(-150, 70) == [1, 1, OUTLIER, FAVOURED, OUTLIER]


@pytest.mark.parametrize(
    ("table", "favoured", "outlier"),
    [
        (GENERAL, 0.163, 0.611),
        (GLYCINE, 0.359, 0.372),
        (BETA_BRANCHED, 0.101, 0.768),
        (BEFORE_PROLINE, 0.101, 0.814),
        (PROLINE, 0.046, 0.915),
    ],
)
def test_fractions_of_the_plane(table: int, favoured: float, outlier: float) -> None:
    """Measured on the whole tables, whose limits are 2 %, and 0.05, 0.1, 0.1, 0.2 and 0.2 %."""
    degrees = torch.arange(-179, 180, 2) * DEGREE
    found = ramachandran_class(degrees.repeat(180), degrees.repeat_interleave(180), table)
    assert (found == FAVOURED).double().mean().item() == pytest.approx(favoured, abs=0.001)
    assert (found == OUTLIER).double().mean().item() == pytest.approx(outlier, abs=0.001)


def test_glycine_is_symmetric() -> None:
    phi, psi = (2 * math.pi * torch.rand(2, 1000, generator=torch.Generator().manual_seed(0)) - math.pi).unbind()
    same = ramachandran_class(phi, psi, GLYCINE) == ramachandran_class(-phi, -psi, GLYCINE)
    assert same.double().mean() > 0.95  # but for edges of bins


def test_torsions() -> None:
    phi, psi = (DEGREE * torch.linspace(a, b, 8, dtype=torch.float64) for a, b in ((-150, -40), (160, -60)))
    found = measured_torsions(chain(phi.tolist(), psi.tolist())[:1])
    torch.testing.assert_close(found[0][0], phi[1:-1], atol=1e-6, rtol=0)
    torch.testing.assert_close(found[1][0], psi[1:-1], atol=1e-6, rtol=0)
