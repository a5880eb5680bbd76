"""Networks that tell numbers about data, or their class, instead of drawing data."""

import math

from feller.core.errors import UsageError
from feller.data.crystals.modality import Crystals
from feller.data.images.modality import Images
from feller.data.modality import Dataset, Target
from feller.data.molecules.modality import Molecules
from feller.data.points.modality import Rows
from feller.models.recipes.recipe import Recipe
from feller.networks.architecture import Architecture
from feller.networks.blocks.leaf_codecs import Angles, Leaf, Numbers, Symbols
from feller.networks.graph.equivariant import Equivariant
from feller.networks.graph.set_transformer import Sites
from feller.networks.image.classifier import Convolutional
from feller.networks.mlp import MLP
from feller.networks.regressor import Estimator
from feller.spaces import Euclidean, Torus
from feller.training.objectives.regression import Regression
from feller.training.optimizer import Training

OFF, GRAIN = 0.02, 0.1
"""Deviations of the noise on states of atoms and of pictures in training: that of samples which are a little off."""
BLUR = 0.2
"""The same of rows whose class is told: a border between classes that is sharp would have no slope elsewhere."""


def regressor(data: Dataset, size: str) -> Recipe:
    """Features of a whole example, and a small network that reads the target from them."""
    if data.target is None:
        raise UsageError("the recipe `regressor` needs what it is to tell: --target NAME, a number that files give")
    modality, noise = data.modality, 0.0
    atoms = modality.view(Molecules) or modality.view(Crystals)
    if atoms is not None:
        noise = OFF
        architecture, training = _of_atoms(atoms, data.target, size)
    elif modality.view(Images) is not None:
        noise = GRAIN
        minutes = {"tiny": 0.5, "small": 2.0, "base": 20.0}[size]
        architecture = Convolutional(data.target.answers)
        training = Training(batch=128, lr=3e-3, weight_decay=1e-2, decay=0.7, average=0.99, minutes=minutes)
    elif (rows := modality.view(Rows)) is not None:
        architecture, training = _of_rows(rows, data.target, size)
        noise = BLUR if data.target.classes and isinstance(modality.space(), Euclidean) else 0.0
    else:
        raise UsageError("the recipe `regressor` needs molecules, crystals, pictures or rows", found=modality.called)
    return Recipe(
        architecture=architecture,
        objective=Regression(data.target, modality.space(), noise=noise),
        train=training,
    )


def _of_atoms(modality: Molecules | Crystals, target: Target, size: str) -> tuple[Architecture, Training]:
    """Messages between all pairs of atoms in space, or attention among the sites of a cell."""
    element = Symbols(len(modality.elements), masked=False)
    width, pair, depth, minutes = {"tiny": (32, 16, 2, 1.0), "small": (64, 32, 4, 10.0), "base": (128, 64, 6, 120.0)}[
        size
    ]
    trunk: Architecture
    if modality.view(Molecules) is not None:
        trunk = Equivariant({"element": element}, count="atoms", width=width, pair=pair, depth=depth)
    else:
        kinds: dict[str, Leaf] = {"element": element, "place": Angles(), "lattice": Numbers()}
        trunk = Sites(kinds, whole=("lattice",), apart="place", count="atoms", width=width, depth=depth)
    return Estimator(trunk, target.answers), Training(batch=32, lr=2e-3, decay=0.8, average=0.998, minutes=minutes)


def _of_rows(modality: Rows, target: Target, size: str) -> tuple[Architecture, Training]:
    """A perceptron, which sees angles as waves."""
    width, depth, minutes = {"tiny": (32, 2, 0.2), "small": (64, 2, 1.0), "base": (256, 4, 10.0)}[size]
    turning = isinstance(modality.space(), Torus)
    trunk = MLP(width, depth, frequencies=4 if turning else 0, period=2 * math.pi if turning else None)
    training = Training(batch=128, lr=2e-3, weight_decay=1e-1, decay=0.8, average=0.99, minutes=minutes)
    return Estimator(trunk, target.answers), training
