"""Documents: one decoder of texts and pictures, with others like them in front."""

from dataclasses import dataclass, replace

from feller.data.documents.image_codes import PictureCodes
from feller.data.documents.modality import Documents, all_pictures
from feller.data.documents.tiles import recurring
from feller.data.modality import Dataset
from feller.models.recipes.images import tokenizer_training, usual_tokenizer
from feller.models.recipes.recipe import DocumentParts, Recipe, need
from feller.networks.codebook.image_codes import Learned
from feller.networks.sequence.bi_encoder import BiEncoder, Finder
from feller.networks.sequence.gpt import PlainDecoder
from feller.sampling.autoregressive.masked_spans import SpanMasking
from feller.sampling.retrieval.retriever import SimilarityRetriever
from feller.sampling.sampler_config import SamplerConfig
from feller.training.objectives.causal_masking import CausalMasking
from feller.training.optimizer import Training

MOST_TILES = 1024
"""Of which pictures may be made that need no tokeniser to be learned."""
RETRIEVAL = SimilarityRetriever(query_dropout=0.0, by_text=3, by_picture=1)
"""Captions are short: of a few words none can be spared to find others like them, where the paper drops a fifth.
They find what belongs together more often than pictures do, by which the paper fetches half."""


@dataclass(frozen=True)
class Effort:
    """How much is spent on a model of documents."""

    dial: int
    """Of the decoder."""
    batch: int
    lr: float
    minutes: float
    tokenizer: int
    """Steps of what writes pictures as codes."""
    vectors: int
    """Steps of what finds documents."""


SIZES = {
    "tiny": Effort(dial=2, batch=16, lr=5e-3, minutes=1.0, tokenizer=300, vectors=200),
    "small": Effort(dial=2, batch=16, lr=5e-3, minutes=20.0, tokenizer=1500, vectors=2000),
    "base": Effort(dial=8, batch=32, lr=2e-3, minutes=600.0, tokenizer=10_000, vectors=3000),
}


def interleaved(data: Dataset, size: str) -> Recipe:
    """A causal decoder of rows of symbols, in which hidden spans move behind their document.

    Nearly half of the documents are written as they are, since that is how they are asked for. Of documents that teach
    tasks only answers are hidden, and whole texts, for guidance.
    """
    modality = need(data.modality, Documents, "interleaved", "documents: pictures with captions, or JSON lines of both")
    effort = SIZES[size]
    if modality.codes is None:
        modality = modality.tokenised(_codes(data, modality, size), data.values["rows"])
    if modality.vectors is None:
        modality = replace(modality, vectors=Finder(BiEncoder(modality.symbols, modality.tokenizer.grid)))
    symbols, context = modality.symbols, modality.context
    teaches = bool((data.values["task"] >= 0).any())
    masking = SpanMasking(span_prob=0.0 if teaches else 0.5)
    return Recipe(
        modality=modality,
        architecture=PlainDecoder.sized(symbols, effort.dial, context),
        objective=CausalMasking(modality.space(), symbols, context, 2 * context, masking, retrieval=RETRIEVAL),
        parts=DocumentParts(
            tokenizer=tokenizer_training(size, steps=effort.tokenizer),
            vectors=Training(batch=256, lr=2e-3, decay=0.7, average=0.99, steps=effort.vectors),
        ),
        sampling=SamplerConfig("euler", context),
        train=Training(
            batch=effort.batch,
            lr=effort.lr,
            betas=(0.9, 0.95),
            weight_decay=0.1,
            warmup=100,
            decay=0.5,
            average=0.99,
            minutes=effort.minutes,
        ),
    )


def learned_codes(kind: Documents, size: str) -> Learned:
    """Return the usual tokeniser of a size for the pictures of documents, which is to learn."""
    return Learned(usual_tokenizer(kind.height, kind.width, size), kind.shape)


def _codes(data: Dataset, kind: Documents, size: str) -> PictureCodes:
    """Return tiles, where pictures consist of few that recur, or else a tokeniser that is learned."""
    learned = learned_codes(kind, size)
    tiles = recurring(all_pictures(data.values), learned.settings.factor, MOST_TILES)
    return learned if tiles is None else tiles
