"""Networks (x_t, t, given) -> prediction; they know nothing of paths or of which quantity they predict."""

from feller.networks.architecture import Architecture, parameters
from feller.networks.average import Average
from feller.networks.bi_encoder import BiEncoder, Finder
from feller.networks.captioned import Captioned
from feller.networks.classifier import Convolutional
from feller.networks.clock import AdaNorm, Clock, NoTime, TimeToken
from feller.networks.codebook.fsq import FSQ
from feller.networks.codebook.picture_codes import Learned
from feller.networks.codebook.quantiser import Quantiser
from feller.networks.codebook.tokenizer import Tokenizer
from feller.networks.codebook.vq import EMA
from feller.networks.decoder import Decoder
from feller.networks.distance import ALiBi, Distance, Rotary
from feller.networks.drift import BothWays, Potential
from feller.networks.equivariant import Equivariant
from feller.networks.estimator import Estimator
from feller.networks.foreign import Foreign
from feller.networks.infiller import Infiller
from feller.networks.leaves import Angles, Leaf, Numbers, Rotations, Symbols
from feller.networks.linear import Features, Linear
from feller.networks.mlp import MLP
from feller.networks.plain_decoder import PlainDecoder
from feller.networks.rows import RowTransformer
from feller.networks.sites import Sites
from feller.networks.text import TextTransformer
from feller.networks.together import Together
from feller.networks.tokens import Embedded, TokenMLP
from feller.networks.transformer import Transformer
from feller.networks.unet import UNet
from feller.networks.vocoder import SpectralVocoder
from feller.networks.words import Words

__all__ = [
    "EMA",
    "FSQ",
    "MLP",
    "ALiBi",
    "AdaNorm",
    "Angles",
    "Architecture",
    "Average",
    "BiEncoder",
    "BothWays",
    "Captioned",
    "Clock",
    "Convolutional",
    "Decoder",
    "Distance",
    "Embedded",
    "Equivariant",
    "Estimator",
    "Features",
    "Finder",
    "Foreign",
    "Infiller",
    "Leaf",
    "Learned",
    "Linear",
    "NoTime",
    "Numbers",
    "PlainDecoder",
    "Potential",
    "Quantiser",
    "Rotary",
    "Rotations",
    "RowTransformer",
    "Sites",
    "SpectralVocoder",
    "Symbols",
    "TextTransformer",
    "TimeToken",
    "Together",
    "TokenMLP",
    "Tokenizer",
    "Transformer",
    "UNet",
    "Words",
    "parameters",
]
