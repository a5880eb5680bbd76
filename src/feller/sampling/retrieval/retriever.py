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
    """Maximum similarity (inner product) of a document to the query (part or whole); 1 disables the limit."""
    dedup: float = 0.9
    """Maximum similarity (inner product) of a document to documents already selected; 1 disables the limit."""
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
        fetched = RetrievedDocuments(query_fingerprints.new_empty(len(rows), 0), encoded.text.new_empty(len(rows), 0))
        for query, has_part, num_documents in (
            (encoded.text, encoded.has_text, self.by_text),
            (encoded.picture, encoded.has_picture, self.by_picture),
        ):
            fetched = self._fetch(
                datastore, fetched, _Queries(query, encoded.whole(), query_fingerprints), has_part, num_documents
            )
        return _sample_found(fetched, count, rng)

    def _fetch(
        self,
        datastore: IndexedDatastore,
        fetched: RetrievedDocuments,
        queries: "_Queries",
        has_part: Bool[Tensor, " b"],
        num_documents: int,
    ) -> RetrievedDocuments:
        """Fetch `num_documents` more documents for each query that has the part (text or image).

        The search is extended if the nearest documents are too similar to each other or to the query.
        """
        n, pool = len(datastore.datastore), min(len(datastore.datastore), CANDIDATE_POOL)
        index = fetched.index.new_full((len(has_part), num_documents), NO_DOCUMENT)
        score = fetched.score.new_zeros(len(has_part), num_documents)
        open_queries = has_part.nonzero()[:, 0] if num_documents else has_part.nonzero()[:0, 0]
        while len(open_queries):
            scores, indices = datastore.search(queries.query[open_queries], pool)
            selected = self._select(
                datastore,
                RetrievedDocuments(indices, scores),
                queries.rows(open_queries),
                fetched.index[open_queries],
                num_documents,
            )
            index[open_queries], score[open_queries] = selected.index, selected.score
            if pool == n:
                break
            open_queries, pool = open_queries[(selected.index == NO_DOCUMENT).any(1)], min(n, 4 * pool)
        return RetrievedDocuments(torch.cat([fetched.index, index], 1), torch.cat([fetched.score, score], 1))

    def _select(
        self,
        datastore: IndexedDatastore,
        pool: RetrievedDocuments,
        queries: "_Queries",
        selected: Int64[Tensor, "b k"],
        num_documents: int,
    ) -> RetrievedDocuments:
        store, rank = datastore.datastore, torch.arange(pool.index.shape[1], device=pool.index.device)
        is_allowed = (pool.index != NO_DOCUMENT) & (datastore.fingerprints[pool.index] != queries.fingerprints[:, None])
        similarities = _similarities(store, pool.index, queries.whole)
        is_allowed &= _within(pool.score, self.max_score) & _within(similarities, self.max_score)
        for document in selected.unbind(1):
            is_allowed &= (document == NO_DOCUMENT)[:, None] | self._is_distinct(store, pool, document)
        priority = rank + len(rank) * ~store.has_both[pool.index]  # both modalities first, else by score
        index, score = [], []
        for _ in range(num_documents):
            best = torch.where(is_allowed, priority, 2 * len(rank)).argmin(1, keepdim=True)
            is_found = is_allowed.gather(1, best)[:, 0]
            document = pool.index.gather(1, best)[:, 0]
            index.append(torch.where(is_found, document, NO_DOCUMENT))
            score.append(pool.score.gather(1, best)[:, 0] * is_found)
            is_allowed &= self._is_distinct(store, pool, document)
        return RetrievedDocuments(torch.stack(index, 1), torch.stack(score, 1))

    def _is_distinct(
        self, store: Datastore, pool: RetrievedDocuments, document: Int64[Tensor, " b"]
    ) -> Bool[Tensor, "b p"]:
        """Return the mask of documents that differ from `document` and are not too similar to it."""
        similarities = _similarities(store, pool.index, store.vectors[document])
        return (pool.index != document[:, None]) & _within(similarities, self.dedup)


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
        for i, (num_documents, uniforms) in enumerate(zip(count.tolist(), u, strict=True)):
            excluded = (datastore.fingerprints == query_fingerprints[i]).nonzero()[:, 0].tolist()
            for k in range(min(num_documents, len(datastore.datastore) - len(excluded))):
                document = int(uniforms[k] * (len(datastore.datastore) - len(excluded)))
                for other in sorted(excluded):
                    document += document >= other
                index[i, k] = document
                excluded.append(document)
        query_vectors = datastore.encoder(rows).whole()
        score = _similarities(datastore.datastore, index, query_vectors) * (index != NO_DOCUMENT)
        return RetrievedDocuments(index, score)


@dataclass(frozen=True, eq=False)
class _Queries:
    """Search vectors of a batch of documents, for one of their parts (text or image)."""

    query: Float[Tensor, "b d"]
    """Vector of the part."""
    whole: Float[Tensor, "b d"]
    """Vector of the whole document."""
    fingerprints: Int64[Tensor, " b"]

    def rows(self, some: Int64[Tensor, " m"]) -> "_Queries":
        return _Queries(self.query[some], self.whole[some], self.fingerprints[some])


def _similarities(store: Datastore, index: Int64[Tensor, "b p"], queries: Float[Tensor, "b d"]) -> Float[Tensor, "b p"]:
    """Return inner products of the datastore vectors at `index` with one vector per row."""
    index = index.clamp(min=0)
    if 8 * index.shape[1] < len(store):
        return (store.vectors[index] @ queries[:, :, None])[:, :, 0]
    return (queries @ store.vectors.T).gather(1, index)


def _within(similarities: Float[Tensor, "b p"], limit: float) -> Bool[Tensor, "b p"]:
    """Return the mask of similarities up to a limit; a limit of 1 allows all, because rounding errors can exceed 1."""
    return (similarities <= limit) | (limit >= 1)


def _without_answers(rows: Int64[Tensor, "b l"], vocabulary: DocumentVocabulary) -> Int64[Tensor, "b l"]:
    """Replace the tokens between answer marks by `<mask>`."""
    is_answer = ((rows == vocabulary.answer_start).long() - (rows == vocabulary.answer_end).long()).cumsum(1) > 0
    return torch.where(is_answer & (rows < vocabulary.eos), vocabulary.mask, rows)


def _sample_found(documents: RetrievedDocuments, count: Int64[Tensor, " b"], rng: Rng) -> RetrievedDocuments:
    """Select `count` random documents for each row among those that were found, and sort them by similarity."""
    num_fetched = documents.index.shape[1]
    u = rng.stream("which").uniform(documents.index.shape, torch.float64).to(documents.index.device)
    order = torch.where(documents.index == NO_DOCUMENT, 2.0, u).argsort(1)
    rank = torch.arange(num_fetched, device=order.device)
    index = torch.where(rank < count[:, None], documents.index.gather(1, order), NO_DOCUMENT)
    score = torch.where(index == NO_DOCUMENT, -torch.inf, documents.score.gather(1, order))
    top = score.argsort(dim=1, descending=True, stable=True)[:, : int(count.max()) if len(count) else 0]
    index, score = index.gather(1, top), score.gather(1, top)
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
    """Return, for each row, the tokens of the retrieved documents to prepend, most similar last.

    Args:
        datastore: Documents to retrieve from.
        rows: Tokens of the documents that are the queries.
        count: Largest number of retrieved documents per row.
        max_lengths: Largest number of tokens to prepend to each row; the least similar documents
            that exceed it are dropped.
        rng: Random numbers of the retriever.
        retriever: Method of selecting documents.
    """
    index = retriever(datastore, rows, torch.full((len(rows),), count), rng).index
    return [
        _concatenate_documents(datastore, indices, max_length)
        for indices, max_length in zip(index.tolist(), max_lengths, strict=True)
    ]


def _concatenate_documents(datastore: IndexedDatastore, index: Sequence[int], remaining: int) -> Int64[Tensor, " _"]:
    """Concatenate documents, most similar last, dropping the least similar ones that exceed `remaining` tokens."""
    store, documents = datastore.datastore, []
    for document_index in index:
        row = store.rows[document_index] if document_index != NO_DOCUMENT else store.rows[0, :0]
        document = row[row < store.vocabulary.num_outputs]  # without padding and answer marks
        remaining -= len(document)
        if remaining < 0:
            break
        documents.insert(0, document)
    return torch.cat([store.rows[0, :0], *documents])
