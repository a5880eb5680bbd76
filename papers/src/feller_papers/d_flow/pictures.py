"""What the claims about pictures are tested with: a network for 8 x 8 digits, and four problems with unseen ones."""

import functools
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from feller.control.inverse.inverse_problem import Measurement, PriorModel
from feller.control.inverse.operators import Downsample, Inpaint, LinearOperator
from feller.core.rng import Rng
from feller.data.images.modality import Images
from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from feller.models.recipes.images import images
from feller.networks.mlp import MLP
from feller.paths.affine import Affine
from feller.training.optimizer import TrainConfig
from feller_papers.judge import LEVELS
from feller_papers.pictures import digits
from feller_papers.setting import fit_recipe

TRAINING = TrainConfig(batch_size=256, lr=4e-3, lr_decay_fraction=1.0, ema_decay=0.998)
SHAPE = (1, 8, 8)


def _centre() -> Tensor:
    hole = torch.zeros(SHAPE, dtype=torch.bool)
    hole[:, 2:6, 2:6] = True
    return hole


@dataclass(frozen=True, eq=False)
class Task:
    """What is measured of pictures whose levels lie in [-1, 1]."""

    name: str
    operator: LinearOperator
    noise: float
    """Standard deviation."""

    def observe(self, x: Float[Tensor, "n 1 8 8"], draws: Rng) -> Measurement:
        """Measure pictures; the noise of a hole is none."""
        clean = self.operator(x)
        noise = self.noise * draws.fold_in(self.name).stream("noise").normal(clean.shape)
        seen = self.operator(noise) if isinstance(self.operator, Inpaint) else noise
        return Measurement(self.operator, clean + seen, self.noise)


TASKS = tuple(
    Task(f"{what}, noise {noise:g}", operator, noise)
    for what, operator in (("centre of 4 x 4 filled", Inpaint(_centre())), ("twice as many pixels", Downsample(2)))
    for noise in (0.0, 0.1)
)


@dataclass(frozen=True, eq=False)
class Unseen:
    """Digits that no network learned from."""

    x: Float[Tensor, "n 1 8 8"]
    data: Dataset


def unseen(count: int) -> tuple[Unseen, Unseen]:
    """Return as many digits to be restored, the last ones of the test part, and as many to choose settings by."""
    test = read("example:digits/test")
    judged = test.subset(torch.arange(len(test) - count, len(test)))
    others = test.subset(torch.arange(count))
    return Unseen(judged.modality.encode(judged.values), judged), Unseen(others.modality.encode(others.values), others)


@functools.cache
def learned(steps: int, seed: int) -> PriorModel:
    """Return what a network learned of digits, without their labels."""
    data = digits(steps).data
    data = Dataset(data.values, {}, Images(8, 8, 1, levels=LEVELS))
    recipe = replace(images(data, "small"), architecture=MLP(width=256, depth=3), train=TRAINING)
    model = fit_recipe(recipe, data, steps, seed)
    path, space, network = Affine(), model.spec.space, model.network.requires_grad_(False)
    return PriorModel(lambda rows: path.process(network, {}), path, space)


@functools.cache
def moments(steps: int) -> tuple[Float64[Tensor, " 64"], Float64[Tensor, "64 64"]]:
    """Return mean and covariance of the digits that networks learn from."""
    data = digits(steps).data
    x = data.modality.encode(data.values).flatten(1).double()
    return x.mean(0), torch.cov(x.T)
