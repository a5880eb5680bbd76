"""Contrastive decoding: what it makes of chance, and what it adds to plain sampling where the best are kept."""

import statistics
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from feller.draws import Draws
from feller.journeys.documents.write import fitting
from feller.reproduce.claims import Claim, mean_of, spread_of, verdict
from feller.reproduce.cm3leon.asking import TOP_P, pictures
from feller.reproduce.cm3leon.differences import CLEAR
from feller.reproduce.cm3leon.judges import unique_share
from feller.reproduce.cm3leon.models import base
from feller.reproduce.cm3leon.setting import Setting
from feller.reproduce.cm3leon.world import World, found, world
from feller.reproduce.cm3leon.written import Written
from feller.tokens.generate import Way, best
from feller.tokens.guides import Contrast

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
        it, network, draws = world(setting, seed), base(setting, seed, setting.dial), Draws(seed).named("diversity")
        asked = times(it.seen.documents[: setting.prompts], setting.best_of)
        drawn = [pictures(network, it, asked, draws, ways=(Way(Contrast(k, ALPHA)),)) for k in setting.kept]
        each.append([_different(some, setting.best_of) for some in drawn])
    names = ", ".join(map(str, setting.kept))
    least = [row[0] for row in each]
    yield Claim(
        "contrastive decoding with k = 1 has almost no diversity, and larger k restore it",
        "k = 1 is greedy at almost every step; values are not printed",
        f"share of different pictures among {setting.best_of} of a prompt, k = {names}: "
        + ", ".join(mean_of(column, 3) for column in zip(*each, strict=True)),
        f"{spread_of(least)} at k = 1; asked to be at most {SINGLE:g} there, and at least {MANY:g} at all others",
        verdict(max(least) <= SINGLE and min(min(row[1:]) for row in each) >= MANY),
    )


def _different(drawn: UInt8[Tensor, "n 3 h w"], of: int) -> float:
    """Return the mean share of different pictures of a prompt; 0 where all are alike, 1 where none are."""
    shares = [unique_share(some) for some in drawn.split(of)]
    return statistics.fmean((share - 1 / of) / (1 - 1 / of) for share in shares)


def mixture(setting: Setting) -> Iterator[Claim]:
    """FD-cnn of top-p, of contrastive decoding, and of the best of half of either, at the same number of candidates."""
    alone: list[tuple[float, float]] = []
    kept: list[tuple[float, float, float]] = []
    k = setting.kept[len(setting.kept) // 2]
    contrast = Way(Contrast(k, ALPHA))
    for seed in setting.seeds:
        it, network, draws = world(setting, seed), base(setting, seed, setting.dial), Draws(seed).named("mixture")
        asked = it.seen.documents[: setting.drawn]
        drawn = [
            pictures(network, it, times(asked, setting.best_of), draws, ways=ways)
            for ways in ((TOP_P,), (contrast,), (TOP_P, contrast))
        ]
        first, second = (it.judged(some[:: setting.best_of]) for some in drawn[:2])
        alone.append((first, second))
        one, two, three = (it.judged(reranked(it, asked, some, setting.best_of)) for some in drawn)
        kept.append((one, two, three))
    ratio = [max(pair) / min(pair) for pair in alone]
    yield Claim(
        f"contrastive decoding, k = {k}, is about as good as top-p",
        "curves that lie close together",
        f"FD-cnn of scenes {mean_of([b for _, b in alone], 3)} and {mean_of([a for a, _ in alone], 3)}",
        f"{spread_of(ratio)} of the larger by the smaller, asked to be at most {SIMILAR:g}",
        verdict(max(ratio) <= SIMILAR),
    )
    names = ("top-p", "contrastive", "half of either")
    told = ", ".join(f"{name} {mean_of([row[i] for row in kept], 3)}" for i, name in enumerate(names))
    gain = [min(row[:2]) / row[2] for row in kept]
    yield Claim(
        f"both together are better than each, where the best of {setting.best_of} is kept",
        "the mixture keeps improving with the number of candidates, each alone stagnates",
        f"FD-cnn of scenes, the best by what finds documents: {told}",
        f"{spread_of(gain)} of the better one alone by the mixture, asked to be {CLEAR:g} each",
        verdict(min(gain) >= CLEAR),
    )


def reranked(it: World, asked: Sequence[Written], drawn: UInt8[Tensor, "n 3 h w"], of: int) -> UInt8[Tensor, "m 3 h w"]:
    """Return of each document's pictures the one that is nearest to its words, by what finds documents."""
    values = {**it.kind.accept(found(times(asked, of)))[0], "pictures": drawn[:, None]}
    likeness = fitting(it.kind, values)

    def score(prompt: int, some: Sequence[int]) -> Float[Tensor, " m"]:
        return likeness[torch.tensor(some)]

    kept = best([range(i * of, (i + 1) * of) for i in range(len(asked))], score)
    return drawn[torch.tensor([one for (one,) in kept])]
