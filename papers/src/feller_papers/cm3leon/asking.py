"""Evaluation of decoders: likelihood, picture sampling and text infilling."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float64, Int64, UInt8
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from feller.app.workflows.documents.document_request import MAX_TEXT_TOKENS, DocumentRequest
from feller.app.workflows.documents.generate_documents import decode_text as decode_text
from feller.core.rng import Rng
from feller.data.documents.modality import Documents
from feller.data.documents.prompt import Prompt
from feller.data.documents.token_layout import InfillItem, MaskItem
from feller.data.loading.raw import Item, TextItem
from feller.evaluation.document_metrics import Of, document_nlls, retrieved_prefixes
from feller.networks.sequence.gpt import GPTNetwork
from feller.paths.discrete.token_sampler import TokenSampler
from feller.sampling.autoregressive.decoding_goals import ImageGoal as OnePicture
from feller.sampling.autoregressive.decoding_goals import InfillGoal
from feller.sampling.autoregressive.document_decoding import SamplingSpec, generate
from feller.sampling.autoregressive.document_grammar import SymbolKind
from feller.sampling.retrieval.retriever import IndexedDatastore, Retriever, retrieved_context
from feller_papers.cm3leon.world import TEXT_RETRIEVER, raw_items
from feller_papers.scenes.documents import Document, Picture

TOP_P = SamplingSpec(token_sampler=TokenSampler(top_p=0.9))
"""Default sampling."""
BATCH_SIZE = 128
"""Rows per sampling batch."""


@runtime_checkable
class DocumentData(Protocol):
    """Data of a decoder, as far as its evaluation needs them."""

    @property
    def modality(self) -> Documents:
        """Modality with tokenisers."""
        ...

    @property
    def retrieval_index(self) -> IndexedDatastore:
        """Documents to retrieve from."""
        ...


def code_nlls(
    network: GPTNetwork,
    data: DocumentData,
    rows: Int64[Tensor, "n l"],
    rng: Rng,
    *,
    num_retrieved: int = 0,
    retriever: Retriever = TEXT_RETRIEVER,
    token_mask: Of | None = None,
) -> Float64[Tensor, " n"]:
    """Return the mean negative log-likelihood per picture token of each document, in nats.

    Args:
        network: Decoder.
        data: Holds the retrieval index.
        rows: Documents as tokens.
        rng: Source of randomness.
        num_retrieved: Number of retrieved documents in the context.
        retriever: How they are retrieved.
        token_mask: Tokens that are scored; by default tokens of pictures.
    """
    empty = [rows.new_empty(0)] * len(rows)
    prefixes = (
        retrieved_prefixes(data.retrieval_index, rows, num_retrieved, network.context, rng, retriever)
        if num_retrieved
        else empty
    )
    total, num_tokens = document_nlls(
        network, rows, prefixes, data.modality.symbols, token_mask or data.modality.symbols.is_code
    )
    return total / num_tokens


def image_request(document: Document) -> DocumentRequest:
    """Return a request for the last picture of a document."""
    parts, pictures = raw_items(document)
    return DocumentRequest(Prompt(tuple(parts[:-1]), tuple(pictures[:-1])), OnePicture())


def text_request(document: Document) -> tuple[DocumentRequest, str]:
    """Return a request for the answer of a document, or else for its first text, and the expected text."""
    parts, pictures = raw_items(document)
    marked = [part for part in parts if isinstance(part, TextItem) and part.is_answer]
    hidden = (marked or [part for part in parts if isinstance(part, TextItem)])[0]
    masked: tuple[Item | MaskItem | InfillItem, ...] = tuple(MaskItem() if part is hidden else part for part in parts)
    return DocumentRequest(
        Prompt((*masked, InfillItem()), tuple(pictures)), InfillGoal(MAX_TEXT_TOKENS, (SymbolKind.TEXT,))
    ), hidden.text


def replace_picture(document: Document, other: Document) -> Document:
    """Return a document with its pictures replaced by the last picture of another."""
    last = other.pictures()[-1]
    return Document(tuple(Picture(last) if isinstance(item, Picture) else item for item in document.items))


def sample_images(
    network: GPTNetwork,
    data: DocumentData,
    documents: Sequence[Document],
    rng: Rng,
    *,
    specs: Sequence[SamplingSpec] = (SamplingSpec(),),
    num_retrieved: int = 0,
) -> UInt8[Tensor, "n 3 h w"]:
    """Return a sampled last picture of each document.

    Args:
        network: Decoder.
        data: Holds the retrieval index.
        documents: Prompts, each with the picture to replace.
        rng: Source of randomness.
        specs: Document i is sampled with spec i modulo their number.
        num_retrieved: Number of documents retrieved by the text before the picture.
    """
    modality, requests = data.modality, [image_request(document) for document in documents]
    streams = [[request.tokens(modality) for request in requests]]
    if max(spec.guidance.num_streams for spec in specs) > 1:
        streams.append([request.without_text(modality) for request in requests])
    if num_retrieved:
        queries = pad_sequence(streams[0], batch_first=True, padding_value=modality.symbols.pad)
        free_tokens = [network.context - len(row) - modality.symbols.picture - 2 for row in streams[0]]
        prefixes = retrieved_context(
            data.retrieval_index, queries, num_retrieved, free_tokens, rng.fold_in("front"), TEXT_RETRIEVER
        )
        streams = [[torch.cat(pair) for pair in zip(prefixes, stream, strict=True)] for stream in streams]
    rows = generate(network, streams, OnePicture(), rng.fold_in("pictures"), specs=specs, batch_size=BATCH_SIZE)
    codes = torch.stack([row[: modality.symbols.picture] for row in rows]) - modality.symbols.text
    return modality.tokenizer.decode(codes)


def fill_text(network: GPTNetwork, data: DocumentData, requests: Sequence[DocumentRequest], rng: Rng) -> list[str]:
    """Return greedily decoded text for each request."""
    prompts = [request.tokens(data.modality) for request in requests]
    spec = SamplingSpec(token_sampler=TokenSampler(temperature=0.0))
    rows = generate(network, [prompts], requests[0].goal, rng.fold_in("words"), specs=[spec], batch_size=BATCH_SIZE)
    return [decode_text(data.modality, row) for row in rows]
