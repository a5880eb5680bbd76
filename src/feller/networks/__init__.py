"""Networks from (x_t, t, cond) to a prediction; they do not depend on the path or on the predicted quantity."""

from feller.networks.audio.frame_infiller import FrameInfiller
from feller.networks.audio.spectral_vocoder import SpectralVocoder
from feller.networks.blocks.ema import EMA
from feller.networks.blocks.leaf_codecs import AngleCodec, LeafCodec, RealCodec, RotationCodec, TokenCodec
from feller.networks.blocks.relative_positions import ALiBi, PositionEncoding, Rotary
from feller.networks.blocks.time_conditioning import AdaLNZero, NoTimeConditioning, TimeConditioning, TimeToken
from feller.networks.bridge_drift import ForwardBackwardDrift, Potential
from feller.networks.codebook.conv_tokenizer import ConvTokenizer
from feller.networks.codebook.fsq import FSQ
from feller.networks.codebook.learned_image_tokenizer import LearnedImageTokenizer
from feller.networks.codebook.quantizer import Quantizer
from feller.networks.codebook.vq_ema import VectorQuantizerEMA
from feller.networks.external import ExternalNetwork
from feller.networks.graph.equivariant import EGNN
from feller.networks.graph.set_transformer import SetTransformer
from feller.networks.grid.patch_transformer import PatchTransformer
from feller.networks.grid.unet_nd import UNetND
from feller.networks.image.autoencoder import ConvAutoencoder
from feller.networks.image.classifier import ConvClassifier
from feller.networks.image.dit import DiT
from feller.networks.image.image_label_net import ImageLabelNet
from feller.networks.image.latent_bottlenecks import GaussianLatents, QuantizedLatents
from feller.networks.image.latent_pixels import AsLatents
from feller.networks.image.patch_discriminator import AdversarialAutoencoder
from feller.networks.image.unet import UNet
from feller.networks.linear_classifier import FeatureMap, LinearClassifier
from feller.networks.mlp import MLP, JointMLP
from feller.networks.network_config import NetworkConfig, count_parameters
from feller.networks.prediction_head import Regressor
from feller.networks.sequence.bi_encoder import BiEncoder, LearnedDocumentEncoder
from feller.networks.sequence.categorical_columns import CategoricalColumns
from feller.networks.sequence.causal_transformer import CausalTransformer
from feller.networks.sequence.gpt import GPT
from feller.networks.sequence.history_transformer import HistoryTransformer
from feller.networks.sequence.language_attention import (
    AttentionPattern,
    BlockAttention,
    CausalAttention,
    FullAttention,
)
from feller.networks.sequence.language_transformer import LanguageTransformer
from feller.networks.sequence.patch_positions import CollapsedHoles, HolePositions, PlannedHoles
from feller.networks.sequence.row_transformer import RowTransformer
from feller.networks.sequence.text_dit import TextDiT
from feller.networks.sequence.token_mlp import TokenAdapter, TokenMLP

__all__ = [
    "EGNN",
    "EMA",
    "FSQ",
    "GPT",
    "MLP",
    "ALiBi",
    "AdaLNZero",
    "AdversarialAutoencoder",
    "AngleCodec",
    "AsLatents",
    "AttentionPattern",
    "BiEncoder",
    "BlockAttention",
    "CategoricalColumns",
    "CausalAttention",
    "CausalTransformer",
    "CollapsedHoles",
    "ConvAutoencoder",
    "ConvClassifier",
    "ConvTokenizer",
    "DiT",
    "ExternalNetwork",
    "FeatureMap",
    "ForwardBackwardDrift",
    "FrameInfiller",
    "FullAttention",
    "GaussianLatents",
    "HistoryTransformer",
    "HolePositions",
    "ImageLabelNet",
    "JointMLP",
    "LanguageTransformer",
    "LeafCodec",
    "LearnedDocumentEncoder",
    "LearnedImageTokenizer",
    "LinearClassifier",
    "NetworkConfig",
    "NoTimeConditioning",
    "PatchTransformer",
    "PlannedHoles",
    "PositionEncoding",
    "Potential",
    "QuantizedLatents",
    "Quantizer",
    "RealCodec",
    "Regressor",
    "Rotary",
    "RotationCodec",
    "RowTransformer",
    "SetTransformer",
    "SpectralVocoder",
    "TextDiT",
    "TimeConditioning",
    "TimeToken",
    "TokenAdapter",
    "TokenCodec",
    "TokenMLP",
    "UNet",
    "UNetND",
    "VectorQuantizerEMA",
    "count_parameters",
]
