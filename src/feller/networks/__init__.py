"""Networks (x_t, t, given) -> prediction; they know nothing of paths or of which quantity they predict."""

from feller.networks.architecture import Architecture, parameters
from feller.networks.audio.frame_infiller import Infiller
from feller.networks.audio.spectral_vocoder import SpectralVocoder
from feller.networks.blocks.ema import EMA
from feller.networks.blocks.leaf_codecs import Angles, Leaf, Numbers, Rotations, Symbols
from feller.networks.blocks.relative_positions import ALiBi, Distance, Rotary
from feller.networks.blocks.time_conditioning import AdaNorm, Clock, NoTime, TimeToken
from feller.networks.bridge_drift import BothWays, Potential
from feller.networks.codebook.fsq import FSQ
from feller.networks.codebook.image_codes import Learned
from feller.networks.codebook.image_tokenizer import Tokenizer
from feller.networks.codebook.quantizer import Quantiser
from feller.networks.codebook.vq_ema import VectorQuantizerEMA
from feller.networks.external import Foreign
from feller.networks.graph.equivariant import Equivariant
from feller.networks.graph.set_transformer import Sites
from feller.networks.image.classifier import Convolutional
from feller.networks.image.dit import Transformer
from feller.networks.image.image_label_net import Captioned
from feller.networks.image.unet import UNet
from feller.networks.linear import Features, Linear
from feller.networks.mlp import MLP, Together
from feller.networks.regressor import Estimator
from feller.networks.sequence.bi_encoder import BiEncoder, Finder
from feller.networks.sequence.categorical_columns import Words
from feller.networks.sequence.causal_transformer import Decoder
from feller.networks.sequence.gpt import PlainDecoder
from feller.networks.sequence.row_transformer import RowTransformer
from feller.networks.sequence.text_dit import TextTransformer
from feller.networks.sequence.token_mlp import Embedded, TokenMLP

__all__ = [
    "EMA",
    "FSQ",
    "MLP",
    "ALiBi",
    "AdaNorm",
    "Angles",
    "Architecture",
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
    "VectorQuantizerEMA",
    "Words",
    "parameters",
]
