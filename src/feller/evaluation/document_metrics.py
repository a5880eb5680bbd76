"""Metrics of document models: perplexity, and agreement of answers with reference answers."""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from feller.core.rng import Rng
from feller.data.documents.modality import Documents
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.data.modality import Dataset
from feller.sampling.autoregressive.document_decoding import log_likelihood, predicted_mask
from feller.sampling.retrieval.retriever import (
    IndexedDatastore,
    RandomRetriever,
    Retriever,
    SimilarityRetriever,
    retrieved_context,
)

Of = Callable[[Tensor], Tensor]
"""Function from tokens to the mask of the evaluated tokens."""
MAX_DOCUMENTS = 256
"""Maximum number of evaluated documents, which are the first ones of the held-out data."""
EVALUATION_RETRIEVER = SimilarityRetriever(query_dropout=0.0, by_picture=0)
"""Retriever used in the evaluation. It excludes near duplicates, and searches by text only, since the images of a
document are still to be predicted."""


@dataclass(frozen=True)
class TokenNats:
    """Total negative log-likelihood of tokens in nats, and the number of tokens."""

    nats: float
    symbols: int

    @property
    def perplexity(self) -> float | None:
        """Perplexity, exp(nats per token); None if there are no tokens."""
        return math.exp(self.nats / self.symbols) if self.symbols else None


def documents_quality(
    network: Any, kind: Documents, held_out: Dataset, library: IndexedDatastore | None, rng: Rng
) -> dict[str, float | None]:
    """Return the perplexity of held-out documents, without and with retrieved documents in the context."""
    rows = kind.encode(held_out.subset(torch.arange(min(len(held_out), MAX_DOCUMENTS))).values)
    vocab, empty = kind.symbols, [rows.new_empty(0)] * len(rows)
    text, images = (tokens_nll(network, rows, empty, vocab, mask) for mask in (vocab.is_text, vocab.is_code))
    total = tokens_nll(network, rows, empty, vocab, lambda tokens: tokens < vocab.num_outputs)
    metrics = {
        "perplexity": total.perplexity,
        "text_perplexity": text.perplexity,
        "picture_perplexity": images.perplexity,
        "bits_per_token": None if not total.symbols else total.nats / total.symbols / math.log(2),
    }
    if library is None:
        return metrics
    retrievers: dict[str, tuple[int, Retriever]] = {
        "1": (1, EVALUATION_RETRIEVER),
        "2": (2, EVALUATION_RETRIEVER),
        "random": (2, RandomRetriever()),
    }
    for name, (count, retriever) in retrievers.items():
        prefixes = retrieved_prefixes(library, rows, count, network.context, rng.fold_in("front", count), retriever)
        nll = tokens_nll(network, rows, prefixes, vocab, vocab.is_code)
        metrics[f"picture_perplexity_{name}"] = nll.perplexity
    return metrics


def retrieved_prefixes(
    library: IndexedDatastore,
    rows: Int64[Tensor, "n l"],
    count: int,
    context: int,
    rng: Rng,
    retriever: Retriever = EVALUATION_RETRIEVER,
) -> list[Int64[Tensor, " _"]]:
    """Return, for each document, the tokens of retrieved documents that are prepended to it as context."""
    max_lengths = [context - 1 - int(length) for length in (rows != library.datastore.vocabulary.pad).sum(1)]
    return retrieved_context(library, rows, count, max_lengths, rng, retriever)


def tokens_nll(
    network: Any, rows: Int64[Tensor, "n l"], before: Sequence[Int64[Tensor, " _"]], symbols: DocumentVocabulary, of: Of
) -> TokenNats:
    """Return the total negative log-likelihood of the tokens that `of` selects, given each row's prefix in `before`.

    Tokens of prefixes, and tokens that the network never predicts, are not counted. An `<eos>` token is appended to
    each row.
    """
    nats, count = document_nlls(network, rows, before, symbols, of)
    return TokenNats(nats.sum().item(), int(count.sum()))


def document_nlls(
    network: Any, rows: Int64[Tensor, "n l"], before: Sequence[Int64[Tensor, " _"]], symbols: DocumentVocabulary, of: Of
) -> tuple[Float64[Tensor, " n"], Int64[Tensor, " n"]]:
    """Return the negative log-likelihood in nats and the token count per document; arguments as in `tokens_nll`."""
    device = next(network.parameters()).device
    eos = torch.tensor([symbols.eos])
    documents = [torch.cat([row[row < symbols.num_outputs], eos]) for row in rows.cpu()]
    samples = [torch.cat([prefix.cpu(), row]) for prefix, row in zip(before, documents, strict=True)]
    prefix_masks = [torch.zeros(len(prefix), dtype=torch.bool) for prefix in before]
    masks = [torch.cat([prefix, of(row)]) for prefix, row in zip(prefix_masks, documents, strict=True)]
    tokens = pad_sequence(samples, batch_first=True, padding_value=symbols.pad)
    mask = pad_sequence(masks, batch_first=True, padding_value=False) & predicted_mask(tokens, symbols)
    nats = -log_likelihood(network.eval(), tokens.to(device), mask.to(device), symbols)
    return nats.cpu(), mask.sum(1)


MIN_ANSWERS = 8
"""Minimum number of answers to compute an accuracy."""
MAX_TEXTS = 100
"""Number of most frequent texts among which the consensus text is chosen."""
ARTICLES = ("a", "an", "the")


def normalized_words(text: str) -> list[str]:
    """Return the words and numbers of a text in lower case, without articles."""
    return [word for word in re.findall(r"[^\W_]+", text.lower()) if word not in ARTICLES]


def consensus_text(texts: Counter[str]) -> str:
    """Return the consensus of the most frequent texts: the text with the highest mean token F1 with all of them.

    The more frequent text wins ties.
    """
    candidates = texts.most_common(MAX_TEXTS)
    scores = [sum(token_f1(text, other) * count for other, count in candidates) for text, _ in candidates]
    return candidates[scores.index(max(scores))][0]


def is_exact_match(answer: str, reference: str) -> bool:
    """Return True if an answer equals the reference, ignoring case, articles, spaces and punctuation."""
    return normalized_words(answer) == normalized_words(reference)


def token_f1(answer: str, reference: str) -> float:
    """Return the F1 score of the words of an answer compared with the words of the reference, from 0 to 1.

    Source: Rajpurkar et al. 2016, "SQuAD: 100,000+ questions for machine comprehension of text", arXiv 1606.05250.
    """
    answer_words, reference_words = normalized_words(answer), normalized_words(reference)
    if not answer_words or not reference_words:
        return float(answer_words == reference_words)
    common = (Counter(answer_words) & Counter(reference_words)).total()
    return 2 * common / (len(answer_words) + len(reference_words))
