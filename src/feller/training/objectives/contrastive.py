"""Contrastive training of the bi-encoder, which embeds images and texts in one space for retrieval."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from feller.core.errors import InputError, check_number
from feller.core.rng import RandomStream, Rng
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.networks.sequence.bi_encoder import extract_images, mask_tokens
from feller.spaces import Space
from feller.training.objective import Batch, BatchCoupledObjective, Example, Objective, TrainingContext

SAME_TEXT_SIMILARITY = 1 - 1e-4
"""Cosine similarity of text vectors above which two texts count as equal, so they are no negatives of each other."""


@dataclass(frozen=True)
class InfoNCE(BatchCoupledObjective):
    """Symmetric InfoNCE: contrastive loss that matches images with texts within groups of documents.

    Each training example is a whole group of documents. One image per document is sampled; documents without text or
    without image are left out.
    Source: Radford et al. 2021, "Learning transferable visual models", arXiv 2103.00020.
    """

    shardable = False  # negatives come from the whole batch
    family: ClassVar[str] = "embedding"
    space: Space
    """Space of token sequences."""
    vocabulary: DocumentVocabulary
    group_size: int = 256
    """Largest number of documents per group; a batch is split into equal groups."""
    token_dropout: float = 0.2
    """Probability of masking an image token, as in retrieval queries."""

    def __post_init__(self) -> None:
        check_number("group_size", self.group_size, ge=2)
        check_number("token_dropout", self.token_dropout, ge=0, lt=1)

    def build(self, context: TrainingContext) -> Objective:
        """Check the training set, and return this objective; InputError if no document has both text and image."""
        if context.data is None:
            return self
        rows = context.data.modality.encode(context.data.values)
        _, image_rows = extract_images(rows, self.vocabulary)
        if not self.vocabulary.is_text(rows[image_rows]).any():
            raise InputError(
                "documents with a text and an image",
                f"none among {len(rows):,}",
                "Add documents with a text and an image",
            )
        return self

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Sample and mask an image of each document, and encode the texts.

        Returns:
            Groups [g, group]: image tokens `x_t`, text vectors `target`, and `weight`, which is 0 for a document
            without a pair of image and text. The sum of group losses, divided by the batch size, is the mean over
            pairs.
        """
        x_1 = batch["x_1"]
        with torch.no_grad():
            text_vectors, has_text = network.text_encoder(x_1)
        masked_rows = mask_tokens(x_1, self.vocabulary, self.token_dropout, rng.stream("dropout"))
        codes, has_image = _sample_image(masked_rows, self.vocabulary, rng.stream("picture"))
        is_pair = has_text & has_image
        weight = is_pair * (len(x_1) / is_pair.sum().clamp(min=1))
        x_t, target, weight = (_split_groups(tensor, self.group_size) for tensor in (codes, text_vectors, weight))
        return {"x_t": x_t, "t": torch.zeros(len(x_t), device=x_1.device), "target": target, "weight": weight}

    def loss(self, network: Any, example: Example) -> Float[Tensor, " g"]:
        x_t, target, weight = example["x_t"], example["target"], example["weight"]
        b, g = weight.shape
        embeddings = network(x_t.flatten(0, 1), example["t"].repeat_interleave(g), {}).unflatten(0, (b, g))
        logits = embeddings @ target.to(embeddings.dtype).mT  # [b, pictures, texts]
        is_pair = torch.eye(g, dtype=torch.bool, device=logits.device)
        is_negative = (weight[:, :, None] > 0) & (weight[:, None] > 0) & (target @ target.mT < SAME_TEXT_SIMILARITY)
        logits = logits.masked_fill(~(is_pair | is_negative), -torch.inf)
        nll = [-logits.log_softmax(axis).diagonal(dim1=1, dim2=2) for axis in (1, 2)]
        return (weight * (nll[0] + nll[1]) / 2).sum(1)


def _sample_image(
    rows: Int64[Tensor, "n l"], vocabulary: DocumentVocabulary, rng: RandomStream
) -> tuple[Int64[Tensor, "n picture"], Bool[Tensor, " n"]]:
    """Sample an image of each document; return its tokens, and a mask of the documents that have an image."""
    codes, image_rows = extract_images(rows, vocabulary)
    counts = torch.bincount(image_rows, minlength=len(rows))
    choice = (counts * rng.uniform((len(rows),), torch.float64, rows.device)).long()
    images = torch.zeros(len(rows), vocabulary.picture, dtype=codes.dtype, device=rows.device)
    has_image = counts > 0
    images[has_image] = codes[(counts.cumsum(0) - counts + choice)[has_image]]
    return images, has_image


def _split_groups(rows: Tensor, size: int) -> Tensor:
    """Split the rows of a tensor into groups of equal size, at most `size`, padded with zeros: [groups, size, ...]."""
    num_groups = max(1, -(-len(rows) // size))
    size = -(-len(rows) // num_groups)
    num_padding = num_groups * size - len(rows)
    return torch.cat([rows, rows.new_zeros(num_padding, *rows.shape[1:])]).unflatten(0, (num_groups, size))
