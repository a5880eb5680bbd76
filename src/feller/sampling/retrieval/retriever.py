"""Retrievers: which documents of a datastore are put in front of another, and how."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from feller.core.errors import UsageError, check_number
from feller.core.rng import Draws
from feller.data.documents.vectors import DocumentVectors
from feller.data.documents.vocabulary import Symbols
from feller.networks.sequence.bi_encoder import with_gaps
from feller.sampling.retrieval.datastore import Memory, prints
from feller.sampling.retrieval.index import Exact, Index

POOL = 32
"""Nearest documents among which is chosen first; more are looked at where these are too like."""
NONE = -1
"""In the place of a document that was not found."""


class Library:
    """A memory, what gives documents their vectors, and an index."""

    def __init__(self, memory: Memory, finder: DocumentVectors, index: Index | None = None) -> None:
        self.memory, self.finder = memory, finder
        self.lookup = (index or Exact()).over(memory.vectors)
        self.prints = prints(memory.rows, memory.symbols)


@dataclass(frozen=True, eq=False)
class Found:
    """Documents that were found, the most like first."""

    which: Int64[Tensor, "b k"]
    """Numbers in the memory; -1 where there are fewer."""
    score: Float[Tensor, "b k"]
    """Inner products of the vectors; 0 where there is none."""


class Retrieval(abc.ABC):
    """How documents are chosen. Implement one method to add a way."""

    @abc.abstractmethod
    def __call__(self, library: Library, rows: Int64[Tensor, "b l"], count: Int64[Tensor, " b"], draws: Draws) -> Found:
        """Choose documents for others: `count` for each, or fewer; never one that is equal to it."""


@dataclass(frozen=True)
class ByLikeness(Retrieval):
    """Some of the most like by text and by picture, but none too like the query, or one taken before.

    What is asked with is the text alone, then the picture alone, without answers, which nobody knows who asks, and
    without some tokens; what is found is scored by its vector as a whole. Of the nearest those with text and picture
    come first. More are fetched than are wanted: which are taken is drawn. Source: Yasunaga et al. 2022,
    "Retrieval-augmented multimodal language modeling", arXiv 2211.12561; Yu et al. 2023, arXiv 2309.02591, section 2.
    """

    max_score: float = 0.9
    """Likeness above which a document is too like the query, by its part or as a whole; 1 allows all."""
    dedup: float = 0.9
    """Likeness above which a document is too like one that is taken; 1 allows all."""
    dropout: float = 0.2
    """Chance that a token of the query is not seen; 0 but in training."""
    by_text: int = 2
    """Documents that are fetched by text."""
    by_picture: int = 2
    """Documents that are fetched by picture."""

    def __post_init__(self) -> None:
        check_number("dropout", self.dropout, least=0, below=1)
        if min(self.by_text, self.by_picture) < 0 or not self.by_text + self.by_picture:
            raise UsageError("documents by text or picture", f"{self.by_text} and {self.by_picture}")

    def __call__(self, library: Library, rows: Int64[Tensor, "b l"], count: Int64[Tensor, " b"], draws: Draws) -> Found:
        """Fetch by each part that the query has, then draw among these."""
        symbols = library.memory.symbols
        asked = with_gaps(_without_answers(rows, symbols), symbols, self.dropout, draws.at("dropout"))
        seen, own = library.finder(asked), prints(rows, symbols)
        found = Found(own.new_empty(len(rows), 0), seen.text.new_empty(len(rows), 0))
        for query, has, number in (
            (seen.text, seen.has_text, self.by_text),
            (seen.picture, seen.has_picture, self.by_picture),
        ):
            found = self._fetch(library, found, _Asked(query, seen.whole(), own), has, number)
        return _drawn(found, count, draws)

    def _fetch(self, library: Library, found: Found, asked: "_Asked", has: Bool[Tensor, " b"], number: int) -> Found:
        """Add as many documents for each query that has the part, looking further where the nearest are too like."""
        n, pool = len(library.memory), min(len(library.memory), POOL)
        which = found.which.new_full((len(has), number), NONE)
        score = found.score.new_zeros(len(has), number)
        left = has.nonzero()[:, 0] if number else has.nonzero()[:0, 0]
        while len(left):
            scores, numbers = library.lookup(asked.query[left], pool)
            taken = self._take(library, Found(numbers, scores), asked.rows(left), found.which[left], number)
            which[left], score[left] = taken.which, taken.score
            if pool == n:
                break
            left, pool = left[(taken.which == NONE).any(1)], min(n, 4 * pool)
        return Found(torch.cat([found.which, which], 1), torch.cat([found.score, score], 1))

    def _take(self, library: Library, near: Found, asked: "_Asked", before: Int64[Tensor, "b k"], number: int) -> Found:
        """Take the nearest that are allowed, one after the other."""
        memory, place = library.memory, torch.arange(near.which.shape[1], device=near.which.device)
        free = (near.which != NONE) & (library.prints[near.which] != asked.own[:, None])
        whole = _products(memory, near.which, asked.whole)
        free &= _within(near.score, self.max_score) & _within(whole, self.max_score)
        for one in before.unbind(1):
            free &= (one == NONE)[:, None] | self._unlike(memory, near, one)
        later = place + len(place) * ~memory.both[near.which]  # both modalities first, else by score
        which, score = [], []
        for _ in range(number):
            at = torch.where(free, later, 2 * len(place)).argmin(1, keepdim=True)
            there = free.gather(1, at)[:, 0]
            one = near.which.gather(1, at)[:, 0]
            which.append(torch.where(there, one, NONE))
            score.append(near.score.gather(1, at)[:, 0] * there)
            free &= self._unlike(memory, near, one)
        return Found(torch.stack(which, 1), torch.stack(score, 1))

    def _unlike(self, memory: Memory, near: Found, one: Int64[Tensor, " b"]) -> Bool[Tensor, "b p"]:
        """Tell which are neither the one nor too like it."""
        likeness = _products(memory, near.which, memory.vectors[one])
        return (near.which != one[:, None]) & _within(likeness, self.dedup)


@dataclass(frozen=True)
class ByChance(Retrieval):
    """Any documents, each as likely: what retrieval is compared with."""

    def __call__(self, library: Library, rows: Int64[Tensor, "b l"], count: Int64[Tensor, " b"], draws: Draws) -> Found:
        """Draw without putting back."""
        own = prints(rows, library.memory.symbols)
        most = int(count.max()) if len(count) else 0
        u = draws.at("chance").uniform((len(rows), most), torch.float64).tolist()
        which = own.new_full((len(rows), most), NONE)
        for i, (wanted, numbers) in enumerate(zip(count.tolist(), u, strict=True)):
            taken = (library.prints == own[i]).nonzero()[:, 0].tolist()
            for k in range(min(wanted, len(library.memory) - len(taken))):
                one = int(numbers[k] * (len(library.memory) - len(taken)))
                for before in sorted(taken):
                    one += one >= before
                which[i, k] = one
                taken.append(one)
        whole = library.finder(rows).whole()
        score = _products(library.memory, which, whole) * (which != NONE)
        return Found(which, score)


@dataclass(frozen=True, eq=False)
class _Asked:
    """Queries: of the part that is asked with, as a whole, and what equal documents are known by."""

    query: Float[Tensor, "b d"]
    whole: Float[Tensor, "b d"]
    own: Int64[Tensor, " b"]

    def rows(self, some: Int64[Tensor, " m"]) -> "_Asked":
        return _Asked(self.query[some], self.whole[some], self.own[some])


def _products(memory: Memory, which: Int64[Tensor, "b p"], one: Float[Tensor, "b d"]) -> Float[Tensor, "b p"]:
    """Return the inner products of some vectors of a memory with one, by way of all where they are many."""
    which = which.clamp(min=0)
    if 8 * which.shape[1] < len(memory):
        return (memory.vectors[which] @ one[:, :, None])[:, :, 0]
    return (one @ memory.vectors.T).gather(1, which)


def _within(likeness: Float[Tensor, "b p"], most: float) -> Bool[Tensor, "b p"]:
    """Tell which are not too like; rounding brings what points the same way a little above 1, where 1 allows all."""
    return (likeness <= most) | (most >= 1)


def _without_answers(rows: Int64[Tensor, "b l"], symbols: Symbols) -> Int64[Tensor, "b l"]:
    """Put `<mask>` in the place of what stands between marks of answers."""
    within = ((rows == symbols.answer).long() - (rows == symbols.answered).long()).cumsum(1) > 0
    return torch.where(within & (rows < symbols.eos), symbols.mask, rows)


def _drawn(found: Found, count: Int64[Tensor, " b"], draws: Draws) -> Found:
    """Draw as many of the fetched as each wants, and put the most like first."""
    fetched = found.which.shape[1]
    keys = draws.at("which").uniform(found.which.shape, torch.float64).to(found.which.device)
    order = torch.where(found.which == NONE, 2.0, keys).argsort(1)
    rank = torch.arange(fetched, device=order.device)
    which = torch.where(rank < count[:, None], found.which.gather(1, order), NONE)
    score = torch.where(which == NONE, -torch.inf, found.score.gather(1, order))
    best = score.argsort(dim=1, descending=True, stable=True)[:, : int(count.max()) if len(count) else 0]
    which, score = which.gather(1, best), score.gather(1, best)
    return Found(which, torch.where(which == NONE, 0.0, score))


ASKING = ByLikeness(max_score=1.0, dropout=0.0)
"""How documents are chosen for what a person asks: also what says the very same, and with all that is asked."""


def fronts(
    library: Library,
    rows: Int64[Tensor, "n l"],
    count: int,
    rooms: Sequence[int],
    draws: Draws,
    how: Retrieval = ASKING,
) -> list[Int64[Tensor, " _"]]:
    """Return the symbols of documents that stand in front of each, the most like last; fewer where room is short."""
    which = how(library, rows, torch.full((len(rows),), count), draws).which
    return [_joined(library, some, room) for some, room in zip(which.tolist(), rooms, strict=True)]


def _joined(library: Library, which: Sequence[int], room: int) -> Int64[Tensor, " _"]:
    """Put documents one after the other, leaving out those that are less like and find no room."""
    memory, parts = library.memory, []
    for number in which:
        row = memory.rows[number] if number != NONE else memory.rows[0, :0]
        document = row[row < memory.symbols.count]  # neither padding nor marks
        room -= len(document)
        if room < 0:
            break
        parts.insert(0, document)
    return torch.cat([memory.rows[0, :0], *parts])
