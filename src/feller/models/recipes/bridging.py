"""How populations of a kind are bridged."""

from feller.control.bridges.settings import Bridging
from feller.data.images.modality import Images
from feller.data.points.points import Points
from feller.models.recipes.images import unet
from feller.networks.networks_mlp import MLP
from feller.training.optimizer import Training

WIDE = 64
"""Numbers of a state beyond which the network is wider."""


def bridging(modality: Points | Images) -> Bridging:
    """Return the settings for populations of a kind.

    Pictures are seen by the U-Net that also draws them; rows of numbers by a perceptron.
    """
    if isinstance(modality, Images):
        train = Training(batch=64, steps=1000, lr=1e-3, average=0.998, decay=0.0, warmup=50)
        return Bridging(architecture=unet(modality, "small"), pairs=512, train=train)
    numbers = len(modality.columns)
    return Bridging(architecture=MLP(width=128 if numbers <= WIDE else 256, depth=3))
