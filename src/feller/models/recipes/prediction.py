"""Recipes of regressors and classifiers."""

import math

from feller.core.errors import UsageError
from feller.data.crystals.modality import Crystals
from feller.data.images.modality import Images
from feller.data.modality import Dataset, Target
from feller.data.molecules.modality import Molecules
from feller.data.points.modality import NumericRows
from feller.models.recipes.recipe import Recipe
from feller.networks.blocks.leaf_codecs import AngleCodec, LeafCodec, RealCodec, TokenCodec
from feller.networks.graph.equivariant import EGNN
from feller.networks.graph.set_transformer import SetTransformer
from feller.networks.image.classifier import ConvClassifier
from feller.networks.mlp import MLP
from feller.networks.network_config import NetworkConfig
from feller.networks.prediction_head import Regressor
from feller.spaces import Euclidean, Torus
from feller.training.objectives.regression import Regression
from feller.training.optimizer import TrainConfig

ATOM_NOISE_STD, IMAGE_NOISE_STD = 0.02, 0.1
"""Standard deviation of the noise added to atoms and to images in training, for robustness to imperfect samples."""
ROW_NOISE_STD = 0.2
"""Standard deviation of the noise added in training to rows with class labels, which gives useful gradients away from
the decision boundary."""


def regressor(data: Dataset, size: str) -> Recipe:
    """Return a recipe for a regressor or classifier: a trunk network for features and a prediction head.

    `size` is the size of the model: "tiny", "small" or "base".
    """
    if data.target is None:
        raise UsageError("the recipe `regressor` needs a target: --target NAME, a column or property in the data")
    modality, noise_std = data.modality, 0.0
    atoms = modality.view(Molecules) or modality.view(Crystals)
    if atoms is not None:
        noise_std = ATOM_NOISE_STD
        architecture, training = _atom_regressor(atoms, data.target, size)
    elif modality.view(Images) is not None:
        noise_std = IMAGE_NOISE_STD
        minutes = {"tiny": 0.5, "small": 2.0, "base": 20.0}[size]
        architecture = ConvClassifier(data.target.num_outputs)
        training = TrainConfig(
            batch_size=128, lr=3e-3, weight_decay=1e-2, lr_decay_fraction=0.7, ema_decay=0.99, minutes=minutes
        )
    elif (rows := modality.view(NumericRows)) is not None:
        architecture, training = _row_regressor(rows, data.target, size)
        noise_std = ROW_NOISE_STD if data.target.classes and isinstance(modality.space(), Euclidean) else 0.0
    else:
        raise UsageError(
            "the recipe `regressor` needs molecules, crystals, images or rows", found=modality.display_name
        )
    return Recipe(
        architecture=architecture,
        objective=Regression(data.target, modality.space(), noise_std=noise_std),
        train=training,
    )


def _atom_regressor(modality: Molecules | Crystals, target: Target, size: str) -> tuple[NetworkConfig, TrainConfig]:
    """Return the network and training settings of a regressor for molecules or crystals.

    The network is a message-passing network for molecules, and a transformer over sites for crystals.
    """
    element = TokenCodec(len(modality.elements), has_mask=False)
    width, pair_width, depth, minutes = {
        "tiny": (32, 16, 2, 1.0),
        "small": (64, 32, 4, 10.0),
        "base": (128, 64, 6, 120.0),
    }[size]
    trunk: NetworkConfig
    if modality.view(Molecules) is not None:
        trunk = EGNN({"element": element}, count_condition="atoms", width=width, pair_width=pair_width, depth=depth)
    else:
        codecs: dict[str, LeafCodec] = {"element": element, "place": AngleCodec(), "lattice": RealCodec()}
        trunk = SetTransformer(
            codecs, global_leaves=("lattice",), pair_leaf="place", count_condition="atoms", width=width, depth=depth
        )
    return Regressor(trunk, target.num_outputs), TrainConfig(
        batch_size=32, lr=2e-3, lr_decay_fraction=0.8, ema_decay=0.998, minutes=minutes
    )


def _row_regressor(modality: NumericRows, target: Target, size: str) -> tuple[NetworkConfig, TrainConfig]:
    """Return the network (an MLP) and training settings of a regressor for numeric rows.

    Angles enter as Fourier features.
    """
    width, depth, minutes = {"tiny": (32, 2, 0.2), "small": (64, 2, 1.0), "base": (256, 4, 10.0)}[size]
    is_torus = isinstance(modality.space(), Torus)
    trunk = MLP(width, depth, frequencies=4 if is_torus else 0, period=2 * math.pi if is_torus else None)
    training = TrainConfig(
        batch_size=128, lr=2e-3, weight_decay=1e-1, lr_decay_fraction=0.8, ema_decay=0.99, minutes=minutes
    )
    return Regressor(trunk, target.num_outputs), training
