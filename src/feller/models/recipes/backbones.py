"""Protein backbones."""

from feller.data.modality import Dataset
from feller.data.proteins.backbones import Backbones
from feller.data.proteins.modality import Proteins
from feller.models.recipes.recipe import Recipe, need
from feller.networks.blocks.leaf_codecs import Numbers, Rotations
from feller.networks.graph.set_transformer import Sites
from feller.paths import Affine, Geodesic, Product
from feller.sampling.sampler_config import Sampling
from feller.spaces import SO3
from feller.training.losses import PerLeaf, Squared
from feller.training.objective import Matching
from feller.training.optimizer import Training


def backbones(data: Dataset, size: str) -> Recipe:
    """Geodesics between rotations, straight lines between places, and a transformer along the chain.

    Where there are sequences, they are left aside.
    """
    chains = data.modality.structure if isinstance(data.modality, Proteins) else data.modality
    modality = need(chains, Backbones, "backbones", "protein chains")
    width, depth, minutes = {"tiny": (64, 3, 2.0), "small": (96, 5, 15.0), "base": (192, 8, 240.0)}[size]
    space, rotations = modality.space(), SO3((modality.longest,))
    return Recipe(
        modality=None if modality is data.modality else modality,
        architecture=Sites(
            {"rotation": Rotations(), "position": Numbers()}, reach=32, count="length", width=width, depth=depth
        ),
        objective=Matching(
            path=Product({"rotation": Geodesic(rotations), "position": Affine()}),
            space=space,
            criterion=PerLeaf({"rotation": Squared(), "position": Squared()}),
            drop=0.0,  # without its length a chain has no end
        ),
        train=Training(batch=16, lr=2e-3, minutes=minutes),
        sampling=Sampling("midpoint", 64),
    )
