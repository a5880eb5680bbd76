"""Recipes of tables: row transformer, language model, flow, graphical model of marginals, private regression."""

import math

from feller.core.errors import UsageError
from feller.data.images.modality import Images
from feller.data.modality import Dataset
from feller.data.tables.histories import Histories
from feller.data.tables.mixed_table import MixedTable
from feller.data.tables.modality import Table
from feller.models.model import Model
from feller.models.pretrained.row_language_model import RowLanguageModel
from feller.models.pretrained.row_texts import row_language_model
from feller.models.recipes.recipe import Recipe, require_modality
from feller.networks.blocks.leaf_codecs import LeafCodec, RealCodec
from feller.networks.linear_classifier import FeatureMap, LinearClassifier, OneHotFeatures, PixelFeatures
from feller.networks.mlp import JointMLP
from feller.networks.sequence.categorical_columns import CategoricalColumns
from feller.networks.sequence.history_transformer import HistoryTransformer
from feller.networks.sequence.row_transformer import RowTransformer
from feller.paths import Affine, Mixture, Path, ProductPath
from feller.paths.time_distributions import Uniform
from feller.privacy.marginals.marginal_network import MarginalTables
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import MaskSource
from feller.training.losses import CrossEntropy, Loss, MaskedTokenLoss, PerLeafLoss, SquaredError
from feller.training.objective import FlowMatching
from feller.training.objectives.history_likelihood import HistoryLikelihood
from feller.training.objectives.marginal_fitting import MarginalFitting
from feller.training.objectives.next_token_prediction import RowLikelihood
from feller.training.objectives.output_perturbation import OutputPerturbation
from feller.training.optimizer import TrainConfig

SIZES = {"tiny": (32, 2, 4, 200), "small": (64, 2, 4, 400), "base": (128, 3, 4, 1500)}
"""For each size: width, depth, number of heads, and number of training steps."""
MAX_BATCH_SIZE, BATCH_DIVISOR = 1024, 4
"""Maximum batch size, and divisor of the number of rows that gives the batch size. A few large batches suit private
training."""
PRETRAINED_STEP_FRACTION = 3 / 8
"""Factor that multiplies the number of training steps if the network is pretrained on noisy counts."""
SHUFFLE_PROB = 0.5
"""Probability of a random column order in training, unless the network is pretrained on noisy counts."""
NO_CLIP_NORM = 1e6
"""Clipping norm of batch gradients that is too large to have an effect; private training clips per-example gradients
instead."""
RAKING_OVERSAMPLE = 3
"""Number of rows sampled per returned row if samples are raked to known marginals."""


def table(data: Dataset, size: str) -> Recipe:
    """Return a table recipe: a causal transformer over columns, conditioned on the schema.

    `size` is the size of the model: "tiny", "small" or "base".

    By default half of the orders in training are random, so that cells can be imputed and samples conditioned on any
    columns. This also reduces overfitting, as do weights selected on held-out rows. After pretraining on noisy counts,
    only the order of the table is trained.
    """
    modality = require_modality(data.modality, Table, "table", "a table")
    width, depth, heads, steps = SIZES[size]
    space, is_pretrained = modality.space(), bool(modality.crosstabs)
    return Recipe(
        architecture=RowTransformer(space, width=width, depth=depth, heads=heads),
        objective=RowLikelihood(space, shuffle_prob=0.0 if is_pretrained else SHUFFLE_PROB),
        train=TrainConfig(
            batch_size=max(1, min(MAX_BATCH_SIZE, len(data) // BATCH_DIVISOR)),
            steps=round(PRETRAINED_STEP_FRACTION * steps) if is_pretrained else steps,
            lr=1e-3 if is_pretrained else 4e-3,
            betas=(0.9, 0.99),
            warmup=20,
            grad_clip_norm=NO_CLIP_NORM,
            ema_decay=0.98,
            keep_best=True,
        ),
        sampling=SamplerConfig("euler", raking_oversample=RAKING_OVERSAMPLE if modality.marginals else 0),
    )


HISTORY_STEPS = {"tiny": 200, "small": 600, "base": 2000}
"""For each size: number of training steps of a model of histories, whose network has the size of the recipe `table`."""
HISTORY_BATCH_SIZE = 256
"""Maximum number of persons per batch."""
PERSON_OVERSAMPLE = 2
"""Number of persons sampled per returned person, whose attributes are raked to noisy marginals: clipped gradients of
persons with many rows count less, so that a private model has too few of them."""


def table_histories(data: Dataset, size: str) -> Recipe:
    """Return a table recipe for several rows per person: a transformer over rows, and one over the columns of a row.

    `size` is the size of the model: "tiny", "small" or "base".
    """
    modality = require_modality(
        data.modality, Histories, "table-histories", "a table with several rows per person (--person)"
    )
    width, depth, heads, _ = SIZES[size]
    space, is_pretrained = modality.space(), bool(modality.crosstabs)
    return Recipe(
        architecture=HistoryTransformer(space, width=width, depth=depth, heads=heads),
        objective=HistoryLikelihood(space),
        train=TrainConfig(
            batch_size=max(1, min(HISTORY_BATCH_SIZE, len(data) // BATCH_DIVISOR)),
            steps=round(PRETRAINED_STEP_FRACTION * HISTORY_STEPS[size]) if is_pretrained else HISTORY_STEPS[size],
            lr=1e-3 if is_pretrained else 4e-3,
            betas=(0.9, 0.99),
            warmup=20,
            grad_clip_norm=NO_CLIP_NORM,
            ema_decay=0.98,
            keep_best=True,
        ),
        sampling=SamplerConfig("euler", raking_oversample=PERSON_OVERSAMPLE if is_pretrained else 0),
    )


LANGUAGE_MODEL_STEPS = {"tiny": 100, "small": 400, "base": 1500}
"""For each size: number of training steps of a language model, whose network has the size of the older model."""
LANGUAGE_MODEL_BATCH_SIZE = 64
"""Maximum batch size of a language model."""


def table_language_model(data: Dataset, size: str, base: Model) -> Recipe:
    """Return a table recipe: a language model reads and writes rows as texts, of which only valid rows are possible.

    `size` is the size of the training budget: "tiny", "small" or "base". Numbers that other recipes generate digit by
    digit are binned. Column orders are as in the recipe `table`.

    Args:
        data: Rows of a table.
        size: Size.
        base: Autoregressive language model of texts, or of rows of the same columns, with whose weights training
            starts.

    Raises:
        UsageError: If the older model is of another type, or rows have more subwords than it has positions.
        InputError: If its tokenizer does not tell values of a column apart.
    """
    table, network = require_modality(data.modality, Table, "table-language-model", "a table"), base.spec.architecture
    modality = table
    if not isinstance(network, RowLanguageModel):
        modality, network = row_language_model(table.by_levels(), base)
    return Recipe(
        architecture=network,
        objective=RowLikelihood(modality.space(), shuffle_prob=0.0),
        modality=modality,
        train=TrainConfig(
            batch_size=max(1, min(LANGUAGE_MODEL_BATCH_SIZE, len(data) // BATCH_DIVISOR)),
            steps=LANGUAGE_MODEL_STEPS[size],
            lr=network.max_finetune_lr,
            warmup=20,
            ema_decay=0.99,
        ),
        sampling=SamplerConfig("euler", raking_oversample=RAKING_OVERSAMPLE if modality.marginals else 0),
    )


FLOW_SIZES = {"tiny": (64, 2, 300), "small": (128, 3, 1000), "base": (384, 4, 10_000)}
"""For each size: width, depth, and number of training steps of the flow."""


def table_flow(data: Dataset, size: str) -> Recipe:
    """Return a table recipe: a flow for numeric columns; a discrete flow with a mask source for categorical columns.

    `size` is the size of the model: "tiny", "small" or "base".

    Training times are sampled independently for each row, as private training requires.
    """
    modality = MixedTable(require_modality(data.modality.for_metrics(data).modality, Table, "table-flow", "a table"))
    width, depth, steps = FLOW_SIZES[size]
    leaves: dict[str, LeafCodec] = {"numbers": RealCodec()}
    paths: dict[str, Path] = {"numbers": Affine()}
    losses: dict[str, Loss] = {"numbers": SquaredError()}
    if modality.words:
        leaves["words"] = CategoricalColumns(tuple(modality.words.values()))
        paths["words"], losses["words"] = Mixture(source=MaskSource()), MaskedTokenLoss(CrossEntropy())
    return Recipe(
        modality=modality,
        architecture=JointMLP(leaves, width=width, depth=depth),
        objective=FlowMatching(
            ProductPath(paths), modality.space(), PerLeafLoss(losses), time_distribution=Uniform(), cond_dropout=0.0
        ),
        train=TrainConfig(
            batch_size=max(1, min(MAX_BATCH_SIZE, len(data) // BATCH_DIVISOR)),
            steps=steps,
            lr=4e-3,
            betas=(0.9, 0.99),
            warmup=20,
            grad_clip_norm=NO_CLIP_NORM,
            ema_decay=0.99,
        ),
        sampling=SamplerConfig("midpoint", 32, raking_oversample=RAKING_OVERSAMPLE if modality.table.marginals else 0),
    )


MODEL_MIB = {"tiny": 0.1, "small": 1.0, "base": 8.0}
"""For each size: maximum size of the graphical model in MiB."""


def table_marginals(data: Dataset, size: str) -> Recipe:
    """Return a table recipe: a graphical model fitted to noisy marginals, which takes seconds on one CPU core.

    `size` is the size of the model: "tiny", "small" or "base".

    Samples can be conditioned exactly on any columns. `objective.method` is the method that selects the marginals.
    Numbers that other recipes generate digit by digit are binned.
    """
    table = require_modality(data.modality, Table, "table-marginals", "a table")
    modality = table.by_levels().with_marginals(())
    space = modality.space()
    return Recipe(
        architecture=MarginalTables(space),
        objective=MarginalFitting(space, max_model_size=MODEL_MIB[size]),
        modality=modality,
        sampling=SamplerConfig("euler"),
    )


PIXEL_NORM_FRACTION = 0.3
"""Norm to which the pixels of an image are clipped, as a fraction of the norm of a white image."""


def logistic_private(data: Dataset, size: str) -> Recipe:
    """Return a recipe for private logistic regression by output perturbation, for images and tables with a schema.

    `size` has no effect.
    """
    if data.target is None:
        raise UsageError("the recipe `logistic-private` needs a target: --target COLUMN, or --target label for images")
    modality, table_modality = data.modality, None
    table, images = modality.view(Table), modality.view(Images)
    features: FeatureMap
    if table is not None:
        table_modality = table.by_levels().with_marginals(())
        features = OneHotFeatures(table_modality.counts, table_modality.schema.place(data.target.names[0]))
    elif images is not None:
        features = PixelFeatures(images.shape, PIXEL_NORM_FRACTION * math.prod(images.shape) ** 0.5)
    else:
        raise UsageError(
            "the recipe `logistic-private` needs images or a table with a schema", found=modality.display_name
        )
    space = (table_modality or modality).space()
    return Recipe(
        architecture=LinearClassifier(features),
        objective=OutputPerturbation(data.target, space, features),
        modality=table_modality,
    )
