"""Rewards by their names, and those of chemistry."""

import pathlib

import pytest
import torch
from rdkit import Chem
from rdkit.Chem import AllChem

from feller.control.rewards.molecule_rewards import PROPERTIES, MoleculeReward
from feller.control.rewards.named_rewards import (
    ClassReward,
    Compressibility,
    Ink,
    Reward,
    StateReward,
    dataset_reward,
    image_rewards,
    parse_reward,
)
from feller.core.errors import InputError, UsageError
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from feller.data.molecules.modality import Molecules
from tests.errors import refuses
from tests.oracle import close

DIGITS = read("example:digits").subset(torch.arange(5))
NAMED = image_rewards(DIGITS.modality)


def test_parse_reward() -> None:
    values = DIGITS.values.float()
    ink = values.flatten(1).mean(1) / 16
    close(parse_reward(["ink"], NAMED)(values, {}), ink.tolist(), 1e-6)
    close(parse_reward(["2 * ink", "-0.5*ink"], NAMED)(values, {}), (1.5 * ink).tolist(), 1e-6)
    close(parse_reward(["3*ink<=0.3"], NAMED)(values, {}), (-3 * (ink - 0.3).clamp(min=0) ** 2).tolist(), 1e-6)
    close(parse_reward(["ink >= 0.3"], NAMED)(values, {}), (-((0.3 - ink).clamp(min=0) ** 2)).tolist(), 1e-6)
    close(parse_reward(["2 * ink == 0.3"], NAMED)(values, {}), (-2 * (ink - 0.3) ** 2).tolist(), 1e-6)
    close(dataset_reward(Ink(16), DIGITS), ink.tolist(), 1e-6)


def test_parse_reward_with_a_fallback() -> None:
    """As the runs of regressors are: with their paths, which may hold any letter but those of a bound."""

    def other(words: str) -> Reward | None:
        return Ink(16) if words == "runs/a:b=c" else None

    values = DIGITS.values.float()
    ink = values.flatten(1).mean(1) / 16
    close(parse_reward(["runs/a:b=c"], NAMED, other)(values, {}), ink.tolist(), 1e-6)
    close(parse_reward(["2 * runs/a:b=c==0.5"], NAMED, other)(values, {}), (-2 * (ink - 0.5) ** 2).tolist(), 1e-6)
    with refuses(UsageError, found="'runs/b'"):
        parse_reward(["runs/b"], NAMED, other)


def test_parse_reward_of_user_functions(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "r.py"
    file.write_text(
        "def warm(values):\n    return values.flatten(1).amax(1)\n\n"
        "def both(values, given):\n    return given['label'] * 1.0\n"
    )
    values, labels = DIGITS.values.float(), DIGITS.given["label"]
    close(parse_reward([f"{file}:warm"], NAMED)(values, {}), DIGITS.values.flatten(1).amax(1).tolist(), 0)
    close(parse_reward([f"2*{file}:both"], NAMED)(values, DIGITS.given), (2 * labels).tolist(), 0)
    with refuses(UsageError, argument="function", found="'cold'"):
        parse_reward([f"{file}:cold"], NAMED)


def test_state_reward() -> None:
    reward = StateReward(Ink(16), DIGITS.modality)
    state = DIGITS.modality.encode(DIGITS.values) + 0.01
    state.requires_grad_()
    found = reward(state, {})
    (slope,) = torch.autograd.grad(found.sum(), state)
    close(slope, torch.full_like(state, 1 / 128).tolist(), 1e-7)
    assert (found > Ink(16)(DIGITS.values.float(), {})).all()
    broken = state.detach().clone()
    broken[2, 0, 3, 3] = torch.inf
    assert torch.isnan(reward(broken, {})).tolist() == [False, False, True, False, False]


def test_compressibility_has_no_gradient() -> None:
    flat = torch.zeros(1, 1, 8, 8)
    found = Compressibility(DIGITS.modality)(torch.cat([flat, DIGITS.values[:1].float()]), {})
    assert found[0] > found[1]
    assert not found.requires_grad


def test_class_reward() -> None:
    wish = ClassReward(lambda values, given: torch.stack([values[:, 0], 2 * values[:, 0], 0 * values[:, 0]], 1), (0, 2))
    x = torch.tensor([[0.0], [1.0]])
    probabilities = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 0.0]]).softmax(1)
    close(wish(x, {}), (probabilities[:, 0] + probabilities[:, 2]).log().tolist(), 1e-6)


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ([], "none"),
        (["inc"], "'inc'"),
        (["ink > 0.4"], "'ink > 0.4'"),
        (["ink => 0.4"], "'ink => 0.4'"),
        (["ink = 0.4"], "'ink = 0.4'"),
        (["ink<=much"], "'ink<=much'"),
        (["ink<=inf"], "'ink<=inf'"),
        (["-2*ink <= 3"], "'-2*ink <= 3'"),
        ([""], "''"),
    ],
)
def test_parse_reward_of_invalid_text(texts: list[str], found: str) -> None:
    with refuses(UsageError, argument="reward", found=found):
        parse_reward(texts, NAMED)


def test_dataset_reward_checks_shape_and_values() -> None:
    with refuses(InputError):
        dataset_reward(lambda values, given: values.sum(), DIGITS)
    with refuses(InputError):
        dataset_reward(lambda values, given: values.flatten(1).mean(1) * torch.nan, DIGITS)


@pytest.mark.parametrize("name", ["ink", "compressibility"])
def test_image_rewards_need_images(name: str) -> None:
    with refuses(UsageError, argument="reward", found=repr(name)):
        parse_reward([name], {}, lambda text: None)


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
def test_molecule_rewards(molecules: Dataset, name: str, expected: tuple[float, float], tolerance: float) -> None:
    kind = molecules.modality
    assert isinstance(kind, Molecules)
    found = MoleculeReward(kind, name)(molecules.values, molecules.given)
    assert found.isnan().tolist() == [False, False, True, True]
    close(found[:2], expected, tolerance)
    low, high = PROPERTIES[name].span
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
def test_broken_molecules_get_the_worst_reward(molecules: Dataset, text: str, worst: float) -> None:
    kind = molecules.modality
    found = parse_reward([text], {"rdkit": lambda words: MoleculeReward(kind, words)})(
        molecules.values, molecules.given
    )
    close(found[2:], (worst, worst), 1e-9)
    assert (found[:2] >= worst).all()


def test_molecule_rewards_have_no_gradient(molecules: Dataset) -> None:
    place = molecules.values["place"].clone().requires_grad_()
    found = MoleculeReward(molecules.modality, "qed")({**molecules.values, "place": place}, molecules.given)
    assert not found.requires_grad


def test_unknown_molecule_property(molecules: Dataset) -> None:
    with refuses(UsageError, argument="reward", found="'qde'"):
        MoleculeReward(molecules.modality, "qde")
