"""Recipe of arrays with channels: time series, fields, volumes and videos."""

import math

from feller.data.arrays.modality import STEPS, Arrays
from feller.data.modality import Dataset
from feller.models.recipes.recipe import Recipe, require_modality
from feller.networks.grid.patch_transformer import PatchTransformer
from feller.networks.grid.unet_nd import UNetND
from feller.networks.mlp import MLP
from feller.networks.network_config import NetworkConfig
from feller.paths import Affine
from feller.sampling.sampler_config import SamplerConfig
from feller.training.objective import FlowMatching
from feller.training.observed_masks import EntriesGapsAndEnds, RandomEntries
from feller.training.optimizer import TrainConfig

CHANNELS = {"tiny": 16, "small": 32, "base": 64}
RATES = {"tiny": 4e-3, "small": 2e-3, "base": 1e-3}
MINUTES = {"tiny": 1.0, "small": 10.0, "base": 120.0}
MULTIPLIERS = 1, 2, 2, 4, 4, 4
MAX_ATTENTION_SITES = 512
"""Number of sites up to which a level of the U-Net has attention."""

TRANSFORMER_SIZES = {"tiny": (64, 4), "small": (128, 6), "base": (384, 12)}
"""Width and depth of the transformer."""
TRANSFORMER_RATES = {"tiny": 2e-3, "small": 1e-3, "base": 4e-4}
MAX_PATCHES = 128
"""Maximum number of patches of an array for the transformer."""

INPAINT_PROB = 0.5
"""Probability that some entries of a training example are observed, so that samples can complete arrays."""


def arrays(data: Dataset, size: str) -> Recipe:
    """Return a recipe for arrays: affine flow, with a U-Net that downsamples the longest side to about 8 entries.

    `size` is the size of the model: "tiny", "small" or "base".

    In half of the training examples some entries are observed, so that gaps can be imputed and series continued.
    """
    modality = require_modality(data.modality, Arrays, "arrays", "arrays of numbers")
    return _recipe(modality, grid_unet(modality.shape, size) if _is_grid(modality) else None, size, RATES[size])


def arrays_transformer(data: Dataset, size: str) -> Recipe:
    """Return a recipe for arrays: that of `arrays` with a transformer over patches, at most 128 of them.

    `size` is the size of the model: "tiny", "small" or "base".
    """
    modality = require_modality(data.modality, Arrays, "arrays-transformer", "arrays of numbers")
    architecture = patch_transformer(modality.shape, size) if _is_grid(modality) else None
    return _recipe(modality, architecture, size, TRANSFORMER_RATES[size])


def _is_grid(modality: Arrays) -> bool:
    """Return True for arrays with one to three sides and channels."""
    return 2 <= len(modality.shape) <= 4


def _recipe(modality: Arrays, network: NetworkConfig | None, size: str, lr: float) -> Recipe:
    """Return the recipe with a network for grids; None for other arrays, for which the network is an MLP."""
    is_grid = network is not None
    architecture: NetworkConfig = MLP(width=4 * CHANNELS[size], depth=3) if network is None else network
    return Recipe(
        architecture=architecture,
        objective=FlowMatching(
            Affine(),
            modality.space(),
            always_given=(STEPS,) if modality.lengths else (),
            inpaint_prob=INPAINT_PROB if is_grid else 0.0,
            observed_masks=EntriesGapsAndEnds() if is_grid else RandomEntries(),
        ),
        train=TrainConfig(batch_size=64, lr=lr, minutes=MINUTES[size]),
        sampling=SamplerConfig("midpoint", 32),
    )


def patch_transformer(shape: tuple[int, ...], size: str) -> PatchTransformer:
    """Return a transformer for arrays of a shape [*sides, channels]; patches are as small as MAX_PATCHES allows.

    `size` is the size of the model: "tiny", "small" or "base".
    """
    patch = 1
    while math.prod(-(-side // patch) for side in shape[:-1]) > MAX_PATCHES:
        patch *= 2
    width, depth = TRANSFORMER_SIZES[size]
    return PatchTransformer(patch=patch, width=width, depth=depth)


def grid_unet(shape: tuple[int, ...], size: str) -> UNetND:
    """Return a U-Net for arrays of a shape [*sides, channels]; levels with few sites have attention.

    `size` is the size of the model: "tiny", "small" or "base".
    """
    sides = shape[:-1]
    levels = max(1, min(len(MULTIPLIERS), (max(sides) - 1).bit_length() - 2))
    sites = [math.prod(-(-side // 2**level) for side in sides) for level in range(levels)]
    return UNetND(
        channels=CHANNELS[size],
        multipliers=MULTIPLIERS[:levels],
        blocks=2 if size == "base" or levels == 1 else 1,
        attention=tuple(count <= MAX_ATTENTION_SITES and level > 0 for level, count in enumerate(sites)),
    )
