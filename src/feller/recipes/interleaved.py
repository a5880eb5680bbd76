"""Documents: one decoder of texts and pictures, with others like them in front."""

from dataclasses import replace

from feller.causal_masking import CausalMasking
from feller.data.documents.modality import Documents
from feller.data.modality import Dataset
from feller.networks.bi_encoder import BiEncoder, Finder
from feller.networks.codebook.picture_codes import Learned
from feller.networks.codebook.tokenizer import Tokenizer
from feller.networks.plain_decoder import PlainDecoder
from feller.recipes.image_tokenizer import tokenizer_training, usual_tokenizer
from feller.recipes.recipe import Parts, Recipe, need
from feller.sampling import Sampling
from feller.tokens.masked_spans import Masking
from feller.train.optimiser import Training

SIZES = {"tiny": (3, 1.0, 300, 200), "small": (4, 20.0, 1500, 600), "base": (8, 600.0, 10_000, 3000)}
"""Dial of the decoder, minutes, and steps of the tokeniser and of what finds documents."""


def interleaved(data: Dataset, size: str) -> Recipe:
    """A causal decoder of rows of symbols, in which hidden spans move behind their document.

    Half of the documents are written as they are, since that is how they are asked for. Of documents that teach tasks
    only answers are hidden, and whole texts, for guidance.
    """
    modality = need(data.modality, Documents, "interleaved", "documents: pictures with captions, or JSON lines of both")
    dial, minutes, tokenizer_steps, vectors_steps = SIZES[size]
    if modality.codes is None:
        settings: Tokenizer = usual_tokenizer(modality.height, modality.width, size)
        modality = modality.tokenised(Learned(settings, modality.shape), data.values["rows"])
    if modality.vectors is None:
        modality = replace(modality, vectors=Finder(BiEncoder(modality.symbols, modality.tokenizer.grid)))
    symbols, context = modality.symbols, modality.context
    masking = Masking(spans=0.0 if modality.tasks else 0.5)
    return Recipe(
        modality=modality,
        architecture=PlainDecoder.sized(symbols, dial, context),
        objective=CausalMasking(modality.space(), symbols, context, context * 3 // 2, masking),
        parts=Parts(
            tokenizer=tokenizer_training(size, steps=tokenizer_steps),
            vectors=Training(batch=128, lr=2e-3, decay=0.7, average=0.99, steps=vectors_steps),
        ),
        sampling=Sampling("euler", context),
        train=Training(
            batch=32, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1, warmup=100, decay=0.5, average=0.99, minutes=minutes
        ),
    )
