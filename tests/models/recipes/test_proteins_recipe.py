"""The recipes for proteins and backbones."""

import pathlib
from dataclasses import replace

import pytest
import torch

from feller.app.modalities.registration import find_recipe
from feller.core.errors import UsageError
from feller.core.rng import Rng
from feller.core.serialization import from_dict, to_dict
from feller.data.batches import batch_loader
from feller.data.examples.loaders import protein_chains
from feller.data.loading.dataset_reader import read
from feller.data.loading.sample_reader import read_samples
from feller.data.modality import Dataset
from feller.data.proteins.backbones import Backbones
from feller.models.model import Model
from feller.models.recipes.proteins import backbones
from feller.models.recipes.recipe import Recipe
from feller.sampling.sampler_config import SamplerConfig
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train
from tests.errors import refuses
from tests.models.recipes.trained import trained

DATA = read("example:proteins")
SEQUENCE = ("ACDEFGHIKLMNPQRSTVWY" * 2)[:35]


def small(recipe: Recipe) -> Recipe:
    training = replace(recipe.train, batch_size=8, warmup=5, ema_decay=0.9)
    return replace(recipe, train=training, sampling=SamplerConfig("midpoint", 8))


@pytest.fixture(scope="module")
def fitted() -> Model:
    name, recipe = find_recipe("auto", DATA, "tiny")
    assert name == "proteins"
    return trained(small(recipe), DATA, 20)


def test_proteins_recipe_learns(fitted: Model) -> None:
    recipe = find_recipe("proteins", DATA, "tiny")[1]
    assert from_dict(Recipe, to_dict(recipe)) == recipe
    example = recipe.objective.draw(batch_loader(DATA, 40, Rng(0))(0, slice(0, 40)), Rng(1), fitted.network)
    new = recipe.model_spec(DATA).build(Rng(0))
    before, after = (recipe.objective.loss(network, example).mean().item() for network in (new, fitted.network))
    assert after < 0.95 * before


def test_sample_and_write(fitted: Model, tmp_path: pathlib.Path) -> None:
    drawn = fitted.sample_dataset(3, rng=Rng(1))
    valid = drawn.given["valid"]
    assert set(valid["residue"].sum(1).tolist()) <= set(DATA.given["valid"]["residue"].sum(1).tolist())
    assert drawn.values["residue"][valid["residue"]].max() < 20
    drawn.modality.write(drawn.values, drawn.given, tmp_path / "out")
    values, _ = read_samples(tmp_path / "out", drawn.modality)
    assert torch.equal(values["residue"][valid["residue"]], drawn.values["residue"][valid["residue"]])


def test_structure_given_a_sequence(fitted: Model) -> None:
    given, fixed = fitted.parse_conditions(3, {"residue": SEQUENCE}, Rng(0))
    drawn = fitted.sample_dataset(3, given=given, clamped=fixed, rng=Rng(1))
    assert drawn.modality.chains(drawn.values, drawn.given)[1] == [SEQUENCE] * 3
    assert (drawn.values["atoms"][0] - drawn.values["atoms"][1]).abs().max() > 0.5


def test_sequence_given_a_structure(fitted: Model, tmp_path: pathlib.Path) -> None:
    one = DATA.subset(torch.tensor([4]))
    one.modality.write(one.values, one.given, tmp_path / "one.pdb")
    given, fixed = fitted.parse_conditions(3, {"structure": str(tmp_path / "one.pdb")}, Rng(0))
    assert fixed.keys() == {"rotation", "position"}
    drawn = fitted.sample_dataset(3, given=given, clamped=fixed, rng=Rng(1))
    valid = one.given["valid"]["position"][0]
    assert torch.equal(drawn.given["valid"]["position"], valid.expand(3, -1))
    own = torch.cdist(one.values["atoms"][0, valid, 1], one.values["atoms"][0, valid, 1])
    for atoms in drawn.values["atoms"]:
        torch.testing.assert_close(torch.cdist(atoms[valid, 1], atoms[valid, 1]), own, atol=0.02, rtol=0)
    sequences = drawn.modality.chains(drawn.values, drawn.given)[1]
    assert len(set(sequences)) == 3


def test_invalid_conditions(fitted: Model, tmp_path: pathlib.Path) -> None:
    for wanted, argument, found in (
        ({"residue": SEQUENCE, "length": "36"}, None, None),
        ({"colour": "red"}, "given", "'colour'"),
        ({"rotation": "1"}, "given", "'rotation'"),
        ({"residue": "A" * 65}, "length", "'65'"),
    ):
        with refuses(UsageError, argument=argument, found=found):
            fitted.parse_conditions(1, wanted, Rng(0))
    one = DATA.subset(torch.tensor([4]))
    one.modality.write(one.values, one.given, tmp_path / "one.pdb")
    for fixable in ((), ("residue",), ("residue", "rotation")):
        other = Model.from_spec(replace(fitted.spec, conditionable=fixable), fitted.network)
        with refuses(UsageError):
            other.parse_conditions(1, {"structure": str(tmp_path / "one.pdb")}, Rng(0))


def some_unknown() -> Dataset:
    """Return the example without the sequence of every second chain, and without every third residue."""
    known = DATA.given["valid"]["residue"] & (torch.arange(40)[:, None] % 2 == 0) & (torch.arange(64) % 3 > 0)
    return replace(DATA, given={**DATA.given, "valid": {**DATA.given["valid"], "residue": known}})


def test_unknown_residues_change_nothing() -> None:
    data, recipe = some_unknown(), find_recipe("auto", DATA, "tiny")[1]
    known = data.given["valid"]["residue"]
    network = trained(small(recipe), data, 3).network
    found = []
    for filler in (0, 13):
        residue = torch.where(known, data.values["residue"], filler)
        state = data.modality.encode({**data.values, "residue": residue})
        example = recipe.objective.draw({"x_1": state, "given": data.given}, Rng(3), network)
        example["x_t"]["residue"] = torch.where(known, example["x_t"]["residue"], filler)
        network.zero_grad()
        loss = recipe.objective.loss(network, example)
        loss.mean().backward()
        found.append((loss.detach(), torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    assert torch.isfinite(found[0][1]).all()
    assert (
        found[0][0] > 0
    ).double().mean() > 0.8  # where the structure is given and no residue known, nothing is asked


def test_backbones_recipe_of_proteins() -> None:
    name, recipe = find_recipe("backbones", DATA, "tiny")
    assert name == "backbones"
    assert isinstance(recipe.modality, Backbones)
    assert from_dict(Recipe, to_dict(recipe)) == recipe
    data = DATA.with_modality(recipe.modality)
    assert torch.equal(data.values, DATA.values["atoms"])
    drawn = trained(small(recipe), data, 2).sample_dataset(2)
    assert drawn.values.shape == (2, 64, 4, 3)
    assert find_recipe("backbones", read("example:backbones"), "tiny")[1].modality is None


def test_backbones_recipe_learns() -> None:
    data = protein_chains("train")
    recipe = backbones(data, "tiny")
    assert from_dict(Recipe, to_dict(recipe)) == recipe
    training = replace(recipe.train, minutes=None, steps=30, batch_size=8, warmup=5)
    about = replace(recipe, sampling=SamplerConfig("midpoint", 8)).model_spec(data)
    learner = make_train_state(about.build(Rng(0)), training)
    feed = batch_loader(data, training.batch_size, Rng(0))
    example = recipe.objective.draw(feed(99, slice(0, 8)), Rng(1), learner.network)
    before = recipe.objective.loss(learner.network, example).mean().item()
    for _ in train(learner, recipe.objective, feed, training, rng=Rng(0), engine=get_engine()):
        pass
    assert recipe.objective.loss(learner.network, example).mean().item() < 0.85 * before
    drawn = Model.from_spec(about, learner.network).sample_dataset(6)
    assert drawn.values.shape == (6, data.modality.longest, 4, 3)
    valid = data.modality.add_derived_conditions(drawn.given)["valid"]
    assert set(valid.sum(1).tolist()) <= set(data.given["valid"].sum(1).tolist())
    bonds = (drawn.values[:, 1:, 0] - drawn.values[:, :-1, 2]).norm(dim=2)[valid[:, 1:]]
    assert (bonds - 1.33).abs().max() < 0.3  # places of bonded atoms hardly vary, whatever was learned


def test_example_chains_are_real() -> None:
    data, test = protein_chains("train"), protein_chains("test")
    assert isinstance(data.modality, Backbones)
    assert (len(data), len(test)) == (40, 10)
    assert test.modality == data.modality
    for part in (data, test):
        lengths = part.given["valid"].sum(1)
        assert lengths.min() >= 30
        assert lengths.max() <= 64
        bonds = (part.values[:, 1:, 0] - part.values[:, :-1, 2]).norm(dim=2)[part.given["valid"][:, 1:]]
        assert (bonds - 1.33).abs().max() < 0.2
    state = data.modality.encode(data.values)
    assert torch.isfinite(state["position"]).all()
