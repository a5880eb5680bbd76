"""Recipe of arrays with channels: time series, fields, volumes and videos."""

import math

from feller.data.arrays.modality import STEPS, Arrays
from feller.data.modality import Dataset
from feller.models.recipes.recipe import Recipe, require_modality
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

INPAINT_PROB = 0.5
"""Probability that some entries of a training example are observed, so that samples can complete arrays."""


def arrays(data: Dataset, size: str) -> Recipe:
    """Return a recipe for arrays: affine flow, with a U-Net that downsamples the longest side to about 8 entries.

    `size` is the size of the model: "tiny", "small" or "base".

    In half of the training examples some entries are observed, so that gaps can be imputed and series continued.
    """
    modality = require_modality(data.modality, Arrays, "arrays", "arrays of numbers")
    is_grid = 2 <= len(modality.shape) <= 4
    architecture: NetworkConfig = grid_unet(modality.shape, size) if is_grid else MLP(width=4 * CHANNELS[size], depth=3)
    return Recipe(
        architecture=architecture,
        objective=FlowMatching(
            Affine(),
            modality.space(),
            always_given=(STEPS,) if modality.lengths else (),
            inpaint_prob=INPAINT_PROB if is_grid else 0.0,
            observed_masks=EntriesGapsAndEnds() if is_grid else RandomEntries(),
        ),
        train=TrainConfig(batch_size=64, lr=RATES[size], minutes=MINUTES[size]),
        sampling=SamplerConfig("midpoint", 64),
    )


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
