"""Tables of torsions: which judges what, and known regions of each."""

import math

import pytest
import torch

from feller.data.proteins.residues import LETTERS, numbers_of
from feller.evaluation.backbone_metrics import (
    BEFORE_PROLINE,
    BETA_BRANCHED,
    FAVOURED,
    GENERAL,
    GLYCINE,
    OUTLIER,
    PROLINE,
    ramachandran_class,
    ramachandran_table_index,
    torsions,
)
from tests.data.proteins.test_frames import chain

DEGREE = math.pi / 180
TABLES = (GENERAL, GLYCINE, BETA_BRANCHED, BEFORE_PROLINE, PROLINE)


def classes(phi: float, psi: float) -> list[int]:
    one = torch.ones(len(TABLES))
    return ramachandran_class(phi * DEGREE * one, psi * DEGREE * one, torch.tensor(TABLES)).tolist()


def test_each_kind_has_its_table() -> None:
    """Glycine and proline come first, then what stands before a proline, then isoleucine and valine."""
    residue = torch.from_numpy(numbers_of("AGPPIVPAGPL"))[None]
    expected = [GLYCINE, PROLINE, PROLINE, BETA_BRANCHED, BEFORE_PROLINE, PROLINE, GENERAL, GLYCINE, PROLINE]
    assert ramachandran_table_index(residue).tolist() == [expected]
    assert ramachandran_table_index(torch.tensor([[20, 20, LETTERS.index("P")]])).tolist() == [[BEFORE_PROLINE]]


def test_known_regions_of_each_table() -> None:
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
def test_shares_of_the_plane(table: int, favoured: float, outlier: float) -> None:
    """Measured on the whole tables, whose limits are 2 %, and 0.05, 0.1, 0.1, 0.2 and 0.2 %."""
    degrees = torch.arange(-179, 180, 2) * DEGREE
    found = ramachandran_class(degrees.repeat(180), degrees.repeat_interleave(180), table)
    assert (found == FAVOURED).double().mean().item() == pytest.approx(favoured, abs=0.001)
    assert (found == OUTLIER).double().mean().item() == pytest.approx(outlier, abs=0.001)


def test_the_table_of_glycine_is_symmetric() -> None:
    """It has no side chain, so that its mirror image is as likely."""
    phi, psi = (2 * math.pi * torch.rand(2, 1000, generator=torch.Generator().manual_seed(0)) - math.pi).unbind()
    same = ramachandran_class(phi, psi, GLYCINE) == ramachandran_class(-phi, -psi, GLYCINE)
    assert same.double().mean() > 0.95  # but for edges of bins


def test_torsions_are_those_a_chain_was_built_with() -> None:
    phi, psi = (DEGREE * torch.linspace(a, b, 8, dtype=torch.float64) for a, b in ((-150, -40), (160, -60)))
    found = torsions(chain(phi.tolist(), psi.tolist())[:1])
    torch.testing.assert_close(found[0][0], phi[1:-1], atol=1e-6, rtol=0)
    torch.testing.assert_close(found[1][0], psi[1:-1], atol=1e-6, rtol=0)
