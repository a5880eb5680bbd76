"""Recipes of crystals and molecules."""

from feller.data.crystals.modality import Crystals
from feller.data.modality import Dataset
from feller.data.molecules.modality import Molecules
from feller.models.recipes.recipe import Recipe, require_modality, selected_dropout
from feller.networks.blocks.leaf_codecs import AngleCodec, LeafCodec, RealCodec, TokenCodec
from feller.networks.graph.equivariant import EGNN
from feller.networks.graph.set_transformer import SetTransformer
from feller.paths import Affine, Geodesic, Mixture, ProductPath
from feller.paths.time_distributions import LeafTimes
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import MaskSource, Torus
from feller.training.couplings import EquivariantOT
from feller.training.losses import CrossEntropy, MaskedTokenLoss, PerLeafLoss, SquaredError
from feller.training.objective import FlowMatching
from feller.training.optimizer import TrainConfig


def crystals(data: Dataset, size: str) -> Recipe:
    """Return a recipe for crystals, with a source and path for each of elements, positions and lattices.

    `size` is the size of the model: "tiny", "small" or "base".

    Elements have a mask source, fractional coordinates a geodesic path on the torus, and lattices an affine path. In
    some training examples the elements or the lattice are observed, so that samples can be conditioned on either.
    """
    modality = require_modality(data.modality, Crystals, "crystals", "crystals")
    width, depth, minutes = {"tiny": (64, 3, 2.0), "small": (128, 4, 10.0), "base": (256, 8, 120.0)}[size]
    codecs: dict[str, LeafCodec] = {
        "element": TokenCodec(len(modality.elements)),
        "place": AngleCodec(),
        "lattice": RealCodec(),
    }
    return Recipe(
        architecture=SetTransformer(
            codecs, global_leaves=("lattice",), pair_leaf="place", count_condition="atoms", width=width, depth=depth
        ),
        objective=FlowMatching(
            ProductPath(
                {
                    "element": Mixture(source=MaskSource()),
                    "place": Geodesic(Torus((modality.longest, 3))),
                    "lattice": Affine(),
                }
            ),
            modality.space(),
            PerLeafLoss(
                {"element": MaskedTokenLoss(CrossEntropy()), "place": SquaredError(), "lattice": SquaredError()}
            ),
            cond_dropout=selected_dropout(modality),
            always_given=("atoms",),
            leaf_times=LeafTimes(observed_prob=0.3, conditionable=("element", "lattice")),
        ),
        train=TrainConfig(batch_size=128, lr=2e-3, lr_decay_fraction=0.5, ema_decay=0.998, minutes=minutes),
        sampling=SamplerConfig("midpoint", 64),
    )


def molecules(data: Dataset, size: str) -> Recipe:
    """Return a recipe for molecules, with a source and path for each of elements and positions.

    `size` is the size of the model: "tiny", "small" or "base".

    Elements have a mask source; positions have an affine path with equivariant optimal transport. In some training
    examples the elements are observed, so that samples can be conditioned on a formula.
    """
    modality = require_modality(data.modality, Molecules, "molecules", "molecules")
    width, pair_width, depth, minutes = {
        "tiny": (48, 24, 3, 5.0),
        "small": (112, 40, 6, 30.0),
        "base": (256, 96, 9, 600.0),
    }[size]
    return Recipe(
        architecture=EGNN(
            {"element": TokenCodec(len(modality.elements))},
            count_condition="atoms",
            width=width,
            pair_width=pair_width,
            depth=depth,
        ),
        objective=FlowMatching(
            ProductPath({"element": Mixture(source=MaskSource()), "place": Affine()}),
            modality.space(),
            PerLeafLoss({"element": MaskedTokenLoss(CrossEntropy()), "place": SquaredError()}),
            coupling=EquivariantOT(),
            cond_dropout=selected_dropout(modality),
            always_given=("atoms",),
            leaf_times=LeafTimes(observed_prob=0.2, conditionable=("element",)),
        ),
        train=TrainConfig(batch_size=32, lr=1.5e-3, lr_decay_fraction=0.5, ema_decay=0.999, minutes=minutes),
        sampling=SamplerConfig("midpoint", 128),
    )
