"""Contrastive decoding: what it makes of chance, and what it adds to plain sampling where the best are kept."""

import statistics
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from feller.app.workflows.documents.generate_documents import similarities
from feller.core.rng import Rng
from feller.sampling.autoregressive.document_decoding import SamplingSpec, rank_candidates
from feller.sampling.autoregressive.token_guidance import ContrastiveDecoding
from feller_papers.claims import Claim, spread_of, verdict
from feller_papers.cm3leon.asking import TOP_P, pictures
from feller_papers.cm3leon.differences import CLEAR, means
from feller_papers.cm3leon.judges import unique_share
from feller_papers.cm3leon.models import base
from feller_papers.cm3leon.setting import Setting
from feller_papers.cm3leon.world import World, found, world
from feller_papers.scenes.documents import Written

ALPHA = 0.1
"""Of contrastive decoding; the paper prints none."""
SIMILAR = 1.25
"""Factor between two FD-cnn that are called alike."""
SINGLE, MANY = 0.25, 0.75
"""Shares of different pictures that are called almost no diversity, and diversity."""
T = TypeVar("T")


def times(some: Sequence[T], n: int) -> list[T]:
    """Return each n times, one after the other."""
    return [one for one in some for _ in range(n)]


def diversity(setting: Setting) -> Iterator[Claim]:
    """How many different pictures come of one prompt, by k."""
    each: list[list[float]] = []
    for seed in setting.seeds:
        it, network, draws = world(setting, seed), base(setting, seed, setting.dial), Rng(seed).fold_in("diversity")
        asked = times(it.seen.documents[: setting.prompts], setting.best_of)
        drawn = [
            pictures(network, it, asked, draws, ways=(SamplingSpec(ContrastiveDecoding(k, ALPHA)),))
            for k in setting.kept
        ]
        each.append([_different(some, setting.best_of) for some in drawn])
    names = ", ".join(map(str, setting.kept))
    least = [row[0] for row in each]
    yield Claim(
        "contrastive decoding with k = 1 has almost no diversity, and larger k restore it",
        "k = 1 is greedy at almost every step; values are not printed",
        f"share of different pictures among {setting.best_of} of a prompt, k = {names}: " + ", ".join(means(each)),
        f"{spread_of(least)} at k = 1; asked to be at most {SINGLE:g} there, and at least {MANY:g} at all others",
        verdict(max(least) <= SINGLE and min(min(row[1:]) for row in each) >= MANY),
    )


def _different(drawn: UInt8[Tensor, "n 3 h w"], of: int) -> float:
    """Return the mean share of different pictures of a prompt; 0 where all are alike, 1 where none are."""
    shares = [unique_share(some) for some in drawn.split(of)]
    return statistics.fmean((share - 1 / of) / (1 - 1 / of) for share in shares)


def mixture(setting: Setting) -> Iterator[Claim]:
    """FD-cnn of top-p, of contrastive decoding, and of the best of half of either, at the same number of candidates."""
    for k in (setting.kept[len(setting.kept) // 2], setting.kept[0]):
        each = [_mixed(setting, seed, SamplingSpec(ContrastiveDecoding(k, ALPHA))) for seed in setting.seeds]
        ratio = [max(alone) / min(alone) for alone, _ in each]
        yield Claim(
            f"contrastive decoding, k = {k}, is about as good as top-p",
            "curves that lie close together",
            f"FD-cnn of scenes {_named([alone for alone, _ in each])}",
            f"{spread_of(ratio)} of the larger by the smaller, asked to be at most {SIMILAR:g}",
            verdict(max(ratio) <= SIMILAR),
        )
        gain = [min(kept[:2]) / kept[2] for _, kept in each]
        yield Claim(
            f"both together, k = {k}, are better than each, where the best of {setting.best_of} is kept",
            "the mixture keeps improving with the number of candidates, each alone stagnates",
            f"FD-cnn of scenes, the best by what finds documents: {_named([kept for _, kept in each])}",
            f"{spread_of(gain)} of the better one alone by the mixture, asked to be {CLEAR:g} each",
            verdict(min(gain) >= CLEAR),
        )


def _mixed(setting: Setting, seed: int, contrast: SamplingSpec) -> tuple[list[float], list[float]]:
    """Return FD-cnn of contrastive decoding and of top-p; then of the best of several of each, and half of either."""
    it, network, draws = world(setting, seed), base(setting, seed, setting.dial), Rng(seed).fold_in("mixture")
    asked = it.seen.documents[: setting.drawn]
    drawn = [
        pictures(network, it, times(asked, setting.best_of), draws, ways=ways)
        for ways in ((contrast,), (TOP_P,), (contrast, TOP_P))
    ]
    alone = [it.judged(some[:: setting.best_of]) for some in drawn[:2]]
    return alone, [it.judged(reranked(it, asked, some, setting.best_of)) for some in drawn]


def _named(each: list[list[float]]) -> str:
    names = ("contrastive", "top-p", "half of either")
    return ", ".join(f"{name} {mean}" for name, mean in zip(names, means(each), strict=False))


def reranked(it: World, asked: Sequence[Written], drawn: UInt8[Tensor, "n 3 h w"], of: int) -> UInt8[Tensor, "m 3 h w"]:
    """Return of each document's pictures the one that is nearest to its words, by what finds documents."""
    values = {**it.kind.values_from_raw(found(times(asked, of)))[0], "pictures": drawn[:, None]}
    likeness = similarities(it.kind, values)

    def score(prompt: int, some: Sequence[int]) -> Float[Tensor, " m"]:
        return likeness[torch.tensor(some)]

    kept = rank_candidates([range(i * of, (i + 1) * of) for i in range(len(asked))], score)
    return drawn[torch.tensor([one for (one,) in kept])]
