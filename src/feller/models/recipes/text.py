"""Recipes of text: discrete flows with a mask source or a uniform source, and autoregressive models."""

from feller.core.errors import UsageError
from feller.data.modality import Dataset
from feller.data.text.modality import Text
from feller.models.recipes.recipe import Recipe, require_modality
from feller.networks.sequence.causal_transformer import CausalTransformer
from feller.networks.sequence.edit_transformer import EditTransformer
from feller.networks.sequence.language_attention import BlockAttention
from feller.networks.sequence.language_transformer import LanguageTransformer
from feller.networks.sequence.text_dit import TextDiT
from feller.paths import EditFlow, EditPath, InsertionMasking, LeaveOneOut, Mixture
from feller.paths.time_distributions import Stratified
from feller.sampling.sampler_config import SamplerConfig
from feller.spaces import MaskSource, Sequences, Tokens, UniformSource
from feller.training.losses import CrossEntropy, MaskedTokenLoss
from feller.training.objective import FlowMatching
from feller.training.objectives.block_diffusion import BlockDiffusion
from feller.training.objectives.edit_matching import EditMatching
from feller.training.objectives.next_token_prediction import NextTokenPrediction
from feller.training.optimizer import TrainConfig

SIZES = {"tiny": (64, 2, 4, 1.0), "small": (128, 2, 4, 5.0), "base": (256, 6, 8, 60.0)}
"""For each size: width, depth, number of heads, and minutes of training."""

BLOCK_SIZE = 16
"""Number of tokens per block of the recipe `text-blocks`."""
INPAINT_PROB = 0.5
"""Fraction of training examples in which some tokens are observed, as needed for infilling."""


def text(data: Dataset, size: str) -> Recipe:
    """Return a text recipe with a mask source: a bidirectional transformer gradually unmasks tokens.

    `size` is the size of the model: "tiny", "small" or "base".
    """
    modality = require_modality(data.modality, Text, "text", "text")
    source = MaskSource()
    return _diffusion_recipe(
        modality, size, Mixture(source=source), _token_space(modality, source), MaskedTokenLoss(CrossEntropy())
    )


def text_uniform(data: Dataset, size: str) -> Recipe:
    """Return a text recipe with a uniform source: sampling can change any token until the last step.

    `size` is the size of the model: "tiny", "small" or "base".
    """
    modality = require_modality(data.modality, Text, "text-uniform", "text")
    source = UniformSource()
    path = Mixture(source=source, parameterization=LeaveOneOut())
    return _diffusion_recipe(modality, size, path, _token_space(modality, source), CrossEntropy())


def text_autoregressive(data: Dataset, size: str) -> Recipe:
    """Return a text recipe: a causal transformer with exact likelihood.

    `size` is the size of the model: "tiny", "small" or "base".
    """
    modality = require_modality(data.modality, Text, "text-autoregressive", "text")
    width, depth, heads, minutes = SIZES[size]
    return Recipe(
        architecture=CausalTransformer(modality.vocab_size, width=width, depth=depth, heads=heads),
        objective=NextTokenPrediction(modality.space(), eos_token_id=modality.eos_token_id),
        train=_training(minutes),
        sampling=SamplerConfig("euler", modality.length),
    )


def text_blocks(data: Dataset, size: str) -> Recipe:
    """Return a text recipe with block diffusion: blocks are sampled in order, each by unmasking, with a KV cache.

    `size` is the size of the model: "tiny", "small" or "base".
    """
    modality = require_modality(data.modality, Text, "text-blocks", "text")
    width, depth, heads, minutes = SIZES[size]
    attention = BlockAttention(min(BLOCK_SIZE, modality.length))
    return Recipe(
        architecture=LanguageTransformer(modality.vocab_size, attention, width=width, depth=depth, heads=heads),
        objective=BlockDiffusion(_token_space(modality, MaskSource()), eos_token_id=modality.eos_token_id),
        train=_training(minutes),
        sampling=SamplerConfig("euler", modality.length),
    )


def text_edits(data: Dataset, size: str) -> Recipe:
    """Return a recipe of texts of any length: an edit flow inserts tokens until the text is complete.

    `size` is the size of the model: "tiny", "small" or "base".
    """
    space = _sequence_space(data, "text-edits")
    return _edit_recipe(EditFlow(space=space), size)


def text_insertions(data: Dataset, size: str) -> Recipe:
    """Return a recipe of texts of any length: mask tokens are inserted, and then replaced by tokens (FlexMDM).

    `size` is the size of the model: "tiny", "small" or "base".
    """
    space = _sequence_space(data, "text-insertions")
    return _edit_recipe(InsertionMasking(space=space), size)


def _sequence_space(data: Dataset, recipe: str) -> Sequences:
    modality = require_modality(data.modality, Text, recipe, "text")
    if not modality.documents:
        raise UsageError(
            f"separate texts, such as lines or documents, for the recipe {recipe}",
            "one long text",
            "Write one text per line to a .jsonl file, or use the recipe text",
        )
    return Sequences(modality.vocabulary.vocab_size, modality.length)


def _edit_recipe(path: EditPath, size: str) -> Recipe:
    width, depth, heads, minutes = SIZES[size]
    return Recipe(
        architecture=EditTransformer(path.space.vocab_size, width=width, depth=depth, heads=heads),
        objective=EditMatching(path),
        train=_training(minutes),
        sampling=SamplerConfig("euler", 64),
    )


def _diffusion_recipe(
    modality: Text, size: str, path: Mixture, space: Tokens, criterion: MaskedTokenLoss | CrossEntropy
) -> Recipe:
    width, depth, heads, minutes = SIZES[size]
    has_mask = isinstance(space.source, MaskSource)
    return Recipe(
        architecture=TextDiT(modality.vocab_size, has_mask=has_mask, width=width, depth=depth, heads=heads),
        objective=FlowMatching(
            path, space, criterion, time_distribution=Stratified(), inpaint_prob=0.0 if has_mask else INPAINT_PROB
        ),
        train=_training(minutes),
        sampling=SamplerConfig("euler", 64),
    )


def _training(minutes: float) -> TrainConfig:
    return TrainConfig(
        batch_size=16,
        lr=3e-3,
        betas=(0.9, 0.98),
        weight_decay=1e-2,
        lr_decay_fraction=0.7,
        ema_decay=0.99,
        minutes=minutes,
    )


def _token_space(modality: Text, source: MaskSource | UniformSource) -> Tokens:
    """Return the token space of the texts, with a source distribution."""
    return Tokens(modality.vocab_size, (modality.length,), source)
