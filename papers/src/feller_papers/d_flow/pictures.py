"""Inverse problems on 8 x 8 digits: a flow as prior, and four tasks on test digits."""

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


def _centre_mask() -> Tensor:
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask[:, 2:6, 2:6] = True
    return mask


@dataclass(frozen=True, eq=False)
class Task:
    """Linear inverse problem for images in [-1, 1]."""

    name: str
    operator: LinearOperator
    noise: float
    """Standard deviation of the noise."""

    def observe(self, x: Float[Tensor, "n 1 8 8"], rng: Rng) -> Measurement:
        """Return noisy measurements of images; masked pixels get no noise."""
        clean = self.operator(x)
        noise = self.noise * rng.fold_in(self.name).stream("noise").normal(clean.shape)
        noisy = self.operator(noise) if isinstance(self.operator, Inpaint) else noise
        return Measurement(self.operator, clean + noisy, self.noise)


TASKS = tuple(
    Task(f"{task}, noise {noise:g}", operator, noise)
    for task, operator in (("centre of 4 x 4 filled", Inpaint(_centre_mask())), ("twice as many pixels", Downsample(2)))
    for noise in (0.0, 0.1)
)


@dataclass(frozen=True, eq=False)
class DigitSet:
    """Test digits."""

    x: Float[Tensor, "n 1 8 8"]
    data: Dataset


def test_digits(count: int) -> tuple[DigitSet, DigitSet]:
    """Return the last test digits, for evaluation, and the first ones, for tuning."""
    test = read("example:digits/test")
    last = test.subset(torch.arange(len(test) - count, len(test)))
    first = test.subset(torch.arange(count))
    return DigitSet(last.modality.encode(last.values), last), DigitSet(first.modality.encode(first.values), first)


@functools.cache
def train_prior(steps: int, seed: int) -> PriorModel:
    """Return an unconditional flow of digits."""
    data = digits(steps).data
    data = Dataset(data.values, {}, Images(8, 8, 1, levels=LEVELS))
    recipe = replace(images(data, "small"), architecture=MLP(width=256, depth=3), train=TRAINING)
    model = fit_recipe(recipe, data, steps, seed)
    path, space, network = Affine(), model.spec.space, model.network.requires_grad_(False)
    return PriorModel(lambda rows: path.process(network, {}), path, space)


@functools.cache
def moments(steps: int) -> tuple[Float64[Tensor, " 64"], Float64[Tensor, "64 64"]]:
    """Return mean and covariance of the training digits."""
    data = digits(steps).data
    x = data.modality.encode(data.values).flatten(1).double()
    return x.mean(0), torch.cov(x.T)
