"""Networks (x_t, t, given) -> prediction; they know nothing of paths or of which quantity they predict."""

from feller.networks.architecture import Architecture, parameters
from feller.networks.average import Average
from feller.networks.chain import Chain
from feller.networks.decoder import Decoder
from feller.networks.mlp import MLP
from feller.networks.text import TextTransformer
from feller.networks.tokens import Embedded, TokenMLP
from feller.networks.transformer import Transformer
from feller.networks.unet import UNet

__all__ = [
    "MLP",
    "Architecture",
    "Average",
    "Chain",
    "Decoder",
    "Embedded",
    "TextTransformer",
    "TokenMLP",
    "Transformer",
    "UNet",
    "parameters",
]
