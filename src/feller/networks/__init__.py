"""Networks (x_t, t, given) -> prediction; they know nothing of paths or of which quantity they predict."""

from feller.networks.architecture import Architecture, parameters
from feller.networks.average import Average
from feller.networks.captioned import Captioned
from feller.networks.classifier import Convolutional
from feller.networks.decoder import Decoder
from feller.networks.drift import BothWays, Potential
from feller.networks.equivariant import Equivariant
from feller.networks.estimator import Estimator
from feller.networks.leaves import Angles, Leaf, Numbers, Rotations, Symbols
from feller.networks.linear import Features, Linear
from feller.networks.mlp import MLP
from feller.networks.rows import RowTransformer
from feller.networks.sites import Sites
from feller.networks.text import TextTransformer
from feller.networks.together import Together
from feller.networks.tokens import Embedded, TokenMLP
from feller.networks.transformer import Transformer
from feller.networks.unet import UNet
from feller.networks.words import Words

__all__ = [
    "MLP",
    "Angles",
    "Architecture",
    "Average",
    "BothWays",
    "Captioned",
    "Convolutional",
    "Decoder",
    "Embedded",
    "Equivariant",
    "Estimator",
    "Features",
    "Leaf",
    "Linear",
    "Numbers",
    "Potential",
    "Rotations",
    "RowTransformer",
    "Sites",
    "Symbols",
    "TextTransformer",
    "Together",
    "TokenMLP",
    "Transformer",
    "UNet",
    "Words",
    "parameters",
]
