"""Recipe of documents: a causal decoder of text and image tokens, with retrieved documents in the context."""

from dataclasses import dataclass, replace

from feller.data.documents.image_tokenizers import ImageTokenizer
from feller.data.documents.modality import Documents, all_pictures
from feller.data.documents.tiles import tiles_or_none
from feller.data.modality import Dataset
from feller.models.recipes.images import default_tokenizer, tokenizer_training
from feller.models.recipes.recipe import DocumentAuxNetworks, Recipe, require_modality
from feller.networks.codebook.learned_image_tokenizer import LearnedImageTokenizer
from feller.networks.sequence.bi_encoder import BiEncoder, LearnedDocumentEncoder
from feller.networks.sequence.gpt import GPT
from feller.networks.sequence.patch_positions import PlannedHoles
from feller.sampling.autoregressive.masked_spans import SpanMasking
from feller.sampling.retrieval.retriever import SimilarityRetriever
from feller.sampling.sampler_config import SamplerConfig
from feller.training.objectives.causal_masked_lm import CausalMaskedLM
from feller.training.optimizer import TrainConfig

MAX_TILES = 1024
"""Maximum number of distinct tiles in images that are encoded by the lossless tile tokenizer."""
RETRIEVAL = SimilarityRetriever(query_dropout=0.0, by_text=3, by_picture=1)
"""Retriever used in training. No words of the query are dropped (20 % in the paper), since captions have few words.
Three of four documents are retrieved by text (half in the paper), since captions find related documents more often than
images do."""


@dataclass(frozen=True)
class DocumentSize:
    """Size of a document model, and the number of steps or minutes of its training."""

    model_size: int
    """Size of the decoder, as in `GPT.from_size`."""
    batch: int
    lr: float
    minutes: float
    tokenizer_steps: int
    """Number of training steps of the image tokenizer."""
    vector_steps: int
    """Number of training steps of the document encoder."""


SIZES = {
    "tiny": DocumentSize(model_size=2, batch=16, lr=5e-3, minutes=1.0, tokenizer_steps=300, vector_steps=200),
    "small": DocumentSize(model_size=2, batch=16, lr=5e-3, minutes=20.0, tokenizer_steps=1500, vector_steps=2000),
    "base": DocumentSize(model_size=8, batch=32, lr=2e-3, minutes=600.0, tokenizer_steps=10_000, vector_steps=3000),
}


def interleaved(data: Dataset, size: str) -> Recipe:
    """Return a recipe for documents: causal masked language modelling, in which masked spans move to the end.

    `size` is the size of the model: "tiny", "small" or "base".

    Nearly half of the training documents have no masked spans, as in sampling. In instruction data, only answers
    are masked, and sometimes the whole text for training classifier-free guidance.
    """
    modality = require_modality(
        data.modality, Documents, "interleaved", "documents: images with captions, or JSON lines of text and images"
    )
    settings = SIZES[size]
    if modality.image_tokenizer is None:
        modality = modality.with_image_tokenizer(_codes(data, modality, size), data.values["rows"])
    if modality.vectors is None:
        modality = replace(
            modality, vectors=LearnedDocumentEncoder(BiEncoder(modality.symbols, modality.tokenizer.grid))
        )
    vocabulary, context = modality.symbols, modality.context
    has_tasks = bool((data.values["task"] >= 0).any())
    masking = SpanMasking(span_prob=0.0 if has_tasks else 0.5)
    return Recipe(
        modality=modality,
        architecture=replace(GPT.from_size(vocabulary, settings.model_size, context), hole_positions=PlannedHoles()),
        objective=CausalMaskedLM(modality.space(), vocabulary, context, 2 * context, masking, retrieval=RETRIEVAL),
        aux_networks=DocumentAuxNetworks(
            tokenizer=tokenizer_training(size, steps=settings.tokenizer_steps),
            vectors=TrainConfig(
                batch_size=256, lr=2e-3, lr_decay_fraction=0.7, ema_decay=0.99, steps=settings.vector_steps
            ),
        ),
        sampling=SamplerConfig("euler", context),
        train=TrainConfig(
            batch_size=settings.batch,
            lr=settings.lr,
            betas=(0.9, 0.95),
            weight_decay=0.1,
            warmup=100,
            lr_decay_fraction=0.5,
            ema_decay=0.99,
            minutes=settings.minutes,
        ),
    )


def learned_codes(kind: Documents, size: str) -> LearnedImageTokenizer:
    """Return the default learned image tokenizer for the images in documents.

    `size` is the size of the model: "tiny", "small" or "base".
    """
    return LearnedImageTokenizer(default_tokenizer(kind.height, kind.width, size), kind.shape)


def _codes(data: Dataset, modality: Documents, size: str) -> ImageTokenizer:
    """Return a tile tokenizer if images consist of few distinct tiles, else a learned tokenizer."""
    tokenizer = learned_codes(modality, size)
    tiles = tiles_or_none(all_pictures(data.values), tokenizer.config.factor, MAX_TILES)
    return tokenizer if tiles is None else tiles
