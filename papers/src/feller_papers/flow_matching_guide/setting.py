"""Budgets, exact fields and small networks of the claims."""

import pathlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from feller.data.loading.dataset_reader import read
from feller.data.modality import Dataset
from feller.models.recipes.recipe import Recipe
from feller.networks.mlp import MLP
from feller.paths import Affine, DataPrediction, Prediction, convert
from feller.paths.path import Cond
from feller.paths.schedules import Schedule
from feller.spaces import Euclidean
from feller.training.couplings import Coupling, IndependentCoupling
from feller.training.objective import FlowMatching
from feller.training.optimizer import TrainConfig
from feller_papers.setting import fit_recipe


@dataclass(frozen=True)
class Setting:
    """Budgets of all claims."""

    seeds: tuple[int, ...]
    steps: int
    """Training steps per network."""
    data: pathlib.Path | None = None
    """Folder with the larger data sets, which are not in the package."""


class ExactField(nn.Module):
    """Exact marginal field of a finite data set on an affine path."""

    nulls: dict[str, int] = {}  # noqa: RUF012 - no conditions

    def __init__(self, data: Tensor, schedule: Schedule, prediction: Prediction) -> None:
        super().__init__()
        self.data, self.schedule, self.prediction = data, schedule, prediction

    def forward(self, x_t: Tensor, t: Tensor, given: Cond) -> Tensor:
        """Return E[x_1 | x_t], converted to the prediction type."""
        scales = self.schedule(t)
        alpha, sigma = (torch.as_tensor(number).expand(t.shape)[:, None] for number in scales[:2])
        distance = (x_t[:, None] - alpha[..., None] * self.data).square().sum(-1)
        weight = torch.softmax(-distance / (2 * sigma.clamp(min=1e-9) ** 2), 1)
        return convert(weight @ self.data, DataPrediction(), self.prediction, x_t, scales)


def few_points() -> Tensor:
    """Return 32 points of two moons."""
    return read("example:moons").values[:32].double()


def fit_points(data: Dataset, setting: Setting, seed: int, coupling: Coupling | None = None) -> nn.Module:
    """Return a network trained on points, with EMA weights."""
    recipe = Recipe(
        architecture=MLP(width=128, depth=3, frequencies=4),
        objective=FlowMatching(Affine(), Euclidean((2,)), coupling=coupling or IndependentCoupling()),
        train=TrainConfig(batch_size=512, lr=2e-3),
    )
    return fit_recipe(recipe, data, setting.steps, seed).network
