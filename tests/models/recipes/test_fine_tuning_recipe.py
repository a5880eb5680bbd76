"""The training settings of fine-tuning follow the network and the method."""

import pytest

from feller.core.rng import Rng
from feller.data.points.euclidean_points import Points
from feller.models.families.path_process import PathProcess
from feller.models.model import Model
from feller.models.recipes.fine_tuning_methods import DEFAULT_TRAINING, MLP_TRAINING, fine_tuning_recipe
from feller.models.spec import ModelSpec
from feller.networks.mlp import MLP
from feller.paths import Affine
from feller.training.optimizer import TrainConfig


@pytest.mark.parametrize(
    ("method", "training"),
    [
        ("adjoint-matching", MLP_TRAINING),
        ("continuous-adjoint", MLP_TRAINING),
        ("policy-gradient", DEFAULT_TRAINING),
        ("draft", DEFAULT_TRAINING),
    ],
)
def test_roll_outs_of_points_serve_several_steps(method: str, training: TrainConfig) -> None:
    kind = Points(("a",), (0.0,), (1.0,))
    spec = ModelSpec(kind, kind.space(), PathProcess(Affine()), MLP(8, 1))
    recipe = fine_tuning_recipe(method, Model.from_spec(spec, spec.build(Rng(0))), 1.0, 1.0)
    assert recipe.train == training
    assert (MLP_TRAINING.reuse_batches, DEFAULT_TRAINING.reuse_batches) == (4, 1)
