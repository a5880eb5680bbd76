"""What rdkit says of molecules whose bonds follow from their distances, against what tables say of them."""

import pathlib

import pytest
import torch
from rdkit import Chem
from rdkit.Chem import AllChem

from feller.control.rewards.chemistry import MEASURED, Chemistry
from feller.control.rewards.named_rewards import wish_of
from feller.core.errors import UsageError
from feller.data.loading.read import read
from feller.data.modality import Dataset
from feller.data.molecules.modality import Molecules
from tests.oracle import close


def built(folder: pathlib.Path, *smiles: str) -> Dataset:
    """Return molecules with places that a force field gives them."""
    text = ""
    for one in smiles:
        made = Chem.AddHs(Chem.MolFromSmiles(one))
        AllChem.EmbedMolecule(made, randomSeed=1)
        AllChem.MMFFOptimizeMolecule(made)
        text += Chem.MolToXYZBlock(made)
    (folder / "m.xyz").write_text(text)
    return read(str(folder / "m.xyz"))


@pytest.fixture(scope="module")
def molecules(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Return ethanol and benzene, and both in pieces: an atom is far away."""
    whole = built(tmp_path_factory.mktemp("m"), "CCO", "c1ccccc1")
    broken = whole.values["place"].clone()
    broken[:, 0] += 20.0
    values = {"element": whole.values["element"].repeat(2, 1), "place": torch.cat([whole.values["place"], broken])}
    given = {
        "atoms": whole.given["atoms"].repeat(2),
        "valid": {k: v.repeat(2, 1) for k, v in whole.given["valid"].items()},
    }
    return Dataset(values, given, whole.modality)


@pytest.mark.parametrize(
    ("name", "expected", "tolerance"),
    [
        ("weight", (46.07, 78.11), 0.01),  # of the elements' standard weights
        ("tpsa", (20.23, 0.0), 1e-6),  # a hydroxyl group, and none
        ("logp", (-0.0014, 1.6866), 1e-4),  # Wildman and Crippen's contributions
        ("qed", (0.4068, 0.4426), 1e-3),
        ("sa", (1.98, 1.0), 0.05),
        ("validity", (1.0, 1.0), 0.0),
    ],
)
def test_known_molecules(molecules: Dataset, name: str, expected: tuple[float, float], tolerance: float) -> None:
    kind = molecules.modality
    assert isinstance(kind, Molecules)
    found = Chemistry(kind, name)(molecules.values, molecules.given)
    assert found.isnan().tolist() == [False, False, True, True]
    close(found[:2], expected, tolerance)
    low, high = MEASURED[name].span
    assert low <= min(expected) <= max(expected) <= high


@pytest.mark.parametrize(
    ("text", "worst"),
    [
        ("rdkit=qed", 0.0),
        ("-1 * rdkit=sa", -10.0),
        ("2 * rdkit=validity", 0.0),
        ("rdkit=logp <= 2", -64.0),
        ("rdkit=logp >= 2", -144.0),
        ("rdkit=weight == 500", -(1500.0**2)),
    ],
)
def test_what_is_no_molecule_counts_as_the_worst(molecules: Dataset, text: str, worst: float) -> None:
    kind = molecules.modality
    found = wish_of([text], {"rdkit": lambda words: Chemistry(kind, words)})(molecules.values, molecules.given)
    close(found[2:], (worst, worst), 1e-9)
    assert (found[:2] >= worst).all()


def test_places_may_want_a_gradient_and_get_none(molecules: Dataset) -> None:
    place = molecules.values["place"].clone().requires_grad_()
    found = Chemistry(molecules.modality, "qed")({**molecules.values, "place": place}, molecules.given)
    assert not found.requires_grad


def test_names(molecules: Dataset) -> None:
    with pytest.raises(UsageError, match="rdkit measures no 'qde': did you mean 'qed'"):
        Chemistry(molecules.modality, "qde")
