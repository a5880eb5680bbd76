"""Causal masked language modelling of documents, with retrieved documents as context (CM3Leon)."""

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
    """Causal masked language modelling: cross-entropy per token, with masked spans moved to the end of a document.

    A sample consists of retrieved documents followed by a document of the training set (the query). All tokens have the
    same weight in the loss, except `<mask>` and `<infill>`: they have weight 0, as their positions are random. Packed
    rows hold several documents, which excludes DP-SGD. Without training data there is no retrieval. Source: Yu et al.
    2023, arXiv 2309.02591.
    """

    family: ClassVar[str] = "documents"
    finetune_lr_scale: ClassVar[float] = 0.3
    space: Space
    """Space of token sequences."""
    vocabulary: DocumentVocabulary
    context: int = 512
    """Largest length of a sample, in tokens; retrieved documents that do not fit are dropped."""
    row_length: int = 1024
    """Largest length of a packed row, in tokens; a row longer than the context holds several samples."""
    masking: SpanMasking = field(default_factory=SpanMasking)
    """Span masking of the query document."""
    context_masking: SpanMasking = field(default_factory=lambda: SpanMasking(span_prob=0.0, text_prob=0.0))
    """Span masking of the retrieved documents."""
    retrieval: Retriever = field(default_factory=SimilarityRetriever)
    """Method of selecting the retrieved documents."""
    max_retrieved: int = 2
    """Largest number of retrieved documents; the number for each sample is uniform between 0 and this limit."""

    def __post_init__(self) -> None:
        check_number("context", self.context, ge=2)
        check_number("max_retrieved", self.max_retrieved, ge=0)
        if self.row_length < self.context:
            raise UsageError(f"a row_length of at least the context, {self.context}", self.row_length)

    def build(self, context: TrainingContext) -> Objective:
        """Return the objective, with a datastore of the training set for retrieval if documents have embeddings.

        Raises:
            InputError: If a document may exceed the context after masking.
        """
        data = context.data
        if data is None:
            return self
        encoder, rows = getattr(data.modality, "vectors", None), data.modality.encode(data.values)
        self._check_context_fits(rows)
        if encoder is None or not self.max_retrieved:
            return self
        return RetrievalCausalMaskedLM(
            self, IndexedDatastore(create_datastore(rows, encoder, self.vocabulary), encoder)
        )

    def _check_context_fits(self, rows: Int64[Tensor, "b l"]) -> None:
        """Check that no document can exceed the context once spans are masked."""
        lengths = (rows < self.vocabulary.num_outputs).sum(1) + 2 * max_holes(self.masking, rows, self.vocabulary)
        longest = int(lengths.max()) + 1 if len(rows) else 0
        if longest > self.context:
            raise InputError(
                f"a document needs up to {longest} tokens after masking, but the context is {self.context}",
                remedy="Use a longer context or shorter texts",
            )

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Mask spans of the documents and pack them into rows, without retrieval.

        Raises:
            UsageError: If the network has another vocabulary or a shorter context.
        """
        network_limits = getattr(network, "vocabulary", self.vocabulary), getattr(network, "context", self.context)
        if network_limits[0] != self.vocabulary or network_limits[1] < self.context:
            raise UsageError(
                f"the objective has samples of up to {self.context} tokens of {self.vocabulary}, but the network"
                f" reads up to {network_limits[1]} tokens of {network_limits[0]}",
                remedy="Use the same vocabulary and context in --objective and --architecture",
            )
        rows = batch["x_1"]
        return self.pack_batch(rows, rows.new_empty(len(rows), 0, rows.shape[1]), rng)

    def pack_batch(self, rows: Int64[Tensor, "b l"], retrieved: Int64[Tensor, "b k m"], rng: Rng) -> Example:
        """Mask spans of the documents `rows`, prepend k `retrieved` documents to each, and pack the samples into rows.

        Returns:
            Rows [r, n] of tokens `x_t`, next tokens `target` and loss weights `weight`. `given` holds, for each token,
            the number `sample` of its sample within the row, and its `position` in this sample. Weights are normalised
            such that the trainer's value, the sum of row losses divided by the number of documents, is the weighted
            mean over the tokens of all ranks.

        Raises:
            InputError: If a document is longer than the context.
        """
        queries = _mask_documents(self.masking, rows[:, None], self.vocabulary, rng.stream("spans"))
        contexts = _mask_documents(self.context_masking, retrieved, self.vocabulary, rng.stream("spans of the front"))
        samples = [
            join_sample(context, query, self.vocabulary, self.context)
            for context, (query,) in zip(contexts, queries, strict=True)
        ]
        packed = pack_samples(samples, self.vocabulary, self.row_length)
        counts = torch.stack([torch.tensor(float(len(rows))), packed.weight.sum()])
        num_documents, num_tokens = all_reduce_(counts.to(rows.device)).cpu()
        weight = packed.weight * (num_documents / num_tokens.clamp(min=1))
        target = torch.where(weight > 0, packed.tokens.roll(-1, 1), 0)  # a target of weight 0 could be padding
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
    """Training objective configured by `CausalMaskedLM`, together with the datastore for retrieval of documents."""

    def __init__(self, config: CausalMaskedLM, datastore: IndexedDatastore) -> None:
        self.config, self.datastore = config, datastore

    def draw(self, batch: Batch, rng: Rng, network: Any = None) -> Example:
        """Retrieve documents, mask spans, and pack samples; the most similar document is placed next to the query."""
        rows, datastore = batch["x_1"], self.datastore.datastore
        count = rng.stream("documents").randint(self.config.max_retrieved + 1, (len(rows),), datastore.rows.device)
        hits = self.config.retrieval(self.datastore, rows.to(datastore.rows.device), count, rng.fold_in("retrieval"))
        index = hits.index.flip(1)
        retrieved = datastore.rows[index].masked_fill((index == NO_DOCUMENT)[:, :, None], datastore.vocabulary.pad)
        return self.config.pack_batch(rows, retrieved, rng)

    def loss(self, network: Any, example: Example) -> Float[Tensor, " r"]:
        return self.config.loss(network, example)

    def metrics(self, example: Example) -> dict[str, Tensor]:
        return self.config.metrics(example)


def _mask_documents(
    masking: SpanMasking, rows: Int64[Tensor, "b k l"], vocabulary: DocumentVocabulary, rng: RandomStream
) -> list[list[MaskedDocument]]:
    """Return, for each example, its documents with randomly masked spans; rows of padding are skipped."""
    uniforms = rng.uniform((*rows.shape[:2], masking.numbers), torch.float64).tolist()
    return [
        [
            _mask_document(masking, row, vocabulary, u)
            for row, u in zip(example_rows, example_u, strict=True)
            if row[0] != vocabulary.pad
        ]
        for example_rows, example_u in zip(rows.cpu().numpy(), uniforms, strict=True)
    ]


def _mask_document(
    masking: SpanMasking, row: Int64[np.ndarray, " l"], vocabulary: DocumentVocabulary, u: list[float]
) -> MaskedDocument:
    document = read_document(row, vocabulary)
    return mask_spans(document.tokens, sample_spans(masking, document, vocabulary, u), vocabulary)
