"""Documents: one decoder of texts and pictures, with others like them in front."""

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
from feller.sampling.autoregressive.masked_spans import SpanMasking
from feller.sampling.retrieval.retriever import SimilarityRetriever
from feller.sampling.sampler_config import SamplerConfig
from feller.training.objectives.causal_masked_lm import CausalMaskedLM
from feller.training.optimizer import TrainConfig

MAX_TILES = 1024
"""Of which pictures may be made that need no tokeniser to be learned."""
RETRIEVAL = SimilarityRetriever(query_dropout=0.0, by_text=3, by_picture=1)
"""Captions are short: of a few words none can be spared to find others like them, where the paper drops a fifth.
They find what belongs together more often than pictures do, by which the paper fetches half."""


@dataclass(frozen=True)
class DocumentSize:
    """How much is spent on a model of documents."""

    model_size: int
    """Of the decoder."""
    batch: int
    lr: float
    minutes: float
    tokenizer_steps: int
    """Steps of what writes pictures as codes."""
    vector_steps: int
    """Steps of what finds documents."""


SIZES = {
    "tiny": DocumentSize(model_size=2, batch=16, lr=5e-3, minutes=1.0, tokenizer_steps=300, vector_steps=200),
    "small": DocumentSize(model_size=2, batch=16, lr=5e-3, minutes=20.0, tokenizer_steps=1500, vector_steps=2000),
    "base": DocumentSize(model_size=8, batch=32, lr=2e-3, minutes=600.0, tokenizer_steps=10_000, vector_steps=3000),
}


def interleaved(data: Dataset, size: str) -> Recipe:
    """A causal decoder of rows of symbols, in which hidden spans move behind their document.

    Nearly half of the documents are written as they are, since that is how they are asked for. Of documents that teach
    tasks only answers are hidden, and whole texts, for guidance.
    """
    modality = require_modality(
        data.modality, Documents, "interleaved", "documents: pictures with captions, or JSON lines of both"
    )
    effort = SIZES[size]
    if modality.image_tokenizer is None:
        modality = modality.with_image_tokenizer(_codes(data, modality, size), data.values["rows"])
    if modality.vectors is None:
        modality = replace(
            modality, vectors=LearnedDocumentEncoder(BiEncoder(modality.symbols, modality.tokenizer.grid))
        )
    vocabulary, context = modality.symbols, modality.context
    teaches = bool((data.values["task"] >= 0).any())
    masking = SpanMasking(span_prob=0.0 if teaches else 0.5)
    return Recipe(
        modality=modality,
        architecture=GPT.from_size(vocabulary, effort.model_size, context),
        objective=CausalMaskedLM(modality.space(), vocabulary, context, 2 * context, masking, retrieval=RETRIEVAL),
        aux_networks=DocumentAuxNetworks(
            tokenizer=tokenizer_training(size, steps=effort.tokenizer_steps),
            vectors=TrainConfig(
                batch_size=256, lr=2e-3, lr_decay_fraction=0.7, ema_decay=0.99, steps=effort.vector_steps
            ),
        ),
        sampling=SamplerConfig("euler", context),
        train=TrainConfig(
            batch_size=effort.batch,
            lr=effort.lr,
            betas=(0.9, 0.95),
            weight_decay=0.1,
            warmup=100,
            lr_decay_fraction=0.5,
            ema_decay=0.99,
            minutes=effort.minutes,
        ),
    )


def learned_codes(kind: Documents, size: str) -> LearnedImageTokenizer:
    """Return the usual tokeniser of a size for the pictures of documents, which is to learn."""
    return LearnedImageTokenizer(default_tokenizer(kind.height, kind.width, size), kind.shape)


def _codes(data: Dataset, kind: Documents, size: str) -> ImageTokenizer:
    """Return tiles, where pictures consist of few that recur, or else a tokeniser that is learned."""
    learned = learned_codes(kind, size)
    tiles = tiles_or_none(all_pictures(data.values), learned.config.factor, MAX_TILES)
    return learned if tiles is None else tiles
