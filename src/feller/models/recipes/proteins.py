"""Recipes of protein backbones and sequences."""

from feller.data.modality import Dataset
from feller.data.proteins.backbones import Backbones
from feller.data.proteins.modality import Proteins
from feller.data.proteins.residues import LETTERS
from feller.models.recipes.recipe import Recipe, require_modality, selected_dropout
from feller.networks.blocks.leaf_codecs import LeafCodec, RealCodec, RotationCodec, TokenCodec
from feller.networks.graph.set_transformer import SetTransformer
from feller.paths import Affine, Geodesic, Mixture, ProductPath
from feller.paths.time_distributions import LeafTimes
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import SO3, MaskSource
from feller.training.losses import CrossEntropy, MaskedTokenLoss, PerLeafLoss, SquaredError
from feller.training.objective import FlowMatching
from feller.training.optimizer import TrainConfig

RESIDUE = 0.2
"""Weight of the residue loss; it is small, since the residue loss is larger than the structure losses and decreases
little."""


def proteins(data: Dataset, size: str) -> Recipe:
    """Return a protein recipe: structures as in `backbones`, residues from a mask source, and a joint transformer.

    `size` is the size of the model: "tiny", "small" or "base".

    In some training examples the sequence or the structure is observed, so that samples can be conditioned on either.
    """
    modality = require_modality(data.modality, Proteins, "proteins", "protein chains with their sequences")
    width, depth, minutes = {"tiny": (64, 3, 2.0), "small": (96, 5, 15.0), "base": (192, 8, 240.0)}[size]
    codecs: dict[str, LeafCodec] = {
        "rotation": RotationCodec(),
        "position": RealCodec(),
        "residue": TokenCodec(len(LETTERS)),
    }
    rotations = SO3((modality.structure.longest,))
    return Recipe(
        architecture=SetTransformer(codecs, max_distance=32, count_condition="length", width=width, depth=depth),
        objective=FlowMatching(
            ProductPath(
                {"rotation": Geodesic(rotations), "position": Affine(), "residue": Mixture(source=MaskSource())}
            ),
            modality.space(),
            PerLeafLoss(
                {"rotation": SquaredError(), "position": SquaredError(), "residue": MaskedTokenLoss(CrossEntropy())},
                {"residue": RESIDUE},
            ),
            cond_dropout=selected_dropout(modality),
            always_given=("length",),
            leaf_times=LeafTimes(observed_prob=0.5),
        ),
        train=TrainConfig(batch_size=16, lr=2e-3, minutes=minutes),
        sampling=SamplerConfig("midpoint", 64),
    )


def backbones(data: Dataset, size: str) -> Recipe:
    """Return a backbone recipe: geodesic path for rotations, affine path for positions, transformer along the chain.

    `size` is the size of the model: "tiny", "small" or "base".

    The residue types are ignored.
    """
    with_sequences = data.modality.view(Proteins)
    chains = data.modality if with_sequences is None else with_sequences.structure
    modality = require_modality(chains, Backbones, "backbones", "protein chains")
    width, depth, minutes = {"tiny": (64, 3, 2.0), "small": (96, 5, 15.0), "base": (192, 8, 240.0)}[size]
    space, rotations = modality.space(), SO3((modality.longest,))
    return Recipe(
        modality=None if modality is data.modality else modality,
        architecture=SetTransformer(
            {"rotation": RotationCodec(), "position": RealCodec()},
            max_distance=32,
            count_condition="length",
            width=width,
            depth=depth,
        ),
        objective=FlowMatching(
            path=ProductPath({"rotation": Geodesic(rotations), "position": Affine()}),
            space=space,
            criterion=PerLeafLoss({"rotation": SquaredError(), "position": SquaredError()}),
            cond_dropout=selected_dropout(modality),
            always_given=("length",),
        ),
        train=TrainConfig(batch_size=16, lr=2e-3, minutes=minutes),
        sampling=SamplerConfig("midpoint", 64),
    )
