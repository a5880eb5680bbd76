"""The recipe `manifold`."""

import math
from dataclasses import replace

import pytest
import torch

from feller.core.rng import Rng
from feller.data.batches import batch_loader
from feller.data.loading.dataset_reader import read
from feller.models.families.model_family import family_for
from feller.models.model import Model
from feller.models.recipes.points import manifold
from feller.models.recipes.recipe import USUAL_SIZES
from feller.models.spec import ModelSpec
from feller.paths import Geodesic
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import Sphere, Torus
from feller.training.couplings import ClassConditional, GlobalBatchCoupling, IndependentCoupling, MinibatchOT
from feller.training.engine import get_engine
from feller.training.loop import make_train_state, train


@pytest.mark.parametrize("size", USUAL_SIZES)
def test_path_and_coupling_of_the_space(size: str) -> None:
    places, angles = (manifold(read(f"example:{name}"), size) for name in ("volcano", "torsions"))
    assert places.objective.path == Geodesic(Sphere(2))
    assert angles.objective.path == Geodesic(Torus((4,)))
    assert places.architecture.period is None
    assert places.objective.coupling == GlobalBatchCoupling(MinibatchOT())
    assert angles.objective.coupling == IndependentCoupling()
    assert angles.architecture.period == pytest.approx(2 * math.pi)


def test_coupling_of_labelled_data() -> None:
    places = read("example:volcano")
    of_two = replace(places.modality, classes=("a", "b"))
    labelled = replace(places, modality=of_two, given={"label": torch.arange(len(places)) % 2})
    assert manifold(labelled, "tiny").objective.coupling == GlobalBatchCoupling(ClassConditional())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["volcano", "torsions"])
def test_short_training(name: str) -> None:
    """200 steps of a small network leave the uniform law, which is all it knows at first, behind by half a nat."""
    data, unseen = read(f"example:{name}"), read(f"example:{name}/test").subset(torch.arange(64))
    recipe = manifold(data, "tiny")
    training = replace(recipe.train, minutes=None, steps=200, batch_size=128, ema_decay=0.9)
    space = recipe.objective.space
    family = family_for(recipe.objective)
    about = ModelSpec(data.modality, space, family, recipe.architecture, sampling=recipe.sampling)
    learner = make_train_state(about.build(Rng(0)), training)
    model = Model.from_spec(about, learner.network)
    uniform = float(space.base_log_prob(data.modality.encode(unseen.values))[0])

    def nll() -> float:
        return -float(model.log_prob(unseen, sampling=SamplerConfig("midpoint", 32)).mean())

    assert nll() == pytest.approx(-uniform, abs=1e-4)
    for _ in train(
        learner, recipe.objective, batch_loader(data, 128, Rng(0)), training, rng=Rng(0), engine=get_engine()
    ):
        pass
    assert nll() < -uniform - 0.5
    drawn = model.sample_dataset(50, sampling=SamplerConfig("midpoint", 32))
    assert drawn.values.shape == (50, data.values.shape[1])
    assert float(space.constraint_error(data.modality.encode(drawn.values)).max()) < 1e-5
