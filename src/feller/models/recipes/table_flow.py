"""Tables: numbers flow, words are hidden and revealed, and one network sees all of a row at once."""

from feller.data.modality import Dataset
from feller.data.tables.mixed import Mixed, as_table
from feller.data.tables.modality import Table
from feller.models.recipes.recipe import Recipe, need
from feller.models.recipes.tables import MOST, RAKED, SHARE, UNBOUND
from feller.networks.blocks.leaf_codecs import Leaf, Numbers
from feller.networks.mlp import Together
from feller.networks.sequence.categorical_columns import Words
from feller.paths import Affine, Mixture, Path, Product
from feller.paths.time_distributions import Uniform
from feller.sampling.sampler_config import Sampling
from feller.spaces import MaskSource
from feller.training.losses import CrossEntropy, Loss, PerLeaf, Squared, WhereMasked
from feller.training.objective import Matching
from feller.training.optimizer import Training

FLOW_SIZES = {"tiny": (64, 2, 300), "small": (128, 3, 1000), "base": (384, 4, 10_000)}
"""Width, depth and steps."""


def table_flow(data: Dataset, size: str) -> Recipe:
    """All columns at once: numbers by a flow, words by a process that reveals them.

    Times are independent of each other, so that one row more in a batch changes nothing about the others.

    Raises:
        UsageError: If the data are no table.
        InputError: If no column of the table is a number.
    """
    modality = Mixed(need(as_table(data).modality, Table, "table-flow", "a table"))
    width, depth, steps = FLOW_SIZES[size]
    leaves: dict[str, Leaf] = {"numbers": Numbers()}
    paths: dict[str, Path] = {"numbers": Affine()}
    losses: dict[str, Loss] = {"numbers": Squared()}
    if modality.words:
        leaves["words"] = Words(tuple(modality.words.values()))
        paths["words"], losses["words"] = Mixture(source=MaskSource()), WhereMasked(CrossEntropy())
    return Recipe(
        modality=modality,
        architecture=Together(leaves, width=width, depth=depth),
        objective=Matching(Product(paths), modality.space(), PerLeaf(losses), law=Uniform(), drop=0.0),
        train=Training(
            batch=max(1, min(MOST, len(data) // SHARE)),
            steps=steps,
            lr=4e-3,
            betas=(0.9, 0.99),
            warmup=20,
            clip=UNBOUND,
            average=0.99,
        ),
        sampling=Sampling("midpoint", 32, rake=RAKED if modality.table.shares else 0),
    )
