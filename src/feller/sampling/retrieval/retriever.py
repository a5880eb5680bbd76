"""Retrievers, which select documents of a datastore as context for other documents."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.core.rng import Rng
from feller.data.documents.document_encoder import DocumentEncoder
from feller.data.documents.vocabulary import DocumentVocabulary
from feller.networks.sequence.bi_encoder import mask_tokens
from feller.sampling.retrieval.datastore import Datastore, fingerprints
from feller.sampling.retrieval.vector_index import ExactIndex, VectorIndex

CANDIDATE_POOL = 32
"""Number of nearest documents in the initial search, which is extended if too many of them are near-duplicates."""
NO_DOCUMENT = -1
"""Index that stands for no document."""


class IndexedDatastore:
    """Datastore with its document encoder and a search index."""

    def __init__(self, datastore: Datastore, encoder: DocumentEncoder, index: VectorIndex | None = None) -> None:
        self.datastore, self.encoder = datastore, encoder
        self.search = (index or ExactIndex()).build(datastore.vectors)
        self.fingerprints = fingerprints(datastore.rows, datastore.vocabulary)


@dataclass(frozen=True, eq=False)
class RetrievedDocuments:
    """Retrieved documents, most similar first."""

    index: Int64[Tensor, "b k"]
    """Indices of documents in the datastore; -1 for no document."""
    score: Float[Tensor, "b k"]
    """Inner products of the documents' vectors with the query vector; 0 for no document."""


class Retriever(abc.ABC):
    """Method of selecting documents; subclasses implement `__call__`."""

    @abc.abstractmethod
    def __call__(
        self, datastore: IndexedDatastore, rows: Int64[Tensor, "b l"], count: Int64[Tensor, " b"], rng: Rng
    ) -> RetrievedDocuments:
        """Select up to `count` documents per row, excluding documents equal to the row."""


@dataclass(frozen=True)
class SimilarityRetriever(Retriever):
    """Retriever of similar documents by text and by image, without near-duplicates of the query or of each other.

    One query is the text alone, the other query the image alone, without answers (unknown at inference) and with token
    dropout. Candidates are scored by their whole-document vectors; documents with both text and image come first. More
    documents are fetched than needed, and a random subset is used. Source: Yasunaga et al. 2022,
    "Retrieval-augmented multimodal language modeling", arXiv 2211.12561; Yu et al. 2023, arXiv 2309.02591, section 2.
    """

    max_score: float = 0.9
    """Maximum similarity of a document to the query (part or whole document); 1 disables the limit."""
    dedup: float = 0.9
    """Maximum similarity of a document to documents already selected; 1 disables the limit."""
    query_dropout: float = 0.2
    """Probability of masking each token of the query; 0 outside training."""
    by_text: int = 2
    """Number of documents fetched with the text as query."""
    by_picture: int = 2
    """Number of documents fetched with the image as query."""

    def __post_init__(self) -> None:
        check_number("query_dropout", self.query_dropout, ge=0, lt=1)
        if min(self.by_text, self.by_picture) < 0 or not self.by_text + self.by_picture:
            raise UsageError(
                "by_text and by_picture of at least 0, not both 0", f"{self.by_text} and {self.by_picture}"
            )

    def __call__(
        self, datastore: IndexedDatastore, rows: Int64[Tensor, "b l"], count: Int64[Tensor, " b"], rng: Rng
    ) -> RetrievedDocuments:
        vocabulary = datastore.datastore.vocabulary
        query_rows = mask_tokens(
            _without_answers(rows, vocabulary), vocabulary, self.query_dropout, rng.stream("dropout")
        )
        encoded, query_fingerprints = datastore.encoder(query_rows), fingerprints(rows, vocabulary)
        found = RetrievedDocuments(query_fingerprints.new_empty(len(rows), 0), encoded.text.new_empty(len(rows), 0))
        for query, has, number in (
            (encoded.text, encoded.has_text, self.by_text),
            (encoded.picture, encoded.has_picture, self.by_picture),
        ):
            found = self._fetch(datastore, found, _Queries(query, encoded.whole(), query_fingerprints), has, number)
        return _sample_found(found, count, rng)

    def _fetch(
        self,
        datastore: IndexedDatastore,
        found: RetrievedDocuments,
        queries: "_Queries",
        has_part: Bool[Tensor, " b"],
        number: int,
    ) -> RetrievedDocuments:
        """Fetch `number` more documents for each query that has the part (text or image).

        The search is extended if the nearest documents are too similar to each other or to the query.
        """
        n, pool = len(datastore.datastore), min(len(datastore.datastore), CANDIDATE_POOL)
        index = found.index.new_full((len(has_part), number), NO_DOCUMENT)
        score = found.score.new_zeros(len(has_part), number)
        open_queries = has_part.nonzero()[:, 0] if number else has_part.nonzero()[:0, 0]
        while len(open_queries):
            scores, numbers = datastore.search(queries.query[open_queries], pool)
            selected = self._select(
                datastore,
                RetrievedDocuments(numbers, scores),
                queries.rows(open_queries),
                found.index[open_queries],
                number,
            )
            index[open_queries], score[open_queries] = selected.index, selected.score
            if pool == n:
                break
            open_queries, pool = open_queries[(selected.index == NO_DOCUMENT).any(1)], min(n, 4 * pool)
        return RetrievedDocuments(torch.cat([found.index, index], 1), torch.cat([found.score, score], 1))

    def _select(
        self,
        datastore: IndexedDatastore,
        near: RetrievedDocuments,
        queries: "_Queries",
        selected: Int64[Tensor, "b k"],
        number: int,
    ) -> RetrievedDocuments:
        memory, place = datastore.datastore, torch.arange(near.index.shape[1], device=near.index.device)
        is_allowed = (near.index != NO_DOCUMENT) & (datastore.fingerprints[near.index] != queries.fingerprints[:, None])
        whole = _similarities(memory, near.index, queries.whole)
        is_allowed &= _within(near.score, self.max_score) & _within(whole, self.max_score)
        for one in selected.unbind(1):
            is_allowed &= (one == NO_DOCUMENT)[:, None] | self._is_distinct(memory, near, one)
        later = place + len(place) * ~memory.has_both[near.index]  # both modalities first, else by score
        index, score = [], []
        for _ in range(number):
            at = torch.where(is_allowed, later, 2 * len(place)).argmin(1, keepdim=True)
            there = is_allowed.gather(1, at)[:, 0]
            one = near.index.gather(1, at)[:, 0]
            index.append(torch.where(there, one, NO_DOCUMENT))
            score.append(near.score.gather(1, at)[:, 0] * there)
            is_allowed &= self._is_distinct(memory, near, one)
        return RetrievedDocuments(torch.stack(index, 1), torch.stack(score, 1))

    def _is_distinct(
        self, memory: Datastore, near: RetrievedDocuments, one: Int64[Tensor, " b"]
    ) -> Bool[Tensor, "b p"]:
        """Return the mask of documents that differ from document `one` and are not too similar to it."""
        likeness = _similarities(memory, near.index, memory.vectors[one])
        return (near.index != one[:, None]) & _within(likeness, self.dedup)


@dataclass(frozen=True)
class RandomRetriever(Retriever):
    """Retriever of uniformly random documents, as a baseline."""

    def __call__(
        self, datastore: IndexedDatastore, rows: Int64[Tensor, "b l"], count: Int64[Tensor, " b"], rng: Rng
    ) -> RetrievedDocuments:
        query_fingerprints = fingerprints(rows, datastore.datastore.vocabulary)
        max_count = int(count.max()) if len(count) else 0
        u = rng.stream("chance").uniform((len(rows), max_count), torch.float64).tolist()
        index = query_fingerprints.new_full((len(rows), max_count), NO_DOCUMENT)
        for i, (num_documents, numbers) in enumerate(zip(count.tolist(), u, strict=True)):
            excluded = (datastore.fingerprints == query_fingerprints[i]).nonzero()[:, 0].tolist()
            for k in range(min(num_documents, len(datastore.datastore) - len(excluded))):
                one = int(numbers[k] * (len(datastore.datastore) - len(excluded)))
                for before in sorted(excluded):
                    one += one >= before
                index[i, k] = one
                excluded.append(one)
        whole = datastore.encoder(rows).whole()
        score = _similarities(datastore.datastore, index, whole) * (index != NO_DOCUMENT)
        return RetrievedDocuments(index, score)


@dataclass(frozen=True, eq=False)
class _Queries:
    """Queries for one part (text or image): vectors of the part and the whole document, and document fingerprints."""

    query: Float[Tensor, "b d"]
    whole: Float[Tensor, "b d"]
    fingerprints: Int64[Tensor, " b"]

    def rows(self, some: Int64[Tensor, " m"]) -> "_Queries":
        return _Queries(self.query[some], self.whole[some], self.fingerprints[some])


def _similarities(memory: Datastore, index: Int64[Tensor, "b p"], one: Float[Tensor, "b d"]) -> Float[Tensor, "b p"]:
    """Return inner products of the datastore vectors at `index` with one vector per row."""
    index = index.clamp(min=0)
    if 8 * index.shape[1] < len(memory):
        return (memory.vectors[index] @ one[:, :, None])[:, :, 0]
    return (one @ memory.vectors.T).gather(1, index)


def _within(likeness: Float[Tensor, "b p"], most: float) -> Bool[Tensor, "b p"]:
    """Return the mask of similarities up to a limit; a limit of 1 allows all, because rounding errors can exceed 1."""
    return (likeness <= most) | (most >= 1)


def _without_answers(rows: Int64[Tensor, "b l"], vocabulary: DocumentVocabulary) -> Int64[Tensor, "b l"]:
    """Replace the tokens between answer marks by `<mask>`."""
    within = ((rows == vocabulary.answer_start).long() - (rows == vocabulary.answer_end).long()).cumsum(1) > 0
    return torch.where(within & (rows < vocabulary.eos), vocabulary.mask, rows)


def _sample_found(fetched_documents: RetrievedDocuments, count: Int64[Tensor, " b"], rng: Rng) -> RetrievedDocuments:
    """Select `count` random documents among the fetched ones of each row, most similar first."""
    fetched = fetched_documents.index.shape[1]
    keys = rng.stream("which").uniform(fetched_documents.index.shape, torch.float64).to(fetched_documents.index.device)
    order = torch.where(fetched_documents.index == NO_DOCUMENT, 2.0, keys).argsort(1)
    rank = torch.arange(fetched, device=order.device)
    index = torch.where(rank < count[:, None], fetched_documents.index.gather(1, order), NO_DOCUMENT)
    score = torch.where(index == NO_DOCUMENT, -torch.inf, fetched_documents.score.gather(1, order))
    best = score.argsort(dim=1, descending=True, stable=True)[:, : int(count.max()) if len(count) else 0]
    index, score = index.gather(1, best), score.gather(1, best)
    return RetrievedDocuments(index, torch.where(index == NO_DOCUMENT, 0.0, score))


INFERENCE_RETRIEVER = SimilarityRetriever(max_score=1.0, query_dropout=0.0)
"""Retriever for inference: without query dropout, and without a limit on the similarity to the query."""


def retrieved_context(
    datastore: IndexedDatastore,
    rows: Int64[Tensor, "n l"],
    count: int,
    max_lengths: Sequence[int],
    rng: Rng,
    retriever: Retriever = INFERENCE_RETRIEVER,
) -> list[Int64[Tensor, " _"]]:
    """Return, for each row, the tokens of up to `count` retrieved documents to prepend, most similar last."""
    index = retriever(datastore, rows, torch.full((len(rows),), count), rng).index
    return [
        _concatenate_documents(datastore, some, room) for some, room in zip(index.tolist(), max_lengths, strict=True)
    ]


def _concatenate_documents(datastore: IndexedDatastore, index: Sequence[int], room: int) -> Int64[Tensor, " _"]:
    """Concatenate documents, most similar last, dropping the least similar ones that exceed `room` tokens."""
    memory, parts = datastore.datastore, []
    for number in index:
        row = memory.rows[number] if number != NO_DOCUMENT else memory.rows[0, :0]
        document = row[row < memory.vocabulary.num_outputs]  # without padding and answer marks
        room -= len(document)
        if room < 0:
            break
        parts.insert(0, document)
    return torch.cat([memory.rows[0, :0], *parts])
