"""Training of a law of documents, in any part of which holes are filled, with others like them in front."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from feller.core.distributed import all_reduce_
from feller.core.errors import InputError, UsageError, check_number
from feller.core.pytree import tree_map
from feller.core.rng import RandomStream, Rng
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.sampling.autoregressive.masked_spans import (
    MaskedDocument,
    SpanMasking,
    mask_spans,
    max_holes,
    read_document,
    sample_spans,
)
from feller.sampling.retrieval.datastore import create_datastore
from feller.sampling.retrieval.retriever import NO_DOCUMENT, IndexedDatastore, Retriever, SimilarityRetriever
from feller.spaces import Space
from feller.training.objective import Batch, BatchCoupledObjective, Example, Objective, TrainingContext
from feller.training.objectives.packing import PADDING_SAMPLE, join_sample, pack_samples


@dataclass(frozen=True)
class CausalMaskedLM(BatchCoupledObjective):
    """Cross-entropy of each token given those before it in its sample, where spans of documents moved behind them.

    A sample is a document, its query, behind some others that were found for it; all their tokens count alike, but for
    the signs of holes, whose places are chance. Samples are packed into rows, and a row tells of several documents, so
    private training refuses it. Built without data, nothing stands in front. Source: Yu et al. 2023,
    arXiv 2309.02591.
    """

    family: ClassVar[str] = "documents"
    finetune_lr_scale: ClassVar[float] = 0.3
    space: Space
    """Rows of symbols."""
    vocabulary: DocumentVocabulary
    context: int = 512
    """Tokens of a sample, at most; of a longer one the documents in front are left out."""
    row_length: int = 1024
    """Places of a row, at most. Samples lie in it one after the other, so that little is left empty where it is wider
    than the context."""
    masking: SpanMasking = field(default_factory=SpanMasking)
    """What is hidden of a document that is learned from."""
    context_masking: SpanMasking = field(default_factory=lambda: SpanMasking(span_prob=0.0, text_prob=0.0))
    """What is hidden of those in front."""
    retrieval: Retriever = field(default_factory=SimilarityRetriever)
    """How those are chosen."""
    max_retrieved: int = 2
    """Documents in front, at most: none to so many, each as likely."""

    def __post_init__(self) -> None:
        check_number("context", self.context, ge=2)
        check_number("max_retrieved", self.max_retrieved, ge=0)
        if self.row_length < self.context:
            raise UsageError(f"rows as wide as the context, {self.context}, or wider", self.row_length)

    def build(self, context: TrainingContext) -> Objective:
        """Return the objective with a memory of the data, where these can be found by vectors.

        Raises:
            InputError: If a document could be too long for the context with its holes.
        """
        data = context.data
        if data is None:
            return self
        finder, rows = getattr(data.modality, "vectors", None), data.modality.encode(data.values)
        self._check_context_fits(rows)
        if finder is None or not self.max_retrieved:
            return self
        return RetrievalCausalMaskedLM(self, IndexedDatastore(create_datastore(rows, finder, self.vocabulary), finder))

    def _check_context_fits(self, rows: Int64[Tensor, "b l"]) -> None:
        """Refuse documents that would be too long in the midst of training, once as many holes are drawn."""
        places = (rows < self.vocabulary.num_outputs).sum(1) + 2 * max_holes(self.masking, rows, self.vocabulary)
        longest = int(places.max()) + 1 if len(rows) else 0
        if longest > self.context:
            raise InputError(
                f"a document takes up to {longest} places with its holes and its end, the context has {self.context}",
                remedy="Take a longer context, or shorter texts",
            )

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Hide spans, and pack; nothing stands in front.

        Raises:
            UsageError: If the network reads other symbols, or fewer places.
        """
        network_reads = getattr(network, "vocabulary", self.vocabulary), getattr(network, "context", self.context)
        if network_reads[0] != self.vocabulary or network_reads[1] < self.context:
            raise UsageError(
                f"the objective is of samples of up to {self.context} of {self.vocabulary}, the network reads up to"
                f" {network_reads[1]} of {network_reads[0]}",
                remedy="Give --objective and --architecture the same",
            )
        rows = batch["x_1"]
        return self.pack_batch(rows, rows.new_empty(len(rows), 0, rows.shape[1]), rng)

    def pack_batch(self, rows: Int64[Tensor, "b l"], retrieved: Int64[Tensor, "b k m"], rng: Rng) -> Example:
        """Hide spans, put documents in front, and pack.

        Returns:
            Rows [r, n]: tokens `x_t`, what is predicted at each place, `target`, with its `weight`; `sample` and
            `position` of each place in `given`. The weights are such that the losses of all rows, added up and divided
            by the documents of the batch, as the trainer does, are the mean over all tokens that count, those of the
            other processes of a training too.

        Raises:
            InputError: If a document is longer than the context.
        """
        queries = _mask_documents(self.masking, rows[:, None], self.vocabulary, rng.stream("spans"))
        fronts = _mask_documents(self.context_masking, retrieved, self.vocabulary, rng.stream("spans of the front"))
        samples = [
            join_sample(some, query, self.vocabulary, self.context)
            for some, (query,) in zip(fronts, queries, strict=True)
        ]
        packed = pack_samples(samples, self.vocabulary, self.row_length)
        totals = torch.stack([torch.tensor(float(len(rows))), packed.weight.sum()])
        documents, tokens = all_reduce_(totals.to(rows.device)).cpu()
        weight = packed.weight * (documents / tokens.clamp(min=1))
        target = torch.where(weight > 0, packed.tokens.roll(-1, 1), 0)  # where nothing counts, padding may come next
        example = {
            "x_t": packed.tokens,
            "t": torch.zeros(len(packed.tokens)),
            "target": target,
            "weight": weight,
            "given": {"sample": packed.sample, "position": packed.position},
        }
        return tree_map(lambda leaf: leaf.to(rows.device), example)

    def loss(self, network: Any, example: Example) -> Float[Tensor, " r"]:
        logits = network(example["x_t"], example["t"], example["given"])
        nll = F.cross_entropy(logits.flatten(0, 1), example["target"].flatten(), reduction="none")
        return (nll.view_as(example["target"]) * example["weight"]).sum(1)

    def metrics(self, example: Example) -> dict[str, Tensor]:
        return {"wasted": (example["given"]["sample"] == PADDING_SAMPLE).double().mean()}


class RetrievalCausalMaskedLM(Objective):
    """Causal masking with a memory, from which documents are taken to stand in front."""

    def __init__(self, config: CausalMaskedLM, datastore: IndexedDatastore) -> None:
        self.config, self.datastore = config, datastore

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Find documents for each, the most like to stand next to it, then hide and pack."""
        rows, memory = batch["x_1"], self.datastore.datastore
        count = rng.stream("documents").randint(self.config.max_retrieved + 1, (len(rows),), memory.rows.device)
        hits = self.config.retrieval(self.datastore, rows.to(memory.rows.device), count, rng.fold_in("retrieval"))
        which = hits.index.flip(1)
        retrieved = memory.rows[which].masked_fill((which == NO_DOCUMENT)[:, :, None], memory.vocabulary.pad)
        return self.config.pack_batch(rows, retrieved, rng)

    def loss(self, network: Any, example: Example) -> Float[Tensor, " r"]:
        return self.config.loss(network, example)

    def metrics(self, example: Example) -> dict[str, Tensor]:
        return self.config.metrics(example)


def _mask_documents(
    masking: SpanMasking, rows: Int64[Tensor, "b k l"], vocabulary: DocumentVocabulary, rng: RandomStream
) -> list[list[MaskedDocument]]:
    """Hide spans of some documents each, leaving out rows of nothing but padding."""
    numbers = rng.uniform((*rows.shape[:2], masking.numbers), torch.float64).tolist()
    return [
        [
            _mask_document(masking, row, vocabulary, u)
            for row, u in zip(some, each, strict=True)
            if row[0] != vocabulary.pad
        ]
        for some, each in zip(rows.cpu().numpy(), numbers, strict=True)
    ]


def _mask_document(
    masking: SpanMasking, row: Int64[np.ndarray, " l"], vocabulary: DocumentVocabulary, u: list[float]
) -> MaskedDocument:
    """Hide spans of a document."""
    document = read_document(row, vocabulary)
    return mask_spans(document.tokens, sample_spans(masking, document, vocabulary, u), vocabulary)
